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
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple, TypeVar

from prometheus_client import Counter, Gauge

from domain import payment
from domain.breaker import Breaker, Gate
from domain.payment import Ask, AttemptState, AttemptStep, Finish, Known, ProviderRefund, Send, Settle, Wait
from providers.provider import ForbiddenError, NoAnswerError, NotNowError, Provider, UnknownOutcomeError, send
from runtime import traces
from runtime.logs import tell_decisions
from runtime.metrics import REGISTRY
from sinks.postgres.payments import Finished, Leased, Retried
from sinks.postgres.refund_checks import Checked, RefundCheck
from streams.payment_rows import WRITTEN_MAX, PaymentRows
from streams.refund_passes import PassPolicy, RefundPasses

_log = logging.getLogger(__name__)

_Value = TypeVar("_Value")

CALLS = Counter(
    "gapless_payment_calls_total", "Calls to the payment provider by outcome.", ["action", "outcome"], registry=REGISTRY
)
IN_FLIGHT = Gauge("gapless_payment_calls_in_flight", "Attempts for which a call is in flight.", registry=REGISTRY)
BREAKER = Gauge(
    "gapless_payment_breaker",
    "1 for the circuit breaker's current state, 0 for the others.",
    ["state"],
    registry=REGISTRY,
)
OPEN = Gauge("gapless_payment_attempts_open", "Attempts without a known outcome, of all workers.", registry=REGISTRY)
OLDEST = Gauge(
    "gapless_payment_attempts_oldest_seconds",
    "Age of the oldest attempt without a known outcome, of all workers; 0 if there is none.",
    registry=REGISTRY,
)

FOREIGN = Counter(
    "gapless_payment_attempts_foreign_total",
    "Attempts left open because their payment is with a provider that this worker does not use.",
    ["provider"],
    registry=REGISTRY,
)
_COUNT_EVERY_S = 10.0
_HOPELESS_EVERY_S = 5.0
#: Checks of refunds under way at once, beside the attempts' calls.
_CHECKS_MAX = 32


@dataclass(frozen=True, slots=True)
class Policy:
    """How long payments are waited for, how many at once, and how often."""

    #: Of each call.
    timeout_seconds: float = 8.0
    #: How long a row is ours; a worker that ends and doesn't start again delays its orders by this. Longer than asking
    #: and sending take together.
    lease_seconds: float = 30.0
    #: How often rows are looked for that are due; new ones don't wait for it.
    poll_seconds: float = 0.5
    in_flight_max: int = 256
    #: Attempts in memory that wait for their call; the rest waits in its rows.
    queued_max: int = 2_000
    #: Calls without an answer, one after the other, that open the breaker.
    breaker_failures: int = 5
    breaker_seconds: float = 30.0
    #: The same once it was tried again. One would not do: it may be for a payment that always fails, and all others
    #: would wait once more for its sake.
    breaker_trials: int = 3
    backoff_first_seconds: float = 0.5
    backoff_longest_seconds: float = 60.0
    #: How long the calls under way may take when the worker stops.
    stop_seconds: float = 4.0
    #: Of the passes through the provider's list of refunds.
    passes: PassPolicy = field(default_factory=PassPolicy)

    @property
    def lease_left_seconds_min(self) -> float:
        """A lease that is shorter than this is not called under: its row might be taken up meanwhile."""
        return min(2 * self.timeout_seconds + 1, self.lease_seconds / 2)


class _Waiting(NamedTuple):
    leased: Leased
    #: On the loop's clock.
    lease_ends_at: float


