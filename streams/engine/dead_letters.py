"""Dead letters: what could not be decoded or applied, kept with all that is needed to send it again."""

from collections.abc import Iterable
from datetime import datetime

from domain.dead_letter import DeadLetterReason
from domain.moments import micros
from domain.records import DeadLetter
from schemas import catalog
from schemas.codec import encode
from sinks.postgres.journal import JournalRow
from streams.engine.batch import Batch, Record

_ERROR_CHARS_MAX = 500


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


def dated(rows: Iterable[JournalRow], now: datetime) -> list[JournalRow]:
    """The rows as of `now`: they were made before the transaction, by a clock that need not be believed."""
    return [row._replace(occurred_at=now) for row in rows]
