"""Credit notes: whatever the split of an order into refunds, they add up to its invoice, to the cent."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from domain.credit import check, credit
from domain.invoice import Priced, price
from domain.records import InvoiceRequest
from tests.credit_notes import credit_note_request
from tests.unit.domain.test_invoice import line, request

#: Prices that round in every direction, and few rates, so that lines share them.
_PRICES = st.one_of(
    st.integers(0, 3_000_000).map(lambda micros: f"{micros // 10**6}.{micros % 10**6:06d}"),
    st.integers(0, 99_999).map(lambda cents: f"{cents // 100}.{cents % 100:02d}"),
)
_RATES = st.sampled_from([("20.00", "S"), ("5.50", "S"), ("33.33", "S"), ("20", "S"), ("0.00", "Z"), ("3", "L")])


@dataclass(frozen=True)
class Split:
    """An order and its refunds, one after the other: pieces by line."""

    order: InvoiceRequest
    refunds: list[dict[int, int]]


@st.composite
def splits(draw: st.DrawFn) -> Split:
    """Every piece of an order in one refund each."""
    quantities = draw(st.lists(st.integers(1, 12), min_size=1, max_size=5))
    lines = []
    for quantity in quantities:
        rate, category = draw(_RATES)
        text = draw(st.sampled_from([str(quantity), f"{quantity}.0", f"{quantity}.000000"]))
        lines.append(line(quantity=text, unit_price=draw(_PRICES), vat_rate=rate, vat_category=category))
    order = request(lines=lines, currency=draw(st.sampled_from(["EUR", "JPY", "BHD"])))
    left = dict(enumerate(quantities))
    refunds = []
    while any(left.values()):
        # A line that is named with no pieces is not part of the refund.
        refund = {place: draw(st.integers(0, count)) for place, count in left.items()}
        if not any(refund.values()):
            refund[next(place for place, count in left.items() if count)] = 1
        left = {place: count - refund[place] for place, count in left.items()}
        refunds.append(refund)
    return Split(order, refunds)


def befores(refunds: list[dict[int, int]]) -> list[dict[int, int]]:
    """What was credited before each of the refunds."""
    before: dict[int, int] = {}
    found = []
    for refund in refunds:
        found.append(before)
        before = {place: before.get(place, 0) + refund.get(place, 0) for place in before.keys() | refund.keys()}
    return found


def priced(order: InvoiceRequest) -> Priced:
    result = price(order)
    assert isinstance(result, Priced), result
    return result


@given(splits())
def test_any_split_into_refunds_credits_exactly_the_invoice(split: Split) -> None:
    """Net, tax of each rate, and gross; each line too."""
    invoice = priced(split.order)
    nets = [0] * len(invoice.nets_minor)
    rates = {(total["vat_category"], total["vat_rate"]): [0, 0] for total in invoice.per_rate}
    sums = [0, 0, 0]
    for before, now in zip(befores(split.refunds), split.refunds, strict=True):
        part = credit(split.order, before, now)
        for each in part.lines:
            nets[each.line] += each.net_minor
        for total in part.per_rate:
            rates[total["vat_category"], total["vat_rate"]][0] += total["taxable_minor"]
            rates[total["vat_category"], total["vat_rate"]][1] += total["tax_minor"]
        sums = [
            so_far + amount
            for so_far, amount in zip(sums, (part.net_minor, part.tax_minor, part.gross_minor), strict=True)
        ]
    assert nets == list(invoice.nets_minor)
    assert rates == {
        (total["vat_category"], total["vat_rate"]): [total["taxable_minor"], total["tax_minor"]]
        for total in invoice.per_rate
    }
    assert sums == [invoice.net_minor, invoice.tax_minor, invoice.gross_minor]


@given(splits())
def test_no_part_of_a_credit_is_negative_and_each_adds_up_by_itself(split: Split) -> None:
    """Lines of an order have whole pieces and prices of 0 or more."""
    for before, now in zip(befores(split.refunds), split.refunds, strict=True):
        part = credit(split.order, before, now)
        amounts = [each.net_minor for each in part.lines]
        amounts += [amount for total in part.per_rate for amount in (total["taxable_minor"], total["tax_minor"])]
        assert min(amounts) >= 0
        assert [(each.line, each.quantity) for each in part.lines] == [pair for pair in sorted(now.items()) if pair[1]]
        assert part.net_minor == sum(each.net_minor for each in part.lines)
        assert part.net_minor == sum(total["taxable_minor"] for total in part.per_rate)
        assert part.tax_minor == sum(total["tax_minor"] for total in part.per_rate)


@given(splits())
def test_each_part_of_any_split_passes_the_check_of_its_request(split: Split) -> None:
    """The invoices agent holds it to one minor unit; the orders agent must never ask for more."""
    for number, (before, now) in enumerate(zip(befores(split.refunds), split.refunds, strict=True)):
        asked = credit_note_request(split.order, f"R-{number}", now, before)
        result = check(asked)
        assert isinstance(result, Priced), result
        assert result.gross_minor == asked["totals"]["gross_minor"]
