"""Credit notes: what so many pieces of an order's lines amount to.

Several credit notes of one invoice must add up to it, to the cent, and rounding each by itself would not: so each is
the difference between all that is credited after it and all that was credited before it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from domain.invoice import RATE_MAX, RateTotal
from domain.iso import CURRENCY_EXPONENTS
from domain.money import RATE_DECIMALS, SCALE, SCALE_DECIMALS, divide_half_away, scaled

#: The refund of a confirmed order that was cancelled: all of it.
CANCELLATION = "cancellation"
REFUND_ID_CHARS_MAX = 40


@dataclass(frozen=True, slots=True)
class CreditedLine:
    """Pieces of one line of the order. `line` is its position, from 0."""

    line: int
    quantity: int
    net_minor: int


@dataclass(frozen=True, slots=True)
class Credit:
    """What a credit note says: its lines, and the totals as a positive invoice would have them."""

    lines: tuple[CreditedLine, ...]
    per_rate: tuple[RateTotal, ...]
    net_minor: int
    tax_minor: int

    @property
    def gross_minor(self) -> int:
        """What goes back to the buyer."""
        return self.net_minor + self.tax_minor


def credit(order: Mapping[str, Any], before: Mapping[int, int], now: Mapping[int, int]) -> Credit:
    """Credit `now` pieces by line, after `before` pieces were credited; both within what was ordered.

    `order` is an `InvoiceRequest` that `price` has accepted, its quantities whole numbers. With everything credited,
    all credits together are exactly the invoice.
    """
    after = {line: before.get(line, 0) + now.get(line, 0) for line in before.keys() | now.keys()}
    nets_before, nets_after = _nets(order, before), _nets(order, after)
    lines = tuple(
        CreditedLine(line, quantity, nets_after[line] - nets_before.get(line, 0))
        for line, quantity in sorted(now.items())
        if quantity
    )
    rates_before, rates_after = _per_rate(order, nets_before), _per_rate(order, nets_after)
    per_rate = []
    for group, (taxable, tax) in sorted(rates_after.items()):
        taxable_before, tax_before = rates_before.get(group, (0, 0))
        category, rate = group
        total = RateTotal(category, f"{rate // 100}.{rate % 100:02d}", taxable - taxable_before, tax - tax_before)
        if any(_group(order, each.line) == group for each in lines):
            per_rate.append(total)
    return Credit(
        lines, tuple(per_rate), sum(each.net_minor for each in lines), sum(each.tax_minor for each in per_rate)
    )


def _nets(order: Mapping[str, Any], pieces: Mapping[int, int]) -> dict[int, int]:
    unit = 10 ** CURRENCY_EXPONENTS[order["currency"]]
    return {
        line: divide_half_away(quantity * scaled(order["lines"][line]["unit_price"], SCALE_DECIMALS) * unit, SCALE)
        for line, quantity in pieces.items()
    }


def _per_rate(order: Mapping[str, Any], nets: Mapping[int, int]) -> dict[tuple[str, int], tuple[int, int]]:
    taxables: dict[tuple[str, int], int] = {}
    for line, net in nets.items():
        group = _group(order, line)
        taxables[group] = taxables.get(group, 0) + net
    return {group: (taxable, divide_half_away(taxable * group[1], RATE_MAX)) for group, taxable in taxables.items()}


def _group(order: Mapping[str, Any], line: int) -> tuple[str, int]:
    asked = order["lines"][line]
    return asked["vat_category"], scaled(asked["vat_rate"], RATE_DECIMALS)
