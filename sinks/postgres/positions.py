"""Positions: the next offset of each agent in each partition."""

from collections.abc import Sequence
from typing import NamedTuple, NewType

from sinks.postgres.session import SQL, Connection

#: Postgres' id of the transaction that moved a position.
TransactionId = NewType("TransactionId", str)


class Move(NamedTuple):
    """A position's move in a partition, from one offset to another."""

    topic: str
    partition: int
    first_offset: int
    next_offset: int


async def read_positions(connection: Connection, agent: str, topic: str, partitions: Sequence[int]) -> dict[int, int]:
    """The next offset of each partition; 0 for one never read before."""
    async with connection.transaction():
        await connection.execute(
            SQL["make_positions"], {"agent": agent, "topic": topic, "partitions": list(partitions)}
        )
        cursor = await connection.execute(SQL["read_positions"], {"agent": agent})
        rows = await cursor.fetchall()
    wanted = set(partitions)
    return {partition: offset for its_topic, partition, offset in rows if its_topic == topic and partition in wanted}


async def move_positions(connection: Connection, agent: str, moves: Sequence[Move]) -> TransactionId | None:
    """Move the positions, each of a partition of its own, inside the caller's transaction.

    Returns the transaction's id if all of them stood at their first offset. Otherwise None, and none has moved: the
    transaction must then write nothing.
    """
    names = ("topics", "partitions", "first_offsets", "next_offsets")
    columns = {name: list(column) for name, column in zip(names, zip(*moves, strict=True), strict=True)}
    cursor = await connection.execute(SQL["move_positions"], {"agent": agent, **columns})
    moved = await cursor.fetchone()
    return None if moved is None else TransactionId(moved[0])


async def read_position(connection: Connection, agent: str, topic: str, partition: int) -> int:
    """Where the position stands now."""
    cursor = await connection.execute(SQL["read_position"], {"agent": agent, "topic": topic, "partition": partition})
    row = await cursor.fetchone()
    if row is None:
        raise LookupError(f"no position of {agent} in {topic}/{partition}: it is made when a worker starts there")
    return int(row[0])


async def was_committed(connection: Connection, transaction: TransactionId) -> bool:
    """Whether a transaction whose COMMIT got no answer was committed, as far as the server knows.

    Don't rely on it for correctness: after a crash of the server an id may be given again.
    """
    cursor = await connection.execute(SQL["was_committed"], {"transaction_id": transaction})
    return await cursor.fetchone() == (True,)
