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
)
from schemas import catalog
from schemas.codec import encode
from sinks.postgres.invoices import InvoiceRow
from sinks.postgres.sellers import SellerRow
from streams.engine.batch import Batch

#: The template that documents of new invoices and credit notes are made with. Raise it no sooner than a release after
#: the documents agent has it: one of the release before makes dead letters of what it can't print.
TEMPLATE_VERSION = 1


@dataclass(frozen=True, slots=True)
class PricedRequest:
    """A decoded and priced request, and where it stands. A credit note's amounts are those it asks for, checked."""

    content: Content
    body: InvoiceRequest | CreditNoteRequest
    priced: Priced


def issued(
    request: PricedRequest, seller: SellerRow, row: InvoiceRow, issue_date: date, preceding: str | None
) -> bytes:
    """`InvoiceIssued`, or `CreditNoteIssued` where there is a preceding invoice: its number as printed."""
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
        "seller": {
            "legal_name": seller.legal_name,
            "vat_id": seller.vat_id,
            "address": {
                "street": seller.street,
                "city": seller.city,
                "postal_code": seller.postal_code,
                "country": seller.country,
            },
            "logo_sha256": seller.logo_sha256,
        },
        "lines": [
            {**line, "net_minor": net}
            for line, net in zip(with_plain_zeros(body["lines"]), priced.nets_minor, strict=True)
        ],
        "totals": {
            "net_minor": priced.net_minor,
            "tax_minor": priced.tax_minor,
            "gross_minor": priced.gross_minor,
            "per_rate": list(priced.per_rate),
        },
        "template_version": TEMPLATE_VERSION,
    }
    if preceding is None or "refund_id" not in body:
        return encode(catalog.INVOICE_ISSUED, cast(InvoiceIssued, event))
    event["preceding_invoice_number"] = preceding
    return encode(catalog.CREDIT_NOTE_ISSUED, cast(CreditNoteIssued, event))


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
