"""Whether Postgres and Kafka belong together, checked before a process works on both.

They don't if one of them was restored to an earlier state, or recreated, without the other. Continuing would destroy
data:

- Postgres older than a topic (a restored backup, a standby that had lost commits): orders already paid would be decided
  again, and their events published under a `seq` that consumers have already seen with other content.
- A topic younger than a position (recreated, or with lost records): everything up to the position would be skipped.
- A topic with another number of partitions than recorded: records of one order would be in two partitions.

So every process refuses to run, because only an operator can decide which side is right. See `docs/recovery.md`.
"""

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, overload

import psycopg
from confluent_kafka import Message
from psycopg.rows import TupleRow

from runtime.exits import StartRefusedError, fatal
from runtime.kafka import TopicError, end_offsets
from runtime.outages import KAFKA, POSTGRES, Outage
from runtime.roles import READERS
from runtime.topics import describe_topics, highest_records
from schemas.catalog import INVOICE_REQUESTS, OUTPUT_TOPICS, SEQ_HEADER, TOPICS, Topic
from sinks.deployment import require_partitions, require_topics
from sinks.postgres.migrate import migration_files
from sinks.postgres.schema import require_schema
from sinks.postgres.session import OUTAGES, SQL

#: Topics that only the relay writes to. Invoice requests have other writers, whose `seq` proves nothing; the relay's
#: records there come from transactions that also append to `order-events`.
RELAYED_TOPICS = tuple(topic for topic in OUTPUT_TOPICS if topic is not INVOICE_REQUESTS)
_ALL_TOPICS = tuple(TOPICS.values())
#: More digits don't fit into the journal's column.
_SEQ_DIGITS_MAX = 18
_PAUSE_S = 0.5
_WATCH_EVERY_S = 30.0
#: Differences shown; after a restore of Postgres nearly all partitions differ.
_SHOWN_MAX = 4

#: (topic, partition).
Partition = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Agreed:
    """What Postgres and Kafka agree on."""

    #: Of each topic.
    partitions: int
    #: By topic, of topics that the brokers know.
    topic_ids: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class PartitionEnd:
    """The record with the highest `seq` in a partition of an output topic."""

    seq: int
    offset: int
    key: bytes | None
    payload: bytes | None


def require_agreement(
    postgres_url: str,
    bootstrap: str,
    outputs: Collection[Topic] = RELAYED_TOPICS,
    inputs: Collection[Topic] = _ALL_TOPICS,
) -> Agreed:
    """Raise `StartRefusedError` if this release can't run on the tables, or Postgres and Kafka don't belong together.

    Blocks for about 0.1 s. Raises one of `OUTAGES` or `TopicError` if this can't be determined now; also `TopicError`
    if Postgres has a position in a topic that the brokers don't know, or don't know yet.
    """
    with _connect(postgres_url) as connection:
        require_schema(connection, [file.name for file in migration_files()])
        partitions = require_partitions(connection)
        names = {topic.name for topic in (*outputs, *inputs)}
        positions = [row for row in connection.execute(SQL["read_all_positions"]).fetchall() if row[1] in names]
        topics = describe_topics(bootstrap, names)
        require_topics(topics, partitions)
        ids = {name: topic.topic_id for name, topic in topics.items()}
        used = {topic for _, topic, _, next_offset, _ in positions if next_offset}
        if missing := sorted(used - topics.keys()):
            raise TopicError(f"the brokers don't know {', '.join(missing)}, or not yet")
        # Positions are read before the ends, and journal heads after: both only grow meanwhile.
        ends = end_offsets(
            bootstrap, sorted({(topic, number) for _, topic, number, *_ in positions if topic in topics})
        )
        found = list(_find_foreign_positions(positions, ids, ends))
        found += _find_ahead(
            connection, read_tails(bootstrap, [each for each in outputs if each.name in topics], partitions)
        )
    if found:
        more = f"; and {len(found) - _SHOWN_MAX} more" if len(found) > _SHOWN_MAX else ""
        raise StartRefusedError(
            f"Postgres and Kafka don't belong together: {'; '.join(found[:_SHOWN_MAX])}{more}. Nothing was changed."
            " Stop all processes and follow docs/recovery.md"
        )
    return Agreed(partitions, ids)


def read_tails(
    bootstrap: str, topics: Iterable[Topic], partitions: int, prefix: str = ""
) -> dict[Partition, PartitionEnd]:
    """The ends of the partitions of existing topics; `prefix` is prepended to their names at the brokers."""
    places = [(prefix + topic.name, partition) for topic in topics for partition in range(partitions)]
    return {
        (name.removeprefix(prefix), partition): PartitionEnd(seq, message.offset() or 0, message.key(), message.value())
        for (name, partition), (seq, message) in highest_records(bootstrap, places, _seq_of).items()
    }


def _find_ahead(connection: psycopg.Connection[TupleRow], tails: Mapping[Partition, PartitionEnd]) -> list[str]:
    """The partitions that end with a record that the journal does not have, or has with other bytes; one line each."""
    heads = {(topic, partition): last for topic, partition, last in connection.execute(SQL["read_heads"]).fetchall()}
    asked = sorted((topic, partition, tail.seq) for (topic, partition), tail in tails.items())
    names, partitions, seqs = zip(*asked, strict=True) if asked else ((), (), ())
    rows = connection.execute(
        SQL["read_journal_rows"], {"topics": list(names), "partitions": list(partitions), "seqs": list(seqs)}
    ).fetchall()
    journal = {(topic, partition): (key, payload) for topic, partition, key, payload in rows}
    found = []
    for each, tail in sorted(tails.items()):
        where, last = f"{each[0]}/{each[1]}", heads.get(each, 0)
        if tail.seq > last:
            found.append(
                f"Postgres is older than {where}: the topic has seq {tail.seq} (offset {tail.offset}), and the journal"
                f" ends with seq {last}"
            )
        # An archived row can't be compared.
        elif each in journal and journal[each] != (tail.key, tail.payload):
            found.append(f"{where} has at seq {tail.seq} (offset {tail.offset}) other bytes than Postgres's journal")
    return found


