"""Migrations: plain SQL files, numbered, forward only, each in one transaction under one advisory lock."""

from importlib.resources import files
from importlib.resources.abc import Traversable

import psycopg

#: Any constant of our own: two `gapless migrate` at once run one after the other.
_LOCK_ID = 0x6761_706C_6573_73
#: Journal partitions made ahead. Beyond them rows land in the default partition, which is slower to archive, not wrong.
_JOURNAL_MONTHS_AHEAD = 36


async def migrate(url: str) -> list[str]:
    """Apply what has not been applied yet, in order; return the names of the files applied.

    Raises `psycopg.Error`; a failed file leaves nothing behind.
    """
    applied = []
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute("SELECT pg_advisory_lock(%s)", (_LOCK_ID,))
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS schema_migrations"
            " (name text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())"
        )
        cursor = await connection.execute("SELECT name FROM schema_migrations")
        done = {name for (name,) in await cursor.fetchall()}
        for file in _migration_files():
            if file.name in done:
                continue
            async with connection.transaction():
                # Sent as one simple query: the files hold many statements, and none takes parameters.
                await connection.execute(file.read_text(encoding="utf-8").encode())
                await connection.execute("INSERT INTO schema_migrations (name) VALUES (%s)", (file.name,))
            applied.append(file.name)
        await connection.execute("SELECT make_journal_months(current_date - 31, %s)", (_JOURNAL_MONTHS_AHEAD,))
    return applied


def _migration_files() -> list[Traversable]:
    folder = files("sinks.postgres").joinpath("migrations")
    return sorted((file for file in folder.iterdir() if file.name.endswith(".sql")), key=lambda file: file.name)
