"""Read by gateways: invoices, series and API keys, many in one round trip, with a time limit for every wait."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, LiteralString, NamedTuple

from domain.order import OrderIdentity, OrderState
from domain.rules import SellerFacts
from sinks.microbatch import MicroBatch
from sinks.postgres.lanes import Lane, PostgresUnavailableError, check_url
from sinks.postgres.refunds import FAILED
from sinks.postgres.refusals_reader import RefusedRequest, read_refusals
from sinks.postgres.session import Session, fetch_dicts

#: Events up to this size are read with their invoice; larger ones are read alone, to bound the memory of a batch.
_EVENT_BYTES_MAX = 64 * 1024
_OUTCOMES_MAX = 200
_SOLD = (OrderState.CONFIRMED, OrderState.SHIPPED, OrderState.DELIVERED, OrderState.REFUNDED)
#: Refused credits read per order, the latest.
_REFUSED_CREDITS_MAX = 20
#: Keys changed in this period are read again, since a row's time is when its transaction began, not its commit.
_KEYS_OVERLAP = timedelta(minutes=5)

#: Interval between look-ups of unknown keys, many in each, so that a flood of wrong keys costs 20 queries a second.
_KEYS_PACE_S = 0.05


@dataclass(frozen=True, slots=True)
class Invoice:
    """An issued invoice, with its document if that is stored."""

    seller_id: str
    order_id: str
    kind: str
    #: The refund that a credit note credits; empty for an invoice.
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
    #: The `InvoiceIssued` record; None if it is large, or no longer in the journal.
    event: bytes | None = None
    #: Of a credit note that was asked for directly: what a repeat must equal.
    asked_sha256: bytes | None = None


@dataclass(frozen=True, slots=True)
class RefusedCredit:
    """A credit note that was asked for and not made: a conflict with one that was, or rejected."""

    credit_note_id: str
    is_rejected: bool
    reason: str
    detail: str
    occurred_at: datetime
    partition: int
    log_offset: int


@dataclass(frozen=True, slots=True)
class InvoiceOutcome:
    """The outcome of the requests for an order's invoice; `refused` has the latest first."""

    invoice: Invoice | None
    refused: tuple[RefusedRequest, ...]
    #: The kind that owns the order id (see `order_ids`); None if it has no owner yet.
    owner: str | None = None


@dataclass(frozen=True, slots=True)
class Series:
    """A series. Numbers below `next_number` are taken."""

    series_id: str
    policy: str
    next_number: int


class KeyChange(NamedTuple):
    """The state of an API key; a revoked one must be refused."""

    key_sha256: bytes
    seller_id: str
    revoked: bool


_READ_INVOICES: LiteralString = """
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
        d.key AS document_key, d.sha256 AS document_sha256, d.size_bytes AS document_size_bytes, c.asked_sha256
    FROM invoices i LEFT JOIN documents d ON d.series_id = i.series_id AND d.number = i.number
    LEFT JOIN invoice_credits c
        ON c.seller_id = i.seller_id AND c.order_id = i.order_id AND c.credit_note_id = i.refund_id
    WHERE i.seller_id = %(seller_id)s AND i.order_id = %(order_id)s AND i.kind = 'credit_note'
    ORDER BY i.issued_at, i.number
"""

_READ_REFUSED_CREDITS: LiteralString = """
    SELECT refund_id AS credit_note_id, outcome = 'rejected' AS is_rejected, reason, detail, occurred_at, partition,
        log_offset
    FROM refused_requests
    WHERE seller_id = %(seller_id)s AND order_id = %(order_id)s AND kind = 'credit_note'
    ORDER BY occurred_at DESC, log_offset DESC LIMIT %(limit)s
"""

_READ_SOLD: LiteralString = """
    SELECT order_id FROM orders WHERE seller_id = %(seller_id)s AND order_id = %(order_id)s AND state = ANY(%(states)s)
"""

_READ_REFUND: LiteralString = """
    SELECT refund_id FROM refunds
    WHERE seller_id = %(seller_id)s AND order_id = %(order_id)s AND refund_id = %(refund_id)s AND state <> %(failed)s
"""

