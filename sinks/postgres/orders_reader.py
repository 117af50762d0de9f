"""Read by gateways: checkout orders and stock, many in one round trip, with a time limit for every wait."""

from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString, TypedDict

from domain.order import OrderIdentity
from domain.records import RefundedLine, ShortLine
from sinks.microbatch import MicroBatch
from sinks.postgres.lanes import Lane, check_url
from sinks.postgres.order_ids import CHECKOUT
from sinks.postgres.orders import HistoryStep
from sinks.postgres.refusals_reader import RefusedRequest, read_refusals
from sinks.postgres.session import Session, fetch_dicts

#: Interval between two reads of orders, so that one read serves all whose outcome came meanwhile.
_ORDERS_PACE_S = 0.03
#: Invoice requests up to this size are read with their order; larger ones are read alone, to bound memory.
_REQUEST_BYTES_MAX = 64 * 1024
_ORDERS_MAX = 200
#: Refunds shown per order, the latest.
REFUNDS_MAX = 200


class AttemptSummary(TypedDict):
    """The result of an attempt to authorise, capture or void. `amount` is in minor units."""

    action: str
    state: str
    amount: int
    reason: str


class RefundSummary(TypedDict):
    """A refund. `amount` is in minor units, `at` in microseconds since 1970, UTC."""

    refund_id: str
    state: str
    amount: int
    reason: str
    lines: list[RefundedLine]
    at: int
    #: Whether it was requested without lines; None for refunds older than this column.
    for_all_left: bool | None
    provider_reason: str | None


class UncreditedSummary(TypedDict):
    """A refund made at the provider itself that can't be credited. `amount` is in minor units."""

    provider_refund: str
    amount: int
    currency: str
    reason: str


class InvoiceSummary(TypedDict):
    """An invoice or credit note of an order; `number` is as printed."""

    kind: str
    refund_id: str
    number: str
    is_stored: bool


@dataclass(frozen=True, slots=True)
class PlacedOrder:
    """A decided order: placed, or refused because it was out of stock. The lists are in the form of the tables."""

    seller_id: str
    order_id: str
    customer: str
    state: str
    version: int
    history: list[HistoryStep]
    currency: str
    net_minor: int
    tax_minor: int
    gross_minor: int
    content_sha256: bytes
    short: list[ShortLine] | None
    hold_expires_at: datetime
    placed_at: datetime
    #: The encoded InvoiceRequest with the order's lines; None if it is large: see `invoice_request`.
    invoice_request: bytes | None
    #: (line, pieces) of each line that is refunded in part or in whole, or is being refunded.
    refunded: list[tuple[int, int]]
    #: The attempts to authorise, capture and void.
    attempts: list[AttemptSummary]
    #: Money refunded, over all refunds; None if there were none.
    refunded_minor: int | None
    #: The latest `REFUNDS_MAX`, oldest first.
    refunds: list[RefundSummary]
    uncredited: list[UncreditedSummary]
    #: The invoice and the credit notes.
    invoices: list[InvoiceSummary]


@dataclass(frozen=True, slots=True)
class KnownOrder:
    """The rows about an order id; `refused` has the latest first."""

    placed: PlacedOrder | None
    refused: tuple[RefusedRequest, ...] = ()
    #: The kind that owns the order id (see `order_ids`); None if it has no owner yet.
    owner: str | None = None


@dataclass(frozen=True, slots=True)
class ListedOrder:
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
class ShopRow:
    """A seller as buyers are shown it; empty texts for what it doesn't say."""

    legal_name: str
    trading_name: str
    street: str
    city: str
    postal_code: str
    country: str
    vat_id: str
    tax_name: str
    contact_phone: str
    language: str
    colour: str
    time_zone: str


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
                                                'reason', r.reason, 'lines', r.lines, 'at', r.at,
                                                'for_all_left', r.for_all_left, 'provider_reason', r.provider_reason)
                             ORDER BY r.at)
            FROM (
                SELECT *, (extract(epoch FROM requested_at) * 1000000)::bigint AS at,
                    (SELECT nullif(p.reason, '') FROM payment_attempts p
                     WHERE p.seller_id = refunds.seller_id AND p.order_id = refunds.order_id AND p.request_id
                         = CASE refund_id WHEN 'cancellation' THEN 'void' ELSE 'refund:' || refund_id END
                    ) AS provider_reason
                FROM refunds
                WHERE seller_id = o.seller_id AND order_id = o.order_id
                ORDER BY requested_at DESC LIMIT %(refunds_max)s
            ) r
        ), '[]') AS refunds,
        coalesce((
            SELECT jsonb_agg(jsonb_build_object('provider_refund', u.provider_refund, 'amount', u.amount_minor,
                                                'currency', u.currency, 'reason', u.reason)
                             ORDER BY u.provider_refund)
            FROM uncredited_refunds u
            WHERE u.seller_id = o.seller_id AND u.order_id = o.order_id
        ), '[]') AS uncredited,
        coalesce((
            SELECT jsonb_agg(jsonb_build_object('kind', i.kind, 'refund_id', i.refund_id, 'number', i.invoice_number,
                                                'is_stored', d.key IS NOT NULL) ORDER BY i.issued_at, i.number)
            FROM invoices i LEFT JOIN documents d ON d.series_id = i.series_id AND d.number = i.number
            WHERE i.seller_id = o.seller_id AND i.order_id = o.order_id
        ), '[]') AS invoices
    FROM unnest(%(seller_ids)b::text[], %(order_ids)b::text[]) AS wanted (seller_id, order_id)
    JOIN orders o ON o.seller_id = wanted.seller_id AND o.order_id = wanted.order_id
