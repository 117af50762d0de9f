"""What the benchmarks' peers compute and draw is what ours does: else they would be measured at less work."""

from pathlib import Path
from typing import Any, cast

from pypdf import PdfReader

from benchmarks.peers.page import store
from benchmarks.peers.shop import totals
from domain.invoice import Priced, price
from domain.records import Buyer, InvoiceRequest
from producers.generate import bodies


def test_totals_are_those_of_the_product() -> None:
    for body in bodies(300, seed=5):
        priced = price(_request(body))
        assert isinstance(priced, Priced)
        found = totals(body)
        amounts = (priced.net_minor, priced.tax_minor, priced.gross_minor)
        assert (found.net_minor, found.tax_minor, found.gross_minor) == amounts, body


def test_half_a_minor_unit_is_rounded_up_in_a_line_and_in_a_tax() -> None:
    line = {"quantity": "1", "unit_price": "0.125", "vat_rate": "50.00"}
    found = totals({"currency": "EUR", "lines": [line, line]})
    assert found.net_minor == 26
    assert found.tax_minor == 13
    assert totals({"currency": "EUR", "lines": [line]}).tax_minor == 7


def test_the_page_has_what_the_buyer_must_see(tmp_path: Path) -> None:
    body = next(each for each in bodies(50, seed=5) if each["currency"] == "EUR" and each["buyer"]["name"].isascii())
    store(tmp_path, body, 17)
    [path] = tmp_path.iterdir()
    assert path.name == "00000017.pdf"
    text = PdfReader(path).pages[0].extract_text()
    gross = f"{totals(body).gross_minor / 100:.2f} EUR"
    for seen in ("Invoice 17", f"Order {body['order_id']}", body["buyer"]["name"], gross):
        assert seen in text, seen
    assert text.count("VAT") >= 2


def _request(body: dict[str, Any]) -> InvoiceRequest:
    return {
        "received_at": 0,
        "seller_id": "demo",
        "order_id": body["order_id"],
        "kind": "invoice",
        "currency": body["currency"],
        "note": body.get("note"),
        "buyer": cast("Buyer", {"vat_id": None, **body["buyer"]}),
        "lines": body["lines"],
    }
