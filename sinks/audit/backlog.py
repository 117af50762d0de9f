"""What is still on its way, asked often and cheaply: the audit's last check without the others."""

from dataclasses import dataclass

import psycopg
from psycopg.rows import TupleRow

from runtime.kafka import end_offsets
from schemas.catalog import (
    CHECKOUT_REQUESTS,
    INVOICE_EVENTS,
    INVOICE_REQUESTS,
    ORDER_COMMANDS,
    ORDER_EVENTS,
    PARTITIONS,
    PAYMENT_EVENTS,
)

#: Topic → the agent that reads it.
_READERS = {
    INVOICE_REQUESTS.name: "invoices",
    INVOICE_EVENTS.name: "documents",
    CHECKOUT_REQUESTS.name: "checkouts",
    ORDER_COMMANDS.name: "orders",
    PAYMENT_EVENTS.name: "orders",
    ORDER_EVENTS.name: "payments",
}
_COUNTS = """
SELECT (SELECT count(*) FROM invoices), (SELECT count(*) FROM documents),
       (SELECT coalesce(sum(next_seq - 1 - published_seq), 0) FROM journal_heads),
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

    Blocks; raises `runtime.kafka.TopicError` if the brokers can't be asked.
    """
    before = _ends(kafka_bootstrap)
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        progress = read_progress(connection)
        rows = connection.execute("SELECT agent, topic, partition, next_offset FROM positions").fetchall()
    if progress.unpublished or progress.open_payments or progress.documents < progress.invoices:
        return False
    positions = {(agent, topic, partition): next_offset for agent, topic, partition, next_offset in rows}
    for (topic, partition), end in before.items():
        if positions.get((_READERS[topic], topic, partition), 0) < end:
            return False
    # The log did not grow around the moment of the transaction, so it held nothing more then either.
    return _ends(kafka_bootstrap) == before


def _ends(kafka_bootstrap: str) -> dict[tuple[str, int], int]:
    return end_offsets(kafka_bootstrap, [(topic, partition) for topic in _READERS for partition in range(PARTITIONS)])
