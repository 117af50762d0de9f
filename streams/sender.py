"""Sends deliveries from their rows: taken up under a lease, called for, and written down, whatever ends in between.

A crash leaves the row as it was taken up, until its lease runs out; then it is sent again under the same id. Each
destination has a share of the calls that grows while it answers and shrinks while it doesn't, and a circuit breaker:
one that hangs takes nothing from the others.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from prometheus_client import Counter, Gauge, Histogram

from domain.breaker import Breaker, Gate
from domain.delivery import (
    FAILING_DAYS_MAX,
    RETRY_SECONDS,
    Again,
    Answer,
    Answered,
    Arrived,
    DeliveryState,
    Fate,
    GivenUp,
    Refused,
    Unwanted,
    fate,
)
from runtime.logs import tell_decisions
from runtime.metrics import REGISTRY
from sinks.postgres.deliveries import Outcome, Taken
from streams.delivery_rows import DeliveryRows

_log = logging.getLogger(__name__)

ATTEMPTS = Counter(
    "gapless_delivery_attempts_total",
    "Tries of deliveries: arrived, again (tried later), given-up, or unwanted (410).",
    ["channel", "outcome"],
    registry=REGISTRY,
)
CALL_SECONDS = Histogram(
    "gapless_delivery_call_seconds",
    "Time of a call to a receiver.",
    ["channel"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 30),
    registry=REGISTRY,
)
ARRIVED_SECONDS = Histogram(
    "gapless_delivery_arrived_seconds",
    "From a delivery's row to its arrival.",
    ["channel"],
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 600, 3_600, 36_000, 360_000),
    registry=REGISTRY,
)
IN_FLIGHT = Gauge(
    "gapless_deliveries_in_flight", "Deliveries for which a call is in flight.", ["channel"], registry=REGISTRY
)
DUE = Gauge(
    "gapless_deliveries_due",
    "Orders that have a delivery under way, of all senders. Take `max`.",
    ["channel"],
    registry=REGISTRY,
)
OLDEST = Gauge(
    "gapless_deliveries_oldest_seconds",
    "Age of the oldest delivery under way, of all senders; 0 if there is none. Take `max`.",
    ["channel"],
    registry=REGISTRY,
)
DISABLED = Counter(
    "gapless_webhook_endpoints_disabled_total",
    "Endpoints disabled: gone (410), or failing for days.",
    ["reason"],
    registry=REGISTRY,
)
DEAF = Gauge(
    "gapless_deliveries_destinations_open",
    "Destinations whose circuit breaker is not closed.",
    ["channel"],
    registry=REGISTRY,
)

_COUNT_EVERY_S = 10.0
_PURGE_EVERY_S = 3_600.0
#: Between two looks at the rows under load.
_TAKE_PACE_S = 0.01
_SHORTEST_WAIT_S = 0.05
#: A destination without calls for so long is forgotten. Not at once: one that answers fast is idle at every look, and
#: would begin with the first share again and again.
_FORGOTTEN_AFTER_S = 60.0


@dataclass(frozen=True, slots=True)
class SenderPolicy:
    """How many calls at once, how often, and for how long."""

    #: How long a row is ours; a sender that is killed delays what it had under way by this. Longer than a call takes.
    lease_seconds: float = 30.0
    #: How often rows are looked for that nobody has told of. All other looks are by notice, or when something is due.
    poll_seconds: float = 5.0
    in_flight_max: int = 1_024
    #: Calls at once to one destination: at first, and at most.
    room_first: int = 8
    room_max: int = 128
    #: Calls in a row without an answer that open a destination's breaker.
    breaker_failures: int = 5
    breaker_seconds: float = 30.0
    retry_seconds: tuple[float, ...] = RETRY_SECONDS
    failing_seconds_max: float = FAILING_DAYS_MAX * 86_400.0
    #: How long the calls under way may take when the sender stops.
    stop_seconds: float = 4.0


@dataclass(frozen=True, slots=True)
class Call:
    """What a call has come to, as the log of deliveries shows it."""

    answer: Answer
    status: int | None
    error: str
    text: str


class Channel(Protocol):
    """A way out of the house."""

    async def prepare(self, taken: list[Taken]) -> None:
        """Read what these deliveries need."""

    async def send(self, taken: Taken, now: datetime) -> Call:
        """Send it, within the lease. Raises only what is a bug."""

    async def close(self) -> None:
        """End all connections."""


class _Destination:
    """How many calls a destination may have at once."""

    def __init__(self, policy: SenderPolicy) -> None:
        self._policy = policy
        self._share = float(policy.room_first)
        self._ended_at = 0.0
        self.in_flight = 0
        self.breaker = Breaker(failures_max=policy.breaker_failures, open_seconds=policy.breaker_seconds)

    def room(self, now: float) -> int:
        """How many more may begin."""
        gate = self.breaker.gate(now)
        if gate is Gate.OPEN:
            return 0
        if gate is Gate.HALF_OPEN:
            return 0 if self.in_flight else 1
        return max(0, int(self._share) - self.in_flight)

    def answered(self, now: float) -> None:
        """Whatever it said: it answers."""
        self.breaker.succeeded(now)
        self._ended_at = now
        self._share = min(self._share + 1, self._policy.room_max)

    def failed(self, now: float, began_at: float) -> bool:
        """It has not answered; whether this has opened its breaker."""
        self._share = max(self._share / 2, 1.0)
        return self.breaker.failed(now, began_at=began_at)

    def is_as_new(self, now: float) -> bool:
        """Nothing would be lost by forgetting it."""
        is_idle = not self.in_flight and now - self._ended_at > _FORGOTTEN_AFTER_S
        return is_idle and self.breaker.gate(now) is Gate.CLOSED and self._share >= self._policy.room_first


class Sender:
    """Sends what is due until cancelled. Made on the running loop."""

    def __init__(
        self,
        rows: DeliveryRows,
        channel: Channel,
        policy: SenderPolicy,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        chance: Callable[[], float] = random.random,
    ) -> None:
        """`chance` gives numbers in [0, 1)."""
        self._rows = rows
        self._name = rows.channel.value
        self._channel = channel
        self._policy = policy
        self._now = now
        self._chance = chance
        self._destinations: dict[str, _Destination] = {}
        self._calls: dict[asyncio.Task[None], Taken] = {}
        self._awake = asyncio.Event()
        self._bug: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Send until cancelled; calls under way are then given a moment. Raises what is a bug."""
        duties = (self._poll(), self._rows.listen(self._awake.set), keep_house(self._rows, self._now))
        beside = [asyncio.create_task(each) for each in duties]
        try:
            await asyncio.wait({self._bug, *beside}, return_when=asyncio.FIRST_COMPLETED)
            for each in (self._bug, *beside):
                if each.done():
                    each.result()
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            await self._stop()

    async def _stop(self) -> None:
        if self._calls:
            await asyncio.wait(self._calls, timeout=self._policy.stop_seconds)
        unfinished = dict(self._calls)
        for call in unfinished:
            call.cancel()
        await asyncio.gather(*unfinished, return_exceptions=True)
        await self._rows.close(list(unfinished.values()))
        await self._channel.close()

    async def _poll(self) -> None:
        while True:
            self._awake.clear()
            limit = self._policy.in_flight_max - len(self._calls)
            rooms = self._rooms()
            taken = await self._rows.take(rooms, self._policy.room_first, limit) if limit > 0 else []
            if taken:
                await self._begin(taken)
                await asyncio.sleep(_TAKE_PACE_S)
                continue
            wait_s = self._policy.poll_seconds
            if limit > 0:
                full = [name for name, room in rooms.items() if not room]
                next_due = await self._rows.next_due(full)
                if next_due is not None:
                    wait_s = min(max(next_due, _SHORTEST_WAIT_S), wait_s)
                if any(not self._destinations[name].in_flight for name in full if name in self._destinations):
                    # A breaker half-opens by the clock alone.
                    wait_s = min(wait_s, self._policy.breaker_seconds / 10)
            # Not `wait_for`: cancelled in the moment that its event comes, it goes on as if nobody had.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._awake.wait()

    def _rooms(self) -> dict[str, int]:
        now = _clock()
        for name in [name for name, each in self._destinations.items() if each.is_as_new(now)]:
            del self._destinations[name]
        rooms = {name: each.room(now) for name, each in self._destinations.items()}
        deaf = sum(each.breaker.gate(now) is not Gate.CLOSED for each in self._destinations.values())
        DEAF.labels(self._name).set(deaf)
        return rooms

    async def _begin(self, taken: list[Taken]) -> None:
        await self._channel.prepare(taken)
        loop = asyncio.get_running_loop()
        for each in taken:
            destination = self._destinations.setdefault(each.destination, _Destination(self._policy))
            destination.in_flight += 1
            call = loop.create_task(self._carry_out(each, destination))
            self._calls[call] = each
            call.add_done_callback(self._ended)
        IN_FLIGHT.labels(self._name).set(len(self._calls))

    def _ended(self, call: asyncio.Task[None]) -> None:
        self._calls.pop(call, None)
        IN_FLIGHT.labels(self._name).set(len(self._calls))
        if call.cancelled():
            return
        error = call.exception()
        if error is not None and not self._bug.done():
            self._bug.set_exception(error)
        # Its order's next one is due, and there is room.
        self._awake.set()

    async def _carry_out(self, taken: Taken, destination: _Destination) -> None:
        """Call once, and write what came of it."""
        tried_at, began_at = self._now(), _clock()
        try:
            call = await self._channel.send(taken, tried_at)
        finally:
            destination.in_flight -= 1
        seconds = _clock() - began_at
        CALL_SECONDS.labels(self._name).observe(seconds)
        if isinstance(call.answer, Answered | Refused):
            destination.answered(_clock())
        elif destination.failed(_clock(), began_at):
            _log.warning(
                "%s does not answer: leaving it alone for %g s", taken.destination, self._policy.breaker_seconds
            )
        became = fate(call.answer, taken.tries, self._chance(), self._policy.retry_seconds)
        disabled = await self._rows.write(_outcome(taken, became, call, tried_at, seconds))
        ATTEMPTS.labels(self._name, _NAMES[type(became)]).inc()
        if isinstance(became, Arrived):
            ARRIVED_SECONDS.labels(self._name).observe(max(0.0, (self._now() - taken.created_at).total_seconds()))
        _tell(taken, became, call)
        if disabled is not None:
            DISABLED.labels(disabled.reason).inc()
            _log.warning(
                "the endpoint %s was disabled: %s", disabled.endpoint_id, disabled.reason,
                extra={"seller_id": taken.seller_id},
            )  # fmt: skip


