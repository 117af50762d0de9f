"""Decimal texts, rounding, and how amounts are written."""

import pytest

from domain.money import NotDecimalError, divide_half_away, minor, minor_text, scaled, unsigned_zero


@pytest.mark.parametrize(
    ("text", "decimals", "expected"),
    [("19.99", 6, 19_990_000), ("-2", 6, -2_000_000), ("0.000001", 6, 1), ("20.00", 2, 2_000), ("007", 2, 700)],
)
def test_a_decimal_text_is_scaled_exactly(text: str, decimals: int, expected: int) -> None:
    assert scaled(text, decimals) == expected


@pytest.mark.parametrize(
    "text",
    ["", "NaN", "Infinity", "1e3", "+1", " 1", "1 ", "1.", ".5", "1,5", "١", "0x1", "1" * 13, "1.0000001", "--1"],
)
def test_what_is_no_decimal_text_is_refused(text: str) -> None:
    with pytest.raises(NotDecimalError):
        scaled(text, 6)


def test_more_decimals_than_permitted_are_refused_even_when_zero() -> None:
    with pytest.raises(NotDecimalError):
        scaled("20.000", 2)


@pytest.mark.parametrize(("numerator", "expected"), [(5, 1), (4, 0), (-5, -1), (-4, 0), (15, 2), (-15, -2), (14, 1)])
def test_a_half_is_rounded_away_from_zero(numerator: int, expected: int) -> None:
    assert divide_half_away(numerator, 10) == expected


@pytest.mark.parametrize(
    ("amount", "currency", "expected"),
    [(1999, "EUR", "19.99"), (5, "EUR", "0.05"), (-5, "EUR", "-0.05"), (1999, "JPY", "1999"), (1, "BHD", "0.001")],
)
def test_an_amount_is_written_with_the_currencys_decimals(amount: int, currency: str, expected: str) -> None:
    assert minor_text(amount, currency) == expected
    assert minor(expected, currency) == amount


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("-0", "0"),
        ("-0.00", "0.00"),
        ("-000.0", "000.0"),
        ("0", "0"),
        ("-0.01", "-0.01"),
        ("-1", "-1"),
        ("1.50", "1.50"),
    ],
)
def test_zero_has_no_sign(text: str, shown: str) -> None:
    assert unsigned_zero(text) == shown
    assert scaled(shown, 6) == scaled(text, 6)


@pytest.mark.parametrize("text", ["--0", "-", "-.0", "-0.", "-0,0", "-٠", "-0\n"])
def test_what_is_no_number_does_not_become_one(text: str) -> None:
    assert unsigned_zero(text) == text
