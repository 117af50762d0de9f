"""Which events of a partition are new: the rule of `seq`, apart from where the records come from."""

from collections.abc import Sequence
from typing import Protocol, TypeVar

from gapless_client.errors import GaplessError
from gapless_client.positions import Position


class HoleError(GaplessError):
    """Events are missing: they were deleted by the topic's retention before they were read, or the topic was damaged.

    Read what is missing from an export or by HTTP, then set the position behind it.
    """

    def __init__(self, topic: str, partition: int, expected: int, found: int) -> None:
        super().__init__(
            f"{topic}/{partition}: seq {found} follows {expected - 1}: {found - expected} events are missing"
        )
        self.expected = expected
        self.found = found


class _Numbered(Protocol):
    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def seq(self) -> int: ...


E = TypeVar("E", bound=_Numbered)


def fresh(records: Sequence[E], before: Position | None) -> tuple[list[E], Position | None]:
    """Of one partition's records, in their order, those that are new, and the position behind all of them.

    A record whose seq is not greater than the last is a repeat, whatever it holds. The first one of all may have any
    seq: what was before it is older than the topic's retention. Those behind a hole are left out. Raises `HoleError` if
    there is one before the first that is new.
    """
    found: list[E] = []
    position = before
    for record in records:
        if position is None or record.seq == position.seq + 1:
            found.append(record)
            position = Position(record.seq, record.offset + 1)
        elif record.seq <= position.seq:
            position = Position(position.seq, record.offset + 1)
        elif found:
            break
        else:
            raise HoleError(record.topic, record.partition, position.seq + 1, record.seq)
    return found, position
