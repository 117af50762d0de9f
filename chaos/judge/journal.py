"""The journal has no gaps, and the topics are copies of it: in order, without gaps, with identical repeats."""

from collections import defaultdict

from chaos.judge.evidence import Evidence
from chaos.judge.ledger import Head
from chaos.judge.topics import RELAYS_OWN, Published
from chaos.judge.verdict import Verdict

RULE = "journal"


def judge_journal(evidence: Evidence) -> None:
    """Checks every partition of every output topic."""
    verdict, ledger, topics = evidence.verdict, evidence.ledger, evidence.topics
    rows: dict[tuple[str, int], dict[int, bytes]] = defaultdict(dict)
    for (topic, partition, seq), digests in ledger.journal.items():
        if len(digests) > 1:
            verdict.add(RULE, f"{topic}/{partition}", f"the journal has seq {seq} {len(digests)} times")
        rows[topic, partition][seq] = digests[0]
    heads = {(head.topic, head.partition): head for head in ledger.heads}
    for output in rows.keys() - heads.keys():
        verdict.add(RULE, f"{output[0]}/{output[1]}", f"{len(rows[output])} rows, and no head")
    for output, head in heads.items():
        verdict.counts["journal rows"] += len(rows[output])
        _judge_head(verdict, head, rows[output])
        if output not in topics.begins:
            verdict.add(RULE, f"{head.topic}/{head.partition}", "the partition does not exist")
            continue
        published = topics.published.get(output, [])
        _judge_published(verdict, head, published, rows[output], complete=not topics.begins[output])
    for output in topics.published.keys() - heads.keys():
        if output[0] in RELAYS_OWN:
            what = f"{len(topics.published[output])} records, and the journal has none"
            verdict.add(RULE, f"{output[0]}/{output[1]}", what)


def _judge_head(verdict: Verdict, head: Head, rows: dict[int, bytes]) -> None:
    where = f"{head.topic}/{head.partition}"
    wanted = range(1, head.next_seq)
    if len(rows) != len(wanted) or any(seq not in rows for seq in wanted):
        missing = [seq for seq in wanted if seq not in rows]
        beyond = [seq for seq in rows if seq not in wanted]
        verdict.add(RULE, where, f"missing in the journal: {missing[:5]}, beyond its head: {beyond[:5]}")
    if head.published_seq != head.next_seq - 1:
        verdict.add(RULE, where, f"published up to {head.published_seq} of {head.next_seq - 1}")


def _judge_published(
    verdict: Verdict, head: Head, published: list[Published], rows: dict[int, bytes], *, complete: bool
) -> None:
    """Check a partition's records. `complete` means that the topic still has its first record."""
    where = f"{head.topic}/{head.partition}"
    last = 0
    for record in published:
        seq = record.seq
        if head.topic not in RELAYS_OWN and (seq is None or rows.get(seq) != record.digest):
            # The topic has other writers, with any headers: records that the journal doesn't have are not the relay's.
            continue
        if seq is None:
            verdict.add(RULE, f"{where} offset {record.offset}", "the relay did not write this: it has no seq")
            continue
        verdict.counts["records read"] += 1
        if seq > last + 1 and (last or complete):
            verdict.add(RULE, f"{where} offset {record.offset}", f"seq {seq} comes after {last}")
        if seq <= last:
            verdict.counts["records repeated"] += 1
        if rows.get(seq) != record.digest:
            verdict.add(RULE, f"{where} offset {record.offset}", f"seq {seq} differs from the journal")
        last = max(last, seq)
    if last < head.published_seq:
        verdict.add(RULE, where, f"marked as published up to {head.published_seq}, but ends with {last}")
