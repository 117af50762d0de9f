"""Changes of stock by the seller: one transaction for the row and its event."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString

from domain.moments import micros
from domain.records import SkuChange, StockChanged
from domain.reservation import Level
from schemas.catalog import INVENTORY_EVENTS, STOCK_CHANGED
from schemas.codec import encode
from schemas.placement import partition_of
from sinks.microbatch import MicroBatch
from sinks.postgres import journal
from sinks.postgres.journal import JournalRow
from sinks.postgres.lanes import Lane, check_url
from sinks.postgres.orders_reader import StockRow
from sinks.postgres.session import Connection, Session, believed

_LOCK: LiteralString = """
    SELECT on_hand, reserved, version FROM stock WHERE seller_id = %(seller_id)s AND sku = %(sku)s FOR UPDATE
"""

_MAKE: LiteralString = """
    INSERT INTO stock (seller_id, sku, on_hand) VALUES (%(seller_id)s, %(sku)s, 0) ON CONFLICT DO NOTHING
"""

_WRITE: LiteralString = """
    UPDATE stock SET on_hand = %(on_hand)s, version = %(version)s WHERE seller_id = %(seller_id)s AND sku = %(sku)s
"""

_READ_ADJUSTMENT: LiteralString = """
    SELECT adjust FROM stock_adjustments WHERE seller_id = %(seller_id)s AND sku = %(sku)s AND key = %(key)s
"""

_WRITE_ADJUSTMENT: LiteralString = """
    INSERT INTO stock_adjustments (seller_id, sku, key, adjust, version, occurred_at)
    VALUES (%(seller_id)s, %(sku)s, %(key)s, %(adjust)s, %(version)s, %(now)s)
"""


@dataclass(frozen=True, slots=True)
class SetOnHand:
    """Set the pieces in the warehouse."""

    seller_id: str
    sku: str
    on_hand: int


@dataclass(frozen=True, slots=True)
class Adjust:
    """Change the pieces in the warehouse by a number, once for its key."""

    seller_id: str
    sku: str
    adjust: int
    key: str


@dataclass(frozen=True, slots=True)
class Held:
    """Refused: fewer pieces would remain than orders hold, or fewer than none."""

    on_hand: int
    reserved: int


@dataclass(frozen=True, slots=True)
class KeyTaken:
    """Refused: the key was used for another adjustment."""

    adjust: int


@dataclass(frozen=True, slots=True)
class Stale:
    """Refused: the caller does not permit the SKU's version; None if it has no row."""

    version: int | None


Wish = SetOnHand | Adjust
Result = StockRow | Held | KeyTaken | Stale
#: Whether a SKU of this version may be changed; the version is None if it has no row.
Permits = Callable[[int | None], bool]
_Change = tuple[Wish, int, datetime, Permits]


class Stock:
    """Writes stock for one gateway, one change at a time."""

    def __init__(self, url: str, *, events: str = INVENTORY_EVENTS.name) -> None:
        """Connects on first use. Raises `ValueError`."""
        check_url(url)
        self._events = events
        self._lane = lane = Lane(url, read_only=False)
        self._changes: MicroBatch[_Change, Result] = MicroBatch(
            lambda wishes: lane.run(lambda session: self._change(session, wishes)), questions_max=1
        )

    async def change(self, wish: Wish, partitions: int, now: datetime, permits: Permits = lambda _: True) -> Result:
        """The row after the change, or why it was refused.

        `partitions` is the number of each topic's partitions. `permits` is called with the locked version, except for
        an adjustment that was made before. Raises `PostgresUnavailableError`: then it is unknown whether the change was
        made. Repeating an adjustment is safe. Setting pieces again could undo shipments made meanwhile, unless
        `permits` prevents it.
        """
        return await self._lane.ask(self._changes, (wish, partitions, now, permits))

    async def close(self) -> None:
        """Close the connection, even a hanging one."""
        await self._lane.close(self._changes)

    async def _change(self, session: Session, wishes: list[_Change]) -> list[Result]:
        results = []
        for change in wishes:
            async with session.pipelined_transaction() as connection:
                results.append(await self._change_one(connection, *change))
        return results

    async def _change_one(
        self, connection: Connection, wish: Wish, partitions: int, now: datetime, permits: Permits
    ) -> Result:
        before = await _lock(connection, wish)
        is_new = before is None
        level = before or Level(0, 0, 0)
        if isinstance(wish, Adjust):
            taken = None if is_new else await _adjustment(connection, wish)
            if taken is not None:
                return _row(wish, level) if taken == wish.adjust else KeyTaken(taken)
        version = None if is_new else level.version
        if not permits(version):
            return Stale(version)
        if isinstance(wish, Adjust):
            on_hand = level.on_hand + wish.adjust
        else:
            on_hand = wish.on_hand
            if not is_new and on_hand == level.on_hand:
                return _row(wish, level)
        if on_hand < level.reserved:
            return Held(level.on_hand, level.reserved)
        if is_new:
            level = await _make(connection, wish)
            # The row may have been created concurrently: then decide again, with what it contains.
            if level.version:
                return await self._change_one(connection, wish, partitions, now, permits)
        now = await believed(connection, now)
        after = Level(on_hand, level.reserved, level.version + 1)
        key = {"seller_id": wish.seller_id, "sku": wish.sku}
        await connection.execute(_WRITE, {**key, "on_hand": after.on_hand, "version": after.version})
        if isinstance(wish, Adjust):
            parameters = {**key, "key": wish.key, "adjust": wish.adjust, "version": after.version, "now": now}
            await connection.execute(_WRITE_ADJUSTMENT, parameters)
        partition = partition_of(wish.sku.encode(), partitions)
        await journal.append(connection, {(self._events, partition): [_event(wish, level, after, now)]})
        return _row(wish, after)


async def _lock(connection: Connection, wish: Wish) -> Level | None:
    cursor = await connection.execute(_LOCK, {"seller_id": wish.seller_id, "sku": wish.sku})
    row = await cursor.fetchone()
    return None if row is None else Level(*row)


async def _make(connection: Connection, wish: Wish) -> Level:
    await connection.execute(_MAKE, {"seller_id": wish.seller_id, "sku": wish.sku})
    level = await _lock(connection, wish)
    if level is None:
        raise LookupError(f"the row of {wish.sku!r} was made and is not there")
    return level


async def _adjustment(connection: Connection, wish: Adjust) -> int | None:
    cursor = await connection.execute(_READ_ADJUSTMENT, {"seller_id": wish.seller_id, "sku": wish.sku, "key": wish.key})
    row = await cursor.fetchone()
    return None if row is None else int(row[0])


def _row(wish: Wish, level: Level) -> StockRow:
    return StockRow(wish.sku, level.on_hand, level.reserved, level.version)


def _event(wish: Wish, before: Level, after: Level, now: datetime) -> JournalRow:
    change: SkuChange = {
        "sku": wish.sku,
        "quantity": after.on_hand - before.on_hand,
        "on_hand": after.on_hand,
        "reserved": after.reserved,
        "version": after.version,
    }
    value: StockChanged = {
        "seller_id": wish.seller_id,
        "order_id": "",
        "cause": "adjusted" if isinstance(wish, Adjust) else "set",
        "changes": [change],
        "occurred_at": micros(now),
    }
    return JournalRow(wish.sku.encode(), encode(STOCK_CHANGED, value), now)
