"""When a delivery is tried again, and when it is given up."""

import pytest

from domain.delivery import (
    RETRY_SECONDS,
    TRIES_MAX,
    Again,
    Answer,
    Answered,
    Arrived,
    GivenUp,
    Refused,
    Unanswered,
    Unreachable,
    Unwanted,
    fate,
)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_any_2xx_says_that_it_has_arrived(status: int) -> None:
    assert fate(Answered(status), 1, 0.0) == Arrived()


@pytest.mark.parametrize(
    "answer", [Answered(status) for status in (100, 199, 301, 302, 307, 308, 400, 404, 409, 429, 500, 503, 599)]
    + [Unanswered("no answer in time")],
    ids=str,
)  # fmt: skip
def test_anything_else_is_tried_again_redirects_included(answer: Answer) -> None:
    assert fate(answer, 1, 0.0) == Again(5)


def test_pauses_grow_over_three_days_and_then_it_is_given_up() -> None:
    pauses = [fate(Answered(500), tries, 0.0) for tries in range(1, TRIES_MAX + 1)]
    assert pauses == [*map(Again, RETRY_SECONDS), GivenUp()]
    assert TRIES_MAX == 10
    assert 3 * 86_400 < sum(RETRY_SECONDS) < 3.5 * 86_400


def test_what_failed_together_does_not_come_back_together() -> None:
    pauses = {fate(Answered(500), 3, chance / 100) for chance in range(100)}
    assert len(pauses) == 100
    assert all(isinstance(each, Again) and 1_800 <= each.after_seconds <= 2_160 for each in pauses)


def test_a_receiver_may_ask_for_a_longer_pause_but_for_no_more_than_a_day() -> None:
    assert fate(Answered(429, 60.0), 1, 0.0) == Again(60.0)
    assert fate(Answered(503, 1.0), 2, 0.0) == Again(300)
    assert fate(Answered(503, 1e9), 1, 0.0) == Again(86_400.0)


def test_after_410_nothing_more_is_sent() -> None:
    assert fate(Answered(410), TRIES_MAX, 0.0) == Unwanted()


def test_what_was_refused_for_ever_is_not_tried_again() -> None:
    assert fate(Refused("no such mailbox"), 1, 0.0) == GivenUp()


def test_an_outage_of_what_carries_all_deliveries_is_waited_out_and_counts_as_no_try() -> None:
    for tries in (1, TRIES_MAX, 100):
        assert fate(Unreachable("connection refused"), tries, 0.0) == Again(5, is_counted=False)


def test_chance_is_a_share() -> None:
    with pytest.raises(ValueError, match="chance"):
        fate(Answered(500), 1, 1.0)
