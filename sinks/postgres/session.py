"""A connection to Postgres that knows how to be lost, the statements that are executed on it, and its clock."""

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

#: What a lost, refused or overloaded server raises: an outage, to be waited out. Everything else is a bug.
OUTAGES = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    # The server let a silent session go, as it is told to below. By its class this would be a bug of ours.
    psycopg.errors.IdleInTransactionSessionTimeout,
    psycopg.errors.TransactionTimeout,
)
#: What ends a transaction that takes too long: of the same size it would end the same way again.
TOO_SLOW = (psycopg.errors.TransactionTimeout, psycopg.errors.QueryCanceled)

_SESSION_SETTINGS = {
    # A worker that is stopped inside a transaction holds its position's lock; after this the server lets it go, and
    # the worker that has taken over the partition goes on.
    "idle_in_transaction_session_timeout": "5s",
    # A pipeline is not idle to the server, nor a statement under way, when its client falls silent amid it.
    "transaction_timeout": "15s",
    # Below the transaction's, or it could never fire: its error says that one statement took too long by itself.
    "statement_timeout": "10s",
    # Effects are promised to outlive the machine's power. Today's default, but not ours to leave to a config file.
    "synchronous_commit": "on",
    # Every read is of rows by their keys. A table that was empty when it was last looked at would be read in full
    # otherwise, once for each batch, until somebody looks again.
    "enable_seqscan": "off",
}
#: Plans are kept with their statements, and were made for the sizes that tables had then: one made for an empty table
#: reads all of it for each row asked for. Until somebody analyzes it that costs a hundredfold, so plans grow old soon.
_REPLAN_EVERY_S = 5.0


def _statements() -> dict[str, LiteralString]:
    text = files("sinks.postgres").joinpath("queries.sql").read_text(encoding="utf-8")
    parts = re.split(r"^-- name: (\w+)$", text, flags=re.MULTILINE)
    # The file is part of the program, so its text is as literal as a string in the code.
    return {name: cast(LiteralString, body.strip()) for name, body in zip(parts[1::2], parts[2::2], strict=True)}


#: The statements of `queries.sql`, by name.
SQL = _statements()


class SessionInUseError(Exception):
    """A second user of a session began while the first had its connection: a bug."""


class Session:
    """One connection, opened when first needed and again after it was lost, for one user.

    Two users at once would meet in each other's transactions. So the user has the connection for a block, and a second
    block that begins before it has ended, nested or of another task, raises `SessionInUseError`.
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
        """Whether there is a connection, as far as anybody has noticed."""
        return self._connection is not None and not self._connection.closed

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """The open connection, for the block alone; raises one of `OUTAGES`, and `SessionInUseError`.

        An error that leaves the block closes the connection: what it was amid is unknown.
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
        """Close the connection, if there is one, under whoever uses it."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await connection.close()

    @asynccontextmanager
    async def pipelined_transaction(self) -> AsyncIterator[Connection]:
        """A transaction whose statements don't wait for each other's answers.

        Where COMMIT's answer was lost the position tells what became of it. Raises `TransactionTimeout` also where the
        server said so only by closing the connection.
        """
        async with self.connection() as connection:
            began_at = monotonic()
            try:
                async with connection.pipeline():
                    # By hand: psycopg's own transaction() waits for the server at its begin and end, twice.
                    await connection.execute("BEGIN")
                    yield connection
                    commit = await connection.execute("COMMIT")
            except psycopg.OperationalError as error:
                # Amid a pipeline the connection's end is read before the server's last words.
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
    """The time that everything written goes by: `now`, a worker's clock, if it is within a minute of Postgres'.

    Otherwise Postgres' time.
    """
    cursor = await connection.execute(SQL["believed"], {"now": now})
    row = await cursor.fetchone()
    if row is None:
        raise LookupError("Postgres has told no time")
    moment: datetime = row[0]
    return moment
