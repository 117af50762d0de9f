"""The dead letters in the form that the checks of requests need: each one's source, and a digest of its bytes."""

from array import array
from bisect import bisect_left
from hashlib import blake2b


class DeadLetters:
    """The dead letters of one agent, by source partition; 16 bytes each in memory."""

    def __init__(self) -> None:
        self._sorted: dict[int, tuple[array[int], array[int]]] = {}

    def add(self, partition: int, offset: int, key: bytes | None, value: bytes | None) -> None:
        """Add a dead letter; all must be added before the first look-up."""
        offsets, digests = self._sorted.setdefault(partition, (array("q"), array("Q")))
        offsets.append(offset)
        digests.append(_digest(key, value))

    def sort(self) -> None:
        """Sort after adding, before look-ups."""
        for partition, (offsets, digests) in self._sorted.items():
            order = sorted(range(len(offsets)), key=offsets.__getitem__)
            self._sorted[partition] = (array("q", (offsets[i] for i in order)), array("Q", (digests[i] for i in order)))

    def matches(self, partition: int, offset: int, key: bytes | None, value: bytes | None) -> list[bool]:
        """For each dead letter of the record at `offset`: whether it contains the record's bytes."""
        offsets, digests = self._sorted.get(partition, (array("q"), array("Q")))
        at = bisect_left(offsets, offset)
        found = []
        while at < len(offsets) and offsets[at] == offset:
            found.append(digests[at] == _digest(key, value))
            at += 1
        return found

    def count(self, partition: int, first: int) -> int:
        """The number of dead letters whose source offset is at least `first`."""
        offsets, _ = self._sorted.get(partition, (array("q"), array("Q")))
        return len(offsets) - bisect_left(offsets, first)


def _digest(key: bytes | None, value: bytes | None) -> int:
    # None and b"" are different records.
    parts = b"".join(b"-" if part is None else b"+%d:" % len(part) + part for part in (key, value))
    return int.from_bytes(blake2b(parts, digest_size=8).digest())
