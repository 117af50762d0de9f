"""Reads Postgres in one snapshot for the whole audit."""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any, LiteralString

import psycopg
from psycopg.rows import dict_row

from audit.report import AuditError
from runtime.exits import StartRefusedError
from sinks.deployment import require_partitions
from sinks.postgres.migrate import migration_files
from sinks.postgres.schema import require_schema

_ROWS_A_FETCH = 1_000
#: A follower looks rows up by keys only. For a small table the planner would choose a sequential scan or another join,
#: and use that plan even after the table has grown.
_BY_KEYS = (
    "-c enable_seqscan=off -c enable_hashjoin=off -c enable_mergejoin=off -c plan_cache_mode=force_custom_plan"
    " -c jit=off -c statement_timeout=60s"
)


class Snapshot:
    """Reads in one transaction that sees no later commits and, on another connection, what is committed now."""

    def __init__(self, url: str, *, by_keys: bool = False) -> None:
        """With `by_keys` all statements look rows up through indexes."""
        options = _BY_KEYS if by_keys else ""
        #: Number of rows returned so far.
        self.rows_read = 0
        try:
            self._then = psycopg.connect(url, connect_timeout=10, options=options, tcp_user_timeout=10_000)
            self._now = psycopg.connect(
                url, connect_timeout=10, options=options, tcp_user_timeout=10_000, autocommit=True
            )
        except psycopg.OperationalError as error:
            raise AuditError(f"Postgres can't be reached: {_first_line(error)}") from None
        self._then.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        self._then.read_only = True
        self._names = itertools.count()
        try:
            require_schema(self._now, [file.name for file in migration_files()])
            #: Partitions of each topic.
            self.partitions = require_partitions(self._now)
            self._fix()
        except StartRefusedError as error:
            self.close()
            raise AuditError(str(error)) from None

    def renew(self) -> None:
        """Start a new snapshot."""
        self._then.rollback()
        self._fix()

    def rest(self) -> None:
        """End the transaction until `renew`, since an open one prevents Postgres from removing old row versions."""
        self._then.rollback()

    def _fix(self) -> None:
        # The first statement creates the snapshot.
        self._then.execute("SELECT FROM orders LIMIT 0")

    def close(self) -> None:
        """Close both connections."""
        self._then.close()
        self._now.close()

    def stream(self, statement: LiteralString, **values: Any) -> Iterator[tuple[Any, ...]]:
        """Yield rows through a server-side cursor, some at a time. Several may be open."""
        with self._then.cursor(name=f"audit_{next(self._names)}") as cursor:
            cursor.itersize = _ROWS_A_FETCH
            cursor.execute(statement, values)
            for row in cursor:
                self.rows_read += 1
                yield row

    def stream_dicts(self, statement: LiteralString, **values: Any) -> Iterator[dict[str, Any]]:
        """The same, by column name."""
        with self._then.cursor(name=f"audit_{next(self._names)}", row_factory=dict_row) as cursor:
            cursor.itersize = _ROWS_A_FETCH
            cursor.execute(statement, values)
            for row in cursor:
                self.rows_read += 1
                yield row

    def rows(self, statement: LiteralString, **values: Any) -> list[tuple[Any, ...]]:
        """All rows, for statements that return few."""
        return self._counted(self._then.execute(statement, values).fetchall())

    def dicts(self, statement: LiteralString, **values: Any) -> list[dict[str, Any]]:
        """The same, by column name."""
        cursor = self._then.execute(statement, values)
        names = [column.name for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in self._counted(cursor.fetchall())]

    def count(self, statement: LiteralString, **values: Any) -> int:
        """The single number that a statement returns."""
        return int(self.rows(statement, **values)[0][0])

    def rows_now(self, statement: LiteralString, **values: Any) -> list[tuple[Any, ...]]:
        """Rows as committed now, later than the snapshot."""
        return self._counted(self._now.execute(statement, values).fetchall())

    def _counted(self, rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        self.rows_read += len(rows)
        return rows


def difference(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    """The fields of `ours` that differ in `theirs`, as `number 7, not 8; …`; empty if none do."""
    return "; ".join(
        f"{name} {_shown(theirs[name])}, not {_shown(value)}" for name, value in ours.items() if theirs[name] != value
    )


def _shown(value: Any) -> str:
    return value.hex()[:16] if isinstance(value, bytes) else str(value)


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
