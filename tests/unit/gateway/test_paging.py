"""Pages and their cursors."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.http import parameters
from gateway.http.problems import ProblemError


@given(st.integers(-(2**62), 2**62), st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_a_cursor_says_where_it_was_made(micros: int, order_id: str) -> None:
    """In letters that need no quoting."""
    cursor = parameters.cursor(micros, order_id)
    assert cursor.replace("-", "").replace("_", "").isalnum()
    assert parameters.read_cursor(cursor, tuple[int, str]) == (micros, order_id)


@given(st.text())
def test_a_cursor_of_nobodys_is_refused(text: str) -> None:
    """By its field; nothing else happens."""
    try:
        parameters.read_cursor(text, tuple[int, str])
    except ProblemError as problem:
        assert problem.field == "cursor"


@pytest.mark.parametrize(
    "text", ["0", "101", "-1", "1.5", "x", "", "١", "9" * 5000, "0000000010000000000", "0" * 5000 + "1"]
)
def test_a_page_has_1_to_100_things(text: str) -> None:
    """Not as many as somebody likes."""
    with pytest.raises(ProblemError):
        parameters.limit_of({"limit": text})
    assert parameters.limit_of({"limit": "100"}) == 100
    assert parameters.limit_of({"limit": "00000000000100"}) == 100
    assert parameters.limit_of({}) == parameters.LIMIT_DEFAULT
