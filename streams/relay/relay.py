"""The relay: the journal's rows to Kafka, in order, once and again after a crash.

One relay publishes a partition at a time: the holder of an advisory lock. Relays share the partitions evenly. The locks
live in a Postgres session that the server ends after `_IDLE_SESSION_TIMEOUT` of silence, so a relay that is stopped,
not dead, loses them too. What the stopped one still sends when it wakes are repeats: both send each partition in order
from what was marked, so whatever way their records interleave, a consumer that ignores seq ≤ the last it saw has each
event once and sees no hole.

Each partition is sent and acknowledged for itself: one that the brokers don't take delays no other. What several ask of
Postgres at the same moment is one statement.
"""

import asyncio
import functools
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterable
from datetime import datetime
from itertools import starmap
from typing import Any

import psycopg
import uvloop
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from prometheus_client import Counter, Gauge

from runtime import metrics, traces
from runtime.batch_producer import BatchProducer, Record
from runtime.exits import fatal
from runtime.health import ProcessHealth
from runtime.kafka import admin_client, log_client_error
from runtime.metrics import REGISTRY
from runtime.outages import KAFKA, POSTGRES
from runtime.settings import Settings
from runtime.traces import Span
from schemas.catalog import OUTPUT_TOPICS
from sinks.agreement import await_agreement
from sinks.postgres.session import OUTAGES, SQL
from streams.relay.headers import event_headers
from streams.relay.steps import (
    RELAYS_LOCK,
    AwaitAcknowledgements,
    MarkPublished,
    Output,
    Produce,
    ReadJournal,
    RelayProgress,
    RunStatement,
    Steps,
    mark_statement,
    publish,
    read_statement,
    rows_by_output,
    share_outputs,
)

_log = logging.getLogger(__name__)

PUBLISHED = Counter(
    "gapless_relay_published_total", "Journal rows that the brokers have acknowledged.", ["topic"], registry=REGISTRY
)
UNPUBLISHED = Gauge(
    "gapless_relay_unpublished",
    "Journal rows not yet published, by any relay; absent while Postgres is unavailable. Take `max`.",
    ["topic", "partition"],
    registry=REGISTRY,
)
JOURNAL_END = Gauge(
    "gapless_journal_end_timestamp_seconds",
    "End of the last month for which the journal has a partition; `gapless migrate` makes more.",
    registry=REGISTRY,
)
OWNED = Gauge(
    "gapless_relay_partitions",
    "Output partitions that this relay publishes; the sum over relays should be all.",
    registry=REGISTRY,
)

#: A second relay takes over within this and `_SHARE_EVERY_S` of a silent one.
_IDLE_SESSION_TIMEOUT = "5s"
#: How soon a relay that joins gets its share, twice: the others give up theirs, and it takes them. Each look costs
#: Postgres some 0.2 ms.
_SHARE_EVERY_S = 0.5
#: How soon new months of the journal show in the metrics.
_JOURNAL_END_EVERY_S = 60.0
#: How soon a commit is seen. Each look costs Postgres some 0.1 ms.
_POLL_S = 0.005
#: After a round that had rows: what comes meanwhile goes out together. Brokers pay by the request, not by the record.
_ROUND_PAUSE_S = 0.010
_OUTAGE_PAUSE_S = 0.5
#: How long a broker may take to answer who asks whether the relay is ready.
_REACHES_S_MAX = 2.0
#: A relay that stops waits so long for what is under way.
_LAST_ACKNOWLEDGEMENTS_S = 1.0
#: Outputs that are read at once: with `BYTES_MAX` of each they bound what an answer holds.
_READ_MAX = 32


def run(settings: Settings) -> None:
    """Run a relay until SIGTERM. Raises `SettingsError`."""
    health = ProcessHealth()
    metrics.serve(settings.metrics_host, settings.metrics_port, health)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    url, bootstrap = settings.postgres_url.get_secret_value(), settings.kafka_bootstrap
    agree = functools.partial(await_agreement, url, bootstrap, pause=stop.wait)
    relay = Relay(url, bootstrap, stop, agree)
    # Whether it publishes or another one does: both are ready.
    health.checks = {
        "kafka": lambda: _kafka_state(relay.brokers),
        "postgres": lambda: "ok" if relay.is_connected else f"unavailable: {POSTGRES.reason or 'not connected'}",
    }
    relay.run()


class _Publication:
    """The steps of publishing some rows of an output, and how far they are."""

    def __init__(self, steps: Steps[RelayProgress]) -> None:
        self.steps = steps
        #: What to send next.
        self.records: list[Record] = []
        #: Done when the brokers have acknowledged all that was sent.
        self.sending: asyncio.Task[int] | None = None
        #: Of records that are traced.
        self.spans: list[Span] = []

    @property
    def is_acknowledged(self) -> bool:
        """Whether all that was sent is."""
        return self.sending is not None and self.sending.done()


