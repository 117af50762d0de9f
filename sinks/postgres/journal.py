"""The journal: the output, in the order of commits. Kafka's topics are copies of it."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from sinks.postgres.session import Connection
from sinks.postgres.sql import SQL


class JournalRow(NamedTuple):
    """One event or dead letter; its seq is given when it is appended."""

    key: bytes | None
    payload: bytes
    occurred_at: datetime


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
        },
    )


async def append_all(connection: Connection, partition: int, output: Mapping[str, Sequence[JournalRow]]) -> None:
    """Append rows to several topics of one partition; topics without rows are left alone.

    Heads are locked in the order of the topics' names, here as everywhere: two agents can't wait for each other.
    """
    topics = sorted(topic for topic, rows in output.items() if rows)
    # All are asked before the first answer is read: they travel together.
    taken = [
        await connection.execute(
            SQL["take_seqs"], {"topic": topic, "partition": partition, "count": len(output[topic])}
        )
        for topic in topics
    ]
    for topic, cursor in zip(topics, taken, strict=True):
        row = await cursor.fetchone()
        if row is None:
            raise LookupError(f"journal head of {topic}/{partition} returned nothing")
        await append(connection, topic, partition, int(row[0]), output[topic])
