"""Calls of `stock.lua`: what they cost at most, and when Redis is left alone."""

import asyncio
import logging
from importlib.resources import files
from time import monotonic
from typing import Any

import msgspec.msgpack
import redis.asyncio
import redis.exceptions
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from sinks.redis.patience import over_a_connection, within

_log = logging.getLogger(__name__)

#: How long Redis is left alone after a failure.
PAUSE_SECONDS = 1.0
#: One call may be late because a processor was busy: so many, one after the other and no answer between, mean that
#: Redis hangs.
TIMEOUTS_MAX = 2
#: Connections of a process: calls beyond it wait for their turn.
_CONNECTIONS_MAX = 8
#: How long they do. It says nothing about Redis, so it opens no breaker.
TURN_SECONDS_MAX = 5.0

_SCRIPT = files("sinks.redis").joinpath("stock.lua").read_text(encoding="utf-8")


class RedisAwayError(Exception):
    """Redis gave no answer, or is left alone after it gave none."""


class StockCalls:
    """Runs the script's commands, one seller a call, behind a breaker."""

    def __init__(self, url: str, *, call_seconds_max: float) -> None:
        """Connects when first asked. Raises `ValueError` for what is no URL of Redis."""
        self._call_seconds_max = call_seconds_max
        pool = redis.asyncio.BlockingConnectionPool.from_url(
            url,
            # Ours are the better ones: these would run on while this process is busy with something else.
            socket_timeout=None,
            socket_connect_timeout=None,
            retry=Retry(NoBackoff(), 0),
            max_connections=_CONNECTIONS_MAX,
        )
        self._redis = redis.asyncio.Redis.from_pool(pool)
        self._script = self._redis.register_script(_SCRIPT)
        self._turns = asyncio.Semaphore(_CONNECTIONS_MAX)
        self._away_until = 0.0
        self._timeouts = 0
        self._trying = False
        self._heard_at = self._late_at = 0.0

    @property
    def available(self) -> bool:
        """Whether the last call went well, or enough time has passed to try again and nobody does so now."""
        return monotonic() >= self._away_until and not self._trying

    async def run(self, seller_id: str, command: str, argument: Any) -> Any:
        """The command's answer; raises `RedisAwayError`. A call's time runs from when it is sent."""
        try:
            async with asyncio.timeout(TURN_SECONDS_MAX):
                await self._turns.acquire()
        except TimeoutError:
            raise RedisAwayError("too many calls wait for their turn") from None
        try:
            return await self._run(seller_id, command, argument)
        finally:
            self._turns.release()

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()
        await self._redis.connection_pool.disconnect()

    async def _run(self, seller_id: str, command: str, argument: Any) -> Any:
        # Also after the wait for a turn: who waited behind those that failed is not to wait once more.
        if not self.available:
            raise RedisAwayError("Redis is left alone for a moment")
        packed = msgspec.msgpack.encode(argument)
        sent_at = monotonic()
        # After a failure one call finds out for all: the others don't wait for its end.
        is_trial = self._trying = self._timeouts >= TIMEOUTS_MAX
        try:
            answer = await within(self._call_seconds_max, self._call([f"stock:{{{seller_id}}}"], [command, packed]))
        except (RedisError, OSError, TimeoutError) as error:
            self._failed(error, sent_at)
            raise RedisAwayError(type(error).__name__) from None
        finally:
            if is_trial:
                self._trying = False
        self._timeouts = 0
        self._heard_at = monotonic()
        return msgspec.msgpack.decode(answer)

    async def _call(self, keys: list[str], arguments: list[Any]) -> Any:
        try:
            return await over_a_connection(self._script(keys=keys, args=arguments))
        except redis.exceptions.TimeoutError:
            raise
        except (redis.exceptions.ConnectionError, OSError):
            # Of a server that has started again all connections are dead. Each would fail one call, and that would
            # keep Redis away for as many pauses. Said twice, every command does what it does once.
            await self._redis.connection_pool.disconnect(inuse_connections=False)
            return await over_a_connection(self._script(keys=keys, args=arguments))

    def _failed(self, error: Exception, sent_at: float) -> None:
        if not isinstance(error, TimeoutError | redis.exceptions.TimeoutError):
            self._timeouts = TIMEOUTS_MAX
        # Two that were under way at the same time are late for one reason, and one that others overtook is only late.
        elif sent_at >= max(self._heard_at, self._late_at):
            self._timeouts += 1
            self._late_at = monotonic()
        if self._timeouts >= TIMEOUTS_MAX:
            self._away_until = monotonic() + PAUSE_SECONDS
        # What the script itself fails with is worth its words.
        words = str(error) if isinstance(error, redis.exceptions.ResponseError) else ""
        _log.warning("Redis says nothing about stock: %s %s", type(error).__name__, words)
