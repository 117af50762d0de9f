"""Reads all rows of an order, from every table, in one snapshot."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString

from domain.buyer import buyer_key
from domain.order import OrderIdentity
from runtime.records import RecordPlace
from schemas.catalog import CHECKOUT_REQUESTS, INVOICE_REQUESTS
from sinks.postgres.orders import HistoryStep
from sinks.postgres.session import Connection, fetch_dicts

#: Limit of orders that one search finds.
MATCHES_MAX = 20
#: Orders of one buyer among which the latest are searched, about 10 µs each.
_BUYER_ORDERS_MAX = 1_000
#: Limits of events of one order, and of their bytes together: bounds memory.
EVENTS_MAX = 500
_EVENTS_BYTES_MAX = 16 * 1024 * 1024
#: Limit of rows of each kind of one order, such as repeated requests.
_ROWS_MAX = 200


@dataclass(frozen=True, slots=True)
class OrderRow:
    """The row of an order that was placed, or refused because it was out of stock."""

    partition: int
    #: Offset of its checkout.
    source_offset: int
    state: str
    history: list[HistoryStep]
    currency: str
    gross_minor: int
    hold_expires_at: datetime

    @property
    def request(self) -> RecordPlace:
        """The position of its checkout."""
        return RecordPlace(CHECKOUT_REQUESTS.name, self.partition, self.source_offset)


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """An action requested from the payment provider."""

    request_id: str
    action: str
    #: `open` until its outcome is known.
    state: str
    amount_minor: int
    currency: str
    tries: int
    next_try_at: datetime
    #: The slot of the worker that took it up last.
    leased_by: str | None
    provider: str | None
    reason: str
    created_at: datetime
    finished_at: datetime | None
    traceparent: str | None


@dataclass(frozen=True, slots=True)
class RefundRow:
    """A refund; its id is `cancellation` for a confirmed order that was cancelled."""

    refund_id: str
    state: str
    requested_at: datetime


@dataclass(frozen=True, slots=True)
class NumberedRow:
    """An invoice or a credit note, with its document if that is stored."""

    kind: str
    refund_id: str
    invoice_number: str
    issued_at: datetime
    currency: str
    gross_minor: int
    #: Offset of its request.
    source_partition: int
    source_offset: int
    #: The seq of its event in `invoice-events`.
    event_seq: int
    document_key: str | None
    stored_at: datetime | None
    #: From its event.
    traceparent: str | None
    #: The workers that numbered it and that stored its document; None if not recorded.
    worker: str | None
    document_worker: str | None

    @property
    def request(self) -> RecordPlace:
        """The position of its request."""
        return RecordPlace(INVOICE_REQUESTS.name, self.source_partition, self.source_offset)


@dataclass(frozen=True, slots=True)
class RefusedRow:
    """A request that was rejected, or is in conflict with an earlier one."""

    topic: str
    partition: int
    log_offset: int
    kind: str
    outcome: str
    detail: str
    occurred_at: datetime
    #: The worker that refused it; None if not recorded.
    worker: str | None

    @property
    def request(self) -> RecordPlace:
        """The position of the request."""
        return RecordPlace(self.topic, self.partition, self.log_offset)


@dataclass(frozen=True, slots=True)
class EventRow:
    """A row of the journal; for a dead letter with what was done about it."""

    topic: str
    partition: int
    seq: int
    occurred_at: datetime
    payload: bytes
    traceparent: str | None
    #: The worker that wrote it; None if not recorded.
    worker: str | None
    #: `redriven` or `discarded`; None while it is open.
    closed: str | None
    closed_by: str | None
    closed_at: datetime | None
    closed_why: str | None
    #: The redriven record's position, in its former topic.
    redriven_partition: int | None
    redriven_offset: int | None


@dataclass(frozen=True, slots=True)
class TrailRows:
    """All rows of one order, oldest first."""

    identity: OrderIdentity
    order: OrderRow | None = None
    attempts: Sequence[AttemptRow] = ()
    refunds: Sequence[RefundRow] = ()
    numbered: Sequence[NumberedRow] = ()
    refused: Sequence[RefusedRow] = ()


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of the agents and of the relay."""

    #: By (agent, topic, partition): the first offset not yet done.
    positions: Mapping[tuple[str, str, int], int]
    #: By (topic, partition): the last seq that the relay has published.
    published: Mapping[tuple[str, int], int]


