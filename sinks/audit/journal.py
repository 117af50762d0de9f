"""The journal by itself, and each topic against its journal."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

from confluent_kafka import Message

from schemas.catalog import INVOICE_REQUESTS, OUTPUT_TOPICS, SEQ_HEADER
from sinks.audit import statements
from sinks.audit.events import JournalEntry
from sinks.audit.log import Log
from sinks.audit.report import Report
from sinks.audit.snapshot import Snapshot

_BATCH = 500
#: More do not fit into the journal's column.
_SEQ_DIGITS_MAX = 18


#: Gateways write to these too, and carry no seq.
_SHARED_TOPICS = (INVOICE_REQUESTS.name,)

#: Takes topic, partition and rows of the journal, in its order.
TakeEntries = Callable[[str, int, Sequence[JournalEntry]], None]


class Published(NamedTuple):
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
        report: Report,
        takers: Mapping[str, TakeEntries],
        take_other: TakeEntries,
    ) -> None:
        """`takers` get the rows of their topics, `take_other` those of all others."""
        self._snapshot = snapshot
        self._log = log
        self._report = report
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
                if entry.seq == seq:
                    self._report.add("journal", f"{where} seq {seq}", "stands twice")
                elif entry.seq != seq + 1:
                    self._report.add("journal", where, f"has no seq {seq + 1} to {entry.seq - 1}", entry.seq - seq - 1)
                seq = entry.seq
                while record is not None and record.seq < entry.seq:
                    self._report.add(
                        "topic", f"{where} offset {record.offset}", f"seq {record.seq} is not in the journal"
                    )
                    record = next(published, None)
                if record is not None and record.seq == entry.seq:
                    if (record.key, record.payload) != (entry.key, entry.payload):
                        self._report.add(
                            "topic", f"{where} offset {record.offset}", f"differs from journal seq {entry.seq}"
                        )
                    record = next(published, None)
                elif entry.seq >= retained_from and (record is not None or entry.seq <= published_seq):
                    self._report.add("topic", where, f"seq {entry.seq} is marked as published, but is not there")
            self._report.counts["journal rows"] += len(batch)
            take(topic, partition, batch)
        if seq != last_seq:
            self._report.add("journal", where, f"ends with seq {seq}, but its head says {last_seq}")
        while record is not None:
            published.verify_later(record)
            record = next(published, None)
        published.finish()

    def _entries(self, topic: str, partition: int) -> Iterator[JournalEntry]:
        for row in self._snapshot.stream(statements.JOURNAL, topic=topic, partition=partition):
            yield JournalEntry(*row)


class _Fresh(Iterator[Published]):
    """The records of a topic partition less the repeats, which are compared with the journal apart."""

    def __init__(self, snapshot: Snapshot, log: Log, report: Report, topic: str, partition: int) -> None:
        self._snapshot = snapshot
        self._report = report
        self._topic = topic
        self._partition = partition
        self._seq = 0
        self._to_verify: list[Published] = []
        end = log.bounds(topic, partition)[1]
        self._records = (message for batch in log.read(topic, partition, end) for message in batch)

    def __next__(self) -> Published:
        for message in self._records:
            if self._topic in _SHARED_TOPICS and not _seqs(message):
                continue
            self._report.counts["topic records"] += 1
            record = _published(message)
            if record is None:
                where = f"{self._topic}/{self._partition} offset {message.offset()}"
                self._report.add(
                    "topic", where, f"carries no header {SEQ_HEADER} in decimal digits: it is not the relay's"
                )
            elif record.seq > self._seq:
                self._seq = record.seq
                return record
            else:
                self._report.counts["topic repeats"] += 1
                self.verify_later(record)
        raise StopIteration

    def verify_later(self, record: Published) -> None:
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
            where = f"{self._topic}/{self._partition} offset {record.offset}"
            if record.seq not in rows:
                self._report.add("topic", where, f"seq {record.seq} is not in the journal")
            elif rows[record.seq] != (record.key, record.payload):
                self._report.add("topic", where, f"differs from journal seq {record.seq}")
        self._to_verify.clear()


def _seqs(message: Message) -> list[Any]:
    headers: Any = message.headers() or ()
    return [value for name, value in headers if name == SEQ_HEADER]


def _published(message: Message) -> Published | None:
    seqs = _seqs(message)
    text = seqs[0] if len(seqs) == 1 else None
    if not isinstance(text, bytes) or not text.isdigit() or len(text) > _SEQ_DIGITS_MAX:
        return None
    return Published(message.offset() or 0, int(text), message.key(), message.value())
