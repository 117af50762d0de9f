"""The reconciler: compares Redis' stock with Postgres', and corrects Redis.

Redis is read first. So if its version of a SKU is newer, Postgres was restored to an earlier state. If it is older, the
change may be under way; if it is still older after a moment, the change was lost.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass, field

from admission.mirror import SKUS_MAX, Mirror, Mirrored
from domain.reservation import Level, Sku
from sinks.postgres.levels import read_decided, read_levels, read_skus
from sinks.postgres.session import Session

#: How long a change may take from its commit to Redis before it counts as lost.
GRACE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Drift:
    """A SKU of which Redis would admit a wrong number of pieces."""

    seller_id: str
    sku: str
    #: Pieces that Redis would still admit; None if it does not know the SKU and so admits everything.
    redis: int | None
    #: Free pieces in Postgres, less those held by undecided orders.
    postgres: int
    #: Explanation for people.
    why: str

    @property
    def size(self) -> int:
        """The number of pieces by which Redis is wrong."""
        return abs(self.postgres - (self.redis or 0))


@dataclass(frozen=True, slots=True)
class Looked:
    """A SKU as both have it just now."""

    level: Level
    #: Pieces that Redis would still admit; None if it doesn't know the SKU, and so admits everything.
    redis: int | None
    #: Why that differs from the free pieces in Postgres less those held by undecided orders; empty if it doesn't. A
    #: change may be under way.
    why: str


@dataclass(slots=True)
class _Compared:
    """SKUs as both have them, Redis read first."""

    ours: dict[str, Mirrored]
    theirs: dict[Sku, Level]
    #: Orders that are decided but still hold, and their pieces by SKU.
    decided: dict[str, dict[str, int]]
    drifts: dict[str, Drift] = field(default_factory=dict)
    #: SKUs of which Redis has changes that Postgres does not.
    newer: set[str] = field(default_factory=set)

    def on_its_way(self, sku: str) -> bool:
        """Whether a change that is under way to Redis may explain a drift."""
        ours = self.ours.get(sku)
        if ours is None or sku in self.newer:
            return ours is None
        behind = ours.version < self.theirs[Sku(self.drifts[sku].seller_id, sku)].version
        return behind or any(sku in pieces for pieces in self.decided.values())


class Reconciler:
    """Compares and corrects one seller at a time. Raises `RedisUnavailableError` and Postgres' outages."""

    def __init__(self, mirror: Mirror, session: Session, *, grace_seconds: float = GRACE_SECONDS) -> None:
        self._mirror = mirror
        self._session = session
        self._grace_seconds = grace_seconds

    async def rebuild(self, seller_id: str, run_id: str) -> bool:
        """Copy all of the seller's stock. False if Redis was restarted meanwhile: then call it again."""
        async for skus in self._pages(seller_id):
            compared = await self._compare(seller_id, skus)
            await self._correct(seller_id, compared, skus)
        return await self._mirror.complete(seller_id, run_id)

    async def preload(self, seller_id: str, skus: Sequence[str], shards: int) -> list[str]:
        """Copy these SKUs, each with the given number of shards. Returns those unknown to Postgres."""
        for first in range(0, len(skus), SKUS_MAX):
            some = skus[first : first + SKUS_MAX]
            compared = await self._compare(seller_id, some)
            await self._correct(seller_id, compared, some, shards=shards)
        async with self._session.connection() as connection:
            known = await read_levels(connection, seller_id, skus)
        return [sku for sku in skus if Sku(seller_id, sku) not in known]

    async def look(self, seller_id: str, skus: Sequence[str]) -> dict[str, Looked]:
        """These SKUs as both have them, at most `SKUS_MAX`; those alone that Postgres has. Corrects nothing."""
        compared = await self._compare(seller_id, skus)
        return {
            sku.sku: Looked(
                level,
                compared.ours[sku.sku].available if sku.sku in compared.ours else None,
                compared.drifts[sku.sku].why if sku.sku in compared.drifts else "",
            )
            for sku, level in compared.theirs.items()
        }

    async def reconcile(self, seller_id: str, *, correct: bool) -> list[Drift]:
        """The drifts that last longer than the grace period; all of them are corrected if `correct`."""
        found: list[Drift] = []
        async for skus in self._pages(seller_id):
            first = await self._compare(seller_id, skus)
            if not first.drifts:
                continue
            drifting = first
            if any(first.on_its_way(sku) for sku in first.drifts):
                await asyncio.sleep(self._grace_seconds)
                drifting = await self._compare(seller_id, list(first.drifts))
                _keep_lasting(drifting, first)
            found += drifting.drifts.values()
            if correct:
                await self._correct(seller_id, drifting, list(drifting.drifts))
        return found

    async def _pages(self, seller_id: str) -> AsyncIterator[list[str]]:
        after: str | None = None
        while True:
            async with self._session.connection() as connection:
                skus = await read_skus(connection, seller_id, after=after, limit=SKUS_MAX)
            if skus:
                yield skus
            if len(skus) < SKUS_MAX:
                return
            after = skus[-1]

    async def _compare(self, seller_id: str, skus: Sequence[str]) -> _Compared:
        held = await self._mirror.held(seller_id)
        ours = await self._mirror.read(seller_id, skus)
        async with self._session.connection() as connection:
            # Orders before levels: a claim committed between the two reads then shows as a change under way.
            decided = await read_decided(connection, seller_id, held)
            theirs = await read_levels(connection, seller_id, skus)
        compared = _Compared(ours, theirs, {order_id: held[order_id] for order_id in decided})
        for sku in skus:
            level = theirs.get(Sku(seller_id, sku))
            if level is not None:
                _judge(compared, seller_id, sku, level)
        return compared

    async def _correct(self, seller_id: str, compared: _Compared, skus: Collection[str], *, shards: int = 0) -> None:
        levels = [(sku, compared.theirs[Sku(seller_id, sku)]) for sku in skus if Sku(seller_id, sku) in compared.theirs]
        believed = [level for level in levels if level[0] not in compared.newer]
        gone_back = [level for level in levels if level[0] in compared.newer]
        wanted = set(skus)
        ended = [order_id for order_id, pieces in compared.decided.items() if not wanted.isdisjoint(pieces)]
        await self._mirror.adopt(seller_id, believed, ended, shards=shards)
        if gone_back:
            await self._mirror.adopt(seller_id, gone_back, force=True, shards=shards)


