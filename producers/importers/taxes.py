"""Which parts of an order bear which of its taxes, concluded from the amounts.

Exports of shops name the taxes of an order and what each amounts to, not what it is charged on. Shops tax each line by
itself and round it, so that an amount is met to half a minor unit a line. What fits only by chance is not taken: if two
different choices of lines fit equally, the order can't be told.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from itertools import combinations

from producers.importers.shop_order import Part, Tax, UntellableError

#: Lines among which those that bear a tax are looked for one by one: 2^10 choices.
_SEARCHED_MAX = 10
#: The highest rate in use (India's GST; Hungary's VAT has 27): what comes out beyond it is charged on other lines too.
_RATE_MAX = Decimal(28)
_RATE_DECIMALS = 4
_NOTHING = Decimal(0)
_HUNDRED = Decimal(100)

_Chosen = frozenset[int]


@dataclass(frozen=True, slots=True)
class Assignment:
    """The rate of each part in percent, and its share of the order's discount."""

    rates: tuple[Decimal, ...]
    shares: tuple[Decimal, ...]
    #: What was concluded beyond the export's own words.
    remarks: tuple[str, ...] = ()


def assign(
    parts: Sequence[Part], discount: Decimal, taxes: Sequence[Tax], *, included: bool, minor: Decimal, row: int
) -> Assignment:
    """The rates under which the parts amount to the taxes; raises `UntellableError` if none do, or several."""
    charged = [tax for tax in taxes if tax.amount]
    error: UntellableError | None = None
    for pool in _pools(parts, discount):
        shares = _shares(parts, discount, pool, minor)
        bases = [part.amount - share for part, share in zip(parts, shares, strict=True)]
        try:
            rates, remarks = _Search(parts, bases, minor, row, included=included).rates(charged)
        except UntellableError as failed:
            error = error or failed
            continue
        own, concluded = _own_rates(parts, minor, row)
        rates = [
            rate if part.tax is None else own[index]
            for index, (part, rate) in enumerate(zip(parts, rates, strict=True))
        ]
        return Assignment(tuple(rates), tuple(shares), (*remarks, *concluded))
    raise error if error is not None else AssertionError("there is always a pool")


def rate_of(tax: Decimal, base: Decimal, tolerance: Decimal) -> Decimal | None:
    """The rate in percent with the fewest decimals that makes `tax` of `base`, give or take; None if none does.

    Of several, the one nearest to the exact quotient.
    """
    if base <= 0 or tax <= 0:
        return None
    exact = tax / base * _HUNDRED
    low, high = (tax - tolerance) / base * _HUNDRED, (tax + tolerance) / base * _HUNDRED
    for decimals in range(_RATE_DECIMALS + 1):
        rate = exact.quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_UP)
        if low <= rate <= high and 0 < rate <= _RATE_MAX:
            return rate
    return None


def split(amount: Decimal, weights: Sequence[Decimal], minor: Decimal) -> list[Decimal]:
    """`amount` in proportion to the weights, in whole minor units that add up to it; the largest takes the rest."""
    total = sum(weights, _NOTHING)
    if not total:
        return [_NOTHING] * len(weights)
    shares = [(amount * weight / total).quantize(minor, ROUND_HALF_UP) for weight in weights]
    largest = max(range(len(weights)), key=lambda index: weights[index])
    shares[largest] += amount - sum(shares, _NOTHING)
    return shares


def _own_rates(parts: Sequence[Part], minor: Decimal, row: int) -> tuple[dict[int, Decimal], list[str]]:
    """The rates of the parts whose own tax is said. The largest tell it best; smaller ones have the same if it fits."""
    taxed = sorted((i for i, part in enumerate(parts) if part.tax), key=lambda i: parts[i].amount, reverse=True)
    rates: dict[int, Decimal] = {i: _NOTHING for i, part in enumerate(parts) if part.tax is not None}
    tolerance = minor * Decimal("0.51")
    found: list[Decimal] = []
    for index in taxed:
        tax, base = parts[index].tax or _NOTHING, parts[index].amount
        rate = next((each for each in found if abs(base * each / _HUNDRED - tax) <= tolerance), None)
        rate = rate or rate_of(tax, base, tolerance)
        if rate is None:
            raise UntellableError(parts[index].row or row, "tax", f"no rate makes {tax} of {base}")
        found.append(rate)
        rates[index] = rate
    texts = (f"{rate.normalize():f}% concluded from the amounts: the export names no rate" for rate in found)
    return rates, list(dict.fromkeys(texts))


