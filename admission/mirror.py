"""The mirror: Redis' copy of stock levels, updated with what Postgres has decided.

All calls may be repeated, late or concurrent: versions determine which change is newer and which was counted.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from admission.admission_call import StockCalls
from domain.reservation import Level

#: Longer than a gateway's limit, since no client waits for these calls.
CALL_SECONDS_MAX = 2.0
#: Events per call: Redis serves nothing else meanwhile, about 10 µs per event.
EVENTS_MAX = 200
#: SKUs in one call.
SKUS_MAX = 500
SHARDS_MAX = 64
#: Holds examined in one round, those that expire first.
HOLDS_MAX = 5_000


class StockMove(NamedTuple):
    """A change of a SKU: by how much `free` changed (0 if unknown), and the level after it."""

    sku: str
    by: int
    on_hand: int
    free: int
    version: int


class MirrorEvent(NamedTuple):
    """A decision in the form that `stock.lua` takes. Created by the functions below."""

    what: str
    order_id: str
    argument: Any = None


def stock_changed(order_id: str, changes: Sequence[StockMove]) -> MirrorEvent:
    """Stock was reserved, released, shipped or set; '' if no order caused it. Ends the order's hold."""
    return MirrorEvent("s", order_id, changes)


def placed(order_id: str) -> MirrorEvent:
    """The order was placed. Its hold stays until the change of stock arrives."""
    return MirrorEvent("p", order_id)


def undecided(order_id: str) -> MirrorEvent:
    """No order was created: its hold is released, and the id may be used again."""
    return MirrorEvent("d", order_id, False)


def refused(order_id: str) -> MirrorEvent:
    """The order is finally refused: its hold is released."""
    return MirrorEvent("d", order_id, True)


def conflicted(order_id: str) -> MirrorEvent:
    """The id was used again with other content. A hold belongs to the first order, unless that was decided long ago."""
    return MirrorEvent("c", order_id)


class Ticked(NamedTuple):
    """The result of `Mirror.tick`."""

    #: Whether this server has a full copy.
    complete: bool
    #: The id of the server, as `Mirror.complete` needs it.
    run_id: str
    #: SKUs that have a waitlist.
    waitlisted: list[str]
    #: Milliseconds until the next hold or place expires: 0 if there is a waitlist, None if nothing will expire.
    due_ms: int | None


class Due(NamedTuple):
    """The sellers that a worker must check."""

    #: Since this worker asked last, the server was replaced or lost its data.
    is_new: bool
    sellers: list[str]


@dataclass(frozen=True, slots=True)
class Mirrored:
    """A SKU's state in Redis."""

    version: int
    #: Version of the newest change received; above `version` while an earlier one is missing.
    newest_version: int
    free: int
    held: int
    #: Sum over the holds; equal to `held` unless something was lost.
    held_by_holds: int
    #: What may still be admitted.
    available: int


class Mirror:
    """Writes stock to Redis. Every method raises `RedisUnavailableError`."""

    def __init__(self, url: str) -> None:
        """Connects on first use. Raises `ValueError` for an invalid Redis URL."""
        self._calls = StockCalls(url, call_seconds_max=CALL_SECONDS_MAX)

    async def apply(self, seller_id: str, events: Sequence[MirrorEvent]) -> None:
        """Apply decisions, in the order of the log."""
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
        """Set these levels unless Redis has counted later changes, and end the holds of the decided orders.

        At most `SKUS_MAX` levels. With `force`, later changes are overwritten too, because Postgres was restored to an
        earlier state. `shards` is the number of shards of each SKU; 0 leaves it unchanged.
        """
        rows = [[sku, level.free, level.on_hand, level.version, shards] for sku, level in levels]
        await self._calls.run(seller_id, "adopt", [rows, list(decided), force])

    async def read(self, seller_id: str, skus: Sequence[str]) -> dict[str, Mirrored]:
        """The state of these SKUs in Redis, at most `SKUS_MAX`; unknown ones are absent."""
        answers = await self._calls.run(seller_id, "audit", list(skus))
        return {
            sku: Mirrored(version, newest, free, held, held_by_holds, available)
            for sku, (version, *rest) in zip(skus, answers, strict=True)
            if version >= 0
            for free, held, held_by_holds, available, newest in [rest]
        }

    async def held(self, seller_id: str) -> dict[str, dict[str, int]]:
        """The pieces that each order holds, by order and SKU; at most `HOLDS_MAX` orders, those that expire first."""
        answers = await self._calls.run(seller_id, "held", [HOLDS_MAX])
        return {order_id: dict(zip(pieces[::2], pieces[1::2], strict=True)) for order_id, pieces in answers}

    async def tick(self, seller_id: str) -> "Ticked":
        """End expired holds and places, and serve the waitlists."""
        complete, run_id, waitlisted, due_ms = await self._calls.run(seller_id, "tick", [])
        return Ticked(bool(complete), run_id, waitlisted, None if due_ms < 0 else due_ms)

    async def take_due(self, worker: str, limit: int) -> Due:
        """Take at most `limit` sellers with expired holds or places, or with a waitlist.

        Each is given to one worker; `worker` is a name that no other process has.
        """
        is_new, sellers = await self._calls.run_due(worker, "take", [limit])
        return Due(bool(is_new), sellers)

    async def note_due(self, due: Iterable[tuple[str, int]]) -> None:
        """Schedule a check of these sellers, each in the given number of milliseconds."""
        await self._calls.run_due("", "note", list(due))

    async def limit_waitlists(self, seller_id: str, obtainables: Sequence[tuple[str, int, int]]) -> None:
        """Report how many pieces of these SKUs can still be obtained: `(sku, pieces, version)` as of Postgres' version.

        Orders on the waitlist that want more get `SoldOut`. At most `SKUS_MAX`.
        """
        await self._calls.run(seller_id, "limit", obtainables)

    async def complete(self, seller_id: str, run_id: str) -> bool:
        """Mark the seller's stock as fully copied to the server `run_id`; False if another server runs by now."""
        [said] = await self._calls.run(seller_id, "complete", [run_id])
        return bool(said)

    async def close(self) -> None:
        """Close the connections."""
        await self._calls.close()
