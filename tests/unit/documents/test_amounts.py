import pytest

from documents.template_1 import amounts


@pytest.mark.parametrize(
    ("minor", "currency", "printed"),
    [
        (123_450, "EUR", "1,234.50"),
        (5, "EUR", "0.05"),
        (-5, "EUR", "-0.05"),
        (0, "JPY", "0"),
        (1_234_567, "JPY", "1,234,567"),
        (12_345, "BHD", "12.345"),
        (-1_234_567_890, "BHD", "-1,234,567.890"),
        (10**15, "EUR", "10,000,000,000,000.00"),
        (123_450, "???", "123,450"),
    ],
)
def test_money_has_the_decimals_of_its_currency(minor: int, currency: str, printed: str) -> None:
    """None for yen, three for Bahrain's dinar, and minor units as they are where we don't know."""
    assert amounts.money(minor, currency) == printed


@pytest.mark.parametrize(
    ("text", "currency", "printed"),
    [
        ("19.9", "EUR", "19.90"),
        ("1234567.891234", "EUR", "1,234,567.891234"),
        ("1200", "JPY", "1,200"),
        ("1", "BHD", "1.000"),
    ],
)
def test_a_unit_price_keeps_every_decimal_that_counts(text: str, currency: str, printed: str) -> None:
    """And has at least those of the currency."""
    assert amounts.unit_price(text, currency) == printed


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("2", "2"),
        ("2.000000", "2"),
        ("1200.500", "1,200.5"),
        ("-0.25", "-0.25"),
        ("0", "0"),
        ("007", "7"),
        ("NaN", "NaN"),
    ],
)
def test_a_quantity_has_no_idle_zeros(text: str, printed: str) -> None:
    """What is no number is shown as it came."""
    assert amounts.quantity(text) == printed


def test_a_rate_is_a_percentage() -> None:
    """Two decimals only where they say something."""
    assert [amounts.percent(text) for text in ("20.00", "5.50", "0.00")] == ["20%", "5.5%", "0%"]


def test_a_date_is_read_the_same_way_everywhere() -> None:
    """In words; what is no date is shown as it came."""
    assert amounts.date("2026-11-05") == "5 November 2026"
    assert amounts.date("05/11/2026") == "05/11/2026"
    assert amounts.date("2026-13-01") == "2026-13-01"
