"""Admission: whether Redis lets a checkout through to the database.

Postgres decides; admission refuses at once the checkouts that would find no stock. So losing Redis changes no outcome:
without it every checkout is admitted, and no request waits for Redis.
"""

import asyncio
import logging
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final

from prometheus_client import Counter

from admission.admission_call import PAUSE_SECONDS, StockCalls
from admission.admission_rate import Buckets
from admission.unavailable import RedisUnavailableError
from domain.reservation import Short
from runtime.exits import end_if_failed
from runtime.metrics import REGISTRY
from sinks.microbatch import MicroBatch

_log = logging.getLogger(__name__)

#: How long a caller waits for Redis at most, once: after that the breaker opens. A shorter limit would take the rush of
#: a sale's first second, when every process is short of CPU, for a Redis that hangs.
CALL_SECONDS_MAX = 0.5
#: Minimum time between two calls, so that orders are batched: a call for one order costs ten times as much per order.
_PACE_SECONDS = 0.004
#: Orders per call. Redis serves nothing else during a call, about 8 µs per order.
ORDERS_MAX = 200
#: The longest that an order stays on a waitlist.
WAITLIST_SECONDS_MAX = 30.0

ADMISSIONS = Counter("gapless_admissions_total", "Checkouts by admission's verdict.", ["verdict"], registry=REGISTRY)

#: How often a gateway polls for all its orders on waitlists; with many of them, less often.
POLL_SECONDS = 0.1
_POLLS_PER_SECOND_MAX = 20_000
#: Attempts to release what may have been granted; after them the hold expires.
_GIVE_UPS_MAX = 5

# Answers of `stock.lua`: a number, or a list that begins with one.
_NOT_HELD: Final = 0
_HELD: Final = 1
_SHORT: Final = 2
_LIMITED: Final = 3
_WAITING: Final = 4
#: Instead of the pieces of a SKU: Redis can't say.
_NOT_KNOWN: Final = -2


@dataclass(frozen=True, slots=True)
class Asked:
    """What an order wants: `pieces` has `(sku, pieces)` once per SKU, sorted. The rate limit counts per `customer`."""

    seller_id: str
    order_id: str
    customer: str
    pieces: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Admitted:
    """The order may proceed. Unless `held`, Redis holds nothing for it: the database decides."""

    held: bool


@dataclass(frozen=True, slots=True)
class SoldOut:
    """There is not enough stock. `free` of a SKU is 0 if all of its stock belongs to orders on the waitlist."""

    short: tuple[Short, ...]


@dataclass(frozen=True, slots=True)
class Limited:
    """The customer has exceeded the rate limit for one of the SKUs."""

    retry_after_seconds: float


AdmissionVerdict = Admitted | SoldOut | Limited


