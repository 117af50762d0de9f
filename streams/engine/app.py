"""Wires an agent's process: settings in, a running Faust app out. Nothing connects at import."""

import asyncio
import faulthandler
import gc
import logging
import signal
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import uvloop

from runtime import metrics
from runtime.exits import fatal, start_thread
from runtime.health import ProcessHealth
from runtime.outages import KAFKA, POSTGRES
from runtime.roles import READERS
from runtime.settings import ENV_PREFIX, Settings, SettingsError
from sinks.agreement import await_agreement, watch_agreement
from sinks.postgres.positions import read_positions
from sinks.postgres.session import OUTAGES, Connection, Session
from streams.engine.batch import transactions
from streams.engine.combiner import Combiner, Executor
from streams.engine.in_place import InPlace
from streams.engine.log_probe import make_log_probe
from streams.engine.transport import NOT_ASSIGNED, BatchApp, ReadPositions, make_app
from streams.engine.work import Work, Worker

_log = logging.getLogger(__name__)

_Result = TypeVar("_Result")

#: Joining the group, a rebalance or a table's recovery that takes longer hangs: Faust retries some errors for ever
#: without a word.
_SETTLE_DEADLINE_S = 90.0
_STOP_DEADLINE_S = 10.0
#: A loop that does nothing for so long is stuck; the largest batch takes it a few seconds.
_STANDSTILL_S_MAX = 30
_POSITIONS_PAUSE_S = 0.5
#: Transactions at once: while one waits for Postgres, another is prepared.
_EXECUTORS = 2


@dataclass(frozen=True, slots=True)
class Wired:
    """What an agent's module makes of its settings."""

    #: Does the batches of all topics that the role reads; `Batch.topic` tells them apart. Made once an executor, with
    #: the session that its transactions are on, which is free while a batch is prepared.
    work: Callable[[Session], Work[Any]]
    #: Bytes of values in one transaction: bounds its memory and its time, whatever the records are.
    batch_bytes_max: int
    #: The least time between two fetches, in which records gather; after a silence one is answered at once. Each fetch
    #: sets off a transaction, which costs up to 10 ms of CPU with all that follows from it: the buyer's wait against
    #: the machine.
    gather_s: float = 0.03
    #: Runs beside the batches until it is cancelled; its end, other than that, is a bug.
    service: Callable[[], Awaitable[None]] | None = None
    #: Called when the worker stops.
    close: Callable[[], None] = lambda: None


def run_agent(
    role: str, settings: Settings, wire: Callable[[BatchApp], Wired], *, batch_records_max: int | None = None
) -> None:
    """Run a worker of `role` until SIGTERM. Raises `SettingsError`."""
    _make_folder(settings.worker_data)
    health = ProcessHealth()
    health.checks["partitions"] = lambda: "not assigned yet"
    metrics.serve(settings.metrics_host, settings.metrics_port, health)
    servers = settings.postgres_url.get_secret_value(), settings.kafka_bootstrap
    partitions = await_agreement(*servers, agent=role)
    health.reached("Kafka")
    health.reached("Postgres")
    start_thread("agreement", watch_agreement, *servers)
    # What the imports made stays: it need not be looked through each time.
    gc.freeze()
    batch_records_max = min(settings.batch_records_max, batch_records_max or settings.batch_records_max)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(role, settings, wire, partitions, batch_records_max, health))