def _pools(parts: Sequence[Part], discount: Decimal) -> Iterator[tuple[int, ...]]:
    """What the order's discount may be taken off: all items, else the taxed or the untaxed ones."""
    items = tuple(index for index, part in enumerate(parts) if part.kind == "item")
    yield items
    if discount:
        for is_taxable in (True, False):
            pool = tuple(index for index in items if parts[index].is_taxable is is_taxable)
            if pool and pool != items and sum(parts[index].amount for index in pool) >= discount:
                yield pool


def _shares(parts: Sequence[Part], discount: Decimal, pool: Sequence[int], minor: Decimal) -> list[Decimal]:
    shares = [_NOTHING] * len(parts)
    for index, share in zip(pool, split(discount, [parts[index].amount for index in pool], minor), strict=True):
        shares[index] = share
    return shares


class _Search:
    """What each part bears, given what is charged for it."""

    def __init__(self, parts: Sequence[Part], bases: Sequence[Decimal], minor: Decimal, row: int, *, included: bool):
        self._parts = parts
        self._bases = bases
        self._minor = minor
        self._row = row
        self._included = included
        self._plain = list(self._usual_choices())

    def rates(self, taxes: Sequence[Tax]) -> tuple[list[Decimal], list[str]]:
        """The rate of each part, all its taxes together, and remarks."""
        named = [tax for tax in taxes if tax.rate is not None]
        unnamed = [tax for tax in taxes if tax.rate is None]
        remarks: list[str] = []
        if len(unnamed) > 1:
            total = sum((tax.amount for tax in unnamed), _NOTHING)
            unnamed = [Tax(unnamed[0].column, "taxes without a rate", total, None)]
        chosen = self._choose(named)
        if unnamed:
            rate, choice = self._conclude(unnamed[0], chosen, has_named=bool(named))
            remarks.append(f"{rate.normalize():f}% concluded from the amounts: the export names no rate")
            named, chosen = (
                [*named, Tax(unnamed[0].column, unnamed[0].name, unnamed[0].amount, rate)],
                [*chosen, choice],
            )
        rates = [_NOTHING] * len(self._parts)
        for tax, choice in zip(named, chosen, strict=True):
            for index in choice:
                rates[index] += tax.rate or _NOTHING
        return rates, remarks

    def _usual_choices(self) -> Iterator[_Chosen]:
        """What taxes are usually charged on, most usual first."""
        kinds = {
            kind: [i for i, part in enumerate(self._parts) if part.kind == kind and part.tax is None] for kind in _KINDS
        }
        taxable = [index for index in kinds["item"] if self._parts[index].is_taxable]
        extras = [kind for kind in ("shipping", "duties", "fee", "tip") if kinds[kind]]
        for items in [taxable, kinds["item"]] if len(taxable) < len(kinds["item"]) else [taxable]:
            for count in range(len(extras) + 1):
                for kinds_taxed in combinations(extras, count):
                    choice = frozenset(items).union(*(kinds[kind] for kind in kinds_taxed))
                    if any(self._bases[index] for index in choice):
                        yield choice
        for kind in extras:
            yield frozenset(kinds[kind])

    def _searched_choices(self) -> Iterator[_Chosen]:
        """Some of the items, with and without shipping."""
        items = [i for i, part in enumerate(self._parts) if part.kind == "item" and self._bases[i]]
        shipping = [i for i, part in enumerate(self._parts) if part.kind == "shipping"]
        if len(items) > _SEARCHED_MAX:
            return
        for count in range(len(items) - 1, 0, -1):
            for some in combinations(items, count):
                yield frozenset(some)
                if shipping:
                    yield frozenset((*some, *shipping))

    def _choose(self, taxes: Sequence[Tax]) -> list[_Chosen]:
        """What each tax is charged on; all on the same, if that fits."""
        if not taxes:
            return []
        together = sum((tax.rate or _NOTHING for tax in taxes), _NOTHING)
        common = [
            (sum(self._is_exact(tax, choice, together) for tax in taxes), -place, choice)
            for place, choice in enumerate(self._plain)
            if all(self._fits(tax, choice, together) for tax in taxes)
        ]
        if common:
            return [max(common)[2]] * len(taxes)
        if self._included and len(taxes) > 1:
            return self._apart(taxes)
        return [self._one(tax) for tax in taxes]

    def _one(self, tax: Tax) -> _Chosen:
        """What one tax is charged on, whatever the others are."""
        rate = tax.rate or _NOTHING
        usual = [choice for choice in self._plain if self._fits(tax, choice, rate)]
        exact = [choice for choice in usual if self._is_exact(tax, choice, rate)]
        if exact or usual:
            return (exact or usual)[0]
        return self._only(tax, self._searched_choices())

    def _only(self, tax: Tax, choices: Iterable[_Chosen]) -> _Chosen:
        """The only one of the choices that fits; lines of the same amount are as good as each other."""
        rate = tax.rate or _NOTHING
        fitting = [choice for choice in choices if self._fits(tax, choice, rate)]
        fitting = [choice for choice in fitting if self._is_exact(tax, choice, rate)] or fitting
        kinds = {tuple(sorted(self._bases[index] for index in choice)) for choice in fitting}
        if len(kinds) == 1:
            return fitting[0]
        what = "no lines amount to it" if not kinds else "several choices of lines amount to it"
        raise UntellableError(self._row, tax.column, f"{tax.amount} of {tax.name!r}: {what}")

    def _apart(self, taxes: Sequence[Tax]) -> list[_Chosen]:
        """Taxes that prices include, each on lines of its own, all taxed lines covered."""
        taxed = [i for i, part in enumerate(self._parts) if part.kind == "item" and part.is_taxable and self._bases[i]]
        shipping = {i for i, part in enumerate(self._parts) if part.kind == "shipping"}
        first, *others = taxes
        if len(others) > 1:
            raise UntellableError(self._row, first.column, f"which lines bear which of {len(taxes)} taxes is not said")
        fitting = [
            [choice, other]
            for choice in self._searched_choices()
            for other in (frozenset(taxed) - choice, frozenset(taxed) - choice | (shipping - choice))
            if other and self._fits(first, choice, first.rate or _NOTHING)
            if self._fits(others[0], other, others[0].rate or _NOTHING)
        ]
        kinds = {tuple(tuple(sorted(self._bases[i] for i in each)) for each in pair) for pair in fitting}
        if len(kinds) == 1:
            return fitting[0]
        what = "no lines amount to it" if not kinds else "several choices of lines amount to it"
        raise UntellableError(self._row, first.column, f"{first.amount} of {first.name!r}: {what}")

    def _conclude(self, tax: Tax, others: Sequence[_Chosen], *, has_named: bool) -> tuple[Decimal, _Chosen]:
        """A rate that the export doesn't name, and what it is charged on."""
        if has_named and self._included:
            raise UntellableError(self._row, tax.column, f"{tax.amount} of {tax.name!r}: the rate is not said")
        found: list[tuple[int, int, Decimal, _Chosen]] = []
        for place, choice in enumerate(others or self._plain):
            base = sum((self._bases[index] for index in choice), _NOTHING)
            if self._included:
                base -= tax.amount
            rate = rate_of(tax.amount, base, self._tolerance(choice))
            if rate is not None:
                found.append((-int(rate.normalize().as_tuple().exponent), place, rate, choice))
        if not found:
            raise UntellableError(self._row, tax.column, f"taxes of {tax.amount}: no rate makes that of the lines")
        # A rate of few decimals is a likelier one than of many: 20% with shipping, not 21.7391% without.
        *_, rate, choice = min(found, key=lambda each: (max(each[0], 0), each[1]))
        return rate, choice

    def _tolerance(self, choice: _Chosen) -> Decimal:
        return self._minor / 2 * (len(choice) + 1)

    def _fits(self, tax: Tax, choice: _Chosen, together: Decimal) -> bool:
        base = sum((self._bases[index] for index in choice), _NOTHING)
        # Rates are printed with three decimals: a half of the last one counts where amounts are large.
        slack = self._tolerance(choice) + base * Decimal("0.000005")
        return abs(self._tax(tax, base, together) - tax.amount) <= slack

    def _is_exact(self, tax: Tax, choice: _Chosen, together: Decimal) -> bool:
        """Whether it is met to the minor unit, rounded line by line or once."""
        base = sum((self._bases[index] for index in choice), _NOTHING)
        lines = sum((self._round(self._tax(tax, self._bases[index], together)) for index in choice), _NOTHING)
        return tax.amount in (lines, self._round(self._tax(tax, base, together)))

    def _tax(self, tax: Tax, base: Decimal, together: Decimal) -> Decimal:
        rate = tax.rate or _NOTHING
        return base * rate / (_HUNDRED + together) if self._included else base * rate / _HUNDRED

    def _round(self, amount: Decimal) -> Decimal:
        return amount.quantize(self._minor, ROUND_HALF_UP)


_KINDS = ("item", "tip", "shipping", "duties", "fee")
