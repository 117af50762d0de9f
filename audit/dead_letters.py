"""The dead letters, as far as the check of the requests needs them: where each came from, and a digest of its bytes."""

from array import array
from bisect import bisect_left
from hashlib import blake2b


class DeadLetters:
    """Those of one agent, by source partition; 16 bytes each in memory."""

    def __init__(self) -> None:
        self._sorted: dict[int, tuple[array[int], array[int]]] = {}

    def add(self, partition: int, offset: int, key: bytes | None, value: bytes | None) -> None:
        """Note a dead letter; all are noted before the first is looked up."""
        offsets, digests = self._sorted.setdefault(partition, (array("q"), array("Q")))
        offsets.append(offset)
        digests.append(_digest(key, value))

    def sort(self) -> None:
        """Prepare for looking up."""
        for partition, (offsets, digests) in self._sorted.items():
            order = sorted(range(len(offsets)), key=offsets.__getitem__)
            self._sorted[partition] = (array("q", (offsets[i] for i in order)), array("Q", (digests[i] for i in order)))

    def matches(self, partition: int, offset: int, key: bytes | None, value: bytes | None) -> list[bool]:
        """For each dead letter of that record: whether it holds the record's bytes."""
        offsets, digests = self._sorted.get(partition, (array("q"), array("Q")))
        at = bisect_left(offsets, offset)
        found = []
        while at < len(offsets) and offsets[at] == offset:
            found.append(digests[at] == _digest(key, value))
            at += 1
        return found

    def count(self, partition: int, first: int) -> int:
        """How many come from offsets from `first` on."""
        offsets, _ = self._sorted.get(partition, (array("q"), array("Q")))
        return len(offsets) - bisect_left(offsets, first)


def _digest(key: bytes | None, value: bytes | None) -> int:
    # None and b"" are not the same record.
    parts = b"".join(b"-" if part is None else b"+%d:" % len(part) + part for part in (key, value))
    return int.from_bytes(blake2b(parts, digest_size=8).digest())
