"""What gateways read: orders, series and API keys, many in one round trip, with an end to every wait."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, LiteralString, NamedTuple

from sinks.microbatch import MicroBatch
from sinks.postgres.lanes import Lane, PostgresUnavailableError, check_url
from sinks.postgres.session import Session, fetch_dicts

#: Events up to this come along with their order; a larger one is read alone, so that a batch stays small in memory.
_EVENT_BYTES_MAX = 64 * 1024
_ORDERS_MAX = 200
#: Of an order that came with other content again and again, the latest few say it all.
_REFUSALS_MAX = 20
#: The same rows are read again for so long: a row committed late bears the time at which its transaction began.
_KEYS_OVERLAP = timedelta(minutes=5)

_Query = tuple[LiteralString, dict[str, Any]]
_Rows = list[dict[str, Any]]


class OrderName(NamedTuple):
    """An order as callers name it."""

    seller_id: str
    order_id: str


class Refused(NamedTuple):
    """A request of the order that got no number."""

    outcome: str
    reason: str
    detail: str
    occurred_at: datetime
    log_offset: int


@dataclass(frozen=True, slots=True)
class Invoice:
    """An invoice that stands, with its document where it is stored already."""

    seller_id: str
    order_id: str
    kind: str
    #: Of a credit note: the refund that it credits; else empty.
    refund_id: str
    series_id: str
    number: int
    invoice_number: str
    issued_at: datetime
    currency: str
    net_minor: int
    tax_minor: int
    gross_minor: int
    content_sha256: bytes
    source_partition: int
    event_seq: int
    document_key: str | None
    document_sha256: bytes | None
    document_size_bytes: int | None
    #: The `InvoiceIssued` record; None where it is large, or no longer in the journal.
    event: bytes | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """What Postgres knows of an order; `refused` has the latest first."""

    invoice: Invoice | None
    refused: tuple[Refused, ...]


@dataclass(frozen=True, slots=True)
class Series:
    """A run of numbers. Numbers below `next_number` are taken."""

    series_id: str
    policy: str
    next_number: int


class KeyChange(NamedTuple):
    """An API key as it stands: a revoked one speaks for nobody."""

    key_sha256: bytes
    seller_id: str
    revoked: bool


_READ_ORDERS: LiteralString = """
    SELECT i.seller_id, i.order_id, i.kind, i.refund_id, i.series_id, i.number, i.invoice_number, i.issued_at,
        i.currency, i.net_minor, i.tax_minor, i.gross_minor, i.content_sha256, i.source_partition, i.event_seq,
        d.key AS document_key, d.sha256 AS document_sha256, d.size_bytes AS document_size_bytes,
        CASE WHEN length(j.payload) <= %(event_bytes_max)s THEN j.payload END AS event
    FROM unnest(%(seller_ids)b::text[], %(order_ids)b::text[]) AS wanted (seller_id, order_id)
    JOIN invoices i ON i.seller_id = wanted.seller_id AND i.order_id = wanted.order_id AND i.kind = %(kind)s
        AND i.refund_id = ''
    LEFT JOIN documents d ON d.series_id = i.series_id AND d.number = i.number
    LEFT JOIN journal j ON j.topic = %(topic)s AND j.partition = i.source_partition AND j.seq = i.event_seq
        AND j.occurred_at = i.issued_at
"""

_READ_REFUSED: LiteralString = """
    SELECT wanted.seller_id, wanted.order_id, r.outcome, r.reason, r.detail, r.occurred_at, r.log_offset
    FROM unnest(%(seller_ids)b::text[], %(order_ids)b::text[]) AS wanted (seller_id, order_id)
    CROSS JOIN LATERAL (
        SELECT outcome, reason, detail, occurred_at, log_offset FROM refused_requests
        WHERE seller_id = wanted.seller_id AND order_id = wanted.order_id AND kind = %(kind)s AND refund_id = ''
        ORDER BY occurred_at DESC, log_offset DESC LIMIT %(refusals_max)s
    ) r
