"""All products, levels, ratings and synonyms in one snapshot: what a search index is built from."""

from collections.abc import Collection, Iterator
from typing import LiteralString, NamedTuple

import psycopg
from psycopg.rows import TupleRow

from domain.records import ProductChanged, SynonymsChanged
from domain.reservation import Sku
from sinks.postgres.products import product_of
from sinks.postgres.synonyms import synonyms_of

_ROWS_AT_ONCE = 1_000

_COUNT: LiteralString = """
    SELECT (SELECT count(*) FROM products) + (SELECT count(*) FROM stock)
"""
# A deleted product too: its version is what keeps an older event from bringing it back.
_PRODUCTS: LiteralString = "SELECT event FROM products"
_SYNONYMS: LiteralString = "SELECT event FROM synonyms WHERE version > 0"
_ARTICLES: LiteralString = """
    SELECT coalesce(s.seller_id, r.seller_id), coalesce(s.sku, r.sku), s.on_hand - s.reserved, s.version,
        r.one, r.two, r.three, r.four, r.five, r.version
    FROM stock s FULL JOIN ratings r ON r.seller_id = s.seller_id AND r.sku = s.sku
"""
_SOME_ARTICLES: LiteralString = """
    SELECT asked.seller_id, asked.sku, s.on_hand - s.reserved, s.version,
        r.one, r.two, r.three, r.four, r.five, r.version
    FROM unnest(%(seller_ids)b::text[], %(skus)b::text[]) AS asked (seller_id, sku)
    LEFT JOIN stock s ON s.seller_id = asked.seller_id AND s.sku = asked.sku
    LEFT JOIN ratings r ON r.seller_id = asked.seller_id AND r.sku = asked.sku
"""


class ArticleRow(NamedTuple):
    """What is known of a SKU; null where it never had stock, or no review."""

    seller_id: str
    sku: str
    available: int | None
    stock_version: int | None
    one: int | None
    two: int | None
    three: int | None
    four: int | None
    five: int | None
    rating_version: int | None


def count_rows(connection: psycopg.Connection[TupleRow]) -> int:
    """How many products and levels there are."""
    row = connection.execute(_COUNT).fetchone()
    return 0 if row is None else int(row[0])


def read_products(connection: psycopg.Connection[TupleRow]) -> Iterator[list[ProductChanged]]:
    """The last event of each product, deleted ones included, in pages."""
    with connection.cursor(name="products", binary=True) as cursor:
        cursor.execute(_PRODUCTS)
        while rows := cursor.fetchmany(_ROWS_AT_ONCE):
            # A row without an event was made by a transaction that then changed nothing.
            yield [product_of(event) for (event,) in rows if event]


def read_synonyms(connection: psycopg.Connection[TupleRow]) -> Iterator[SynonymsChanged]:
    """The last event of each seller that has given some."""
    with connection.cursor(name="synonyms", binary=True) as cursor:
        cursor.execute(_SYNONYMS)
        for (event,) in cursor:
            yield synonyms_of(event)


def read_articles(connection: psycopg.Connection[TupleRow]) -> Iterator[list[ArticleRow]]:
    """What is known of each SKU, in pages."""
    with connection.cursor(name="articles", binary=True) as cursor:
        cursor.execute(_ARTICLES)
        while rows := cursor.fetchmany(_ROWS_AT_ONCE):
            yield [ArticleRow(*row) for row in rows]


def read_some_articles(connection: psycopg.Connection[TupleRow], skus: Collection[Sku]) -> list[ArticleRow]:
    """What is known of these SKUs."""
    parameters = {"seller_ids": [each.seller_id for each in skus], "skus": [each.sku for each in skus]}
    cursor = connection.execute(_SOME_ARTICLES, parameters, binary=True)
    return [ArticleRow(*row) for row in cursor.fetchall()]
