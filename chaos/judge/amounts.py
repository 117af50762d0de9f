"""Computes an invoice's amounts and content from the published rules, in decimals.

Each line is rounded once, tax once per category and rate on the sum of its lines, halves away from zero (EN 16931).
"""

import hashlib
import json
import re
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


def totals(lines: list[Mapping[str, Any]], currency: str, details: Mapping[str, Any] | None = None) -> Totals:
    """What these lines amount to, with the allowances and charges of the whole document."""
    said = details or {}
    unit = Decimal(10) ** _EXPONENTS.get(currency, 2)
    groups: dict[tuple[str, Decimal], Decimal] = {}
    amounts = [(line, _rounded(_EXACT.multiply(_line(line), unit))) for line in lines]
    for sign, name in ((-1, "allowances"), (1, "charges")):
        amounts += [(each, sign * _EXACT.multiply(Decimal(each["amount"]), unit)) for each in said.get(name) or ()]
    for each, amount in amounts:
        group = (each["vat_category"], Decimal(each["vat_rate"]))
        groups[group] = groups.get(group, Decimal(0)) + amount
    total = sum(groups.values(), Decimal(0))
    if said.get("prices_include_tax"):
        tax = sum((_share(amount, rate, _HUNDRED + rate) for (_, rate), amount in groups.items()), Decimal(0))
        return Totals(int(total - tax), int(tax), int(total))
    tax = sum((_share(amount, rate, _HUNDRED) for (_, rate), amount in groups.items()), Decimal(0))
    return Totals(int(total), int(tax), int(total + tax))


def _line(line: Mapping[str, Any]) -> Decimal:
    """Quantity x price, for as many as the price is for, less the line's allowances, plus its charges."""
    amount = _EXACT.multiply(Decimal(line["quantity"]), Decimal(line["unit_price"]))
    said = line.get("details") or line
    if said.get("base_quantity"):
        amount = _EXACT.divide(amount, Decimal(said["base_quantity"]))
    for sign, name in ((-1, "allowances"), (1, "charges")):
        for each in said.get(name) or ():
            amount = _EXACT.add(amount, sign * Decimal(each["amount"]))
    return amount


def _share(amount: Decimal, rate: Decimal, whole: Decimal) -> Decimal:
    return _rounded(_EXACT.divide(_EXACT.multiply(amount, rate), whole))


def content(body: Mapping[str, Any]) -> bytes:
    """A digest of all that an invoice shows of a request, equal for equal contents however they are written.

    What few requests say stands beside the other fields in a body, and below `details` in a record.
    """
    buyer = body["buyer"]
    address = buyer.get("address") or {}
    texts = [body["currency"], body.get("note") or "", buyer["name"]]
    texts += [buyer.get(name) or "" for name in ("email", "vat_id")]
    texts += [address.get(name) or "" for name in ("street", "city", "postal_code", "country")]
    texts += [address.get(name) or "" for name in ("line2", "line3", "subdivision")]
    for line in body["lines"]:
        texts += [line["sku"], line["description"], line["vat_category"]]
        # Normalised, because 2 and 2.00 are the same number.
        texts += [str(Decimal(line[name]).normalize()) for name in ("quantity", "unit_price", "vat_rate")]
        texts.append(json.dumps(_said(_with_net(line, body), _OF_LINE), sort_keys=True))
    texts += [json.dumps(_said(each, names), sort_keys=True) for each, names in ((buyer, _OF_PARTY), (body, _OF_ALL))]
    return hashlib.sha256(json.dumps([_unbroken(text) for text in texts]).encode()).digest()


def _with_net(line: Mapping[str, Any], body: Mapping[str, Any]) -> Mapping[str, Any]:
    """A line of a body that states its net amount, with its difference to quantity x price as it is to be shown."""
    if not line.get("net") or body.get("prices_include_tax"):
        return line
    unit = Decimal(10) ** _EXPONENTS.get(body["currency"], 2)
    off = Decimal(line["net"]) - _rounded(_EXACT.multiply(_line(line), unit)) / unit
    name = "charges" if off > 0 else "allowances"
    change = {"amount": f"{abs(off):f}", "reason": "Rounding"}
    return {**line, name: [*(line.get(name) or ()), change]} if off else line


#: Line breaks and tabs: the gateway writes each of them in one way, or as a space where a text has one line.
_BREAKS = re.compile(r"[ ]*[\t\n\v\f\r\x85\u2028\u2029][\t\n\v\f\r\x85\u2028\u2029 ]*")


def _unbroken(text: str) -> str:
    """The text in one line. Line breaks and tabs are the only way in which a document may differ from its request."""
    return _BREAKS.sub(" ", text).strip(" ") if _BREAKS.search(text) else text


_OF_LINE = (
    "unit base_quantity gross_price price_discount allowances charges period note order_line buyer_item_id".split()
)
_OF_PARTY = "trading_name legal_id electronic_address contact".split()
_OF_ALL = (
    "prices_include_tax allowances charges rounding_amount prepaid_amount accounting exemptions payment tax_point_date"
    " period delivery references preceding_invoices notes language attachments"
).split()
#: Of an allowance with a percentage: the gateway works out what a body leaves out.
_WORKED_OUT = ("amount", "base_amount")


def _said(part: Mapping[str, Any], names: list[str]) -> Any:
    its = part["details"] or {} if "details" in part else part
    return _without_absent({name: its.get(name) for name in names})


def _without_absent(node: Any) -> Any:
    if isinstance(node, Mapping):
        parts = {name: _without_absent(each) for name, each in node.items()}
        if parts.get("percent"):
            parts = {name: each for name, each in parts.items() if name not in _WORKED_OUT}
        return {name: each for name, each in parts.items() if each}
    return [_without_absent(each) for each in node] if isinstance(node, list) else node


def minor(text: str, currency: str) -> int:
    """A decimal amount, as in HTTP bodies, in minor units."""
    return int(Decimal(text) * Decimal(10) ** _EXPONENTS.get(currency, 2))


def _rounded(value: Decimal) -> Decimal:
    return value.quantize(_ONE, context=_EXACT)