"""

_READ_NUMBER: LiteralString = """
    SELECT i.seller_id, i.order_id, i.kind, i.refund_id, i.series_id, i.number, i.invoice_number, i.issued_at,
        i.currency, i.net_minor, i.tax_minor, i.gross_minor, i.content_sha256, i.source_partition, i.event_seq,
        d.key AS document_key, d.sha256 AS document_sha256, d.size_bytes AS document_size_bytes
    FROM invoices i LEFT JOIN documents d ON d.series_id = i.series_id AND d.number = i.number
    WHERE i.series_id = %(series_id)s AND i.number = %(number)s AND i.seller_id = %(seller_id)s
"""

_READ_CREDIT_NOTES: LiteralString = """
    SELECT i.seller_id, i.order_id, i.kind, i.refund_id, i.series_id, i.number, i.invoice_number, i.issued_at,
        i.currency, i.net_minor, i.tax_minor, i.gross_minor, i.content_sha256, i.source_partition, i.event_seq,
        d.key AS document_key, d.sha256 AS document_sha256, d.size_bytes AS document_size_bytes
    FROM invoices i LEFT JOIN documents d ON d.series_id = i.series_id AND d.number = i.number
    WHERE i.seller_id = %(seller_id)s AND i.order_id = %(order_id)s AND i.kind = 'credit_note'
    ORDER BY i.issued_at, i.number
"""

_READ_EVENT: LiteralString = """
    SELECT payload FROM journal
    WHERE topic = %(topic)s AND partition = %(partition)s AND seq = %(seq)s AND occurred_at = %(occurred_at)s
"""

_READ_SERIES: LiteralString = """
    SELECT series_id, policy, next_number FROM series WHERE seller_id = %(seller_id)s ORDER BY series_id
"""

_READ_KEYS: LiteralString = """
    SELECT key_sha256, seller_id, revoked_at IS NOT NULL AS revoked FROM api_keys
    WHERE %(since)s::timestamptz IS NULL OR greatest(created_at, revoked_at) > %(since)s
"""

_READ_KEY: LiteralString = """
    SELECT key_sha256, seller_id, revoked_at IS NOT NULL AS revoked FROM api_keys WHERE key_sha256 = ANY(%(digests)b)
