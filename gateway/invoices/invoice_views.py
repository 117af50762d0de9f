"""Invoices, their orders and their credit notes as the API shows them."""

from datetime import UTC, datetime
from typing import NotRequired, TypedDict
from urllib.parse import quote

from domain.issuing import CREDIT_NOTE
from domain.moments import moment
from domain.money import minor_text
from domain.records import InvoiceIssued, Totals
from domain.refusals import ALREADY_ORDERED
from schemas.catalog import INVOICE_EVENTS, INVOICE_ISSUED
from schemas.codec import DecodeError, decode_field
from sinks.postgres.invoices_reader import Invoice, InvoiceOutcome, RefusedCredit
from sinks.postgres.refusals_reader import RefusedRequest

ACCEPTED, ISSUED, STORED, CONFLICT, REJECTED = "accepted", "issued", "stored", "conflict", "rejected"


class InvoiceLinks(TypedDict):
    """Where the order is, and its document."""

    self: str
    document: NotRequired[str]


class AcceptedInvoice(TypedDict):
    """An accepted order without a number yet."""

    order_id: str
    status: str
    links: InvoiceLinks


class RejectedInvoice(AcceptedInvoice):
    """A rejected order, which has no number."""

    reason: str
    detail: str
    rejected_at: str


class RateView(TypedDict):
    """The totals of one VAT category and rate, as decimal texts."""

    vat_category: str
    vat_rate: str
    taxable: str
    tax: str


class InvoiceTotals(TypedDict):
    """Amounts, as decimal texts; what is due, and what leads to it, where the request says more than lines."""

    net: str
    tax: str
    gross: str
    prepaid: NotRequired[str]
    rounding: NotRequired[str]
    payable: NotRequired[str]
    per_rate: NotRequired[list[RateView]]


class DocumentView(TypedDict):
    """A document that is stored."""

    sha256: str
    size: int
    link: str


class ConflictView(TypedDict):
    """A request that used the order id with different content."""

    detail: str
    occurred_at: str


class Numbered(TypedDict):
    """The fields that invoices and credit notes share."""

    status: str
    series_id: str
    number: int
    invoice_number: str
    issued_at: str
    currency: str
    totals: InvoiceTotals
    document: DocumentView | None


class NumberView(Numbered):
    """The invoice or credit note that has a number."""

    order_id: str
    links: InvoiceLinks


class InvoiceView(NumberView):
    """An order that has its number."""

    conflicts: NotRequired[list[ConflictView]]


class CreditNoteView(Numbered):
    """A credit note; its totals are the amounts returned to the buyer. A refund's has the refund's id as its own."""

    credit_note_id: str
    refund_id: str


class AcceptedCredit(TypedDict):
    """A credit that is accepted, and not decided yet; `links` lead to the invoice's credit notes."""

    order_id: str
    credit_note_id: str
    status: str
    links: InvoiceLinks


class RejectedCredit(TypedDict):
    """A credit note that was asked for and that its invoice doesn't permit."""

    credit_note_id: str
    reason: str
    detail: str
    rejected_at: str


def path_of(order_id: str) -> str:
    """The order's resource."""
    return f"/v1/invoices/{quote(order_id, safe='')}"


def accepted(order_id: str) -> AcceptedInvoice:
    """An accepted order without a number yet."""
    return {"order_id": order_id, "status": ACCEPTED, "links": _links(order_id)}


def known(order_id: str, outcome: InvoiceOutcome, event: bytes | None) -> InvoiceView | RejectedInvoice:
    """An order that Postgres knows; `event` is the invoice's `InvoiceIssued` record, if the journal still has it."""
    invoice = outcome.invoice
    if invoice is None:
        last = outcome.refused[0]
        return {
            "order_id": order_id,
            "status": REJECTED,
            "reason": last.reason,
            "detail": last.detail,
            "rejected_at": time_text(last.occurred_at),
            "links": {"self": path_of(order_id)},
        }
    body: InvoiceView = {
        "order_id": order_id,
        "status": ISSUED if invoice.document_sha256 is None else STORED,
        "series_id": invoice.series_id,
        "number": invoice.number,
        "invoice_number": invoice.invoice_number,
        "issued_at": time_text(invoice.issued_at),
        "currency": invoice.currency,
        "totals": _totals(
            invoice.currency, invoice.net_minor, invoice.tax_minor, invoice.gross_minor, _totals_of(event)
        ),
        "document": document_of(invoice),
        "links": _links(order_id),
    }
    conflicts = [each for each in outcome.refused if each.outcome == CONFLICT or each.reason == ALREADY_ORDERED]
    if conflicts:
        body["status"] = CONFLICT
        body["conflicts"] = [_conflict(refused) for refused in conflicts]
    return body


