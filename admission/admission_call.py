"""Calls of scripts in Redis, such as `stock.lua` and `due.lua`, with a time limit and a circuit breaker."""

import asyncio
from importlib.resources import files
from time import monotonic
from typing import Any

import msgspec.msgpack
import redis.asyncio
import redis.exceptions
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.commands.core import AsyncScript
from redis.exceptions import RedisError

from admission.patience import over_a_connection, within
from admission.unavailable import RedisUnavailableError
from domain.breaker import Breaker, Gate
from runtime.outages import REDIS

#: How long the breaker stays open after a failure.
PAUSE_SECONDS = 1.0
#: Timeouts in a row, without an answer between them, that count as a hanging Redis. One alone may be due to a busy CPU.
TIMEOUTS_MAX = 2
#: Connections of a process; further calls wait for one.
_CONNECTIONS_MAX = 8
#: How long a call waits for a connection. Running out of them says nothing about Redis, so it opens no breaker.
TURN_SECONDS_MAX = 5.0

_STOCK = files("admission").joinpath("stock.lua").read_text(encoding="utf-8")
_DUE = files("admission").joinpath("due.lua").read_text(encoding="utf-8")


class ScriptCalls:
    """Runs scripts' commands behind a breaker."""

    def __init__(self, url: str, *, call_seconds_max: float) -> None:
        """Connects on first use. Raises `ValueError` for an invalid Redis URL."""
        self._call_seconds_max = call_seconds_max
        pool = redis.asyncio.BlockingConnectionPool.from_url(
            url,
            # `within` replaces these timeouts, which would also count the time in which this process is busy.
            socket_timeout=None,
            socket_connect_timeout=None,
            retry=Retry(NoBackoff(), 0),
            max_connections=_CONNECTIONS_MAX,
        )
        self._redis = redis.asyncio.Redis.from_pool(pool)
        self._turns = asyncio.Semaphore(_CONNECTIONS_MAX)
        # Calls that were under way together fail for one reason, so they count once.
        self._breaker = Breaker(failures_max=TIMEOUTS_MAX, open_seconds=PAUSE_SECONDS, counts_overlapping=False)
        self._trying = False

    @property
    def available(self) -> bool:
        """Whether the last call succeeded, or enough time has passed to retry and no other call is doing so."""
        gate = self._breaker.gate(monotonic())
        return gate is Gate.CLOSED or (gate is Gate.HALF_OPEN and not self._trying)

    def script(self, text: str) -> AsyncScript:
        """A script that `call` runs."""
        return self._redis.register_script(text)

    async def call(self, script: AsyncScript, keys: list[str], command: str, argument: Any) -> Any:
        """The answer of a script's command; raises `RedisUnavailableError`."""
        try:
            async with asyncio.timeout(TURN_SECONDS_MAX):
                await self._turns.acquire()
        except TimeoutError:
            raise RedisUnavailableError("too many calls wait for their turn") from None
        try:
            return await self._run(script, keys, command, argument)
        finally:
            self._turns.release()

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()
        await self._redis.connection_pool.disconnect()

    async def _run(self, script: AsyncScript, keys: list[str], command: str, argument: Any) -> Any:
        # Checked again after the wait for a connection: the calls ahead of this one may have opened the breaker.
        if not self.available:
            raise RedisUnavailableError("the breaker is open")
        packed = msgspec.msgpack.encode(argument)
        sent_at = monotonic()
        # After a failure a single call tests Redis; the others do not wait for it.
        is_trial = self._trying = self._breaker.gate(sent_at) is not Gate.CLOSED
        try:
            answer = await within(self._call_seconds_max, self._call(script, keys, [command, packed]))
        except (RedisError, OSError, TimeoutError) as error:
            self._failed(error, sent_at)
            raise RedisUnavailableError(type(error).__name__) from None
        finally:
            if is_trial:
                self._trying = False
        self._breaker.succeeded(monotonic())
        REDIS.answered()
        return msgspec.msgpack.decode(answer)

    async def _call(self, script: AsyncScript, keys: list[str], arguments: list[Any]) -> Any:
        try:
            return await over_a_connection(script(keys=keys, args=arguments))
        except redis.exceptions.TimeoutError:
            raise
        except (redis.exceptions.ConnectionError, OSError):
            # After a restart of the server all idle connections are dead, and each would fail one call and so prolong
            # the outage. Every command is idempotent, so it is safe to send again.
            await self._redis.connection_pool.disconnect(inuse_connections=False)
            return await over_a_connection(script(keys=keys, args=arguments))

    def _failed(self, error: Exception, sent_at: float) -> None:
        is_late = isinstance(error, TimeoutError | redis.exceptions.TimeoutError)
        now = monotonic()
        self._breaker.failed(now, began_at=sent_at, is_certain=not is_late)
        if self._breaker.gate(now) is not Gate.CLOSED:
            REDIS.failed(error)


class StockCalls(ScriptCalls):
    """Calls of `stock.lua` and `due.lua`."""

    def __init__(self, url: str, *, call_seconds_max: float) -> None:
        """Connects on first use. Raises `ValueError` for an invalid Redis URL."""
        super().__init__(url, call_seconds_max=call_seconds_max)
        self._stock = self.script(_STOCK)
        self._due = self.script(_DUE)

    async def run(self, seller_id: str, command: str, argument: Any) -> Any:
        """The answer of a command of `stock.lua`; raises `RedisUnavailableError`."""
        return await self.call(self._stock, [f"stock:{{{seller_id}}}"], command, argument)

    async def run_due(self, worker: str, command: str, argument: Any) -> Any:
        """The answer of a command of `due.lua` for the worker of this name; raises `RedisUnavailableError`."""
        return await self.call(self._due, ["{stock}:due", f"{{stock}}:seen:{worker}"], command, argument)
