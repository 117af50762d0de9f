"""The events of the invoices agent, encoded."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from domain.invoice import Priced
from domain.issuing import Conflict, Content
from schemas import catalog
from schemas.codec import encode
from streams.batch import Batch
from streams.dead_letters import micros

#: The template that documents of new invoices and credit notes are made with.
TEMPLATE_VERSION = 1


@dataclass(frozen=True, slots=True)
class Request:
    """A decoded and priced request, and where it stands. A credit note's amounts are those it asks for, checked."""

    content: Content
    body: dict[str, Any]
    priced: Priced


@dataclass(frozen=True, slots=True)
class Issue:
    """A number, when it was issued, and of a credit note the invoice it corrects; both numbers as printed."""

    series_id: str
    number: int
    printed: str
    issued_at_micros: int
    issue_date: str
    preceding: str | None


def issued(request: Request, seller: Mapping[str, Any], issue: Issue) -> bytes:
    """`InvoiceIssued`, or `CreditNoteIssued` where there is a preceding invoice."""
    body, priced = request.body, request.priced
    event = {
        "seller_id": body["seller_id"],
        "order_id": body["order_id"],
        "kind": body["kind"],
        "series_id": issue.series_id,
        "number": issue.number,
        "invoice_number": issue.printed,
        "issued_at": issue.issued_at_micros,
        "issue_date": issue.issue_date,
        "currency": body["currency"],
        "note": body["note"],
        "buyer": body["buyer"],
        "seller": {
            "legal_name": seller["legal_name"],
            "vat_id": seller["vat_id"],
            "address": {name: seller[name] for name in ("street", "city", "postal_code", "country")},
            "logo_sha256": seller["logo_sha256"],
        },
        "lines": [{**line, "net_minor": net} for line, net in zip(body["lines"], priced.nets_minor, strict=True)],
        "totals": {
            "net_minor": priced.net_minor,
            "tax_minor": priced.tax_minor,
            "gross_minor": priced.gross_minor,
            "per_rate": [
                {
                    "vat_category": total.vat_category,
                    "vat_rate": total.vat_rate,
                    "taxable_minor": total.taxable_minor,
                    "tax_minor": total.tax_minor,
                }
                for total in priced.per_rate
            ],
        },
        "template_version": TEMPLATE_VERSION,
    }
    if issue.preceding is None:
        return encode(catalog.INVOICE_ISSUED, event)
    event |= {
        "refund_id": body["refund_id"],
        "reason": body["reason"],
        "preceding_invoice_number": issue.preceding,
    }
    return encode(catalog.CREDIT_NOTE_ISSUED, event)


def rejected(batch: Batch, content: Content, reason: str, detail: str, now: datetime) -> bytes:
    """`InvoiceRequestRejected`."""
    value = {**_source(batch, content), "reason": reason, "detail": detail, "occurred_at": micros(now)}
    return encode(catalog.INVOICE_REQUEST_REJECTED, value)


def conflicted(batch: Batch, conflict: Conflict, now: datetime) -> bytes:
    """`InvoiceRequestConflicted`."""
    value = {
        **_source(batch, conflict.content),
        "content_sha256": conflict.content.content_sha256.hex(),
        "first_content_sha256": conflict.first_content_sha256.hex(),
        "occurred_at": micros(now),
    }
    return encode(catalog.INVOICE_REQUEST_CONFLICTED, value)


def _source(batch: Batch, content: Content) -> dict[str, Any]:
    return {
        "seller_id": content.key.seller_id,
        "order_id": content.key.order_id,
        "kind": content.key.kind,
        "source_topic": batch.topic,
        "source_partition": batch.partition,
        "source_offset": content.offset,
    }
