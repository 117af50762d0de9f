"""A batch: what one fetch brought of one partition."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol


class Record(Protocol):
    """A record as aiokafka hands it over."""

    @property
    def offset(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...


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

    @property
    def first_offset(self) -> int:
        """Offset of the first record."""
        return self.records[0].offset

    @property
    def next_offset(self) -> int:
        """Offset after the last record."""
        return self.records[-1].offset + 1

    def since(self, offset: int) -> "Batch":
        """The part not before `offset`; the caller knows that there is one."""
        return replace(self, records=[record for record in self.records if record.offset >= offset])

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

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition} [{self.first_offset}, {self.next_offset})"
