"""Checks the journal, and each topic against its journal."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

from confluent_kafka import Message

from audit import statements
from audit.cursors import Cursors, Read
from audit.events import JournalEntry
from audit.log import Log
from audit.report import AuditReport
from audit.snapshot import Snapshot
from schemas.catalog import INVOICE_REQUESTS, OUTPUT_TOPICS, SEQ_HEADER

_BATCH = 500
#: More digits don't fit into the journal's column.
_SEQ_DIGITS_MAX = 18


#: Topics with other writers, with any headers: only records equal to a journal row are the relay's.
_SHARED_TOPICS = (INVOICE_REQUESTS.name,)

#: Receives a topic, a partition and rows of the journal, in order.
TakeEntries = Callable[[str, int, Sequence[JournalEntry]], None]


class PublishedRecord(NamedTuple):
    """A record of an output topic."""

    offset: int
    seq: int
    key: bytes | None
    payload: bytes | None


class JournalCheck:
    """Reads each journal partition and its topic partition in parallel, each once."""

    def __init__(
        self,
        snapshot: Snapshot,
        log: Log,
        report: AuditReport,
        cursors: Cursors,
        takers: Mapping[str, TakeEntries],
        take_other: TakeEntries,
    ) -> None:
        """`takers` receive the rows of their topics, `take_other` all other rows."""
        self._snapshot = snapshot
        self._log = log
        self._report = report
        self._cursors = cursors
        self._takers = takers
        self._take_other = take_other

    def check(self) -> None:
        """Check all partitions, including those without a head."""
        names = [topic.name for topic in OUTPUT_TOPICS]
        heads = {(name, partition): (0, 0) for name in names for partition in range(self._log.partitions(name))}
        for topic, partition, next_seq, published_seq in self._snapshot.rows(statements.HEADS):
            heads[topic, partition] = (next_seq - 1, published_seq)
        for topic, partition, count in self._snapshot.rows(statements.JOURNAL_WITHOUT_HEAD):
            self._report.add("journal", f"{topic}/{partition}", f"has {count} rows, but no head")
        for (topic, partition), (last_seq, published_seq) in sorted(heads.items()):
            self._report.unpublished += last_seq - published_seq
            self._check_partition(topic, partition, last_seq, published_seq)

    def _check_partition(self, topic: str, partition: int, last_seq: int, published_seq: int) -> None:
        where = f"{topic}/{partition}"
        published = _Fresh(self._snapshot, self._log, self._report, topic, partition)
        record = next(published, None)
        # Records deleted by retention can't be compared; they precede all that are left.
        retained_from = 1 if not self._log.bounds(topic, partition)[0] else record.seq if record else last_seq + 1
        seq = 0
        entries = self._entries(topic, partition)
        take = self._takers.get(topic, self._take_other)
        while batch := list(islice(entries, _BATCH)):
            for entry in batch:
                judge_seq(self._report, where, seq, entry.seq)
                seq = entry.seq
                while record is not None and record.seq < entry.seq:
                    judge_record(self._report, where, record, None)
                    record = next(published, None)
                if record is not None and record.seq == entry.seq:
                    judge_record(self._report, where, record, (entry.key, entry.payload))
                    record = next(published, None)
                elif entry.seq >= retained_from and (record is not None or entry.seq <= published_seq):
                    judge_unpublished(self._report, where, entry.seq)
            self._report.counts["journal rows"] += len(batch)
            take(topic, partition, batch)
        judge_end(self._report, where, seq, last_seq)
        while record is not None:
            published.verify_later(record)
            record = next(published, None)
        published.finish()
        self._cursors.journal[topic, partition] = seq
        self._cursors.topics[topic, partition] = published.read

    def _entries(self, topic: str, partition: int) -> Iterator[JournalEntry]:
        for row in self._snapshot.stream(statements.JOURNAL, topic=topic, partition=partition):
            yield JournalEntry(*row)


class _Fresh(Iterator[PublishedRecord]):
    """The records of a topic partition without repeats, which are compared with the journal separately."""

    def __init__(self, snapshot: Snapshot, log: Log, report: AuditReport, topic: str, partition: int) -> None:
        self._snapshot = snapshot
        self._report = report
        self._topic = topic
        self._partition = partition
        self._seq = 0
        self._to_verify: list[PublishedRecord] = []
        self._first, self._end = log.bounds(topic, partition)
        self._records = (
            message
            for batch in log.read(topic, partition, self._end)
            for message in relayed(snapshot, topic, partition, batch)
        )

    @property
    def read(self) -> Read:
        """How far the partition was read, valid after all was read."""
        return Read(self._end, self._seq if self._seq or not self._first else None)

    def __next__(self) -> PublishedRecord:
        for message in self._records:
            record = take_record(self._report, self._topic, self._partition, message)
            if record is None:
                continue
            if record.seq > self._seq:
                self._seq = record.seq
                return record
            self._report.counts["topic repeats"] += 1
            self.verify_later(record)
        raise StopIteration

    def verify_later(self, record: PublishedRecord) -> None:
        """Compare the record with the journal's present row: it is a repeat, or newer than the snapshot."""
        self._to_verify.append(record)
        if len(self._to_verify) >= _BATCH:
            self.finish()

    def finish(self) -> None:
        """Compare the collected records."""
        if not self._to_verify:
            return
        seqs = [record.seq for record in self._to_verify]
        rows = {
            seq: (key, payload)
            for seq, key, payload in self._snapshot.rows_now(
                statements.JOURNAL_ROWS, topic=self._topic, partition=self._partition, seqs=seqs
            )
        }
        for record in self._to_verify:
            judge_record(self._report, f"{self._topic}/{self._partition}", record, rows.get(record.seq))
        self._to_verify.clear()


