"""Shopify's export: orders of several rows, tax inside or on top of prices, and what can't be told is refused."""

import io
from collections import Counter
from typing import Any

import pytest

from domain.invoice import Priced, compare_totals, price
from producers.shopify import ShopifyError, read_orders
from tests.unit.producers.test_generate import as_request

COLUMNS = (
    "Name,Email,Financial Status,Paid at,Fulfillment Status,Currency,Subtotal,Shipping,Taxes,Total,Discount Code,"
    "Discount Amount,Shipping Method,Created at,Lineitem quantity,Lineitem name,Lineitem price,Lineitem sku,"
    "Lineitem taxable,Billing Name,Billing Street,Billing City,Billing Zip,Billing Country,Notes,Cancelled at,"
    "Tax 1 Name,Tax 1 Value,Tax 2 Name,Tax 2 Value"
).split(",")
#: Prices without tax: 2 x 10.00 + 5.00 shipping, 20% on top.
ORDER = {
    "Name": "#1001",
    "Email": "zoe@example.com",
    "Financial Status": "paid",
    "Paid at": "2025-10-07 09:50:26 +0200",
    "Currency": "EUR",
    "Subtotal": "20.00",
    "Shipping": "5.00",
    "Taxes": "5.00",
    "Total": "30.00",
    "Discount Amount": "0.00",
    "Shipping Method": "Colissimo",
    "Lineitem quantity": "2",
    "Lineitem name": "Café, moulu",
    "Lineitem price": "10.00",
    "Lineitem sku": "CAF-1",
    "Lineitem taxable": "true",
    "Billing Name": "Zoë O'Neil",
    "Billing Street": "1 rue de l'Église",
    "Billing City": "Lyon",
    "Billing Zip": "'69001",
    "Billing Country": "FR",
    "Tax 1 Name": "VAT 20%",
    "Tax 1 Value": "5.00",
}
ITEM = {
    "Name": "#1001",
    "Lineitem quantity": "1",
    "Lineitem name": "Thé",
    "Lineitem price": "7.50",
    "Lineitem sku": "T",
}


def export(*rows: dict[str, str]) -> io.StringIO:
    """The file, as Shopify quotes it."""
    cells = [",".join('"' + row.get(column, "").replace('"', '""') + '"' for column in COLUMNS) for row in rows]
    return io.StringIO("\r\n".join([",".join(COLUMNS), *cells]) + "\r\n")


def read(*rows: dict[str, str]) -> list[dict[str, Any]]:
    return list(read_orders(export(*rows)))


def priced(order: dict[str, Any]) -> Priced:
    """What it amounts to, which must be what Shopify says."""
    result = price(as_request(order))
    assert isinstance(result, Priced), result
    assert compare_totals(result, order["totals"], order["currency"]) is None
    return result


def test_an_order_of_one_row() -> None:
    (order,) = read(ORDER)
    assert order["order_id"] == "#1001"
    address = {"street": "1 rue de l'Église", "city": "Lyon", "postal_code": "69001", "country": "FR"}
    assert order["buyer"] == {"name": "Zoë O'Neil", "email": "zoe@example.com", "address": address}
    assert [(line["sku"], line["quantity"], line["unit_price"]) for line in order["lines"]] == [
        ("CAF-1", "2", "10.00"),
        ("SHIPPING", "1", "5.00"),
    ]
    assert (priced(order).tax_minor, priced(order).gross_minor) == (500, 3000)


def test_rows_that_follow_with_the_same_name_are_lines_of_the_order() -> None:
    first = {**ORDER, "Subtotal": "27.50", "Taxes": "6.50", "Tax 1 Value": "6.50", "Total": "39.00"}
    orders = read(first, ITEM, {**ORDER, "Name": "#1002"})
    assert [(order["order_id"], len(order["lines"])) for order in orders] == [("#1001", 3), ("#1002", 2)]
    assert priced(orders[0]).gross_minor == 3900


def test_tax_inside_the_prices_is_taken_out_of_them() -> None:
    first = {**ORDER, "Taxes": "4.17", "Tax 1 Value": "4.17", "Total": "25.00"}
    (order,) = read(first)
    assert order["lines"][0]["unit_price"] == "8.333333"
    assert (priced(order).net_minor, priced(order).tax_minor, priced(order).gross_minor) == (2083, 417, 2500)


