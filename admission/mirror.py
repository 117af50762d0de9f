"""The mirror: what Redis knows of stock, kept after what Postgres has decided.

Everything here may be done twice, late, or by two at once: versions say which change is newer, and what was counted.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from admission.admission_call import StockCalls
from domain.reservation import Level

#: Longer than a gateway waits: nobody's answer hangs on it.
CALL_SECONDS_MAX = 2.0
#: Events in one call: Redis answers nobody else for their time, some 10 µs each.
EVENTS_MAX = 200
#: SKUs in one call.
SKUS_MAX = 500
SHARDS_MAX = 64
#: Holds that are looked at in one round, those first that end first.
HOLDS_MAX = 5_000


class StockMove(NamedTuple):
    """A change of a SKU: by how much `free` moved (0 where that is not known), and the level after it."""

    sku: str
    by: int
    on_hand: int
    free: int
    version: int


class MirrorEvent(NamedTuple):
    """Something decided, as `stock.lua` takes it. Made by the functions below."""

    what: str
    order_id: str
    argument: Any = None


def stock_changed(order_id: str, changes: Sequence[StockMove]) -> MirrorEvent:
    """Stock was claimed, given back, sent off or set; '' where no order is behind it. The order's hold is done with."""
    return MirrorEvent("s", order_id, changes)


def placed(order_id: str) -> MirrorEvent:
    """The order has its stock: the change that says so ends its hold."""
    return MirrorEvent("p", order_id)


def undecided(order_id: str) -> MirrorEvent:
    """There is no order: what was held for it is free, and the id may come again."""
    return MirrorEvent("d", order_id, False)


def refused(order_id: str) -> MirrorEvent:
    """The order is refused for good: what was held for it is free."""
    return MirrorEvent("d", order_id, True)


def conflicted(order_id: str) -> MirrorEvent:
    """The id came again with other content: a hold is its first order's, unless that was decided long ago."""
    return MirrorEvent("c", order_id)


class Ticked(NamedTuple):
    """What a look at Redis shows."""

    #: Whether this server has a full copy.
    complete: bool
    #: Which server it is: `Mirror.complete` wants it.
    run_id: str
    #: SKUs that have a waitlist.
    waitlisted: list[str]
    #: When the next hold or place ends, 0 while there is a waitlist; None where nothing waits for its time.
    due_ms: int | None


class Due(NamedTuple):
    """What a worker is to look at."""

    #: The server is another one, or has lost its data, since this worker asked last.
    is_new: bool
    sellers: list[str]


@dataclass(frozen=True, slots=True)
class Mirrored:
    """A SKU as Redis has it."""

    version: int
    #: Newest change that was seen; above `version` while one before it is missing.
    newest_version: int
    free: int
    held: int
    #: Pieces of the holds themselves; equal to `held` unless something was lost.
    held_by_holds: int
    #: What may still be admitted.
    available: int


class Mirror:
    """Writes Redis' side. Every method raises `RedisAwayError`."""

    def __init__(self, url: str) -> None:
        """Connects when first asked. Raises `ValueError` for what is no URL of Redis."""
        self._calls = StockCalls(url, call_seconds_max=CALL_SECONDS_MAX)

    async def apply(self, seller_id: str, events: Sequence[MirrorEvent]) -> None:
        """Apply what was decided, in the order of the log."""
        for first in range(0, len(events), EVENTS_MAX):
            await self._calls.run(seller_id, "mirror", events[first : first + EVENTS_MAX])

    async def adopt(
        self,
        seller_id: str,
        levels: Iterable[tuple[str, Level]],
        decided: Iterable[str] = (),
        *,
        force: bool = False,
        shards: int = 0,
    ) -> None:
        """Take these levels, unless Redis has counted later changes, and end the holds of these decided orders.

        At most `SKUS_MAX` levels. With `force`, later changes are not believed: Postgres has gone back. `shards` cuts
        each of the SKUs into so many; 0 keeps what it has.
        """
        rows = [[sku, level.free, level.on_hand, level.version, shards] for sku, level in levels]
        await self._calls.run(seller_id, "adopt", [rows, list(decided), force])

    async def read(self, seller_id: str, skus: Sequence[str]) -> dict[str, Mirrored]:
        """What Redis knows of these SKUs, at most `SKUS_MAX`."""
        answers = await self._calls.run(seller_id, "audit", list(skus))
        return {
            sku: Mirrored(version, newest, free, held, held_by_holds, available)
            for sku, (version, *rest) in zip(skus, answers, strict=True)
            if version >= 0
            for free, held, held_by_holds, available, newest in [rest]
        }

    async def held(self, seller_id: str) -> dict[str, dict[str, int]]:
        """Orders that hold, and their pieces by SKU; at most `HOLDS_MAX`."""
        answers = await self._calls.run(seller_id, "held", [HOLDS_MAX])
        return {order_id: dict(zip(pieces[::2], pieces[1::2], strict=True)) for order_id, pieces in answers}

    async def tick(self, seller_id: str) -> "Ticked":
        """End the holds and places that have expired, and serve the waitlists."""
        complete, run_id, waitlisted, due_ms = await self._calls.run(seller_id, "tick", [])
        return Ticked(bool(complete), run_id, waitlisted, None if due_ms < 0 else due_ms)

    async def take_due(self, worker: str, limit: int) -> Due:
        """Sellers of whose stock something has expired, or a SKU has a waitlist, at most `limit`.

        Each is given to one worker; `worker` is a name that no other process has.
        """
        is_new, sellers = await self._calls.run_due(worker, "take", [limit])
        return Due(bool(is_new), sellers)

    async def note_due(self, due: Iterable[tuple[str, int]]) -> None:
        """Have these sellers looked at, each so many milliseconds from now."""
        await self._calls.run_due("", "note", list(due))

    async def limit_waitlists(self, seller_id: str, obtainables: Sequence[tuple[str, int, int]]) -> None:
        """Say how many pieces of these SKUs may still be had, each `(sku, pieces, version)` as Postgres has it.

        Orders on the waitlist that want more than that get `SoldOut`; at most `SKUS_MAX`.
        """
        await self._calls.run(seller_id, "limit", obtainables)

    async def complete(self, seller_id: str, run_id: str) -> bool:
        """Say that all of the seller's stock was copied while this server ran; False if another runs by now."""
        [said] = await self._calls.run(seller_id, "complete", [run_id])
        return bool(said)

    async def close(self) -> None:
        """Close the connections."""
        await self._calls.close()
