"""The journal: all output, in the order of commits. Kafka's output topics are copies of it."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

from sinks.postgres.session import SQL, Connection


class JournalRow(NamedTuple):
    """One event or dead letter; its seq is assigned when it is appended."""

    key: bytes | None
    payload: bytes
    occurred_at: datetime
    #: The trace that it belongs to.
    traceparent: str | None = None


async def take_seqs(connection: Connection, topic: str, partition: int, count: int) -> int:
    """Take `count` sequence numbers and return the first. The head stays locked until the transaction ends."""
    cursor = await connection.execute(SQL["take_seqs"], {"topic": topic, "partition": partition, "count": count})
    row = await cursor.fetchone()
    if row is None:
        raise LookupError(f"journal head of {topic}/{partition} returned nothing")
    return int(row[0])


async def append(
    connection: Connection, topic: str, partition: int, first_seq: int, rows: Sequence[JournalRow]
) -> None:
    """Append rows under the sequence numbers taken for them."""
    await connection.execute(
        SQL["append_journal"],
        {
            "topic": topic,
            "partition": partition,
            "first": first_seq,
            "keys": [row.key for row in rows],
            "payloads": [row.payload for row in rows],
            "occurred_ats": [row.occurred_at for row in rows],
            "traceparents": traceparents_of(rows),
        },
    )


async def append_all(connection: Connection, partition: int, output: Mapping[str, Sequence[JournalRow]]) -> None:
    """Take sequence numbers and append rows to several topics of one partition; topics without rows are left alone."""
    rows = [(topic, row) for topic, its_rows in sorted(output.items()) for row in its_rows]
    if not rows:
        return
    await connection.execute(
        SQL["append_output"],
        {
            "partition": partition,
            "topics": [topic for topic, _ in rows],
            "keys": [row.key for _, row in rows],
            "payloads": [row.payload for _, row in rows],
            "occurred_ats": [row.occurred_at for _, row in rows],
            "traceparents": traceparents_of([row for _, row in rows]),
        },
    )


class HasTraceparent(Protocol):
    """A row that may belong to a trace."""

    @property
    def traceparent(self) -> str | None: ...


def traceparents_of(rows: Iterable[HasTraceparent]) -> list[str | None] | None:
    """The rows' traceparents as an array for `unnest`; None if no row has one, which means nulls."""
    traceparents = [row.traceparent for row in rows]
    return traceparents if any(traceparents) else None
