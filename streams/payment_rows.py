"""The attempts' rows, beside the batches: taken up under a lease, settled, finished or due again.

A row that is taken up is nobody else's meanwhile. A crash leaves it open, until the slot's next worker ends the lease,
or the lease runs out.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import NamedTuple, TypeAlias, TypeVar

from prometheus_client import Counter

from domain.order import OrderIdentity, Trigger
from domain.payment import Action, AttemptState
from runtime.logs import tell_decisions
from runtime.metrics import REGISTRY
from runtime.outages import POSTGRES
from schemas import catalog
from sinks.microbatch import MicroBatch
from sinks.postgres import payments as ledger
from sinks.postgres.payments import Finished, Leased, Retried
from sinks.postgres.refund_checks import Checked, RefundCheck, insert_checks, take_checks
from sinks.postgres.session import OUTAGES, TOO_SLOW, Connection, Session, believed
from streams.found_refunds import take_up_refunds
from streams.order_book import OrderBook
from streams.payment_outcomes import STEPS, finished_event, name_of, pay, trigger_of

_log = logging.getLogger(__name__)

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
_WRITE_PACE_S = 0.03


_Written: TypeAlias = "Finished | Retried | Settling | Checked"
_Begin = Callable[[], AbstractAsyncContextManager[Connection]]
#: Writes rows, and returns what is to be done after the commit, if anything.
_Write = Callable[[Connection, Sequence[_Row]], Awaitable[Callable[[], None] | None]]


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
        self._listens = Session(url)
        self._written = MicroBatch[_Written, bool](self._write, questions_max=WRITTEN_MAX, pace_s=_WRITE_PACE_S)

    async def take(self, limit: int, *, hopeless: bool = False) -> list[Leased]:
        """Take up to `limit` rows that are due; see `ledger.take_attempts`."""

        async def take(connection: Connection) -> list[Leased]:
            return await ledger.take_attempts(
                connection, limit, self.slot, self._lease_seconds, self._provider, hopeless=hopeless
            )

        return await self._patiently(self._takes.connection, take)

    async def end_leases(self) -> int:
        """Make due what was under way when this slot's last worker ended; return how many."""
        return await self._patiently(self._takes.connection, self._end_leases)

    async def count_open(self) -> tuple[int, float]:
        """How many attempts are open, of all workers, and the age of the oldest in seconds."""
        return await self._patiently(self._counts.connection, ledger.count_open)

    async def awaited(self) -> AsyncIterator[None]:
        """Yield where there may be new rows, until cancelled."""
        while True:
            try:
                async with self._listens.connection() as connection:
                    async for _ in ledger.await_attempts(connection):
                        yield
            except OUTAGES as error:
                POSTGRES.failed(error)
                await asyncio.sleep(_OUTAGE_PAUSE_MAX_S)

    async def take_checks(self, limit: int) -> list[RefundCheck]:
        """Take up to `limit` checks of refunds that are due."""

        async def take(connection: Connection) -> list[RefundCheck]:
            return await take_checks(connection, limit, self._lease_seconds, self._provider)

        return await self._patiently(self._takes.connection, take)

    async def write(self, outcome: Finished | Retried | Checked) -> None:
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
        for session in (self._takes, self._writes, self._counts, self._listens):
            await session.close()

    async def _end_leases(self, connection: Connection) -> int:
        return await ledger.end_leases(connection, self.slot)

    async def _write(self, asked: list[_Written]) -> list[bool]:
        """Write them all; False for a `Settling` whose attempt isn't open."""
        settling: set[str] = set()

        async def settle(connection: Connection, rows: Sequence[Settling]) -> None:
            # One by one, for there are few: each commits by itself.
            for row in rows:
                if await ledger.settle_attempt(connection, row.provider_key):
                    settling.add(row.provider_key)

        alone, transaction = self._writes.connection, self._writes.pipelined_transaction
        await self._in_parts(alone, [each for each in asked if isinstance(each, Settling)], settle)
        await self._in_parts(transaction, [each for each in asked if isinstance(each, Finished)], self._finish)
        await self._in_parts(transaction, [each for each in asked if isinstance(each, Checked)], self._take_up)
        await self._in_parts(alone, [each for each in asked if isinstance(each, Retried)], ledger.retry_attempts)
        return [not isinstance(each, Settling) or each.provider_key in settling for each in asked]

    async def _in_parts(self, begin: _Begin, rows: Sequence[_Row], write: _Write[_Row]) -> None:
        """Write the rows in one transaction; in halves where they take too long in one, as they would for ever."""
        try:
            if rows:
                gives_up = TOO_SLOW if len(rows) > 1 else ()
                tell = await self._patiently(begin, lambda connection: write(connection, rows), gives_up)
                if tell is not None:
                    tell()
        except TOO_SLOW:
            half = len(rows) // 2
            await self._in_parts(begin, rows[:half], write)
            await self._in_parts(begin, rows[half:], write)

    async def _finish(self, connection: Connection, rows: Sequence[Finished]) -> Callable[[], None]:
        """Finish the attempts, move their orders, and say both; return what is told once that is committed."""
        # An attempt may be here twice: taken up again while its first call was under way. What came first counts.
        rows = list({row.provider_key: row for row in reversed(rows)}.values())
        now = await believed(connection, self._now())
        book = OrderBook(now)
        wanted: dict[OrderIdentity, list[Trigger | None]] = {}
        for row in rows:
            wanted.setdefault(_order(row), []).append(trigger_of(row.attempt.action, row.finish.state))
        # Orders are locked before attempts, here as everywhere.
        await book.load(connection, wanted)
        done = await ledger.finish_attempts(connection, rows, now)
        finished = [row for row in rows if row.provider_key in done]
        # A refund may be refused because somebody has made another one at the provider itself.
        refused = [_order(row) for row in finished if _is_refused_refund(row)]
        await insert_checks(connection, [(order, True) for order in refused])
        outcomes = []
        for row in finished:
            attempt, finish = row.attempt, row.finish
            book.traceparent = row.traceparent
            book.say(catalog.PAYMENT_EVENTS, _order(row), finished_event(attempt, finish, row.provider, now))
            meant = pay(book, _order(row), attempt.action, attempt.request_id, finish.state, finish.reason)
            outcomes.append((name_of(attempt.action, finish.state), "applied" if meant else "no effect"))
        await book.write(connection, {})
        return lambda: _tell(finished, outcomes, book.steps)

    async def _take_up(self, connection: Connection, rows: Sequence[Checked]) -> Callable[[], None]:
        """Take up what was refunded at the provider itself; return what is told once that is committed."""
        taken = await take_up_refunds(connection, rows, await believed(connection, self._now()))

        def tell() -> None:
            STEPS.labels(Action.REFUND, "applied").inc(len(taken.refunds))
            FINISHED.labels(AttemptState.SUCCEEDED.value).inc(len(taken.refunds))
            tell_decisions(_log, "refunded at the provider", taken.refunds)
            for each in taken.uncredited:
                _log.error(
                    "the refund %s of order %s of %s, made at the provider, can't be credited (%s): "
                    "somebody must look at it",
                    each.provider_refund,
                    each.order.order_id,
                    each.order.seller_id,
                    each.reason,
                )
            tell_decisions(_log, "moved", taken.steps)

        return tell

    async def _patiently(
        self,
        begin: _Begin,
        act: Callable[[Connection], Awaitable[_Value]],
        gives_up: tuple[type[Exception], ...] = (),
    ) -> _Value:
        """Do it, however long Postgres is unavailable; raises what it `gives_up` at."""
        pause = _OUTAGE_PAUSE_FIRST_S
        while True:
            try:
                async with begin() as connection:
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


def _order(row: Finished) -> OrderIdentity:
    return OrderIdentity(row.attempt.seller_id, row.attempt.order_id)


def _is_refused_refund(row: Finished) -> bool:
    return row.attempt.action is Action.REFUND and row.finish.state is AttemptState.DECLINED


def _tell(
    finished: Sequence[Finished], outcomes: Iterable[tuple[str, str]], steps: Sequence[Mapping[str, object]]
) -> None:
    for trigger, outcome in outcomes:
        STEPS.labels(trigger, outcome).inc()
    for row in finished:
        state = row.finish.state
        FINISHED.labels(state.value).inc()
        if row.attempt.action is not Action.AUTHORIZE and state is not AttemptState.SUCCEEDED:
            _log.error(
                "the %s of order %s of %s has %s at the provider (%s): somebody must look at it",
                row.attempt.action,
                row.attempt.order_id,
                row.attempt.seller_id,
                state,
                row.finish.reason,
            )
    tell_decisions(_log, "moved", steps)
