"""The relay: the journal's rows to Kafka, in order, once and again after a crash.

One relay publishes a partition at a time: the holder of an advisory lock. The lock lives in a Postgres session that
the server ends after `_IDLE_SESSION_TIMEOUT` of silence, so a relay that is stopped, not dead, loses it too. What the
stopped one still sends when it wakes are repeats: both send each partition in order from what was marked, so whatever
way their records interleave, a consumer that ignores seq ≤ the last it saw has each event once and sees no hole.
"""

import logging
import signal
import threading
import time
from datetime import datetime
from typing import Any, TypeVar, cast

import psycopg
from confluent_kafka import KafkaError, KafkaException, Message, Producer
from prometheus_client import Counter, Gauge

from runtime import metrics
from runtime.exits import fatal
from runtime.metrics import REGISTRY
from runtime.settings import Settings
from schemas.catalog import OUTPUT_TOPICS, PARTITIONS, SEQ_HEADER
from sinks.postgres.session import OUTAGES
from sinks.postgres.sql import SQL
from streams.relay_steps import (
    Ask,
    AwaitAcknowledgements,
    Output,
    Send,
    Steps,
    Waiting,
    lock_outputs,
    publish_round,
)

_log = logging.getLogger(__name__)

PUBLISHED = Counter(
    "gapless_relay_published_total", "Journal rows acknowledged by the brokers.", ["topic"], registry=REGISTRY
)
UNPUBLISHED = Gauge(
    "gapless_relay_unpublished", "Journal rows not yet published.", ["topic", "partition"], registry=REGISTRY
)
OWNED = Gauge("gapless_relay_partitions", "Output partitions that this relay publishes.", registry=REGISTRY)

#: A second relay takes over within this and `_LOCK_EVERY_S` of a silent one.
_IDLE_SESSION_TIMEOUT = "5s"
_LOCK_EVERY_S = 1.0
#: How soon a commit is seen. Each look costs Postgres some 0.1 ms.
_POLL_S = 0.005
#: After a round that had rows: what comes meanwhile goes out together. Brokers pay by the request, not by the record.
_ROUND_PAUSE_S = 0.010
_OUTAGE_PAUSE_S = 0.5

#: Every output, with its topic's number.
_OUTPUTS = {
    Output(topic.name, partition): number
    for number, topic in enumerate(OUTPUT_TOPICS)
    for partition in range(PARTITIONS)
}


_Answer = TypeVar("_Answer")


def run(settings: Settings) -> None:
    """Run a relay until SIGTERM."""
    metrics.serve(settings.metrics_host, settings.metrics_port)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    Relay(settings.postgres_url.get_secret_value(), make_producer(settings.kafka_bootstrap), stop).run()


class Relay:
    """Publishes what it can lock until told to stop."""

    def __init__(self, postgres_url: str, producer: Producer, stop: threading.Event) -> None:
        self._url = postgres_url
        self._producer = producer
        self._stop = stop
        self._owned: set[Output] = set()
        self._since: dict[Output, datetime] = {}

    def run(self) -> None:
        """Return after `stop` is set. Outages are waited out; a record that can't be published ends the process."""
        while not self._stop.is_set():
            try:
                with self._connect() as connection:
                    self._serve(connection)
            except OUTAGES as error:
                _log.warning("relay waits for Postgres: %s", next(iter(str(error).splitlines()), ""))
                self._stop.wait(_OUTAGE_PAUSE_S)
            finally:
                # The locks went with the session.
                self._owned.clear()
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
        lock_at = 0.0
        while not self._stop.is_set():
            if time.monotonic() >= lock_at:
                self._lock(connection)
                lock_at = time.monotonic() + _LOCK_EVERY_S
            self._stop.wait(_ROUND_PAUSE_S if self._round(connection) else _POLL_S)

    def _lock(self, connection: psycopg.Connection[Any]) -> None:
        for output in self._run(connection, lock_outputs(_OUTPUTS, self._owned)):
            _log.info("relay publishes %s/%d", output.topic, output.partition)
        OWNED.set(len(self._owned))

    def _round(self, connection: psycopg.Connection[Any]) -> bool:
        """Publish once from each partition that has something; return whether any had."""
        return self._run(connection, publish_round(self._owned, self._since))

    def _run(self, connection: psycopg.Connection[Any], steps: Steps[_Answer]) -> _Answer:
        """Do the steps, one after the other, and return what they come to."""
        answer: Any = None
        while True:
            try:
                step = steps.send(answer)
            except StopIteration as end:
                return cast(_Answer, end.value)
            answer = None
            if isinstance(step, Send):
                self._send(step.output, step.seq, step.key, step.payload)
            elif isinstance(step, Ask):
                cursor = connection.execute(SQL[step.statement], step.parameters, binary=step.binary)
                answer = cursor.fetchall() if cursor.description else None
            elif isinstance(step, AwaitAcknowledgements):
                self._await_acknowledgements(connection)
            elif isinstance(step, Waiting):
                UNPUBLISHED.labels(step.output.topic, step.output.partition).set(step.rows)
            else:
                PUBLISHED.labels(step.output.topic).inc(step.rows)
                UNPUBLISHED.labels(step.output.topic, step.output.partition).dec(step.rows)

    def _send(self, output: Output, seq: int, key: bytes | None, payload: bytes) -> None:
        while True:
            try:
                self._producer.produce(
                    output.topic,
                    value=payload,
                    key=key,
                    partition=output.partition,
                    headers=[(SEQ_HEADER, str(seq).encode())],
                    on_delivery=_check_delivery,
                )
            except BufferError:
                self._producer.poll(0.1)
            except KafkaException as error:
                fatal(f"{output.topic}/{output.partition} seq {seq} can't be published", error)
            else:
                return

    def _await_acknowledgements(self, connection: psycopg.Connection[Any]) -> None:
        # The session speaks meanwhile: silent for longer it would be ended, and the locks with it.
        while self._producer.flush(1.0):
            connection.execute("SELECT 1")
            if self._stop.is_set():
                _log.info("relay stops with records unacknowledged: the next one repeats them")
                raise SystemExit(0)


def make_producer(bootstrap: str) -> Producer:
    """A producer that keeps order through retries and never gives a record up."""
    return Producer(
        {
            "bootstrap.servers": bootstrap,
            "acks": "all",
            "enable.idempotence": True,
            # For ever: a record given up while a later one goes through would be a hole in the topic.
            "message.timeout.ms": 0,
            "linger.ms": 1,
            "compression.type": "lz4",
            "message.max.bytes": 8 * 1024 * 1024,
            "queue.buffering.max.messages": 100_000,
            "queue.buffering.max.kbytes": 65_536,
            "reconnect.backoff.max.ms": 1_000,
            "error_cb": _on_error,
            "log_level": 3,
        }
    )


def _check_delivery(error: KafkaError | None, message: Message) -> None:
    if error is not None:
        fatal(f"{message.topic()}/{message.partition()} did not take a record: {error.str()}")


def _on_error(error: KafkaError) -> None:
    if error.fatal():
        fatal(f"the producer can't go on: {error.str()}")
    _log.warning("relay waits for Kafka: %s", error.str())
