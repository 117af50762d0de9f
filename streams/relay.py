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
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

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
#: Rows of one partition in one round: bounds memory, and what a crash repeats.
_ROWS_MAX = 2_000
#: How soon a commit is seen. Each look costs Postgres some 0.1 ms.
_POLL_S = 0.005
#: After a round that had rows: what comes meanwhile goes out together. Brokers pay by the request, not by the record.
_ROUND_PAUSE_S = 0.010
_OUTAGE_PAUSE_S = 0.5
#: Clocks of different workers differ: rows are looked for this far behind the newest published.
_CLOCK_SLACK = timedelta(days=1)

_TOPIC_NUMBERS = {topic.name: number for number, topic in enumerate(OUTPUT_TOPICS)}


@dataclass(frozen=True, slots=True)
class _Output:
    topic: str
    partition: int


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
        self._owned: set[_Output] = set()
        self._since: dict[_Output, datetime] = {}

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
            options=f"-c idle_session_timeout={_IDLE_SESSION_TIMEOUT} -c statement_timeout=30s"
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
        for topic, number in _TOPIC_NUMBERS.items():
            for partition in range(PARTITIONS):
                output = _Output(topic, partition)
                if output in self._owned:
                    continue
                row = connection.execute(
                    SQL["lock_output"], {"topic_number": number, "partition": partition}
                ).fetchone()
                if row is not None and row[0]:
                    self._owned.add(output)
                    _log.info("relay publishes %s/%d", topic, partition)
        OWNED.set(len(self._owned))

    def _round(self, connection: psycopg.Connection[Any]) -> bool:
        """Publish once from each partition that has something; return whether any had."""
        sent: list[tuple[_Output, int, datetime, int]] = []
        for topic, partition, published_seq, next_seq in connection.execute(SQL["read_unpublished"]).fetchall():
            output = _Output(topic, partition)
            UNPUBLISHED.labels(topic, partition).set(next_seq - 1 - published_seq)
            if output in self._owned:
                rows = self._read(connection, output, published_seq, min(_ROWS_MAX, next_seq - 1 - published_seq))
                for seq, key, payload, _ in rows:
                    self._send(output, seq, key, payload)
                sent.append((output, rows[-1][0], rows[-1][3], len(rows)))
        if not sent:
            return False
        self._await_acknowledgements(connection)
        for output, seq, occurred_at, count in sent:
            # After the acknowledgement: a crash between repeats rows, never loses them.
            connection.execute(
                SQL["mark_published"], {"topic": output.topic, "partition": output.partition, "seq": seq}
            )
            self._since[output] = occurred_at - _CLOCK_SLACK
            PUBLISHED.labels(output.topic).inc(count)
            UNPUBLISHED.labels(output.topic, output.partition).dec(count)
        return True

    def _read(
        self, connection: psycopg.Connection[Any], output: _Output, after_seq: int, count: int
    ) -> Sequence[tuple[int, bytes | None, bytes, datetime]]:
        query = {"topic": output.topic, "partition": output.partition, "after_seq": after_seq, "limit": count}
        for since in (self._since.get(output), None):
            rows = connection.execute(
                SQL["read_journal"], {**query, "since": since or "-infinity"}, binary=True
            ).fetchall()
            if [row[0] for row in rows] == list(range(after_seq + 1, after_seq + 1 + count)):
                return rows
        return fatal(
            f"the journal of {output.topic}/{output.partition} has {len(rows)} of the {count} rows after seq"
            f" {after_seq}: rows were deleted before they were published"
        )

    def _send(self, output: _Output, seq: int, key: bytes | None, payload: bytes) -> None:
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
