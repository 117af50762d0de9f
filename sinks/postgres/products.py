"""Changes of products by their seller: one transaction for the rows and their events."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, LiteralString

import psycopg

from domain.moments import micros
from domain.product import found_in, skus_of
from domain.records import Product, ProductChanged
from schemas.catalog import CATALOGUE_EVENTS, PRODUCT_CHANGED
from schemas.codec import decode, encode
from schemas.placement import partition_of
from sinks.microbatch import MicroBatch
from sinks.postgres import journal
from sinks.postgres.journal import JournalRow
from sinks.postgres.lanes import Lane, check_url
from sinks.postgres.session import Connection, Session, believed

#: Changes in one transaction: the more, the fewer the commits; and no caller waits long behind one.
CHANGES_MAX = 250
#: How often a transaction is tried that lost a SKU to another one at the same instant.
_TRIES_MAX = 3

# In the order of their ids, here as everywhere: no two transactions wait for each other.
_LOCK: LiteralString = """
    SELECT product_id, version, is_deleted, event FROM products
    WHERE seller_id = %(seller_id)s AND product_id = ANY(%(product_ids)b::text[])
    ORDER BY product_id FOR UPDATE
"""
_MAKE: LiteralString = """
    INSERT INTO products (seller_id, product_id, version, is_deleted, event)
    SELECT %(seller_id)s, product_id, 0, true, '' FROM unnest(%(product_ids)b::text[]) AS product_id
    ORDER BY product_id ON CONFLICT DO NOTHING
"""
_WRITE: LiteralString = """
    UPDATE products p SET version = row.version, is_deleted = row.is_deleted, event = row.event
    FROM unnest(%(product_ids)b::text[], %(versions)b::bigint[], %(deleted)b::boolean[], %(events)b::bytea[])
        AS row (product_id, version, is_deleted, event)
    WHERE p.seller_id = %(seller_id)s AND p.product_id = row.product_id
"""
_READ_OWNERS: LiteralString = """
    SELECT sku, product_id FROM product_skus WHERE seller_id = %(seller_id)s AND sku = ANY(%(skus)b::text[])
    ORDER BY sku FOR UPDATE
"""
_FREE_SKUS: LiteralString = """
    DELETE FROM product_skus WHERE seller_id = %(seller_id)s AND sku = ANY(%(skus)b::text[])
"""
# No ON CONFLICT: a SKU that another transaction took meanwhile rolls this one back, and it is decided again.
_TAKE_SKUS: LiteralString = """
    INSERT INTO product_skus (seller_id, sku, product_id)
    SELECT %(seller_id)s, sku, product_id
    FROM unnest(%(skus)b::text[], %(product_ids)b::text[]) AS row (sku, product_id) ORDER BY sku
"""
_LEAVE_CATEGORIES: LiteralString = """
    DELETE FROM product_categories c USING unnest(%(categories)b::text[], %(product_ids)b::text[])
        AS row (category, product_id)
    WHERE c.seller_id = %(seller_id)s AND c.category = row.category AND c.product_id = row.product_id
"""
_JOIN_CATEGORIES: LiteralString = """
    INSERT INTO product_categories (seller_id, category, product_id)
    SELECT %(seller_id)s, category, product_id
    FROM unnest(%(categories)b::text[], %(product_ids)b::text[]) AS row (category, product_id)