class Admission:
    """Admits orders for one gateway. No method raises if Redis fails."""

    def __init__(self, url: str, *, hold_seconds: int) -> None:
        """Admitted orders are held for `hold_seconds`. Raises `ValueError` for an invalid Redis URL."""
        self._calls = StockCalls(url, call_seconds_max=CALL_SECONDS_MAX)
        self._hold_ms = hold_seconds * 1000
        self._buckets = Buckets()
        # Two calls at once: one is encoded and decoded here while Redis works on the other.
        self._admits: MicroBatch[Asked, AdmissionVerdict] = MicroBatch(
            self._admit_all, questions_max=ORDERS_MAX, calls_max=2, pace_s=_PACE_SECONDS
        )
        self._stands: MicroBatch[_Waiter, Any] = MicroBatch(self._stand_all, questions_max=ORDERS_MAX)
        self._leaves: MicroBatch[tuple[Asked, bool], Any] = MicroBatch(self._leave_all, questions_max=ORDERS_MAX)
        self._releases: MicroBatch[Asked, bool] = MicroBatch(self._release_all, questions_max=ORDERS_MAX)
        self._positions: MicroBatch[tuple[str, str], int] = MicroBatch(self._read_positions, questions_max=ORDERS_MAX)
        self._levels: MicroBatch[tuple[str, str], int] = MicroBatch(
            self._read_levels, questions_max=ORDERS_MAX, calls_max=2, pace_s=_PACE_SECONDS
        )
        self._waiting: dict[asyncio.Future[Any], _Waiter] = {}
        self._poller: asyncio.Task[None] | None = None
        # Strong references, because the event loop only has weak ones.
        self._leaving: set[asyncio.Task[Any]] = set()
        self._closing = False
        #: By seller, the time until which the stock workers need no further notice of a hold.
        self._noted_until: dict[str, float] = {}

    @property
    def available(self) -> bool:
        """Whether the last call succeeded, or enough time has passed to retry."""
        return self._calls.available

    async def admit(self, asked: Asked) -> AdmissionVerdict:
        """Hold all that the order wants, or report what is short. A held or decided order gets no second hold."""
        verdict = await self._admits.ask(asked) if self.available else self._admit_alone(asked)
        ADMISSIONS.labels(_NAMES[type(verdict)]).inc()
        return verdict

    async def join_waitlist(self, asked: Asked, seconds: float) -> Admitted | SoldOut:
        """Wait, for `WAITLIST_SECONDS_MAX` at most, until it is this order's turn and all its pieces are available.

        Orders are served in the order of arrival. `SoldOut` is returned at once if nothing can become available for
        this order. If cancelled, the order leaves the waitlist and releases what was granted to it meanwhile.
        """
        waiter = _Waiter(asked, monotonic() + min(seconds, WAITLIST_SECONDS_MAX))
        if not self.available:
            return Admitted(held=False)
        try:
            answer = await self._stands.ask(waiter)
            if _kind(answer) == _WAITING:
                answer = await self._turn(waiter)
        except asyncio.CancelledError:
            waiter.gone = True
            self._later(self._leave(asked, still_wanted=False))
            raise
        if _kind(answer) in (_SHORT, _WAITING):
            return SoldOut(waiter.short or tuple(Short(sku, pieces, 0) for sku, pieces in asked.pieces))
        return Admitted(held=_kind(answer) == _HELD)

    async def position(self, seller_id: str, order_id: str) -> int | None:
        """The order's place on the waitlist, 1 for the next; None if it has none or Redis is unavailable."""
        if not self.available:
            return None
        return await self._positions.ask((seller_id, order_id)) or None

    async def obtainable(self, seller_id: str, skus: Sequence[str]) -> dict[str, int] | None:
        """The pieces of each SKU that an order would be admitted for; one that never had stock is absent.

        None if Redis is unavailable, or has no complete copy of the stock.
        """
        if not self.available:
            return None
        pieces = await asyncio.gather(*(self._levels.ask((seller_id, sku)) for sku in skus))
        if _NOT_KNOWN in pieces:
            return None
        return {sku: each for sku, each in zip(skus, pieces, strict=True) if each >= 0}

    async def release(self, asked: Asked) -> None:
        """Release the hold of an order that won't proceed. If Redis is unavailable, the hold expires instead."""
        if not await self._releases.ask(asked):
            _log.info("an order's hold was not released and will expire: Redis is unavailable")

    async def close(self) -> None:
        """Close the connections. Orders on a waitlist get `SoldOut` with what is short, and leave the waitlist."""
        self._closing = True
        for future, waiter in list(self._waiting.items()):
            if not future.done():
                future.set_result(_WAITING)
                self._later(self._leave(waiter.asked, still_wanted=False))
        if self._poller is not None:
            self._poller.cancel()
            await asyncio.gather(self._poller, return_exceptions=True)
        await asyncio.gather(*self._leaving, return_exceptions=True)
        for batch in (self._admits, self._stands, self._positions, self._leaves, self._releases, self._levels):
            await batch.close()
        await self._calls.close()

    async def _admit_all(self, orders: list[Asked]) -> list[AdmissionVerdict]:
        questions = [[asked.order_id, asked.customer, _flat(asked)] for asked in orders]
        seller_ids = [asked.seller_id for asked in orders]
        answers = await self._ask_sellers(seller_ids, "admit", questions)
        late = [index for index, answer in enumerate(answers) if answer is None]
        # Retry once unless Redis is unavailable: one late call must not admit a whole batch unchecked.
        if late and self.available:
            again = await self._ask_sellers(
                [seller_ids[index] for index in late], "admit", [questions[index] for index in late]
            )
            for index, answer in zip(late, again, strict=True):
                answers[index] = answer
        self._note_holds(seller_id for seller_id, answer in zip(seller_ids, answers, strict=True) if answer == _HELD)
        return [
            self._admit_alone(asked) if answer is None else _verdict(answer)
            for asked, answer in zip(orders, answers, strict=True)
        ]

    def _admit_alone(self, asked: Asked) -> AdmissionVerdict:
        """Admit without Redis: everything within the rate limit, which this gateway then counts by itself."""
        wait = self._buckets.spend(asked.seller_id, asked.customer, (sku for sku, _ in asked.pieces), monotonic())
        return Limited(wait) if wait > 0 else Admitted(held=False)

    async def _turn(self, waiter: "_Waiter") -> Any:
        """The answer when it is the order's turn, or when its time has expired."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[future] = waiter
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._poll(), name="admission-poll")
            self._poller.add_done_callback(end_if_failed)
        try:
            async with asyncio.timeout(waiter.deadline - monotonic()):
                return await future
        except TimeoutError:
            # Stock granted at this very moment is still wanted.
            answer = await self._leave(waiter.asked, still_wanted=True)
            if answer is None and self.available:
                # The time has expired, and no grant is known. If there is one, it is released for the next order.
                self._later(self._give_up(waiter.asked))
                return _SHORT
            return _NOT_HELD if answer is None else answer
        finally:
            del self._waiting[future]

    async def _poll(self) -> None:
        while self._waiting:
            await asyncio.sleep(max(POLL_SECONDS, len(self._waiting) / _POLLS_PER_SECOND_MAX))
            waiting = list(self._waiting.items())
            for first in range(0, len(waiting), ORDERS_MAX):
                some = [(future, waiter) for future, waiter in waiting[first : first + ORDERS_MAX] if not future.done()]
                answers = await self._stand_all([waiter for _, waiter in some])
                for (future, _), answer in zip(some, answers, strict=True):
                    if not future.done() and _kind(answer) != _WAITING:
                        future.set_result(answer)

    async def _stand_all(self, waiters: Sequence["_Waiter"]) -> list[Any]:
        """Join the waitlist with these orders, or ask about those that have joined."""
        now = monotonic()
        questions = [
            [waiter.asked.order_id, max(1, int((waiter.deadline - now) * 1000)), _flat(waiter.asked)]
            for waiter in waiters
        ]
        answers = await self._ask_sellers([waiter.asked.seller_id for waiter in waiters], "stand", questions)
        # One late call is no reason to leave the waitlist; an unavailable Redis is.
        unanswered = _WAITING if self.available else _NOT_HELD
        # Redis reports what is short when an order joins, but not when it asks again.
        self._note_holds(
            waiter.asked.seller_id for waiter, answer in zip(waiters, answers, strict=True) if answer == _HELD
        )
        joined = {
            waiter.asked.seller_id
            for waiter, answer in zip(waiters, answers, strict=True)
            if isinstance(answer, list) and len(answer) > 1 and answer[0] == _WAITING
        }
        if joined:
            self._later(self._note(dict.fromkeys(joined, 0)))
        for waiter, answer in zip(waiters, answers, strict=True):
            if isinstance(answer, list) and len(answer) > 1:
                waiter.short = _short(answer[1])
            if waiter.gone and answer is not None:
                self._undo(waiter, answer)
        return [unanswered if answer is None else answer for answer in answers]

    def _note_holds(self, seller_ids: Iterable[str]) -> None:
        """Notify the stock workers of these sellers' holds, so that expired holds end even without further calls."""
        now = monotonic()
        new = {seller_id for seller_id in seller_ids if self._noted_until.get(seller_id, 0.0) <= now}
        if new:
            # An earlier check is noted for as long as this one: the worker that does it notes the next.
            self._noted_until.update(dict.fromkeys(new, now + self._hold_ms / 1000))
            self._later(self._note(dict.fromkeys(new, self._hold_ms)))

    async def _note(self, due: dict[str, int]) -> None:
        try:
            await self._calls.run_due("", "note", list(due.items()))
        except RedisUnavailableError:
            # No harm: the comparison with Postgres checks every seller from time to time.
            for seller_id in due:
                self._noted_until.pop(seller_id, None)

    def _undo(self, waiter: "_Waiter", answer: Any) -> None:
        """Release a hold or place granted after the client had gone, since `leave` may have run before the grant."""
        if any(other.asked == waiter.asked and not other.gone for other in self._waiting.values()):
            return
        if _kind(answer) == _HELD:
            self._later(self._give_up(waiter.asked))
        elif _kind(answer) == _WAITING:
            self._later(self._leave(waiter.asked, still_wanted=False))

    async def _give_up(self, asked: Asked) -> None:
        for _ in range(_GIVE_UPS_MAX):
            if await self._releases.ask(asked) or self._closing:
                return
            await asyncio.sleep(PAUSE_SECONDS)

    async def _release_all(self, orders: list[Asked]) -> list[bool]:
        answers = await self._ask_sellers(
            [asked.seller_id for asked in orders], "release", [asked.order_id for asked in orders]
        )
        return [answer is not None for answer in answers]

    async def _leave(self, asked: Asked, *, still_wanted: bool) -> Any:
        """Leave the waitlist. Returns whether the order holds what it wanted; None without an answer."""
        return await self._leaves.ask((asked, still_wanted))

    async def _leave_all(self, leaving: list[tuple[Asked, bool]]) -> list[Any]:
        return await self._ask_sellers(
            [asked.seller_id for asked, _ in leaving],
            "leave",
            [[asked.order_id, still_wanted] for asked, still_wanted in leaving],
        )

    def _later(self, work: Coroutine[Any, Any, Any]) -> None:
        # In a separate task: a cancelled or timed-out request must not wait for Redis.
        task = asyncio.create_task(work)
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)
        task.add_done_callback(end_if_failed)

    async def _read_positions(self, names: list[tuple[str, str]]) -> list[int]:
        answers = await self._ask_sellers(
            [seller_id for seller_id, _ in names], "position", [name[1] for name in names]
        )
        return [answer or 0 for answer in answers]

    async def _read_levels(self, names: list[tuple[str, str]]) -> list[int]:
        answers = await self._ask_sellers([name[0] for name in names], "available", [name[1] for name in names])
        return [_NOT_KNOWN if answer is None else answer for answer in answers]

    async def _ask_sellers(self, seller_ids: Sequence[str], command: str, questions: Sequence[Any]) -> list[Any]:
        """One call per seller, whose keys share a hash slot that no other seller uses. None for each missing answer."""
        of_seller: dict[str, list[int]] = {}
        for index, seller_id in enumerate(seller_ids):
            of_seller.setdefault(seller_id, []).append(index)
        answers: list[Any] = [None] * len(questions)

        async def ask(seller_id: str, indexes: list[int]) -> None:
            asked: list[Any] = [questions[index] for index in indexes]
            argument = asked if command in ("position", "release", "available") else [self._hold_ms, asked]
            try:
                found = await self._calls.run(seller_id, command, argument)
            except RedisUnavailableError:
                return
            for index, answer in zip(indexes, found, strict=True):
                answers[index] = answer

        # A task group and not `gather`: if cancelled, it ends only when all of its tasks have ended.
        async with asyncio.TaskGroup() as sellers:
            for seller_id, indexes in of_seller.items():
                sellers.create_task(ask(seller_id, indexes))
        return answers


@dataclass(slots=True)
class _Waiter:
    """An order on the waitlist, until `deadline` by the monotonic clock."""

    asked: Asked
    deadline: float
    short: tuple[Short, ...] = ()
    #: The client has disconnected: what this order is granted from now on goes to the next.
    gone: bool = False


_NAMES: Final = {Admitted: "admitted", SoldOut: "sold out", Limited: "limited"}


def _flat(asked: Asked) -> list[str | int]:
    return [part for sku_pieces in asked.pieces for part in sku_pieces]


def _kind(answer: Any) -> int:
    kind: int = answer[0] if isinstance(answer, list) else answer
    return kind


def _short(short: list[list[Any]]) -> tuple[Short, ...]:
    return tuple(Short(*each) for each in short)


def _verdict(answer: Any) -> AdmissionVerdict:
    kind = _kind(answer)
    if kind == _SHORT:
        return SoldOut(_short(answer[1]))
    if kind == _LIMITED:
        return Limited(answer[1] / 1_000_000)
    return Admitted(held=kind == _HELD)
