"""An invoice's PDF as ReportLab's manual lays one out: Platypus, a table, and the fonts that every viewer has."""

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import getSampleStyleSheet
from reportlab.platypus import Paragraph, SimpleDocTemplate, Spacer, Table

from benchmarks.peers.shop import exponent, totals

_STYLES = getSampleStyleSheet()


def store(folder: Path, body: Mapping[str, Any], number: int) -> None:
    """Render the PDF and write it; it survives a power failure when this returns."""
    path = folder / f"{number:08d}.pdf"
    with path.open("wb") as file:
        file.write(_render(body, number))
        file.flush()
        os.fsync(file.fileno())
    directory = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _render(body: Mapping[str, Any], number: int) -> bytes:
    buyer, amounts, currency = body["buyer"], totals(body), body["currency"]
    address = buyer["address"]
    lines = [["Article", "Quantity", "Price", "VAT"]]
    lines += [[each["description"], each["quantity"], each["unit_price"], each["vat_rate"]] for each in body["lines"]]
    sums = [["Net", _amount(amounts.net_minor, currency)]]
    sums += [[f"VAT {rate}%", _amount(tax, currency)] for rate, tax in amounts.taxes_minor.items()]
    sums += [["Total", f"{_amount(amounts.gross_minor, currency)} {currency}"]]
    where = ", ".join((address["street"], address["postal_code"], address["city"], address["country"]))
    pages = io.BytesIO()
    SimpleDocTemplate(pages, pagesize=A4, title=f"Invoice {number}").build(
        [
            Paragraph(f"Invoice {number}", _STYLES["Title"]),
            Paragraph(escape(f"Order {body['order_id']}"), _STYLES["Normal"]),
            Paragraph(escape(buyer["name"]), _STYLES["Normal"]),
            Paragraph(escape(where), _STYLES["Normal"]),
            Spacer(1, 12),
            Table(lines),
            Spacer(1, 12),
            Table(sums, hAlign="RIGHT"),
        ]
    )
    return pages.getvalue()


def _amount(minor: int, currency: str) -> str:
    digits = exponent(currency)
    return f"{minor / 10**digits:.{digits}f}"
