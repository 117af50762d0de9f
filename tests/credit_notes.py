"""`CreditNoteRequest` records for tests, as refunds ask for them."""

from collections.abc import Mapping

from domain.credit import credit
from domain.records import CreditNoteRequest, InvoiceRequest


def credit_note_request(
    order: InvoiceRequest, refund_id: str, now: Mapping[int, int], before: Mapping[int, int] | None = None
) -> CreditNoteRequest:
    """Credit `now` pieces by line of `order`, after `before` pieces were credited."""
    credited = credit(order, before or {}, now)
    return {
        "received_at": 0,
        "seller_id": order["seller_id"],
        "order_id": order["order_id"],
        "refund_id": refund_id,
        "reason": "arrived broken",
        "currency": order["currency"],
        "note": order["note"],
        "buyer": order["buyer"],
        "lines": [
            {**order["lines"][each.line], "quantity": str(each.quantity), "net_minor": each.net_minor}
            for each in credited.lines
        ],
        "totals": {
            "net_minor": credited.net_minor,
            "tax_minor": credited.tax_minor,
            "gross_minor": credited.gross_minor,
            "per_rate": list(credited.per_rate),
        },
    }
