"""Postgres as it stood at one moment, for as long as the audit takes."""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any, LiteralString

import psycopg
from psycopg.rows import dict_row

from audit.report import AuditError
from runtime.exits import StartRefusedError
from sinks.deployment import require_partitions

_ROWS_A_FETCH = 1_000
#: A follower reads by keys alone. The planner would read a small table in full, or join by going through all of an
#: index, and would keep to that plan while the table grows.
_BY_KEYS = (
    "-c enable_seqscan=off -c enable_hashjoin=off -c enable_mergejoin=off -c plan_cache_mode=force_custom_plan"
    " -c jit=off -c statement_timeout=60s"
)


class Snapshot:
    """Reads within one transaction that sees no later commit, and, apart from it, what has been committed by now."""

    def __init__(self, url: str, *, by_keys: bool = False) -> None:
        """`by_keys`: whatever is asked, rows are looked up through indexes."""
        options = _BY_KEYS if by_keys else ""
        #: Rows that statements have returned.
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
            #: How many each topic has.
            self.partitions = require_partitions(self._now)
            self._fix()
        except psycopg.errors.UndefinedTable:
            self.close()
            raise AuditError("Postgres has no tables of this release: run `gapless migrate`") from None
        except StartRefusedError as error:
            self.close()
            raise AuditError(str(error)) from None

    def renew(self) -> None:
        """Read as of now, from here on."""
        self._then.rollback()
        self._fix()

    def rest(self) -> None:
        """End the transaction until `renew`: one that stays open keeps old versions of all rows alive."""
        self._then.rollback()

    def _fix(self) -> None:
        # The first statement fixes the moment. It asks for the newest table: those of an older release are refused.
        self._then.execute("SELECT FROM dead_letters LIMIT 0")

    def close(self) -> None:
        """End the transaction."""
        self._then.close()
        self._now.close()

    def stream(self, statement: LiteralString, **values: Any) -> Iterator[tuple[Any, ...]]:
        """Rows through a cursor of the server: never all of them at once. Several may be open."""
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
        """All rows of a statement that is known to return few."""
        return self._counted(self._then.execute(statement, values).fetchall())

    def dicts(self, statement: LiteralString, **values: Any) -> list[dict[str, Any]]:
        """The same, by column name."""
        cursor = self._then.execute(statement, values)
        names = [column.name for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in self._counted(cursor.fetchall())]

    def count(self, statement: LiteralString, **values: Any) -> int:
        """The one number that a statement returns."""
        return int(self.rows(statement, **values)[0][0])

    def rows_now(self, statement: LiteralString, **values: Any) -> list[tuple[Any, ...]]:
        """Rows as committed by now, later than the snapshot."""
        return self._counted(self._now.execute(statement, values).fetchall())

    def _counted(self, rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        self.rows_read += len(rows)
        return rows


def difference(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    """`number 7, not 8; …`: where `theirs` says other than `ours`, for the names in `ours`."""
    return "; ".join(
        f"{name} {_shown(theirs[name])}, not {_shown(value)}" for name, value in ours.items() if theirs[name] != value
    )


def _shown(value: Any) -> str:
    return value.hex()[:16] if isinstance(value, bytes) else str(value)


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
