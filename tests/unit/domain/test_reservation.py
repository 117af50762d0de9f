"""Claims: all lines or none, in the order of arrival, and never more than there is."""

import pytest

from domain.reservation import Change, Level, Shelf, Short, Sku, wanted_of

MUG, TEA = Sku("demo", "MUG"), Sku("demo", "TEA")


def shelf(mugs: int = 10, teas: int = 5, reserved: int = 0) -> Shelf:
    """Mugs, some of them claimed, and teas."""
    return Shelf({MUG: Level(mugs, reserved, 7), TEA: Level(teas, 0, 0)})


def test_several_lines_of_a_sku_are_counted_together() -> None:
    assert wanted_of("demo", [("TEA", 2), ("MUG", 1), ("TEA", 3)]) == {TEA: 5, MUG: 1}


def test_a_sku_belongs_to_its_seller() -> None:
    kept = shelf()
    assert kept.reserve({Sku("other", "MUG"): 1}) == [Short("MUG", 1, 0)]


def test_a_claim_takes_from_what_is_free_and_counts_the_change() -> None:
    kept = shelf()
    assert kept.reserve({TEA: 2, MUG: 10}) == [Change(MUG, 10, Level(10, 10, 8)), Change(TEA, 2, Level(5, 2, 1))]
    assert kept.changed == {MUG, TEA}
    assert (kept.levels[MUG].free, kept.levels[TEA].free) == (0, 3)


def test_an_order_that_is_short_of_one_line_takes_none() -> None:
    kept = shelf()
    assert kept.reserve({MUG: 1, TEA: 6}) == [Short("TEA", 6, 5)]
    assert kept.levels == shelf().levels
    assert kept.changed == set()


def test_everything_that_is_short_is_named_by_sku() -> None:
    kept = shelf(reserved=9)
    wanted = {TEA: 9, MUG: 2, Sku("demo", "HAT"): 1}
    assert kept.reserve(wanted) == [Short("HAT", 1, 0), Short("MUG", 2, 1), Short("TEA", 9, 5)]


def test_who_comes_first_gets_the_last_piece() -> None:
    kept = shelf(teas=1)
    assert isinstance(kept.reserve({TEA: 1})[0], Change)
    assert kept.reserve({TEA: 1}) == [Short("TEA", 1, 0)]


def test_what_is_given_back_may_be_claimed_again_and_what_is_sent_off_may_not() -> None:
    kept = shelf(teas=5)
    kept.reserve({TEA: 5})
    assert kept.release({TEA: 2}) == [Change(TEA, 2, Level(5, 3, 2))]
    assert kept.ship({TEA: 3}) == [Change(TEA, 3, Level(2, 0, 3))]
    assert kept.reserve({TEA: 3}) == [Short("TEA", 3, 2)]


@pytest.mark.parametrize("move", [Shelf.release, Shelf.ship])
def test_giving_back_or_sending_what_was_not_claimed_is_an_error(move: object) -> None:
    """A bug elsewhere: written, it would be an oversell. `python -O` must not hide it either."""
    kept = shelf(reserved=1)
    with pytest.raises(ValueError, match="would be"):
        (kept.release if move is Shelf.release else kept.ship)({MUG: 2})
    assert kept.levels[MUG] == Level(10, 1, 7)


def test_a_row_that_is_oversold_already_is_not_written_again() -> None:
    kept = Shelf({MUG: Level(1, 3, 1)})
    assert kept.reserve({MUG: 1}) == [Short("MUG", 1, -2)]
    with pytest.raises(ValueError, match="would be"):
        kept.release({MUG: 1})
