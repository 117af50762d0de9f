"""A worker's positions, read for all who ask at once."""

import asyncio
from collections.abc import Callable
from typing import Any

from sinks.postgres.session import Session
from streams.engine.app import positions_reader


async def test_positions_are_read_for_two_at_once(ledger_url: str, query: Callable[..., list[tuple[Any, ...]]]) -> None:
    """Faust's seek and its recovery ask over one session, which has one user at a time."""
    query("INSERT INTO positions (agent, topic, partition, next_offset) VALUES ('a', 'one', 0, 7), ('a', 'two', 1, 9)")
    session = Session(ledger_url)
    read = positions_reader("a", session)
    one, two = await asyncio.gather(read("one", [0]), read("two", [1]))
    assert (one, two) == ({0: 7}, {1: 9})
    await session.close()
