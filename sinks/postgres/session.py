"""A connection to Postgres that reconnects, the statements that are executed on it, and its clock."""

import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from importlib.resources import files
from time import monotonic
from typing import Any, LiteralString, cast

import psycopg
from psycopg.rows import TupleRow

_log = logging.getLogger(__name__)

Connection = psycopg.AsyncConnection[TupleRow]

#: Raised by a lost, refusing or overloaded server: an outage, to be waited out. Any other error is a bug.
OUTAGES = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    # The server has closed an idle session, as configured below. By its class this would be a bug.
    psycopg.errors.IdleInTransactionSessionTimeout,
    psycopg.errors.TransactionTimeout,
)
#: Errors of a transaction that takes too long: repeated with the same size it would fail again.
TOO_SLOW = (psycopg.errors.TransactionTimeout, psycopg.errors.QueryCanceled)

_SESSION_SETTINGS = {
    # A worker stopped inside a transaction holds its position's lock. After this time the server releases it, and the
    # worker that has taken over the partition continues.
    "idle_in_transaction_session_timeout": "5s",
    # For a client that falls silent within a pipeline or a statement, which the server does not count as idle.
    "transaction_timeout": "15s",
    # Below `transaction_timeout`, or it could never fire: its error means that a single statement took too long.
    "statement_timeout": "10s",
    # Effects must survive a power failure. This is the default, but must not depend on the server's configuration.
    "synchronous_commit": "on",
    # All reads are by key. Without this, a table that was empty when it was last analyzed would be scanned for each
    # batch, until it is analyzed again.
    "enable_seqscan": "off",
}
#: Interval at which plans are discarded. They are made for the tables' sizes at the time: one made for an empty table
#: scans it for each row, which costs a hundredfold until the table is analyzed.
_REPLAN_EVERY_S = 5.0


def _statements() -> dict[str, LiteralString]:
    text = files("sinks.postgres").joinpath("queries.sql").read_text(encoding="utf-8")
    parts = re.split(r"^-- name: (\w+)$", text, flags=re.MULTILINE)
    # The file is part of the program, so its text counts as literal.
    return {name: cast(LiteralString, body.strip()) for name, body in zip(parts[1::2], parts[2::2], strict=True)}


#: The statements of `queries.sql`, by name.
SQL = _statements()


class SessionInUseError(Exception):
    """A second user of a session began while the first had its connection: a bug."""


class Session:
    """One connection for one user, opened when needed and again after it was lost.

    Two users at once would execute statements in each other's transactions. So the user has the connection for a block,
    and a second block that begins before the first has ended, nested or in another task, raises `SessionInUseError`.
    """

    def __init__(self, url: str, **settings: str) -> None:
        self._url = url
        settings = {**_SESSION_SETTINGS, **settings}
        self._options = " ".join(f"-c {name}={value}" for name, value in settings.items())
        self._transaction_seconds_max = _seconds(settings["transaction_timeout"])
        self._connection: Connection | None = None
        self._planned_at = 0.0
        self._in_use = False

    @property
    def is_open(self) -> bool:
        """Whether there is a connection, as far as is known."""
        return self._connection is not None and not self._connection.closed

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """The open connection, exclusively for the block; raises one of `OUTAGES`, and `SessionInUseError`.

        An error that leaves the block closes the connection, because its state is unknown.
        """
        if self._in_use:
            raise SessionInUseError("a session has one user: give this one a session of its own, or let it wait")
        self._in_use = True
        try:
            yield await self._open()
        except BaseException:
            await self.close()
            raise
        finally:
            self._in_use = False

    async def _open(self) -> Connection:
        if self._connection is None or self._connection.closed:
            self._connection = await psycopg.AsyncConnection.connect(
                self._url,
                autocommit=True,
                options=self._options,
                connect_timeout=5,
                keepalives_idle=5,
                keepalives_interval=2,
                keepalives_count=3,
                tcp_user_timeout=10_000,
            )
            self._planned_at = monotonic()
        elif monotonic() - self._planned_at >= _REPLAN_EVERY_S:
            await self._connection.execute("DISCARD PLANS")
            self._planned_at = monotonic()
        return self._connection

    async def close(self) -> None:
        """Close the connection, even while it is in use."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await connection.close()

    @asynccontextmanager
    async def pipelined_transaction(self) -> AsyncIterator[Connection]:
        """A transaction whose statements don't wait for each other's answers.

        If the answer to COMMIT was lost, the position shows whether it was done. Raises `TransactionTimeout` also if
        the server reported it only by closing the connection.
        """
        async with self.connection() as connection:
            began_at = monotonic()
            try:
                async with connection.pipeline():
                    # Not by psycopg's transaction(), which waits for the server at its beginning and its end.
                    await connection.execute("BEGIN")
                    yield connection
                    commit = await connection.execute("COMMIT")
            except psycopg.OperationalError as error:
                # Within a pipeline, the end of the connection is read before the server's last message.
                if error.sqlstate is None and monotonic() - began_at >= self._transaction_seconds_max:
                    raise psycopg.errors.TransactionTimeout(f"the transaction took too long: {error}") from error
                raise
            if commit.statusmessage != "COMMIT":
                raise psycopg.OperationalError(f"the server answered COMMIT with {commit.statusmessage}")


def _seconds(setting: str) -> float:
    return float(setting[:-2]) / 1_000 if setting.endswith("ms") else float(setting.removesuffix("s"))


async def fetch_dicts(cursor: psycopg.AsyncCursor[TupleRow]) -> list[dict[str, Any]]:
    """All rows, as mappings by column name."""
    rows = await cursor.fetchall()
    names = [column.name for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in rows]


async def believed(connection: Connection, now: datetime) -> datetime:
    """The time for everything that is written: the worker's clock `now` if it is within a minute of Postgres'.

    Otherwise Postgres' time.
    """
    cursor = await connection.execute(SQL["believed"], {"now": now})
    row = await cursor.fetchone()
    if row is None:
        raise LookupError("Postgres has told no time")
    moment: datetime = row[0]
    return moment
