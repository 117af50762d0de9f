"""Whether this release can run on the server and its tables.

- A server older than Postgres 17 is refused, because it has no `transaction_timeout`.
- Tables older than the release are refused: run `gapless migrate` first.
- Tables newer than the release are accepted, because the previous release runs on them during a rollout or rollback. A
  migration that earlier releases can't run on names, in `schema_migrations.needs`, the migration that a program must
  know; other programs are refused.
"""

import psycopg
from psycopg.rows import TupleRow

from runtime.exits import StartRefusedError

_SERVER_MAJOR_MIN = 17


def require_server(version: int) -> None:
    """Raise `StartRefusedError` if the server is too old; `version` is in libpq's form, such as 180006."""
    if version // 10_000 < _SERVER_MAJOR_MIN:
        raise StartRefusedError(
            f"the server is Postgres {version // 10_000}.{version % 10_000}, and gapless needs {_SERVER_MAJOR_MIN} or"
            " later (transaction_timeout): upgrade it, or point GAPLESS_POSTGRES_URL to one that is newer"
        )


def require_schema(connection: psycopg.Connection[TupleRow], known: list[str]) -> None:
    """Raise `StartRefusedError` if a release that knows the migrations `known` can't run on the tables."""
    require_server(connection.info.server_version)
    try:
        # The column `needs` is missing if only earlier releases have migrated.
        rows = connection.execute("SELECT name, to_jsonb(m) ->> 'needs' FROM schema_migrations m").fetchall()
    except psycopg.errors.UndefinedTable:
        raise StartRefusedError("Postgres has no tables yet: run `gapless migrate`") from None
    applied = {name for name, _ in rows}
    if missing := [name for name in known if name not in applied]:
        raise StartRefusedError(
            f"Postgres's tables are older than this release: {', '.join(missing)} not applied yet (found up to"
            f" {max(applied, default='none')}): run `gapless migrate` of this release"
        )
    for name, needs in sorted(rows):
        if needs is not None and needs not in known:
            raise StartRefusedError(
                f"Postgres's tables are too new for this release: {name} needs a release that knows {needs}, and this"
                f" one knows up to {known[-1]}: run a newer release, or restore the backup made before `migrate`"
            )
