"""Exports as shops and their spreadsheets write them, and what is told of each: no order and no line is lost."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner

from gapless.load import load
from producers.importers.found import Rejected, Request
from tests.unit.producers.importers.exports import INSIDE, body, priced, read, read_bytes, reason, text


def named(name: str, **columns: str) -> dict[str, str]:
    """An order of 12.10, 2.10 of them tax; columns with their spaces as low lines."""
    return {**INSIDE, "Name": name, **{column.replace("_", " "): value for column, value in columns.items()}}


TWO = text((named("#B1"), named("#B2")))


def test_an_apostrophe_stays_but_before_a_number(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        named("#A1", Billing_City="'s-Hertogenbosch", Billing_Street="'t Zand 5", Billing_Name="'Aisha Zoë"),
        named("#A2", Lineitem_name="'47 Brand Clean Up cap", Lineitem_sku="'47-CLN", Notes="'s avonds leveren"),
    )
    buyer = body(found[0])["buyer"]
    assert (buyer["name"], buyer["address"]["city"]) == ("'Aisha Zoë", "'s-Hertogenbosch")
    assert (buyer["address"]["street"], buyer["address"]["postal_code"]) == ("'t Zand 5", "69001")
    line = body(found[1])["lines"][0]
    assert line["description"] == "'47 Brand Clean Up cap"
    assert body(found[1])["note"] == "'s avonds leveren"


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf" + TWO.replace("\n", "\r\n").encode(),
        TWO.encode("cp1252"),
        text((named("#B1"), named("#B2")), separator="\t").encode("utf-16"),
        (TWO + "," * 40 + "\n").encode(),
    ],
    ids=["byte order mark and CRLF", "cp1252", "UTF-16 with tabs", "a last row of commas"],
)
def test_what_spreadsheets_save_is_read(tmp_path: Path, content: bytes) -> None:
    found = read_bytes(tmp_path, content)
    assert [body(each)["order_id"] for each in found] == ["#B1", "#B2"]
    assert [body(each)["buyer"]["name"] for each in found] == ["Zoë O'Neil"] * 2
    assert [priced(each).gross_minor for each in found] == [1210] * 2


def test_thousands_and_decimal_commas(tmp_path: Path) -> None:
    amounts = dict.fromkeys(("Subtotal", "Total", "Lineitem_price"), "1,210.00")
    (found,) = read(tmp_path, named("#B10", **amounts, Taxes="210.00", Tax_1_Value="210.00"))
    assert (priced(found).tax_minor, priced(found).gross_minor) == (21000, 121000)
    amounts = dict.fromkeys(("Subtotal", "Total", "Lineitem_price"), "12,10")
    row = named("#B11", **amounts, Taxes="2,10", Tax_1_Value="2,10")
    (found,) = read_bytes(tmp_path, text((row,), separator=";").encode())
    assert (priced(found).tax_minor, priced(found).gross_minor) == (210, 1210)


def test_rates_of_three_decimals_and_a_tax_without_a_name(tmp_path: Path) -> None:
    hundred = {"Subtotal": "100.00", "Lineitem_price": "100.00"}
    found = read(
        tmp_path,
        named("#C1", **hundred, Currency="CAD", Taxes="9.98", Total="109.98", Tax_1_Name="9.975%", Tax_1_Value="9.98"),
        named("#C2", **hundred, Currency="USD", Taxes="8.88", Total="108.88", Tax_1_Name="8.875%", Tax_1_Value="8.88"),
        named("#1286", Subtotal="558.00", Lineitem_price="558.00", Total="558.00", Taxes="93.00", Tax_1_Name="",
              Tax_1_Value=""),
    )  # fmt: skip
    assert [body(each)["lines"][0]["vat_rate"] for each in found] == ["9.975", "8.875", "20"]
    assert [priced(each).tax_minor for each in found] == [998, 888, 9300]


@pytest.mark.parametrize("options", [["--dry-run"], ["--dry-run", "--strict"]])
def test_one_bad_order_among_five(tmp_path: Path, options: list[str]) -> None:
    """Four are ready, the fifth is named with its row and reason."""
    rows = [named(f"#D{number}", **({"Email": ""} if number == 3 else {})) for number in range(1, 6)]
    file = tmp_path / "orders.csv"
    file.write_text(text(rows))
    result = CliRunner().invoke(load, ["invoices", str(file), "--json", *options], standalone_mode=False)
    told = json.loads(result.stdout)
    assert (told["orders"], told["ready"], result.return_value) == (5, 4, 1)
    (rejected,) = told["rejected"]
    assert (rejected["order_id"], rejected["row"], rejected["field"]) == ("#D3", 4, "buyer.email")
    assert "--without-email" in rejected["reason"]


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ({"Lineitem sku": "S" * 65}, "lines[0].sku"),
        ({"Notes": "x" * 2001}, "note"),
        ({"Currency": "BGN"}, "Currency"),
    ],
)
def test_what_is_too_long_or_unknown_is_refused_by_the_orders_name(
    tmp_path: Path, columns: Mapping[str, str], why: str
) -> None:
    found = read(tmp_path, {**INSIDE, "Name": "#E1", **columns}, {**INSIDE, "Name": "#E2"})
    assert isinstance(found[0], Rejected)
    assert f"#E1: {why}: " in reason(found[0])
    assert isinstance(found[1], Request)


def test_texts_of_two_lines_and_rows_between_others_are_kept(tmp_path: Path) -> None:
    found = read(tmp_path, named("#E2", Lineitem_name="Tea\nsecond line", Billing_Street="1 Main St\nApt 4"))
    assert body(found[0])["lines"][0]["description"] == "Tea\nsecond line"
    assert body(found[0])["buyer"]["address"]["street"] == "1 Main St\nApt 4"
    double = dict.fromkeys(("Subtotal", "Total"), "24.20")
    second = {"Name": "#F1", "Lineitem quantity": "1", "Lineitem name": "Tea 2", "Lineitem price": "12.10"}
    first = named("#F1", **double, Taxes="4.20", Tax_1_Value="4.20")
    found = read(tmp_path, first, named("#F2"), {**second, "Lineitem taxable": "true"})
    assert [[line["description"] for line in body(each)["lines"]] for each in found] == [["Tea", "Tea 2"], ["Tea"]]
    assert [priced(each).gross_minor for each in found] == [2420, 1210]


def test_yen_and_dinars(tmp_path: Path) -> None:
    yen = dict.fromkeys(("Subtotal", "Total", "Lineitem_price"), "1000")
    dinars = dict.fromkeys(("Subtotal", "Total", "Lineitem_price"), "1.234")
    found = read(
        tmp_path,
        named("#G1", **yen, Currency="JPY", Taxes="91", Tax_1_Name="JCT 10%", Tax_1_Value="91"),
        named("#G2", **dinars, Currency="KWD", Taxes="0.000", Tax_1_Name="", Tax_1_Value=""),
    )
    assert [(priced(each).tax_minor, priced(each).gross_minor) for each in found] == [(91, 1000), (0, 1234)]
