"""Recomputes the sums of an invoice or credit note in decimals; the domain uses scaled integers."""

from collections.abc import Iterator, Mapping
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_UP, Context, Decimal

from domain.iso import CURRENCY_EXPONENTS
from domain.records import (
    Allowance,
    CreditNoteIssued,
    InvoiceDetails,
    InvoiceIssued,
    InvoiceLine,
    RateTotal,
    Totals,
)

#: Precise enough for exact products of any two permitted amounts; ROUND_HALF_UP rounds halves away from zero.
_EXACT = Context(prec=60, rounding=ROUND_HALF_UP)

#: Minor units that a share of an amount may be away from its own product.
_SHARE_OFF_MAX = 3


def check_sums(event: InvoiceIssued) -> Iterator[str]:
    """Yield a text for each sum in the event that is wrong."""
    exponent = CURRENCY_EXPONENTS.get(event["currency"])
    if exponent is None:
        yield f"unknown currency {event['currency']}"
        return
    details = event["details"]
    if details is not None:
        yield from check_all_sums(event, details, exponent)
        return
    taxables: dict[tuple[str, Decimal], int] = {}
    for index, line in enumerate(event["lines"]):
        net = _minor(line_amount(line), exponent)
        if net != line["net_minor"]:
            yield f"line {index}: {line['quantity']} x {line['unit_price']} is {net}, not {line['net_minor']}"
        group = (line["vat_category"], Decimal(line["vat_rate"]))
        taxables[group] = taxables.get(group, 0) + net
    totals = event["totals"]
    if totals["details"] is not None:
        yield "has amounts beside its lines, but nothing was said of any"
    yield from _check_rates(totals["per_rate"], taxables)
    net_sum = sum(taxables.values())
    tax_sum = sum(_tax(taxable, rate) for (_, rate), taxable in taxables.items())
    yield from _check_totals(totals, net_sum, tax_sum)


def check_all_sums(event: InvoiceIssued | CreditNoteIssued, details: InvoiceDetails, exponent: int) -> Iterator[str]:
    """What does not add up in an event with allowances, charges, or prices that include the tax."""
    groups: dict[tuple[str, Decimal], int] = {}
    of_lines = [
        (line["vat_category"], line["vat_rate"], _minor(line_amount(line), exponent)) for line in event["lines"]
    ]
    of_allowances = [_said(each, exponent, -1) for each in details["allowances"]]
    of_charges = [_said(each, exponent, 1) for each in details["charges"]]
    for category, rate, amount in (*of_lines, *of_allowances, *of_charges):
        group = (category, Decimal(rate))
        groups[group] = groups.get(group, 0) + amount
    includes_tax = details["prices_include_tax"] is True
    taxes = {group: (_tax_within if includes_tax else _tax)(amount, group[1]) for group, amount in groups.items()}
    taxables = {group: amount - taxes[group] if includes_tax else amount for group, amount in groups.items()}
    for index, (line, (_, rate, amount)) in enumerate(zip(event["lines"], of_lines, strict=True)):
        # Lines share the taxable amount of their rate: which of two minor units one gets depends on the others.
        exact = _without_tax(amount, Decimal(rate)) if includes_tax else Decimal(amount)
        if abs(line["net_minor"] - exact) > int(includes_tax):
            yield f"line {index}: {amount} minor units can't be {line['net_minor']} without tax"
    totals = event["totals"]
    yield from _match_rates(totals["per_rate"], taxables)
    for total in totals["per_rate"]:
        group = (total["vat_category"], Decimal(total["vat_rate"]))
        if group in taxes and total["tax_minor"] != taxes[group]:
            yield f"rate {total['vat_category']} {total['vat_rate']}: tax {total['tax_minor']}, not {taxes[group]}"
    yield from _check_totals(totals, sum(taxables.values()), sum(taxes.values()))
    yield from _check_due(event, details, exponent)


def _check_due(event: InvoiceIssued | CreditNoteIssued, details: InvoiceDetails, exponent: int) -> Iterator[str]:
    totals = event["totals"]
    its = totals["details"]
    if its is None:
        yield "says nothing of what is due"
        return
    prepaid = _minor(Decimal(details["prepaid_amount"] or 0), exponent)
    rounding = _minor(Decimal(details["rounding_amount"] or 0), exponent)
    lines = sum(line["net_minor"] for line in event["lines"])
    expected: dict[str, int | None] = {
        "lines_minor": lines,
        "charges_minor": totals["net_minor"] - lines + its["allowances_minor"],
        "prepaid_minor": prepaid,
        "rounding_minor": rounding,
        "payable_minor": totals["gross_minor"] - prepaid + rounding,
        "accounting_tax_minor": None,
    }
    accounting = details["accounting"]
    if accounting is not None:
        tax = Decimal(totals["tax_minor"]).scaleb(-exponent, _EXACT)
        product = _EXACT.multiply(tax, Decimal(accounting["exchange_rate"]))
        expected["accounting_tax_minor"] = _minor(product, CURRENCY_EXPONENTS[accounting["currency"]])
    for name, amount in expected.items():
        if its[name] != amount:  # type: ignore[literal-required]
            yield f"{name} is {its[name]}, not {amount}"  # type: ignore[literal-required]