class Relay:
    """Publishes its share of the outputs until told to stop."""

    def __init__(
        self,
        postgres_url: str,
        bootstrap: str,
        stop: threading.Event,
        await_agreement: Callable[[], int | None],
    ) -> None:
        """`await_agreement` returns how many partitions each topic has, once they and the journal belong together.

        None, where `stop` was set before that was known.
        """
        #: To Postgres.
        self.is_connected = False
        self._url = postgres_url
        self._bootstrap = bootstrap
        #: Tells when the brokers go and come, also while there is nothing to send.
        self.brokers = admin_client(bootstrap, log_client_error)
        self._stop = stop
        self._await_agreement = await_agreement
        #: Every output, with its topic's number; known once there is a session.
        self._outputs: dict[Output, int] = {}
        #: Outputs that this relay publishes, and those whose lock it holds: see `share_outputs`.
        self._owned: set[Output] = set()
        self._locked: set[Output] = set()
        #: What is under way, also beyond the end of a session: an output has one batch after the other.
        self._publications: dict[Output, _Publication] = {}
        self._since: dict[Output, datetime] = {}
        #: Outputs that were not published to their end at the last look.
        self._behind: set[Output] = set()

    def run(self) -> None:
        """Return after `stop` is set. Outages are waited out; a record that can't be published ends the process."""
        # It runs while there is nothing to ask Postgres, which is asked without it: a statement costs half as much.
        self._loop = uvloop.new_event_loop()
        self._producer = BatchProducer(self._bootstrap, client_id="gapless-relay", is_compressed=True)
        try:
            self._run()
        finally:
            self._loop.run_until_complete(self._end())
            self._loop.close()

    async def _end(self) -> None:
        for each in self._publications.values():
            if each.sending is not None:
                each.sending.cancel()
        await self._producer.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                # Again for each session: another server may have taken over, without the last commits.
                partitions = self._await_agreement()
                if partitions is None:
                    return
                self._outputs = outputs_of(partitions)
                self._behind = set(self._outputs)
                with self._connect() as connection:
                    self.is_connected = True
                    self._ask(connection, RunStatement("join_relays", {"lock": RELAYS_LOCK}))
                    self._serve(connection)
            except OUTAGES as error:
                POSTGRES.failed(error)
                # Nobody can say how many there are.
                UNPUBLISHED.clear()
                self._pause(_OUTAGE_PAUSE_S)
            finally:
                self.is_connected = False
                # The locks went with the session.
                self._owned.clear()
                self._locked.clear()
                OWNED.set(0)

    def _connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(
            self._url,
            autocommit=True,
            connect_timeout=5,
            # A mark that a crash of Postgres forgets is a repeat, which is harmless: no mark waits for the disk.
            options="-c synchronous_commit=off"
            f" -c idle_session_timeout={_IDLE_SESSION_TIMEOUT} -c statement_timeout=30s"
            # Planned anew each time, a read of the journal costs more for looking at its months than for its rows.
            " -c plan_cache_mode=force_generic_plan",
            keepalives_idle=5,
            tcp_user_timeout=10_000,
        )

    def _serve(self, connection: psycopg.Connection[Any]) -> None:
        share_at = journal_end_at = 0.0
        while not self._stop.is_set():
            if time.monotonic() >= share_at:
                self._share(connection)
                POSTGRES.answered()
                self.brokers.poll(0)
                KAFKA.look_for_silence()
                share_at = time.monotonic() + _SHARE_EVERY_S
            if time.monotonic() >= journal_end_at:
                [(end,)] = self._ask(connection, RunStatement("read_journal_end"))
                JOURNAL_END.set(end)
                journal_end_at = time.monotonic() + _JOURNAL_END_EVERY_S
            self._pause(_ROUND_PAUSE_S if self._round(connection) else _POLL_S)
        if sending := [each.sending for each in self._publications.values() if each.sending is not None]:
            self._loop.run_until_complete(asyncio.wait(sending, timeout=_LAST_ACKNOWLEDGEMENTS_S))
        self._go_on(connection)
        if self._publications:
            _log.info("relay stops with records unacknowledged: the next one repeats them")

    def _pause(self, seconds: float) -> None:
        """Let time pass, in which what is under way goes on."""
        if self._publications:
            self._loop.run_until_complete(asyncio.sleep(seconds))
        else:
            self._stop.wait(seconds)

    def _share(self, connection: psycopg.Connection[Any]) -> None:
        steps = share_outputs(self._outputs, self._locked, self._owned, self._publications)
        answer: Any = None
        try:
            while True:
                step = steps.send(answer)
                answer = self._ask(connection, step) if isinstance(step, RunStatement) else None
        except StopIteration as end:
            if end.value:
                taken = [f"{output.topic}/{output.partition}" for output in end.value]
                _log.info("relay takes up %d partitions", len(taken), extra={"partitions": taken})
        OWNED.set(len(self._owned))

    def _round(self, connection: psycopg.Connection[Any]) -> bool:
        """Mark what has been acknowledged, and send what has come; return whether there was any."""
        worked = self._go_on(connection)
        heads = {
            Output(topic, partition): (published_seq, next_seq - 1 - published_seq)
            for topic, partition, published_seq, next_seq in self._ask(connection, RunStatement("read_unpublished"))
        }
        for output in heads.keys() | self._behind:
            _, count = heads.get(output, (0, 0))
            UNPUBLISHED.labels(output.topic, output.partition).set(count)
        self._behind = set(heads)
        begun = sorted(self._owned & heads.keys() - self._publications.keys())
        for output in begun:
            steps = publish(output, *heads[output], self._since.get(output))
            self._publications[output] = _Publication(steps)
        self._advance(connection, begun)
        return worked or bool(begun)

    def _go_on(self, connection: psycopg.Connection[Any]) -> bool:
        """Finish what the brokers have acknowledged in full; return whether there was any."""
        acknowledged = [output for output, each in self._publications.items() if each.is_acknowledged]
        self._advance(connection, acknowledged)
        return bool(acknowledged)

    def _advance(self, connection: psycopg.Connection[Any], outputs: Iterable[Output]) -> None:
        """Do the steps of publications up to where they wait for the brokers, or to their end."""
        answers: dict[Output, Any] = dict.fromkeys(outputs)
        while answers:
            asked = [step for step in starmap(self._step, answers.items()) if step is not None]
            answers = {}
            reads = [step for step in asked if isinstance(step, ReadJournal)]
            marks = [step for step in asked if isinstance(step, MarkPublished)]
            try:
                for first in range(0, len(reads), _READ_MAX):
                    some = reads[first : first + _READ_MAX]
                    answers |= rows_by_output(some, self._ask(connection, read_statement(some)))
                if marks:
                    self._ask(connection, mark_statement(marks))
                    answers |= dict.fromkeys(step.output for step in marks)
            except OUTAGES:
                # Whether a mark was written is unknown; begun anew, it repeats at most.
                for step in asked:
                    del self._publications[step.output]
                raise

    def _step(self, output: Output, answer: Any) -> ReadJournal | MarkPublished | None:
        """Go on with a publication; what it asks of Postgres, or None where it waits for the brokers or has ended."""
        publication = self._publications[output]
        sent, publication.sending = publication.sending, None
        if sent is not None and (error := sent.exception()) is not None:
            fatal(f"{output.topic}/{output.partition} did not take records", error)
        try:
            while True:
                step = publication.steps.send(answer)
                if isinstance(step, ReadJournal | MarkPublished):
                    return step
                if isinstance(step, AwaitAcknowledgements):
                    records, publication.records = publication.records, []
                    publication.sending = self._loop.create_task(
                        self._producer.send(output.topic, output.partition, records)
                    )
                    return None
                if isinstance(step, Produce):
                    self._add(step, publication)
                answer = None
        except StopIteration as end:
            del self._publications[output]
            published: RelayProgress = end.value
            self._since[output] = published.since
            for span in publication.spans:
                span.end()
            PUBLISHED.labels(output.topic).inc(published.rows)
            return None

    def _ask(self, connection: psycopg.Connection[Any], step: RunStatement) -> Any:
        cursor = connection.execute(SQL[step.statement], step.parameters, binary=step.binary)
        return cursor.fetchall() if cursor.description else None

    def _add(self, step: Produce, publication: _Publication) -> None:
        output = step.output
        if step.traceparent is not None:
            span = traces.follow("PRODUCER", f"publish {output.topic}", step.traceparent)
            if span is not None:
                span.describe(traces.of_partition(output.topic, output.partition))
                span.add({"seq": step.seq})
                publication.spans.append(span)
        publication.records.append(Record(step.key, step.payload, event_headers(step)))


def outputs_of(partitions: int) -> dict[Output, int]:
    """Every output with its topic's number, where each topic has so many partitions."""
    return {
        Output(topic.name, partition): number
        for number, topic in enumerate(OUTPUT_TOPICS)
        for partition in range(partitions)
    }


def _kafka_state(admin: AdminClient) -> str:
    try:
        admin.list_topics(OUTPUT_TOPICS[0].name, timeout=_REACHES_S_MAX)
    except KafkaException as error:
        return f"unavailable: {KAFKA.reason or error.args[0].str()}"
    return "ok"
