"""A batch that takes Postgres too long is done in smaller ones; what else waits, waits."""

from collections.abc import Callable, Sequence
from typing import Any

from sinks.postgres.positions import read_positions
from sinks.postgres.session import Connection, Session
from streams.engine.batch import Batch
from streams.engine.work import Part, Worker
from tests.integration.world import Sent

TOPIC = "invoice-requests"


#: Longer than any of the timeouts here, which end it.
_TOO_LONG = 60.0


class Slow:
    """Takes Postgres too long for a transaction of more than `records_max` records, and for its first `tries`."""

    agent = "invoices"
    outages: tuple[type[Exception], ...] = ()

    def __init__(self, records_max: int, tries: int = 0) -> None:
        self._records_max = records_max
        self._tries = tries
        self.tried: list[int] = []
        self.done: list[int] = []

    async def prepare(self, batch: Batch) -> None:
        """Nothing."""

    async def apply(self, connection: Connection, parts: Sequence[Part[None]]) -> None:
        records = sum(len(part.batch.records) for part in parts)
        self.tried.append(records)
        is_slow = records > self._records_max or len(self.tried) <= self._tries
        await connection.execute("SELECT pg_sleep(%s)", (_TOO_LONG if is_slow else 0.0,))

    async def committed(self, batch: Batch, _: None) -> None:
        self.done += [record.offset for record in batch.records]

    def distrust(self, _: None) -> bool:
        return False


async def run(url: str, work: Slow, *records: int, **settings: str) -> None:
    """Have so many records of each partition done."""
    session = Session(url, **settings)
    async with session.connection() as connection:
        await read_positions(connection, "invoices", TOPIC, range(len(records)))
    batches = [
        Batch(TOPIC, partition, [Sent(offset, b"value", b"key") for offset in range(count)])
        for partition, count in enumerate(records)
    ]
    await Worker(session, no_log).run(work, *batches)
    await session.close()


async def no_log(topic: str, partition: int, offset: int) -> tuple[int, int]:
    raise AssertionError("no test here has a hole")


async def test_a_transaction_that_takes_too_long_is_tried_with_half_its_records(
    ledger_url: str, query: Callable[..., list[tuple[Any, ...]]]
) -> None:
    """Of the same size it would take as long again, for ever."""
    work = Slow(2)
    await run(ledger_url, work, 8, transaction_timeout="1500ms")
    assert work.done == list(range(8))
    assert work.tried == [8, 4, 2, 2, 2, 2]
    assert query("SELECT next_offset FROM positions WHERE agent = 'invoices' AND partition = 0") == [(8,)]


async def test_what_takes_too_long_together_is_tried_by_each_partition_itself(
    ledger_url: str, query: Callable[..., list[tuple[Any, ...]]]
) -> None:
    work = Slow(3)
    await run(ledger_url, work, 3, 2, transaction_timeout="1500ms")
    assert work.tried == [5, 3, 2]
    assert query("SELECT partition, next_offset FROM positions WHERE agent = 'invoices' ORDER BY 1") == [(0, 3), (1, 2)]


async def test_a_statement_that_takes_too_long_is_one_too(ledger_url: str) -> None:
    work = Slow(2)
    await run(ledger_url, work, 4, statement_timeout="1300ms")
    assert work.done == list(range(4))
    assert work.tried == [4, 2, 2]


async def test_a_single_record_that_takes_too_long_waits_as_for_any_outage(ledger_url: str) -> None:
    """Postgres is too slow for it now: it is neither dropped nor the end of the worker."""
    work = Slow(2, tries=4)
    await run(ledger_url, work, 2, transaction_timeout="1500ms")
    assert work.done == [0, 1]
    assert work.tried == [2, 1, 1, 1, 1, 1]


async def test_every_session_can_reach_both_timeouts(ledger_url: str) -> None:
    """Above the transaction's, the statement's could never fire."""
    session = Session(ledger_url)
    async with session.connection() as connection:
        cursor = await connection.execute(
            "SELECT current_setting('statement_timeout')::interval < current_setting('transaction_timeout')::interval"
        )
        assert await cursor.fetchone() == (True,)
    await session.close()
