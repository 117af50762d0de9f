"""Redriven dead letters: the record of each is in its topic again, at the recorded offset."""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import NamedTuple

from audit import statements
from audit.cursors import Cursors
from audit.log import Log
from audit.report import AuditReport
from audit.snapshot import Snapshot
from schemas.catalog import DEAD_LETTER, DEAD_LETTERS
from schemas.codec import decode

#: Limits of what is read at once; records of one redrive are close to each other.
_SPAN_OFFSETS_MAX = 2_000
_SPAN_LETTERS_MAX = 100
#: How far before the cursor to begin, since a row's time is when its statement began, not its commit.
_LATE = timedelta(minutes=1)


class _Redriven(NamedTuple):
    """A dead letter, and where its record was sent."""

    topic: str
    partition: int
    offset: int
    name: str
    redriven_at: datetime
    #: None if the journal has no such dead letter.
    payload: bytes | None


def check_redriven(snapshot: Snapshot, log: Log, report: AuditReport, cursors: Cursors) -> None:
    """Compare the record of each dead letter redriven since the cursor with the one that was sent.

    The outcome of the new record is checked as that of any other. Keys are not compared, because a wrong key is
    corrected by the redrive. Records deleted by retention can't be compared.
    """
    since = "-infinity" if cursors.redriven_at is None else cursors.redriven_at - _LATE
    rows = (_Redriven(*row) for row in snapshot.stream(statements.REDRIVEN, topic=DEAD_LETTERS.name, since=since))
    for letters in _spans(rows):
        topic, partition = letters[0][:2]
        low, end = log.bounds(topic, partition)
        first, last = max(low, letters[0].offset), letters[-1].offset
        values: dict[int, bytes | None] = {}
        if first < min(last + 1, end):
            wanted = {letter.offset for letter in letters}
            for _, messages in log.read_on({(topic, partition): (first, min(last + 1, end))}):
                values.update(
                    (message.offset() or 0, message.value()) for message in messages if message.offset() in wanted
                )
        for letter in letters:
            report.counts["dead letters redriven"] += 1
            cursors.redriven_at = max(cursors.redriven_at or letter.redriven_at, letter.redriven_at)
            wrong = _judge(letter, values) if letter.offset >= low else ""
            if wrong:
                report.add("dead letter", f"{letter.name} in {topic}/{partition} offset {letter.offset}", wrong)


def _judge(letter: _Redriven, values: dict[int, bytes | None]) -> str:
    if letter.payload is None:
        return "is recorded as redriven, but the journal has no such dead letter"
    if letter.offset not in values:
        return "is recorded as redriven, but the topic has no such record"
    _, carried = decode(letter.payload, DEAD_LETTER, bytes_max=DEAD_LETTERS.value_bytes_max)
    return "" if values[letter.offset] == carried["value"] else "the record that was sent again is another one"


def _spans(letters: Iterable[_Redriven]) -> Iterator[list[_Redriven]]:
    """Groups of letters in one partition that are close to each other."""
    span: list[_Redriven] = []
    for letter in letters:
        is_near = (
            span
            and span[0][:2] == letter[:2]
            and letter.offset - span[0].offset < _SPAN_OFFSETS_MAX
            and len(span) < _SPAN_LETTERS_MAX
        )
        if span and not is_near:
            yield span
            span = []
        span.append(letter)
    if span:
        yield span
