"""Compares two accounts of the same things, the tables' and the events', in bounded memory."""

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import NamedTuple
from zlib import crc32

#: Half a megabyte of sums. With more buckets, fewer correct entries share one with a difference.
_BUCKETS = 65_536
#: Entries of differing buckets that are examined one by one; bounds memory if everything differs.
_SUSPECTS_MAX = 10_000
_MASK = 2**64 - 1


class Entry(NamedTuple):
    """One statement of an account: its subject, such as `order demo/A-1`, and a text equal in both accounts."""

    where: str
    what: str


class Tally:
    """Sums of digests by bucket; each is zero if both accounts have the same entries equally often, in any order."""

    def __init__(self) -> None:
        self._sums = array("Q", bytes(8 * _BUCKETS))

    def in_tables(self, entry: Entry) -> None:
        """Add an entry of the tables."""
        self._add(entry, 1)

    def in_events(self, entry: Entry) -> None:
        """Add an entry of an event."""
        self._add(entry, -1)

    def _add(self, entry: Entry, sign: int) -> None:
        bucket = _bucket(entry.where)
        digest = int.from_bytes(blake2b(f"{entry.where}\x1f{entry.what}".encode(), digest_size=8).digest())
        self._sums[bucket] = (self._sums[bucket] + sign * digest) & _MASK

    @property
    def agrees(self) -> bool:
        """Whether both accounts are the same."""
        return not any(self._sums)

    def differences(self, tables: Iterable[Entry], events: Iterable[Entry]) -> Iterator[tuple[Entry, int]]:
        """The entries that differ, with how much more often the tables have them. Reads both accounts again."""
        suspects = {bucket for bucket, total in enumerate(self._sums) if total}
        found: Counter[Entry] = Counter()
        for entries, sign in ((tables, 1), (events, -1)):
            for entry in entries:
                if _bucket(entry.where) in suspects and (entry in found or len(found) < _SUSPECTS_MAX):
                    found[entry] += sign
        yield from ((entry, count) for entry, count in sorted(found.items()) if count)


def _bucket(where: str) -> int:
    return crc32(where.encode()) % _BUCKETS
