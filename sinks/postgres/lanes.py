"""A gateway's connections to Postgres, with a time limit for every wait."""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any, LiteralString, TypeVar

import psycopg

from domain.breaker import Breaker, Gate
from runtime.outages import POSTGRES
from sinks.microbatch import Answer, MicroBatch, Question
from sinks.postgres.session import OUTAGES, Session, fetch_dicts

#: How long a caller waits; after that Postgres counts as unavailable.
READ_SECONDS_MAX = 2.0
#: How long Postgres is not called after it refused or lost a connection.
PAUSE_SECONDS = 0.5

_Result = TypeVar("_Result")
_Query = tuple[LiteralString, dict[str, Any]]


class PostgresUnavailableError(Exception):
    """Postgres did not answer in time; the result is unknown."""


def check_url(url: str) -> None:
    """Raise `ValueError` unless `url` is a valid libpq URL."""
    try:
        psycopg.conninfo.conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        # The original error contains the URL, and so the password.
        raise ValueError("is no URL of libpq, such as postgresql://user:password@host:5432/database") from None


class Lane:
    """One connection for one call at a time, with a circuit breaker."""

    def __init__(self, url: str, *, read_only: bool) -> None:
        self._read_only = read_only
        self.session = Session(url, statement_timeout="5s", default_transaction_read_only="on" if read_only else "off")
        self._breaker = Breaker(failures_max=1, open_seconds=PAUSE_SECONDS)
        self._began: float | None = None
        self._lock = asyncio.Lock()
        self._queries: MicroBatch[_Query, list[dict[str, Any]]] = MicroBatch(self._execute, questions_max=1)

    @property
    def available(self) -> bool:
        """Whether the last call succeeded, and none hangs."""
        now = monotonic()
        is_open = self._breaker.gate(now) is Gate.OPEN
        return not is_open and (self._began is None or now - self._began < READ_SECONDS_MAX)

    async def ask(self, batch: MicroBatch[Question, Answer], question: Question) -> Answer:
        """The answer of a batch that runs on this lane. Raises `PostgresUnavailableError`."""
        if not self.available:
            raise PostgresUnavailableError("Postgres is unavailable")
        try:
            async with asyncio.timeout(READ_SECONDS_MAX):
                return await batch.ask(question)
        except TimeoutError:
            POSTGRES.failed(f"no answer within {READ_SECONDS_MAX:g} s")
            raise PostgresUnavailableError("Postgres gives no answer") from None

    async def query(self, statement: LiteralString, **parameters: Any) -> list[dict[str, Any]]:
        """The rows of one statement, alone on the connection. Raises `PostgresUnavailableError`."""
        return await self.ask(self._queries, (statement, parameters))

    async def close(self, *batches: MicroBatch[Any, Any]) -> None:
        """Close the connection, even a hanging one, and then the batches that run on it."""
        # In this order: cancelling a call on an open connection would wait for the server.
        await self.session.close()
        for batch in (self._queries, *batches):
            await batch.close()

    async def _execute(self, queries: list[_Query]) -> list[list[dict[str, Any]]]:
        async def execute(session: Session) -> list[dict[str, Any]]:
            async with session.connection() as connection:
                return await fetch_dicts(await connection.execute(*query, binary=True))

        [query] = queries
        return [await self.run(execute)]

    async def run(self, call: Callable[[Session], Awaitable[_Result]]) -> _Result:
        """Make a call, alone on the connection."""
        async with self._lock:
            began_at = monotonic()
            if self._breaker.gate(began_at) is Gate.OPEN:
                raise PostgresUnavailableError("Postgres is unavailable")
            self._began = began_at
            try:
                result = await self._call(call)
                self._breaker.succeeded(monotonic())
                POSTGRES.answered()
                return result
            except OUTAGES as error:
                POSTGRES.failed(error)
                self._breaker.failed(monotonic(), began_at=began_at)
                await self.session.close()
                raise PostgresUnavailableError(type(error).__name__) from None
            except psycopg.errors.UndefinedTable:
                await self.session.close()
                reason = "it has no tables yet: run `gapless migrate`"
                POSTGRES.failed(reason)
                raise PostgresUnavailableError(reason) from None
            except psycopg.Error:
                # Within a pipeline: the next call would read answers to this one.
                await self.session.close()
                raise
            finally:
                self._began = None

    async def _call(self, call: Callable[[Session], Awaitable[_Result]]) -> _Result:
        used = self.session.is_open
        try:
            return await call(self.session)
        except psycopg.errors.QueryCanceled:
            raise
        except OUTAGES:
            # The connection may be dead since a restart of Postgres, which says nothing about Postgres now.
            if not (used and self._read_only):
                raise
        await self.session.close()
        return await call(self.session)
