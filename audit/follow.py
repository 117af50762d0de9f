"""The audit as a continuous process: checks what is new since the last round, without reading history again.

It follows the journal: each commit has rows in it, in the order of commits, so that a cursor per partition misses none.
The rows name the orders, SKUs, series and documents that changed, which are then read by their keys. So the cost of a
round depends on what has changed, plus a constant for heads, positions and log ends, plus a bounded number of unchanged
series and SKUs, others in each round.
"""

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any, Generic, TypeVar

import psycopg
from confluent_kafka import KafkaException, Message

from audit import statements
from audit.checkouts import CheckoutCheck
from audit.cursors import Cursors, Levels, Output
from audit.dead_letters import DeadLetters
from audit.events import EventCheck, JournalEntry
from audit.follow_orders import OrderRound, Remembered
from audit.follow_topics import follow_topics
from audit.journal import judge_end, judge_seq
from audit.log import Log
from audit.numbers import NumberedRow, judge_ends, judge_without_event, take_number
from audit.objects import ReadObject, SizeOf, check_some
from audit.orders import TOPICS, order_name
from audit.outcomes import OutcomeCheck
from audit.payments import CREDIT_NOTE, INVOICE
from audit.places import PLACES, check_places
from audit.products import ProductCheck
from audit.redriven import check_redriven
from audit.report import AuditError, AuditReport
from audit.requests import RequestCheck
from audit.reviews import ReviewCheck
from audit.run import CHECKOUTS, NUMBERING, check_positions, run_audit
from audit.snapshot import Snapshot
from audit.waiting import DOCUMENT, HELD_BACK, UNHANDLED, UNPUBLISHED, PendingItem, Waiting
from runtime.unread import Unread
from schemas.catalog import (
    CATALOGUE_EVENTS,
    INVOICE_DOCUMENT_STORED,
    INVOICE_EVENTS,
    OUTPUT_TOPICS,
    REVIEW_EVENTS,
    Schema,
    is_issued,
)

#: Errors that mean that a service is unavailable: the round is repeated. Any other error is a bug.
OUTAGES = (AuditError, psycopg.OperationalError, psycopg.InterfaceError, KafkaException)
_BATCH = 500
#: Unchanged series and SKUs that are checked in each round, so that all have their turn.
_UNTOUCHED_MAX = 200
#: Documents of a round that are read in full; of the others only the size is checked.
_READ_IN_FULL_MAX = 20
#: Printed numbers that are remembered, to find duplicates.
_PRINTED_MAX = 100_000
#: A longer pause between two rounds means that services were unavailable, for agents too; it doesn't count as waiting.
_PATIENCE_S_MAX = 30.0
#: Topics whose events have counterparts in the tables of orders.
_OF_ORDERS = frozenset(topic.name for topic in TOPICS)

_Key = TypeVar("_Key")


@dataclass(frozen=True)
class Services:
    """The services that a follower reads."""

    postgres_url: str
    kafka_bootstrap: str
    read_object: ReadObject
    size_of: SizeOf
    topic_prefix: str = ""


