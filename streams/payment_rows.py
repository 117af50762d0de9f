"""The attempts' rows, beside the batches: taken up under a lease, settled, finished or due again.

A row that is taken up is nobody else's meanwhile. A crash leaves it open, until the slot's next worker ends the lease,
or the lease runs out.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import NamedTuple, TypeVar

from prometheus_client import Counter

from domain.moments import micros
from domain.payment import Attempt, Finish
from domain.records import PaymentAttemptFinished
from runtime.metrics import REGISTRY
from runtime.outages import POSTGRES
from schemas import catalog
from schemas.codec import encode
from sinks.microbatch import MicroBatch
from sinks.postgres import payments as ledger
from sinks.postgres.payments import Finished, Leased, Retried
from sinks.postgres.session import OUTAGES, TOO_SLOW, Connection, Session

_Value = TypeVar("_Value")
_Row = TypeVar("_Row")

FINISHED = Counter("gapless_payment_attempts_total", "Finished attempts by final state.", ["state"], registry=REGISTRY)

_OUTAGE_PAUSE_FIRST_S = 0.05
_OUTAGE_PAUSE_MAX_S = 1.0
#: Rows are found by their keys: however many are open, and whatever the statistics said before there were so many.
_BY_KEY = {"enable_hashjoin": "off", "enable_mergejoin": "off", "enable_bitmapscan": "off"}
#: And those that are due in the order of their index, which ends the search where there are enough.
_IN_ORDER = {**_BY_KEY, "enable_sort": "off"}
#: Outcomes in one transaction: bounds its size; under load some dozens gather while the last one is written.
WRITTEN_MAX = 500
#: Between two such transactions: each costs some 10 ms of CPU with what it sets off elsewhere.
_WRITE_PACE_S = 0.1


class Settling(NamedTuple):
    """An authorisation that is about to be voided."""

    provider_key: str


class PaymentRows:
    """The rows as the worker of one slot takes them up and writes them. Outages of Postgres are waited out.

    One caller polls, takes and counts, one at a time; any number may write.
    """

    def __init__(
        self, url: str, slot: str, *, lease_seconds: float, provider: str, now: Callable[[], datetime]
    ) -> None:
        """`url` is the ledger's. Authorisations that nobody was asked for yet become `provider`'s when taken up."""
        self.slot = slot
        self._lease_seconds = lease_seconds
        self._provider = provider
        self._now = now
        self._takes = Session(url, **_IN_ORDER)
        self._writes = Session(url, **_BY_KEY)
        self._counts = Session(url)
        self._written = MicroBatch[Finished | Retried | Settling, bool](
            self._write, questions_max=WRITTEN_MAX, pace_s=_WRITE_PACE_S
        )

    async def take(self, limit: int, *, hopeless: bool = False) -> list[Leased]:
        """Take up to `limit` rows that are due; see `ledger.take_attempts`."""

        async def take(connection: Connection) -> list[Leased]:
            return await ledger.take_attempts(
                connection, limit, self.slot, self._lease_seconds, self._provider, hopeless=hopeless
            )

        return await self._patiently(self._takes, take)

    async def end_leases(self) -> int:
        """Make due what was under way when this slot's last worker ended; return how many."""
        return await self._patiently(self._takes, self._end_leases)

    async def count_open(self) -> tuple[int, float]:
        """How many attempts are open, of all workers, and the age of the oldest in seconds."""
        return await self._patiently(self._counts, ledger.count_open)

    async def write(self, outcome: Finished | Retried) -> None:
        """Write an outcome, with others that come at the same time."""
        await self._written.ask(outcome)

    async def settle(self, provider_key: str) -> bool:
        """Note that an authorisation is about to be voided; False if it isn't open any more."""
        return await self._written.ask(Settling(provider_key))

    async def close(self) -> None:
        """End the leases that are left, if Postgres is there, and close. Nobody may be waiting for a row any more."""
        await self._written.close()
        # Nobody is at what is left; whoever comes next in this slot would find out too, but others may be there now.
        with contextlib.suppress(*OUTAGES):
            async with self._writes.connection() as connection:
                await self._end_leases(connection)
        for session in (self._takes, self._writes, self._counts):
            await session.close()

    async def _end_leases(self, connection: Connection) -> int:
        return await ledger.end_leases(connection, self.slot)

    async def _write(self, asked: list[Finished | Retried | Settling]) -> list[bool]:
        """Write them all; False for a `Settling` whose attempt isn't open."""
        settling: set[str] = set()

        async def settle(connection: Connection, rows: Sequence[Settling]) -> None:
            # One by one, for there are few: each commits by itself.
            for row in rows:
                if await ledger.settle_attempt(connection, row.provider_key):
                    settling.add(row.provider_key)

        await self._in_parts([each for each in asked if isinstance(each, Settling)], settle)
        await self._in_parts([each for each in asked if isinstance(each, Finished)], self._finish)
        await self._in_parts([each for each in asked if isinstance(each, Retried)], ledger.retry_attempts)
        return [not isinstance(each, Settling) or each.provider_key in settling for each in asked]

    async def _in_parts(
        self, rows: Sequence[_Row], write: Callable[[Connection, Sequence[_Row]], Awaitable[None]]
    ) -> None:
        """Write the rows in one transaction; in halves where they take too long in one, as they would for ever."""
        try:
            if rows:
                gives_up = TOO_SLOW if len(rows) > 1 else ()
                await self._patiently(self._writes, lambda connection: write(connection, rows), gives_up)
        except TOO_SLOW:
            half = len(rows) // 2
            await self._in_parts(rows[:half], write)
            await self._in_parts(rows[half:], write)

    async def _finish(self, connection: Connection, rows: Sequence[Finished]) -> None:
        done = await ledger.finish_attempts(connection, catalog.PAYMENT_EVENTS.name, rows, self._now())
        for row in rows:
            if row.provider_key in done:
                FINISHED.labels(row.state.value).inc()

    async def _patiently(
        self,
        session: Session,
        act: Callable[[Connection], Awaitable[_Value]],
        gives_up: tuple[type[Exception], ...] = (),
    ) -> _Value:
        """Do it, however long Postgres is unavailable; raises what it `gives_up` at."""
        pause = _OUTAGE_PAUSE_FIRST_S
        while True:
            try:
                async with session.connection() as connection:
                    done = await act(connection)
            except gives_up:
                raise
            except OUTAGES as error:
                POSTGRES.failed(error)
                await asyncio.sleep(pause)
                pause = min(2 * pause, _OUTAGE_PAUSE_MAX_S)
            else:
                POSTGRES.answered()
                return done


def finished_event(attempt: Attempt, finish: Finish, provider: str, now: datetime) -> bytes:
    """`PaymentAttemptFinished`, encoded."""
    event: PaymentAttemptFinished = {
        "seller_id": attempt.seller_id,
        "order_id": attempt.order_id,
        "request_id": attempt.request_id,
        "action": attempt.action.value,
        "outcome": finish.state.value,
        "amount_minor": attempt.amount_minor,
        "currency": attempt.currency,
        "provider": provider,
        "reference": finish.reference,
        "reason": finish.reason,
        "tries": attempt.tries,
        "occurred_at": micros(now),
    }
    return encode(catalog.PAYMENT_ATTEMPT_FINISHED, event)
