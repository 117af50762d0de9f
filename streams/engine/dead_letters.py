"""Dead letters: what could not be decoded or applied, kept with all that is needed to send it again."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Protocol, TypeVar

from domain.dead_letter import DeadLetterReason
from domain.moments import micros
from domain.records import DeadLetter
from schemas import catalog
from schemas.codec import encode
from sinks.postgres.journal import JournalRow, OutputKey
from streams.engine.batch import Batch, Record
from streams.engine.work import Part

_ERROR_CHARS_MAX = 500


class WithDead(Protocol):
    """A batch prepared, with the dead letters of its records."""

    dead: list[JournalRow]


_Prepared = TypeVar("_Prepared", bound=WithDead)


def dead_letter(
    agent: str, batch: Batch, record: Record, reason: DeadLetterReason, detail: str, now: datetime
) -> JournalRow:
    """The journal row of a record that stops here; only that record stops. The log has it once it is committed."""
    batch.dead[record.offset] = reason
    value: DeadLetter = {
        "agent": agent,
        "source_topic": batch.topic,
        "source_partition": batch.partition,
        "source_offset": record.offset,
        "key": record.key,
        "value": record.value,
        "error": f"{reason}: {detail}"[:_ERROR_CHARS_MAX],
        "occurred_at": micros(now),
    }
    return JournalRow(record.key, encode(catalog.DEAD_LETTER, value), now, batch.traces.follow(record.offset))


def dead_of(parts: Sequence[Part[_Prepared]], now: datetime) -> dict[OutputKey, list[JournalRow]]:
    """The dead letters of a transaction's parts, as of `now`, for each of their partitions.

    A partition of several topics has its dead letters in one output.
    """
    output: dict[OutputKey, list[JournalRow]] = {}
    for part in parts:
        output.setdefault((catalog.DEAD_LETTERS.name, part.batch.partition), []).extend(dated(part.prepared.dead, now))
    return output


def dated(rows: Iterable[JournalRow], now: datetime) -> list[JournalRow]:
    """The rows as of `now`: they were made before the transaction, by a clock that need not be believed."""
    return [row._replace(occurred_at=now) for row in rows]
