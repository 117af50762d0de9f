"""The journal by itself, and each topic against its journal."""

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
#: More do not fit into the journal's column.
_SEQ_DIGITS_MAX = 18


#: Anybody may write to these, with any headers: the relay's records are those that the journal has, byte for byte.
_SHARED_TOPICS = (INVOICE_REQUESTS.name,)

#: Takes topic, partition and rows of the journal, in its order.
TakeEntries = Callable[[str, int, Sequence[JournalEntry]], None]


class PublishedRecord(NamedTuple):
    """A record of an output topic."""

    offset: int
    seq: int
    key: bytes | None
    payload: bytes | None


class JournalCheck:
    """Walks one journal partition and its topic partition side by side, each read once."""

    def __init__(
        self,
        snapshot: Snapshot,
        log: Log,
        report: AuditReport,
        cursors: Cursors,
        takers: Mapping[str, TakeEntries],
        take_other: TakeEntries,
    ) -> None:
        """`takers` get the rows of their topics, `take_other` those of all others."""
        self._snapshot = snapshot
        self._log = log
        self._report = report
        self._cursors = cursors
        self._takers = takers
        self._take_other = take_other

    def check(self) -> None:
        """All partitions, those without a head included."""
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
        # What the topic's retention has taken can't be compared any more; it lies before all that is left.
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
    """The records of a topic partition less the repeats, which are compared with the journal apart."""

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
        """How far this has come, once all was read."""
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
        """Look the record's seq up in the journal as it stands by now: a repeat, or one newer than the snapshot."""
        self._to_verify.append(record)
        if len(self._to_verify) >= _BATCH:
            self.finish()

    def finish(self) -> None:
        """Do it for those gathered."""
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
    """A row of the journal after the one of seq `last`."""
    if seq == last:
        report.add("journal", f"{where} seq {seq}", "stands twice")
    elif seq != last + 1:
        report.add("journal", where, f"has no seq {last + 1} to {seq - 1}", seq - last - 1)


def judge_end(report: AuditReport, where: str, seq: int, head: int) -> None:
    """The last row of a partition of the journal against its head."""
    if seq != head:
        report.add("journal", where, f"ends with seq {seq}, but its head says {head}")


def judge_record(
    report: AuditReport, where: str, record: PublishedRecord, row: tuple[bytes | None, bytes] | None
) -> None:
    """A record of a topic against key and payload of its row in the journal."""
    if row is None:
        report.add("topic", f"{where} offset {record.offset}", f"seq {record.seq} is not in the journal")
    elif row != (record.key, record.payload):
        report.add("topic", f"{where} offset {record.offset}", f"differs from journal seq {record.seq}")


def judge_unpublished(report: AuditReport, where: str, seq: int) -> None:
    """The relay's mark stands at or behind `seq`, which the topic doesn't have."""
    report.add("topic", where, f"seq {seq} is marked as published, but is not there")


def relayed(snapshot: Snapshot, topic: str, partition: int, messages: Sequence[Message]) -> Sequence[Message]:
    """Of some records of a partition those that are the relay's, where others write to the topic as well.

    A `seq` header says nothing there, for anybody can copy one: only the journal's row of that seq, as it is by now,
    tells. What equals none is a request like any other. A copy of both is a repeat, and harmless as such.
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
    """A record of the relay as it has made it; None, with a violation, for one that can't be the relay's."""
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
