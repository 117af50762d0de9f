"""Money: integers of minor units, and the decimal texts that callers write.

No binary fraction and no `Decimal` is used: a decimal text becomes an integer scaled by a power of ten, products are
exact, and rounding happens once, where EN 16931 says so.
"""

import re
from functools import lru_cache

from domain.iso import CURRENCY_EXPONENTS

#: Decimals a quantity may carry.
SCALE_DECIMALS = 6
SCALE = 10**SCALE_DECIMALS
#: Decimals a unit price or an exchange rate may carry.
PRICE_DECIMALS = 10
PRICE_SCALE = 10**PRICE_DECIMALS
#: Decimals a VAT rate in percent may carry.
RATE_DECIMALS = 4
#: 100 percent.
RATE_MAX = 100 * 10**RATE_DECIMALS

#: How a caller writes an amount.
DECIMAL = re.compile(r"(-?)([0-9]{1,12})(?:\.([0-9]{1,10}))?", re.ASCII)
_NEGATIVE_ZERO = re.compile(r"-0+(?:\.0+)?", re.ASCII)


class NotDecimalError(ValueError):
    """Not a decimal text of at most 12 digits before and the permitted decimals after the point."""


@lru_cache(maxsize=65_536)
def scaled(text: str, decimals: int) -> int:
    """`text` times 10^decimals, exactly: `scaled("19.99", 6) == 19_990_000`.

    Raises `NotDecimalError` for anything else: exponents, a plus sign, NaN, spaces, too many digits.
    """
    match = DECIMAL.fullmatch(text)
    if match is None:
        raise NotDecimalError(text)
    sign, whole, fraction = match.groups()
    fraction = fraction or ""
    if len(fraction) > decimals:
        raise NotDecimalError(text)
    value = int(whole + fraction) * int(10 ** (decimals - len(fraction)))
    return -value if sign else value


def unsigned_zero(text: str) -> str:
    """A decimal text without the sign of a zero: `unsigned_zero("-0.00") == "0.00"`; any other as it is."""
    return text[1:] if _NEGATIVE_ZERO.fullmatch(text) else text


def divide_half_away(numerator: int, denominator: int) -> int:
    """`numerator / denominator`, a half rounded away from zero, as commercial rounding and EN 16931 do."""
    quotient, remainder = divmod(abs(numerator), denominator)
    if 2 * remainder >= denominator:
        quotient += 1
    return quotient if numerator >= 0 else -quotient


def minor_text(minor: int, currency: str) -> str:
    """Minor units as decimal text: `minor_text(1999, "EUR") == "19.99"`; no separators."""
    exponent = CURRENCY_EXPONENTS[currency]
    sign, digits = ("-" if minor < 0 else ""), str(abs(minor)).rjust(exponent + 1, "0")
    return f"{sign}{digits[:-exponent]}.{digits[-exponent:]}" if exponent else f"{sign}{digits}"


def minor(text: str, currency: str) -> int:
    """Decimal text as minor units; raises `NotDecimalError`, also for more decimals than the currency has."""
    return scaled(text, CURRENCY_EXPONENTS[currency])