"""

#: Whether a product of this version may be changed; the version is None if there is no such product.
Permits = Callable[[int | None], bool]


@dataclass(frozen=True, slots=True)
class PutProduct:
    """Make a product, or replace all of it."""

    product_id: str
    #: None: delete it.
    product: Product | None
    permits: Permits = lambda _: True


@dataclass(frozen=True, slots=True)
class StoredProduct:
    """A product as it is stored; `product` is None if it was deleted."""

    product_id: str
    version: int
    product: Product | None
    #: Whether this change made it.
    is_new: bool = False
    #: Whether this change had an effect.
    is_changed: bool = False


@dataclass(frozen=True, slots=True)
class StaleProduct:
    """The product has another version than the change permits; None: there is no such product."""

    product_id: str
    version: int | None


@dataclass(frozen=True, slots=True)
class SkuTaken:
    """Another product sells this SKU."""

    product_id: str
    sku: str
    owner: str


#: What became of a change; None: there is no such product, so it can't be deleted.
ProductResult = StoredProduct | StaleProduct | SkuTaken | None
_Changes = tuple[str, Sequence[PutProduct], int, datetime]


class Products:
    """Writes products for one gateway."""

    def __init__(self, url: str) -> None:
        """Connects on first use. Raises `ValueError`."""
        check_url(url)
        # One for single changes, one for many: no seller's new price waits behind another's whole catalogue.
        self._for_one, self._for_many = _Writer(url), _Writer(url)

    async def change(
        self, seller_id: str, changes: Sequence[PutProduct], partitions: int, now: datetime
    ) -> list[ProductResult]:
        """What became of each change, in their order; one transaction for all of them, at most `CHANGES_MAX`.

        `partitions` is the number of each topic's partitions. What says the same as before changes nothing, so a
        repeat is safe. Raises `PostgresUnavailableError`: then it is unknown whether the changes were made.
        """
        writer = self._for_one if len(changes) == 1 else self._for_many
        return await writer.lane.ask(writer.changes, (seller_id, changes, partitions, now))

    async def close(self) -> None:
        """Close the connections, even hanging ones."""
        for writer in (self._for_one, self._for_many):
            await writer.lane.close(writer.changes)


class _Writer:
    """A connection, and the transactions that run on it one by one."""

    def __init__(self, url: str) -> None:
        self.lane = lane = Lane(url, read_only=False)
        self.changes: MicroBatch[_Changes, list[ProductResult]] = MicroBatch(
            lambda changes: lane.run(lambda session: _change_each(session, changes)), questions_max=1
        )


def product_of(event: bytes) -> ProductChanged:
    """The event of a row."""
    return decode(event, PRODUCT_CHANGED, bytes_max=CATALOGUE_EVENTS.value_bytes_max)[1]


async def _change_each(session: Session, all_changes: list[_Changes]) -> list[list[ProductResult]]:
    return [await _retried(session, *changes) for changes in all_changes]


async def _retried(session: Session, *changes: Any) -> list[ProductResult]:
    for tries_left in reversed(range(_TRIES_MAX)):
        try:
            async with session.pipelined_transaction() as connection:
                return await _Change(connection, *changes).make()
        except psycopg.errors.UniqueViolation:
            if not tries_left:
                raise
    raise AssertionError("unreachable")


@dataclass(slots=True)
class _Row:
    """A product while a transaction has its lock."""

    #: As it was before; 0 if it never was.
    version_before: int
    version: int
    product: Product | None


@dataclass(slots=True)
class _Change:
    """One transaction: what is there is locked and read, then each change is decided, then all is written."""

    connection: Connection
    seller_id: str
    changes: Sequence[PutProduct]
    partitions: int
    now: datetime
    rows: dict[str, _Row] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)
    events: list[tuple[str, bytes]] = field(default_factory=list)

    async def make(self) -> list[ProductResult]:
        """What became of each."""
        await self._lock(sorted({change.product_id for change in self.changes}))
        new = sorted(
            {each.product_id for each in self.changes if each.product_id not in self.rows and _is_wanted(each)}
        )
        if new:
            await self.connection.execute(_MAKE, {"seller_id": self.seller_id, "product_ids": new})
            # They may have been made concurrently.
            await self._lock(new)
        before = {product_id: row.product for product_id, row in self.rows.items()}
        skus = {sku for change in self.changes if change.product is not None for sku in skus_of(change.product)}
        skus |= {sku for product in before.values() if product is not None for sku in skus_of(product)}
        owners = await self._read_owners(sorted(skus))
        self.owners = dict(owners)
        self.now = await believed(self.connection, self.now)
        results = [self._decide(change) for change in self.changes]
        if self.events:
            await self._write(before, owners)
        return results

    async def _lock(self, product_ids: list[str]) -> None:
        cursor = await self.connection.execute(_LOCK, {"seller_id": self.seller_id, "product_ids": product_ids})
        for product_id, version, is_deleted, event in await cursor.fetchall():
            product = None if is_deleted else product_of(event)["product"]
            self.rows[product_id] = _Row(version, version, product)

    async def _read_owners(self, skus: list[str]) -> dict[str, str]:
        if not skus:
            return {}
        cursor = await self.connection.execute(_READ_OWNERS, {"seller_id": self.seller_id, "skus": skus})
        return {sku: owner for sku, owner in await cursor.fetchall()}  # noqa: C416

    def _decide(self, change: PutProduct) -> ProductResult:
        row = self.rows.get(change.product_id)
        product_id, product = change.product_id, change.product
        is_there = row is not None and row.product is not None
        if not change.permits(row.version if row is not None and is_there else None):
            return StaleProduct(product_id, row.version if row is not None and is_there else None)
        if row is None or (product is None and not is_there):
            return None
        if product is not None:
            for sku in skus_of(product):
                owner = self.owners.get(sku, product_id)
                if owner != product_id:
                    return SkuTaken(product_id, sku, owner)
        if product == row.product:
            return StoredProduct(product_id, row.version, product)
        for sku in skus_of(row.product) if row.product is not None else ():
            del self.owners[sku]
        for sku in skus_of(product) if product is not None else ():
            self.owners[sku] = product_id
        row.version, row.product = row.version + 1, product
        event: ProductChanged = {
            "seller_id": self.seller_id,
            "product_id": product_id,
            "version": row.version,
            "product": product,
            "occurred_at": micros(self.now),
        }
        self.events.append((product_id, encode(PRODUCT_CHANGED, event)))
        return StoredProduct(product_id, row.version, product, is_new=not is_there, is_changed=True)

    async def _write(self, before: dict[str, Product | None], owners: dict[str, str]) -> None:
        of_seller = {"seller_id": self.seller_id}
        freed = [sku for sku, owner in owners.items() if self.owners.get(sku) != owner]
        if freed:
            await self.connection.execute(_FREE_SKUS, {**of_seller, "skus": freed})
        if taken := {sku: owner for sku, owner in self.owners.items() if owners.get(sku) != owner}:
            rows = {"skus": list(taken), "product_ids": list(taken.values())}
            await self.connection.execute(_TAKE_SKUS, {**of_seller, **rows})
        places = {(place, each) for each, product in before.items() if product for place in found_in(product)}
        after = {(place, each) for each, row in self.rows.items() if row.product for place in found_in(row.product)}
        for statement, moved in ((_LEAVE_CATEGORIES, places - after), (_JOIN_CATEGORIES, after - places)):
            if moved:
                rows = {"categories": [place for place, _ in moved], "product_ids": [each for _, each in moved]}
                await self.connection.execute(statement, {**of_seller, **rows})
        last = dict(self.events)
        written = {product_id: self.rows[product_id] for product_id in last}
        values = {
            "product_ids": list(written),
            "versions": [row.version for row in written.values()],
            "deleted": [row.product is None for row in written.values()],
            "events": list(last.values()),
        }
        await self.connection.execute(_WRITE, {**of_seller, **values})
        output: dict[journal.OutputKey, list[JournalRow]] = {}
        for product_id, event in self.events:
            key = product_id.encode()
            place = CATALOGUE_EVENTS.name, partition_of(key, self.partitions)
            output.setdefault(place, []).append(JournalRow(key, event, self.now))
        await journal.append(self.connection, output)


def _is_wanted(change: PutProduct) -> bool:
    """Whether a product that is not there yet is to be made."""
    return change.product is not None and change.permits(None)