async def keep_house(rows: DeliveryRows, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
    """Count what is due, whoever sends it, and delete what is old, until cancelled."""
    channel = rows.channel.value
    purge_at = _clock()
    while True:
        count, age = await rows.count_due()
        DUE.labels(channel).set(count)
        OLDEST.labels(channel).set(age)
        if _clock() >= purge_at:
            await rows.purge(now())
            purge_at = _clock() + _PURGE_EVERY_S
        await asyncio.sleep(_COUNT_EVERY_S)


_NAMES: dict[type[Fate], str] = {Arrived: "arrived", Again: "again", GivenUp: "given-up", Unwanted: "unwanted"}


def _outcome(taken: Taken, became: Fate, call: Call, tried_at: datetime, seconds: float) -> Outcome:
    state, after_seconds, is_counted = DeliveryState.OPEN, 0.0, True
    if isinstance(became, Arrived):
        state = DeliveryState.DELIVERED
    elif isinstance(became, GivenUp):
        state = DeliveryState.DEAD
    elif isinstance(became, Again):
        after_seconds, is_counted = became.after_seconds, became.is_counted
    is_gone = isinstance(became, Unwanted)
    return Outcome(
        taken, state, after_seconds, is_counted, is_gone, tried_at, seconds, call.status, call.error, call.text
    )


def _tell(taken: Taken, became: Fate, call: Call) -> None:
    told = {
        "seller_id": taken.seller_id,
        "order_id": taken.order_id,
        "delivery_id": taken.delivery_id,
        "type": taken.type,
        "outcome": _NAMES[type(became)],
        "status": call.status,
    }
    level = logging.WARNING if isinstance(became, GivenUp) else logging.INFO
    tell_decisions(_log, "delivery tried", [told], level)


def _clock() -> float:
    return asyncio.get_running_loop().time()
