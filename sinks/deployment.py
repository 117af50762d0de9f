"""The number of partitions of a deployment's topics: chosen when they are created, recorded in Postgres, and fixed.

All records of an order are in the partition of its key, in every topic. With another number, later records of an order
would be in another partition than earlier ones, and two workers would decide on it at the same time.
"""

from collections.abc import Mapping

import psycopg
from psycopg.rows import TupleRow

from domain.numbering import PARTITIONS_MAX
from runtime.exits import StartRefusedError
from runtime.kafka import TopicSpec, ensure_topics
from runtime.topics import TopicState, describe_topics
from schemas.catalog import TOPICS
from sinks.postgres.migrate import migration_files
from sinks.postgres.schema import require_schema
from sinks.postgres.session import SQL

PARTITIONS_DEFAULT = 4
#: The migration that created the record.
_MIGRATION = "0011_partitions.sql"
#: An arbitrary constant, so that concurrent `gapless topics` run one after the other.
_LOCK_ID = 0x6761_706C_6573_74
#: Topics shown if many differ.
_SHOWN_MAX = 4


def read_partitions(connection: psycopg.Connection[TupleRow]) -> int | None:
    """The recorded number; None before the first `gapless topics`."""
    row = connection.execute(SQL["read_partitions"]).fetchone()
    return None if row is None else int(row[0])


def require_partitions(connection: psycopg.Connection[TupleRow]) -> int:
    """The recorded number. Raises `StartRefusedError` if there is none."""
    partitions = read_partitions(connection)
    if partitions is None:
        raise StartRefusedError("Postgres doesn't say yet how many partitions the topics have: run `gapless topics`")
    return partitions


def require_topics(topics: Mapping[str, TopicState], partitions: int) -> None:
    """Raise `StartRefusedError` if one of these topics has another number of partitions than recorded."""
    found = [(name, topic.partitions) for name, topic in sorted(topics.items()) if topic.partitions != partitions]
    if found:
        odd = ", ".join(f"{name} has {count} partitions" for name, count in found[:_SHOWN_MAX])
        more = f" and {len(found) - _SHOWN_MAX} more topics another number" if len(found) > _SHOWN_MAX else ""
        raise StartRefusedError(
            f"{odd}{more}, but Postgres has recorded {partitions} for each topic of this deployment. Nothing was"
            " changed. Let GAPLESS_KAFKA_BOOTSTRAP and GAPLESS_POSTGRES_URL name servers of one deployment; if they"
            " do, stop all processes and follow docs/recovery.md"
        )


def make_topics(postgres_url: str, bootstrap: str, replication_factor: int, asked: int | None) -> tuple[int, list[str]]:
    """Create missing topics and check existing ones; return the number of partitions, and the topics created.

    The number is the recorded one, otherwise that of existing topics, otherwise `asked`, otherwise
    `PARTITIONS_DEFAULT`; it is then recorded. Blocks. Raises `StartRefusedError` if `asked` differs from it or the
    topics differ from each other, `TopicError` as `ensure_topics` does, and `psycopg.Error`.
    """
    with psycopg.connect(postgres_url, autocommit=True, connect_timeout=10) as connection:
        require_schema(connection, [file.name for file in migration_files()])
        connection.execute("SELECT pg_advisory_lock(%s)", (_LOCK_ID,))
        fixed = read_partitions(connection) or _partitions_of(describe_topics(bootstrap, TOPICS))
        partitions = fixed or asked or PARTITIONS_DEFAULT
        if asked not in (None, partitions):
            raise StartRefusedError(
                f"--partitions: this deployment's topics have {partitions} partitions, and {asked} are asked for. The"
                " number can't change: the records of an order would come to stand in two partitions, and two workers"
                " would decide on it at once. Leave the option out; for another number, set up a new deployment, with"
                " a Kafka and a Postgres of its own (docs/operating.md)"
            )
        if fixed is not None:
            # Recorded even if a topic differs in something else, which `ensure_topics` reports.
            _record(connection, partitions)
        made = ensure_topics(
            bootstrap,
            [TopicSpec(topic.name, partitions, topic.config) for topic in TOPICS.values()],
            replication_factor,
        )
        # Not before the topics exist: if their creation fails, another number can still be chosen.
        _record(connection, partitions)
    return partitions, made


def _partitions_of(topics: Mapping[str, TopicState]) -> int | None:
    """The number of partitions of existing topics; None if there are none. Raises `StartRefusedError`."""
    found = sorted((topic.partitions, name) for name, topic in topics.items())
    if not found:
        return None
    (least, its_name), (most, other) = found[0], found[-1]
    if least != most:
        raise StartRefusedError(
            f"{its_name} has {least} partitions and {other} {most}: every topic must have the same number, and which"
            " one this deployment was made with is recorded nowhere. Nothing was changed. Follow docs/recovery.md"
        )
    if most > PARTITIONS_MAX:
        raise StartRefusedError(f"{other} has {most} partitions: a deployment has at most {PARTITIONS_MAX}")
    return most


def _record(connection: psycopg.Connection[TupleRow], partitions: int) -> None:
    connection.execute(SQL["record_partitions"], {"partitions": partitions, "migration": _MIGRATION})
