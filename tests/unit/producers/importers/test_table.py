"""Files as spreadsheets leave them: read, or refused in one sentence that names the cause."""

from decimal import Decimal
from pathlib import Path

import pytest

from producers.importers.found import Rejected, Request
from producers.importers.table import number
from tests.unit.producers.importers.exports import (
    COLUMNS,
    INSIDE,
    bodies_of,
    body,
    priced,
    read,
    read_bytes,
    reason,
    text,
)


@pytest.mark.parametrize(
    ("column", "cell", "value"),
    [
        ("city", "'s-Hertogenbosch", "'s-Hertogenbosch"),
        ("city", "'t Zand", "'t Zand"),
        ("name", "'Aisha Zoë", "'Aisha Zoë"),
        ("postal_code", "'1011", "1011"),
        ("postal_code", "'1011 AB", "1011 AB"),
        ("street", "'-, -", "-, -"),
        ("street", "'=A1", "=A1"),
    ],
)
def test_an_apostrophe_stays_unless_it_guards_a_number_or_a_formula(
    tmp_path: Path, column: str, cell: str, value: str
) -> None:
    columns = {"city": "Billing City", "name": "Billing Name", "postal_code": "Billing Zip", "street": "Billing Street"}
    (order,) = read(tmp_path, {**INSIDE, columns[column]: cell})
    buyer = body(order)["buyer"]
    assert {**buyer, **buyer["address"]}[column] == value


def test_apostrophes_of_articles_stay(tmp_path: Path) -> None:
    (order,) = read(tmp_path, {**INSIDE, "Lineitem name": "'47 Brand cap", "Lineitem sku": "'47-CLN"})
    line = body(order)["lines"][0]
    assert (line["description"], line["sku"]) == ("'47 Brand cap", "'47-CLN")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_encodings_and_separators_are_recognised(tmp_path: Path, encoding: str, separator: str) -> None:
    content = text([{**INSIDE, "Billing City": "Zürich"}], separator=separator).encode(encoding)
    (order,) = read_bytes(tmp_path, content)
    assert (body(order)["buyer"]["name"], body(order)["buyer"]["address"]["city"]) == ("Zoë O'Neil", "Zürich")


@pytest.mark.parametrize(
    "city", ["’s-Gravenhage", "Peñíscola", "Besançon", "Ærøskøbing", "Weiße Straße 5 – Hof", "São João"]
)
def test_western_europes_code_page_is_recognised_and_said(tmp_path: Path, city: str) -> None:
    content = text([{**INSIDE, "Billing City": city}]).encode("cp1252")
    (order,) = read_bytes(tmp_path, content)
    assert body(order)["buyer"]["address"]["city"] == city
    assert isinstance(order, Request)
    assert "read as cp1252" in order.remarks[0]


@pytest.mark.parametrize(
    ("encoding", "city", "country"),
    [
        ("cp1250", "Łódź, Świętokrzyska", "US"),
        ("cp1250", "Dvořák, Jiří", "CZ"),
        ("cp1254", "Ağaç, Şişli", "US"),
        ("cp1251", "Москва, улица Ленина", "US"),
        ("cp1253", "Αθήνα, Γιώργος", "GR"),
        ("cp932", "東京都渋谷区", "JP"),
        ("gb18030", "北京市朝阳区望京街道", "CN"),
    ],
)
def test_an_encoding_that_is_not_certain_is_asked_for(tmp_path: Path, encoding: str, city: str, country: str) -> None:
    row = {**INSIDE, "Billing City": city, "Billing Name": "Ana", "Billing Street": "1", "Billing Country": country}
    content = text([row]).encode(encoding)
    (refused,) = read_bytes(tmp_path, content)
    assert "the encoding is not certain" in reason(refused)
    (order,) = read_bytes(tmp_path, content, encoding=encoding)
    assert body(order)["buyer"]["address"]["city"] == city


def test_the_caller_may_name_the_encoding(tmp_path: Path) -> None:
    content = text([{**INSIDE, "Billing City": "Peńa"}]).encode("cp1250", errors="replace")
    (order,) = read_bytes(tmp_path, content, encoding="cp1250")
    assert body(order)["buyer"]["address"]["city"] == "Peńa"
    (wrong,) = read_bytes(tmp_path, content, encoding="utf-8")
    assert "not utf-8 (byte" in reason(wrong)
    (unknown,) = read_bytes(tmp_path, content, encoding="klingon")
    assert "klingon is no encoding" in reason(unknown)