def _find_foreign_positions(
    positions: Iterable[tuple[str, str, int, int, str | None]],
    topic_ids: Mapping[str, str],
    ends: Mapping[Partition, int],
) -> Iterable[str]:
    """Positions that were not counted in the present topic, one line each.

    `positions` are rows of agent, topic, partition, next offset and topic id, or None if the id is unknown.
    """
    for agent, topic, partition, next_offset, topic_id in positions:
        where, its_id = f"{topic}/{partition}", topic_ids.get(topic)
        if next_offset and topic_id is not None and its_id is not None and topic_id != its_id:
            yield (
                f"{topic} was recreated: {agent} is at offset {next_offset} of {where} with the id {topic_id}, and"
                f" the topic that is there now has the id {its_id}"
            )
        elif next_offset > ends.get((topic, partition), next_offset):
            yield (
                f"{where} has lost records: {agent} is at offset {next_offset}, and the topic ends at"
                f" {ends[topic, partition]}"
            )


@overload
def await_agreement(postgres_url: str, bootstrap: str, *, agent: str | None = None) -> int: ...
@overload
def await_agreement(
    postgres_url: str,
    bootstrap: str,
    *,
    outputs: Collection[Topic] = RELAYED_TOPICS,
    inputs: Collection[Topic] = _ALL_TOPICS,
    pause: Callable[[float], bool],
) -> int | None: ...
def await_agreement(
    postgres_url: str,
    bootstrap: str,
    *,
    outputs: Collection[Topic] = RELAYED_TOPICS,
    inputs: Collection[Topic] = _ALL_TOPICS,
    agent: str | None = None,
    pause: Callable[[float], bool | None] = time.sleep,
) -> int | None:
    """The number of partitions of each topic, once Postgres and Kafka are found to belong together. Blocks.

    Waits during outages. With `agent`, its topics must exist, and their ids are stored with its positions if unknown.
    `pause` waits for the given seconds; if it returns True, the wait ends with None. Raises `StartRefusedError`.
    """
    failed: set[Outage] = set()
    while True:
        try:
            agreed = require_agreement(postgres_url, bootstrap, outputs, inputs)
            if agent is not None:
                _keep_topic_ids(postgres_url, agent, agreed)
        except OUTAGES as error:
            POSTGRES.failed(error)
            failed.add(POSTGRES)
        except TopicError as error:
            # Postgres is read first, so it has answered.
            _end(failed & {POSTGRES})
            KAFKA.failed(str(error))
            failed.add(KAFKA)
        else:
            # Only outages that were reported here: others may have been reported by calls that this check does not
            # make.
            _end(failed)
            return agreed.partitions
        if pause(_PAUSE_S) is True:
            return None


def _end(failed: Collection[Outage]) -> None:
    for outage in failed:
        outage.answered()


def watch_agreement(postgres_url: str, bootstrap: str) -> None:
    """Check again every 30 s, and end the process if the two no longer belong together. Never returns.

    The offsets of a topic recreated under a running worker begin below its position, and it would skip them.
    """
    while True:
        time.sleep(_WATCH_EVERY_S)
        try:
            await_agreement(postgres_url, bootstrap)
        except StartRefusedError as error:
            fatal(str(error))


def _keep_topic_ids(postgres_url: str, agent: str, agreed: Agreed) -> None:
    topic_ids = agreed.topic_ids
    if missing := [topic.name for topic in READERS[agent] if topic.name not in topic_ids]:
        raise TopicError(f"the brokers don't know {', '.join(missing)}, or not yet")
    wanted = {
        (topic.name, partition, topic_ids[topic.name])
        for topic in READERS[agent]
        for partition in range(agreed.partitions)
    }
    with _connect(postgres_url) as connection:
        known = connection.execute(SQL["read_all_positions"]).fetchall()
        unknown = wanted - {(topic, partition, its_id) for its, topic, partition, _, its_id in known if its == agent}
        if not unknown:
            return
        names, partitions, ids = zip(*sorted(unknown), strict=True)
        connection.execute(
            SQL["keep_topic_ids"],
            {"agent": agent, "topics": list(names), "partitions": list(partitions), "topic_ids": list(ids)},
        )


def _seq_of(message: Message) -> int | None:
    headers: Any = message.headers() or ()
    values = [value for name, value in headers if name == SEQ_HEADER]
    text = values[0] if len(values) == 1 else None
    if not isinstance(text, bytes) or not text.isdigit() or len(text) > _SEQ_DIGITS_MAX:
        return None
    return int(text)


def _connect(postgres_url: str) -> psycopg.Connection[TupleRow]:
    # Not a worker's session: a server that does not know that session's settings must not look like an outage.
    return psycopg.connect(
        postgres_url,
        autocommit=True,
        connect_timeout=5,
        options="-c statement_timeout=10s -c enable_seqscan=off",
        keepalives_idle=5,
        tcp_user_timeout=10_000,
    )
