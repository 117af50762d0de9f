"""Records of input topics in the wrong place must have become dead letters, and nothing else.

This covers the topics without a check of outcomes; for requests and checkouts those checks include it.
"""

from collections.abc import Iterable

from confluent_kafka import Message

from audit.dead_letters import DeadLetters
from audit.outcomes import judge_stopped
from audit.report import AuditReport
from runtime.roles import READERS
from schemas import placement
from schemas.catalog import CHECKOUT_REQUESTS, INPUT_TOPICS, INVOICE_REQUESTS, Topic

#: By agent and topic name.
PLACES: dict[tuple[str, str], Topic] = {
    (agent, topic.name): topic
    for agent, topics in READERS.items()
    for topic in topics
    if topic in INPUT_TOPICS and topic not in (INVOICE_REQUESTS, CHECKOUT_REQUESTS)
}


def check_places(
    report: AuditReport,
    topic: Topic,
    partitions: int,
    partition: int,
    log: Iterable[list[Message]],
    dead_letters: DeadLetters,
) -> None:
    """Check the records that the agent has handled, in `partition` of the topic's `partitions`."""
    for messages in log:
        for message in messages:
            key, value, offset = message.key(), message.value(), message.offset() or 0
            stray = placement.misplaced(partitions, partition, key, value)
            if stray is None:
                continue
            report.counts["records in the wrong place"] += 1
            _, wrong = judge_stopped(dead_letters.matches(partition, offset, key, value), stray)
            if wrong:
                report.add("outcome", f"{topic.name}/{partition} offset {offset}", wrong)
