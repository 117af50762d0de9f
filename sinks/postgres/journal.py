"""The journal: all output, in the order of commits. Kafka's output topics are copies of it."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

from psycopg import AsyncCursor
from psycopg.rows import TupleRow

from schemas.codec import lacks_event_id
from sinks.postgres.session import SQL, Connection


class JournalRow(NamedTuple):
    """One event or dead letter; its seq is assigned when it is appended."""

    key: bytes | None
    payload: bytes
    occurred_at: datetime
    #: The trace that it belongs to.
    traceparent: str | None = None


#: An output: a topic's name and a partition.
OutputKey = tuple[str, int]


async def append(connection: Connection, output: Mapping[OutputKey, Sequence[JournalRow]]) -> None:
    """Append the rows of each output; those without rows are left alone.

    An event that lacks its id gets it: topic, partition and seq.

    Heads stay locked until the transaction ends, and are the last that it locks: call this once.
    """
    await _append(connection, output)


async def append_numbered(
    connection: Connection, output: Mapping[OutputKey, Sequence[JournalRow]]
) -> dict[OutputKey, int]:
    """As `append`; return the seq of each output's first row."""
    cursor = await _append(connection, output)
    return {} if cursor is None else {(topic, partition): first for topic, partition, first in await cursor.fetchall()}


async def _append(
    connection: Connection, output: Mapping[OutputKey, Sequence[JournalRow]]
) -> AsyncCursor[TupleRow] | None:
    rows = [(*key, row) for key, its_rows in output.items() for row in its_rows]
    if not rows:
        return None
    return await connection.execute(
        SQL["append_journal"],
        {
            "topics": [topic for topic, _, _ in rows],
            "partitions": [partition for _, partition, _ in rows],
            "keys": [row.key for *_, row in rows],
            "payloads": [row.payload for *_, row in rows],
            "lack_ids": [lacks_event_id(row.payload) for *_, row in rows],
            "occurred_ats": [row.occurred_at for *_, row in rows],
            "traceparents": traceparents_of(row for *_, row in rows),
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
