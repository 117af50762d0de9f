"""Numbers: which series an invoice or credit note belongs to, and how its number is printed."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

#: One series per seller, partition and kind: no lock is shared between partitions.
PARTITIONED = "partitioned"
#: One series per seller, kind and year, as France and others want it: its row is locked for each batch's commit.
CONTINUOUS = "continuous"
POLICIES = (PARTITIONED, CONTINUOUS)

DEFAULT_FORMATS = {PARTITIONED: "INV-{partition:02d}-{number:08d}", CONTINUOUS: "INV-{year}-{number:08d}"}
#: French platforms refuse a longer number (BR-FR-01), and other characters than `_LITERAL` has (BR-FR-02).
INVOICE_NUMBER_CHARS_MAX = 35
#: A deployment has at most so many.
PARTITIONS_MAX = 1_000
#: The longest that a format must have room for: the last partition, and of one series 10,000 numbers a second for three
#: years.
_LONGEST = {"partition": PARTITIONS_MAX - 1, "year": 9999, "number": 10**12}

#: A seller has one format. A credit note's number is printed by it too, with this in place of the other.
_INVOICE_PREFIX = "INV-"
_CREDIT_NOTE_PREFIX = "CN-"

#: Seller ids stand in series ids and in object keys.
SELLER_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")

_FIELD = re.compile(r"\{(partition|year|number)(?::0([1-9][0-9]?)d)?\}")
_LITERAL = re.compile(r"[A-Za-z0-9+_/-]*")


class NumberFormatError(ValueError):
    """The format can't print a unique number; the message says why."""


def check_format(number_format: str, policy: str) -> None:
    """Raise `NumberFormatError` unless any two numbers of the seller print differently, and all as platforms take them.

    Fields are `{number}`, `{partition}` and `{year}`, each with an optional width such as `{number:08d}`.
    """
    fields = [match.group(1) for match in _FIELD.finditer(number_format)]
    needed = ("number", "partition") if policy == PARTITIONED else ("number", "year")
    for name in needed:
        if fields.count(name) != 1:
            raise NumberFormatError(f"a {policy} series needs {{{name}}} exactly once in its number format")
    if set(fields) - set(needed):
        raise NumberFormatError(f"a {policy} series knows only {', '.join(needed)}")
    # Digits alone don't separate: {partition}1{number} prints 1-11 and 11-1 alike.
    if re.search(r"\}[0-9]*\{", number_format):
        raise NumberFormatError("put a letter or a sign between two fields, or two numbers may print alike")
    if _LITERAL.fullmatch(_FIELD.sub("", number_format)) is None:
        raise NumberFormatError("a number format has only A-Z a-z 0-9 + - _ / beside its fields (BR-FR-02)")
    # A credit note's number may be the longer one.
    for its_format in (number_format, credit_note_format(number_format)):
        longest = print_number(its_format, **_LONGEST)
        if len(longest) > INVOICE_NUMBER_CHARS_MAX:
            raise NumberFormatError(
                f"a printed number, that of a credit note ({_CREDIT_NOTE_PREFIX}…) too, must stay within"
                f" {INVOICE_NUMBER_CHARS_MAX} characters (BR-FR-01) however far its series goes: {longest} has"
                f" {len(longest)}"
            )


def series_id(seller_id: str, kind: str, policy: str, *, partition: int, year: int) -> str:
    """`demo.invoice.p02` or `demo.invoice.2026`: readable, and made of nothing but the series' own key."""
    return f"{seller_id}.{kind}.{year}" if policy == CONTINUOUS else f"{seller_id}.{kind}.p{partition:02d}"


def credit_note_format(number_format: str) -> str:
    """The format of the credit notes of a seller whose invoices have `number_format`: `CN-02-00000042`.

    None of them prints as one of the invoices. Where the invoices' format begins with `INV-` the first letters differ.
    Else both would have to begin with the same letters up to the first field, which then are `CN-CN-…`, broken off
    anywhere; and there an invoice goes on with a digit, a credit note with C, N or -.
    """
    return _CREDIT_NOTE_PREFIX + number_format.removeprefix(_INVOICE_PREFIX)


def print_number(number_format: str, *, partition: int, year: int, number: int) -> str:
    """The number as the document shows it. The format has passed `check_format`, or was made of one that has."""
    return number_format.format(partition=partition, year=year, number=number)


@dataclass(frozen=True, slots=True)
class NumberRange:
    """`count` numbers of a series, taken at once: first, first + 1 …"""

    series_id: str
    first: int
    count: int


def assign(series_of: Sequence[str], taken: Sequence[NumberRange]) -> list[int]:
    """The number of each fresh order, in offset order, from what was taken of each series.

    Raises `ValueError` unless exactly what was taken is used: a number over would be a gap, one short a repeat.
    """
    next_number = {each.series_id: each.first for each in taken}
    end = {each.series_id: each.first + each.count for each in taken}
    numbers = []
    for series in series_of:
        numbers.append(next_number[series])
        next_number[series] += 1
    if next_number != end:
        raise ValueError(f"numbers taken {end} are not the numbers used {next_number}")
    return numbers
