"""The rules of a batch, against the plainest statement of what they mean."""

from decimal import ROUND_HALF_UP, Decimal

from hypothesis import given
from hypothesis import strategies as st

from domain.invoice import Priced, price
from domain.issuing import CREDIT_NOTE, INVOICE, Content, InvoiceIdentity, decide
from domain.position import Standing, standing
from tests.unit.domain.test_invoice import line, request

KEYS = st.one_of(
    st.builds(InvoiceIdentity, st.just("demo"), st.sampled_from("abcd"), st.just(INVOICE)),
    st.builds(
        InvoiceIdentity, st.just("demo"), st.sampled_from("ab"), st.just(CREDIT_NOTE), st.sampled_from(["r", "s"])
    ),
)
CONTENTS = st.lists(st.tuples(KEYS, st.sampled_from([b"1", b"2"])), max_size=30).map(
    lambda pairs: [Content(offset, key, content) for offset, (key, content) in enumerate(pairs)]
)


@given(CONTENTS, st.dictionaries(KEYS, st.sampled_from([b"1", b"2"])))
def test_every_request_has_one_outcome_and_every_order_one_invoice(
    requests: list[Content], issued: dict[InvoiceIdentity, bytes]
) -> None:
    decision = decide(requests, issued)
    rejected = decision.not_invoiced
    assert len(decision.fresh) + len(decision.conflicts) + decision.repeats + len(rejected) == len(requests)
    fresh_keys = [content.key for content in decision.fresh]
    assert len(set(fresh_keys)) == len(fresh_keys)
    assert not set(fresh_keys) & set(issued)
    rejected_keys = {content.key for content in rejected}
    assert {content.key for content in requests} <= set(fresh_keys) | set(issued) | rejected_keys
    assert all(key.kind == CREDIT_NOTE for key in rejected_keys)


@given(CONTENTS, st.dictionaries(KEYS, st.sampled_from([b"1", b"2"])))
def test_a_credit_note_is_issued_after_its_orders_invoice_and_never_before(
    requests: list[Content], issued: dict[InvoiceIdentity, bytes]
) -> None:
    decision = decide(requests, issued)
    invoiced_at = {content.key: content.offset for content in decision.fresh} | dict.fromkeys(issued, -1)
    for content in decision.fresh:
        if content.key.kind == CREDIT_NOTE:
            assert invoiced_at[content.key.invoice] < content.offset
    for content in decision.not_invoiced:
        assert invoiced_at.get(content.key.invoice, content.offset) >= content.offset


@given(CONTENTS, st.integers(0, 30))
def test_a_batch_cut_anywhere_decides_the_same(requests: list[Content], cut: int) -> None:
    whole = decide(requests, {})
    first = decide(requests[:cut], {})
    issued = {content.key: content.content_sha256 for content in first.fresh}
    second = decide(requests[cut:], issued)
    assert first.fresh + second.fresh == whole.fresh
    assert first.conflicts + second.conflicts == whole.conflicts
    assert first.not_invoiced + second.not_invoiced == whole.not_invoiced


@given(st.integers(0, 20), st.integers(1, 20), st.integers(0, 50))
def test_a_batch_is_done_skipped_trimmed_or_early_and_nothing_else(first: int, count: int, position: int) -> None:
    expected = {
        position == first: Standing.NEXT,
        first < position < first + count: Standing.PARTLY_DONE,
        position >= first + count: Standing.DONE,
        position < first: Standing.EARLY,
    }[True]
    assert standing(first, first + count, position) is expected


AMOUNTS = st.decimals(min_value=0, max_value=99_999, places=4, allow_nan=False, allow_infinity=False)
QUANTITIES = st.decimals(min_value=-50, max_value=1_000, places=3).filter(bool)
RATES = st.decimals(min_value=1, max_value=100, places=2)


@given(st.lists(st.tuples(QUANTITIES, AMOUNTS, RATES), min_size=1, max_size=8), st.sampled_from(["EUR", "JPY", "BHD"]))
def test_totals_are_those_of_decimal_arithmetic(lines: list[tuple[Decimal, Decimal, Decimal]], currency: str) -> None:
    result = price(
        request(
            currency=currency,
            lines=[line(quantity=f"{q:f}", unit_price=f"{p:f}", vat_rate=f"{r:f}") for q, p, r in lines],
        )
    )
    exponent = Decimal(1).scaleb(-{"EUR": 2, "JPY": 0, "BHD": 3}[currency])
    taxables: dict[Decimal, Decimal] = {}
    for quantity, unit_price, rate in lines:
        net = (quantity * unit_price).quantize(exponent, ROUND_HALF_UP)
        taxables[rate] = taxables.get(rate, Decimal(0)) + net
    net_total = sum(taxables.values(), Decimal(0))
    tax_total = sum(
        ((taxable * rate / 100).quantize(exponent, ROUND_HALF_UP) for rate, taxable in taxables.items()), Decimal(0)
    )
    if net_total + tax_total < 0:
        assert not isinstance(result, Priced)
    else:
        assert isinstance(result, Priced), result
        assert Decimal(result.net_minor) * exponent == net_total
        assert Decimal(result.tax_minor) * exponent == tax_total
