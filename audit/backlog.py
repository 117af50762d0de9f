"""Whether anything is still in progress: the audit's check `complete` by itself, cheap enough to repeat often."""

from dataclasses import dataclass

import psycopg
from psycopg.rows import TupleRow

from runtime.kafka import end_offsets
from runtime.roles import READERS
from runtime.unread import unread
from sinks.deployment import require_partitions

#: (agent, topic) of all inputs.
_READ = [(agent, topic.name) for agent, topics in READERS.items() for topic in topics]
_COUNTS = """
SELECT (SELECT count(*) FROM invoices), (SELECT count(*) FROM documents),
       (SELECT coalesce(sum(next_seq - 1 - coalesce(published_seq, 0)), 0)
        FROM journal_heads LEFT JOIN journal_published USING (topic, partition)),
       (SELECT count(*) FROM payment_attempts WHERE state = 'open')
"""


@dataclass(frozen=True, slots=True)
class Progress:
    """Counts that show progress."""

    invoices: int
    documents: int
    unpublished: int
    #: Payment attempts without an outcome.
    open_payments: int


def read_progress(connection: psycopg.Connection[TupleRow]) -> Progress:
    """Read the counts as committed now. `connection` must be in autocommit mode."""
    row = connection.execute(_COUNTS).fetchone()
    if row is None:
        raise LookupError("counts returned nothing")
    return Progress(*(int(value) for value in row))


def is_drained(connection: psycopg.Connection[TupleRow], kafka_bootstrap: str) -> bool:
    """Whether nothing is in progress: requests and payments settled, events published, documents stored.

    Blocks. Raises `runtime.kafka.TopicError` if Kafka can't be queried, and `StartRefusedError` if Postgres has no
    recorded number of partitions.
    """
    partitions = require_partitions(connection)
    before = _ends(kafka_bootstrap, partitions)
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        progress = read_progress(connection)
        rows = connection.execute("SELECT agent, topic, partition, next_offset FROM positions").fetchall()
    if progress.unpublished or progress.open_payments or progress.documents < progress.invoices:
        return False
    positions = {(agent, topic, partition): next_offset for agent, topic, partition, next_offset in rows}
    # Per partition, the lowest position of the topic's agents.
    least = {
        (topic, partition): min(positions.get((agent, topic, partition), 0) for agent, its in _READ if its == topic)
        for topic, partition in before
    }
    if any(left.readable or left.held_back for left in unread(kafka_bootstrap, least).values()):
        return False
    # The log did not grow during the transaction, so nothing was unread at its moment either.
    return _ends(kafka_bootstrap, partitions) == before


def _ends(kafka_bootstrap: str, partitions: int) -> dict[tuple[str, int], int]:
    topics = {topic for _, topic in _READ}
    return end_offsets(kafka_bootstrap, [(topic, partition) for topic in topics for partition in range(partitions)])