def _said(allowance: Allowance, exponent: int, sign: int) -> tuple[str, str, int]:
    return allowance["vat_category"], allowance["vat_rate"], sign * _minor(Decimal(allowance["amount"]), exponent)


def line_amount(line: InvoiceLine) -> Decimal:
    """Quantity x price / base quantity, with the line's allowances and charges: exact, or to 60 digits."""
    amount = _EXACT.multiply(Decimal(line["quantity"]), Decimal(line["unit_price"]))
    details = line["details"]
    if details is None:
        return amount
    if details["base_quantity"]:
        amount = _EXACT.divide(amount, Decimal(details["base_quantity"]))
    for allowance in details["allowances"]:
        amount = _EXACT.subtract(amount, Decimal(allowance["amount"]))
    for charge in details["charges"]:
        amount = _EXACT.add(amount, Decimal(charge["amount"]))
    return amount


def check_credit(event: CreditNoteIssued) -> Iterator[str]:
    """Yield a text for each sum in the event that is wrong.

    Rounding depends on earlier credit notes, so each amount may be either of the two minor units around the exact one.
    """
    exponent = CURRENCY_EXPONENTS.get(event["currency"])
    if exponent is None:
        yield f"unknown currency {event['currency']}"
        return
    if event["details"] is not None or any(line["details"] is not None for line in event["lines"]):
        yield from _check_shares(event, exponent)
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


def _check_shares(event: CreditNoteIssued, exponent: int) -> Iterator[str]:
    details, totals = event["details"], event["totals"]
    includes_tax = details is not None and details["prices_include_tax"] is True
    groups: dict[tuple[str, Decimal], Decimal] = {}
    for index, line in enumerate(event["lines"]):
        rate = Decimal(line["vat_rate"])
        amount = Decimal(_minor(line_amount(line), exponent))
        if abs(line["net_minor"] - (_without_tax(int(amount), rate) if includes_tax else amount)) > _SHARE_OFF_MAX:
            yield f"line {index}: {amount} minor units can't be {line['net_minor']} without tax"
        group = (line["vat_category"], rate)
        groups[group] = groups.get(group, Decimal(0)) + line["net_minor"]
    said = [] if details is None else [_said(each, exponent, -1) for each in details["allowances"]]
    said += [] if details is None else [_said(each, exponent, 1) for each in details["charges"]]
    for category, rate_text, minor in said:
        group = (category, Decimal(rate_text))
        net = _without_tax(minor, group[1]) if includes_tax else Decimal(minor)
        groups[group] = groups.get(group, Decimal(0)) + net
    stated = {(each["vat_category"], Decimal(each["vat_rate"])): each for each in totals["per_rate"]}
    if stated.keys() != groups.keys() or len(stated) != len(totals["per_rate"]):
        yield "its rates are not those of its lines, allowances and charges, each once"
        return
    for group, total in stated.items():
        name = f"rate {total['vat_category']} {total['vat_rate']}"
        if abs(total["taxable_minor"] - groups[group]) > (_SHARE_OFF_MAX * (1 + len(said)) if includes_tax else 0):
            yield f"{name}: taxable {total['taxable_minor']}, but it amounts to {groups[group]}"
        if abs(total["tax_minor"] - _tax(total["taxable_minor"], group[1])) > _SHARE_OFF_MAX:
            yield f"{name}: tax on {total['taxable_minor']} can't be {total['tax_minor']}"
    yield from _check_totals(
        totals,
        sum(each["taxable_minor"] for each in totals["per_rate"]),
        sum(each["tax_minor"] for each in totals["per_rate"]),
    )


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


def _tax_within(gross_minor: int, rate: Decimal) -> int:
    """The tax in an amount: gross x rate / (100 + rate)."""
    exact = _EXACT.divide(_EXACT.multiply(Decimal(gross_minor), rate), _EXACT.add(Decimal(100), rate))
    return int(exact.to_integral_value(ROUND_HALF_UP, _EXACT))


def _without_tax(gross_minor: int, rate: Decimal) -> Decimal:
    return _EXACT.divide(_EXACT.multiply(Decimal(gross_minor), Decimal(100)), _EXACT.add(Decimal(100), rate))


def _tax(taxable_minor: int, rate: Decimal) -> int:
    product = _EXACT.multiply(Decimal(taxable_minor), rate)
    return int(product.scaleb(-2, _EXACT).to_integral_value(ROUND_HALF_UP, _EXACT))
