"""Faults of the servers and of the connections to them: the broker, Postgres and its disk, the relay's connections."""

import asyncio
import contextlib
import signal
import statistics
import time
from functools import partial

import psycopg

from chaos.disk import Disk, small_disk
from chaos.grounds import WAYS
from chaos.observe import Probe, batches, comes, numbers, probing, repeats, settled_ends
from chaos.proxy import Proxy
from chaos.scenario import scenario
from chaos.world import World

#: The longest that a server is down; shorter in short runs.
_DOWN_S_MAX = 10.0
_TAKEN_AGAIN_S_MAX = 60.0
_CAUGHT_S_MAX = 20.0
_COMMIT_S_MAX = 3.0
_RESUMED_S_MAX = 60.0
_FULL_S_MAX = 10.0
_SEGMENTS_MAX = 200
#: The statement by which the relay marks what it has published, as sent to Postgres.
_MARK = b"INSERT INTO journal_published"
_COMMITTERS = ("checkouts", "payments", "orders", "invoices", "documents", "analytics")


@scenario(4, "the broker is killed -9", "no acknowledged request is missing", WAYS)
async def kill_the_broker(world: World) -> None:
    """The broker is down for some seconds; in between, the gateway's connections to it are cut or frozen."""
    waited: list[float] = []
    way = world.proxy("gateway", "kafka")
    async with world.traffic(), probing(world) as probe:
        async for _ in world.turns(1.0, 4.0):
            waited.append(await _broker_away(world, probe))
            for _ in range(world.chance.randrange(1, 4)):
                await asyncio.sleep(world.chance.uniform(0.1, 0.5))
                if world.chance.random() < 0.7:
                    world.timeline.befell(f"{way.cut()} connections from the gateway to the broker are cut")
                else:
                    world.timeline.befell("the connection between the gateway and the broker is frozen")
                    way.freeze()
                    await asyncio.sleep(world.chance.uniform(0.2, 2.0))
                    way.heal()
    world.measured["broker may start again → first 202, median, s"] = statistics.median(waited)
    world.measured["broker may start again → first 202, worst, s"] = max(waited)
    world.measured["answers 503 with Retry-After"] = sum(each.status == 503 for each in probe.seen)


async def _broker_away(world: World, probe: Probe) -> float:
    """Stop and restart the broker; returns the seconds until the gateway accepted a request again."""
    world.hold("kafka")
    await asyncio.sleep(world.chance.uniform(0.5, _away_s_max(world)))
    world.release("kafka")
    released_at = time.monotonic()
    taken = "a request is accepted after the broker's start"
    # A request sent before the restart may be acknowledged after it: that counts, too.
    await world.until(
        lambda: any(each.at > released_at and each.status == 202 for each in list(probe.seen)),
        taken,
        _TAKEN_AGAIN_S_MAX,
    )
    seconds = time.monotonic() - released_at
    world.timeline.note(f"the first 202 came {seconds:.1f} s after the broker's start")
    return seconds


@scenario(5, "the relay dies between send and mark", "output contiguous by seq; repeats only of equal bytes", WAYS)
async def kill_the_relay(world: World) -> None:
    """The relay's mark is lost, or done but not answered, after Kafka has the records; then the relay is killed."""
    since = await settled_ends(world)
    marks, kafka = world.proxy("relay", "postgres"), world.proxy("relay", "kafka")
    # A busy machine may have time for two turns only, so the first one always loses a mark and kills the relay.
    is_first = True
    async with world.traffic():
        async for _ in world.turns(0.1, 1.0):
            lost = world.chance.random() < 0.7 or is_first
            marks.cut_at(_MARK, before=lost)
            # A connection sends the statement's text only the first times, and later the name of a prepared statement.
            marks.cut()
            if await world.until(lambda: not marks.armed, "the relay marks what it has sent", _CAUGHT_S_MAX):
                world.timeline.befell(f"the relay's mark was {'lost' if lost else 'done, and not answered'}")
            if world.chance.random() < 0.7 or is_first:
                await world.restart("relay")
            is_first = False
            if world.chance.random() < 0.3:
                world.timeline.befell(f"{kafka.cut()} connections from the relay to the broker are cut")
    again = await _repeats(world, since)
    world.measured["records repeated"] = again
    if not again:
        world.found.append("the relay repeated nothing: it never died between send and mark")


async def _repeats(world: World, since: dict[tuple[str, int], int]) -> int:
    """The number of repeats once everything is published."""
    await world.until_ready()
    last = await settled_ends(world)
    while True:
        await asyncio.sleep(1.0)
        now = await settled_ends(world)
        if now == last:
            return await asyncio.to_thread(repeats, world, since)
        last = now


