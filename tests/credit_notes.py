"""`CreditNoteRequest` records for tests, as refunds ask for them."""

from collections.abc import Mapping

from domain.credit import credit, quantity_text
from domain.money import SCALE
from domain.records import CreditNoteRequest, InvoiceRequest


def credit_note_request(
    order: InvoiceRequest, refund_id: str, now: Mapping[int, int], before: Mapping[int, int] | None = None
) -> CreditNoteRequest:
    """Credit `now` pieces by line of `order`, after `before` pieces were credited."""
    credited = credit(order, of_pieces(before or {}), of_pieces(now))
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
            {**order["lines"][each.line], "quantity": quantity_text(each.quantity), "net_minor": each.net_minor}
            for each in credited.lines
        ],
        "totals": {
            "net_minor": credited.net_minor,
            "tax_minor": credited.tax_minor,
            "gross_minor": credited.gross_minor,
            "per_rate": list(credited.per_rate),
        },
    }


def of_pieces(pieces: Mapping[int, int]) -> dict[int, int]:
    """Pieces by line as quantities in 10^-6."""
    return {line: quantity * SCALE for line, quantity in pieces.items()}
