"""What an invoice request must be, and what it amounts to."""

from typing import Any, cast

import pytest

from domain.invoice import LINES_MAX, Priced, compare_claims, price
from domain.records import Address, InvoiceRequest, RequestedLine
from domain.refusals import INVALID_FIELD, NEGATIVE_TOTAL, TOTALS_DISAGREE, Refusal


def line(**changes: str) -> RequestedLine:
    made: RequestedLine = {
        "sku": "S-1",
        "description": "Café crème",
        "quantity": "2",
        "unit_price": "19.99",
        "vat_rate": "20.00",
        "vat_category": "S",
    }
    return cast(RequestedLine, {**made, **changes})


def request(**changes: Any) -> InvoiceRequest:
    address: Address = {"street": "1 Main St", "city": "Lyon", "postal_code": "69001", "country": "FR"}
    made: InvoiceRequest = {
        "received_at": 0,
        "seller_id": "demo",
        "order_id": "A-1001",
        "kind": "invoice",
        "currency": "EUR",
        "note": None,
        "buyer": {"name": "Zoë O'Neil", "email": "zoe@example.com", "vat_id": None, "address": address},
        "lines": [line()],
    }
    return cast(InvoiceRequest, {**made, **changes})


def priced(**changes: Any) -> Priced:
    result = price(request(**changes))
    assert isinstance(result, Priced), result
    return result


def refused(**changes: Any) -> Refusal:
    result = price(request(**changes))
    assert isinstance(result, Refusal), result
    return result


def test_totals_are_summed_from_rounded_lines() -> None:
    result = priced()
    assert (result.net_minor, result.tax_minor, result.gross_minor) == (3998, 800, 4798)


def test_tax_is_rounded_once_per_rate_and_not_per_line() -> None:
    # 3 x 0.33 at 20%: per line 0.066 -> 0.07 x 3 = 0.21; once: 0.99 x 20% = 0.198 -> 0.20.
    result = priced(lines=[line(quantity="1", unit_price="0.33")] * 3)
    assert result.tax_minor == 20


def test_each_category_and_rate_has_its_own_total() -> None:
    result = priced(lines=[line(), line(vat_rate="5.5"), line(vat_rate="5.50"), line(vat_category="AE", vat_rate="0")])
    assert [(total["vat_category"], total["vat_rate"], total["taxable_minor"]) for total in result.per_rate] == [
        ("AE", "0.00", 3998),
        ("S", "5.50", 7996),
        ("S", "20.00", 3998),
    ]


def test_a_currency_without_minor_units_is_rounded_to_whole_ones() -> None:
    result = priced(currency="JPY", lines=[line(quantity="1", unit_price="99.5")])
    assert (result.net_minor, result.tax_minor) == (100, 20)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"currency": "XYZ"}, "currency"),
        ({"currency": "eur"}, "currency"),
        ({"order_id": ""}, "order_id"),
        ({"order_id": "x" * 65}, "order_id"),
        ({"order_id": "a\nb"}, "order_id"),
        ({"order_id": ".."}, "order_id"),
        ({"kind": "receipt"}, "kind"),
        ({"note": "x" * 2001}, "note"),
        ({"note": "nul\0"}, "note"),
        ({"lines": []}, "lines"),
        ({"lines": [line()] * (LINES_MAX + 1)}, "lines"),
        ({"lines": [line(), line(vat_category="X")]}, "lines[1].vat_category"),
        ({"lines": [line(vat_category="AE")]}, "lines[0].vat_rate"),
        ({"lines": [line(vat_rate="0")]}, "lines[0].vat_rate"),
        ({"lines": [line(vat_rate="100.01")]}, "lines[0].vat_rate"),
        ({"lines": [line(vat_rate="19.99999")]}, "lines[0].vat_rate"),
        ({"lines": [line(quantity="NaN")]}, "lines[0].quantity"),
        ({"lines": [line(quantity="0")]}, "lines[0].quantity"),
        ({"lines": [line(unit_price="-1")]}, "lines[0].unit_price"),
        ({"lines": [line(quantity="999999999999", unit_price="999999999999")]}, "lines[0]"),
        ({"lines": [line(description=" ")]}, "lines[0].description"),
    ],
)
def test_a_broken_rule_is_refused_and_names_its_field(changes: dict[str, Any], field: str) -> None:
    refusal = refused(**changes)
    assert (refusal.reason, refusal.field) == (INVALID_FIELD, field)
    assert refusal.detail


@pytest.mark.parametrize(
    ("path", "value"),
    [("name", " "), ("name", "x" * 201), ("email", "zoe"), ("vat_id", "x" * 33), ("email", "a\0@b")],
)
def test_a_buyer_that_cannot_be_invoiced_is_refused(path: str, value: str) -> None:
    result = price(request(buyer={**request()["buyer"], path: value}))
    assert isinstance(result, Refusal)
    assert result.field == f"buyer.{path}"


def test_a_negative_total_is_refused_but_a_negative_line_is_not() -> None:
    assert refused(lines=[line(quantity="-1")]).reason == NEGATIVE_TOTAL
    assert priced(lines=[line(), line(quantity="-1")]).net_minor == 1999


def test_the_same_content_has_the_same_digest_however_its_decimals_are_written() -> None:
    assert priced().content_sha256 == priced(received_at=99).content_sha256
    assert priced().content_sha256 == priced(lines=[line(quantity="2.0", unit_price="19.990")]).content_sha256


@pytest.mark.parametrize(
    "changes",
    [{"note": "x"}, {"currency": "USD"}, {"lines": [line(sku="S-2")]}, {"lines": [line()] * 2}, {"order_id": "A-2"}],
)
def test_other_content_has_another_digest(changes: dict[str, Any]) -> None:
    assert priced().content_sha256 != priced(**changes).content_sha256


def test_totals_sent_along_must_agree() -> None:
    result = priced()
    assert compare_claims(result, {"totals.net": "39.98", "totals.gross": "47.980"}, "EUR") is None
    refusal = compare_claims(result, {"totals.tax": "7.99"}, "EUR")
    assert refusal is not None
    assert (refusal.reason, refusal.field) == (TOTALS_DISAGREE, "totals.tax")
    assert "8.00" in refusal.detail
