"""Hints: which orders were accepted lately, and with what content.

Postgres decides; a hint only lets a gateway answer before Postgres has the order. So losing Redis changes no outcome:
after a failure Redis is not called for a moment, and every answer is `UNAVAILABLE` at once.
"""

import asyncio
from collections.abc import Awaitable, Callable
from enum import Enum
from time import monotonic, time
from typing import Any, Final, TypeVar

import redis.asyncio
import redis.exceptions
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from admission.patience import over_a_connection, within
from domain.breaker import Breaker, Gate
from domain.order import OrderIdentity
from runtime.outages import REDIS
from sinks.microbatch import MicroBatch

#: Longer than any backlog that is tolerated before an operator is called.
HINT_SECONDS = 24 * 3600
#: How long a caller waits for a hint at most.
CALL_SECONDS_MAX = 0.1
#: How long Redis is not called after a failure.
PAUSE_SECONDS = 1.0
#: Timeouts in a row that count as a hanging Redis. One alone may be due to this process being busy.
TIMEOUTS_MAX = 2
#: Key of the time since which hints are complete, set if it is missing. A Redis that lost its data has lost this too.
_SINCE_KEY = "accepted-since"
#: How long after a loss of data a missing hint says nothing; orders accepted before the loss are in Postgres by then.
FORGETFUL_SECONDS = 900
#: Time limit of the question whether any order was ever accepted, asked once for each Redis without data.
ACCEPTED_SECONDS_MAX = 1.0

#: Minimum time between two calls, so that orders are batched: a call for one costs ten times as much per order.
_PACE_SECONDS = 0.004

#: One script for the whole batch: a pipeline of SETs costs the client five times as much.
_REMEMBER = """
for i = 1, #KEYS do redis.call('SET', KEYS[i], ARGV[i + 1], 'EX', ARGV[1]) end
return #KEYS
"""

_Result = TypeVar("_Result")


class Silence(Enum):
    """Why there is no hint, if that does not mean that no order was accepted."""

    #: Redis did not answer.
    UNAVAILABLE = "unavailable"
    #: Redis has lost its data a short while ago, possibly with this hint.
    FORGOTTEN = "forgotten"


UNAVAILABLE: Final = Silence.UNAVAILABLE
FORGOTTEN: Final = Silence.FORGOTTEN


def of_checkouts(seller_id: str) -> str:
    """The seller's name in the hints of checkouts, distinct from that of its invoice requests."""
    # No seller id contains an exclamation mark, so the names are distinct.
    return f"{seller_id}!checkout"


def of_credits(seller_id: str) -> str:
    """The seller's name in the hints of credits of invoices, each under the name that `credit_name` gives it."""
    return f"{seller_id}!credit"


def credit_name(order_id: str, credit_note_id: str) -> str:
    """One name for a credit of an order's invoice."""
    # With the length no two pairs of ids are the same text.
    return f"{len(order_id)}:{order_id}:{credit_note_id}"