# Seller by seller, each by its key, because no index leads to an order without its seller. `OFFSET 0` prevents the
# planner from scanning all rows of a table instead.
_FIND: LiteralString = """
    WITH asked AS (
        SELECT seller_id FROM unnest(coalesce(%(seller_ids)s::text[], ARRAY(SELECT seller_id FROM sellers))) seller_id
    )
    SELECT asked.seller_id, %(wanted)s::text AS order_id FROM asked CROSS JOIN LATERAL (
        SELECT FROM (
            SELECT FROM order_ids o WHERE o.seller_id = asked.seller_id AND o.order_id = %(wanted)s
            UNION ALL SELECT FROM orders o WHERE o.seller_id = asked.seller_id AND o.order_id = %(wanted)s
            UNION ALL SELECT FROM invoices i WHERE i.seller_id = asked.seller_id AND i.order_id = %(wanted)s
            UNION ALL SELECT FROM refused_requests r WHERE r.seller_id = asked.seller_id AND r.order_id = %(wanted)s
        ) found LIMIT 1
    ) found
    UNION
    SELECT asked.seller_id, found.order_id FROM asked CROSS JOIN LATERAL (
        SELECT order_id FROM invoices i WHERE i.seller_id = asked.seller_id AND i.invoice_number = %(wanted)s OFFSET 0
    ) found
    ORDER BY 1, 2 LIMIT %(limit)s
"""

# The latest orders; for a buyer with more than `buyer_orders_max`, the latest among some of them.
_FIND_OF_BUYER: LiteralString = """
    SELECT found.seller_id, found.order_id FROM (
        SELECT seller_id, order_id FROM order_ids
        WHERE buyer_key = %(buyer_key)s AND seller_id = coalesce(%(seller_id)s::text, seller_id)
        LIMIT %(buyer_orders_max)s
    ) found LEFT JOIN LATERAL (
        SELECT placed_at AS at FROM orders o WHERE o.seller_id = found.seller_id AND o.order_id = found.order_id
        UNION ALL
        SELECT issued_at FROM invoices i
        WHERE i.seller_id = found.seller_id AND i.order_id = found.order_id AND i.kind = 'invoice'
        LIMIT 1
    ) made ON true
    ORDER BY made.at DESC NULLS LAST, 1, 2 LIMIT %(limit)s
"""

_ORDERS: LiteralString = """
    SELECT o.seller_id, o.order_id, o.partition, o.source_offset, o.state, o.history, o.currency, o.gross_minor,
        o.hold_expires_at
    FROM unnest(%(seller_ids)b::text[], %(order_ids)b::text[]) AS wanted (seller_id, order_id)
    JOIN orders o USING (seller_id, order_id)
"""

_ATTEMPTS: LiteralString = """
    SELECT wanted.seller_id, wanted.order_id, a.*
    FROM unnest(%(seller_ids)b::text[], %(order_ids)b::text[]) AS wanted (seller_id, order_id)
    CROSS JOIN LATERAL (
        SELECT request_id, action, state, amount_minor, currency, tries, next_try_at, leased_by, provider, reason,
            created_at, finished_at, traceparent
        FROM payment_attempts p WHERE p.seller_id = wanted.seller_id AND p.order_id = wanted.order_id
        ORDER BY created_at LIMIT %(rows_max)s
    ) a
"""

