"""Pages and their cursors."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import paging
from gateway.problems import ProblemError


@given(st.integers(-(2**62), 2**62), st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_a_cursor_says_where_it_was_made(micros: int, order_id: str) -> None:
    """In letters that need no quoting."""
    cursor = paging.cursor(micros, order_id)
    assert cursor.replace("-", "").replace("_", "").isalnum()
    assert paging.read_cursor(cursor, tuple[int, str]) == (micros, order_id)


@given(st.text())
def test_a_cursor_of_nobodys_is_refused(text: str) -> None:
    """By its field; nothing else happens."""
    try:
        paging.read_cursor(text, tuple[int, str])
    except ProblemError as problem:
        assert problem.field == "cursor"


@pytest.mark.parametrize("text", ["0", "101", "-1", "1.5", "x", "", "١", "9" * 5000])
def test_a_page_has_1_to_100_things(text: str) -> None:
    """Not as many as somebody likes."""
    with pytest.raises(ProblemError):
        paging.limit_of({"limit": text})
    assert paging.limit_of({"limit": "100"}) == 100
    assert paging.limit_of({}) == paging.LIMIT_DEFAULT
