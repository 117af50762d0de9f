"""What is still on its way, asked often and cheaply: the audit's last check without the others."""

from dataclasses import dataclass

import psycopg
from psycopg.rows import TupleRow

from runtime.kafka import end_offsets
from schemas.catalog import INVOICE_EVENTS, INVOICE_REQUESTS, PARTITIONS

_INPUTS = {"invoices": INVOICE_REQUESTS.name, "documents": INVOICE_EVENTS.name}
_COUNTS = """
SELECT (SELECT count(*) FROM invoices), (SELECT count(*) FROM documents),
       (SELECT coalesce(sum(next_seq - 1 - published_seq), 0) FROM journal_heads)
"""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the ledger is."""

    invoices: int
    documents: int
    unpublished: int


def read_progress(connection: psycopg.Connection[TupleRow]) -> Progress:
    """Counts as committed by now. `connection` is in autocommit mode."""
    row = connection.execute(_COUNTS).fetchone()
    if row is None:
        raise LookupError("counts returned nothing")
    return Progress(*(int(value) for value in row))


def read_lag(connection: psycopg.Connection[TupleRow], kafka_bootstrap: str) -> dict[str, int]:
    """Records not yet handled, by agent. Blocks; raises `runtime.kafka.TopicError` if the brokers can't be asked."""
    ends = end_offsets(
        kafka_bootstrap, [(topic, partition) for topic in _INPUTS.values() for partition in range(PARTITIONS)]
    )
    # After the ends: a position read before them could lag behind records that were handled meanwhile.
    rows = connection.execute("SELECT agent, topic, partition, next_offset FROM positions").fetchall()
    positions = {(agent, topic, partition): next_offset for agent, topic, partition, next_offset in rows}
    lag = dict.fromkeys(_INPUTS, 0)
    for agent, its_topic in _INPUTS.items():
        for (topic, partition), end in ends.items():
            if topic == its_topic:
                lag[agent] += max(0, end - positions.get((agent, topic, partition), 0))
    return lag


def is_drained(connection: psycopg.Connection[TupleRow], kafka_bootstrap: str) -> bool:
    """Nothing is on its way: every request handled, every event published, every document stored."""
    progress = read_progress(connection)
    if progress.unpublished or progress.documents < progress.invoices:
        return False
    return not any(read_lag(connection, kafka_bootstrap).values())
