"""The dead letters of the journal: lists them, reads the record that each carries, and closes them.

Agents write dead letters to the journal only. The table `dead_letters` has a row for each, with columns to search by
and what was done about it. `note_new` copies missing rows from the journal, so they are complete after each call of it,
whichever release wrote the dead letters. All calls block.

A dead letter is open until it is redriven (its record was sent again, `sinks.redrive`) or discarded. Both are final: a
record that fails again after a redrive becomes another dead letter.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, LiteralString, NamedTuple, Self, TypeAlias

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow, class_row

from domain.dead_letter import reason_of
from domain.invoice import check_order_id
from domain.records import DeadLetter
from runtime.publisher import Delivered
from schemas import catalog
from schemas.codec import DecodeError, decode, order_id_of
from sinks.postgres.session import SQL

#: In autocommit mode.
Connection: TypeAlias = psycopg.Connection[TupleRow]

OPEN, REDRIVEN, DISCARDED = "open", "redriven", "discarded"
STATES = (OPEN, REDRIVEN, DISCARDED)
#: Rows of the journal that are copied at once, and their bytes: bounds memory.
_COPIED_MAX = 500
_COPIED_BYTES_MAX = 8 * 1024 * 1024
#: Dead letters that are copied before open ones are counted: bounds the time of a call.
_COPIED_PER_LOOK_MAX = 2_000
#: Fields that are hidden when a record is shown.
_SECRETS = ("payment_token",)
_HIDDEN = "(hidden)"


class DeadLetterError(Exception):
    """The request can't be carried out for a dead letter; the message says why, in one line."""


class DeadLetterId(NamedTuple):
    """A dead letter's partition and seq in the topic `dead-letters`; written `3-17`."""

    partition: int
    seq: int

    def __str__(self) -> str:
        return f"{self.partition}-{self.seq}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse an id such as `3-17`. Raises `ValueError`."""
        partition, dash, seq = text.partition("-")
        if not (dash and all(each.isascii() and each.isdecimal() and len(each) <= 18 for each in (partition, seq))):
            raise ValueError(f"{text!r} is no dead letter's id, such as 3-17: its partition and its seq")
        return cls(int(partition), int(seq))


@dataclass(frozen=True, slots=True)
class DeadLetterRow:
    """A dead letter without its record's bytes."""

    partition: int
    seq: int
    occurred_at: datetime
    agent: str
    source_topic: str
    source_partition: int
    source_offset: int
    order_id: str | None
    reason: str
    error: str
    state: str
    closed_by: str | None
    closed_at: datetime | None
    closed_why: str | None
    redriven_partition: int | None
    redriven_offset: int | None

    @property
    def id(self) -> DeadLetterId:
        """The id that is shown to people."""
        return DeadLetterId(self.partition, self.seq)


class CarriedBytes(NamedTuple):
    """The record that a dead letter carries, as it was in its topic."""

    key: bytes | None
    value: bytes | None
    #: The trace that it belongs to.
    traceparent: str | None


@dataclass(frozen=True, slots=True)
class CarriedRecord:
    """The record that a dead letter carries, decoded by this release."""

    key: bytes | None
    value: bytes | None
    #: Such as `gapless.InvoiceRequest`; empty if the value can't be decoded.
    schema: str
    #: The decoded record without secrets; None if the value can't be decoded.
    body: Mapping[str, object] | None
    #: Why this release can't decode the value; empty if it can.
    decode_error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterFilter:
    """Selects the dead letters that meet every given condition."""

    ids: tuple[DeadLetterId, ...] = ()
    topic: str | None = None
    reason: str | None = None
    order_id: str | None = None
    #: Limits of `occurred_at`: from `since` on, and before `until`.
    since: datetime | None = None
    until: datetime | None = None
    state: str | None = None

    @property
    def is_empty(self) -> bool:
        """Whether it selects all dead letters, apart from their state."""
        return replace(self, state=None) == DeadLetterFilter()


@dataclass(frozen=True, slots=True)
class OpenDeadLetters:
    """How many dead letters of a topic and reason are open."""

    topic: str
    reason: str
    count: int
    oldest_at: datetime


#: The seq of a dead letter, its content, and the time of its journal row.
_Entry: TypeAlias = tuple[int, DeadLetter, datetime]