@pytest.mark.parametrize("total_minor", range(3, 200))
def test_every_total_that_holds_its_tax_is_met_to_the_cent(total_minor: int) -> None:
    """One in six gross amounts at 20% is no net amount plus its rounded tax: a line of a cent makes up for it."""
    total = f"{total_minor // 100}.{total_minor % 100:02d}"
    tax = round(total_minor - total_minor / 1.2)
    taxes = f"{tax // 100}.{tax % 100:02d}"
    amounts = {"Subtotal": total, "Shipping": "0.00", "Total": total, "Taxes": taxes, "Tax 1 Value": taxes}
    (order,) = read({**ORDER, **amounts, "Lineitem quantity": "1", "Lineitem price": total})
    assert priced(order).gross_minor == total_minor


def test_a_discount_is_a_line_of_its_own() -> None:
    amounts = {"Subtotal": "15.00", "Discount Amount": "5.00", "Discount Code": "WELCOME", "Shipping": "0.00"}
    (order,) = read({**ORDER, **amounts, "Taxes": "3.00", "Tax 1 Value": "3.00", "Total": "18.00"})
    assert order["lines"][1]["description"] == "Discount WELCOME"
    assert (order["lines"][1]["quantity"], order["lines"][1]["unit_price"]) == ("-1", "5.00")
    assert priced(order).gross_minor == 1800


def test_an_untaxed_line_bears_no_tax_and_an_untaxed_order_none_at_all() -> None:
    first = {**ORDER, "Subtotal": "27.50", "Total": "37.50"}
    (order,) = read(first, {**ITEM, "Lineitem taxable": "false"})
    assert [line["vat_category"] for line in order["lines"]] == ["S", "Z", "S"]
    assert priced(order).tax_minor == 500
    (order,) = read({**ORDER, "Taxes": "0.00", "Tax 1 Name": "", "Tax 1 Value": "", "Total": "25.00"})
    assert priced(order).tax_minor == 0


def test_what_was_not_paid_is_left_out_and_counted() -> None:
    skipped: Counter[str] = Counter()
    rows = [
        {**ORDER, "Name": "#1", "Financial Status": "pending"},
        {**ORDER, "Name": "#2", "Cancelled at": "2025-01-01"},
    ]
    (order,) = read_orders(export(*rows, ORDER), skipped)
    assert order["order_id"] == "#1001"
    assert skipped == {"pending": 1, "cancelled": 1}


@pytest.mark.parametrize(
    ("changes", "column"),
    [
        ({"Name": ""}, "Name"),
        ({"Email": ""}, "Email"),
        ({"Currency": "EURO"}, "Currency"),
        ({"Billing Name": ""}, "Billing Name"),
        ({"Billing City": ""}, "Billing City"),
        ({"Total": "31.00"}, "Total"),
        ({"Total": "thirty"}, "Total"),
        ({"Taxes": "NaN"}, "Taxes"),
        ({"Tax 1 Name": "VAT"}, "Tax 1 Name"),
        ({"Tax 1 Name": "", "Tax 1 Value": ""}, "Tax 1 Name"),
        ({"Tax 2 Name": "City 2%", "Tax 2 Value": "0.50"}, "Tax 2 Name"),
        ({"Tax 1 Name": "VAT 5%"}, "Taxes"),
        ({"Subtotal": "19.00", "Total": "29.00"}, "Subtotal"),
        ({"Lineitem quantity": "0"}, "Lineitem quantity"),
        ({"Lineitem price": "ten"}, "Lineitem price"),
        ({"Lineitem name": ""}, "Lineitem name"),
    ],
)
def test_what_cannot_be_told_is_refused_with_its_row_and_column(changes: dict[str, str], column: str) -> None:
    with pytest.raises(ShopifyError, match=f"row 2, column {column}: "):
        read({**ORDER, **changes})


def test_a_discount_over_taxed_and_untaxed_lines_is_refused() -> None:
    first = {**ORDER, "Subtotal": "22.50", "Discount Amount": "5.00", "Total": "32.50"}
    with pytest.raises(ShopifyError, match="column Discount Amount"):
        read(first, {**ITEM, "Lineitem taxable": "false"})


def test_a_file_of_something_else_is_told_apart() -> None:
    with pytest.raises(ShopifyError, match="row 1, column Email: is missing"):
        list(read_orders(io.StringIO("Handle,Title,Name\r\n")))