class Caller:
    """Calls the provider for rows that are due. Made on the running loop."""

    def __init__(
        self,
        provider: Provider,
        url: str,
        policy: Policy,
        slot: str,
        *,
        former: Provider | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        chance: Callable[[], float] = random.random,
    ) -> None:
        """`url` is the ledger's, `slot` this worker's among those of its role, `chance` gives numbers in [0, 1).

        New payments go to `provider`; those that are with `former` stay with it.
        """
        self.policy = policy
        self._provider = provider
        #: Providers that are missing, said once each.
        self._told: set[str] = set()
        self._providers = {each.name: each for each in (former, provider) if each is not None}
        self._chance = chance
        self.rows = PaymentRows(url, slot, lease_seconds=policy.lease_seconds, provider=provider.name, now=now)
        self._breaker = Breaker(
            failures_max=policy.breaker_failures,
            open_seconds=policy.breaker_seconds,
            trials_max=policy.breaker_trials,
        )
        self._queue: deque[_Waiting] = deque()
        self._calls: set[asyncio.Task[None]] = set()
        self._awake = asyncio.Event()
        self._stopping = False
        self._hopeless_at = 0.0
        self._checking = 0
        self._checks_at = 0.0
        self._passes = RefundPasses(
            url,
            list(self._providers.values()),
            policy.passes,
            # Not told to the breaker: no buyer's payment is to wait for the sake of a list.
            call=self._counted,
            may_call=lambda: self._breaker.gate(_clock()) is not Gate.OPEN,
            pause_seconds=self._pause_seconds,
        )
        self._bug: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def slot(self) -> str:
        """The worker's among those of its role."""
        return self.rows.slot

    def wake(self) -> None:
        """There are rows that are due."""
        self._awake.set()

    async def run(self) -> None:
        """Call until cancelled; calls under way are then given a moment. Raises what is a bug."""
        polling: list[asyncio.Task[None]] = []
        try:
            ended = await self.rows.end_leases()
            if ended:
                _log.info("%d payments were under way when this slot's last worker ended; they are asked for", ended)
            polling += [
                asyncio.create_task(each()) for each in (self._poll, self._listen, self._count, self._passes.run)
            ]
            await asyncio.wait({self._bug, *polling}, return_when=asyncio.FIRST_COMPLETED)
            for each in (self._bug, *polling):
                if each.done():
                    each.result()
        finally:
            self._stopping = True
            for task in polling:
                task.cancel()
            await asyncio.gather(*polling, return_exceptions=True)
            await self._stop()

    async def _stop(self) -> None:
        self._queue.clear()
        if self._calls:
            await asyncio.wait(self._calls, timeout=self.policy.stop_seconds)
        for call in self._calls:
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)
        await self.rows.close()
        for provider in self._providers.values():
            await provider.close()

    async def _poll(self) -> None:
        """Take up rows that are due: new, due again, or left by a crash."""
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
            else:
                await self._start_checks()
            if limit > 0:
                self._awake.clear()
                lease_ends_at = _clock() + policy.lease_seconds
                taken = await self.rows.take(limit)
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

    async def _listen(self) -> None:
        async for _ in self.rows.awaited():
            self.wake()

    async def _give_up_hopeless(self) -> None:
        """End what needs no provider, while there is none: it would stand before those that could find it back."""
        now = _clock()
        if now < self._hopeless_at:
            return
        while taken := await self.rows.take(WRITTEN_MAX, hopeless=True):
            await asyncio.gather(*(self._write_outcome(each, payment.first_step(each.attempt)) for each in taken))
        # Where nothing is hopeless, all that waits was looked through.
        self._hopeless_at = now + _HOPELESS_EVERY_S

    async def _count(self) -> None:
        while True:
            count, age = await self.rows.count_open()
            OPEN.set(count)
            OLDEST.set(age)
            await asyncio.sleep(_COUNT_EVERY_S)

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

    async def _start_checks(self) -> None:
        """Begin checks of refunds that are due. Attempts go first: a check is no buyer's."""
        now = _clock()
        limit = _CHECKS_MAX - self._checking
        if now < self._checks_at or limit <= 0:
            return
        taken = await self.rows.take_checks(limit)
        for each in taken:
            self._checking += 1
            call = asyncio.get_running_loop().create_task(self._check(each))
            self._calls.add(call)
            call.add_done_callback(self._check_ended)
        if len(taken) < limit:
            self._checks_at = now + self.policy.poll_seconds

    def _check_ended(self, call: asyncio.Task[None]) -> None:
        self._checking -= 1
        self._ended(call)

    async def _check(self, check: RefundCheck) -> None:
        """Ask the provider for the refunds of a payment, and take up those that are not ours."""
        refunds: Sequence[ProviderRefund] | None = None
        provider = self._providers.get(check.provider)
        if not check.reference and check.authorization is not AttemptState.OPEN:
            # The provider has no payment of this order.
            refunds = ()
        elif provider is None:
            self._leave(check.provider)
        elif check.reference:
            with contextlib.suppress(UnknownOutcomeError, NotNowError, TimeoutError):
                refunds = await self._call("refunds", provider.refunds(check.payment))
        await self.rows.write(Checked(check, refunds, self._pause_seconds(check.tries)))

    def _ended(self, call: asyncio.Task[None]) -> None:
        self._calls.discard(call)
        IN_FLIGHT.set(len(self._calls))
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
        provider = self._providers.get(leased.provider)
        if provider is None:
            # Sent to another provider, it would be a second payment.
            if not isinstance(step, Finish):
                step = self._leave(leased.provider)
            await self._write_outcome(leased, step)
            return
        try:
            if isinstance(step, Ask):
                known = await self._call("ask", provider.ask(attempt))
                step = payment.step_after_asking(attempt, known)
            if isinstance(step, Send):
                with traces.following("CLIENT", f"{attempt.action} payment", leased.traceparent):
                    answer = await self._call(attempt.action.value, send(provider, attempt, leased.token))
                step = payment.finish(answer)
            elif isinstance(step, Settle):
                if not await self.rows.settle(attempt.provider_key):
                    return
                await self._call("void", provider.void(attempt))
                step = payment.finish_settled()
        except (UnknownOutcomeError, NotNowError, TimeoutError):
            step = Wait()
        await self._write_outcome(leased, step)

    async def _write_outcome(self, leased: Leased, step: AttemptStep) -> None:
        attempt = leased.attempt
        await self.rows.write(self._outcome(leased, step))
        if isinstance(step, Finish):
            told = {
                "seller_id": attempt.seller_id,
                "order_id": attempt.order_id,
                "request_id": attempt.request_id,
                "state": step.state.value,
                "reason": step.reason,
            }
            if leased.traceparent is not None:
                told["trace_id"] = traces.trace_id(leased.traceparent)
            tell_decisions(_log, "payment attempt finished", [told])

    def _leave(self, provider: str) -> Wait:
        """Leave an attempt open whose payment is with a provider that this worker knows nothing of."""
        FOREIGN.labels(provider).inc()
        if provider not in self._told:
            self._told.add(provider)
            _log.error(
                "payments are with %s, and this worker is set to %s: they wait; set GAPLESS_FORMER_PROVIDER to it",
                provider,
                " and ".join(sorted(self._providers)),
            )
        return Wait()

    async def _call(self, name: str, call: Awaitable[_Value]) -> _Value:
        """One call of the provider for a payment, told to the breaker."""
        began_at = _clock()
        try:
            answer = await self._counted(name, call)
        except (TimeoutError, NoAnswerError):
            self._failed(began_at)
            raise
        except UnknownOutcomeError:
            # It answers, if with a failure of its own: leaving everybody else's payments alone for that would be wrong.
            self._breaker.succeeded(_clock())
            raise
        self._breaker.succeeded(_clock())
        return answer

    async def _counted(self, name: str, call: Awaitable[_Value]) -> _Value:
        """One call of the provider, timed and counted."""
        outcome = "unknown"
        try:
            async with asyncio.timeout(self.policy.timeout_seconds):
                answer = await call
        except TimeoutError:
            outcome = "timeout"
            raise
        except NotNowError:
            outcome = "not-now"
            raise
        except ForbiddenError:
            outcome = "forbidden"
            raise
        else:
            outcome = type(answer).__name__.lower() if isinstance(answer, Known) else "succeeded"
            return answer
        finally:
            CALLS.labels(name, outcome).inc()

    def _failed(self, began_at: float) -> None:
        if self._breaker.failed(_clock(), began_at=began_at):
            # What waits in memory would outwait its lease; its rows are taken up when the provider is back.
            self._queue.clear()
            seconds = self.policy.breaker_seconds
            _log.warning("the payment provider does not answer: leaving it alone for %g s; attempts wait", seconds)

    def _outcome(self, leased: Leased, step: AttemptStep) -> Finished | Retried:
        attempt = leased.attempt
        if not isinstance(step, Finish):
            return Retried(attempt.provider_key, attempt.tries, self._pause_seconds(attempt.tries))
        return Finished(attempt, step, leased.provider, leased.traceparent)

    def _pause_seconds(self, tries: int) -> float:
        policy = self.policy
        return payment.backoff_seconds(
            tries, self._chance(), first=policy.backoff_first_seconds, longest=policy.backoff_longest_seconds
        )


def _clock() -> float:
    return asyncio.get_running_loop().time()
