"""Printed numbers: whatever the seller's format, no two documents of a seller show the same one."""

import contextlib
import re

from hypothesis import assume, example, given
from hypothesis import strategies as st

from domain.numbering import (
    CONTINUOUS,
    INVOICE_NUMBER_CHARS_MAX,
    PARTITIONED,
    NumberFormatError,
    check_format,
    credit_note_format,
    print_number,
)

#: Pieces that are likely to be taken for each other.
_LITERALS = st.lists(
    st.sampled_from(["", "CN-", "C", "CN", "N", "-", "INV-", "INV", "I", "0", "1", "/", "+", "_"]), max_size=4
).map("".join)
_WIDTHS = st.sampled_from(["", ":01d", ":02d", ":08d"])
_NUMBERS = st.one_of(st.integers(1, 120), st.integers(1, 10**12))
_Printed = tuple[int, int]


@st.composite
def formats(draw: st.DrawFn) -> tuple[str, str]:
    """A format that passes the check, and its policy."""
    policy = draw(st.sampled_from([PARTITIONED, CONTINUOUS]))
    fields = [f"{{{'partition' if policy == PARTITIONED else 'year'}{draw(_WIDTHS)}}}", f"{{number{draw(_WIDTHS)}}}"]
    first, second = draw(st.permutations(fields))
    number_format = f"{draw(_LITERALS)}{first}{draw(_LITERALS)}{second}{draw(_LITERALS)}"
    accepted = False
    with contextlib.suppress(NumberFormatError):
        check_format(number_format, policy)
        accepted = True
    assume(accepted)
    return number_format, policy


def printed(number_format: str, policy: str, which: _Printed) -> str:
    """The number of a place (a partition or a year) and its place in the series."""
    place, number = which
    return print_number(
        number_format,
        partition=place if policy == PARTITIONED else 0,
        year=2000 + place if policy == CONTINUOUS else 2026,
        number=number,
    )


PLACES = st.tuples(st.integers(0, 120), _NUMBERS)


@given(formats(), PLACES, PLACES)
@example(("CN-{partition}-{number}", PARTITIONED), (1, 1), (1, 1))
@example(("CN-CN-{number}-{partition}", PARTITIONED), (1, 1), (1, 1))
def test_no_credit_note_prints_like_an_invoice_of_the_seller(
    its: tuple[str, str], invoice: _Printed, credit_note: _Printed
) -> None:
    """Whatever their places in their series."""
    number_format, policy = its
    assert printed(number_format, policy, invoice) != printed(credit_note_format(number_format), policy, credit_note)


@given(formats(), PLACES, PLACES)
def test_any_two_credit_notes_print_differently(its: tuple[str, str], one: _Printed, other: _Printed) -> None:
    """As any two invoices do: the format is the same but for its beginning."""
    number_format, policy = its
    assume(one != other)
    for each in (number_format, credit_note_format(number_format)):
        assert printed(each, policy, one) != printed(each, policy, other)


@given(formats(), st.tuples(st.integers(0, 999), st.integers(1, 10**12)))
def test_a_printed_number_keeps_to_its_length_and_its_characters(its: tuple[str, str], which: _Printed) -> None:
    """Also that of a credit note, which may be the longer one."""
    number_format, policy = its
    for each in (number_format, credit_note_format(number_format)):
        number = printed(each, policy, which)
        assert re.fullmatch(rf"[A-Za-z0-9+_/-]{{1,{INVOICE_NUMBER_CHARS_MAX}}}", number)