"""


class Reader:
    """Reads for one gateway. Every method raises `PostgresUnavailableError`, within `READ_SECONDS_MAX`.

    A call that hangs in a frozen server is left to hang, and whoever asks meanwhile is refused at once: to cancel it
    would take another answer of the same server.
    """

    def __init__(self, url: str, *, topic: str, kind: str) -> None:
        """`topic` holds the events of invoices of `kind`. Connects when first asked. Raises `ValueError`."""
        check_url(url)
        self._topic = topic
        self._kind = kind
        self._lanes = [Lane(url, read_only=True), Lane(url, read_only=True)]
        orders, rest = self._lanes
        self._orders: MicroBatch[OrderName, Order] = MicroBatch(
            lambda names: orders.run(lambda session: self._read_orders(session, names)), questions_max=_ORDERS_MAX
        )
        self._keys: MicroBatch[bytes, KeyChange | None] = MicroBatch(
            lambda digests: rest.run(lambda session: _read_key(session, digests))
        )
        self._rest: MicroBatch[_Query, _Rows] = MicroBatch(
            lambda queries: rest.run(lambda session: _read_one(session, queries)), questions_max=1
        )

    async def order(self, seller_id: str, order_id: str) -> Order:
        """What is known of an order."""
        return await self._lanes[0].ask(self._orders, OrderName(seller_id, order_id))

    async def event(self, invoice: Invoice) -> bytes | None:
        """The invoice's `InvoiceIssued` record, whatever its size; None once it has left the journal."""
        if invoice.event is not None:
            return invoice.event
        rows = await self._query(
            _READ_EVENT,
            topic=self._topic,
            partition=invoice.source_partition,
            seq=invoice.event_seq,
            occurred_at=invoice.issued_at,
        )
        return bytes(rows[0]["payload"]) if rows else None

    async def number(self, seller_id: str, series_id: str, number: int) -> Invoice | None:
        """What became of a number; None if it is not taken, or not this seller's."""
        rows = await self._query(_READ_NUMBER, seller_id=seller_id, series_id=series_id, number=number)
        return Invoice(**rows[0]) if rows else None

    async def credit_notes(self, seller_id: str, order_id: str) -> list[Invoice]:
        """The order's credit notes, oldest first."""
        rows = await self._query(_READ_CREDIT_NOTES, seller_id=seller_id, order_id=order_id)
        return [Invoice(**row) for row in rows]

    async def series(self, seller_id: str) -> list[Series]:
        """The seller's series."""
        return [Series(**row) for row in await self._query(_READ_SERIES, seller_id=seller_id)]

    async def key(self, key_sha256: bytes) -> KeyChange | None:
        """An API key; None if there never was one."""
        return await self._lanes[1].ask(self._keys, key_sha256)

    async def key_changes(self, since: datetime | None) -> list[KeyChange]:
        """Keys made or revoked since, with a generous overlap; all of them for None."""
        rows = await self._query(_READ_KEYS, since=None if since is None else since - _KEYS_OVERLAP)
        return [KeyChange(**row) for row in rows]

    async def ping(self) -> bool:
        """Whether Postgres answers now."""
        try:
            await self._query("SELECT 1 AS one")
        except PostgresUnavailableError:
            return False
        return True

    async def close(self) -> None:
        """Close the connections, also those that hang."""
        # First: a call that is cancelled on an open connection would wait for the server to agree.
        for lane in self._lanes:
            await lane.session.close()
        for batch in (self._orders, self._keys, self._rest):
            await batch.close()

    async def _query(self, statement: LiteralString, **parameters: Any) -> _Rows:
        return await self._lanes[1].ask(self._rest, (statement, parameters))

    async def _read_orders(self, session: Session, names: list[OrderName]) -> list[Order]:
        connection = await session.connection()
        wanted = list(dict.fromkeys(names))
        parameters = {
            "seller_ids": [name.seller_id for name in wanted],
            "order_ids": [name.order_id for name in wanted],
            "kind": self._kind,
            "topic": self._topic,
            "event_bytes_max": _EVENT_BYTES_MAX,
            "refusals_max": _REFUSALS_MAX,
        }
        async with connection.pipeline():
            issued = await connection.execute(_READ_ORDERS, parameters, binary=True)
            refused = await connection.execute(_READ_REFUSED, parameters, binary=True)
            invoices = {(row["seller_id"], row["order_id"]): Invoice(**row) for row in await fetch_dicts(issued)}
            refusals: dict[tuple[str, str], list[Refused]] = {}
            for seller_id, order_id, *columns in await refused.fetchall():
                refusals.setdefault((seller_id, order_id), []).append(Refused(*columns))
        return [Order(invoices.get(name), tuple(refusals.get(name, ()))) for name in names]


async def _read_key(session: Session, digests: list[bytes]) -> list[KeyChange | None]:
    connection = await session.connection()
    cursor = await connection.execute(_READ_KEY, {"digests": digests}, binary=True)
    found = {row["key_sha256"]: KeyChange(**row) for row in await fetch_dicts(cursor)}
    return [found.get(digest) for digest in digests]


async def _read_one(session: Session, queries: Sequence[_Query]) -> list[_Rows]:
    connection = await session.connection()
    answers = []
    for statement, parameters in queries:
        cursor = await connection.execute(statement, parameters, binary=True)
        answers.append(await fetch_dicts(cursor))
    return answers