_REFUNDS: LiteralString = """
    SELECT wanted.seller_id, wanted.order_id, r.*
    FROM unnest(%(seller_ids)b::text[], %(order_ids)b::text[]) AS wanted (seller_id, order_id)
    CROSS JOIN LATERAL (
        SELECT refund_id, state, requested_at
        FROM refunds f WHERE f.seller_id = wanted.seller_id AND f.order_id = wanted.order_id
        ORDER BY requested_at LIMIT %(rows_max)s
    ) r
"""

_NUMBERED: LiteralString = """
    SELECT wanted.seller_id, wanted.order_id, n.*
    FROM unnest(%(seller_ids)b::text[], %(order_ids)b::text[]) AS wanted (seller_id, order_id)
    CROSS JOIN LATERAL (
        SELECT i.kind, i.refund_id, i.invoice_number, i.issued_at, i.currency, i.gross_minor, i.source_partition,
            i.source_offset, i.event_seq, d.key AS document_key, d.stored_at, j.traceparent, j.worker,
            d.worker AS document_worker
        FROM invoices i
        LEFT JOIN documents d ON d.series_id = i.series_id AND d.number = i.number
        LEFT JOIN journal j ON j.topic = 'invoice-events' AND j.partition = i.source_partition AND j.seq = i.event_seq
            AND j.occurred_at = i.issued_at
        WHERE i.seller_id = wanted.seller_id AND i.order_id = wanted.order_id
        ORDER BY i.issued_at, i.number LIMIT %(rows_max)s
    ) n
"""

_REFUSED: LiteralString = """
    SELECT wanted.seller_id, wanted.order_id, r.*
    FROM unnest(%(seller_ids)b::text[], %(order_ids)b::text[]) AS wanted (seller_id, order_id)
    CROSS JOIN LATERAL (
        SELECT topic, partition, log_offset, kind, outcome, detail, occurred_at, worker
        FROM refused_requests q WHERE q.seller_id = wanted.seller_id AND q.order_id = wanted.order_id
        ORDER BY occurred_at, log_offset LIMIT %(rows_max)s
    ) r
"""

_OF_ORDERS = (_ORDERS, _ATTEMPTS, _REFUNDS, _NUMBERED, _REFUSED)

# Uses the index `journal_by_key`, whose conditions these are. Events of invoices are found through `invoices`, and dead
# letters whose record names the order under another key through `dead_letters`, unless they are not copied there yet.
_EVENTS: LiteralString = """
    SELECT events.order_id, topic, events.partition, events.seq, events.occurred_at, payload, traceparent,
        events.worker, nullif(d.state, 'open') AS closed, d.closed_by, d.closed_at, d.closed_why, d.redriven_partition,
        d.redriven_offset
    FROM (
        SELECT wanted.order_id, j.*, sum(octet_length(j.payload)) OVER (ORDER BY j.occurred_at, j.topic, j.seq) AS bytes
        FROM unnest(%(order_ids)b::text[]) AS wanted (order_id)
        CROSS JOIN LATERAL (
            (
                SELECT topic, partition, seq, occurred_at, payload, traceparent, worker FROM journal
                WHERE key = convert_to(wanted.order_id, 'UTF8') AND topic <> 'invoice-events' AND length(key) <= 256
                LIMIT %(events_max)s
            )
            UNION ALL
            (
                SELECT j.topic, j.partition, j.seq, j.occurred_at, j.payload, j.traceparent, j.worker
                FROM dead_letters l
                JOIN journal j ON j.topic = 'dead-letters' AND j.partition = l.partition AND j.seq = l.seq
                    AND j.occurred_at = l.occurred_at
                WHERE l.order_id = wanted.order_id AND j.key IS DISTINCT FROM convert_to(wanted.order_id, 'UTF8')
                LIMIT %(events_max)s
            )
        ) j
    ) events
    LEFT JOIN dead_letters d ON topic = 'dead-letters' AND d.partition = events.partition AND d.seq = events.seq
    WHERE bytes <= %(bytes_max)s
    ORDER BY events.occurred_at, topic, events.seq
"""

