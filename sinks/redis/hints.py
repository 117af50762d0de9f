"""Hints: which orders were accepted lately, and with what content.

Postgres decides; a hint only lets a gateway answer before Postgres knows. So losing Redis changes no outcome, and
nobody waits for it: after a failure it is left alone for a moment, and every answer is `UNAVAILABLE` at once.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from enum import Enum
from time import monotonic
from typing import Any, Final, NamedTuple, TypeVar

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from sinks.microbatch import MicroBatch

_log = logging.getLogger(__name__)

#: Longer than any backlog we let grow before somebody is woken.
HINT_SECONDS = 24 * 3600
#: What a caller waits at most for an answer that is only a hint.
CALL_SECONDS_MAX = 0.1
#: How long Redis is left alone after a failure.
PAUSE_SECONDS = 1.0

#: One command for the whole batch: a pipeline of SETs costs the client five times as much.
_REMEMBER = """
for i = 1, #KEYS do redis.call('SET', KEYS[i], ARGV[i + 1], 'EX', ARGV[1]) end
return #KEYS
"""

_Result = TypeVar("_Result")


class Unavailable(Enum):
    """Redis gave no answer: nothing is known, not even that there is no hint."""

    UNAVAILABLE = "unavailable"


UNAVAILABLE: Final = Unavailable.UNAVAILABLE


class OrderName(NamedTuple):
    """An order as callers name it."""

    seller_id: str
    order_id: str


class Hints:
    """Remembers accepted orders for a day. No method raises for anything that Redis does."""

    def __init__(self, url: str) -> None:
        """Connects when first asked."""
        self._redis = redis.asyncio.Redis.from_url(
            url,
            socket_timeout=CALL_SECONDS_MAX,
            socket_connect_timeout=CALL_SECONDS_MAX,
            retry=Retry(NoBackoff(), 0),
            max_connections=4,
        )
        self._remember = self._redis.register_script(_REMEMBER)
        self._reads = MicroBatch(self._read)
        self._writes = MicroBatch(self._write)
        self._closed_until = 0.0

    @property
    def available(self) -> bool:
        """Whether the last call went well, or enough time has passed to try again."""
        return monotonic() >= self._closed_until

    async def known(self, seller_id: str, order_id: str) -> bytes | Unavailable | None:
        """The digest of the content that was accepted for the order; None if there is no hint."""
        if not self.available:
            return UNAVAILABLE
        return await self._reads.ask(OrderName(seller_id, order_id))

    async def remember(self, seller_id: str, order_id: str, content_sha256: bytes) -> bool:
        """Note that the order is accepted with this content; whether that was noted."""
        if not self.available:
            return False
        return await self._writes.ask((OrderName(seller_id, order_id), content_sha256))

    async def ping(self) -> bool:
        """Whether Redis answers now."""
        return await self._guarded(self._redis.ping) is not UNAVAILABLE

    async def close(self) -> None:
        """Close the connections."""
        await self._reads.close()
        await self._writes.close()
        await self._redis.aclose()

    async def _read(self, orders: list[OrderName]) -> list[bytes | Unavailable | None]:
        keys = [_key(order) for order in orders]
        found: Any = await self._guarded(lambda: self._redis.mget(keys))
        return [UNAVAILABLE] * len(orders) if isinstance(found, Unavailable) else found

    async def _write(self, accepted: list[tuple[OrderName, bytes]]) -> list[bool]:
        keys = [_key(order) for order, _ in accepted]
        values: list[int | bytes] = [HINT_SECONDS, *(digest for _, digest in accepted)]
        written = await self._guarded(lambda: self._remember(keys=keys, args=values))
        return [written is not UNAVAILABLE] * len(accepted)

    async def _guarded(self, call: Callable[[], Awaitable[_Result]]) -> _Result | Unavailable:
        if not self.available:
            return UNAVAILABLE
        try:
            async with asyncio.timeout(CALL_SECONDS_MAX):
                return await call()
        except (RedisError, OSError, TimeoutError) as error:
            self._closed_until = monotonic() + PAUSE_SECONDS
            _log.warning("Redis gives no hints: %s", type(error).__name__)
            return UNAVAILABLE


def _key(order: OrderName) -> str:
    # No seller id holds a colon, so no two orders share a key.
    return f"accepted:{order.seller_id}:{order.order_id}"
