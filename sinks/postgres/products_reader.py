"""Read by gateways: products, many in one round trip, with a time limit for every wait."""

import asyncio
from collections.abc import Sequence
from typing import LiteralString, NamedTuple

from domain.reservation import Sku
from domain.review import NO_STARS, Rating
from sinks.microbatch import MicroBatch
from sinks.postgres.lanes import Lane, check_url
from sinks.postgres.products import StoredProduct, product_of
from sinks.postgres.session import Session

_PRODUCTS_MAX = 200
_SKUS_MAX = 500

_READ: LiteralString = """
    SELECT p.seller_id, p.product_id, p.version, p.event, r.stars
    FROM unnest(%(seller_ids)b::text[], %(product_ids)b::text[]) AS wanted (seller_id, product_id)
    JOIN products p ON p.seller_id = wanted.seller_id AND p.product_id = wanted.product_id AND NOT p.is_deleted
    CROSS JOIN LATERAL (
        SELECT CASE WHEN count(*) > 0
            THEN ARRAY[sum(r.one), sum(r.two), sum(r.three), sum(r.four), sum(r.five)]::bigint[] END AS stars
        FROM product_skus s JOIN ratings r ON r.seller_id = s.seller_id AND r.sku = s.sku
        WHERE s.seller_id = p.seller_id AND s.product_id = p.product_id
    ) AS r
"""
_LIST: LiteralString = """
    SELECT product_id FROM products WHERE seller_id = %(seller_id)s AND product_id > %(after)s AND NOT is_deleted
    ORDER BY product_id LIMIT %(limit)s
"""
_LIST_CATEGORY: LiteralString = """
    SELECT product_id FROM product_categories
    WHERE seller_id = %(seller_id)s AND category = %(category)s AND product_id > %(after)s
    ORDER BY product_id LIMIT %(limit)s
"""
_AVAILABLE: LiteralString = """
    SELECT s.seller_id, s.sku, s.on_hand - s.reserved
    FROM unnest(%(seller_ids)b::text[], %(skus)b::text[]) AS wanted (seller_id, sku)
    JOIN stock s ON s.seller_id = wanted.seller_id AND s.sku = wanted.sku
"""


class RatedProduct(NamedTuple):
    """A product, and how the published reviews of all its SKUs rate it."""

    stored: StoredProduct
    rating: Rating


class ProductIdentity(NamedTuple):
    """Whose product, and which."""

    seller_id: str
    product_id: str


class ProductsReader:
    """Reads for one gateway. Every method raises `PostgresUnavailableError`, within `lanes.READ_SECONDS_MAX`."""

    def __init__(self, url: str) -> None:
        """Connects on first use. Raises `ValueError`."""
        check_url(url)
        self._for_products = lane = Lane(url, read_only=True)
        self._for_the_rest = Lane(url, read_only=True)
        self._products: MicroBatch[ProductIdentity, RatedProduct | None] = MicroBatch(
            lambda names: lane.run(lambda session: _read(session, names)), questions_max=_PRODUCTS_MAX
        )
        self._levels: MicroBatch[Sku, int | None] = MicroBatch(
            lambda skus: lane.run(lambda session: _read_levels(session, skus)), questions_max=_SKUS_MAX
        )

    async def product(self, seller_id: str, product_id: str) -> RatedProduct | None:
        """A product; None if there is none, or no more."""
        return await self._for_products.ask(self._products, ProductIdentity(seller_id, product_id))

    async def product_ids(self, seller_id: str, category: str | None, after: str, limit: int) -> list[str]:
        """The ids of the seller's products, of all or of those in a category, in their order, after `after`."""
        if category is None:
            rows = await self._for_the_rest.query(_LIST, seller_id=seller_id, after=after, limit=limit)
        else:
            rows = await self._for_the_rest.query(
                _LIST_CATEGORY, seller_id=seller_id, category=category, after=after, limit=limit
            )
        return [row["product_id"] for row in rows]

    async def available(self, seller_id: str, skus: Sequence[str]) -> dict[str, int]:
        """The pieces that may be claimed of each SKU that ever had stock."""
        asked = [self._for_products.ask(self._levels, Sku(seller_id, sku)) for sku in skus]
        levels = await asyncio.gather(*asked)
        return {sku: pieces for sku, pieces in zip(skus, levels, strict=True) if pieces is not None}

    async def close(self) -> None:
        """Close the connections, even hanging ones."""
        await self._for_products.close(self._products, self._levels)
        await self._for_the_rest.close()


async def _read(session: Session, names: list[ProductIdentity]) -> list[RatedProduct | None]:
    wanted = list(dict.fromkeys(names))
    parameters = {
        "seller_ids": [each.seller_id for each in wanted],
        "product_ids": [each.product_id for each in wanted],
    }
    async with session.connection() as connection:
        cursor = await connection.execute(_READ, parameters, binary=True)
        rows = await cursor.fetchall()
    found = {
        ProductIdentity(seller_id, product_id): RatedProduct(
            StoredProduct(product_id, version, product_of(event)["product"]), Rating(tuple(stars or NO_STARS))
        )
        for seller_id, product_id, version, event, stars in rows
    }
    return [found.get(name) for name in names]


async def _read_levels(session: Session, skus: list[Sku]) -> list[int | None]:
    wanted = list(dict.fromkeys(skus))
    parameters = {"seller_ids": [each.seller_id for each in wanted], "skus": [each.sku for each in wanted]}
    async with session.connection() as connection:
        cursor = await connection.execute(_AVAILABLE, parameters, binary=True)
        found = {Sku(seller_id, sku): pieces for seller_id, sku, pieces in await cursor.fetchall()}
    return [found.get(sku) for sku in skus]