def _judge(compared: _Compared, seller_id: str, sku: str, level: Level) -> None:
    ours = compared.ours.get(sku)
    if ours is None:
        compared.drifts[sku] = Drift(seller_id, sku, None, level.free, "Redis doesn't know the SKU")
        return
    stale = sum(pieces.get(sku, 0) for pieces in compared.decided.values())
    expected = level.free - (ours.held_by_holds - stale)
    if ours.newest_version > level.version:
        compared.newer.add(sku)
        why = f"Redis has seen change {ours.newest_version}, Postgres only {level.version}"
    elif ours.version < level.version:
        why = f"changes {ours.version + 1} to {level.version} have not reached Redis"
    elif ours.held != ours.held_by_holds:
        why = f"Redis counts {ours.held} pieces held, its holds have {ours.held_by_holds}"
    elif stale:
        why = f"{stale} pieces are held for orders that are decided"
    else:
        why = "Redis has all changes, but another number of free pieces"
    if ours.available != expected or sku in compared.newer:
        compared.drifts[sku] = Drift(seller_id, sku, ours.available, expected, why)


def _keep_lasting(now: _Compared, before: _Compared) -> None:
    """Drop the drifts that a change under way explains, except those that the same change explained before."""
    for sku, drift in list(now.drifts.items()):
        if not now.on_its_way(sku):
            continue
        ours = now.ours.get(sku)
        lost = ours is None or ours.version < before.theirs[Sku(drift.seller_id, sku)].version
        if not lost and not any(sku in pieces for order, pieces in now.decided.items() if order in before.decided):
            del now.drifts[sku]