@scenario(6, "Postgres: the connection drops during COMMIT", "the outcome is determined, one number used", WAYS)
async def lose_commits(world: World) -> None:
    """Cut connections before COMMIT arrives, or after it is done and before its answer, of all committing roles."""
    names = world.processes(*_COMMITTERS)
    ways = {name: world.proxy(name, "postgres") for name in names}
    before = sum([await asyncio.to_thread(batches, world, name, "done") for name in names])
    cuts = sum(way.cuts for way in ways.values())
    lost = {True: 0, False: 0}
    first = world.chance.random() < 0.5
    async with world.traffic():
        async for _ in world.turns(0.2, 1.0):
            lost[first] += await _lose(world, world.chance.choice(names), first)
            first = not first
        for kind in (each for each, count in lost.items() if not count):
            # The chosen process had nothing to commit; these have.
            lost[kind] += await _lose(world, world.chance.choice(world.processes("checkouts", "invoices")), kind)
    found_done = sum([await asyncio.to_thread(batches, world, name, "done") for name in names]) - before
    world.measured["COMMITs lost"] = lost[True]
    world.measured["answers to COMMIT lost"] = lost[False]
    world.measured["batches found done"] = found_done
    if sum(way.cuts for way in ways.values()) <= cuts or not all(lost.values()):
        world.found.append(f"one of the two kinds of loss did not happen: {lost}")


async def _lose(world: World, name: str, before: bool) -> int:
    """Cut some of a process's connections at COMMIT; returns how many were cut."""
    way, times = world.proxy(name, "postgres"), world.chance.randrange(1, 5)
    way.cut_at(b"COMMIT", before=before, times=times)
    # COMMIT is sent as text only in the first transactions of a connection, and each cut makes a new connection.
    way.cut()
    await comes(partial(_sprung, way), _COMMIT_S_MAX)
    caught = times - way.armed
    way.heal()
    world.timeline.befell(f"{name} lost {caught} {'COMMITs' if before else 'answers to COMMIT'}")
    return caught


def _sprung(way: Proxy) -> bool:
    return not way.armed


@scenario(
    7,
    "Postgres restarts, or its disk is full",
    "the gateway keeps accepting; the rest resumes without help",
)
async def lose_postgres(world: World) -> None:
    """Postgres is killed, shut down fast or slowly, or can't write, while the gateway continues to answer 202."""
    back: list[float] = []
    async with small_disk(world) as disk, world.traffic(), probing(world) as probe:
        turn = 0
        async for _ in world.turns(1.0, 3.0):
            begin = time.monotonic()
            if turn % 2 == 0:
                await _disk_full(world, disk)
            else:
                await _restart(world, (signal.SIGKILL, signal.SIGINT, signal.SIGTERM)[turn // 2 % 3])
            over_at = time.monotonic()
            if await _numbered_again(world):
                back.append(time.monotonic() - over_at)
            told = probe.since(begin, over_at)
            taken = sum(each.status in (200, 202) for each in told)
            world.timeline.note(f"the gateway accepted {taken} of {len(told)} requests meanwhile")
            if taken < len(told) or not told:
                world.found.append(f"without Postgres the gateway accepted {taken} of {len(told)} requests")
            turn += 1
    world.measured["Postgres back → new numbers, median, s"] = statistics.median(back)
    world.measured["Postgres back → new numbers, worst, s"] = max(back)
    world.measured["slowest 202, s"] = max(each.seconds for each in probe.seen)


async def _numbered_again(world: World) -> bool:
    """Wait for new numbers, once the present ones can be read; returns whether they came in time."""
    await comes(lambda: bool(numbers(world)), _RESUMED_S_MAX)
    given = sum((await asyncio.to_thread(numbers, world)).values())
    return await world.until(lambda: sum(numbers(world).values()) > given, "numbers are issued again", _RESUMED_S_MAX)


async def _disk_full(world: World, disk: Disk) -> None:
    """Fill the disk until a write fails, and for some time more; half of the times, also until the WAL is full."""
    retried = await asyncio.to_thread(_outages, world)
    await disk.fill()
    if world.chance.random() < 0.5:
        # Postgres prepares WAL segments ahead, so it takes some to reach the full disk.
        await asyncio.to_thread(_use_up_log, world.postgres_url)
    await world.until(
        lambda: _outages(world) > retried or not numbers(world), "a write fails on the full disk", _FULL_S_MAX
    )
    await asyncio.sleep(world.chance.uniform(0.5, _away_s_max(world)))
    await disk.empty()


def _use_up_log(postgres_url: str) -> None:
    with contextlib.suppress(psycopg.Error), psycopg.connect(postgres_url, autocommit=True) as connection:
        for _ in range(_SEGMENTS_MAX):
            connection.execute("SELECT pg_logical_emit_message(false, 'chaos', ''), pg_switch_wal()")


def _outages(world: World) -> float:
    told = [world.metrics(name) for name in world.processes(*_COMMITTERS)]
    return sum(value for each in told for what, value in each.items() if what.startswith("gapless_outage_retries"))


async def _restart(world: World, number: signal.Signals) -> None:
    world.hold("postgres", number)
    if number == signal.SIGTERM:
        # SIGTERM waits for its clients to disconnect, which they don't, and refuses new ones.
        await asyncio.sleep(world.chance.uniform(0.5, _away_s_max(world)))
        world.send("postgres", signal.SIGKILL)
    await asyncio.sleep(world.chance.uniform(0.5, _away_s_max(world)))
    world.release("postgres")


def _away_s_max(world: World) -> float:
    return min(_DOWN_S_MAX, max(1.0, world.seconds / 4))
