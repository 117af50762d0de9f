"""Measures every stage from outside: positions in Postgres against the ends of topics, and the first record between.

A worker that hangs, or is stopped, reports nothing; what it has not done shows here all the same.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import psycopg

from monitor import statements
from monitor.figures import DeadLetters, Headline, Measurement, PartitionFigures, Payments, ProcessFigures, StageFigures
from monitor.history import (
    DocumentsHistory,
    Look,
    PartitionHistory,
    Trend,
    quantile,
    seconds_to_drain,
    seconds_to_drain_documents,
    slowest,
    state_of,
    total,
    worst,
)
from monitor.owners import Owners, Publishers
from runtime.kafka import OffsetReader
from runtime.roles import READERS, ROLES
from runtime.settings import Settings
from runtime.unread import FirstRecord, FirstRecords
from schemas.catalog import CHECKOUT_REQUESTS, INVOICE_EVENTS, INVOICE_REQUESTS, OUTPUT_TOPICS
from sinks.deployment import require_partitions
from sinks.postgres.dead_letters import read_open_dead_letters

RELAY = "relay"
INVOICES = "invoices"
#: The one stage that answers each record with another in the topic that it reads.
DOCUMENTS = "documents"
#: The stages, in the order of the table of roles: an order's way.
STAGES = (*READERS, RELAY)
#: How long Kafka or Postgres may take to answer: longer, and the figures on show are said to be old.
_ANSWER_SECONDS_MAX = 5.0
#: The sample that the quantiles of the time to a number are of.
_SAMPLE_SECONDS = 60.0

#: A topic's partition.
At = tuple[str, int]


class Backlog(NamedTuple):
    """What a stage has before it in a partition."""

    position: int
    end: int
    lag_records: int
    #: When the oldest record that waits was taken, in seconds since 1970; None if none waits.
    oldest_at: float | None
    #: Behind an open transaction of a producer: nobody is given any of it until that ends.
    held_back: int = 0


def open_meter(settings: Settings) -> "Meter":
    """A meter of the deployment that the settings name. Raises `psycopg.Error`, and `StartRefusedError` before there is
    one.
    """
    url = settings.postgres_url.get_secret_value()
    with psycopg.connect(url, autocommit=True, connect_timeout=int(_ANSWER_SECONDS_MAX)) as connection:
        partitions = require_partitions(connection)
    return Meter(url, settings.kafka_bootstrap, partitions)


class Meter:
    """Measures again and again, for one thread. Opens its connections when first asked, and keeps them."""

    def __init__(self, postgres_url: str, bootstrap: str, partitions: int, clock: Callable[[], float] = time.time):
        """`partitions` is how many each topic has; `clock` returns seconds since 1970."""
        self._postgres_url = postgres_url
        self._clock = clock
        self._partitions = range(partitions)
        self._connection: psycopg.Connection[Any] | None = None
        self._stable = OffsetReader(bootstrap, "read_committed", _ANSWER_SECONDS_MAX)
        self._ends = OffsetReader(bootstrap, "read_uncommitted", _ANSWER_SECONDS_MAX)
        self._records = FirstRecords(bootstrap, _ANSWER_SECONDS_MAX)
        self._owners = Owners(bootstrap)
        self._publishers = Publishers()
        #: The first record that waits, by stage and partition, as long as the position stands there.
        self._firsts: dict[tuple[str, At], tuple[int, int, FirstRecord | None]] = {}
        self._histories: dict[tuple[str, At], PartitionHistory] = {}
        #: By partition: an invoice's document is announced in that of its request.
        self._documents = {partition: DocumentsHistory() for partition in self._partitions}
        self._trends = {stage: Trend() for stage in STAGES}
        self._numbered: deque[tuple[float, int]] = deque()
        self._waits: deque[tuple[float, float]] = deque()

    def close(self) -> None:
        """Let all connections go."""
        self._stable.close()
        self._ends.close()
        self._records.close()
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def measure(self, processes: Iterable[ProcessFigures]) -> Measurement:
        """Everything, now. `processes` is what they say of themselves, for causes. Blocks.

        Raises `TopicError` or `psycopg.Error` if a service does not answer.
        """
        processes = tuple(processes)
        connection = self._connected()
        # In one snapshot: the journal has the events of what the positions have passed, and no others.
        with connection.transaction():
            positions = {
                (agent, (topic, partition)): offset
                for agent, topic, partition, offset in connection.execute(statements.POSITIONS)
            }
            relayed = self._relay_backlogs(connection)
        backlogs = self._agents_backlogs(positions) | relayed
        at, now = time.monotonic(), self._clock()
        self._count_numbers(connection, at, backlogs)
        # Not before they are counted: of a measurement that fails, the next counts the numbers too.
        for key, backlog in backlogs.items():
            self._histories.setdefault(key, PartitionHistory()).add(Look(at, backlog.position, backlog.end))
        owners = {
            **self._owners.by_partition(),
            **{(RELAY, output): name for output, name in self._publishers.by_output(connection).items()},
        }
        not_ready = {process.name: process.says for process in processes if not process.is_ready}
        stages = tuple(self._stage(stage, backlogs, at, now, owners, not_ready) for stage in STAGES)
        payments = Payments(*connection.execute(statements.PAYMENTS).fetchone() or (0, 0.0, 0, 0.0))
        dead_letters = tuple(
            DeadLetters(each.topic, each.reason, each.count, max(0.0, now - each.oldest_at.timestamp()))
            for each in read_open_dead_letters(connection)
        )
        return Measurement(now, "", self._headline(at, stages, payments), stages, payments, dead_letters, processes)

    def _connected(self) -> psycopg.Connection[Any]:
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(
                self._postgres_url,
                autocommit=True,
                connect_timeout=int(_ANSWER_SECONDS_MAX),
                # A table that was empty when it was last looked at would be read in full otherwise.
                options=f"-c enable_seqscan=off -c statement_timeout={_ANSWER_SECONDS_MAX:g}s",
                application_name="gapless monitor",
                tcp_user_timeout=10_000,
            )
            self._connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        return self._connection

    def _topic(self, name: str) -> list[At]:
        return [(name, partition) for partition in self._partitions]

    def _position(self, stage: str, at: At) -> int | None:
        history = self._histories.get((stage, at))
        return None if history is None else history.position

    def _agents_backlogs(self, positions: Mapping[tuple[str, At], int]) -> dict[tuple[str, At], Backlog]:
        read = [(agent, at) for agent, topics in READERS.items() for topic in topics for at in self._topic(topic.name)]
        partitions = {at for _, at in read}
        # Stable first: what is committed in between counts as held back, not as nothing.
        stable = self._stable.ends(partitions)
        ends = self._ends.ends(partitions)
        wanted: dict[At, set[tuple[str, At]]] = {}
        for key in read:
            position, end = positions.get(key, 0), stable[key[1]]
            known = self._firsts.get(key)
            # The one that was found still waits; where none was, only new records can.
            if known is None or known[0] != position or (known[2] is None and known[1] != end):
                self._firsts[key] = position, end, None
                if position < end:
                    wanted.setdefault(key[1], set()).add(key)
        self._find_firsts(wanted)
        backlogs = {}
        for key in read:
            first = self._firsts[key][2]
            end = stable[key[1]]
            lag = 0 if first is None else max(0, end - first.offset)
            oldest_at = None if first is None else first.timestamp_ms / 1000
            held_back = ends[key[1]] - end
            # Not where the worker stands: behind that there may be nothing but what ends transactions.
            backlogs[key] = Backlog(end - lag, end, lag, oldest_at, held_back)
        return backlogs

    def _find_firsts(self, wanted: Mapping[At, set[tuple[str, At]]]) -> None:
        """Two stages may read one topic: a question asks for one record of each partition."""
        left = {at: set(keys) for at, keys in wanted.items()}
        while left:
            asked = {at: keys.pop() for at, keys in left.items()}
            found = self._records.find({at: self._firsts[key][0] for at, key in asked.items()})
            for at, key in asked.items():
                position, end, _ = self._firsts[key]
                self._firsts[key] = position, end, found.get(at)
            left = {at: keys for at, keys in left.items() if keys}

    def _relay_backlogs(self, connection: psycopg.Connection[Any]) -> dict[tuple[str, At], Backlog]:
        outputs = {at: (1, 1) for topic in OUTPUT_TOPICS for at in self._topic(topic.name)}
        for topic, partition, next_to_publish, next_seq in connection.execute(statements.PUBLISHED):
            outputs[topic, partition] = next_to_publish, next_seq
        waiting = {at: first for at, (first, after) in outputs.items() if first < after}
        written_at: dict[At, float] = {}
        if waiting:
            topics, partitions = zip(*waiting, strict=True)
            rows = connection.execute(
                statements.WRITTEN_AT, (list(topics), list(partitions), list(waiting.values()))
            ).fetchall()
            written_at = {(topic, partition): at for topic, partition, at in rows}
        return {
            (RELAY, at): Backlog(first, after, after - first, written_at.get(at))
            for at, (first, after) in outputs.items()
        }

    def _count_numbers(
        self,
        connection: psycopg.Connection[Any],
        at: float,
        backlogs: Mapping[tuple[str, At], Backlog],
    ) -> None:
        """Numbers that were given since the last measurement, the documents that they lack, and how long a few of these
        orders have waited.
        """
        before = {at: self._position(INVOICES, at) for at in self._topic(INVOICE_REQUESTS.name)}
        spans = [
            (each[1], first, backlogs[INVOICES, each].position)
            for each, first in before.items()
            if first is not None and first < backlogs[INVOICES, each].position
        ]
        numbers: dict[int, int] = {}
        refusals: dict[int, int] = {}
        starts: dict[At, float] = {}
        offsets: dict[At, int] = {}
        if spans:
            for partition, given, refused, issued_at, checkout_offset, request_offset in connection.execute(
                statements.NUMBERED, (*(list(column) for column in zip(*spans, strict=True)), INVOICE_REQUESTS.name)
            ):
                numbers[partition], refusals[partition] = given, refused
                if issued_at is not None:
                    topic = INVOICE_REQUESTS if checkout_offset is None else CHECKOUT_REQUESTS
                    offsets[topic.name, partition] = request_offset if checkout_offset is None else checkout_offset
                    starts[topic.name, partition] = issued_at
        for where, record in self._records.find(offsets).items():
            # Clocks of the brokers and of a worker: never below nothing.
            if record.offset == offsets[where]:
                self._waits.append((at, max(0.0, starts[where] - record.timestamp_ms / 1000)))
        for partition, documents in self._documents.items():
            where = INVOICE_EVENTS.name, partition
            journal = backlogs[RELAY, where]
            waiting = backlogs[DOCUMENTS, where].lag_records + journal.lag_records
            documents.add(at, journal.end, numbers.get(partition, 0), refusals.get(partition, 0), waiting)
        self._numbered.append((at, sum(numbers.values())))
        for sample in (self._numbered, self._waits):
            while sample and sample[0][0] < at - _SAMPLE_SECONDS:
                sample.popleft()

    def _stage(
        self,
        stage: str,
        backlogs: Mapping[tuple[str, At], Backlog],
        at: float,
        now: float,
        owners: Mapping[tuple[str, At], str],
        not_ready: Mapping[str, str],
    ) -> StageFigures:
        partitions = tuple(
            self._partition(key, backlog, at, now, owners.get(key), not_ready)
            for key, backlog in sorted(backlogs.items())
            if key[0] == stage
        )
        lag_seconds = max((each.lag_seconds for each in partitions), default=0.0)
        self._trends[stage].add(at, lag_seconds)
        causes = dict.fromkeys(each.cause for each in partitions if each.cause)
        return StageFigures(
            stage,
            ROLES[stage].does,
            worst(each.state for each in partitions),
            sum(each.lag_records for each in partitions),
            lag_seconds,
            total([each.rates for each in partitions]),
            slowest(each.seconds_to_drain for each in partitions),
            "; ".join(causes),
            partitions,
            self._trends[stage].points(),
        )

    def _partition(
        self,
        key: tuple[str, At],
        backlog: Backlog,
        at: float,
        now: float,
        owner: str | None,
        not_ready: Mapping[str, str],
    ) -> PartitionFigures:
        stage, (topic, partition) = key
        history = self._histories[key]
        lag_seconds = 0.0 if backlog.oldest_at is None else max(0.001, now - backlog.oldest_at)
        state = state_of(backlog.lag_records, lag_seconds, history.idle_seconds())
        moved_at = None if history.moved_at is None else now - (at - history.moved_at)
        rates = history.rates()
        drained_in = seconds_to_drain(backlog.lag_records, rates)
        if stage == DOCUMENTS:
            documents = self._documents[partition]
            drained_in = seconds_to_drain_documents(backlog.lag_records, rates, documents.left, documents.rates())
        cause = ""
        if backlog.held_back:
            cause = f"{backlog.held_back} records are held back by a producer's open transaction"
        elif lag_seconds >= 1:
            cause = self._cause(stage, owner, not_ready)
        return PartitionFigures(
            topic,
            partition,
            backlog.position,
            backlog.end,
            backlog.lag_records,
            lag_seconds,
            rates,
            drained_in,
            state,
            owner,
            moved_at,
            cause,
        )

    def _cause(self, stage: str, owner: str | None, not_ready: Mapping[str, str]) -> str:
        if stage == RELAY:
            said = [f"{name}: {says}" for name, says in not_ready.items() if name.partition("-")[0] == RELAY]
            return "; ".join([*said, *([] if owner is not None else ["no relay publishes it"])])
        if owner is not None:
            return f"{owner}: {not_ready[owner]}" if owner in not_ready else ""
        since = self._owners.ownerless_since(stage)
        clock = "" if since is None else f" since {time.strftime('%H:%M:%S', time.localtime(since))}"
        return f"no worker owns it{clock}"

    def _headline(self, at: float, stages: tuple[StageFigures, ...], payments: Payments) -> Headline:
        of = {stage.name: stage for stage in stages}
        relayed = sum(each.rates.out_10s for each in of[RELAY].partitions if each.topic == INVOICE_REQUESTS.name)
        taken = sum(
            each.rates.in_10s
            for stage in (of["checkouts"], of[INVOICES])
            for each in stage.partitions
            if each.topic in (CHECKOUT_REQUESTS.name, INVOICE_REQUESTS.name)
        )
        recent = [(when, count) for when, count in self._numbered if when > at - 10]
        passed = at - (recent[0][0] if len(recent) > 1 else at)
        numbered = sum(count for _, count in recent[1:]) / passed if passed else 0.0
        waits = [seconds for _, seconds in self._waits]
        return Headline(
            # What the relay publishes into the invoice requests are orders that were accepted before.
            max(0.0, taken - relayed),
            numbered,
            quantile(waits, 0.5),
            quantile(waits, 0.99),
            max(payments.oldest_hold_seconds, *(stage.lag_seconds for stage in stages)),
        )
