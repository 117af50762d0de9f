"""Faults of local disks and of the object store: tables lost and damaged, puts that fail or are not answered."""

import asyncio
import random
import shutil
import signal
import statistics
import time
from functools import partial
from pathlib import Path

from chaos.object_store import Mood, ObjectServer
from chaos.observe import comes, numbers
from chaos.scenario import WORKERS, Ground, scenario
from chaos.world import World

_DOWN_S_MAX = 30.0
_BACK_S_MAX = 60.0
#: Bytes flipped in a file; enough to hit one that matters.
_FLIPS = 64
#: The object store's faults, each for a while.
_MOODS = (
    ("answers 503", Mood(refuses=1.0)),
    ("stores half of the objects without an answer", Mood(forgets_to_answer=0.5)),
    ("is slow", Mood(slow_s=3.0)),
    ("has all of these faults", Mood(refuses=0.3, cuts=0.2, forgets_to_answer=0.2, slow_s=0.5)),
)
_AWAY_S_MAX = 60.0
_NUMBERED_S_MAX = 20.0
#: A worker that was killed has to start and join its group first, which has taken half a minute on a busy machine.
_PUT_S_MAX = 60.0
#: More writes than a worker tries until it is killed.
_CUTS = 1_000
_OBJECTS = Ground(workers=dict(WORKERS), detours={"documents-1": ("postgres",)}, object_server=True)


@scenario(17, "a worker's RocksDB folder is deleted or corrupted", "rebuilt; no duplicate effect")
async def lose_tables(world: World) -> None:
    """Delete the whole folder, or flip bytes in its files, while the worker runs or while it is down."""
    names = world.processes("checkouts", "invoices")
    torn = 0
    async with world.traffic():
        async for _ in world.turns(0.5, 2.0):
            name = world.chance.choice(names)
            folder = Path(world.stack.environment(name)["GAPLESS_WORKER_DATA"])
            held = world.chance.random() < 0.6
            if held:
                world.hold(name, world.chance.choice((signal.SIGKILL, signal.SIGTERM)))
                await world.until(lambda: world.stack.process_pid(name) is None, f"{name} is down", _DOWN_S_MAX)  # noqa: B023
            torn += _spoil(world, folder, name, may_delete=torn > 0)
            if held:
                world.release(name)
            elif world.chance.random() < 0.5:
                # Otherwise it continues with what it has in memory, and finds the damage by itself, or never.
                await world.restart(name)
            await world.until(lambda: _runs(world, name), f"{name} runs again", _BACK_S_MAX)  # noqa: B023
    if not torn:
        world.found.append("no table's bytes were changed")


def _runs(world: World, name: str) -> bool:
    return any(each["name"] == name and each["state"] == "running" for each in world.stack.status()["processes"])


def _spoil(world: World, folder: Path, name: str, *, may_delete: bool) -> int:
    """Delete a worker's folder, or flip bytes in files of its tables; returns the number of damaged files."""
    files = sorted(file for file in folder.rglob("*.db/*") if file.is_file() and file.name not in ("LOCK", "LOG"))
    if not files or (may_delete and world.chance.random() < 0.4):
        shutil.rmtree(folder, ignore_errors=True)
        world.timeline.befell(f"the folder of {name} is deleted")
        return 0
    kinds = [kind for kind in ("*.sst", "MANIFEST-*", "CURRENT", "*.log") if any(file.match(kind) for file in files)]
    kind = world.chance.choice(kinds)
    chosen = [file for file in files if file.match(kind)]
    for file in chosen:
        _flip(file, world.chance)
    world.timeline.befell(f"bytes are flipped in {len(chosen)} files of {name}: {kind}")
    return len(chosen)


def _flip(file: Path, chance: random.Random) -> None:
    try:
        with file.open("r+b") as opened:
            size = opened.seek(0, 2)
            for at in {chance.randrange(size) for _ in range(_FLIPS)} if size else ():
                opened.seek(at)
                byte = opened.read(1)[0]
                opened.seek(at)
                opened.write(bytes([byte ^ (1 << chance.randrange(8))]))
    except FileNotFoundError:
        # Removed by a compaction meanwhile.
        return


@scenario(
    16,
    "object store answers 503, is slow, or dies between put and mark",
    "same key and bytes on retry; the order path is not affected",
    _OBJECTS,
)
async def lose_the_object_store(world: World) -> None:
    """Each fault for a while, and the documents worker is killed after an object is stored and before its row."""
    store = world.objects
    store.chance = random.Random(f"{world.seed}/objects")
    waited: list[float] = []
    #: At each death between put and mark, how many objects had been put again.
    deaths: list[int] = []
    turn = world.chance.randrange(len(_MOODS))
    async with world.traffic():
        async for _ in world.turns(0.2, 1.0):
            asked = store.requests
            what, store.mood = _MOODS[turn % len(_MOODS)]
            world.timeline.befell(f"the object store {what}")
            until = time.monotonic() + world.chance.uniform(1.0, min(_AWAY_S_MAX, max(1.5, world.seconds / 4)))
            while not waited or time.monotonic() < until:
                waited.append(await _next_number(world))
            await world.until(partial(_asked_since, store, asked), "a request reached the object store", _PUT_S_MAX)
            store.mood = Mood()
            deaths += await _die_between(world)
            turn += 1
    if deaths:
        # Nothing but this death has an object put again: the store has no faults from before it.
        again = "what was put before the last death is put again"
        await world.until(lambda: store.again > deaths[-1], again, _PUT_S_MAX)
    world.measured["next number while the store is unavailable, median, s"] = statistics.median(waited)
    world.measured["next number while the store is unavailable, worst, s"] = max(waited)
    world.measured["requests that the store failed"] = store.faults
    world.measured["objects put again"] = store.again
    if store.changed:
        world.found.append(f"{len(store.changed)} objects were put with other bytes: {store.changed[:5]}")
    world.measured["deaths between put and mark"] = len(deaths)
    if not deaths:
        world.found.append("the worker never died between put and mark")


def _asked_since(store: ObjectServer, requests: int) -> bool:
    return store.requests > requests


async def _next_number(world: World) -> float:
    given = sum((await asyncio.to_thread(numbers, world)).values())
    began = time.monotonic()
    goes_on = "numbers are issued while the object store is unavailable"
    await world.until(lambda: sum(numbers(world).values()) > given, goes_on, _NUMBERED_S_MAX)
    return time.monotonic() - began


async def _die_between(world: World) -> list[int]:
    """Kill the documents worker after it has stored an object and before it can record that.

    Returns how many objects had been put again until then; nothing if it had none to put.
    """
    way = world.proxy("documents-1", "postgres")
    # It can read what it is to print, and only its write is lost: each, as it tries again until it is dead.
    way.cut_at(b"INSERT INTO documents", before=True, times=_CUTS)
    # A connection sends the statement's text only the first times, and later the name of a prepared statement.
    way.cut()
    put = await comes(lambda: way.armed < _CUTS, _PUT_S_MAX)
    again = world.objects.again
    await world.restart("documents-1")
    way.heal()
    world.timeline.note("documents-1 died between put and mark" if put else "documents-1 had nothing to put")
    return [again] if put else []
