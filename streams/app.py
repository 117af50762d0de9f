"""Wires an agent's process: settings in, a running Faust app out. Nothing connects at import."""

import asyncio
import faulthandler
import gc
import logging
import signal
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import uvloop

from runtime import metrics
from runtime.exits import fatal
from runtime.kafka import TopicError, missing_topics
from runtime.settings import Settings
from schemas import catalog
from sinks.postgres.positions import read_positions
from sinks.postgres.session import OUTAGES, Connection, Session
from streams.batch import transactions
from streams.log_probe import make_log_probe
from streams.transport import BatchApp, make_app
from streams.work import Work, Worker

_log = logging.getLogger(__name__)

#: A rebalance or a table's recovery that takes longer hangs: Faust retries some errors for ever without a word.
_SETTLE_DEADLINE_S = 90.0
_STOP_DEADLINE_S = 10.0
#: A loop that does nothing for so long is stuck; the largest batch takes it a few seconds.
_STANDSTILL_S_MAX = 30
_TOPICS_PAUSE_S = 0.5
_POSITIONS_PAUSE_S = 0.5
_PACE_A_RECORD_S = 0.006


@dataclass(frozen=True, slots=True)
class Wired:
    """What an agent's module makes of its settings."""

    #: Every topic is read by the same work; `Batch.topic` tells them apart.
    topics: tuple[catalog.Topic, ...]
    work: Work[Any]
    #: Bytes of values in one transaction: bounds its memory and its time, whatever the records are.
    batch_bytes_max: int
    #: From the beginning of a partition's batch to that of its next, at least and at most: see `_pace_s`.
    pace_s: tuple[float, float] = (0.1, 0.5)
    #: Runs beside the batches until it is cancelled; its end, other than that, is a bug.
    service: Callable[[], Awaitable[None]] | None = None
    #: Called when the worker stops.
    close: Callable[[], None] = lambda: None


def run_agent(
    role: str, settings: Settings, wire: Callable[[BatchApp], Wired], *, batch_records_max: int | None = None
) -> None:
    """Run a worker of `role` until SIGTERM."""
    metrics.serve(settings.metrics_host, settings.metrics_port)
    # A batch makes some 50,000 small objects, all dropped at its end: collected every 700, they cost 10% of the rate.
    gc.set_threshold(100_000, 20, 100)
    # What the imports made stays: it need not be looked through each time.
    gc.freeze()
    batch_records_max = min(settings.batch_records_max, batch_records_max or settings.batch_records_max)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(role, settings, wire, batch_records_max))


async def _serve(role: str, settings: Settings, wire: Callable[[BatchApp], Wired], batch_records_max: int) -> None:
    url = settings.postgres_url.get_secret_value()
    positions = Session(url)

    async def read(topic: str, partitions: list[int]) -> Mapping[int, int]:
        return await _read_positions(positions, role, topic, partitions)

    app = make_app(
        role,
        bootstrap=settings.kafka_bootstrap,
        slot=settings.worker_slot,
        datadir=str(settings.worker_data),
        batch_records_max=batch_records_max,
        read_positions=read,
    )
    wired = wire(app)
    workers: dict[tuple[str, int], Worker] = {}
    probe = make_log_probe(settings.kafka_bootstrap)

    async def consume(stream: Any) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        begin_at = 0.0
        async for event in stream.events():
            await asyncio.sleep(begin_at - loop.time())
            began_at = loop.time()
            events = [event, *_waiting(stream.channel.queue, batch_records_max - len(event.message.batch.records))]
            records = sum(len(each.message.batch.records) for each in events)
            begin_at = began_at + _pace_s(records, *wired.pace_s)
            for batch in transactions((each.message.batch for each in events), wired.batch_bytes_max):
                source = (batch.topic, batch.partition)
                if source not in workers:
                    workers[source] = Worker(Session(url), probe)
                await workers[source].run(wired.work, batch)
            # Faust acknowledges the first itself.
            for each in events[1:]:
                each.ack()
            yield

    for topic in wired.topics:
        source = app.topic(topic.name, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")
        app.agent(source, name=f"{role} {topic.name}", isolated_partitions=True, concurrency=1)(consume)
    try:
        await _until_topics_are_known(role, settings.kafka_bootstrap, wired.topics)
        # Faust gives up soon what Postgres keeps waiting; here it may take as long as it takes.
        await _until_connected(role, positions)
        await _run_until_stopped(app, wired.service)
    finally:
        wired.close()


async def _until_topics_are_known(role: str, bootstrap: str, topics: Iterable[catalog.Topic]) -> None:
    """Return once the brokers are there and know what is to be read. Faust would end, or start with nothing to read."""
    told = ""
    while True:
        try:
            missing = await asyncio.to_thread(missing_topics, bootstrap, [topic.name for topic in topics])
            reason = f"the brokers don't know {', '.join(missing)}" if missing else ""
        except TopicError as error:
            reason = str(error)
        if not reason:
            return
        if reason != told:
            _log.warning("%s waits for Kafka: %s", role, reason)
            told = reason
        await asyncio.sleep(_TOPICS_PAUSE_S)


def _pace_s(records: int, at_least: float, at_most: float) -> float:
    """From the beginning of a batch of so many records to that of the next; after a silence nothing is waited for.

    A transaction costs up to 10 ms of CPU with what it sets off elsewhere, however few records it is for. Begun sooner,
    the agents of a small machine are so busy with it that all of them are slower: the more comes, the longer it pays to
    gather.
    """
    return min(at_least + records * _PACE_A_RECORD_S, at_most)


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
    threading.Thread(target=watch_loop, args=(loop, _STANDSTILL_S_MAX), name="watch", daemon=True).start()
    # Starting takes until partitions are there, which may be long or never: it is watched, and can be stopped, too.
    beside = [asyncio.create_task(_watch(app)), asyncio.create_task(_start(app, service))]
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
            missed += 1
            if missed >= turns_max:
                faulthandler.dump_traceback()
                fatal(f"the event loop has stood still for {missed * turn_s:g} s")
        time.sleep(turn_s)


async def _watch(app: BatchApp) -> None:
    """End the process when Faust has crashed, or has been settling for too long."""
    loop = asyncio.get_running_loop()
    settled_at = loop.time()
    while True:
        await asyncio.sleep(1.0)
        if app.crashed or app.should_stop:
            fatal("Faust has stopped", app.crash_reason)
        if not (app.rebalancing or app.in_recovery):
            settled_at = loop.time()
        elif loop.time() - settled_at > _SETTLE_DEADLINE_S:
            fatal(f"rebalancing or recovering for more than {_SETTLE_DEADLINE_S:.0f} s")


async def _read_positions(session: Session, agent: str, topic: str, partitions: list[int]) -> dict[int, int]:
    while True:
        try:
            return await read_positions(await _until_connected(agent, session), agent, topic, partitions)
        except OUTAGES as error:
            # Faust gives up if this takes too long, which ends the process; the next one waits before it starts Faust.
            await _wait_for_positions(agent, session, error)


async def _until_connected(agent: str, session: Session) -> Connection:
    while True:
        try:
            return await session.connection()
        except OUTAGES as error:
            await _wait_for_positions(agent, session, error)


async def _wait_for_positions(agent: str, session: Session, error: Exception) -> None:
    _log.warning("%s waits for its positions: %s", agent, next(iter(str(error).splitlines()), ""))
    await session.close()
    await asyncio.sleep(_POSITIONS_PAUSE_S)