def test_rows_of_nothing_but_separators_are_no_orders(tmp_path: Path) -> None:
    content = text([INSIDE]) + "," * (len(COLUMNS) - 1) + "\r\n" + "\r\n"
    assert len(read_bytes(tmp_path, content.encode())) == 1


def test_a_file_that_was_saved_twice_is_read(tmp_path: Path) -> None:
    """Each row became one quoted cell, and ends in a semicolon."""
    head, *rows = text([INSIDE, {**INSIDE, "Name": "#2"}]).splitlines()
    again = "\r\n".join([head + ";", *('"' + row.replace('"', '""') + '";' for row in rows)])
    assert [each["order_id"] for each in bodies_of(read_bytes(tmp_path, again.encode()))] == ["#1001", "#2"]


def test_decimal_commas_and_points_are_told_apart_cell_by_cell(tmp_path: Path) -> None:
    amounts = {"Subtotal": "12,10", "Shipping": "0.00", "Taxes": "2,10", "Total": "12,10"}
    row = {**INSIDE, **amounts, "Tax 1 Value": "2,10", "Lineitem price": "12,10"}
    (order,) = read_bytes(tmp_path, text([row], separator=";").encode())
    assert priced(order).gross_minor == 1210


def test_thousands_are_told_from_cents(tmp_path: Path) -> None:
    amounts = {"Subtotal": "1,210.00", "Total": "1,210.00", "Lineitem price": "1,210.00"}
    (order,) = read(tmp_path, {**INSIDE, **amounts, "Taxes": "210.00", "Tax 1 Value": "210.00"})
    assert priced(order).gross_minor == 121_000


@pytest.mark.parametrize(("currency", "price", "minor"), [("JPY", "1000", 1000), ("KWD", "1.234", 1234)])
def test_currencies_have_their_own_decimals(tmp_path: Path, currency: str, price: str, minor: int) -> None:
    amounts = {"Currency": currency, "Subtotal": price, "Total": price, "Lineitem price": price, "Taxes": "0"}
    (order,) = read(tmp_path, {**INSIDE, **amounts, "Tax 1 Name": "", "Tax 1 Value": ""})
    assert priced(order).gross_minor == minor


@pytest.mark.parametrize(
    ("cell", "commas", "decimals", "value"),
    [
        ("19.99", False, 2, "19.99"),
        ("1,210.00", False, 2, "1210.00"),
        ("1.210,00", True, 2, "1210.00"),
        ("12,10", False, 2, "12.10"),
        ("1,210", False, 2, "1210"),
        ("1,210", True, 3, "1.210"),
        ("1.210", False, 2, "1.210"),
        ("1.210", True, 2, "1210"),
        ("1.234", True, 3, "1.234"),
        ("1 210,50", True, 2, "1210.50"),
        ("1\u202f210,50", True, 2, "1210.50"),
        ("1'210.50", False, 2, "1210.50"),
        ("1,00,000.00", False, 2, "100000.00"),
        ("1,234,567", False, 2, "1234567"),
        ("€12.50", False, 2, "12.50"),
        ("12,50 €", True, 2, "12.50"),
        ("-5.00", False, 2, "-5.00"),
        (".5", False, 2, "0.5"),
        ("12.10.5", False, 2, None),
        ("1,2,3", False, 2, None),
        ("ten", False, 2, None),
        ("1e5", False, 2, None),
        ("--5", False, 2, None),
        ("NaN", False, 2, None),
        ("", False, 2, None),
    ],
)
def test_numbers(cell: str, commas: bool, decimals: int, value: str | None) -> None:
    assert number(cell, has_decimal_commas=commas, decimals=decimals) == (None if value is None else Decimal(value))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "holds no table"),
        (b"Name\r\n#1\r\n", "holds no table"),
        (b"PK\x03\x04rest of a workbook", "a spreadsheet's own format: save it as CSV"),
        (b"Handle,Title,Vendor\r\na,b,c\r\n", "its columns (Handle, Title, Vendor …) are of no file that is known"),
        (b"Name,Total,Total,Lineitem name\r\n", "has the column 'Total' twice"),
        (b'Name,Total,Lineitem name\r\n#1,"' + b"x" * 200_000, "not CSV"),
        (b"\x81\x8d\x8f,\xff\xfe\x81,Lineitem name\r\n", "the encoding is not certain"),
    ],
)
def test_what_is_no_export_is_refused_in_one_sentence(tmp_path: Path, content: bytes, why: str) -> None:
    (refused,) = read_bytes(tmp_path, content)
    assert isinstance(refused, Rejected)
    assert why in str(refused)
    assert str(refused).startswith(f"{tmp_path}/orders.csv: ")
