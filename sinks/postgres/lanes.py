"""A gateway's connections to Postgres, with an end to every wait."""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import TypeVar

import psycopg

from sinks.microbatch import Answer, MicroBatch, Question
from sinks.postgres.session import OUTAGES, Session

#: What a caller waits at most; then Postgres counts as away.
READ_SECONDS_MAX = 2.0
#: How long Postgres is left alone after it refused or lost a connection.
PAUSE_SECONDS = 0.5

_Result = TypeVar("_Result")


class PostgresUnavailableError(Exception):
    """Postgres did not answer in time; nothing is known."""


def check_url(url: str) -> None:
    """Raises `ValueError` for what is no URL of libpq."""
    try:
        psycopg.conninfo.conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        # The error would show the URL, and with it the password.
        raise ValueError("is no URL of libpq, such as postgresql://user:password@host:5432/database") from None


class Lane:
    """One connection, used for one call at a time, and whether it is worth asking."""

    def __init__(self, url: str, *, read_only: bool) -> None:
        self._read_only = read_only
        self.session = Session(url, statement_timeout="5s", default_transaction_read_only="on" if read_only else "off")
        self._away_until = 0.0
        self._began: float | None = None
        self._lock = asyncio.Lock()

    @property
    def available(self) -> bool:
        """Whether the last call went well, and none hangs."""
        now = monotonic()
        return now >= self._away_until and (self._began is None or now - self._began < READ_SECONDS_MAX)

    async def ask(self, batch: MicroBatch[Question, Answer], question: Question) -> Answer:
        """The answer of a batch that runs on this lane."""
        if not self.available:
            raise PostgresUnavailableError("Postgres is away")
        try:
            async with asyncio.timeout(READ_SECONDS_MAX):
                return await batch.ask(question)
        except TimeoutError:
            raise PostgresUnavailableError("Postgres gives no answer") from None

    async def run(self, call: Callable[[Session], Awaitable[_Result]]) -> _Result:
        """Do a call, alone on the connection."""
        async with self._lock:
            if monotonic() < self._away_until:
                raise PostgresUnavailableError("Postgres is away")
            self._began = monotonic()
            try:
                return await self._call(call)
            except OUTAGES as error:
                self._away_until = monotonic() + PAUSE_SECONDS
                await self.session.close()
                raise PostgresUnavailableError(type(error).__name__) from None
            except psycopg.errors.UndefinedTable:
                await self.session.close()
                raise PostgresUnavailableError("Postgres has no tables yet: run `gapless migrate`") from None
            except psycopg.Error:
                # In the middle of a pipeline: what the next call would read is anybody's guess.
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
            # A connection that was opened before Postgres was restarted fails, which says nothing of Postgres now.
            if not (used and self._read_only):
                raise
        await self.session.close()
        return await call(self.session)