def note_new(connection: Connection, rows_max: int | None = None) -> int:
    """Copy new dead letters from the journal to the table; return how many. Concurrent calls are safe.

    With `rows_max` it stops some rows after that number, and the next call continues. If there is nothing new, it reads
    only the journal heads.
    """
    copied = 0
    for partition, after_seq, last_seq in connection.execute(_BEHIND, {"topic": catalog.DEAD_LETTERS.name}).fetchall():
        while after_seq < last_seq and (rows_max is None or copied < rows_max):
            rows = _read_journal(connection, partition, after_seq)
            if not rows:
                # Rows are missing because they were archived.
                after_seq += _COPIED_MAX
                continue
            connection.execute(_INSERT, _columns(partition, rows))
            copied += len(rows)
            after_seq = rows[-1][0]
    return copied


def read_open_dead_letters(connection: Connection) -> list[OpenDeadLetters]:
    """The numbers of open dead letters by topic and reason, with the oldest's time; new ones are included.

    Cheap enough to call every few seconds: it reads the journal heads and an index entry per open dead letter. Of very
    many new ones each call copies only some.
    """
    note_new(connection, _COPIED_PER_LOOK_MAX)
    with connection.cursor(row_factory=class_row(OpenDeadLetters)) as cursor:
        cursor.execute(_COUNT_OPEN)
        return cursor.fetchall()


def count(connection: Connection, wanted: DeadLetterFilter) -> int:
    """The number of dead letters."""
    where, values = _conditions(wanted)
    cursor = connection.execute(sql.SQL("SELECT count(*) FROM dead_letters d WHERE {}").format(where), values)
    row = cursor.fetchone()
    return 0 if row is None else int(row[0])


def read_page(
    connection: Connection, wanted: DeadLetterFilter, limit: int, after: DeadLetterId | None = None
) -> list[DeadLetterRow]:
    """A page of at most `limit` rows, newest first, after the id `after`."""
    where, values = _conditions(wanted)
    if after is not None:
        where = sql.SQL(
            "{} AND (d.occurred_at, d.partition, d.seq) < (SELECT occurred_at, partition, seq FROM dead_letters"
            " WHERE (partition, seq) = (%(after_partition)s, %(after_seq)s))"
        ).format(where)
        values |= {"after_partition": after.partition, "after_seq": after.seq}
    query = sql.SQL(
        "SELECT {} FROM dead_letters d WHERE {} ORDER BY d.occurred_at DESC, d.partition DESC, d.seq DESC"
        " LIMIT %(limit)s"
    ).format(_COLUMNS, where)
    with connection.cursor(row_factory=class_row(DeadLetterRow)) as cursor:
        cursor.execute(query, {**values, "limit": limit})
        return cursor.fetchall()


def read_in_order(connection: Connection, wanted: DeadLetterFilter, limit: int) -> Iterator[list[DeadLetterRow]]:
    """The open ones in the order of their records in each partition, `limit` at a time.

    Dead letters written after the call are not included, because a redriven record may fail again.
    """
    cursor = connection.execute("SELECT partition, max(seq) FROM dead_letters GROUP BY partition")
    ends = cursor.fetchall()
    where, values = _conditions(replace(wanted, state=OPEN))
    values |= {"end_partitions": [each for each, _ in ends], "end_seqs": [seq for _, seq in ends], "limit": limit}
    last: list[Any] = ["", 0, 0, 0, 0]
    query = sql.SQL(_IN_ORDER).format(columns=_COLUMNS, where=where)
    while True:
        with connection.cursor(row_factory=class_row(DeadLetterRow)) as cursor_of_rows:
            names = ("last_topic", "last_partition", "last_offset", "last_home", "last_seq")
            cursor_of_rows.execute(query, {**values, **dict(zip(names, last, strict=True))})
            rows = cursor_of_rows.fetchall()
        if not rows:
            return
        end = rows[-1]
        last = [end.source_topic, end.source_partition, end.source_offset, end.partition, end.seq]
        yield rows