def issued(event: InvoiceIssued) -> InvoiceView:
    """An order that has just got its number, from its `InvoiceIssued`."""
    totals, currency = event["totals"], event["currency"]
    return {
        "order_id": event["order_id"],
        "status": ISSUED,
        "series_id": event["series_id"],
        "number": event["number"],
        "invoice_number": event["invoice_number"],
        "issued_at": time_text(moment(event["issued_at"])),
        "currency": currency,
        "totals": _totals(currency, totals["net_minor"], totals["tax_minor"], totals["gross_minor"], totals),
        "document": None,
        "links": _links(event["order_id"]),
    }


def document_of(invoice: Invoice) -> DocumentView | None:
    """The invoice's document; None while it is not stored."""
    if invoice.document_sha256 is None or invoice.document_size_bytes is None:
        return None
    return {
        "sha256": invoice.document_sha256.hex(),
        "size": invoice.document_size_bytes,
        "link": _document_path(invoice),
    }


def number_of(invoice: Invoice) -> NumberView:
    """The invoice or credit note that has a number."""
    return {
        "series_id": invoice.series_id,
        "number": invoice.number,
        "invoice_number": invoice.invoice_number,
        "order_id": invoice.order_id,
        "status": ISSUED if invoice.document_sha256 is None else STORED,
        "issued_at": time_text(invoice.issued_at),
        "currency": invoice.currency,
        "totals": _totals(invoice.currency, invoice.net_minor, invoice.tax_minor, invoice.gross_minor, None),
        "document": document_of(invoice),
        "links": {"self": path_of(invoice.order_id), "document": _document_path(invoice)},
    }


def credit_note(invoice: Invoice) -> CreditNoteView:
    """A credit note; its totals are the amounts returned to the buyer."""
    return {
        "credit_note_id": invoice.refund_id,
        "refund_id": invoice.refund_id,
        "status": ISSUED if invoice.document_sha256 is None else STORED,
        "series_id": invoice.series_id,
        "number": invoice.number,
        "invoice_number": invoice.invoice_number,
        "issued_at": time_text(invoice.issued_at),
        "currency": invoice.currency,
        "totals": _totals(invoice.currency, invoice.net_minor, invoice.tax_minor, invoice.gross_minor, None),
        "document": document_of(invoice),
    }


def credit_notes_path(order_id: str) -> str:
    """Where an invoice's credit notes are."""
    return f"{path_of(order_id)}/credit-notes"


def accepted_credit(order_id: str, credit_note_id: str) -> AcceptedCredit:
    """A credit that is accepted, and not decided yet."""
    links: InvoiceLinks = {"self": credit_notes_path(order_id)}
    return {"order_id": order_id, "credit_note_id": credit_note_id, "status": ACCEPTED, "links": links}


def rejected_credit(refused: RefusedCredit) -> RejectedCredit:
    """A credit note that was asked for and that its invoice doesn't permit."""
    return {
        "credit_note_id": refused.credit_note_id,
        "reason": refused.reason,
        "detail": refused.detail,
        "rejected_at": time_text(refused.occurred_at),
    }


def credit_note_path(order_id: str, refund_id: str) -> str:
    """Where the document of a refund's credit note is."""
    return f"{credit_notes_path(order_id)}/{quote(refund_id, safe='')}/document"


def _document_path(invoice: Invoice) -> str:
    if invoice.kind == CREDIT_NOTE:
        return credit_note_path(invoice.order_id, invoice.refund_id)
    return f"{path_of(invoice.order_id)}/document"


def _links(order_id: str) -> InvoiceLinks:
    path = path_of(order_id)
    return {"self": path, "document": f"{path}/document"}


def _conflict(refused: RefusedRequest) -> ConflictView:
    return {"detail": refused.detail, "occurred_at": time_text(refused.occurred_at)}


def _totals_of(event: bytes | None) -> Totals | None:
    if event is None:
        return None
    try:
        totals: Totals = decode_field(event, INVOICE_ISSUED, "totals", bytes_max=INVOICE_EVENTS.value_bytes_max)
    except DecodeError:
        # The row's own totals are shown; the audit reports a damaged journal.
        return None
    return totals


def _totals(currency: str, net: int, tax: int, gross: int, said: Totals | None) -> InvoiceTotals:
    totals: InvoiceTotals = {
        "net": minor_text(net, currency),
        "tax": minor_text(tax, currency),
        "gross": minor_text(gross, currency),
    }
    details = None if said is None else said.get("details")
    if details is not None:
        if details["prepaid_minor"]:
            totals["prepaid"] = minor_text(details["prepaid_minor"], currency)
        if details["rounding_minor"]:
            totals["rounding"] = minor_text(details["rounding_minor"], currency)
        totals["payable"] = minor_text(details["payable_minor"], currency)
    if said is not None:
        totals["per_rate"] = [
            {
                "vat_category": rate["vat_category"],
                "vat_rate": rate["vat_rate"],
                "taxable": minor_text(rate["taxable_minor"], currency),
                "tax": minor_text(rate["tax_minor"], currency),
            }
            for rate in said["per_rate"]
        ]
    return totals


def time_text(at: datetime) -> str:
    """RFC 3339, in UTC, with microseconds."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
