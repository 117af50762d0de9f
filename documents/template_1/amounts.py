"""Amounts, quantities and dates as they are printed."""

from functools import lru_cache

from domain.iso import CURRENCY_EXPONENTS
from domain.money import minor_text

_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)


@lru_cache(maxsize=4_096)
def money(minor: int, currency: str) -> str:
    """Minor units with thousands separators: `money(123450, "EUR") == "1,234.50"`.

    A currency that we don't know has its minor units printed as they are: never a guess that is off by a hundred.
    """
    return _grouped(minor_text(minor, currency) if currency in CURRENCY_EXPONENTS else str(minor))


@lru_cache(maxsize=4_096)
def unit_price(text: str, currency: str) -> str:
    """Decimal text with at least the currency's decimals: `unit_price("1234.5", "EUR") == "1,234.50"`."""
    return _decimal(text, CURRENCY_EXPONENTS.get(currency, 0))


@lru_cache(maxsize=4_096)
def quantity(text: str) -> str:
    """Decimal text without idle zeros: `quantity("1200.500") == "1,200.5"`."""
    return _decimal(text, 0)


@lru_cache(maxsize=4_096)
def percent(text: str) -> str:
    """A VAT rate: `percent("20.00") == "20%"`."""
    return _decimal(text, 0) + "%"


def date(text: str) -> str:
    """A day in words, which no country reads another way: `date("2026-11-21") == "21 November 2026"`."""
    year, _, rest = text.partition("-")
    month, _, day = rest.partition("-")
    known = year.isdecimal() and month.isdecimal() and day.isdecimal() and 1 <= int(month) <= len(_MONTHS)
    return f"{int(day)} {_MONTHS[int(month) - 1]} {int(year)}" if known else text


def _decimal(text: str, decimals_min: int) -> str:
    whole, _, fraction = text.partition(".")
    fraction = fraction.rstrip("0").ljust(decimals_min, "0")
    return _grouped(f"{whole}.{fraction}" if fraction else whole)


def _grouped(text: str) -> str:
    sign = "-" if text.startswith("-") else ""
    whole, point, fraction = text.removeprefix("-").partition(".")
    if not (whole.isascii() and whole.isdecimal()):
        # Not a number after all: shown as it came.
        return text
    return f"{sign}{int(whole):,}{point}{fraction}"