_READ_EVENT: LiteralString = """
    SELECT payload FROM journal
    WHERE topic = %(topic)s AND partition = %(partition)s AND seq = %(seq)s AND occurred_at = %(occurred_at)s
"""

_LIST_SERIES: LiteralString = """
    SELECT series_id, policy, next_number FROM series WHERE seller_id = %(seller_id)s AND series_id > %(after)s
    ORDER BY series_id LIMIT %(limit)s
"""

# `-infinity` reads all of them; `since IS NULL OR …` would do so each time.
_READ_KEYS: LiteralString = """
    SELECT key_sha256, seller_id, revoked_at IS NOT NULL AS revoked FROM api_keys
    WHERE greatest(created_at, revoked_at) > %(since)s
"""

_READ_KEY: LiteralString = """
    SELECT key_sha256, seller_id, revoked_at IS NOT NULL AS revoked FROM api_keys WHERE key_sha256 = ANY(%(digests)b)
"""


# Separate statements: `seller_ids IS NULL OR …` would read all of them each time.
_READ_ALL_SELLERS: LiteralString = "SELECT seller_id, country, vat_id, tax_number, tax_name FROM sellers"
_READ_SELLERS: LiteralString = f"{_READ_ALL_SELLERS} WHERE seller_id = ANY(%(seller_ids)s::text[])"