_POSITIONS: LiteralString = "SELECT agent, topic, partition, next_offset FROM positions"
_PUBLISHED: LiteralString = "SELECT topic, partition, published_seq FROM journal_published"


async def find_orders(connection: Connection, wanted: str, seller_id: str | None) -> list[OrderIdentity]:
    """Find orders by order id or document number, of one seller or of all; at most `MATCHES_MAX`."""
    cursor = await connection.execute(
        _FIND,
        {"wanted": wanted, "seller_ids": None if seller_id is None else [seller_id], "limit": MATCHES_MAX},
    )
    return [OrderIdentity(*row) for row in await cursor.fetchall()]


async def find_orders_of_buyer(connection: Connection, email: str, seller_id: str | None) -> list[OrderIdentity]:
    """The latest orders of a buyer, of one seller or of all; at most `MATCHES_MAX`.

    Orders of releases without `buyer_key` are not found.
    """
    parameters = {
        "buyer_key": buyer_key(email),
        "seller_id": seller_id,
        "buyer_orders_max": _BUYER_ORDERS_MAX,
        "limit": MATCHES_MAX,
    }
    cursor = await connection.execute(_FIND_OF_BUYER, parameters)
    return [OrderIdentity(*row) for row in await cursor.fetchall()]


async def read_rows(connection: Connection, identities: Sequence[OrderIdentity]) -> list[TrailRows]:
    """All rows of these orders. Call it in the caller's transaction, for a common snapshot."""
    if not identities:
        return []
    parameters = {
        "seller_ids": [each.seller_id for each in identities],
        "order_ids": [each.order_id for each in identities],
        "rows_max": _ROWS_MAX,
    }
    async with connection.pipeline():
        cursors = [await connection.execute(statement, parameters, binary=True) for statement in _OF_ORDERS]
        found = [await fetch_dicts(cursor) for cursor in cursors]
    orders, attempts, refunds, numbered, refused = (_by_order(rows) for rows in found)
    return [
        TrailRows(
            each,
            next((OrderRow(**row) for row in orders.get(each, [])), None),
            [AttemptRow(**row) for row in attempts.get(each, [])],
            [RefundRow(**row) for row in refunds.get(each, [])],
            [NumberedRow(**row) for row in numbered.get(each, [])],
            [RefusedRow(**row) for row in refused.get(each, [])],
        )
        for each in identities
    ]


async def read_journal(connection: Connection, order_ids: Collection[str]) -> dict[str, list[EventRow]]:
    """The journal's rows with these order ids, of all sellers, oldest first, without events of invoices.

    At most `EVENTS_MAX` of each.
    """
    parameters = {"order_ids": list(order_ids), "events_max": EVENTS_MAX, "bytes_max": _EVENTS_BYTES_MAX}
    cursor = await connection.execute(_EVENTS, parameters, binary=True)
    found: dict[str, list[EventRow]] = {order_id: [] for order_id in order_ids}
    for order_id, *columns in await cursor.fetchall():
        found[order_id].append(EventRow(*columns))
    return found


async def read_progress(connection: Connection) -> Progress:
    """The progress of all agents and of the relay."""
    positions = await (await connection.execute(_POSITIONS)).fetchall()
    published = await (await connection.execute(_PUBLISHED)).fetchall()
    return Progress(
        {(agent, topic, partition): offset for agent, topic, partition, offset in positions},
        {(topic, partition): seq for topic, partition, seq in published},
    )


def _by_order(rows: list[dict[str, Any]]) -> dict[OrderIdentity, list[dict[str, Any]]]:
    found: dict[OrderIdentity, list[dict[str, Any]]] = {}
    for row in rows:
        identity = OrderIdentity(row.pop("seller_id"), row.pop("order_id"))
        found.setdefault(identity, []).append(row)
    return found