def close_redriven(
    connection: Connection, places: Sequence[tuple[DeadLetterId, Delivered]], *, by: str, why: str
) -> None:
    """Record that the records of these dead letters were sent again, and their new positions."""
    connection.execute(
        _CLOSE_REDRIVEN,
        {
            "partitions": [letter.partition for letter, _ in places],
            "seqs": [letter.seq for letter, _ in places],
            "new_partitions": [place.partition for _, place in places],
            "new_offsets": [place.offset for _, place in places],
            "by": by,
            "why": why,
        },
    )


def discard(connection: Connection, wanted: DeadLetterFilter, *, by: str, why: str) -> int:
    """Close open ones without sending their records; return how many."""
    where, values = _conditions(replace(wanted, state=OPEN))
    query = sql.SQL(
        "UPDATE dead_letters AS d SET state = 'discarded', closed_by = %(by)s, closed_at = now(), closed_why = %(why)s"
        " WHERE {}"
    ).format(where)
    return (connection.execute(query, {**values, "by": by, "why": why})).rowcount


def read_record(connection: Connection, letter: DeadLetterRow) -> CarriedRecord:
    """The record that a dead letter carries. Raises `DeadLetterError` if its journal row is archived."""
    key, value, _ = read_bytes(connection, letter)
    topic = catalog.TOPICS.get(letter.source_topic)
    try:
        if topic is None:
            raise DecodeError(f"this release knows no topic {letter.source_topic}")
        schema, body = decode(value, *topic.schemas, bytes_max=topic.value_bytes_max)
    except DecodeError as error:
        return CarriedRecord(key, value, "", None, str(error))
    shown = {name: _HIDDEN if name in _SECRETS and text else text for name, text in body.items()}
    return CarriedRecord(key, value, schema.name, shown, "")


def read_bytes(connection: Connection, letter: DeadLetterRow) -> CarriedBytes:
    """The record that a dead letter carries. Raises `DeadLetterError` as `read_record` does."""
    cursor = connection.execute(
        _PAYLOAD, {"topic": catalog.DEAD_LETTERS.name, "id": list(letter.id), "occurred_at": letter.occurred_at}
    )
    row = cursor.fetchone()
    if row is None:
        raise DeadLetterError(f"the journal no longer has the dead letter {letter.id}: its month was archived")
    carried = _decode(row[0])
    return CarriedBytes(carried["key"], carried["value"], row[1])


def _read_journal(connection: Connection, partition: int, after_seq: int) -> list[tuple[int, DeadLetter, datetime]]:
    cursor = connection.execute(
        SQL["read_journal"],
        {
            "topics": [catalog.DEAD_LETTERS.name],
            "partitions": [partition],
            "after_seqs": [after_seq],
            "limits": [_COPIED_MAX],
            "sinces": [None],
            "bytes_max": _COPIED_BYTES_MAX,
        },
        binary=True,
    )
    return [(seq, _decode(payload), occurred_at) for _, _, seq, _, payload, occurred_at, _ in cursor.fetchall()]


def _decode(payload: bytes) -> DeadLetter:
    return decode(payload, catalog.DEAD_LETTER, bytes_max=catalog.DEAD_LETTERS.value_bytes_max)[1]


def _columns(partition: int, rows: Sequence[_Entry]) -> dict[str, Any]:
    letters = [letter for _, letter, _ in rows]
    return {
        "partition": partition,
        "seqs": [seq for seq, _, _ in rows],
        "occurred_ats": [occurred_at for _, _, occurred_at in rows],
        "agents": [letter["agent"] for letter in letters],
        "topics": [letter["source_topic"] for letter in letters],
        "partitions": [letter["source_partition"] for letter in letters],
        "offsets": [letter["source_offset"] for letter in letters],
        "order_ids": [_order_id(letter) for letter in letters],
        "reasons": [reason_of(letter["error"]).value for letter in letters],
        # An error may quote the record, and Postgres can't store NUL.
        "errors": [letter["error"].replace("\0", "\N{REPLACEMENT CHARACTER}") for letter in letters],
    }


def _order_id(letter: DeadLetter) -> str | None:
    """The order id in the record's value, or otherwise its key; None if that is not an order id."""
    try:
        found: bytes | None = order_id_of(letter["value"] or b"")
    except DecodeError:
        found = letter["key"]
    try:
        order_id = (found or b"").decode()
    except UnicodeDecodeError:
        return None
    return order_id if check_order_id(order_id) is None else None


