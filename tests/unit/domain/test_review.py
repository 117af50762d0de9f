"""A review's life, and what reviews come to."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.refusals import Refusal
from domain.review import (
    AUTHOR_CHARS_MAX,
    BODY_CHARS_MAX,
    OBEYED,
    TABLE,
    TITLE_CHARS_MAX,
    Rating,
    ReviewState,
    ReviewTrigger,
    Words,
    check_words,
    step,
)

WORDS = Words(5, "Good", "Very\ngood", "Zoë")
PERMITTED = {
    (None, "write", "pending"),
    ("pending", "write", "pending"), ("published", "write", "pending"), ("rejected", "write", "pending"),
    ("withdrawn", "write", "pending"),
    ("pending", "approve", "published"), ("rejected", "approve", "published"),
    ("pending", "reject", "rejected"), ("published", "reject", "rejected"),
    ("pending", "withdraw", "withdrawn"), ("published", "withdraw", "withdrawn"), ("rejected", "withdraw", "withdrawn"),
}  # fmt: skip


@pytest.mark.parametrize(("state", "trigger"), list(itertools.product([None, *ReviewState], ReviewTrigger)))
def test_each_step_is_permitted_or_refused_with_the_states_that_permit_it(
    state: ReviewState | None, trigger: ReviewTrigger
) -> None:
    after = step(state, trigger)
    if isinstance(after, Refusal):
        assert (after.reason, after.field) == ("not-permitted", "action")
        assert not any((each, name) == (state, trigger) for each, name, _ in PERMITTED)
    else:
        assert (state, trigger.value, after.value) in PERMITTED


def test_nothing_is_published_but_by_approval_and_what_is_obeyed_has_no_step() -> None:
    publishing = {trigger for (_, trigger), after in TABLE.items() if after is ReviewState.PUBLISHED}
    assert publishing == {ReviewTrigger.APPROVE}
    assert all((after, trigger) not in TABLE for trigger, after in OBEYED.items())


@pytest.mark.parametrize(
    ("words", "field"),
    [
        (WORDS, None),
        (Words(1, "", "", ""), None),
        (Words(0, "", "", ""), "stars"),
        (Words(6, "", "", ""), "stars"),
        (Words(-1, "", "", ""), "stars"),
        (Words(5, "x" * TITLE_CHARS_MAX, "x" * BODY_CHARS_MAX, "x" * AUTHOR_CHARS_MAX), None),
        (Words(5, "x" * (TITLE_CHARS_MAX + 1), "", ""), "title"),
        (Words(5, "two\nlines", "", ""), "title"),
        (Words(5, "", "x" * (BODY_CHARS_MAX + 1), ""), "body"),
        (Words(5, "", "nul\0", ""), "body"),
        (Words(5, "", "", "x" * (AUTHOR_CHARS_MAX + 1)), "author"),
        (Words(5, "", "", "\ud800"), "author"),
    ],
)
def test_words_that_break_a_rule_are_named(words: Words, field: str | None) -> None:
    refusal = check_words(words)
    assert (None if refusal is None else refusal.field) == field


@pytest.mark.parametrize(
    ("counts", "average"),
    [
        ((0, 0, 0, 0, 0), None),
        ((0, 0, 0, 0, 1), "5.00"),
        ((1, 0, 0, 0, 1), "3.00"),
        ((1, 0, 0, 0, 2), "3.67"),
        ((2, 0, 0, 0, 1), "2.33"),
        ((0, 0, 0, 199, 1), "4.01"),
        ((0, 0, 0, 10**12, 0), "4.00"),
    ],
)
def test_an_average_has_two_decimals_rounded_half_up(counts: tuple[int, int, int, int, int], average: str) -> None:
    assert Rating(counts).average == average


@given(st.lists(st.integers(1, 5), min_size=1))
def test_a_rating_counts_each_review_once_however_it_came_about(stars: list[int]) -> None:
    rating = Rating()
    for each in stars:
        # Published, unpublished, changed and published again.
        rating = rating.changed(None, 1).changed(1, None).changed(None, each)
    assert rating.counts == tuple(stars.count(number) for number in range(1, 6))
    assert rating.count == len(stars)
