"""What a relay does, step by step, apart from how each step is done.

The steps are generators: they yield what they ask of Postgres and of Kafka, and are sent the answers. So the order that
everything rests on, send, then await, then mark, stands in one place, and can be tried under every interleaving.
"""

from collections.abc import Collection, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple, TypeVar

from runtime.exits import fatal

#: Rows of one partition that are under way at once: bounds memory, and what a crash repeats.
ROWS_MAX = 2_000
#: Bytes of one partition that are under way at once; a larger row goes alone. A partition that the brokers don't take
#: holds these in memory until they do.
BYTES_MAX = 2 * 1024 * 1024
#: Clocks of different workers differ: rows are looked for this far behind the newest published.
CLOCK_SLACK = timedelta(days=1)
#: The advisory lock that every relay shares; topics are numbered from 0. Its holders are counted.
RELAYS_LOCK = 1_000_000


@dataclass(frozen=True, slots=True, order=True)
class Output:
    """A partition of an output topic."""

    topic: str
    partition: int


class RunStatement(NamedTuple):
    """Execute a statement of `queries.sql`; the answer is its rows."""

    statement: str
    parameters: Mapping[str, Any] = {}
    binary: bool = False


class Produce(NamedTuple):
    """Hand a row over to the producer, behind all that was handed over before for the same output."""

    output: Output
    seq: int
    key: bytes | None
    payload: bytes
    occurred_at: datetime
    traceparent: str | None = None


class ReadJournal(NamedTuple):
    """Read the next rows of an output; the answer is these rows. Several may be read by one `read_statement`."""

    output: Output
    after_seq: int
    rows_max: int
    #: The rows are no older than this; None for all.
    since: datetime | None


class MarkPublished(NamedTuple):
    """Note that an output is published up to a row. Several may be noted by one `mark_statement`."""

    output: Output
    seq: int


class AwaitAcknowledgements(NamedTuple):
    """Go on when the brokers have all that these steps have sent; other outputs go on meanwhile."""


class RelayProgress(NamedTuple):
    """What these steps have published and marked."""

    rows: int
    #: The journal need not be read further back than this for the next rows.
    since: datetime


_Answer = TypeVar("_Answer")
Steps = Generator[RunStatement | ReadJournal | MarkPublished | Produce | AwaitAcknowledgements, Any, _Answer]
Row = tuple[int, bytes | None, bytes, datetime, str | None]


def share_outputs(
    outputs: Mapping[Output, int], locked: set[Output], owned: set[Output], sending: Collection[Output]
) -> Steps[list[Output]]:
    """Bring `owned` to this relay's fair share of `outputs`, and return those that it has taken.

    `locked` are those whose lock this session holds: what is owned, and what is given up and still in `sending`. Each
    is unlocked once all that was sent is marked, so that its next relay repeats nothing. `outputs` numbers each topic.
    """
    [(rank, relays)] = yield RunStatement("read_relay_rank", {"lock": RELAYS_LOCK})
    share = len(outputs) // relays + (rank < len(outputs) % relays)
    # Idle ones first: they can be taken over at once. Sorted, so that a history is the same in every process.
    for output in sorted(owned, key=lambda each: (each in sending, each))[: max(0, len(owned) - share)]:
        owned.remove(output)
    for output in sorted(locked - owned - set(sending)):
        locked.remove(output)
        yield RunStatement("unlock_output", {"topic_number": outputs[output], "partition": output.partition})
    taken = []
    for output, topic_number in outputs.items():
        if len(owned) >= share:
            break
        if output in owned:
            continue
        if output not in locked:
            rows = yield RunStatement("lock_output", {"topic_number": topic_number, "partition": output.partition})
            if not (rows and rows[0][0]):
                continue
            locked.add(output)
        owned.add(output)
        taken.append(output)
    return taken


def publish(output: Output, after_seq: int, count: int, since: datetime | None) -> Steps[RelayProgress]:
    """Publish and mark the next of the `count` rows behind `after_seq`, at least one.

    `since` is how far back the journal is read first.
    """
    rows = yield from _read(output, after_seq, min(ROWS_MAX, count), since)
    for seq, key, payload, occurred_at, traceparent in rows:
        yield Produce(output, seq, key, payload, occurred_at, traceparent)
    yield AwaitAcknowledgements()
    seq, _, _, occurred_at, _ = rows[-1]
    # After the acknowledgement: a crash between repeats rows, never loses them.
    yield MarkPublished(output, seq)
    return RelayProgress(len(rows), occurred_at - CLOCK_SLACK)


def _read(output: Output, after_seq: int, count: int, since: datetime | None) -> Steps[Sequence[Row]]:
    for start in (since, None):
        rows: Sequence[Row] = yield ReadJournal(output, after_seq, count, start)
        if rows and [row[0] for row in rows] == list(range(after_seq + 1, after_seq + 1 + len(rows))):
            return rows
    return fatal(
        f"the journal of {output.topic}/{output.partition} has no row of seq {after_seq + 1}, or one of those behind it"
        " is missing: rows were deleted before they were published"
    )


def read_statement(reads: Sequence[ReadJournal]) -> RunStatement:
    """Reads for several outputs; see `rows_by_output`."""
    return RunStatement(
        "read_journal",
        {
            **_outputs(reads),
            "after_seqs": [each.after_seq for each in reads],
            "limits": [each.rows_max for each in reads],
            "sinces": [each.since for each in reads],
            "bytes_max": BYTES_MAX,
        },
        binary=True,
    )


def rows_by_output(reads: Iterable[ReadJournal], found: Iterable[Sequence[Any]]) -> dict[Output, list[Row]]:
    """The rows that the statement has found, by output; an output without rows has none."""
    rows: dict[Output, list[Row]] = {each.output: [] for each in reads}
    for topic, partition, seq, key, payload, occurred_at, traceparent in found:
        rows[Output(topic, partition)].append((seq, key, payload, occurred_at, traceparent))
    return rows


def mark_statement(marks: Sequence[MarkPublished]) -> RunStatement:
    """Marks several outputs."""
    return RunStatement("mark_published", {**_outputs(marks), "seqs": [each.seq for each in marks]})


def _outputs(steps: Iterable[ReadJournal | MarkPublished]) -> dict[str, list[Any]]:
    outputs = [each.output for each in steps]
    return {
        "topics": [output.topic for output in outputs],
        "partitions": [output.partition for output in outputs],
    }