class Hints:
    """Remembers accepted orders for a day. No method raises if Redis fails."""

    def __init__(self, url: str, has_accepted: Callable[[], Awaitable[bool]] | None = None) -> None:
        """Connects on first use. Raises `ValueError` for an invalid Redis URL.

        `has_accepted` returns whether any order was ever accepted; if not, a Redis without data has lost nothing.
        Without `has_accepted`, or if it does not answer in time, a loss is assumed.
        """
        self._has_accepted = has_accepted
        self._redis = redis.asyncio.Redis.from_url(
            url,
            # `within` replaces these timeouts, which would also count the time in which this process is busy.
            socket_timeout=None,
            socket_connect_timeout=None,
            retry=Retry(NoBackoff(), 0),
            max_connections=4,
        )
        self._remember = self._redis.register_script(_REMEMBER)
        self._reads = MicroBatch(self._read, pace_s=_PACE_SECONDS)
        self._writes = MicroBatch(self._write, pace_s=_PACE_SECONDS)
        self._breaker = Breaker(failures_max=TIMEOUTS_MAX, open_seconds=PAUSE_SECONDS, counts_overlapping=False)

    @property
    def available(self) -> bool:
        """Whether the last call succeeded, or enough time has passed to retry."""
        return self._breaker.gate(monotonic()) is not Gate.OPEN

    def known(self, seller_id: str, order_id: str) -> "asyncio.Future[bytes | Silence | None]":
        """The digest of the content that was accepted for the order; None if no order was accepted lately."""
        if self.available:
            return self._reads.ask(OrderIdentity(seller_id, order_id))
        unavailable: asyncio.Future[bytes | Silence | None] = asyncio.get_running_loop().create_future()
        unavailable.set_result(UNAVAILABLE)
        return unavailable

    async def remember(self, seller_id: str, order_id: str, content_sha256: bytes) -> bool:
        """Record that the order is accepted with this content; returns whether Redis has it."""
        if not self.available:
            return False
        return await self._writes.ask((OrderIdentity(seller_id, order_id), content_sha256))

    async def ping(self) -> bool:
        """Whether Redis answers now."""
        return await self._guarded(self._redis.ping) is not UNAVAILABLE

    async def close(self) -> None:
        """Close the connections."""
        await self._reads.close()
        await self._writes.close()
        await self._redis.aclose()

    async def _read(self, orders: list[OrderIdentity]) -> list[bytes | Silence | None]:
        keys = [_SINCE_KEY, *map(_key, orders)]
        found: Any = await self._guarded(lambda: self._redis.mget(keys))
        if isinstance(found, Silence):
            return [found] * len(orders)
        since, *hints = found
        if since is None:
            since = await self._begin()
        forgetful = time() - int(since) < FORGETFUL_SECONDS
        return [FORGOTTEN if hint is None and forgetful else hint for hint in hints]

    async def _begin(self) -> int:
        """Set and return the time since which hints are complete: now, or 0 if no order was accepted before."""
        since = int(time()) if await self._may_have_lost() else 0
        await self._guarded(lambda: self._redis.set(_SINCE_KEY, since, nx=True))
        return since

    async def _may_have_lost(self) -> bool:
        if self._has_accepted is None:
            return True
        try:
            async with asyncio.timeout(ACCEPTED_SECONDS_MAX):
                return await self._has_accepted()
        except TimeoutError:
            return True

    async def _write(self, accepted: list[tuple[OrderIdentity, bytes]]) -> list[bool]:
        keys = [_key(order) for order, _ in accepted]
        values: list[int | bytes] = [HINT_SECONDS, *(digest for _, digest in accepted)]
        # Retry: without the hint, the order would be unknown to its own client until Postgres has it.
        for _ in range(TIMEOUTS_MAX):
            if await self._guarded(lambda: self._remember(keys=keys, args=values)) is not UNAVAILABLE:
                return [True] * len(accepted)
        return [False] * len(accepted)

    async def _guarded(self, call: Callable[[], Awaitable[_Result]]) -> _Result | Silence:
        if not self.available:
            return UNAVAILABLE
        began_at = monotonic()
        try:
            result = await within(CALL_SECONDS_MAX, over_a_connection(call()))
        except (RedisError, OSError, TimeoutError) as error:
            is_late = isinstance(error, TimeoutError | redis.exceptions.TimeoutError)
            now = monotonic()
            self._breaker.failed(now, began_at=began_at, is_certain=not is_late)
            if self._breaker.gate(now) is not Gate.CLOSED:
                REDIS.failed(error)
            return UNAVAILABLE
        self._breaker.succeeded(monotonic())
        REDIS.answered()
        return result


def _key(order: OrderIdentity) -> str:
    # No seller id holds a colon, so no two orders share a key.
    return f"accepted:{order.seller_id}:{order.order_id}"
