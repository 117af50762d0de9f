"""Credit notes: whatever the split of an order into refunds, they add up to its invoice, to the cent."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import cast

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from audit.arithmetic import check_credit
from domain.credit import NO_STOCK, check, credit, left_to_credit, quantities
from domain.crediting import Given, Wanted, decide_credit, of_lines
from domain.invoice import Priced, price
from domain.money import minor
from domain.records import (
    Allowance,
    CreditNoteIssued,
    CreditNoteRequest,
    InvoiceDetails,
    InvoiceRequest,
    LineDetails,
    RequestedLine,
)
from domain.refusals import CREDIT_TOO_LARGE, INVALID_FIELD, Refusal
from schemas import catalog
from schemas.codec import decode, encode
from tests.credit_notes import credit_note_request, of_pieces
from tests.invoice_events import credited
from tests.unit.domain.test_invoice import line, request

#: Prices that round in every direction, and few rates, so that lines share them.
_PRICES = st.one_of(
    st.integers(0, 3_000_000).map(lambda micros: f"{micros // 10**6}.{micros % 10**6:06d}"),
    st.integers(0, 99_999).map(lambda cents: f"{cents // 100}.{cents % 100:02d}"),
)
_RATES = st.sampled_from([("20.00", "S"), ("5.50", "S"), ("33.33", "S"), ("20", "S"), ("0.00", "Z"), ("3", "L")])


NOW = datetime(2026, 11, 29, tzinfo=UTC)
NO_DETAILS: InvoiceDetails = {
    "prices_include_tax": None,
    "allowances": [],
    "charges": [],
    "rounding_amount": "",
    "prepaid_amount": "",
    "accounting": None,
    "exemptions": [],
    "payment": None,
    "tax_point_date": "",
    "period": None,
    "delivery": None,
    "references": None,
    "preceding_invoices": [],
    "notes": [],
    "language": "",
    "attachments": [],
}


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
        part = credit(split.order, of_pieces(before), of_pieces(now))
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
        part = credit(split.order, of_pieces(before), of_pieces(now))
        amounts = [each.net_minor for each in part.lines]
        amounts += [amount for total in part.per_rate for amount in (total["taxable_minor"], total["tax_minor"])]
        assert min(amounts) >= 0
        assert {each.line: each.quantity for each in part.lines} == of_pieces({k: v for k, v in now.items() if v})
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


@st.composite
def extended(draw: st.DrawFn) -> Split:
    """Every piece of an order with allowances, charges, a discount and perhaps prices that include the tax."""
    split = draw(splits())
    currency = split.order["currency"]
    cent = {"EUR": "0.01", "JPY": "1", "BHD": "0.001"}[currency]
    lines: list[RequestedLine] = []
    for each in split.order["lines"]:
        its: LineDetails = {**NO_STOCK, "stock": None}
        if draw(st.booleans()):
            its["base_quantity"] = draw(st.sampled_from(["", "3", "100"]))
            its["charges"] = [allowance(draw(st.sampled_from([cent, "1", "7"])))]
        lines.append({**each, "details": its})
    first = lines[0]
    allowances = draw(st.lists(st.sampled_from([cent, "1", "3"]), max_size=2))
    of_all = [allowance(amount, first["vat_category"], first["vat_rate"]) for amount in allowances]
    charges = draw(st.lists(st.sampled_from([cent, "2", "50"]), max_size=2))
    more = [allowance(amount, first["vat_category"], first["vat_rate"]) for amount in charges]
    includes_tax = draw(st.sampled_from([None, True]))
    details = cast(
        InvoiceDetails, {**NO_DETAILS, "allowances": of_all, "charges": more, "prices_include_tax": includes_tax}
    )
    order = cast(InvoiceRequest, {**split.order, "lines": lines, "details": details})
    assume(isinstance(price(order), Priced))
    return Split(order, split.refunds)


def issued_of(note: CreditNoteRequest) -> CreditNoteIssued:
    """The event of a credit note, as far as its amounts go."""
    return cast(CreditNoteIssued, {**credited(), **note})


def allowance(amount: str, vat_category: str = "", vat_rate: str = "") -> Allowance:
    """An allowance or a charge."""
    return {
        "amount": amount,
        "percent": "",
        "base_amount": "",
        "vat_category": vat_category,
        "vat_rate": vat_rate,
        "reason": "because",
        "reason_code": "",
    }


@settings(deadline=None, max_examples=50)
@given(extended())
def test_refunds_of_an_order_with_allowances_add_up_to_its_invoice(split: Split) -> None:
    invoice = price(split.order)
    assert isinstance(invoice, Priced)
    credits = [
        credit(split.order, of_pieces(before), of_pieces(now))
        for before, now in zip(befores(split.refunds), split.refunds, strict=True)
    ]
    assert sum(each.net_minor for each in credits) == invoice.net_minor
    assert sum(each.tax_minor for each in credits) == invoice.tax_minor
    due = left_to_credit(split.order, [each.per_rate for each in credits])
    assert set(due.values()) == {(0, 0)}


@settings(deadline=None, max_examples=50)
@given(extended())
def test_each_credit_note_of_such_an_order_is_one_that_can_be_issued(split: Split) -> None:
    for before, now in zip(befores(split.refunds), split.refunds, strict=True):
        if credit(split.order, of_pieces(before), of_pieces(now)).gross_minor < 0:
            continue
        note = of_lines(split.order, credit(split.order, of_pieces(before), of_pieces(now)), "R-1", "why", 0)
        assert isinstance(check(note), Priced), check(note)
        told = encode(catalog.CREDIT_NOTE_ISSUED, issued_of(note))
        assert list(check_credit(decode(told, catalog.CREDIT_NOTE_ISSUED, bytes_max=10**7)[1])) == []
        payload = encode(catalog.CREDIT_NOTE_REQUEST, note)
        assert isinstance(check(decode(payload, catalog.CREDIT_NOTE_REQUEST, bytes_max=10**7)[1]), Priced)


@settings(deadline=None, max_examples=60)
@given(extended() | splits(), st.data())
def test_credits_of_lines_and_amounts_never_exceed_the_invoice_and_all_of_them_are_it(
    split: Split, data: st.DataObject
) -> None:
    """Whatever is asked for in whatever order; what is refused changes nothing."""
    invoice = price(split.order)
    assert isinstance(invoice, Priced)
    whole = quantities(split.order)
    given_back: list[Given] = []
    parts = st.dictionaries(st.integers(0, len(whole)), st.integers(1, 4 * 10**6), min_size=1, max_size=3)
    asks = st.builds(Wanted, parts) | st.builds(
        lambda amount: Wanted({}, amount), st.sampled_from(["0.01", "3", "250"])
    )
    for wanted in [*data.draw(st.lists(asks, max_size=6)), Wanted({})]:
        decided = decide_credit(split.order, given_back, wanted, "R-1", "why", 0)
        if isinstance(decided, Refusal):
            assert decided.reason in (CREDIT_TOO_LARGE, INVALID_FIELD)
            continue
        totals = decided.note["totals"]
        if wanted.amount:
            assert totals["gross_minor"] == minor(wanted.amount, split.order["currency"])
        given_back.append(Given({} if wanted.amount else decided.lines, totals["per_rate"]))
        left = left_to_credit(split.order, [each.per_rate for each in given_back])
        assert sum(taxable + tax for taxable, tax in left.values()) >= 0
        if totals["net_minor"] >= 0:
            assert isinstance(check(decided.note), Priced), check(decided.note)
            told = encode(catalog.CREDIT_NOTE_ISSUED, issued_of(decided.note))
            assert list(check_credit(decode(told, catalog.CREDIT_NOTE_ISSUED, bytes_max=10**7)[1])) == []
    for place, quantity in enumerate(whole):
        assert sum(each.lines.get(place, 0) for each in given_back) <= quantity
    # The last asked for all that is left.
    left = left_to_credit(split.order, [each.per_rate for each in given_back])
    assert sum(taxable + tax for taxable, tax in left.values()) == 0
