"""What gateways read of checkout orders and stock, many in one round trip, with an end to every wait."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString

from sinks.microbatch import MicroBatch
from sinks.postgres.lanes import Lane, check_url
from sinks.postgres.reader import OrderName, Refused
from sinks.postgres.session import Session, fetch_dicts

#: Under this kind the checkouts agent records what it refused.
KIND = "checkout"
#: Between two reads of orders: one read for all whose outcome came meanwhile.
_ORDERS_PACE_S = 0.03
#: What was asked for comes along up to this; a larger one is read alone, so that a batch stays small in memory.
_REQUEST_BYTES_MAX = 64 * 1024
_ORDERS_MAX = 200
_REFUSALS_MAX = 20
#: Refunds shown of one order, the latest.
REFUNDS_MAX = 200

_Query = tuple[LiteralString, dict[str, Any]]
_Rows = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class PlacedOrder:
    """An order that was decided: placed, or refused for want of stock. The lists hold what the tables hold."""

    seller_id: str
    order_id: str
    customer: str
    state: str
    version: int
    history: list[dict[str, Any]]
    currency: str
    net_minor: int
    tax_minor: int
    gross_minor: int
    content_sha256: bytes
    short: list[dict[str, Any]] | None
    hold_expires_at: datetime
    placed_at: datetime
    #: The encoded InvoiceRequest, whose lines are the order's; None where it is large: see `invoice_request`.
    invoice_request: bytes | None
    #: (line, pieces) of each line of which something goes back, or went.
    refunded: list[tuple[int, int]]
    #: The attempts to authorise, capture and void.
    attempts: list[dict[str, Any]]
    #: Money that has gone back, over all refunds; None if none ever did.
    refunded_minor: int | None
    #: The latest `REFUNDS_MAX`, oldest first.
    refunds: list[dict[str, Any]]
    #: The invoice and the credit notes.
    invoices: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class KnownOrder:
    """What Postgres knows of an order id; `refused` has the latest first."""

    placed: PlacedOrder | None
    refused: tuple[Refused, ...] = ()


@dataclass(frozen=True, slots=True)
class Summary:
    """An order in a list."""

    order_id: str
    customer: str
    state: str
    currency: str
    net_minor: int
    tax_minor: int
    gross_minor: int
    placed_at: datetime


@dataclass(frozen=True, slots=True)
class StockRow:
    """A SKU's row."""

    sku: str
    on_hand: int
    reserved: int
    version: int


_READ_ORDERS: LiteralString = """
    SELECT o.seller_id, o.order_id, o.customer, o.state, o.version, o.history, o.currency, o.net_minor, o.tax_minor,
        o.gross_minor, o.content_sha256, o.short, o.hold_expires_at, o.placed_at,
        CASE WHEN length(o.invoice_request) <= %(request_bytes_max)s THEN o.invoice_request END AS invoice_request,
        coalesce((
            SELECT jsonb_agg(jsonb_build_array(l.line, l.refunded)) FROM order_lines l
            WHERE l.seller_id = o.seller_id AND l.order_id = o.order_id AND l.refunded > 0
        ), '[]') AS refunded,
        coalesce((
            SELECT jsonb_agg(jsonb_build_object('action', a.action, 'state', a.state, 'amount', a.amount_minor,
                                                'reason', a.reason))
            FROM payment_attempts a
            WHERE a.seller_id = o.seller_id AND a.order_id = o.order_id AND a.action <> 'refund'
        ), '[]') AS attempts,
        (
            SELECT sum(a.amount_minor)::bigint FROM payment_attempts a
            WHERE a.seller_id = o.seller_id AND a.order_id = o.order_id AND a.action = 'refund'
                AND a.state = 'succeeded'
        ) AS refunded_minor,
        coalesce((
            SELECT jsonb_agg(jsonb_build_object('refund_id', r.refund_id, 'state', r.state, 'amount', r.amount_minor,
                                                'reason', r.reason, 'lines', r.lines, 'at', r.at) ORDER BY r.at)
            FROM (
                SELECT *, (extract(epoch FROM requested_at) * 1000000)::bigint AS at FROM refunds
                WHERE seller_id = o.seller_id AND order_id = o.order_id
                ORDER BY requested_at DESC LIMIT %(refunds_max)s
            ) r
        ), '[]') AS refunds,
        coalesce((
            SELECT jsonb_agg(jsonb_build_object('kind', i.kind, 'refund_id', i.refund_id, 'number', i.invoice_number,
                                                'is_stored', d.key IS NOT NULL) ORDER BY i.issued_at, i.number)
            FROM invoices i LEFT JOIN documents d ON d.series_id = i.series_id AND d.number = i.number
            WHERE i.seller_id = o.seller_id AND i.order_id = o.order_id
        ), '[]') AS invoices
    FROM unnest(%(seller_ids)b::text[], %(order_ids)b::text[]) AS wanted (seller_id, order_id)
    JOIN orders o ON o.seller_id = wanted.seller_id AND o.order_id = wanted.order_id
"""

_READ_REFUSED: LiteralString = """
    SELECT wanted.seller_id, wanted.order_id, r.outcome, r.reason, r.detail, r.occurred_at, r.log_offset
    FROM unnest(%(seller_ids)b::text[], %(order_ids)b::text[]) AS wanted (seller_id, order_id)
    CROSS JOIN LATERAL (
        SELECT outcome, reason, detail, occurred_at, log_offset FROM refused_requests
        WHERE seller_id = wanted.seller_id AND order_id = wanted.order_id AND kind = %(kind)s
        ORDER BY occurred_at DESC, log_offset DESC LIMIT %(refusals_max)s
    ) r
"""

