"""Batches: what is joined, and what is cut off."""

import asyncio
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from streams.engine.app import _waiting
from streams.engine.batch import Batch, joined


@dataclass(frozen=True)
class Sent:
    offset: int
    key: bytes | None = None
    value: bytes | None = None
    headers: tuple[tuple[str, bytes], ...] = ()


def batch(*offsets: int, partition: int = 0) -> Batch:
    return Batch("t", partition, [Sent(offset) for offset in offsets])


def offsets(batches: list[Batch]) -> list[list[int]]:
    return [[record.offset for record in each.records] for each in batches]


def test_batches_that_follow_each_other_become_one() -> None:
    assert offsets(joined([batch(0, 1), batch(2), batch(3, 5), batch(6)])) == [[0, 1, 2, 3, 5, 6]]


def test_a_hole_between_batches_keeps_them_apart() -> None:
    assert offsets(joined([batch(0, 1), batch(3), batch(4)])) == [[0, 1], [3, 4]]


def test_what_was_read_again_is_not_joined_to_what_was_read_before() -> None:
    assert offsets(joined([batch(4, 5), batch(0, 1), batch(2)])) == [[4, 5], [0, 1, 2]]


def test_other_partitions_are_never_joined() -> None:
    assert len(joined([batch(0), batch(1, partition=1)])) == 2


def test_the_part_before_an_offset_is_cut_off() -> None:
    assert offsets([batch(3, 4, 7).since(4)]) == [[4, 7]]


def test_a_batch_is_cut_by_bytes_and_keeps_its_order() -> None:
    sizes = [3, 3, 3, 20, 1]
    whole = Batch("t", 0, [Sent(offset, value=b"x" * size) for offset, size in enumerate(sizes)])
    assert offsets(list(whole.pieces(6))) == [[0, 1], [2], [3], [4]]
    assert offsets(list(whole.pieces(100))) == [[0, 1, 2, 3, 4]]
    assert offsets(list(batch(0, 1).pieces(1))) == [[0, 1]]


def test_waiting_events_are_taken_up_to_the_limit_and_the_rest_is_left() -> None:
    queue: asyncio.Queue[Any] = asyncio.Queue()
    for first in range(0, 10, 2):
        queue.put_nowait(SimpleNamespace(message=SimpleNamespace(batch=batch(first, first + 1))))
    taken = list(_waiting(queue, 5))
    assert offsets([event.message.batch for event in taken]) == [[0, 1], [2, 3], [4, 5]]
    assert queue.qsize() == 2
    assert list(_waiting(queue, 0)) == []


def test_a_batch_without_some_records_still_begins_and_ends_where_it_did() -> None:
    """Its position must move past them, too; also where none is left."""
    for gone in ({3}, {5}, {3, 4, 5}):
        less = batch(3, 4, 5).without(gone)
        assert (less.first_offset, less.next_offset) == (3, 6)
        assert offsets([less]) == [[each for each in (3, 4, 5) if each not in gone]]
        assert (less.since(4).first_offset, less.since(4).next_offset) == (4, 6)


def test_a_batch_is_cut_into_what_comes_first_and_what_is_left() -> None:
    """Also where others have taken records from it: nothing lies between the two."""
    fetched = batch(*range(10, 16))
    for whole in (fetched, fetched.without([10, 12, 15])):
        piece = whole.first(2)
        left = whole.after(piece)
        assert left is not None
        assert [each.offset for each in (*piece.records, *left.records)] == [each.offset for each in whole.records]
        assert (piece.first_offset, piece.next_offset) == (whole.first_offset, left.first_offset)
        assert left.next_offset == whole.next_offset
        assert left.after(left.first(6)) is None