"""

_READ_REQUEST: LiteralString = """
    SELECT invoice_request FROM orders WHERE seller_id = %(seller_id)s AND order_id = %(order_id)s
"""

_READ_SHOP: LiteralString = """
    SELECT legal_name, trading_name, street, city, postal_code, country, coalesce(vat_id, '') AS vat_id, tax_name,
        contact_phone, language, colour, time_zone
    FROM sellers WHERE seller_id = %(seller_id)s
"""

# Uses the index to find the place directly; `placed_at IS NULL OR …` would walk all of the customer's orders.
_LIST_ORDERS: LiteralString = """
    SELECT order_id, customer, state, currency, net_minor, tax_minor, gross_minor, placed_at FROM orders
    WHERE seller_id = %(seller_id)s AND customer = %(customer)s
        AND (placed_at, order_id) < (%(placed_at)s::timestamptz, %(order_id)s)
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
        """Connects on first use. Raises `ValueError`."""
        check_url(url)
        self._for_orders = orders = Lane(url, read_only=True)
        self._for_the_rest = Lane(url, read_only=True)
        self._orders: MicroBatch[OrderIdentity, KnownOrder] = MicroBatch(
            lambda names: orders.run(lambda session: _read_orders(session, names)),
            questions_max=_ORDERS_MAX,
            pace_s=_ORDERS_PACE_S,
        )

    async def order(self, seller_id: str, order_id: str) -> KnownOrder:
        """What is known of an order."""
        return await self._for_orders.ask(self._orders, OrderIdentity(seller_id, order_id))

    async def invoice_request(self, order: PlacedOrder) -> bytes:
        """The order's encoded InvoiceRequest, of any size."""
        if order.invoice_request is not None:
            return order.invoice_request
        rows = await self._for_the_rest.query(_READ_REQUEST, seller_id=order.seller_id, order_id=order.order_id)
        return bytes(rows[0]["invoice_request"])

    async def orders_of(
        self, seller_id: str, customer: str, before: tuple[datetime, str] | None, limit: int
    ) -> list[ListedOrder]:
        """A customer's orders, newest first, after the order with this time and the id `before`."""
        placed_at, order_id = before or ("infinity", "")
        rows = await self._for_the_rest.query(
            _LIST_ORDERS, seller_id=seller_id, customer=customer, placed_at=placed_at, order_id=order_id, limit=limit
        )
        return [ListedOrder(**row) for row in rows]

    async def shop(self, seller_id: str) -> ShopRow | None:
        """A seller; None if there is none of this name."""
        rows = await self._for_the_rest.query(_READ_SHOP, seller_id=seller_id)
        return ShopRow(**rows[0]) if rows else None

    async def stock(self, seller_id: str, sku: str) -> StockRow | None:
        """A SKU's row; None if it never had one."""
        rows = await self._for_the_rest.query(_READ_STOCK, seller_id=seller_id, sku=sku)
        return StockRow(**rows[0]) if rows else None

    async def stock_list(self, seller_id: str, after: str, limit: int) -> list[StockRow]:
        """Rows in the order of their SKUs, after `after`."""
        rows = await self._for_the_rest.query(_LIST_STOCK, seller_id=seller_id, after=after, limit=limit)
        return [StockRow(**row) for row in rows]

    async def close(self) -> None:
        """Close the connections, even hanging ones."""
        await self._for_orders.close(self._orders)
        await self._for_the_rest.close()


async def _read_orders(session: Session, names: list[OrderIdentity]) -> list[KnownOrder]:
    wanted = list(dict.fromkeys(names))
    parameters = {
        "seller_ids": [name.seller_id for name in wanted],
        "order_ids": [name.order_id for name in wanted],
        "request_bytes_max": _REQUEST_BYTES_MAX,
        "refunds_max": REFUNDS_MAX,
    }
    async with session.connection() as connection, connection.pipeline():
        placed = await connection.execute(_READ_ORDERS, parameters, binary=True)
        refusals = await read_refusals(connection, CHECKOUT, wanted)
        orders = {(row["seller_id"], row["order_id"]): PlacedOrder(**row) for row in await fetch_dicts(placed)}
    return [KnownOrder(orders.get(name), refusals.refused.get(name, ()), refusals.owners.get(name)) for name in names]
