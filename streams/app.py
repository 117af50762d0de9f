"""Wires an agent's process: settings in, a running Faust app out. Nothing connects at import."""

import asyncio
import logging
import signal
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import uvloop
from sinks.object_store.store import open_store

from runtime import metrics
from runtime.exits import fatal
from runtime.settings import Settings
from schemas import catalog
from sinks.postgres.positions import read_positions
from sinks.postgres.session import OUTAGES, Session
from streams import relay
from streams.dedupe_table import add_dedupe_table
from streams.documents import DocumentsWork
from streams.invoices import InvoicesWork
from streams.log_probe import make_log_probe
from streams.rendering import Renderer
from streams.transport import BatchApp, make_app
from streams.work import Work, Worker

_log = logging.getLogger(__name__)

#: A rebalance or a table's recovery that takes longer hangs: Faust retries some errors for ever without a word.
_SETTLE_DEADLINE_S = 90.0
_STOP_DEADLINE_S = 10.0
_POSITIONS_PAUSE_S = 0.5


def run_invoices(settings: Settings) -> None:
    """Run an invoices worker until SIGTERM."""

    def wire(app: BatchApp) -> tuple[catalog.Topic, Work[Any], Callable[[], None]]:
        table = add_dedupe_table(app, "issued", catalog.PARTITIONS)
        if table.changelog_topic_name != catalog.INVOICES_CHANGELOG.name:
            raise ValueError(f"the catalogue does not know the changelog {table.changelog_topic_name}")
        return catalog.INVOICE_REQUESTS, InvoicesWork(table, _now), lambda: None

    _run("invoices", settings, wire)


def run_documents(settings: Settings) -> None:
    """Run a documents worker until SIGTERM."""

    def wire(_: BatchApp) -> tuple[catalog.Topic, Work[Any], Callable[[], None]]:
        renderer = Renderer(settings.render_processes)
        reads = Session(settings.postgres_url.get_secret_value())
        work = DocumentsWork(open_store(settings), renderer, reads, _now)
        return catalog.INVOICE_EVENTS, work, renderer.close

    _run("documents", settings, wire)


def run_relay(settings: Settings) -> None:
    """Run a relay until SIGTERM."""
    metrics.serve(settings.metrics_host, settings.metrics_port)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    producer = relay.make_producer(settings.kafka_bootstrap)
    relay.Relay(settings.postgres_url.get_secret_value(), producer, stop).run()


#: Roles of `gapless worker ROLE`.
ROLES: dict[str, Callable[[Settings], None]] = {"invoices": run_invoices, "documents": run_documents}


def _run(
    role: str,
    settings: Settings,
    wire: Callable[[BatchApp], tuple[catalog.Topic, Work[Any], Callable[[], None]]],
) -> None:
    metrics.serve(settings.metrics_host, settings.metrics_port)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(role, settings, wire))


async def _serve(
    role: str,
    settings: Settings,
    wire: Callable[[BatchApp], tuple[catalog.Topic, Work[Any], Callable[[], None]]],
) -> None:
    url = settings.postgres_url.get_secret_value()
    positions = Session(url)

    async def read(topic: str, partitions: list[int]) -> Mapping[int, int]:
        return await _read_positions(positions, role, topic, partitions)

    app = make_app(
        role,
        bootstrap=settings.kafka_bootstrap,
        slot=settings.worker_slot,
        datadir=str(settings.worker_data),
        batch_records_max=settings.batch_records_max,
        read_positions=read,
    )
    topic, work, close = wire(app)
    workers: dict[int, Worker] = {}
    probe = make_log_probe(settings.kafka_bootstrap)

    async def consume(stream: Any) -> AsyncIterator[None]:
        async for event in stream.events():
            batch = event.message.batch
            if batch.partition not in workers:
                workers[batch.partition] = Worker(Session(url), probe)
            await workers[batch.partition].run(work, batch)
            yield

    source = app.topic(topic.name, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")
    app.agent(source, name=role, isolated_partitions=True, concurrency=1)(consume)
    try:
        await _run_until_stopped(app)
    finally:
        close()


async def _run_until_stopped(app: BatchApp) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    app.finalize()
    app.in_worker = True
    await app.start()
    watch = asyncio.create_task(_watch(app))
    await stop.wait()
    watch.cancel()
    try:
        await asyncio.wait_for(app.stop(), _STOP_DEADLINE_S)
    except TimeoutError:
        _log.warning("the worker did not stop within %d s and is ended: its position holds", _STOP_DEADLINE_S)


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
            return await read_positions(await session.connection(), agent, topic, partitions)
        except OUTAGES as error:
            # The watch ends the process if this takes too long; the next one waits here again.
            _log.warning("%s waits for its positions: %s", agent, next(iter(str(error).splitlines()), ""))
            await session.close()
            await asyncio.sleep(_POSITIONS_PAUSE_S)


def _now() -> datetime:
    return datetime.now(UTC)
