"""What is still on its way, asked often and cheaply: the audit's last check without the others."""

from dataclasses import dataclass

import psycopg
from psycopg.rows import TupleRow

from runtime.kafka import end_offsets
from runtime.roles import READERS
from runtime.unread import unread
from sinks.deployment import require_partitions

#: (agent, topic) of all that is read.
_READ = [(agent, topic.name) for agent, topics in READERS.items() for topic in topics]
_COUNTS = """
SELECT (SELECT count(*) FROM invoices), (SELECT count(*) FROM documents),
       (SELECT coalesce(sum(next_seq - 1 - coalesce(published_seq, 0)), 0)
        FROM journal_heads LEFT JOIN journal_published USING (topic, partition)),
       (SELECT count(*) FROM payment_attempts WHERE state = 'open')
"""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the ledger is."""

    invoices: int
    documents: int
    unpublished: int
    #: What the payment provider was asked and has not answered.
    open_payments: int


def read_progress(connection: psycopg.Connection[TupleRow]) -> Progress:
    """Counts as committed by now. `connection` is in autocommit mode."""
    row = connection.execute(_COUNTS).fetchone()
    if row is None:
        raise LookupError("counts returned nothing")
    return Progress(*(int(value) for value in row))


def is_drained(connection: psycopg.Connection[TupleRow], kafka_bootstrap: str) -> bool:
    """Nothing is on its way: every request and payment settled, every event published, every document stored.

    Blocks. Raises `runtime.kafka.TopicError` if the brokers can't be asked, and `StartRefusedError` if Postgres doesn't
    say how many partitions the topics have.
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
    # Of a topic's agents the one that is least far.
    least = {
        (topic, partition): min(positions.get((agent, topic, partition), 0) for agent, its in _READ if its == topic)
        for topic, partition in before
    }
    if any(left.readable or left.held_back for left in unread(kafka_bootstrap, least).values()):
        return False
    # The log did not grow around the moment of the transaction, so it held nothing more then either.
    return _ends(kafka_bootstrap, partitions) == before


def _ends(kafka_bootstrap: str, partitions: int) -> dict[tuple[str, int], int]:
    topics = {topic for _, topic in _READ}
    return end_offsets(kafka_bootstrap, [(topic, partition) for topic in topics for partition in range(partitions)])
