"""The events of the invoices agent, encoded."""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, cast

from domain.invoice import Priced, with_plain_zeros
from domain.issuing import Conflict, Content
from domain.moments import micros
from domain.records import (
    CreditNoteIssued,
    CreditNoteRequest,
    InvoiceIssued,
    InvoiceRequest,
    InvoiceRequestConflicted,
    InvoiceRequestRejected,
    Seller,
)
from schemas import catalog
from schemas.codec import encode
from sinks.postgres.invoices import InvoiceRow
from sinks.postgres.sellers import SellerRow
from streams.engine.batch import Batch

#: The template that documents of new invoices and credit notes are made with. Raise it no sooner than a release after
#: the documents agent has it: one of the release before makes dead letters of what it can't print.
TEMPLATE_VERSION = 2


@dataclass(frozen=True, slots=True)
class PricedRequest:
    """A decoded and priced request, and where it stands. A credit note's amounts are those it asks for, checked."""

    content: Content
    body: InvoiceRequest | CreditNoteRequest
    priced: Priced


def issued(
    request: PricedRequest,
    seller: SellerRow,
    row: InvoiceRow,
    issue_date: date,
    preceding: tuple[str, str] | None,
    *,
    is_paid: bool,
) -> bytes:
    """`InvoiceIssued`, or `CreditNoteIssued` where there is a preceding invoice: its number as printed, and its date.

    `is_paid` if an order asked for it: for its invoice once the payment is known, for a refund's credit note once the
    money has moved.
    """
    body, priced = request.body, request.priced
    event: dict[str, Any] = {
        # With the fields that requests gain, as far as its schema has them: the event says all that was asked for.
        **body,
        "kind": row.kind,
        "series_id": row.series_id,
        "number": row.number,
        "invoice_number": row.invoice_number,
        "issued_at": micros(row.issued_at),
        "issue_date": issue_date.isoformat(),
        "seller": _seller(seller, issue_date, is_untaxed=_is_untaxed(body)),
        "lines": [
            {**line, "net_minor": net}
            for line, net in zip(with_plain_zeros(body["lines"]), priced.nets_minor, strict=True)
        ],
        "totals": {
            "net_minor": priced.net_minor,
            "tax_minor": priced.tax_minor,
            "gross_minor": priced.gross_minor,
            "per_rate": list(priced.per_rate),
            "details": priced.details,
        },
        "paid_on": issue_date.isoformat() if is_paid else "",
        "template_version": TEMPLATE_VERSION,
    }
    if preceding is None or "refund_id" not in body:
        return encode(catalog.INVOICE_ISSUED, cast(InvoiceIssued, event))
    event["preceding_invoice_number"], event["preceding_issue_date"] = preceding
    return encode(catalog.CREDIT_NOTE_ISSUED, cast(CreditNoteIssued, event))


def _is_untaxed(body: InvoiceRequest | CreditNoteRequest) -> bool:
    """Whether it is not subject to VAT: then it names no VAT identifier (BR-O-02)."""
    return all(line["vat_category"] == "O" for line in body["lines"])


def _seller(row: SellerRow, issue_date: date, *, is_untaxed: bool) -> Seller:
    """The seller as it is now, with what it says on all of its invoices."""
    seller: Seller = {
        "legal_name": row.legal_name,
        "vat_id": None if is_untaxed else row.vat_id,
        "address": {
            "street": row.street,
            "city": row.city,
            "postal_code": row.postal_code,
            "country": row.country,
        },
        "logo_sha256": row.logo_sha256,
    }
    if not row.says_more:
        return seller
    seller |= {
        "details": row.details,
        "tax_number": row.tax_number,
        "tax_name": row.tax_name,
        "colour": row.colour,
        "payment": row.payment(issue_date),
        "language": row.language,
        "note": row.note,
    }
    return seller


def rejected(batch: Batch, content: Content, reason: str, detail: str, now: datetime) -> bytes:
    """`InvoiceRequestRejected`."""
    key = content.key
    value: InvoiceRequestRejected = {
        "seller_id": key.seller_id,
        "order_id": key.order_id,
        "kind": key.kind,
        "source_topic": batch.topic,
        "source_partition": batch.partition,
        "source_offset": content.offset,
        "reason": reason,
        "detail": detail,
        "occurred_at": micros(now),
    }
    return encode(catalog.INVOICE_REQUEST_REJECTED, value)


def conflicted(batch: Batch, conflict: Conflict, now: datetime) -> bytes:
    """`InvoiceRequestConflicted`."""
    content, key = conflict.content, conflict.content.key
    value: InvoiceRequestConflicted = {
        "seller_id": key.seller_id,
        "order_id": key.order_id,
        "kind": key.kind,
        "source_topic": batch.topic,
        "source_partition": batch.partition,
        "source_offset": content.offset,
        "content_sha256": content.content_sha256.hex(),
        "first_content_sha256": conflict.first_content_sha256.hex(),
        "occurred_at": micros(now),
    }
    return encode(catalog.INVOICE_REQUEST_CONFLICTED, value)
