"""Dead letters: what could not be decoded or applied, kept with all that is needed to send it again."""

from datetime import datetime

from schemas import catalog
from schemas.codec import encode
from sinks.postgres.journal import JournalRow
from streams.batch import Batch, Record

_ERROR_CHARS_MAX = 500


def dead_letter(agent: str, batch: Batch, record: Record, error: str, now: datetime) -> JournalRow:
    """The journal row of a record that stops here; only that record stops."""
    value = {
        "agent": agent,
        "source_topic": batch.topic,
        "source_partition": batch.partition,
        "source_offset": record.offset,
        "key": record.key,
        "value": record.value,
        "error": error[:_ERROR_CHARS_MAX],
        "occurred_at": micros(now),
    }
    return JournalRow(record.key, encode(catalog.DEAD_LETTER, value), now)


def micros(moment: datetime) -> int:
    """Microseconds since 1970, UTC, exactly."""
    return (int(moment.timestamp()) * 1_000_000) + moment.microsecond
