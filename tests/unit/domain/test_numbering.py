"""Series, printed numbers, and numbers taken at once."""

import pytest

from domain.numbering import (
    CONTINUOUS,
    DEFAULT_FORMATS,
    PARTITIONED,
    NumberFormatError,
    NumberRange,
    assign,
    check_format,
    credit_note_format,
    print_number,
    series_id,
)


def test_a_partitioned_series_belongs_to_a_partition_and_a_continuous_one_to_a_year() -> None:
    assert series_id("demo", "invoice", PARTITIONED, partition=2, year=2026) == "demo.invoice.p02"
    assert series_id("demo", "invoice", CONTINUOUS, partition=2, year=2026) == "demo.invoice.2026"


@pytest.mark.parametrize("policy", [PARTITIONED, CONTINUOUS])
def test_the_default_formats_pass_their_own_check(policy: str) -> None:
    check_format(DEFAULT_FORMATS[policy], policy)


@pytest.mark.parametrize(
    ("number_format", "policy"),
    [
        ("INV-{number}", PARTITIONED),
        ("INV-{year}-{number}", PARTITIONED),
        ("INV-{number}", CONTINUOUS),
        ("INV-{partition}-{number}-{number}", PARTITIONED),
        ("{partition}{number}", PARTITIONED),
        ("{partition}1{number}", PARTITIONED),
        ("{partition} {number}", PARTITIONED),
        ("{partition}-{number}-{0}", PARTITIONED),
        ("{partition}-{number!r}", PARTITIONED),
        ("{partition}-{number}" + "x" * 40, PARTITIONED),
        ("F.{partition}-{number}", PARTITIONED),
        ("{partition}-{number:099d}", PARTITIONED),
    ],
)
def test_a_format_under_which_numbers_could_print_alike_or_badly_is_refused(number_format: str, policy: str) -> None:
    with pytest.raises(NumberFormatError):
        check_format(number_format, policy)


def test_a_number_is_printed_with_its_width() -> None:
    assert print_number("INV-{partition:02d}-{number:08d}", partition=3, year=2026, number=42) == "INV-03-00000042"


def test_numbers_are_assigned_in_order_within_each_series() -> None:
    assert assign(["a", "b", "a", "a"], [NumberRange("a", 5, 3), NumberRange("b", 1, 1)]) == [5, 1, 6, 7]


@pytest.mark.parametrize(
    "taken", [[NumberRange("a", 1, 3)], [NumberRange("a", 1, 1)], [NumberRange("a", 1, 2), NumberRange("b", 1, 1)]]
)
def test_taking_more_or_fewer_numbers_than_are_used_is_an_error(taken: list[NumberRange]) -> None:
    with pytest.raises(ValueError, match="numbers taken"):
        assign(["a", "a"], taken)


@pytest.mark.parametrize(
    ("number_format", "printed"),
    [
        (DEFAULT_FORMATS[PARTITIONED], "CN-03-00000042"),
        (DEFAULT_FORMATS[CONTINUOUS], "CN-2026-00000042"),
        ("F{year}/{number}", "CN-F2026/42"),
        ("XINV-{partition}-{number}", "CN-XINV-3-42"),
    ],
)
def test_a_credit_note_is_printed_by_the_sellers_format_with_letters_of_its_own(
    number_format: str, printed: str
) -> None:
    assert print_number(credit_note_format(number_format), partition=3, year=2026, number=42) == printed


@pytest.mark.parametrize(
    ("number_format", "policy", "longest_chars"),
    [
        ("A" * 15 + "{partition}-{number}", PARTITIONED, 35),
        ("A" * 14 + "{year}-{number}", CONTINUOUS, 35),
        ("A" * 12 + "+/{year}_{number:01d}", CONTINUOUS, 35),
        ("INV-" + "A" * 15 + "{partition}-{number}", PARTITIONED, 36),
        ("{year}/{number:030d}", CONTINUOUS, 38),
    ],
)
def test_a_format_is_as_long_as_its_longest_number(number_format: str, policy: str, longest_chars: int) -> None:
    """Of the invoice or credit note with the highest number: 35 characters are taken (BR-FR-01), 36 are not."""
    both = (number_format, credit_note_format(number_format))
    longest = max(len(print_number(each, partition=999, year=9999, number=10**12)) for each in both)
    assert longest == longest_chars
    if longest_chars <= 35:
        check_format(number_format, policy)
    else:
        with pytest.raises(NumberFormatError, match=r"35 characters \(BR-FR-01\)"):
            check_format(number_format, policy)


@pytest.mark.parametrize("sign", list(".:, #é&*"))
def test_a_format_has_only_what_platforms_take(sign: str) -> None:
    """French ones refuse anything else (BR-FR-02), with an invoice that can't be changed any more."""
    with pytest.raises(NumberFormatError, match="BR-FR-02"):
        check_format(f"F{sign}{{partition}}-{{number}}", PARTITIONED)


def test_a_format_that_leaves_no_room_for_the_letters_of_a_credit_note_is_refused() -> None:
    """Its invoices would fit."""
    number_format = "{partition}-{number}" + "x" * 17
    assert len(print_number(number_format, partition=999, year=2026, number=10**12)) < 35
    with pytest.raises(NumberFormatError, match="that of a credit note"):
        check_format(number_format, PARTITIONED)