def judge_seq(report: AuditReport, where: str, last: int, seq: int) -> None:
    """Check that a journal row's seq follows `last`."""
    if seq == last:
        report.add("journal", f"{where} seq {seq}", "exists twice")
    elif seq != last + 1:
        report.add("journal", where, f"has no seq {last + 1} to {seq - 1}", seq - last - 1)


def judge_end(report: AuditReport, where: str, seq: int, head: int) -> None:
    """Check that the last row of a journal partition agrees with its head."""
    if seq != head:
        report.add("journal", where, f"ends with seq {seq}, but its head says {head}")


def judge_record(
    report: AuditReport, where: str, record: PublishedRecord, row: tuple[bytes | None, bytes] | None
) -> None:
    """Compare a topic's record with key and payload of its journal row."""
    if row is None:
        report.add("topic", f"{where} offset {record.offset}", f"seq {record.seq} is not in the journal")
    elif row != (record.key, record.payload):
        report.add("topic", f"{where} offset {record.offset}", f"differs from journal seq {record.seq}")


def judge_unpublished(report: AuditReport, where: str, seq: int) -> None:
    """Report `seq`, which is marked as published but missing in the topic."""
    report.add("topic", where, f"seq {seq} is marked as published, but is not there")


def relayed(snapshot: Snapshot, topic: str, partition: int, messages: Sequence[Message]) -> Sequence[Message]:
    """The relay's records among `messages`, for a topic with other writers.

    A `seq` header proves nothing there, because anyone can copy it. A record is the relay's if it equals the journal's
    present row of that seq. Other records are requests. A copy of a relay's record is a harmless repeat.
    """
    if topic not in _SHARED_TOPICS:
        return messages
    claims = [(message, claim) for message in messages if (claim := _published(message)) is not None]
    if not claims:
        return []
    seqs = [claim.seq for _, claim in claims]
    found = snapshot.rows_now(statements.JOURNAL_ROWS, topic=topic, partition=partition, seqs=seqs)
    rows = {seq: (key, payload) for seq, key, payload in found}
    return [message for message, claim in claims if rows.get(claim.seq) == (claim.key, claim.payload)]


def take_record(report: AuditReport, topic: str, partition: int, message: Message) -> PublishedRecord | None:
    """A record that the relay wrote; None, with a violation, for one that can't be the relay's."""
    report.counts["topic records"] += 1
    record = _published(message)
    if record is None:
        where = f"{topic}/{partition} offset {message.offset()}"
        report.add("topic", where, f"carries no header {SEQ_HEADER} in decimal digits: it is not the relay's")
    return record


def _seqs(message: Message) -> list[Any]:
    headers: Any = message.headers() or ()
    return [value for name, value in headers if name == SEQ_HEADER]


def _published(message: Message) -> PublishedRecord | None:
    seqs = _seqs(message)
    text = seqs[0] if len(seqs) == 1 else None
    if not isinstance(text, bytes) or not text.isdigit() or len(text) > _SEQ_DIGITS_MAX:
        return None
    return PublishedRecord(message.offset() or 0, int(text), message.key(), message.value())
