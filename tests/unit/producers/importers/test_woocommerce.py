"""WooCommerce's orders as three exporters write them: amounts without tax, and the tax of each beside it."""

from pathlib import Path

import pytest

from producers.importers.found import Skipped
from tests.unit.producers.importers.exports import bodies_of, body, priced, read, reason

#: 2 x 10.00 and 5.00 shipping, 21% on top.
BUYER = {
    "billing_first_name": "Zoë",
    "billing_last_name": "O'Neil",
    "billing_email": "zoe@example.com",
    "billing_address_1": "1 rue de l'Église",
    "billing_city": "Lyon",
    "billing_postcode": "69001",
    "billing_country": "FR",
}
HEAD = {"order_number": "501", "status": "completed", "order_currency": "EUR", "order_total": "30.25"}
AMOUNTS = {"shipping_total": "5.00", "shipping_tax_total": "1.05", "fee_total": "0.00", "tax_total": "5.25"}
ROW_AN_ITEM = {
    **HEAD,
    **AMOUNTS,
    **BUYER,
    "item_name": "Tea",
    "item_sku": "T-1",
    "item_quantity": "2",
    "item_total": "20.00",
    "item_total_tax": "4.20",
}
ONE_CELL = {
    **HEAD,
    **AMOUNTS,
    **BUYER,
    "line_items": "id:7|name:Tea: green|sku:T-1|quantity:2|total:20.00|total_tax:4.20",
}
COLUMN_AN_ITEM = {**HEAD, **AMOUNTS, **BUYER, "line_item_1": "name:Tea|product_id:9|sku:T-1|quantity:2|total:20.00"}
FOR_PEOPLE = {
    "Order Number": "501",
    "Order Status": "Completed",
    "Order Currency": "EUR",
    "First Name (Billing)": "Zoë",
    "Last Name (Billing)": "O'Neil",
    "Email (Billing)": "zoe@example.com",
    "Address 1&2 (Billing)": "1 rue de l'Église",
    "City (Billing)": "Lyon",
    "Postcode (Billing)": "69001",
    "Country Code (Billing)": "FR",
    "Shipping Method Title": "Colissimo",
    "Order Shipping Amount": "5.00",
    "Order Total Amount": "30.25",
    "Order Total Tax Amount": "5.25",
    "SKU": "T-1",
    "Item Name": "Tea",
    "Quantity (- Refund)": "2",
    "Item Cost": "10.00",
}


@pytest.mark.parametrize("row", [ROW_AN_ITEM, ONE_CELL, COLUMN_AN_ITEM, FOR_PEOPLE])
def test_each_exporters_order_has_the_buyers_totals(tmp_path: Path, row: dict[str, str]) -> None:
    (order,) = read(tmp_path, row, columns=list(row))
    made = body(order)
    assert (made["order_id"], made["buyer"]["name"], made["buyer"]["email"]) == ("501", "Zoë O'Neil", "zoe@example.com")
    line = made["lines"][0]
    assert (line["sku"], line["quantity"], line["unit_price"], line["vat_rate"]) == ("T-1", "2", "10.00", "21")
    assert (priced(order).net_minor, priced(order).tax_minor) == (2500, 525)


def test_an_item_may_stand_on_a_row_of_its_own(tmp_path: Path) -> None:
    """And bear another rate than the first."""
    book = {
        "item_name": "Book",
        "item_sku": "B-1",
        "item_quantity": "1",
        "item_total": "10.00",
        "item_total_tax": "0.90",
    }
    rows = [{**ROW_AN_ITEM, "order_total": "41.15", "tax_total": "6.15"}]
    rows.append({**rows[0], **book})
    (order,) = read(tmp_path, *rows, columns=list(ROW_AN_ITEM))
    assert {(each["vat_rate"], each["tax_minor"]) for each in priced(order).per_rate} == {("9.00", 90), ("21.00", 525)}


def test_two_items_in_one_cell(tmp_path: Path) -> None:
    cell = "name:Tea; green|quantity:2|total:20.00|total_tax:4.20;name:Cup|quantity:1|total:10.00|total_tax:2.10"
    row = {**ONE_CELL, "line_items": cell, "order_total": "42.35", "tax_total": "7.35"}
    (order,) = read(tmp_path, row, columns=list(row))
    assert [line["description"] for line in body(order)["lines"]][:2] == ["Tea; green", "Cup"]
    assert priced(order).gross_minor == 4235


def test_fees_are_part_of_the_total(tmp_path: Path) -> None:
    row = {**ROW_AN_ITEM, "fee_total": "2.00", "order_total": "32.25"}
    (order,) = read(tmp_path, row, columns=list(row))
    assert (priced(order).tax_minor, priced(order).gross_minor) == (525, 3225)


def test_a_currency_that_the_export_does_not_say_is_asked_for(tmp_path: Path) -> None:
    row = {name: value for name, value in FOR_PEOPLE.items() if name != "Order Currency"}
    (refused,) = read(tmp_path, row, columns=list(row))
    assert "is not said: give --currency" in reason(refused)
    (order,) = read(tmp_path, row, columns=list(row), currency="EUR")
    assert body(order)["currency"] == "EUR"


def test_states_are_invoiced_left_out_or_named(tmp_path: Path) -> None:
    states = ("wc-processing", "refunded", "on-hold", "cancelled", "shipped")
    rows = [{**ROW_AN_ITEM, "order_number": str(n), "status": state} for n, state in enumerate(states)]
    found = read(tmp_path, *rows, columns=list(ROW_AN_ITEM))
    assert [each["order_id"] for each in bodies_of(found[:2])] == ["0", "1"]
    assert [each.state for each in found if isinstance(each, Skipped)] == ["on-hold", "cancelled"]
    assert "'shipped' is none of" in reason(found[4])


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"order_total": "31.25"}, "order_total: 31.25, but items, shipping, fees and tax are 30.25"),
        ({"order_total": ""}, "order_total: is empty"),
        ({"item_name": ""}, "item_name: is empty"),
        ({"item_quantity": "0"}, "item_quantity: 0 is not above 0"),
        ({"item_total": ""}, "item_total: is empty"),
        ({"item_total": "x"}, "item_total: 'x' is no amount"),
    ],
)
def test_what_cannot_be_told_is_named_and_the_others_are_told(
    tmp_path: Path, changes: dict[str, str], what: str
) -> None:
    bad, good = read(
        tmp_path, {**ROW_AN_ITEM, **changes}, {**ROW_AN_ITEM, "order_number": "502"}, columns=list(ROW_AN_ITEM)
    )
    assert f"orders.csv:2: 501: {what}" in reason(bad)
    assert body(good)["order_id"] == "502"
