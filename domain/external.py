"""Credit notes of external invoices: those that were issued elsewhere, such as before the shop moved to gapless.

gapless knows nothing of such an invoice but what the request says: its number and date (BT-25, BT-26). So the request
has all that its credit note says, and whether that much was invoiced is not checked. The record is that of any other
credit note; it names the invoice in its details, where those of refunds and credits name none.
"""

from domain import credit
from domain.invoice import Priced, price
from domain.records import CreditNoteRequest, InvoiceLine, InvoiceRequest, PrecedingInvoice, Totals
from domain.refusals import INVALID_FIELD, Refusal

#: What stands on an invoice alone: it is about what the buyer owes.
_OF_INVOICES = ("rounding_amount", "prepaid_amount", "accounting", "payment")


def external_invoice(note: CreditNoteRequest) -> PrecedingInvoice | None:
    """The external invoice that a credit note corrects; None if it corrects its order's."""
    details = note.get("details")
    named = details["preceding_invoices"] if details is not None else []
    return named[0] if named else None


def check_external(note: CreditNoteRequest) -> Refusal | None:
    """What is wrong with how an external invoice is named, and with what its credit note says besides."""
    details = note.get("details")
    named = details["preceding_invoices"] if details is not None else []
    if len(named) != 1:
        detail = "must be one: the invoice that was issued elsewhere, with its number and date"
        return Refusal(INVALID_FIELD, "preceding_invoices", detail)
    if not named[0]["issue_date"]:
        detail = "must be the date of the invoice that was issued elsewhere, such as 2026-10-31"
        return Refusal(INVALID_FIELD, "preceding_invoices[0].issue_date", detail)
    for field in _OF_INVOICES:
        if details is not None and details[field]:  # type: ignore[literal-required]
            return Refusal(INVALID_FIELD, field, "must be left out: a credit note does not say what is to be paid")
    return None


def credit_external(
    request: InvoiceRequest, credit_note_id: str, reason: str
) -> tuple[CreditNoteRequest, Priced] | Refusal:
    """The credit note that says what `request` says, with the amounts that an invoice of the same would have."""
    exact = price(request)
    if isinstance(exact, Refusal):
        return exact
    lines: list[InvoiceLine] = [
        {**line, "net_minor": net} for line, net in zip(request["lines"], exact.nets_minor, strict=True)
    ]
    totals: Totals = {
        "net_minor": exact.net_minor,
        "tax_minor": exact.tax_minor,
        "gross_minor": exact.gross_minor,
        "per_rate": list(exact.per_rate),
        "details": exact.details,
    }
    note: CreditNoteRequest = {
        "received_at": request["received_at"],
        "seller_id": request["seller_id"],
        "order_id": request["order_id"],
        "refund_id": credit_note_id,
        "reason": reason,
        "currency": request["currency"],
        "note": request["note"],
        "buyer": request["buyer"],
        "lines": lines,
        "totals": totals,
        "details": request.get("details"),
    }
    refusal = check_external(note)
    if refusal is not None:
        return refusal
    priced = credit.check(note)
    return priced if isinstance(priced, Refusal) else (note, priced)
