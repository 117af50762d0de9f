"""`InvoiceIssued` and `CreditNoteIssued` events for tests, as the codec decodes them."""

from collections.abc import Sequence
from typing import Any, cast

from domain.money import divide_half_away, scaled
from domain.records import Address, CreditNoteIssued, InvoiceIssued, InvoiceLine, RateTotal, Totals

Line = tuple[str, str, str, str, str, str, int]

BREAKFAST: tuple[Line, ...] = (
    ("S-1", "Café crème, 250 g", "2", "19.99", "20.00", "S", 3998),
    ("S-2", "Croissant au beurre", "12", "1.10", "5.50", "S", 1320),
    ("SHIP", "Delivery", "1", "4.90", "20.00", "S", 490),
)


_LINE_FIELDS = ("sku", "description", "quantity", "unit_price", "vat_rate", "vat_category", "net_minor")


def address(street: str = "1 Main St", city: str = "Lyon", postal_code: str = "69001", country: str = "FR") -> Address:
    """A postal address."""
    return {"street": street, "city": city, "postal_code": postal_code, "country": country}


def issued(lines: Sequence[Line] = BREAKFAST, **changed: Any) -> InvoiceIssued:
    """An event with totals that add up; `changed` replaces fields, `buyer_name` and `seller_name` deeper ones."""
    items = [cast(InvoiceLine, dict(zip(_LINE_FIELDS, line, strict=True))) for line in lines]
    event: InvoiceIssued = {
        "seller_id": "acme",
        "order_id": "A-1001",
        "kind": "invoice",
        "series_id": "acme-0-invoice",
        "number": 42,
        "invoice_number": "ACME-2026-000042",
        "issued_at": 1_795_254_000_123_456,
        "issue_date": "2026-11-21",
        "currency": "EUR",
        "note": "Thank you for your order.",
        "buyer": {
            "name": changed.pop("buyer_name", "Zoë O'Neil"),
            "email": "zoe@example.com",
            "vat_id": None,
            "address": address(),
        },
        "seller": {
            "legal_name": changed.pop("seller_name", "Acme Coffee Roasters SAS"),
            "vat_id": "FR12345678901",
            "address": address("24 rue de la République", "Paris", "75001"),
            "logo_sha256": None,
        },
        "lines": items,
        "totals": _totals(items),
        "template_version": 1,
    }
    return cast(InvoiceIssued, {**event, **changed})


def described(description: str) -> InvoiceIssued:
    """An event with one line."""
    return issued([("S-1", description, "1", "1.00", "20.00", "S", 100)])


def _totals(items: Sequence[InvoiceLine]) -> Totals:
    taxable: dict[tuple[str, str], int] = {}
    for item in items:
        rate = (item["vat_category"], item["vat_rate"])
        taxable[rate] = taxable.get(rate, 0) + item["net_minor"]
    per_rate: list[RateTotal] = [
        {
            "vat_category": category,
            "vat_rate": rate,
            "taxable_minor": net,
            "tax_minor": divide_half_away(net * scaled(rate, 2), 10_000),
        }
        for (category, rate), net in sorted(taxable.items())
    ]
    net = sum(item["net_minor"] for item in items)
    tax = sum(total["tax_minor"] for total in per_rate)
    return {"net_minor": net, "tax_minor": tax, "gross_minor": net + tax, "per_rate": per_rate}


def credited(lines: Sequence[Line] = BREAKFAST, **changed: Any) -> CreditNoteIssued:
    """A `CreditNoteIssued` event with totals that add up; `changed` as for `issued`."""
    particulars = {
        "kind": "credit_note",
        "series_id": "acme.credit_note.p00",
        "number": 7,
        "invoice_number": "CN-ACME-2026-000007",
        "refund_id": "R-1",
        "preceding_invoice_number": "ACME-2026-000042",
        "reason": "The cups arrived broken.",
    }
    return cast(CreditNoteIssued, issued(lines, **{**particulars, **changed}))