class Follower:
    """Holds the state between rounds in memory. Call `begin` once, then `check` repeatedly."""

    def __init__(
        self,
        services: Services,
        *,
        wait_seconds_max: float,
        every_seconds: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`every_seconds` is the interval between calls of `check` without outages."""
        self._patience_s_max = max(_PATIENCE_S_MAX, 2 * every_seconds)
        self._services = services
        self._clock = clock
        self._cursors = Cursors()
        self._remembered = Remembered()
        self._printed: OrderedDict[tuple[str, str], str] = OrderedDict()
        self._series: _Turns[str] = _Turns()
        self._skus: _Turns[tuple[str, str]] = _Turns()
        self.waiting = Waiting(wait_seconds_max)
        self._snapshot: Snapshot | None = None
        self._log: Log | None = None
        self._checked_at = clock()
        #: Key of an existing object, read while documents wait, to find out whether the object store is unavailable.
        self._object_key: str | None = None

    def begin(self, on_step: Callable[[str], None] = lambda step: None) -> AuditReport:
        """Make a full audit, from whose end `check` continues. Raises one of `OUTAGES`."""
        cursors = Cursors()
        services = self._services
        report = run_audit(
            services.postgres_url,
            services.kafka_bootstrap,
            services.read_object,
            topic_prefix=services.topic_prefix,
            on_step=on_step,
            cursors=cursors,
        )
        self._cursors = cursors
        for number in cursors.documents:
            self.waiting.note((DOCUMENT, number), [PendingItem(DOCUMENT, _series_name(*number))])
        for order, what in cursors.pending:
            self.waiting.note((order, what), [PendingItem(what, order_name(*order))])
        self._checked_at = self._clock()
        return report

    def check(self) -> AuditReport:
        """Check what is new. Raises one of `OUTAGES`, after which the next call checks the same again."""
        report = AuditReport()
        began = time.monotonic()
        try:
            snapshot, log = self._open()
            read_before = snapshot.rows_read
            one = _Round(self, snapshot, log, report)
            one.run()
            report.counts["rows"] = snapshot.rows_read - read_before
            snapshot.rest()
        except OUTAGES:
            self.close()
            raise
        now = self._clock()
        self.waiting.pass_time(min(now - self._checked_at, self._patience_s_max))
        self._checked_at = now
        if report.clean:
            one.keep()
        self.waiting.judge(report)
        report.seconds = time.monotonic() - began
        return report

    def close(self) -> None:
        """Close the connections; the next round opens new ones."""
        snapshot, log = self._snapshot, self._log
        self._snapshot = self._log = None
        if snapshot is not None:
            snapshot.close()
        if log is not None:
            log.close()

    def _open(self) -> tuple[Snapshot, Log]:
        # Postgres first: Kafka then contains at least what the snapshot says has been published.
        if self._snapshot is None:
            self._snapshot = Snapshot(self._services.postgres_url, by_keys=True)
        else:
            self._snapshot.renew()
        if self._log is None:
            self._log = Log(self._services.kafka_bootstrap, self._services.topic_prefix)
        else:
            self._log.look_again()
        return self._snapshot, self._log


class _Round:
    """One round; its results are discarded unless `keep` is called."""

    def __init__(self, follower: Follower, snapshot: Snapshot, log: Log, report: AuditReport) -> None:
        self._follower = follower
        self._snapshot = snapshot
        self._log = log
        self._report = report
        self._before = follower._cursors
        self._cursors = follower._cursors.staged()
        self._levels = Levels(follower._cursors.levels)
        self._orders = OrderRound(snapshot, report, follower._remembered)
        self._letters = {reader: DeadLetters() for reader in (NUMBERING, CHECKOUTS, *PLACES)}
        #: New numbers with their partition, and new documents.
        self._issued: dict[tuple[str, int], int] = {}
        self._stored: list[tuple[str, int]] = []
        self._published: dict[Output, tuple[int, int]] = {}
        #: By partition of request topics: the position, and what is unread after it.
        self._handled: dict[Output, tuple[int, Unread]] = {}
        self._printed: dict[tuple[str, str], str] = {}

    def run(self) -> None:
        """Run every check of what is new."""
        self._check_journal()
        marks = {output: published for output, (_, published) in self._published.items()}
        follow_topics(self._snapshot, self._log, self._report, self._cursors, marks)
        self._check_numbers()
        self._orders.finish(self._levels, self._follower._skus.take(self._before.levels))
        self._check_requests()
        check_redriven(self._snapshot, self._log, self._report, self._cursors)
        self._check_documents()

    def keep(self) -> None:
        """Adopt the round's progress, from which the next round continues."""
        follower = self._follower
        follower._cursors.keep(self._cursors)
        self._levels.keep()
        follower._remembered.keep(self._orders.digests)
        follower._printed.update(self._printed)
        while len(follower._printed) > _PRINTED_MAX:
            follower._printed.popitem(last=False)
        waiting = follower.waiting
        for number in self._issued:
            waiting.note((DOCUMENT, number), [PendingItem(DOCUMENT, _series_name(*number))])
        for number in self._stored:
            waiting.note((DOCUMENT, number), [])
        for order in self._orders.orders:
            for what in (INVOICE, CREDIT_NOTE):
                is_pending = (order, what) in self._orders.pending
                waiting.note((order, what), [PendingItem(what, order_name(*order))] if is_pending else [])
        for (topic, partition), (last, published) in self._published.items():
            waiting.note_behind(UNPUBLISHED, f"{topic}/{partition} seq", published, last)
        for (topic, partition), (position, left) in self._handled.items():
            where = f"{topic}/{partition} offset"
            # Offsets after the last record, such as a transaction's end, are not waited for.
            waiting.note_behind(UNHANDLED, where, position if left.readable else left.stable, left.stable)
            waiting.note_behind(HELD_BACK, where, left.stable, left.end)

    def _check_journal(self) -> None:
        heads = {
            (topic.name, partition): (0, 0) for topic in OUTPUT_TOPICS for partition in range(self._snapshot.partitions)
        }
        for topic, partition, next_seq, published_seq in self._snapshot.rows(statements.HEADS):
            heads[topic, partition] = (next_seq - 1, published_seq)
        self._published = heads
        outputs = sorted(heads.keys() | self._cursors.journal.keys())
        topics, partitions = zip(*outputs, strict=True)
        seqs = [self._cursors.journal.get(output, 0) for output in outputs]
        events = EventCheck(self._snapshot, self._report, self._letters, self._cursors.dates, self._take)
        products = ProductCheck(self._snapshot, self._report, is_from_the_start=False)
        reviews = ReviewCheck(self._snapshot, self._report, is_from_the_start=False)
        grown = self._snapshot.rows(
            statements.JOURNAL_GROWN, topics=list(topics), partitions=list(partitions), seqs=seqs
        )
        checks = {
            **dict.fromkeys(_OF_ORDERS, self._orders.take),
            CATALOGUE_EVENTS.name: products.take,
            REVIEW_EVENTS.name: reviews.take,
        }
        for topic, partition in grown:
            check = checks.get(topic, events.check)
            for batch in self._entries(topic, partition):
                check(topic, partition, batch)
        for topic, partition in outputs:
            seq = self._cursors.journal.get((topic, partition), 0)
            judge_end(self._report, f"{topic}/{partition}", seq, heads.get((topic, partition), (0, 0))[0])

    def _entries(self, topic: str, partition: int) -> Iterator[list[JournalEntry]]:
        seq = self._cursors.journal.get((topic, partition), 0)
        rows = self._snapshot.stream(statements.JOURNAL_SINCE, topic=topic, partition=partition, seq=seq)
        while batch := [JournalEntry(*row) for row in islice(rows, _BATCH)]:
            for entry in batch:
                judge_seq(self._report, f"{topic}/{partition}", seq, entry.seq)
                seq = entry.seq
            self._report.counts["journal rows"] += len(batch)
            self._cursors.journal[topic, partition] = seq
            yield batch

    def _take(self, partition: int, _: JournalEntry, schema: Schema[Any], event: Mapping[str, object]) -> None:
        """Note the numbers and documents of an event."""
        if is_issued(event, schema):
            self._issued[event["series_id"], event["number"]] = partition
            self._orders.touch((event["seller_id"], event["order_id"]))
        elif INVOICE_DOCUMENT_STORED.describes(event, schema):
            self._stored.append((event["series_id"], event["number"]))

    def _check_numbers(self) -> None:
        walked = self._cursors.series
        touched = {series_id for series_id, _ in self._issued} | set(self._follower._series.take(self._before.series))
        if not touched:
            return
        ids = sorted(touched)
        series = {row[0]: (row[1], row[2]) for row in self._snapshot.rows(statements.SERIES_OF, series_ids=ids)}
        for series_id in ids:
            if series_id in walked and series_id not in series:
                self._report.add("gap", f"series {series_id}", "has invoices, but no row that says its next number")
        after = [walked[each].number if each in walked else 0 for each in ids]
        new = []
        for *row, printed in self._snapshot.rows(statements.INVOICES_SINCE, series_ids=ids, numbers=after):
            invoice = NumberedRow(*row)
            take_number(self._report, walked, invoice, series)
            self._judge_printed(invoice, printed)
            new.append((invoice.series_id, invoice.number))
        judge_ends(self._report, walked, series)
        if new:
            rows = self._snapshot.rows(
                statements.INVOICES_WITHOUT_EVENT_OF, topic=INVOICE_EVENTS.name, **_numbers_of(new)
            )
            judge_without_event(self._report, rows)

    def _judge_printed(self, invoice: NumberedRow, printed: str) -> None:
        key, where = (invoice.seller_id, printed), f"{invoice.series_id} {invoice.number}"
        other = self._printed.get(key) or self._follower._printed.get(key)
        if other is not None:
            what = f"is printed on 2 invoices: {[other, where]}"
            self._report.add("repeat", f"{invoice.seller_id}'s {printed}", what)
        self._printed[key] = where

    def _check_requests(self) -> None:
        """Check the requests between the agents' former and present positions, and their outcomes."""
        positions, left = check_positions(self._snapshot, self._log, self._report)
        for (agent, topic, partition), before in self._before.positions.items():
            if (now := positions.get((agent, topic, partition), 0)) < before:
                what = f"stands at {now}, but has stood at {before}"
                self._report.add("position", f"{agent} in {topic}/{partition}", what)
        self._cursors.positions.update(positions)
        for letters in self._letters.values():
            letters.sort()
        requests = RequestCheck(self._snapshot, self._log, self._report, self._letters[NUMBERING])
        checkouts = CheckoutCheck(self._snapshot, self._log, self._report, self._letters[CHECKOUTS])
        issued = Counter(self._issued.values())
        made: tuple[tuple[tuple[str, str], OutcomeCheck, Mapping[int, int]], ...] = (
            (NUMBERING, requests, issued),
            (CHECKOUTS, checkouts, self._orders.decided),
        )
        for reader, check, made_of in made:
            for partition in range(self._log.partitions(reader[1])):
                first = self._before.positions.get((*reader, partition), 0)
                position = positions[*reader, partition]
                self._handled[reader[1], partition] = position, left[*reader, partition]
                if batches := self._handled_since(reader[1], partition, first, position):
                    check.check_from(partition, first, batches, made_of[partition])
                elif made_of[partition]:
                    what = f"the ledger has {made_of[partition]} more, but the log no more that led to them"
                    self._report.add("outcome", f"{reader[1]}/{partition}", what)
        for its_reader, its_topic in PLACES.items():
            for partition in range(self._log.partitions(its_topic.name)):
                first = self._before.positions.get((*its_reader, partition), 0)
                position = positions.get((*its_reader, partition), 0)
                if batches := self._handled_since(its_topic.name, partition, first, position):
                    check_places(
                        self._report,
                        its_topic,
                        self._snapshot.partitions,
                        partition,
                        batches,
                        self._letters[its_reader],
                    )

    def _handled_since(self, topic: str, partition: int, first: int, position: int) -> Iterator[list[Message]] | None:
        """The records from `first` to before `position` that the log still has; None if there are none."""
        # Most partitions are quiet in most rounds: only the others cost a request of their own.
        if first >= position:
            return None
        low, end = self._log.bounds(topic, partition)
        span = max(first, low), min(position, end)
        if span[0] >= span[1]:
            return None
        return (messages for _, messages in self._log.read_on({(topic, partition): span}))

    def _check_documents(self) -> None:
        services = self._follower._services
        if DOCUMENT in self._follower.waiting.ages() and self._follower._object_key is not None:
            with suppress(FileNotFoundError):
                services.size_of(self._follower._object_key)
        for start in range(0, len(self._stored), _BATCH):
            numbers = _numbers_of(self._stored[start : start + _BATCH])
            rows = self._snapshot.rows(statements.DOCUMENTS_OF, topic=INVOICE_EVENTS.name, **numbers)
            read_max = _READ_IN_FULL_MAX if start == 0 else 0
            check_some(self._report, rows, services.read_object, services.size_of, read_max)
            self._follower._object_key = next((row[3] for row in rows), self._follower._object_key)


class _Turns(Generic[_Key]):
    """Iterates over a growing mapping, a bounded number of keys at a time, from the start again after the end."""

    def __init__(self) -> None:
        self._rest: Iterator[_Key] = iter(())

    def take(self, mapping: Mapping[_Key, object]) -> list[_Key]:
        """The next keys, at most `_UNTOUCHED_MAX`."""
        taken = list(islice(self._rest, _UNTOUCHED_MAX))
        if len(taken) < min(_UNTOUCHED_MAX, len(mapping)):
            self._rest = iter(list(mapping))
            taken += [each for each in islice(self._rest, _UNTOUCHED_MAX - len(taken)) if each not in taken]
        return taken


def _numbers_of(numbers: list[tuple[str, int]]) -> dict[str, Any]:
    series_ids, each = zip(*numbers, strict=True)
    return {"series_ids": list(series_ids), "numbers": list(each)}


def _series_name(series_id: str, number: int) -> str:
    return f"series {series_id} number {number}"
