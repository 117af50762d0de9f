"""Computes an invoice's amounts and content from the published rules, in decimals.

Each line is rounded once, tax once per category and rate on the sum of its lines, halves away from zero (EN 16931).
"""

import hashlib
import json
from collections.abc import Mapping
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Any, NamedTuple

#: ISO 4217: digits after the decimal point, of currencies that don't have two.
_EXPONENTS = {
    **dict.fromkeys("BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF".split(), 0),
    **dict.fromkeys("BHD IQD JOD KWD LYD OMR TND".split(), 3),
}
#: Precise enough for the exact product of two numbers of 18 digits.
_EXACT = Context(prec=60, rounding=ROUND_HALF_UP)
_ONE, _HUNDRED = Decimal(1), Decimal(100)


class Totals(NamedTuple):
    """Amounts in minor units."""

    net_minor: int
    tax_minor: int
    gross_minor: int


def totals(lines: list[Mapping[str, Any]], currency: str) -> Totals:
    """What these lines amount to."""
    unit = Decimal(10) ** _EXPONENTS.get(currency, 2)
    taxables: dict[tuple[str, Decimal], Decimal] = {}
    for line in lines:
        exact = _EXACT.multiply(_EXACT.multiply(Decimal(line["quantity"]), Decimal(line["unit_price"])), unit)
        group = (line["vat_category"], Decimal(line["vat_rate"]))
        taxables[group] = taxables.get(group, Decimal(0)) + _rounded(exact)
    net = sum(taxables.values(), Decimal(0))
    tax = sum(
        (_rounded(_EXACT.divide(_EXACT.multiply(taxable, rate), _HUNDRED)) for (_, rate), taxable in taxables.items()),
        Decimal(0),
    )
    return Totals(int(net), int(tax), int(net + tax))


def content(body: Mapping[str, Any]) -> bytes:
    """A digest of all that an invoice shows of a request, equal for equal contents however they are written."""
    buyer = body["buyer"]
    address = buyer["address"]
    texts = [body["currency"], body.get("note") or "", buyer["name"], buyer["email"], buyer.get("vat_id") or ""]
    texts += [address["street"], address["city"], address["postal_code"], address["country"]]
    for line in body["lines"]:
        texts += [line["sku"], line["description"], line["vat_category"]]
        # Normalised, because 2 and 2.00 are the same number.
        texts += [str(Decimal(line[name]).normalize()) for name in ("quantity", "unit_price", "vat_rate")]
    return hashlib.sha256(json.dumps(texts).encode()).digest()


def minor(text: str, currency: str) -> int:
    """A decimal amount, as in HTTP bodies, in minor units."""
    return int(Decimal(text) * Decimal(10) ** _EXPONENTS.get(currency, 2))


def _rounded(value: Decimal) -> Decimal:
    return value.quantize(_ONE, context=_EXACT)
