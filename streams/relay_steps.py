"""What a relay does, step by step, apart from how each step is done.

The steps are generators: they yield what they ask of Postgres and of Kafka, and are sent the answers. So the order that
everything rests on, send, then await, then mark, stands in one place, and can be tried under every interleaving.
"""

from collections.abc import Collection, Generator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple, TypeVar

from runtime.exits import fatal

#: Rows of one partition in one round: bounds memory, and what a crash repeats.
ROWS_MAX = 2_000
#: Clocks of different workers differ: rows are looked for this far behind the newest published.
CLOCK_SLACK = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Output:
    """A partition of an output topic."""

    topic: str
    partition: int


class Ask(NamedTuple):
    """Execute a statement of `queries.sql`; the answer is its rows."""

    statement: str
    parameters: Mapping[str, Any] = {}
    binary: bool = False


class Send(NamedTuple):
    """Hand a row over to the producer, behind all that was handed over before for the same output."""

    output: Output
    seq: int
    key: bytes | None
    payload: bytes


class AwaitAcknowledgements(NamedTuple):
    """Wait until the brokers have all that was sent."""


class Marked(NamedTuple):
    """So many rows of `output` have been published and are marked."""

    output: Output
    rows: int


class Waiting(NamedTuple):
    """So many rows of `output` are not published yet, whoever's they are."""

    output: Output
    rows: int


_Answer = TypeVar("_Answer")
Steps = Generator[Ask | Send | AwaitAcknowledgements | Marked | Waiting, Any, _Answer]
_Row = tuple[int, bytes | None, bytes, datetime]


def lock_outputs(outputs: Mapping[Output, int], owned: set[Output]) -> Steps[list[Output]]:
    """Take the locks that nobody has, add them to `owned`, and return them; `outputs` numbers each topic."""
    taken = []
    for output, topic_number in outputs.items():
        if output in owned:
            continue
        rows = yield Ask("lock_output", {"topic_number": topic_number, "partition": output.partition})
        if rows and rows[0][0]:
            owned.add(output)
            taken.append(output)
    return taken


def publish_round(owned: Collection[Output], since: dict[Output, datetime]) -> Steps[bool]:
    """Publish once from each partition of `owned` that has something; return whether any had.

    `since` remembers for each output how far back the journal needs to be read.
    """
    sent: list[tuple[Output, int, datetime, int]] = []
    for topic, partition, published_seq, next_seq in (yield Ask("read_unpublished")):
        output = Output(topic, partition)
        count = next_seq - 1 - published_seq
        yield Waiting(output, count)
        if output in owned:
            rows = yield from _read(output, published_seq, min(ROWS_MAX, count), since.get(output))
            for seq, key, payload, _ in rows:
                yield Send(output, seq, key, payload)
            sent.append((output, rows[-1][0], rows[-1][3], len(rows)))
    if not sent:
        return False
    yield AwaitAcknowledgements()
    for output, seq, occurred_at, count in sent:
        # After the acknowledgement: a crash between repeats rows, never loses them.
        yield Ask("mark_published", {"topic": output.topic, "partition": output.partition, "seq": seq})
        since[output] = occurred_at - CLOCK_SLACK
        yield Marked(output, count)
    return True


def _read(output: Output, after_seq: int, count: int, since: datetime | None) -> Steps[Sequence[_Row]]:
    query = {"topic": output.topic, "partition": output.partition, "after_seq": after_seq, "limit": count}
    rows: Sequence[_Row] = ()
    for start in (since, None):
        rows = yield Ask("read_journal", {**query, "since": start or "-infinity"}, binary=True)
        if [row[0] for row in rows] == list(range(after_seq + 1, after_seq + 1 + count)):
            return rows
    return fatal(
        f"the journal of {output.topic}/{output.partition} has {len(rows)} of the {count} rows after seq"
        f" {after_seq}: rows were deleted before they were published"
    )
