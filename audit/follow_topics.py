"""Compares each new record of the output topics with its row in the journal."""

from collections.abc import Mapping, Sequence

from confluent_kafka import Message

from audit import statements
from audit.cursors import Cursors, Output, Read
from audit.journal import PublishedRecord, judge_record, judge_unpublished, relayed, take_record
from audit.log import Log
from audit.report import AuditReport
from audit.snapshot import Snapshot
from schemas.catalog import OUTPUT_TOPICS


def follow_topics(
    snapshot: Snapshot, log: Log, report: AuditReport, cursors: Cursors, published: Mapping[Output, int]
) -> None:
    """Read what is new, up to the topics' present ends; `published` has the relay's marks in the snapshot."""
    spans: dict[Output, tuple[int, int]] = {}
    for topic in OUTPUT_TOPICS:
        for partition in range(log.partitions(topic.name)):
            output = topic.name, partition
            first, end = log.bounds(*output)
            read = cursors.topics.get(output, Read())
            if end < read.next_offset:
                what = f"ends at offset {end}, but had records up to {read.next_offset}"
                report.add("topic", f"{topic.name}/{partition}", what)
                continue
            if first > read.next_offset:
                # Retention has deleted records that were not read.
                cursors.topics[output] = read = Read(first, None)
            if end > read.next_offset:
                spans[output] = read.next_offset, end
    for output, messages in log.read_on(spans):
        cursors.topics[output] = _take(snapshot, report, output, cursors.topics.get(output, Read()), messages)
    for output, (_, end) in spans.items():
        # Offsets at the end without records, such as a transaction's end, count as read.
        cursors.topics[output] = cursors.topics.get(output, Read())._replace(next_offset=end)
    for output, marked in published.items():
        seq = cursors.topics.get(output, Read()).seq
        if seq is not None and seq < marked:
            judge_unpublished(report, f"{output[0]}/{output[1]}", seq + 1)


def _take(snapshot: Snapshot, report: AuditReport, output: Output, read: Read, messages: Sequence[Message]) -> Read:
    """Check records of one partition; returns how far it is read."""
    where = f"{output[0]}/{output[1]}"
    fresh: list[PublishedRecord] = []
    repeats: list[PublishedRecord] = []
    seq = read.seq
    for message in relayed(snapshot, *output, messages):
        record = take_record(report, *output, message)
        if record is None:
            continue
        if seq is not None and record.seq <= seq:
            repeats.append(record)
            continue
        if seq is not None and record.seq != seq + 1:
            what = f"goes from seq {seq} to {record.seq}"
            report.add("topic", f"{where} offset {record.offset}", what, record.seq - seq - 1)
        fresh.append(record)
        seq = record.seq
    report.counts["topic repeats"] += len(repeats)
    rows: dict[int, tuple[bytes | None, bytes]] = {}
    at = {"topic": output[0], "partition": output[1]}
    if fresh:
        # The present rows: a record may be newer than the snapshot, but not newer than its row.
        bounds = {"first": fresh[0].seq, "last": min(fresh[-1].seq, fresh[0].seq + len(fresh))}
        found = snapshot.rows_now(statements.JOURNAL_BETWEEN, **at, **bounds)
        rows.update((each, (key, payload)) for each, key, payload in found)
    if missing := [record.seq for record in (*fresh, *repeats) if record.seq not in rows]:
        found = snapshot.rows_now(statements.JOURNAL_ROWS, **at, seqs=missing)
        rows.update((each, (key, payload)) for each, key, payload in found)
    for record in (*fresh, *repeats):
        judge_record(report, where, record, rows.get(record.seq))
    offset = messages[-1].offset()
    return Read(read.next_offset if offset is None else offset + 1, seq)
