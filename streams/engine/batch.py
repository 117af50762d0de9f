"""A batch: what one fetch brought of one partition."""

from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from streams.engine.batch_traces import NO_TRACES, BatchTraces


class Record(Protocol):
    """A record as aiokafka hands it over."""

    @property
    def offset(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...


def joined(batches: Iterable["Batch"]) -> list["Batch"]:
    """The same records in as few batches as there are unbroken runs of them."""
    runs: list[Batch] = []
    for batch in batches:
        longer = runs[-1].followed_by(batch) if runs else None
        if longer is None:
            runs.append(batch)
        else:
            runs[-1] = longer
    return runs


def transactions(batches: Iterable["Batch"], bytes_max: int) -> Iterator["Batch"]:
    """The same records in the batches to be done, each in a transaction: as few as there can be, none too large."""
    for run in joined(batches):
        yield from run.pieces(bytes_max)


@dataclass(frozen=True, slots=True)
class Batch:
    """Records of one partition in offset order, at least one; offsets between them may be missing from the log."""

    topic: str
    partition: int
    records: Sequence[Record]
    #: Of a batch that others have taken records from: where it begins and ends all the same. It may have none left.
    span: tuple[int, int] | None = None
    #: Of these records, and of those that it was made without.
    traces: BatchTraces = field(default=NO_TRACES, compare=False)
    #: Why some of them, by offset, become dead letters, as far as is known in this attempt.
    dead: dict[int, str] = field(default_factory=dict, compare=False)

    @property
    def first_offset(self) -> int:
        """Offset of the first record."""
        return self.span[0] if self.span else self.records[0].offset

    @property
    def next_offset(self) -> int:
        """Offset after the last record."""
        return self.span[1] if self.span else self.records[-1].offset + 1

    def without(self, offsets: Container[int]) -> "Batch":
        """The same batch, from its beginning to its end, less some records."""
        records = [record for record in self.records if record.offset not in offsets]
        return replace(self, records=records, span=(self.first_offset, self.next_offset))

    def since(self, offset: int) -> "Batch":
        """The part not before `offset`; the caller knows that there is one."""
        records = [record for record in self.records if record.offset >= offset]
        return replace(self, records=records, span=self.span and (max(offset, self.span[0]), self.span[1]))

    def first(self, records_max: int) -> "Batch":
        """The first records, so many at most, and what lies before the next."""
        if len(self.records) <= records_max:
            return self
        span = self.span and (self.span[0], self.records[records_max].offset)
        return replace(self, records=self.records[:records_max], span=span)

    def after(self, piece: "Batch") -> "Batch | None":
        """What is left behind `piece`, with which this batch begins."""
        left = self.records[len(piece.records) :]
        return replace(self, records=left, span=self.span and (piece.next_offset, self.span[1])) if left else None

    def pieces(self, bytes_max: int) -> "Iterator[Batch]":
        """The same records in batches of at most so many bytes of values; a record larger than that stands alone."""
        piece: list[Record] = []
        size = 0
        for record in self.records:
            length = len(record.value or b"")
            if piece and size + length > bytes_max:
                yield replace(self, records=piece)
                piece, size = [], 0
            piece.append(record)
            size += length
        yield replace(self, records=piece)

    def followed_by(self, later: "Batch") -> "Batch | None":
        """Both as one, if `later` begins where this one ends."""
        if (later.topic, later.partition, later.first_offset) != (self.topic, self.partition, self.next_offset):
            return None
        return replace(self, records=[*self.records, *later.records])

    def traced(self) -> "Batch":
        """The same, with the traces that its records came with."""
        return replace(self, traces=BatchTraces(self.topic, self.partition, self.records))

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition} [{self.first_offset}, {self.next_offset})"
