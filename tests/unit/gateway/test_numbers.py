"""Numbers as they stand in paths, queries and headers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.http.parameters import whole_number


@given(st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1))
def test_a_number_is_read_whole_and_held_to_its_bounds(number: int, at_least: int, at_most: int) -> None:
    expected = number if at_least <= number <= at_most else None
    assert whole_number(str(number), at_least, at_most) == expected


@pytest.mark.parametrize(
    "text", ["", " 1", "1 ", "+1", "-1", "1.0", "1e3", "1_0", "0x1", "١", "²", "1" * 21, "0" * 5000]
)
def test_anything_else_is_no_number(text: str) -> None:
    assert whole_number(text, 0, 10**30) is None


def test_leading_zeros_hide_nothing() -> None:
    """A check of the first digits alone would let it through."""
    assert whole_number("0000000010000000000", 1, 100) is None
    assert whole_number("00000000000000000100", 1, 100) == 100
