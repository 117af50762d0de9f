"""Calls the payment provider, beside the batches, from the attempts' rows.

A row is taken up under a lease: nobody else calls for it meanwhile. A crash leaves the row open, until the slot's next
worker ends the lease or it runs out; whoever takes it up again asks the provider first. So nothing is forgotten, and
nothing is charged twice.
"""

import asyncio
import contextlib
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple, TypeVar

from prometheus_client import Counter, Gauge

from domain import payment
from domain.payment import Action, Ask, Attempt, Breaker, Finish, Gate, Send, Settle, Step, Wait
from runtime.metrics import REGISTRY
from schemas import catalog
from schemas.codec import encode
from sinks.microbatch import MicroBatch
from sinks.payments.provider import ForbiddenError, NoAnswerError, NotNowError, Provider, UnknownOutcomeError
from sinks.postgres import payments as ledger
from sinks.postgres.payments import Finished, Leased, Retried
from sinks.postgres.session import OUTAGES, Session
from streams.dead_letters import micros
from streams.payment_policy import Policy

_log = logging.getLogger(__name__)

Value = TypeVar("Value")

CALLS = Counter(
    "gapless_payment_calls_total", "Calls of the provider by outcome.", ["action", "outcome"], registry=REGISTRY
)
FINISHED = Counter(
    "gapless_payment_attempts_total", "Payment attempts by how they ended.", ["state"], registry=REGISTRY
)
IN_FLIGHT = Gauge("gapless_payment_calls_in_flight", "Attempts being called for at this moment.", registry=REGISTRY)
BREAKER = Gauge("gapless_payment_breaker", "1 for the state that the breaker is in.", ["state"], registry=REGISTRY)
OPEN = Gauge("gapless_payment_attempts_open", "Attempts without a certain outcome, of all workers.", registry=REGISTRY)
OLDEST = Gauge(
    "gapless_payment_attempts_oldest_seconds", "Age of the oldest open attempt, of all workers.", registry=REGISTRY
)

_OUTAGE_PAUSE_FIRST_S = 0.05
_OUTAGE_PAUSE_MAX_S = 1.0
_COUNT_EVERY_S = 10.0
_HOPELESS_EVERY_S = 5.0
#: Rows are found by their keys: however many are open, and whatever the statistics said before there were so many.
_BY_KEY = {"enable_hashjoin": "off", "enable_mergejoin": "off", "enable_bitmapscan": "off"}
#: And those that are due in the order of their index, which ends the search where there are enough.
_IN_ORDER = {**_BY_KEY, "enable_sort": "off"}
#: Outcomes in one transaction: bounds its size; under load some dozens gather while the last one is written.
_WRITTEN_MAX = 500
#: Between two such transactions: each costs some 10 ms of CPU with what it sets off elsewhere.
_WRITE_PACE_S = 0.1


class _Waiting(NamedTuple):
    leased: Leased
    #: On the loop's clock.
    lease_ends_at: float


