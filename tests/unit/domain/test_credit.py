"""What a credit note says, and which requests for one add up."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from domain.credit import CANCELLATION, check, check_asked_refund_id, check_refund_id, credit, found_refund_id, is_found
from domain.invoice import Priced
from domain.records import CreditNoteRequest
from domain.refusals import INVALID_FIELD, TOTALS_DISAGREE, Refusal
from tests.credit_notes import credit_note_request, of_pieces
from tests.unit.domain.test_invoice import line, request

ORDER = request(
    lines=[
        line(quantity="3", unit_price="0.335"),
        line(quantity="2", unit_price="1.10", vat_rate="5.50"),
        line(quantity="5", unit_price="0.00", vat_rate="0.00", vat_category="Z"),
    ]
)


def asked() -> CreditNoteRequest:
    """A request for two pieces of the first line and one of the second."""
    return copy.deepcopy(credit_note_request(ORDER, "R-1", {0: 2, 1: 1}))


def checked(body: CreditNoteRequest) -> Priced:
    result = check(body)
    assert isinstance(result, Priced), result
    return result


def test_each_credit_is_the_difference_to_what_was_credited_before() -> None:
    """3 x 0.335 = 1.005 makes 1.01: 0.34 + 0.33 + 0.34, where each by itself would be 0.34."""
    nets = [credit(ORDER, of_pieces({0: before}), of_pieces({0: 1})).net_minor for before in range(3)]
    assert nets == [34, 33, 34]


def test_a_credit_names_only_the_lines_and_rates_it_has_pieces_of() -> None:
    """Other lines were perhaps credited before: they are no part of this one."""
    part = credit(ORDER, of_pieces({0: 3}), of_pieces({0: 0, 1: 2}))
    assert [(each.line, each.quantity, each.net_minor) for each in part.lines] == [(1, 2_000_000, 220)]
    assert list(part.per_rate) == [{"vat_category": "S", "vat_rate": "5.50", "taxable_minor": 220, "tax_minor": 12}]
    assert part.gross_minor == 232


def test_a_request_that_adds_up_is_taken_as_it_stands() -> None:
    """Its amounts are its own, not recomputed: 0.33 for one piece at 0.335 is right where 0.34 went before."""
    body = credit_note_request(ORDER, "R-2", {0: 1}, {0: 1})
    result = checked(body)
    assert result.nets_minor == (33,)
    assert (result.net_minor, result.tax_minor, result.gross_minor) == (33, 6, 39)


def _changed(path: str, value: object) -> CreditNoteRequest:
    body = asked()
    _change(path, value)(body)
    return body


def test_the_digest_is_of_all_it_says_and_of_nothing_else() -> None:
    """When it was asked for is no part of it."""
    digest = checked(asked()).content_sha256
    assert checked(_changed("received_at", 99)).content_sha256 == digest
    others: list[CreditNoteRequest] = [
        {**asked(), "refund_id": CANCELLATION},
        _changed("reason", "other"),
        _changed("note", "other"),
        credit_note_request(ORDER, "R-1", {0: 2, 1: 2}),
        # The same piece, with and without the cent.
        credit_note_request(ORDER, "R-1", {0: 1}, {0: 0}),
        credit_note_request(ORDER, "R-1", {0: 1}, {0: 1}),
    ]
    assert len({digest, *(checked(each).content_sha256 for each in others)}) == 7


def _change(path: str, value: object) -> Callable[[CreditNoteRequest], None]:
    def apply(body: CreditNoteRequest) -> None:
        *parents, last = path.split(".")
        at: Any = body
        for each in parents:
            at = at[int(each) if each.isdigit() else each]
        at[last] = value

    return apply


def _repeat_a_rate(body: CreditNoteRequest) -> None:
    per_rate = body["totals"]["per_rate"]
    per_rate[1] = per_rate[0]


_WRONG: dict[str, tuple[Callable[[CreditNoteRequest], object], str, str]] = {
    "a line's net": (_change("lines.0.net_minor", 68), TOTALS_DISAGREE, "lines[0].net_minor"),
    "a line's net below": (_change("lines.0.net_minor", 66), TOTALS_DISAGREE, "lines[0].net_minor"),
    "a negative quantity": (_change("lines.0.quantity", "-2"), INVALID_FIELD, "lines[0].quantity"),
    "a quantity that is none": (_change("lines.0.quantity", "two"), INVALID_FIELD, "lines[0].quantity"),
    "no lines": (_change("lines", []), INVALID_FIELD, "lines"),
    "a rate too few": (
        lambda body: body["totals"]["per_rate"].pop(),
        TOTALS_DISAGREE,
        "totals.per_rate",
    ),
    "a rate twice": (_repeat_a_rate, TOTALS_DISAGREE, "totals.per_rate[1]"),
    "a rate of no line": (_change("totals.per_rate.0.vat_rate", "7.00"), TOTALS_DISAGREE, "totals.per_rate[0]"),
    "a rate's taxable": (
        _change("totals.per_rate.0.taxable_minor", 1),
        TOTALS_DISAGREE,
        "totals.per_rate[0].taxable_minor",
    ),
    "a rate's tax": (_change("totals.per_rate.1.tax_minor", 15), TOTALS_DISAGREE, "totals.per_rate[1].tax_minor"),
    "the net": (_change("totals.net_minor", 1), TOTALS_DISAGREE, "totals.net_minor"),
    "the tax": (_change("totals.tax_minor", 1), TOTALS_DISAGREE, "totals.tax_minor"),
    "the gross": (_change("totals.gross_minor", 1), TOTALS_DISAGREE, "totals.gross_minor"),
    "the refund's id": (_change("refund_id", "a\0b"), INVALID_FIELD, "refund_id"),
    "the currency": (_change("currency", "XXX"), INVALID_FIELD, "currency"),
    "the buyer": (_change("buyer.name", ""), INVALID_FIELD, "buyer.name"),
}


@pytest.mark.parametrize("what", _WRONG)
def test_a_request_that_does_not_add_up_is_refused_where_it_is_wrong(what: str) -> None:
    change, reason, field = _WRONG[what]
    body = asked()
    checked(body)
    change(body)
    result = check(body)
    assert isinstance(result, Refusal)
    assert (result.reason, result.field) == (reason, field)


def test_nothing_is_credited_for_what_cost_nothing() -> None:
    """A tolerance of a cent must not make one of nothing, nor a tax where the rate is 0."""
    body = copy.deepcopy(credit_note_request(ORDER, "R-1", {2: 5}))
    assert checked(body).gross_minor == 0
    body["lines"][0]["net_minor"] = body["totals"]["per_rate"][0]["taxable_minor"] = 1
    body["totals"]["net_minor"] = body["totals"]["gross_minor"] = 1
    assert isinstance(check(body), Refusal)
    body = copy.deepcopy(credit_note_request(ORDER, "R-1", {2: 5}))
    body["totals"]["per_rate"][0]["tax_minor"] = 1
    body["totals"]["tax_minor"] = body["totals"]["gross_minor"] = 1
    assert isinstance(check(body), Refusal)


@pytest.mark.parametrize("refund_id", ["", "x" * 41, "a\nb", "a\x1eb", "\ud800"])
def test_a_refund_id_that_cannot_be_stored_or_told_apart_is_refused(refund_id: str) -> None:
    assert check_refund_id(refund_id) is not None


@pytest.mark.parametrize("refund_id", ["r", "x" * 40, "Retour n° 7", CANCELLATION])
def test_any_other_refund_id_is_taken(refund_id: str) -> None:
    assert check_refund_id(refund_id) is None


@pytest.mark.parametrize(
    ("provider_refund", "refund_id"),
    [
        ("re_3NfPV8LkdIwHu7ix0fvTnRjc", "provider.re_3NfPV8LkdIwHu7ix0fvTnRjc"),
        ("x" * 31, "provider." + "x" * 31),
        # What is longer, or can't stand in a URL, is found by its digest.
        ("x" * 32, "provider.c62e4615bd39e222572f3a1bf7c2132"),
        ("a/b", "provider.c14cddc033f64b9dea80ea675cf280a"),
    ],
)
def test_a_refund_made_at_the_provider_has_an_id_that_nobody_may_ask_for(provider_refund: str, refund_id: str) -> None:
    assert found_refund_id(provider_refund) == refund_id
    assert is_found(refund_id)
    assert check_refund_id(refund_id) is None
    refusal = check_asked_refund_id(refund_id)
    assert refusal is not None
    assert "refund made at the payment provider" in refusal.detail
    assert check_asked_refund_id("R-provider.1") is None
