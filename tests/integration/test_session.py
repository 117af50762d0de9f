"""One session has one user; and a silent worker does not block its partition for others."""

import asyncio
from collections.abc import Callable

import psycopg
import pytest

from sinks.postgres.lanes import Lane
from sinks.postgres.positions import Move, move_positions, read_positions
from sinks.postgres.session import OUTAGES, Session, SessionInUseError

SILENCE = "3s"


async def test_who_falls_silent_amid_a_pipeline_is_let_go_and_the_next_worker_goes_on(ledger_url: str) -> None:
    """Not idle to the server, which waits for the pipeline's next message: only the whole transaction's time counts."""
    moves = [Move("invoice-requests", 0, 0, 10)]
    stopped, other = Session(ledger_url, transaction_timeout=SILENCE), Session(ledger_url, statement_timeout="60s")
    async with other.connection() as connection:
        await read_positions(connection, "invoices", "invoice-requests", [0])
    with pytest.raises(OUTAGES):
        async with stopped.pipelined_transaction() as silent:
            assert await move_positions(silent, "invoices", moves)
            async with other.pipelined_transaction() as connection:
                assert await move_positions(connection, "invoices", moves)
    async with other.connection() as connection:
        positions = await read_positions(connection, "invoices", "invoice-requests", [0])
    assert positions == {0: 10}
    await other.close()


async def test_every_session_bounds_its_transactions(ledger_url: str) -> None:
    session = Session(ledger_url)
    async with session.connection() as connection:
        cursor = await connection.execute("SHOW transaction_timeout")
        assert await cursor.fetchone() == ("15s",)
    await session.close()


async def test_a_reader_whose_connection_was_lost_in_silence_is_answered_all_the_same(
    ledger_url: str, query: Callable[..., list[tuple[object, ...]]]
) -> None:
    """Postgres was restarted long ago, but the connection has not noticed."""
    lane = Lane(ledger_url, read_only=True)

    async def backend(session: Session) -> object:
        async with session.connection() as connection:
            cursor = await connection.execute("SELECT pg_backend_pid()")
            return await cursor.fetchone()

    before = await lane.run(backend)
    query("SELECT pg_terminate_backend(%s)", before[0])  # type: ignore[index]
    assert await lane.run(backend) not in (None, before)
    assert lane.available
    await lane.session.close()


async def test_a_second_user_of_a_session_is_refused_at_once(ledger_url: str) -> None:
    """Statements of another task, or of a nested block, would be in the wrong transaction."""
    session = Session(ledger_url)

    async def write() -> None:
        async with session.connection() as connection:
            await connection.execute("UPDATE sellers SET city = 'Nice' WHERE seller_id = 'demo'")

    async with session.pipelined_transaction() as connection:
        with pytest.raises(SessionInUseError):
            await write()
        assert [type(each) for each in await asyncio.gather(write(), write(), return_exceptions=True)] == [
            SessionInUseError,
            SessionInUseError,
        ]
        # The first user keeps the connection.
        await connection.execute("SELECT 1")
    async with session.connection() as connection:
        cursor = await connection.execute("SELECT city FROM sellers WHERE seller_id = 'demo'")
        assert await cursor.fetchone() != ("Nice",)
    await write()
    await session.close()


async def test_a_user_that_fails_leaves_the_next_one_a_connection_in_order(ledger_url: str) -> None:
    session = Session(ledger_url)
    with pytest.raises(LookupError):
        async with session.connection() as connection:
            await connection.execute("BEGIN")
            raise LookupError
    async with session.connection() as connection:
        assert connection.info.transaction_status is psycopg.pq.TransactionStatus.IDLE
    await session.close()
