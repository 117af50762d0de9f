"""Which events of a partition are new, whatever repeats, holes and crashes the records come with."""

from dataclasses import dataclass
from random import Random

import pytest
from gapless_client.positions import Position
from gapless_client.sequence import HoleError, fresh
from hypothesis import given
from hypothesis import strategies as st


@dataclass(frozen=True)
class Record:
    seq: int
    offset: int = 0
    topic: str = "t"
    partition: int = 0


def records(*seqs: int) -> list[Record]:
    return [Record(seq, offset) for offset, seq in enumerate(seqs)]


def test_the_first_event_of_all_may_have_any_seq() -> None:
    assert fresh(records(41, 42), None) == (records(41, 42), Position(42, 2))


def test_repeats_are_passed_over_and_move_the_offset_on() -> None:
    assert fresh(records(1, 2, 1, 2, 3), Position(1, 0)) == ([Record(2, 1), Record(3, 4)], Position(3, 5))
    assert fresh(records(5, 6), Position(6, 100)) == ([], Position(6, 2))
    assert fresh([], Position(6, 100)) == ([], Position(6, 100))


def test_a_hole_is_an_error_once_what_is_before_it_is_processed() -> None:
    new, after = fresh(records(7, 8, 10, 11), Position(6, 0))
    assert (new, after) == (records(7, 8), Position(8, 2))
    with pytest.raises(HoleError, match="t/0: seq 10 follows 8: 1 events are missing") as hole:
        fresh(records(8, 10, 11), after)
    assert (hole.value.expected, hole.value.found) == (9, 10)


@given(st.integers())
def test_each_event_is_new_once_through_any_repeats_and_restarts(seed: int) -> None:
    """A relay that crashes goes on anywhere behind what it has marked; a consumer that crashes, at its position."""
    chance = Random(seed)
    log: list[int] = []
    while not log or max(log) < 12:
        start = chance.randint(1, max(log, default=0) + 1)
        log += range(start, start + chance.randint(1, 5))
    seen: list[int] = []
    position: Position | None = None
    at = 0
    while at < len(log):
        batch = [Record(seq, offset) for offset, seq in enumerate(log[at : at + chance.randint(1, 5)], at)]
        new, after = fresh(batch, position)
        if chance.random() < 0.7:
            seen += [each.seq for each in new]
            position = after
            at += len(batch)
    # The first that it sees may be any; from there on, none is missing and none comes twice.
    assert seen == list(range(log[0], max(log) + 1))
