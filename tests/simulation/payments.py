"""Payments: the product's agent and its calls, against a provider that acts and doesn't answer, late, or not at all."""

from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from domain.payment import Absent, Action, Attempt, Declined, Known, ProviderAnswer, Succeeded
from providers.provider import NotNowError, UnknownOutcomeError
from sinks.postgres import payments as ledger
from sinks.postgres.payments import Finished, Retried
from sinks.postgres.refund_checks import Checked
from sinks.postgres.session import OUTAGES
from streams.orders import expire_once
from streams.payment_calls import Caller, Policy
from streams.payment_rows import PaymentRows, Settling
from streams.payments import PaymentsWork
from tests.simulation.scheduler import Process
from tests.simulation.sessions import STEP, SimulatedSession, Step

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster

#: Short, so that leases run out within a history. A step is a tenth of a second.
POLICY = Policy(lease_seconds=4.0, timeout_seconds=1.0, backoff_first_seconds=1.0)
GIVE_UP_AFTER = timedelta(seconds=3)
SLOT = "0"


class Provider:
    """Payments by their keys: authorized, declined or voided. A request may be acted on when nobody waits any more."""

    name = "simulated"

    def __init__(self, cluster: "Cluster") -> None:
        self._cluster = cluster
        self.payments: dict[str, str] = {}
        #: Keys under which each order was ever charged.
        self.charged: dict[tuple[str, str], set[str]] = {}
        self._voids: set[str] = set()

    async def authorize(self, attempt: Attempt, _: str) -> ProviderAnswer:
        await self._send(lambda: self._authorize(attempt), late_percent=30)
        state = self.payments[attempt.provider_key]
        return Succeeded("ref") if state == "authorized" else Declined(state)

    async def void(self, attempt: Attempt) -> ProviderAnswer:
        await self._send(lambda: self._void(attempt), late_percent=self._cluster.rules.late_voids_percent)
        return Succeeded("ref")

    async def ask(self, attempt: Attempt) -> Known:
        await STEP
        if self._cluster.faults_now(10):
            raise UnknownOutcomeError("no answer")
        if attempt.action is Action.VOID:
            return Succeeded("ref") if attempt.provider_key in self._voids else Absent()
        state = self.payments.get(attempt.provider_key)
        if state == "authorized":
            return Succeeded("ref")
        return Declined(state) if state == "declined" else Absent()

    async def _send(self, act: Callable[[], None], *, late_percent: int) -> None:
        """The request goes out, and is acted on: now, or when nobody waits any more, or never."""
        cluster = self._cluster
        await STEP
        if cluster.faults_now(5):
            raise NotNowError("busy")
        if cluster.faults_now(10):
            raise UnknownOutcomeError("the request was lost")
        if late_percent and cluster.faults_now(late_percent):
            cluster.start("provider", late(act), cluster.choices.below(200))
            raise UnknownOutcomeError("no answer, and it may act yet")
        act()
        await STEP
        if cluster.faults_now(15):
            raise UnknownOutcomeError("the answer was lost")

    def _authorize(self, attempt: Attempt) -> None:
        if attempt.provider_key not in self.payments:
            declined = self._cluster.faults_now(20)
            self.payments[attempt.provider_key] = "declined" if declined else "authorized"
            if not declined:
                self.charged.setdefault((attempt.seller_id, attempt.order_id), set()).add(attempt.provider_key)
        self._cluster.note(f"provider: {attempt.order_id} is {self.payments[attempt.provider_key]}")

    def _void(self, attempt: Attempt) -> None:
        # Known or not: what comes under this key later finds it void.
        self.payments[attempt.payment_key] = "voided"
        self._voids.add(attempt.provider_key)
        self._cluster.note(f"provider: {attempt.order_id} is voided")


def late(act: Callable[[], None]) -> Callable[[Process], Coroutine[Any, None, None]]:
    """A request that was on its way for long."""

    async def body(_: Process) -> None:
        act()

    return body


class Calls(Caller):
    """The product's way through an attempt, without its queue, its clocks and its breaker."""

    def __init__(self, cluster: "Cluster", rows: "SimulatedRows") -> None:
        self.policy = POLICY
        provider: Any = cluster.provider
        self._provider = provider
        self._providers = {"local": provider}
        self.rows = rows
        self._now = cluster.now_utc
        self._chance = lambda: 0.0

    async def _call(self, _: str, call: Awaitable[Any]) -> Any:
        return await call


class SimulatedRows(PaymentRows):
    """The product's rows, on sessions of the simulation; what is written at the same time is not gathered."""

    def __init__(self, cluster: "Cluster", process: Process) -> None:
        self.slot = SLOT
        self._now = cluster.now_utc
        self._takes, self._writes = SimulatedSession(cluster, process), SimulatedSession(cluster, process)

    async def write(self, outcome: Finished | Retried | Checked) -> None:
        """Write one outcome."""
        await self._write([outcome])

    async def settle(self, provider_key: str) -> bool:
        """As the product, alone."""
        [is_open] = await self._write([Settling(provider_key)])
        return is_open

    async def _patiently(self, begin: Callable[[], Any], act: Callable[[Any], Awaitable[Any]], _: Any = ()) -> Any:
        while True:
            try:
                async with begin() as connection:
                    return await act(connection)
            except OUTAGES:
                await STEP


def payer(cluster: "Cluster") -> Callable[[Process], Coroutine[Any, None, None]]:
    """Takes up what is due, and goes a step further with it."""

    async def body(process: Process) -> None:
        session = SimulatedSession(cluster, process)
        calls = Calls(cluster, SimulatedRows(cluster, process))
        # However many there are at once, each believes that the slot is its own: who comes later ends their leases.
        await calls.rows.end_leases()
        while True:
            await Step(cluster.payments_are_due)
            # Read before the rows are taken, so that the lease ends here first.
            lease_ends_at = cluster.server_now() + POLICY.lease_seconds
            try:
                limit = 1 + cluster.choices.below(2)
                async with session.connection() as connection:
                    taken = await ledger.take_attempts(connection, limit, SLOT, POLICY.lease_seconds, "local")
            except OUTAGES:
                continue
            for leased in taken:
                if lease_ends_at - cluster.server_now() >= POLICY.lease_left_seconds_min:
                    await calls._carry_out(leased)

    return body


def expirer(cluster: "Cluster") -> Callable[[Process], Coroutine[Any, None, None]]:
    """Cancels what was not paid in time."""

    async def body(process: Process) -> None:
        session = SimulatedSession(cluster, process)
        while True:
            await Step(cluster.holds_have_expired)
            try:
                await expire_once(session, cluster.now_utc())
            except OUTAGES:
                await STEP

    return body


class Rows(PaymentsWork):
    """The product's agent; its new attempts wait in their rows until a payer takes them up."""

    def __init__(self, cluster: "Cluster") -> None:
        caller: Any = self
        super().__init__(caller, cluster.now_utc, GIVE_UP_AFTER)

    def wake(self) -> None:
        """The rows are seen as it is."""
