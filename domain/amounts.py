"""The arithmetic of EN 16931: lines, allowances and charges, tax per category and rate, and what is due.

Everything is integers of minor units. A line is rounded once, tax is rounded once per category and rate, halves away
from zero.

Prices that include the tax are what the buyer saw, so their sum is what the invoice says: the tax of a rate is
gross x rate / (100 + rate), rounded once, and the rest is its taxable amount. Lines, allowances and charges share the
taxable amount of their rate by cumulative rounding, in that order: each has the taxable amount of all up to it, less
that of all before it.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias, TypeVar, cast

from domain.iso import CURRENCY_EXPONENTS
from domain.money import (
    PRICE_DECIMALS,
    PRICE_SCALE,
    RATE_DECIMALS,
    RATE_MAX,
    SCALE,
    SCALE_DECIMALS,
    divide_half_away,
    minor,
    minor_text,
    scaled,
)
from domain.records import (
    Accounting,
    Allowance,
    CheckoutRequest,
    InvoiceDetails,
    InvoiceLine,
    InvoiceRequest,
    LineDetails,
    RateTotal,
    RequestedLine,
    TotalsDetails,
)

#: A category, a rate in 10^-4 percent, and an amount in minor units, which has the tax in it if prices have.
Entry: TypeAlias = tuple[str, int, int]
Asked = TypeVar("Asked", InvoiceRequest, CheckoutRequest)

#: Of a line of which nothing else is to be said.
PLAIN_LINE: LineDetails = {
    "unit": "",
    "base_quantity": "",
    "gross_price": "",
    "price_discount": "",
    "allowances": [],
    "charges": [],
    "period": None,
    "note": "",
    "order_line": "",
    "buyer_item_id": "",
    "stock": None,
}
#: The reason of what a line's net amount is beside quantity x price.
ROUNDING = "Rounding"
NO_NETS: Mapping[int, str] = {}


class Sums(NamedTuple):
    """What a request amounts to."""

    nets_minor: tuple[int, ...]
    per_rate: tuple[RateTotal, ...]
    net_minor: int
    tax_minor: int
    #: None where the lines are all there is.
    details: TotalsDetails | None = None


def add_up(entries: Sequence[Entry]) -> Sums:
    """The sums of lines alone, whose prices are without tax."""
    taxables: dict[tuple[str, int], int] = {}
    for category, rate, net in entries:
        taxables[category, rate] = taxables.get((category, rate), 0) + net
    per_rate = []
    net_minor = tax_minor = 0
    for (category, rate), taxable in sorted(taxables.items()):
        tax = divide_half_away(taxable * rate, RATE_MAX)
        per_rate.append(rate_total(category, rate, taxable, tax))
        net_minor, tax_minor = net_minor + taxable, tax_minor + tax
    return Sums(tuple([net for _, _, net in entries]), tuple(per_rate), net_minor, tax_minor)


def add_up_all(lines: Sequence[Entry], details: InvoiceDetails, currency: str) -> Sums:
    """The sums of lines, allowances and charges, and what is due; `details` has passed `domain.terms`."""
    allowances = [_entry(each, currency, -1) for each in details["allowances"]]
    charges = [_entry(each, currency, 1) for each in details["charges"]]
    entries = [*lines, *allowances, *charges]
    sums = _extract(entries) if details["prices_include_tax"] else add_up(entries)
    nets = sums.nets_minor
    before, between = len(lines), len(lines) + len(allowances)
    gross = sums.net_minor + sums.tax_minor
    prepaid = _minor_or_none(details["prepaid_amount"], currency)
    rounding = _minor_or_none(details["rounding_amount"], currency)
    its: TotalsDetails = {
        "lines_minor": sum(nets[:before]),
        "allowances_minor": -sum(nets[before:between]),
        "charges_minor": sum(nets[between:]),
        "prepaid_minor": prepaid,
        "rounding_minor": rounding,
        "payable_minor": gross - prepaid + rounding,
        "accounting_tax_minor": _accounting_tax(sums.tax_minor, details["accounting"], currency),
    }
    return Sums(nets[:before], sums.per_rate, sums.net_minor, sums.tax_minor, its)


def line_minor(line: RequestedLine | InvoiceLine, currency: str) -> int:
    """What a line amounts to, with its allowances and charges: quantity x price / base quantity, rounded once."""
    details = line.get("details")
    amount = _priced(line, details, currency)
    if details is None:
        return amount
    allowed = sum(minor(each["amount"], currency) for each in details["allowances"])
    return amount - allowed + sum(minor(each["amount"], currency) for each in details["charges"])


def part_minor(line: RequestedLine, part: int, currency: str) -> int:
    """What a part of a line's quantity, in 10^-6, amounts to, rounded once; all of it to what the line does.

    Its allowances and charges are shared in proportion. Of a line whose quantity is negative, it is negative.
    """
    details = line.get("details")
    unit = 10 ** CURRENCY_EXPONENTS[currency]
    quantity = scaled(line["quantity"], SCALE_DECIMALS)
    product = part * scaled(line["unit_price"], PRICE_DECIMALS) * unit
    signed = product if quantity > 0 else -product
    if details is None:
        return divide_half_away(signed, PRICE_SCALE * SCALE)
    base = scaled(details["base_quantity"], SCALE_DECIMALS) if details["base_quantity"] else SCALE
    added = line_minor(line, currency) - _priced(line, details, currency)
    # signed / (price scale x base) + added x part / |quantity|
    below, beside = PRICE_SCALE * base, abs(quantity)
    return divide_half_away(signed * beside + added * part * below, below * beside)


def net_of_gross(gross_minor: int, rate: int) -> int:
    """A gross amount less the tax in it, at a rate in 10^-4 percent."""
    return gross_minor - divide_half_away(gross_minor * rate, RATE_MAX + rate)


def with_amounts(request: Asked, nets: Mapping[int, str] = NO_NETS) -> Asked:
    """The request with the amount of each allowance and charge that only has a percentage, and with stated `nets`.

    The percentage of a line's is of its quantity x price; of the document's, of the lines in its category and rate.

    `nets` has the net amounts that the caller has come to, by line. A caller whose price has more decimals than the
    invoice shows comes to another one than quantity x price: where a price that is rounded to the line's explains it,
    the difference becomes an allowance or charge of the line. What is not explained stays as it is, to be refused by
    comparison; so it does where prices include tax, since the net amount of a line depends on those before it.
    Raises `NotDecimalError` or `KeyError` where a text is none that `domain.terms` accepts.
    """
    currency = request["currency"]
    lines = [_line_with_amounts(line, currency) for line in request["lines"]]
    its = request.get("details")
    if its is None or not its["prices_include_tax"]:
        for index, net in nets.items():
            lines[index] = _with_net(lines[index], minor(net, currency), currency)
    changed: dict[str, Any] = {**request, "lines": lines}
    details = request.get("details")
    if details is not None:
        changed["details"] = _details_with_amounts(details, lines, currency)
    return cast(Asked, changed)


def rate_total(vat_category: str, rate: int, taxable_minor: int, tax_minor: int) -> RateTotal:
    """The totals of a category and a rate in 10^-4 percent."""
    return {
        "vat_category": vat_category,
        "vat_rate": rate_text(rate),
        "taxable_minor": taxable_minor,
        "tax_minor": tax_minor,
    }


@lru_cache(maxsize=1_024)
def rate_text(rate: int) -> str:
    """A rate in 10^-4 percent, as text with two decimals, or up to four where it has them."""
    text = f"{rate // 10_000}.{rate % 10_000:04d}"
    return text[:-2] if text.endswith("00") else text.rstrip("0")


def _extract(entries: Iterable[Entry]) -> Sums:
    """The sums of amounts that have the tax in them."""
    gross: dict[tuple[str, int], int] = {}
    nets = []
    for category, rate, amount in entries:
        before = gross.get((category, rate), 0)
        gross[category, rate] = before + amount
        nets.append(net_of_gross(before + amount, rate) - net_of_gross(before, rate))
    per_rate = []
    for (category, rate), amount in sorted(gross.items()):
        taxable = net_of_gross(amount, rate)
        per_rate.append(rate_total(category, rate, taxable, amount - taxable))
    return Sums(tuple(nets), tuple(per_rate), sum(nets), sum(total["tax_minor"] for total in per_rate))


def _entry(allowance: Allowance, currency: str, sign: int) -> Entry:
    rate = scaled(allowance["vat_rate"], RATE_DECIMALS)
    return allowance["vat_category"], rate, sign * minor(allowance["amount"], currency)


def _priced(line: RequestedLine | InvoiceLine, details: LineDetails | None, currency: str) -> int:
    base = scaled(details["base_quantity"], SCALE_DECIMALS) if details and details["base_quantity"] else SCALE
    product = scaled(line["quantity"], SCALE_DECIMALS) * scaled(line["unit_price"], PRICE_DECIMALS)
    return divide_half_away(product * 10 ** CURRENCY_EXPONENTS[currency], PRICE_SCALE * base)


def _minor_or_none(text: str, currency: str) -> int:
    return minor(text, currency) if text else 0


def _accounting_tax(tax_minor: int, accounting: Accounting | None, currency: str) -> int | None:
    if accounting is None:
        return None
    product = tax_minor * scaled(accounting["exchange_rate"], PRICE_DECIMALS)
    product *= 10 ** CURRENCY_EXPONENTS[accounting["currency"]]
    return divide_half_away(product, PRICE_SCALE * 10 ** CURRENCY_EXPONENTS[currency])


def _line_with_amounts(line: RequestedLine, currency: str) -> RequestedLine:
    details = line.get("details")
    if details is None or all(each["amount"] for each in (*details["allowances"], *details["charges"])):
        return line
    base = _priced(line, details, currency)
    added = {
        name: _with_amount(its, [base] * len(its), currency)
        for name, its in (("allowances", details["allowances"]), ("charges", details["charges"]))
    }
    return {**line, "details": cast(LineDetails, {**details, **added})}


def _with_net(line: RequestedLine, net_minor: int, currency: str) -> RequestedLine:
    """The line with what rounding its price has cost, if that explains the net amount."""
    off = net_minor - line_minor(line, currency)
    if not off:
        return line
    details = line.get("details") or PLAIN_LINE
    added = line_minor(line, currency) - _priced(line, details, currency)
    quantity, unit = scaled(line["quantity"], SCALE_DECIMALS), 10 ** CURRENCY_EXPONENTS[currency]
    base = scaled(details["base_quantity"], SCALE_DECIMALS) if details["base_quantity"] else SCALE
    # A price that is rounded to d decimals is off by half of 10^-d at most, and the product by its quantity of that,
    # before it is rounded itself: |net - quantity x price / base| <= quantity / base x 10^-d / 2 + 1/2, in integers.
    price_unit = 10 ** max(len(line["unit_price"].partition(".")[2]), CURRENCY_EXPONENTS[currency])
    exact = (net_minor - added) * base * PRICE_SCALE - quantity * scaled(line["unit_price"], PRICE_DECIMALS) * unit
    if 2 * price_unit * abs(exact) > (abs(quantity) * unit + base * price_unit) * PRICE_SCALE:
        return line
    change: Allowance = {
        "amount": minor_text(abs(off), currency),
        "percent": "",
        "base_amount": "",
        "vat_category": "",
        "vat_rate": "",
        "reason": ROUNDING,
        "reason_code": "",
    }
    name = "allowances" if off < 0 else "charges"
    return {**line, "details": cast(LineDetails, {**details, name: [*details[name], change]})}  # type: ignore[literal-required]


def _details_with_amounts(details: InvoiceDetails, lines: Sequence[RequestedLine], currency: str) -> InvoiceDetails:
    if all(each["amount"] for each in (*details["allowances"], *details["charges"])):
        return details
    bases: dict[tuple[str, int], int] = {}
    for line in lines:
        group = (line["vat_category"], scaled(line["vat_rate"], RATE_DECIMALS))
        bases[group] = bases.get(group, 0) + line_minor(line, currency)

    def filled(its: Sequence[Allowance]) -> list[Allowance]:
        groups = [(each["vat_category"], scaled(each["vat_rate"], RATE_DECIMALS)) for each in its]
        return _with_amount(its, [bases.get(group, 0) for group in groups], currency)

    return {**details, "allowances": filled(details["allowances"]), "charges": filled(details["charges"])}


def _with_amount(allowances: Sequence[Allowance], bases: Sequence[int], currency: str) -> list[Allowance]:
    filled: list[Allowance] = []
    for each, its_base in zip(allowances, bases, strict=True):
        if each["amount"]:
            filled.append(each)
            continue
        base = minor(each["base_amount"], currency) if each["base_amount"] else its_base
        amount = divide_half_away(base * scaled(each["percent"], RATE_DECIMALS), RATE_MAX)
        filled.append({**each, "amount": minor_text(amount, currency), "base_amount": minor_text(base, currency)})
    return filled
