"""Recomputes the sums of an invoice or credit note in decimals; the domain uses scaled integers."""

from collections.abc import Iterator, Mapping
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_UP, Context, Decimal

from domain.iso import CURRENCY_EXPONENTS
from domain.records import CreditNoteIssued, InvoiceIssued, RateTotal, Totals

#: Precise enough for exact products of any two permitted amounts; ROUND_HALF_UP rounds halves away from zero.
_EXACT = Context(prec=60, rounding=ROUND_HALF_UP)


def check_sums(event: InvoiceIssued) -> Iterator[str]:
    """Yield a text for each sum in the event that is wrong."""
    exponent = CURRENCY_EXPONENTS.get(event["currency"])
    if exponent is None:
        yield f"unknown currency {event['currency']}"
        return
    taxables: dict[tuple[str, Decimal], int] = {}
    for index, line in enumerate(event["lines"]):
        product = _EXACT.multiply(Decimal(line["quantity"]), Decimal(line["unit_price"]))
        net = _minor(product, exponent)
        if net != line["net_minor"]:
            yield f"line {index}: {line['quantity']} x {line['unit_price']} is {net}, not {line['net_minor']}"
        group = (line["vat_category"], Decimal(line["vat_rate"]))
        taxables[group] = taxables.get(group, 0) + net
    totals = event["totals"]
    yield from _check_rates(totals["per_rate"], taxables)
    net_sum = sum(taxables.values())
    tax_sum = sum(_tax(taxable, rate) for (_, rate), taxable in taxables.items())
    yield from _check_totals(totals, net_sum, tax_sum)


def check_credit(event: CreditNoteIssued) -> Iterator[str]:
    """Yield a text for each sum in the event that is wrong.

    Rounding depends on earlier credit notes, so each amount may be either of the two minor units around the exact one.
    """
    exponent = CURRENCY_EXPONENTS.get(event["currency"])
    if exponent is None:
        yield f"unknown currency {event['currency']}"
        return
    taxables: dict[tuple[str, Decimal], int] = {}
    for index, line in enumerate(event["lines"]):
        product = _EXACT.multiply(Decimal(line["quantity"]), Decimal(line["unit_price"])).scaleb(exponent, _EXACT)
        if not _is_next_to(line["net_minor"], product):
            yield f"line {index}: {line['quantity']} x {line['unit_price']} can't be {line['net_minor']}"
        group = (line["vat_category"], Decimal(line["vat_rate"]))
        taxables[group] = taxables.get(group, 0) + line["net_minor"]
    totals = event["totals"]
    yield from _match_rates(totals["per_rate"], taxables)
    for total in totals["per_rate"]:
        tax = _EXACT.multiply(Decimal(total["taxable_minor"]), Decimal(total["vat_rate"])).scaleb(-2, _EXACT)
        if not _is_next_to(total["tax_minor"], tax):
            name = f"rate {total['vat_category']} {total['vat_rate']}"
            yield f"{name}: tax on {total['taxable_minor']} can't be {total['tax_minor']}"
    net_sum = sum(taxables.values())
    tax_sum = sum(total["tax_minor"] for total in totals["per_rate"])
    yield from _check_totals(totals, net_sum, tax_sum)


def _check_totals(totals: Totals, net_sum: int, tax_sum: int) -> Iterator[str]:
    for name, stated, sums in (
        ("net", totals["net_minor"], net_sum),
        ("tax", totals["tax_minor"], tax_sum),
        ("gross", totals["gross_minor"], net_sum + tax_sum),
    ):
        if stated != sums:
            yield f"total {name} is {stated}, but the lines amount to {sums}"


def _is_next_to(minor: int, exact: Decimal) -> bool:
    """Whether `minor` is `exact` rounded up or down."""
    floor = int(exact.to_integral_value(ROUND_FLOOR, _EXACT))
    ceiling = int(exact.to_integral_value(ROUND_CEILING, _EXACT))
    return floor <= minor <= ceiling


def _check_rates(per_rate: list[RateTotal], taxables: Mapping[tuple[str, Decimal], int]) -> Iterator[str]:
    yield from _match_rates(per_rate, taxables)
    for total in per_rate:
        group = (total["vat_category"], Decimal(total["vat_rate"]))
        if group not in taxables:
            continue
        tax = _tax(taxables[group], group[1])
        if total["tax_minor"] != tax:
            yield f"rate {total['vat_category']} {total['vat_rate']}: tax {total['tax_minor']}, not {tax}"


def _match_rates(per_rate: list[RateTotal], taxables: Mapping[tuple[str, Decimal], int]) -> Iterator[str]:
    """Check that each rate of the lines is in the totals once, with the sum of its lines."""
    seen = set()
    for total in per_rate:
        group = (total["vat_category"], Decimal(total["vat_rate"]))
        name = f"rate {total['vat_category']} {total['vat_rate']}"
        if group in seen or group not in taxables:
            yield f"{name} is {'twice in the totals' if group in seen else 'in no line'}"
            continue
        seen.add(group)
        if total["taxable_minor"] != taxables[group]:
            yield f"{name}: taxable {total['taxable_minor']}, but its lines amount to {taxables[group]}"
    for category, rate in taxables.keys() - seen:
        yield f"rate {category} {rate} is in the lines, but not in the totals"


def _minor(amount: Decimal, exponent: int) -> int:
    """The amount rounded to minor units."""
    return int(amount.scaleb(exponent, _EXACT).to_integral_value(ROUND_HALF_UP, _EXACT))


def _tax(taxable_minor: int, rate: Decimal) -> int:
    product = _EXACT.multiply(Decimal(taxable_minor), rate)
    return int(product.scaleb(-2, _EXACT).to_integral_value(ROUND_HALF_UP, _EXACT))