class InvoicesReader:
    """Reads for one gateway. Every method raises `PostgresUnavailableError`, within `READ_SECONDS_MAX`.

    A call that hangs in a frozen server is not cancelled, because that would need an answer of the same server. Further
    callers are refused at once.
    """

    def __init__(self, url: str, *, topic: str, kind: str) -> None:
        """`topic` has the events of invoices of `kind`. Connects on first use. Raises `ValueError`."""
        check_url(url)
        self._topic = topic
        self._kind = kind
        self._for_invoices = outcomes = Lane(url, read_only=True)
        self._for_the_rest = rest = Lane(url, read_only=True)
        self._outcomes: MicroBatch[OrderIdentity, InvoiceOutcome] = MicroBatch(
            lambda names: outcomes.run(lambda session: self._read_outcomes(session, names)), questions_max=_OUTCOMES_MAX
        )
        self._keys: MicroBatch[bytes, KeyChange | None] = MicroBatch(
            lambda digests: rest.run(lambda session: _read_key(session, digests)), pace_s=_KEYS_PACE_S
        )

    async def outcome(self, seller_id: str, order_id: str) -> InvoiceOutcome:
        """The outcome of the requests for this order's invoice."""
        return await self._for_invoices.ask(self._outcomes, OrderIdentity(seller_id, order_id))

    async def event(self, invoice: Invoice) -> bytes | None:
        """The invoice's `InvoiceIssued` record, of any size; None if it is no longer in the journal."""
        if invoice.event is not None:
            return invoice.event
        rows = await self._for_the_rest.query(
            _READ_EVENT,
            topic=self._topic,
            partition=invoice.source_partition,
            seq=invoice.event_seq,
            occurred_at=invoice.issued_at,
        )
        return bytes(rows[0]["payload"]) if rows else None

    async def number(self, seller_id: str, series_id: str, number: int) -> Invoice | None:
        """The invoice with a number; None if the number is not taken, or of another seller."""
        rows = await self._for_the_rest.query(_READ_NUMBER, seller_id=seller_id, series_id=series_id, number=number)
        return Invoice(**rows[0]) if rows else None

    async def is_sold(self, seller_id: str, order_id: str) -> bool:
        """Whether a checkout of this id was confirmed, and not cancelled since: then its invoice was asked for."""
        parameters = {"seller_id": seller_id, "order_id": order_id, "states": list(_SOLD)}
        return bool(await self._for_the_rest.query(_READ_SOLD, **parameters))

    async def credit_notes(self, seller_id: str, order_id: str) -> list[Invoice]:
        """The order's credit notes, oldest first."""
        rows = await self._for_the_rest.query(_READ_CREDIT_NOTES, seller_id=seller_id, order_id=order_id)
        return [Invoice(**row) for row in rows]

    async def is_refunded(self, seller_id: str, order_id: str, refund_id: str) -> bool:
        """Whether a checkout has this refund, done or under way: then its credit note was asked for, or will be."""
        parameters = {"seller_id": seller_id, "order_id": order_id, "refund_id": refund_id, "failed": FAILED}
        return bool(await self._for_the_rest.query(_READ_REFUND, **parameters))

    async def refused_credits(self, seller_id: str, order_id: str) -> list[RefusedCredit]:
        """The credit notes of this order that were refused, the latest first."""
        parameters = {"seller_id": seller_id, "order_id": order_id, "limit": _REFUSED_CREDITS_MAX}
        return [RefusedCredit(**row) for row in await self._for_the_rest.query(_READ_REFUSED_CREDITS, **parameters)]

    async def series_list(self, seller_id: str, after: str, limit: int) -> list[Series]:
        """The seller's series in the order of their ids, after `after`."""
        rows = await self._for_the_rest.query(_LIST_SERIES, seller_id=seller_id, after=after, limit=limit)
        return [Series(**row) for row in rows]

    async def key(self, key_sha256: bytes) -> KeyChange | None:
        """An API key; None if it never existed."""
        return await self._for_the_rest.ask(self._keys, key_sha256)

    async def key_changes(self, since: datetime | None) -> list[KeyChange]:
        """Keys added or revoked since then, with an overlap; all keys for None."""
        rows = await self._for_the_rest.query(_READ_KEYS, since="-infinity" if since is None else since - _KEYS_OVERLAP)
        return [KeyChange(**row) for row in rows]

    async def all_sellers(self) -> dict[str, SellerFacts]:
        """What the rules of tax ask of each seller."""
        return _facts(await self._for_the_rest.query(_READ_ALL_SELLERS))

    async def sellers(self, seller_ids: Collection[str]) -> dict[str, SellerFacts]:
        """What the rules of tax ask of these sellers, without those that don't exist."""
        return _facts(await self._for_the_rest.query(_READ_SELLERS, seller_ids=list(seller_ids)))

    async def ping(self) -> bool:
        """Whether Postgres answers now."""
        try:
            await self._for_the_rest.query("SELECT 1 AS one")
        except PostgresUnavailableError:
            return False
        return True

    async def close(self) -> None:
        """Close the connections, even hanging ones."""
        await self._for_invoices.close(self._outcomes)
        await self._for_the_rest.close(self._keys)

    async def _read_outcomes(self, session: Session, names: list[OrderIdentity]) -> list[InvoiceOutcome]:
        wanted = list(dict.fromkeys(names))
        parameters = {
            "seller_ids": [name.seller_id for name in wanted],
            "order_ids": [name.order_id for name in wanted],
            "kind": self._kind,
            "topic": self._topic,
            "event_bytes_max": _EVENT_BYTES_MAX,
        }
        async with session.connection() as connection, connection.pipeline():
            issued = await connection.execute(_READ_INVOICES, parameters, binary=True)
            refusals = await read_refusals(connection, self._kind, wanted)
            invoices = {(row["seller_id"], row["order_id"]): Invoice(**row) for row in await fetch_dicts(issued)}
        return [
            InvoiceOutcome(invoices.get(name), refusals.refused.get(name, ()), refusals.owners.get(name))
            for name in names
        ]


def _facts(rows: Iterable[dict[str, Any]]) -> dict[str, SellerFacts]:
    return {str(row.pop("seller_id")): SellerFacts(**row) for row in map(dict, rows)}


async def _read_key(session: Session, digests: list[bytes]) -> list[KeyChange | None]:
    async with session.connection() as connection:
        cursor = await connection.execute(_READ_KEY, {"digests": digests}, binary=True)
        found = {row["key_sha256"]: KeyChange(**row) for row in await fetch_dicts(cursor)}
    return [found.get(digest) for digest in digests]