def _conditions(wanted: DeadLetterFilter) -> tuple[sql.Composed, dict[str, Any]]:
    """The filter as SQL on the table `d`, with its parameters."""
    conditions: list[LiteralString] = ["true"]
    values: dict[str, Any] = {}
    if wanted.ids:
        conditions.append(
            "(d.partition, d.seq) IN (SELECT * FROM unnest(%(id_partitions)s::int[], %(id_seqs)s::bigint[]))"
        )
        values["id_partitions"], values["id_seqs"] = map(list, zip(*wanted.ids, strict=True))
    simple: tuple[tuple[str, LiteralString, object], ...] = (
        ("topic", "d.source_topic = %(topic)s", wanted.topic),
        ("reason", "d.reason = %(reason)s", wanted.reason),
        ("order_id", "d.order_id = %(order_id)s", wanted.order_id),
        ("since", "d.occurred_at >= %(since)s", wanted.since),
        ("until", "d.occurred_at < %(until)s", wanted.until),
        ("state", "d.state = %(state)s", wanted.state),
    )
    for name, condition, value in simple:
        if value is not None:
            conditions.append(condition)
            values[name] = value
    return sql.SQL(" AND ").join(map(sql.SQL, conditions)), values


_COLUMNS = sql.SQL(", ").join(sql.Identifier("d", name) for name in DeadLetterRow.__dataclass_fields__)

_BEHIND: LiteralString = """
SELECT h.partition, done.seq, h.next_seq - 1
FROM journal_heads h
CROSS JOIN LATERAL (SELECT coalesce(max(d.seq), 0) AS seq FROM dead_letters d WHERE d.partition = h.partition) done
WHERE h.topic = %(topic)s AND h.next_seq - 1 > done.seq
ORDER BY h.partition
"""
_INSERT: LiteralString = """
INSERT INTO dead_letters (partition, seq, occurred_at, agent, source_topic, source_partition, source_offset, order_id,
                          reason, error)
SELECT %(partition)s, *
FROM unnest(%(seqs)s::bigint[], %(occurred_ats)s::timestamptz[], %(agents)s::text[], %(topics)s::text[],
            %(partitions)s::int[], %(offsets)s::bigint[], %(order_ids)s::text[], %(reasons)s::text[],
            %(errors)s::text[])
ON CONFLICT (partition, seq) DO NOTHING
"""
_COUNT_OPEN: LiteralString = """
SELECT source_topic AS topic, reason, count(*) AS count, min(occurred_at) AS oldest_at
FROM dead_letters WHERE state = 'open' GROUP BY source_topic, reason ORDER BY source_topic, reason
"""
_IN_ORDER: LiteralString = """
SELECT {columns} FROM dead_letters d
JOIN unnest(%(end_partitions)s::int[], %(end_seqs)s::bigint[]) AS ends (partition, seq)
    ON ends.partition = d.partition AND d.seq <= ends.seq
WHERE {where}
    AND (d.source_topic, d.source_partition, d.source_offset, d.partition, d.seq)
        > (%(last_topic)s, %(last_partition)s, %(last_offset)s, %(last_home)s, %(last_seq)s)
ORDER BY d.source_topic, d.source_partition, d.source_offset, d.partition, d.seq
LIMIT %(limit)s
"""
_CLOSE_REDRIVEN: LiteralString = """
UPDATE dead_letters AS d
SET state = 'redriven', closed_by = %(by)s, closed_at = now(), closed_why = %(why)s,
    redriven_partition = sent.new_partition, redriven_offset = sent.new_offset
FROM unnest(%(partitions)s::int[], %(seqs)s::bigint[], %(new_partitions)s::int[], %(new_offsets)s::bigint[])
    AS sent (partition, seq, new_partition, new_offset)
WHERE d.partition = sent.partition AND d.seq = sent.seq AND d.state = 'open'
"""
_PAYLOAD: LiteralString = """
SELECT payload, traceparent FROM journal
WHERE topic = %(topic)s AND partition = (%(id)s::bigint[])[1] AND seq = (%(id)s::bigint[])[2]
    AND occurred_at = %(occurred_at)s
"""
