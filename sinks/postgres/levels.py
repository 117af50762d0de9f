"""Stock levels as Postgres has them, for those who compare or copy them. Every statement goes by a key's index."""

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


async def read_sellers_with_stock(connection: Connection) -> list[str]:
    """Sellers that have at least one SKU."""
    cursor = await connection.execute(_SELLERS)
    return [row[0] for row in await cursor.fetchall()]


async def read_skus(connection: Connection, seller_id: str, *, after: str | None, limit: int) -> list[str]:
    """The next SKUs of a seller in the database's order; None begins."""
    # Two statements: `after IS NULL OR …` would read all SKUs for each page. The empty text is a SKU like any other.
    statement = _FIRST_SKUS if after is None else _NEXT_SKUS
    cursor = await connection.execute(statement, {"seller_id": seller_id, "after": after, "limit": limit})
    return [row[0] for row in await cursor.fetchall()]


async def read_levels(connection: Connection, seller_id: str, skus: Collection[str]) -> dict[Sku, Level]:
    """The levels of those SKUs that have one."""
    cursor = await connection.execute(_LEVELS, {"seller_id": seller_id, "skus": list(skus)}, binary=True)
    return {Sku(seller_id, sku): Level(*level) for sku, *level in await cursor.fetchall()}


async def read_decided(connection: Connection, seller_id: str, order_ids: Collection[str]) -> set[str]:
    """Which of the orders are decided: placed, or refused."""
    if not order_ids:
        return set()
    cursor = await connection.execute(_DECIDED, {"seller_id": seller_id, "order_ids": list(order_ids)}, binary=True)
    return {row[0] for row in await cursor.fetchall()}
