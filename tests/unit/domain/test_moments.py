"""Moments as records hold them."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.moments import micros, moment


@given(st.datetimes(timezones=st.just(UTC)))
def test_every_moment_comes_back_as_it_went_in(at: datetime) -> None:
    assert moment(micros(at)) == at


def test_a_moment_counts_in_utc_to_the_microsecond() -> None:
    """Floating point would lose the last digit."""
    at = datetime(2026, 11, 28, 1, 0, 0, 999_999, tzinfo=timezone(timedelta(hours=1)))
    assert micros(at) == 1_795_824_000_999_999


def test_a_year_that_there_is_not_is_an_overflow() -> None:
    with pytest.raises(OverflowError):
        moment(2**63 - 1)
