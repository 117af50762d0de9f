"""Whether Postgres and Kafka belong together: said before all that follows where they don't."""

from collections.abc import Mapping

from audit import statements
from audit.report import AuditError, AuditReport
from audit.snapshot import Snapshot
from runtime.kafka import TopicError
from runtime.topics import TopicState, describe_topics
from schemas.catalog import TOPICS
from sinks.agreement import RELAYED_TOPICS, read_tails


def check_agreement(snapshot: Snapshot, bootstrap: str, prefix: str, report: AuditReport) -> None:
    """Each topic has as many partitions as are recorded; none ends with more than the journal; and each position was
    counted in the topic that is there now.

    Raises `AuditError` if the brokers can't be asked.
    """
    positions = snapshot.rows(statements.TOPIC_IDS)
    try:
        topics = describe_topics(bootstrap, [prefix + name for name in TOPICS])
        # Of a topic with fewer partitions some can't be read.
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
    # As committed by now: the relay publishes what came after the snapshot.
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
                " the topic was made again, see docs/recovery.md",
            )


def _partitions(topics: Mapping[str, TopicState], name: str) -> int:
    return topics[name].partitions if name in topics else 0