class Caller:
    """Calls the provider for attempts that are handed over, and for rows that are due. Made on the running loop."""

    def __init__(
        self,
        provider: Provider,
        url: str,
        policy: Policy,
        slot: str,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        chance: Callable[[], float] = random.random,
    ) -> None:
        """`url` is the ledger's, `slot` this worker's among those of its role, `chance` gives numbers in [0, 1)."""
        self.policy = policy
        self.slot = slot
        self._provider = provider
        self._url = url
        self._now = now
        self._chance = chance
        self._rows = Session(url, **_IN_ORDER)
        self._outcomes = Session(url, **_BY_KEY)
        self._written = MicroBatch[Finished | Retried, None](
            self._write, questions_max=_WRITTEN_MAX, pace_s=_WRITE_PACE_S
        )
        self._breaker = Breaker(failures_max=policy.breaker_failures, open_seconds=policy.breaker_seconds)
        self._queue: deque[_Waiting] = deque()
        self._calls: set[asyncio.Task[None]] = set()
        self._awake = asyncio.Event()
        self._has_begun = False
        self._stopping = False
        self._hopeless_at = 0.0
        self._bug: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def room(self) -> int:
        """How many more attempts can be handed over; what is more must wait in its rows."""
        # Before it has begun, what it leased would be taken for its predecessor's.
        if not self._has_begun or self._stopping or self._breaker.gate(_clock()) is not Gate.CLOSED:
            return 0
        return max(0, self.policy.queued_max - len(self._queue))

    def offer(self, leased: Sequence[Leased], lease_ends_at: float) -> None:
        """Hand over attempts whose rows are committed, with their lease taken until `lease_ends_at`."""
        self._queue.extend(_Waiting(each, lease_ends_at) for each in leased)
        self._start_calls()

    def wake(self) -> None:
        """There are rows that are due."""
        self._awake.set()

    async def run(self) -> None:
        """Call until cancelled; calls under way are then given a moment. Raises what is a bug."""
        polling: list[asyncio.Task[None]] = []
        try:
            ended = await self._patiently(self._rows, self._end_leases)
            if ended:
                _log.info("%d payments were under way when this slot's last worker ended; they are asked for", ended)
            self._has_begun = True
            polling += [asyncio.create_task(self._poll()), asyncio.create_task(self._count())]
            await asyncio.wait({self._bug, *polling}, return_when=asyncio.FIRST_COMPLETED)
            for each in (self._bug, *polling):
                if each.done():
                    each.result()
        finally:
            self._stopping = True
            for task in polling:
                task.cancel()
            await self._stop()

    async def _stop(self) -> None:
        self._queue.clear()
        if self._calls:
            await asyncio.wait(self._calls, timeout=self.policy.stop_seconds)
        for call in self._calls:
            call.cancel()
        await self._written.close()
        # Nobody is at what is left; whoever comes next in this slot would find out too, but others may be there now.
        with contextlib.suppress(*OUTAGES):
            await self._end_leases(self._outcomes)
        await self._provider.close()
        await self._rows.close()
        await self._outcomes.close()

    async def _poll(self) -> None:
        """Take up rows that are due: left by a crash, due again, or too many to be handed over."""
        policy = self.policy
        while True:
            self._start_calls()
            gate = self._breaker.gate(_clock())
            for each in Gate:
                BREAKER.labels(each.value).set(each is gate)
            limit = min(policy.in_flight_max, policy.queued_max - len(self._queue))
            if gate is not Gate.CLOSED:
                await self._give_up_hopeless()
                limit = 1 if gate is Gate.HALF_OPEN and not self._calls and not self._queue else 0
            if limit > 0:
                self._awake.clear()
                lease_ends_at = _clock() + policy.lease_seconds
                taken = await self._take(limit)
                self._queue.extend(_Waiting(each, lease_ends_at) for each in taken)
                self._start_calls()
                if len(taken) == limit and gate is Gate.CLOSED:
                    # There may be more; but not so fast that calls and batches get no turn.
                    await asyncio.sleep(0.01 if len(self._queue) < policy.in_flight_max else 0.1)
                    continue
            if gate is Gate.CLOSED:
                # Not `wait_for`: cancelled in the moment that its event comes, it goes on as if nobody had.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(policy.poll_seconds):
                        await self._awake.wait()
            else:
                await asyncio.sleep(policy.poll_seconds)

    async def _give_up_hopeless(self) -> None:
        """End what needs no provider, while there is none: it would stand before those that could find it back."""
        now = _clock()
        if now < self._hopeless_at:
            return
        while taken := await self._take(_WRITTEN_MAX, hopeless=True):
            outcomes = [self._outcome(each.attempt, payment.first_step(each.attempt)) for each in taken]
            await asyncio.gather(*(self._written.ask(each) for each in outcomes))
        # Where nothing is hopeless, all that waits was looked through.
        self._hopeless_at = now + _HOPELESS_EVERY_S

    async def _take(self, limit: int, *, hopeless: bool = False) -> list[Leased]:
        async def take(session: Session) -> list[Leased]:
            connection = await session.connection()
            return await ledger.take_attempts(
                connection, limit, self.slot, self.policy.lease_seconds, hopeless=hopeless
            )

        return await self._patiently(self._rows, take)

    async def _end_leases(self, session: Session) -> int:
        return await ledger.end_leases(await session.connection(), self.slot)

    async def _count(self) -> None:
        session = Session(self._url)
        try:
            while True:
                count, age = await self._patiently(session, _count_open)
                OPEN.set(count)
                OLDEST.set(age)
                await asyncio.sleep(_COUNT_EVERY_S)
        finally:
            await session.close()

    def _start_calls(self) -> None:
        """Begin as many calls as the bounds and the breaker permit."""
        queue, policy = self._queue, self.policy
        loop = asyncio.get_running_loop()
        now = _clock()
        while queue and len(self._calls) < policy.in_flight_max and not self._stopping:
            gate = self._breaker.gate(now)
            if gate is Gate.OPEN or (gate is Gate.HALF_OPEN and self._calls):
                break
            waiting = queue.popleft()
            # Too late to call under it: its row will be taken up again when the lease has run out.
            if waiting.lease_ends_at - now < policy.lease_left_seconds_min:
                continue
            call = loop.create_task(self._carry_out(waiting.leased))
            self._calls.add(call)
            call.add_done_callback(self._ended)
        IN_FLIGHT.set(len(self._calls))

    def _ended(self, call: asyncio.Task[None]) -> None:
        self._calls.discard(call)
        if call.cancelled():
            return
        error = call.exception()
        if error is not None and not self._bug.done():
            self._bug.set_exception(error)
        if not self._stopping:
            self._start_calls()

    async def _carry_out(self, leased: Leased) -> None:
        """Go one step further with an attempt, and write what came of it."""
        attempt = leased.attempt
        step = payment.first_step(attempt)
        try:
            if isinstance(step, Ask):
                known = await self._call("ask", self._provider.ask(attempt))
                step = payment.step_after_asking(attempt, known)
            if isinstance(step, Send):
                step = payment.finish(await self._call(attempt.action.value, self._send(leased)))
            elif isinstance(step, Settle):
                if not await self._patiently(self._outcomes, lambda session: _settle(session, attempt.provider_key)):
                    return
                await self._call("void", self._provider.void(attempt))
                step = payment.finish_settled()
        except (UnknownOutcomeError, NotNowError, TimeoutError):
            step = Wait()
        await self._written.ask(self._outcome(attempt, step))

    def _send(self, leased: Leased) -> Awaitable[payment.Answer]:
        attempt = leased.attempt
        match attempt.action:
            case Action.AUTHORIZE:
                return self._provider.authorize(attempt, leased.token)
            case Action.CAPTURE:
                return self._provider.capture(attempt)
            case Action.VOID:
                return self._provider.void(attempt)
            case Action.REFUND:
                return self._provider.refund(attempt)

    async def _call(self, name: str, call: Awaitable[Value]) -> Value:
        """One call of the provider, timed, counted, and told to the breaker."""
        outcome = "unknown"
        began_at = _clock()
        try:
            async with asyncio.timeout(self.policy.timeout_seconds):
                answer = await call
        except TimeoutError:
            outcome = "timeout"
            self._failed(began_at)
            raise
        except NoAnswerError:
            self._failed(began_at)
            raise
        except UnknownOutcomeError:
            # It answers, if with a failure of its own: leaving everybody else's payments alone for that would be wrong.
            self._breaker.succeeded(_clock())
            raise
        except NotNowError:
            outcome = "not-now"
            raise
        except ForbiddenError:
            outcome = "forbidden"
            raise
        else:
            outcome = type(answer).__name__.lower()
            self._breaker.succeeded(_clock())
            return answer
        finally:
            CALLS.labels(name, outcome).inc()

    def _failed(self, began_at: float) -> None:
        if self._breaker.failed(_clock(), began_at=began_at):
            # What waits in memory would outwait its lease; its rows are taken up when the provider is back.
            self._queue.clear()
            seconds = self.policy.breaker_seconds
            _log.warning("the payment provider does not answer: leaving it alone for %g s; attempts wait", seconds)

    def _outcome(self, attempt: Attempt, step: Step) -> Finished | Retried:
        if not isinstance(step, Finish):
            policy = self.policy
            after = payment.backoff_seconds(
                attempt.tries,
                self._chance(),
                first=policy.backoff_first_seconds,
                longest=policy.backoff_longest_seconds,
            )
            return Retried(attempt.provider_key, attempt.tries, after)
        event = finished_event(attempt, step, self._provider.name, self._now())
        key = attempt.order_id.encode()
        return Finished(attempt.provider_key, step.state, step.reference, step.reason, key, event)

    async def _write(self, outcomes: list[Finished | Retried]) -> list[None]:
        finished = [each for each in outcomes if isinstance(each, Finished)]
        retried = [each for each in outcomes if isinstance(each, Retried)]
        if finished:
            await self._patiently(self._outcomes, lambda session: self._finish(session, finished))
        if retried:
            await self._patiently(self._outcomes, lambda session: _retry(session, retried))
        return [None] * len(outcomes)

    async def _finish(self, session: Session, rows: list[Finished]) -> None:
        topic = catalog.PAYMENT_EVENTS.name
        done = await ledger.finish_attempts(await session.connection(), topic, rows, self._now())
        for row in rows:
            if row.provider_key in done:
                FINISHED.labels(row.state.value).inc()

    async def _patiently(self, session: Session, act: Callable[[Session], Awaitable[Value]]) -> Value:
        """Do it, however long the ledger is away."""
        pause = _OUTAGE_PAUSE_FIRST_S
        while True:
            try:
                return await act(session)
            except OUTAGES as error:
                _log.warning("payments wait for the ledger: %s", next(iter(str(error).splitlines()), ""))
                await session.close()
                await asyncio.sleep(pause)
                pause = min(2 * pause, _OUTAGE_PAUSE_MAX_S)


def finished_event(attempt: Attempt, finish: Finish, provider: str, now: datetime) -> bytes:
    """`PaymentAttemptFinished`, encoded."""
    return encode(
        catalog.PAYMENT_ATTEMPT_FINISHED,
        {
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
        },
    )


async def _settle(session: Session, provider_key: str) -> bool:
    return await ledger.settle_attempt(await session.connection(), provider_key)


async def _retry(session: Session, rows: list[Retried]) -> None:
    await ledger.retry_attempts(await session.connection(), rows)


async def _count_open(session: Session) -> tuple[int, float]:
    return await ledger.count_open(await session.connection())


def _clock() -> float:
    return asyncio.get_running_loop().time()
