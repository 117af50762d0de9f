"""Looks up an order's invoice, or a refund's credit note, by identity."""

from collections.abc import Collection
from typing import NamedTuple

from audit import statements
from audit.snapshot import Snapshot
from domain.issuing import InvoiceIdentity


class IssuedInvoice(NamedTuple):
    """An invoice or credit note: content and position of its request, and its printed number."""

    content_sha256: bytes
    partition: int
    offset: int
    invoice_number: str


def invoices_of(snapshot: Snapshot, keys: Collection[InvoiceIdentity]) -> dict[InvoiceIdentity, IssuedInvoice]:
    """The invoices and credit notes by identity; those not issued are absent."""
    if not keys:
        return {}
    names = ("seller_ids", "order_ids", "kinds", "refund_ids")
    columns = {name: list(column) for name, column in zip(names, zip(*set(keys), strict=True), strict=True)}
    rows = snapshot.rows(statements.INVOICES_BY_ORDER, **columns)
    return {
        InvoiceIdentity(seller, order, kind, refund): IssuedInvoice(*standing)
        for seller, order, kind, refund, *standing in rows
    }
