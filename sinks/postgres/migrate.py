"""Migrations: plain SQL files, numbered, forward only, each in one transaction, under one advisory lock.

A file that begins with `-- Concurrently` builds indexes on large tables; in a transaction that would block writers for
minutes. Its statements run one by one, and the first ones remove what a failed run has left. A statement that contains
`{journal_partition}` runs once for each partition of the journal.

The previous release must run on the new schema. A file that earlier releases can't run on has a line `-- Needs:
0007_name.sql`: every program that runs on the schema must know that migration. `schema.py` checks it.
"""

import asyncio
import re
from importlib.resources import files
from importlib.resources.abc import Traversable

import psycopg
from psycopg.rows import TupleRow

from sinks.postgres.schema import require_server

#: An arbitrary constant, so that concurrent `gapless migrate` run one after the other.
_LOCK_ID = 0x6761_706C_6573_73
#: Journal partitions created ahead. Later rows go to the default partition, which is correct but slower to archive.
_JOURNAL_MONTHS_AHEAD = 36
_NEEDS = re.compile(r"^-- Needs: (\S+)", re.MULTILINE)
_CONCURRENTLY = "-- Concurrently"
_LOCK_POLL_SECONDS = 0.2
#: On a partitioned table no index can be built concurrently, so it is built on each partition.
_JOURNAL_PARTITION = "{journal_partition}"
_JOURNAL_PARTITIONS = (
    "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'journal'::regclass ORDER BY 1"
)


async def migrate(url: str) -> list[str]:
    """Apply the migrations that are missing, in order; return the names of the files applied.

    Raises `psycopg.Error`, and `StartRefusedError` for a server that is too old. A failed file leaves nothing behind,
    except that a `-- Concurrently` one may leave an invalid index, which the next run removes.
    """
    applied = []
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        require_server(connection.info.server_version)
        await _lock(connection)
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS schema_migrations"
            " (name text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())"
        )
        await connection.execute("ALTER TABLE schema_migrations ADD COLUMN IF NOT EXISTS needs text")
        cursor = await connection.execute("SELECT name FROM schema_migrations")
        done = {name for (name,) in await cursor.fetchall()}
        for file in migration_files():
            if file.name in done:
                continue
            text = file.read_text(encoding="utf-8")
            if text.startswith(_CONCURRENTLY):
                for statement in await _statements(connection, text):
                    await connection.execute(statement.encode())
                await _note(connection, file.name, text)
            else:
                async with connection.transaction():
                    # Sent as one simple query: the files hold many statements, and none takes parameters.
                    await connection.execute(text.encode())
                    await _note(connection, file.name, text)
            applied.append(file.name)
        await connection.execute("SELECT make_journal_months(current_date - 31, %s)", (_JOURNAL_MONTHS_AHEAD,))
    return applied


async def _lock(connection: psycopg.AsyncConnection[TupleRow]) -> None:
    # Polled: a statement that waits for the lock has a snapshot, for which a concurrent index build by the lock's
    # holder would wait in turn.
    while True:
        cursor = await connection.execute("SELECT pg_try_advisory_lock(%s)", (_LOCK_ID,))
        if await cursor.fetchone() == (True,):
            return
        await asyncio.sleep(_LOCK_POLL_SECONDS)


async def _note(connection: psycopg.AsyncConnection[TupleRow], name: str, text: str) -> None:
    needs = _NEEDS.search(text)
    await connection.execute(
        "INSERT INTO schema_migrations (name, needs) VALUES (%s, %s)", (name, needs and needs.group(1))
    )


async def _statements(connection: psycopg.AsyncConnection[TupleRow], text: str) -> list[str]:
    """The statements of a file; its strings and bodies must not contain semicolons."""
    found = [statement for statement in text.split(";") if statement.strip()]
    if _JOURNAL_PARTITION not in text:
        return found
    cursor = await connection.execute(_JOURNAL_PARTITIONS)
    partitions = [name for (name,) in await cursor.fetchall()]
    return [
        statement.replace(_JOURNAL_PARTITION, name)
        for statement in found
        for name in (partitions if _JOURNAL_PARTITION in statement else partitions[:1])
    ]


def migration_files() -> list[Traversable]:
    """The migrations of this release, in order."""
    folder = files("sinks.postgres").joinpath("migrations")
    return sorted((file for file in folder.iterdir() if file.name.endswith(".sql")), key=lambda file: file.name)
