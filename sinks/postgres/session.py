"""A connection to Postgres that knows how to be lost."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any

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

_SESSION_SETTINGS = {
    # A worker that is stopped inside a transaction holds its position's lock; after this the server lets it go, and
    # the worker that has taken over the partition goes on.
    "idle_in_transaction_session_timeout": "5s",
    # A pipeline is not idle to the server, nor a statement under way, when its client falls silent amid it.
    "transaction_timeout": "15s",
    "statement_timeout": "30s",
    # Effects are promised to outlive the machine's power. Today's default, but not ours to leave to a config file.
    "synchronous_commit": "on",
    # Every read is of rows by their keys. A table that was empty when it was last looked at would be read in full
    # otherwise, once for each batch, until somebody looks again.
    "enable_seqscan": "off",
}
#: Plans are kept with their statements, and were made for the sizes that tables had then: one made for an empty table
#: reads all of it for each row asked for. Until somebody analyzes it that costs a hundredfold, so plans grow old soon.
_REPLAN_EVERY_S = 5.0


class Session:
    """One connection, opened when first needed and again after it was lost. Not for concurrent use."""

    def __init__(self, url: str, **settings: str) -> None:
        self._url = url
        self._options = " ".join(f"-c {name}={value}" for name, value in {**_SESSION_SETTINGS, **settings}.items())
        self._connection: Connection | None = None
        self._planned_at = 0.0

    @property
    def is_open(self) -> bool:
        """Whether there is a connection, as far as anybody has noticed."""
        return self._connection is not None and not self._connection.closed

    async def connection(self) -> Connection:
        """The open connection; raises one of `OUTAGES`."""
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
        """Close the connection, if there is one."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await connection.close()

    @asynccontextmanager
    async def pipelined_transaction(self) -> AsyncIterator[Connection]:
        """A transaction whose statements don't wait for each other's answers.

        After an error the connection is dropped: where COMMIT's answer was lost its state is unknown, and the position
        tells what became of it.
        """
        connection = await self.connection()
        try:
            async with connection.pipeline():
                # By hand: psycopg's own transaction() waits for the server at its begin and end, twice.
                await connection.execute("BEGIN")
                yield connection
                commit = await connection.execute("COMMIT")
            if commit.statusmessage != "COMMIT":
                raise psycopg.OperationalError(f"the server answered COMMIT with {commit.statusmessage}")
        except BaseException:
            await self.close()
            raise


async def fetch_dicts(cursor: psycopg.AsyncCursor[TupleRow]) -> list[dict[str, Any]]:
    """All rows, as mappings by column name."""
    rows = await cursor.fetchall()
    names = [column.name for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in rows]
