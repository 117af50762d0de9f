"""Stock levels, for comparing and copying them. Every statement uses a key's index."""

from collections.abc import Collection
from typing import LiteralString

from domain.reservation import Level, Sku
from sinks.postgres.session import Connection

_SELLERS: LiteralString = """
    SELECT seller_id FROM sellers s WHERE EXISTS (SELECT FROM stock WHERE stock.seller_id = s.seller_id)
    ORDER BY seller_id
"""

_FIRST_SKUS: LiteralString = """
    SELECT sku FROM stock WHERE seller_id = %(seller_id)s ORDER BY sku LIMIT %(limit)s
"""

_NEXT_SKUS: LiteralString = """
    SELECT sku FROM stock WHERE seller_id = %(seller_id)s AND sku > %(after)s ORDER BY sku LIMIT %(limit)s
"""

_LEVELS: LiteralString = """
    SELECT sku, on_hand, reserved, version FROM stock
    WHERE seller_id = %(seller_id)s AND sku = ANY(%(skus)b::text[])
"""

_DECIDED: LiteralString = """
    SELECT order_id FROM orders WHERE seller_id = %(seller_id)s AND order_id = ANY(%(order_ids)b::text[])
"""


#: Limit of orders with an unknown payment that are read, about 10 µs each.
UNPAID_MAX = 20_000

# A single statement and so a single snapshot, in which an order and its claim are both visible or both not. It uses the
# partial index whatever the planner's statistics say, and then looks up each order, since no index leads from a SKU to
# its orders.
_OBTAINABLE: LiteralString = """
    WITH unpaid AS MATERIALIZED (
        SELECT seller_id, order_id FROM orders WHERE state = 'PAYMENT_PENDING'
        ORDER BY hold_expires_at LIMIT %(unpaid_max)s + 1
    ), pending AS MATERIALIZED (
        SELECT line.seller_id, line.sku, sum(line.quantity) AS pieces
        FROM unpaid CROSS JOIN LATERAL (
            SELECT l.seller_id, l.sku, l.quantity FROM order_lines l
            WHERE l.seller_id = unpaid.seller_id AND l.order_id = unpaid.order_id AND l.sku = ANY(%(skus)b::text[])
            OFFSET 0
        ) line
        GROUP BY line.seller_id, line.sku
    )
    SELECT asked.seller_id, asked.sku, (s.on_hand - s.reserved + coalesce(p.pieces, 0))::bigint, s.version
    FROM unnest(%(seller_ids)b::text[], %(skus)b::text[]) AS asked (seller_id, sku)
    CROSS JOIN LATERAL (
        SELECT on_hand, reserved, version FROM stock
        WHERE stock.seller_id = asked.seller_id AND stock.sku = asked.sku OFFSET 0
    ) s
    LEFT JOIN pending p ON p.seller_id = asked.seller_id AND p.sku = asked.sku
    WHERE (SELECT count(*) FROM unpaid) <= %(unpaid_max)s
"""


async def read_sellers_with_stock(connection: Connection) -> list[str]:
    """Sellers that have at least one SKU."""
    cursor = await connection.execute(_SELLERS)
    return [row[0] for row in await cursor.fetchall()]


async def read_skus(connection: Connection, seller_id: str, *, after: str | None, limit: int) -> list[str]:
    """A page of the seller's SKUs in the database's order, after `after`; None for the first page."""
    # Two statements: `after IS NULL OR …` would read all SKUs for each page, and '' is a valid SKU, so it can't mean
    # none.
    statement = _FIRST_SKUS if after is None else _NEXT_SKUS
    cursor = await connection.execute(statement, {"seller_id": seller_id, "after": after, "limit": limit})
    return [row[0] for row in await cursor.fetchall()]


async def read_levels(connection: Connection, seller_id: str, skus: Collection[str]) -> dict[Sku, Level]:
    """The levels of these SKUs; those without stock are absent."""
    cursor = await connection.execute(_LEVELS, {"seller_id": seller_id, "skus": list(skus)}, binary=True)
    return {Sku(seller_id, sku): Level(*level) for sku, *level in await cursor.fetchall()}


async def read_obtainable(connection: Connection, skus: Collection[Sku]) -> dict[Sku, tuple[int, int]]:
    """How many pieces of each SKU an order on the waitlist may still get, and the version of the level used.

    These are free pieces, and pieces claimed by orders whose payment is not known. Empty if there are more such orders
    than `UNPAID_MAX`.
    """
    parameters = {
        "seller_ids": [sku.seller_id for sku in skus],
        "skus": [sku.sku for sku in skus],
        "unpaid_max": UNPAID_MAX,
    }
    cursor = await connection.execute(_OBTAINABLE, parameters, binary=True)
    return {Sku(seller_id, sku): (pieces, version) for seller_id, sku, pieces, version in await cursor.fetchall()}


async def read_decided(connection: Connection, seller_id: str, order_ids: Collection[str]) -> set[str]:
    """Those of the orders that are decided: placed, or refused."""
    if not order_ids:
        return set()
    cursor = await connection.execute(_DECIDED, {"seller_id": seller_id, "order_ids": list(order_ids)}, binary=True)
    return {row[0] for row in await cursor.fetchall()}