_READ_REQUEST: LiteralString = """
    SELECT invoice_request FROM orders WHERE seller_id = %(seller_id)s AND order_id = %(order_id)s
"""

_LIST_ORDERS: LiteralString = """
    SELECT order_id, customer, state, currency, net_minor, tax_minor, gross_minor, placed_at FROM orders
    WHERE seller_id = %(seller_id)s AND customer = %(customer)s
        AND (%(placed_at)s::timestamptz IS NULL OR (placed_at, order_id) < (%(placed_at)s, %(order_id)s))
    ORDER BY placed_at DESC, order_id DESC LIMIT %(limit)s
"""

_READ_STOCK: LiteralString = """
    SELECT sku, on_hand, reserved, version FROM stock WHERE seller_id = %(seller_id)s AND sku = %(sku)s
"""

_LIST_STOCK: LiteralString = """
    SELECT sku, on_hand, reserved, version FROM stock WHERE seller_id = %(seller_id)s AND sku > %(after)s
    ORDER BY sku LIMIT %(limit)s
"""


class OrdersReader:
    """Reads for one gateway. Every method raises `PostgresUnavailableError`, within `lanes.READ_SECONDS_MAX`."""

    def __init__(self, url: str) -> None:
        """Connects when first asked. Raises `ValueError`."""
        check_url(url)
        self._lanes = orders, rest = [Lane(url, read_only=True), Lane(url, read_only=True)]
        self._orders: MicroBatch[OrderName, KnownOrder] = MicroBatch(
            lambda names: orders.run(lambda session: _read_orders(session, names)),
            questions_max=_ORDERS_MAX,
            pace_s=_ORDERS_PACE_S,
        )
        self._rest: MicroBatch[_Query, _Rows] = MicroBatch(
            lambda queries: rest.run(lambda session: _read_one(session, queries)), questions_max=1
        )

    async def order(self, seller_id: str, order_id: str) -> KnownOrder:
        """What is known of an order."""
        return await self._lanes[0].ask(self._orders, OrderName(seller_id, order_id))

    async def invoice_request(self, order: PlacedOrder) -> bytes:
        """The order's encoded InvoiceRequest, whatever its size."""
        if order.invoice_request is not None:
            return order.invoice_request
        rows = await self._query(_READ_REQUEST, seller_id=order.seller_id, order_id=order.order_id)
        return bytes(rows[0]["invoice_request"])

    async def orders_of(
        self, seller_id: str, customer: str, before: tuple[datetime, str] | None, limit: int
    ) -> list[Summary]:
        """A customer's orders, newest first, from behind the one that was placed at and is called `before`."""
        placed_at, order_id = before or (None, "")
        rows = await self._query(
            _LIST_ORDERS, seller_id=seller_id, customer=customer, placed_at=placed_at, order_id=order_id, limit=limit
        )
        return [Summary(**row) for row in rows]

    async def stock(self, seller_id: str, sku: str) -> StockRow | None:
        """A SKU's row; None if it never had one."""
        rows = await self._query(_READ_STOCK, seller_id=seller_id, sku=sku)
        return StockRow(**rows[0]) if rows else None

    async def stock_list(self, seller_id: str, after: str, limit: int) -> list[StockRow]:
        """Rows in the order of their SKUs, from behind `after`."""
        rows = await self._query(_LIST_STOCK, seller_id=seller_id, after=after, limit=limit)
        return [StockRow(**row) for row in rows]

    async def close(self) -> None:
        """Close the connections, also those that hang."""
        for lane in self._lanes:
            await lane.session.close()
        for batch in (self._orders, self._rest):
            await batch.close()

    async def _query(self, statement: LiteralString, **parameters: Any) -> _Rows:
        return await self._lanes[1].ask(self._rest, (statement, parameters))


async def _read_orders(session: Session, names: list[OrderName]) -> list[KnownOrder]:
    connection = await session.connection()
    wanted = list(dict.fromkeys(names))
    parameters = {
        "seller_ids": [name.seller_id for name in wanted],
        "order_ids": [name.order_id for name in wanted],
        "kind": KIND,
        "request_bytes_max": _REQUEST_BYTES_MAX,
        "refunds_max": REFUNDS_MAX,
        "refusals_max": _REFUSALS_MAX,
    }
    async with connection.pipeline():
        placed = await connection.execute(_READ_ORDERS, parameters, binary=True)
        refused = await connection.execute(_READ_REFUSED, parameters, binary=True)
        orders = {(row["seller_id"], row["order_id"]): PlacedOrder(**row) for row in await fetch_dicts(placed)}
        refusals: dict[tuple[str, str], list[Refused]] = {}
        for seller_id, order_id, *columns in await refused.fetchall():
            refusals.setdefault((seller_id, order_id), []).append(Refused(*columns))
    return [KnownOrder(orders.get(name), tuple(refusals.get(name, ()))) for name in names]


async def _read_one(session: Session, queries: Sequence[_Query]) -> list[_Rows]:
    connection = await session.connection()
    answers = []
    for statement, parameters in queries:
        cursor = await connection.execute(statement, parameters, binary=True)
        answers.append(await fetch_dicts(cursor))
    return answers
