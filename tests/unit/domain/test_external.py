"""Credit notes of invoices that were issued elsewhere: what they say, and what they must name."""

from typing import Any

import pytest

from domain.external import credit_external, external_invoice
from domain.invoice import price
from domain.records import CreditNoteRequest, InvoiceDetails, InvoiceRequest
from domain.refusals import INVALID_FIELD, Refusal
from tests.property.test_credit import NO_DETAILS
from tests.unit.domain.test_invoice import line, request

NAMED = {"number": "2025-00417", "issue_date": "2025-12-01"}


def details(**changes: Any) -> InvoiceDetails:
    return {**NO_DETAILS, "preceding_invoices": [NAMED], **changes}  # type: ignore[typeddict-item]


def asked(its: InvoiceDetails | None, **changes: Any) -> InvoiceRequest:
    return request(
        **{"lines": [line(), line(sku="HOUR", quantity="24.5", unit_price="80.005")], **changes, "details": its}
    )


def note(asked_for: InvoiceRequest) -> CreditNoteRequest:
    made = credit_external(asked_for, "CR-1", "broken")
    assert not isinstance(made, Refusal), made
    return made[0]


def test_it_amounts_to_what_an_invoice_would() -> None:
    """Also with prices that hold the tax, and with allowances."""
    allowance = {
        "amount": "3.33", "percent": "", "base_amount": "", "vat_category": "S", "vat_rate": "20.00",
        "reason": "Late", "reason_code": "",
    }  # fmt: skip
    for its in (details(), details(prices_include_tax=True), details(allowances=[allowance])):
        made, exact = note(asked(its)), price(asked(its))
        assert not isinstance(exact, Refusal)
        assert tuple(each["net_minor"] for each in made["lines"]) == exact.nets_minor
        totals = made["totals"]
        assert (totals["net_minor"], totals["tax_minor"], totals["gross_minor"]) == (
            exact.net_minor, exact.tax_minor, exact.gross_minor
        )  # fmt: skip
        assert (made["refund_id"], made["reason"], external_invoice(made)) == ("CR-1", "broken", NAMED)


@pytest.mark.parametrize(
    ("its", "field"),
    [
        (None, "preceding_invoices"),
        (details(preceding_invoices=[]), "preceding_invoices"),
        (details(preceding_invoices=[NAMED, {**NAMED, "number": "2"}]), "preceding_invoices"),
        (details(preceding_invoices=[{**NAMED, "issue_date": ""}]), "preceding_invoices[0].issue_date"),
        (details(preceding_invoices=[{**NAMED, "issue_date": "soon"}]), "preceding_invoices[0].issue_date"),
        (details(preceding_invoices=[{**NAMED, "number": ""}]), "preceding_invoices[0].number"),
        (details(prepaid_amount="1.00"), "prepaid_amount"),
        (details(rounding_amount="0.01"), "rounding_amount"),
    ],
)
def test_it_names_one_invoice_with_its_date_and_says_nothing_of_what_is_to_be_paid(
    its: InvoiceDetails | None, field: str
) -> None:
    refusal = credit_external(asked(its), "CR-1", "")
    assert isinstance(refusal, Refusal)
    assert (refusal.reason, refusal.field) == (INVALID_FIELD, field)


def test_what_is_taken_back_is_positive() -> None:
    refusal = credit_external(asked(details(), lines=[line(), line(quantity="-5")]), "CR-1", "")
    assert isinstance(refusal, Refusal)