def _make_folder(folder: Path) -> None:
    """Make the worker's folder, and those above it. Raises `SettingsError`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        where = f"{ENV_PREFIX}WORKER_DATA: {folder} can't be made: {error.strerror or error}"
        raise SettingsError(f"{where}; name a folder that this user may make and write") from None


async def _serve(
    role: str,
    settings: Settings,
    wire: Callable[[BatchApp], Wired],
    partitions: int,
    batch_records_max: int,
    health: ProcessHealth,
) -> None:
    health.watch(asyncio.get_running_loop())
    url = settings.postgres_url.get_secret_value()
    positions = Session(url)
    app = make_app(
        role,
        bootstrap=settings.kafka_bootstrap,
        partitions=partitions,
        slot=settings.worker_slot,
        datadir=str(settings.worker_data),
        batch_records_max=batch_records_max,
        read_positions=positions_reader(role, positions),
    )
    health.checks["partitions"] = app.partitions_state
    wired = wire(app)
    app.gather_s = wired.gather_s
    probe = make_log_probe(settings.kafka_bootstrap)
    sessions = [Session(url) for _ in range(_EXECUTORS)]
    combiner = Combiner(
        [
            Executor(Worker(session, probe), InPlace(wired.work(session), partitions, lambda: datetime.now(UTC)))
            for session in sessions
        ],
        records_max=batch_records_max,
        bytes_max=wired.batch_bytes_max,
    )

    def consume(stream: Any) -> AsyncIterator[None]:
        return _consume(stream, combiner, wired.batch_bytes_max, batch_records_max)

    for topic in READERS[role]:
        source = app.topic(topic.name, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")
        app.agent(source, name=f"{role} {topic.name}", isolated_partitions=True, concurrency=1)(consume)
    try:
        await _run_until_stopped(app, wired.service)
    finally:
        wired.close()
        await combiner.close()
        for session in (positions, *sessions):
            await session.close()


def positions_reader(role: str, session: Session) -> ReadPositions:
    """Reads the role's positions, one call after the other: Faust's seek and its recovery ask at once."""
    reading = asyncio.Lock()

    async def read(topic: str, partitions: list[int]) -> Mapping[int, int]:
        async with reading:
            return await _patiently(session, lambda each: read_positions(each, role, topic, partitions))

    return read


async def _consume(stream: Any, combiner: Combiner, bytes_max: int, records_max: int) -> AsyncIterator[None]:
    """Have the batches of one partition done until it is revoked or the worker stops."""
    async for event in stream.events():
        events = [event, *_waiting(stream.channel.queue, records_max - len(event.message.batch.records))]
        for batch in transactions((each.message.batch for each in events), bytes_max):
            await combiner.do(batch)
        # Faust acknowledges the first itself.
        for each in events[1:]:
            each.ack()
        yield


def _waiting(queue: Any, records_max: int) -> Iterator[Any]:
    """Events that came while the last batch was done, up to so many records.

    Each fetch is an event, and under load fetches are many and small: done together they cost one transaction.
    """
    while records_max > 0 and not queue.empty():
        event = queue.get_nowait()
        records_max -= len(event.message.batch.records)
        yield event


async def _run_until_stopped(app: BatchApp, service: Callable[[], Awaitable[None]] | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    app.finalize()
    app.in_worker = True
    start_thread("watch", watch_loop, loop, _STANDSTILL_S_MAX)
    # Starting takes until partitions are there, which may be long or never: it is watched, and can be stopped, too.
    beside = [asyncio.create_task(watch_app(app)), asyncio.create_task(_start(app, service))]
    await stop.wait()
    for task in beside:
        task.cancel()
    try:
        async with asyncio.timeout(_STOP_DEADLINE_S):
            await asyncio.wait(beside)
            await app.stop()
    except TimeoutError:
        _log.warning("the worker did not stop within %d s and is ended: its position holds", _STOP_DEADLINE_S)


async def _start(app: BatchApp, service: Callable[[], Awaitable[None]] | None) -> None:
    """Start Faust, and then what runs beside its batches."""
    try:
        await app.start()
    except Exception as error:  # noqa: BLE001
        fatal("Faust does not start", error)
    if service is None:
        return
    try:
        await service()
    except Exception as error:  # noqa: BLE001
        fatal("what runs beside the batches failed", error)
    fatal("what runs beside the batches has ended")


def watch_loop(loop: asyncio.AbstractEventLoop, turns_max: int, turn_s: float = 1.0) -> None:
    """End the process when its loop stands still, saying where; to be run in a thread. Returns when the loop is closed.

    Counts its own turns and not the clock's seconds: who was stopped as a whole has missed nothing.
    """
    while True:
        alive = threading.Event()
        try:
            loop.call_soon_threadsafe(alive.set)
        except RuntimeError:
            return
        missed = 0
        while not alive.wait(turn_s):
            # Closed with our question still in its queue.
            if loop.is_closed():
                return
            missed += 1
            if missed >= turns_max:
                faulthandler.dump_traceback()
                fatal(f"the event loop has stood still for {missed * turn_s:g} s")
        time.sleep(turn_s)


async def watch_app(app: BatchApp, deadline_s: float = _SETTLE_DEADLINE_S, turn_s: float = 1.0) -> None:
    """End the process when Faust has crashed, or has been joining its group or taking partitions up for too long."""
    loop = asyncio.get_running_loop()
    settled_at = loop.time()
    while True:
        await asyncio.sleep(turn_s)
        KAFKA.look_for_silence()
        if app.crashed or app.should_stop:
            fatal("Faust has stopped", app.crash_reason)
        state = app.partitions_state()
        # While the brokers are away there is no group to join.
        if state == "ok" or (state == NOT_ASSIGNED and KAFKA.reason is not None):
            settled_at = loop.time()
        elif loop.time() - settled_at > deadline_s:
            fatal(f"partitions {state}, for more than {deadline_s:g} s")


async def _patiently(session: Session, act: Callable[[Connection], Awaitable[_Result]]) -> _Result:
    """Do it, however long Postgres is unavailable.

    Faust gives up what takes too long, which ends the process; the next one waits before it starts Faust.
    """
    while True:
        try:
            async with session.connection() as connection:
                done = await act(connection)
        except OUTAGES as error:
            POSTGRES.failed(error)
            await asyncio.sleep(_POSITIONS_PAUSE_S)
        else:
            POSTGRES.answered()
            return done
