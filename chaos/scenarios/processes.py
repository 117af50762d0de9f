"""Faults of our own processes: killed at any step, stopped and continued late, joining and leaving."""

import asyncio
import random
import signal
import statistics
import time
from collections.abc import Callable

from chaos.grounds import WAYS
from chaos.observe import all_moved, batches, numbers, positions
from chaos.scenario import scenario
from chaos.world import World
from runtime.roles import READERS

#: Roles with two workers, and the topic that they share.
_SHARED = {"checkouts": "checkout-requests", "invoices": "invoice-requests"}
#: A silent worker's partitions move when its session has expired, after 6 s, and the group has rebalanced.
_MOVED_S_MAX = 120.0
_STOPPED_S_MAX = 60.0
_WORK_S_MAX = 120.0
_REFUSED_S_MAX = 30.0
_FIRST_NUMBER_S_MAX = 240.0
_POLL_S = 0.05


@scenario(
    1, "kill -9 of any agent at any step", "one effect per order; numbers 1..n in every series; seqs without gaps"
)
async def kill_any(world: World) -> None:
    """Kill a random process about every second, sometimes two at once; they are restarted at once."""
    names = world.processes()
    gaps: list[float] = []
    measuring: set[asyncio.Task[None]] = set()
    async with world.traffic():
        async for _ in world.turns(0.3, 1.5):
            for name in world.chance.sample(names, world.chance.choice((1, 1, 1, 2))):
                await world.restart(name)
                if name.startswith("invoices"):
                    measuring.add(asyncio.create_task(_first_numbers(world, gaps)))
        await asyncio.gather(*measuring)
    if gaps:
        world.measured["kill of an invoices worker → a new number in every series, median, s"] = statistics.median(gaps)
        world.measured["kill of an invoices worker → a new number in every series, worst, s"] = max(gaps)


async def _first_numbers(world: World, gaps: list[float]) -> None:
    """Measure how long it takes until every series of invoices has a new number. Each partition has one series."""
    began = time.monotonic()
    before = await asyncio.to_thread(numbers, world)
    while time.monotonic() < began + _FIRST_NUMBER_S_MAX:
        after = await asyncio.to_thread(numbers, world)
        if all(after.get(series, 0) > number for series, number in before.items() if ".invoice." in series):
            gaps.append(time.monotonic() - began)
            return
        await asyncio.sleep(_POLL_S)
    world.found.append(f"some series had no new number within {_FIRST_NUMBER_S_MAX:g} s after a kill")


@scenario(
    2,
    "a worker is stopped for up to 60 s, its partitions move, it continues",
    "each of its late writes is refused",
    WAYS,
)
async def wake_in_another_world(world: World) -> None:
    """Stop workers with a transaction under way, which arrives when other workers have taken over."""
    async with world.traffic():
        # Concurrently, each role with a random source of its own, because their order depends on the machine.
        chances = {role: random.Random(world.chance.random()) for role in _SHARED}
        refused = sum(await asyncio.gather(*(_sleepers(world, role, chance) for role, chance in chances.items())))
    world.measured["late batches refused"] = refused
    if not refused:
        world.found.append("no late write was refused, so nothing was tested")


async def _sleepers(world: World, role: str, chance: random.Random) -> int:
    """Stop workers of the role, one after the other; returns how many of their batches were refused."""
    names = world.processes(role)
    refused = 0
    async for _ in world.turns(1.0, 3.0, chance):
        refused += await _sleep_and_wake(world, role, chance.choice(names), chance)
    return refused


async def _sleep_and_wake(world: World, role: str, name: str, chance: random.Random) -> int:
    """Stop and continue one worker; returns how many of its batches were refused afterwards."""
    way = world.proxy(name, "postgres")
    done = await asyncio.to_thread(batches, world, name, "next")
    # A worker that has just joined may have no work yet, and so nothing to lose.
    await world.until(lambda: batches(world, name, "next") > done + 1, f"{name} has work", _WORK_S_MAX)
    before = await asyncio.to_thread(batches, world, name, "done")
    pid = world.stack.process_pid(name)
    # What the worker sends now is delivered only after others have committed the same.
    way.freeze()
    await asyncio.sleep(chance.uniform(0.3, 1.0))
    world.send(name, signal.SIGSTOP)
    stopped_at = time.monotonic()
    stood = await asyncio.to_thread(positions, world, role)
    if await world.until(
        lambda: all_moved(stood, positions(world, role), _SHARED[role], world.partitions),
        f"the partitions of {name} moved",
        _MOVED_S_MAX,
    ):
        world.timeline.note(f"the partitions of {name} have moved, {time.monotonic() - stopped_at:.1f} s after")
    rest = min(_STOPPED_S_MAX, world.seconds / 3) - (time.monotonic() - stopped_at)
    await asyncio.sleep(max(0.0, rest * chance.random()))
    world.send(name, signal.SIGCONT)
    way.heal()
    refused = await _grown(lambda: batches(world, name, "done"), before)
    again = "" if world.stack.process_pid(name) == pid else ", and was restarted"
    world.timeline.note(f"{name} was refused {refused} late batches{again}")
    return refused


async def _grown(count: Callable[[], int], before: int) -> int:
    """By how much a count has grown, measured when it has stood still for a second."""
    give_up_at = time.monotonic() + _REFUSED_S_MAX
    last, still_since = before, time.monotonic()
    while time.monotonic() < give_up_at:
        now = await asyncio.to_thread(count)
        if now != last:
            last, still_since = now, time.monotonic()
        if last > before and time.monotonic() > still_since + 1.0:
            break
        await asyncio.sleep(_POLL_S)
    return max(0, last - before)


@scenario(3, "workers join and leave every 2 s under load", "order per key preserved, no duplicates, lag drains")
async def join_and_leave(world: World) -> None:
    """Each turn a worker leaves, by SIGTERM or SIGKILL, or one that left joins again; some stay down for long."""
    names = world.processes(*READERS)
    away: set[str] = set()
    async with world.traffic():
        async for _ in world.turns(2.0, 2.0):
            name = world.chance.choice(names)
            if name in away:
                world.release(name)
                away.discard(name)
            else:
                world.hold(name, world.chance.choice((signal.SIGTERM, signal.SIGKILL)))
                away.add(name)
