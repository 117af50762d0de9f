"""Whether Postgres and Kafka belong together. Checked first, because a mismatch causes many other violations."""

from collections.abc import Mapping

from audit import statements
from audit.report import AuditError, AuditReport
from audit.snapshot import Snapshot
from runtime.kafka import TopicError
from runtime.topics import TopicState, describe_topics
from schemas.catalog import TOPICS
from sinks.agreement import RELAYED_TOPICS, read_tails


def check_agreement(snapshot: Snapshot, bootstrap: str, prefix: str, report: AuditReport) -> None:
    """Compare partition counts with the recorded one, topic ends with the journal, and positions with topic ids.

    Raises `AuditError` if Kafka can't be queried.
    """
    positions = snapshot.rows(statements.TOPIC_IDS)
    try:
        topics = describe_topics(bootstrap, [prefix + name for name in TOPICS])
        # A topic with fewer partitions lacks some of those to read.
        read = [topic for topic in RELAYED_TOPICS if _partitions(topics, prefix + topic.name) >= snapshot.partitions]
        tails = read_tails(bootstrap, read, snapshot.partitions, prefix)
    except TopicError as error:
        raise AuditError(str(error)) from None
    for name, topic in sorted(topics.items()):
        if topic.partitions != snapshot.partitions:
            report.add(
                "topic",
                name,
                f"has {topic.partitions} partitions, and Postgres has recorded {snapshot.partitions} for each topic:"
                " see docs/recovery.md",
            )
    # Heads as committed now, because the relay publishes rows that are newer than the snapshot.
    heads = {(topic, partition): next_seq - 1 for topic, partition, next_seq, _ in snapshot.rows_now(statements.HEADS)}
    for each, tail in sorted(tails.items()):
        if tail.seq > heads.get(each, 0):
            report.add(
                "topic",
                f"{each[0]}/{each[1]}",
                f"ends with seq {tail.seq} (offset {tail.offset}), and the journal with seq {heads.get(each, 0)}:"
                " Postgres is older than the topic, see docs/recovery.md",
            )
    for agent, topic, topic_id in positions:
        found = topics.get(prefix + topic)
        if found is not None and found.topic_id != topic_id:
            report.add(
                "position",
                f"{agent} in {topic}",
                f"was counted in the topic of the id {topic_id}, and the one there now has the id {found.topic_id}:"
                " the topic was recreated, see docs/recovery.md",
            )


def _partitions(topics: Mapping[str, TopicState], name: str) -> int:
    return topics[name].partitions if name in topics else 0
