"""Shopify's export: orders of several rows, tax inside or on top of prices, and what can't be told is named."""

from pathlib import Path

import pytest

from producers.importers.found import Rejected, Request, Skipped
from tests.unit.producers.importers.exports import (
    COLUMNS,
    INSIDE,
    ITEM,
    ORDER,
    bodies_of,
    body,
    priced,
    read,
    read_bytes,
    reason,
    text,
)


def rates(order: object) -> list[tuple[str, str]]:
    """Descriptions and rates of the lines."""
    return [(line["description"], line["vat_rate"]) for line in body(order)["lines"]]  # type: ignore[arg-type]


def test_an_order_of_one_row(tmp_path: Path) -> None:
    (order,) = read(tmp_path, ORDER)
    assert body(order)["order_id"] == "#1001"
    assert body(order)["buyer"]["name"] == "Zoë O'Neil"
    assert body(order)["buyer"]["address"]["postal_code"] == "69001"
    line = body(order)["lines"][0]
    assert (line["sku"], line["quantity"], line["unit_price"], line["vat_rate"]) == ("CAF-1", "2", "10.00", "20")
    assert (priced(order).tax_minor, priced(order).gross_minor) == (500, 3000)


def test_rows_with_the_same_name_are_lines_of_the_order_wherever_they_stand(tmp_path: Path) -> None:
    first = {**ORDER, "Subtotal": "27.50", "Taxes": "6.50", "Tax 1 Value": "6.50", "Total": "39.00"}
    orders = read(tmp_path, first, {**ORDER, "Name": "#1002"}, ITEM)
    assert [each["order_id"] for each in bodies_of(orders)] == ["#1001", "#1002"]
    assert [priced(each).gross_minor for each in orders] == [3900, 3000]


def test_columns_that_a_spreadsheet_filled_down_are_no_other_order(tmp_path: Path) -> None:
    first = {**ORDER, "Subtotal": "27.50", "Taxes": "6.50", "Tax 1 Value": "6.50", "Total": "39.00"}
    (order,) = read(tmp_path, first, {**first, **ITEM})
    assert priced(order).gross_minor == 3900
    (order,) = read(tmp_path, first, {**first, **ITEM, "Total": "40.00"})
    assert "another order of this name begins in row 2" in reason(order)


def test_every_total_that_holds_its_tax_is_met_to_the_cent(tmp_path: Path) -> None:
    """One in six gross amounts at 20% is no net amount plus its rounded tax."""
    rows = []
    for total_minor in range(3, 200):
        total, tax = f"{total_minor / 100:.2f}", f"{round(total_minor - total_minor / 1.2) / 100:.2f}"
        amounts = {"Subtotal": total, "Total": total, "Taxes": tax, "Tax 1 Value": tax, "Lineitem price": total}
        rows.append({**INSIDE, **amounts, "Name": f"#{total_minor}", "Tax 1 Name": "VAT 20%"})
    assert [priced(order).gross_minor for order in read(tmp_path, *rows)] == list(range(3, 200))


def test_a_discount_is_taken_off(tmp_path: Path) -> None:
    amounts = {"Subtotal": "15.00", "Discount Amount": "5.00", "Discount Code": "WELCOME", "Shipping": "0.00"}
    (order,) = read(tmp_path, {**ORDER, **amounts, "Taxes": "3.00", "Tax 1 Value": "3.00", "Total": "18.00"})
    assert "WELCOME" in str(body(order))
    assert (priced(order).net_minor, priced(order).gross_minor) == (1500, 1800)


def test_a_line_has_its_own_discount(tmp_path: Path) -> None:
    amounts = {"Subtotal": "15.00", "Discount Amount": "5.00", "Lineitem discount": "5.00", "Shipping": "0.00"}
    (order,) = read(tmp_path, {**ORDER, **amounts, "Taxes": "3.00", "Tax 1 Value": "3.00", "Total": "18.00"})
    assert (priced(order).net_minor, priced(order).gross_minor) == (1500, 1800)


def test_shipping_bears_tax_or_none_as_the_amounts_say(tmp_path: Path) -> None:
    (taxed,) = read(tmp_path, ORDER)
    (untaxed,) = read(tmp_path, {**ORDER, "Taxes": "4.00", "Tax 1 Value": "4.00", "Total": "29.00"})
    assert (priced(taxed).tax_minor, priced(untaxed).tax_minor) == (500, 400)
    assert {(each["vat_rate"], each["taxable_minor"]) for each in priced(untaxed).per_rate} == {
        ("0.00", 500),
        ("20.00", 2000),
    }


def test_shipping_that_a_discount_makes_free_costs_nothing(tmp_path: Path) -> None:
    amounts = {"Discount Amount": "5.00", "Discount Code": "FREESHIP", "Taxes": "4.00", "Tax 1 Value": "4.00"}
    (order,) = read(tmp_path, {**ORDER, **amounts, "Total": "24.00"})
    assert (priced(order).net_minor, priced(order).gross_minor) == (2000, 2400)


def test_a_tip_is_outside_the_subtotal_and_bears_no_tax(tmp_path: Path) -> None:
    first = {**ORDER, "Shipping": "0.00", "Taxes": "4.00", "Tax 1 Value": "4.00", "Total": "27.00"}
    tip = {**ITEM, "Lineitem name": "Tip", "Lineitem price": "3.00", "Lineitem taxable": "false"}
    (order,) = read(tmp_path, first, tip)
    assert (priced(order).tax_minor, priced(order).gross_minor) == (400, 2700)


def test_a_tip_is_not_discounted(tmp_path: Path) -> None:
    amounts = {"Subtotal": "15.00", "Discount Amount": "5.00", "Shipping": "0.00", "Taxes": "3.00"}
    first = {**ORDER, **amounts, "Tax 1 Value": "3.00", "Total": "21.00"}
    tip = {**ITEM, "Lineitem name": "Tip", "Lineitem price": "3.00", "Lineitem taxable": "false"}
    (order,) = read(tmp_path, first, tip)
    assert {(each["vat_rate"], each["taxable_minor"]) for each in priced(order).per_rate} == {
        ("0.00", 300),
        ("20.00", 1500),
    }


def test_taxes_on_the_same_lines_are_one_rate(tmp_path: Path) -> None:
    """GST and PST, CGST and SGST, state and county."""
    taxes = {"Tax 1 Name": "GST 5%", "Tax 1 Value": "1.00", "Tax 2 Name": "PST 7%", "Tax 2 Value": "1.40"}
    (order,) = read(tmp_path, {**ORDER, **taxes, "Shipping": "0.00", "Taxes": "2.40", "Total": "22.40"})
    assert rates(order) == [("Café, moulu", "12")]
    assert priced(order).gross_minor == 2240


def test_taxes_on_different_lines_are_found_by_their_amounts(tmp_path: Path) -> None:
    """5% on everything, 7% only on the second line."""
    taxes = {"Tax 1 Name": "GST 5%", "Tax 1 Value": "1.38", "Tax 2 Name": "PST 7%", "Tax 2 Value": "0.53"}
    amounts = {"Subtotal": "27.50", "Shipping": "0.00", "Taxes": "1.91", "Total": "29.41"}
    (order,) = read(tmp_path, {**ORDER, **taxes, **amounts}, ITEM)
    assert rates(order)[:2] == [("Café, moulu", "5"), ("Thé", "12")]


def test_two_rates_inside_prices_are_found_by_their_amounts(tmp_path: Path) -> None:
    """12.10 at 21% and 10.90 at 9%."""
    taxes = {"Tax 1 Name": "NL btw 21%", "Tax 1 Value": "2.10", "Tax 2 Name": "NL btw 9%", "Tax 2 Value": "0.90"}
    book = {**ITEM, "Lineitem name": "Book", "Lineitem price": "10.90"}
    (order,) = read(tmp_path, {**INSIDE, **taxes, "Subtotal": "23.00", "Taxes": "3.00", "Total": "23.00"}, book)
    assert rates(order)[:2] == [("Tea", "21"), ("Book", "9")]
    assert (priced(order).tax_minor, priced(order).gross_minor) == (300, 2300)


def test_lines_that_fit_only_by_chance_are_not_chosen(tmp_path: Path) -> None:
    """7% of 10.00 is on the first or the second line, or on the third and fourth together."""
    names = ("One", "Two", "Three", "Four")
    prices = ("10.00", "10.00", "4.00", "6.00")
    items = [{**ITEM, "Lineitem name": n, "Lineitem price": p} for n, p in zip(names, prices, strict=True)]
    head = {**ORDER, **items[0], "Subtotal": "30.00", "Shipping": "0.00", "Tax 1 Name": "PST 7%"}
    (order,) = read(tmp_path, {**head, "Taxes": "0.70", "Tax 1 Value": "0.70", "Total": "30.70"}, *items[1:])
    assert "0.70 of 'PST 7%': several choices of lines amount to it" in reason(order)


def test_an_amount_that_no_lines_make_is_named(tmp_path: Path) -> None:
    amounts = {"Taxes": "9.00", "Tax 1 Value": "9.00", "Total": "34.00"}
    (order,) = read(tmp_path, {**ORDER, **amounts})
    assert reason(order).endswith(":2: #1001: Tax 1 Value: 9.00 of 'VAT 20%': no lines amount to it")


def test_a_fee_that_an_authority_adds_is_no_tax_on_lines(tmp_path: Path) -> None:
    taxes = {"Tax 2 Name": "Colorado Retail Delivery Fee 0%", "Tax 2 Value": "0.27"}
    (order,) = read(tmp_path, {**ORDER, **taxes, "Taxes": "5.27", "Total": "30.27"})
    assert (priced(order).tax_minor, priced(order).gross_minor) == (500, 3027)


def test_a_rate_without_a_name_is_concluded_and_said(tmp_path: Path) -> None:
    amounts = {"Subtotal": "558.00", "Taxes": "93.00", "Total": "558.00", "Lineitem price": "558.00"}
    (order,) = read(tmp_path, {**INSIDE, **amounts, "Tax 1 Name": "", "Tax 1 Value": ""})
    assert rates(order) == [("Tea", "20")]
    assert isinstance(order, Request)
    assert order.remarks == ("20% concluded from the amounts: the export names no rate",)


def test_a_sixth_tax_has_no_column_and_is_concluded(tmp_path: Path) -> None:
    named = {f"Tax {n} Name": f"Tax {n}%" for n in range(1, 6)} | {f"Tax {n} Value": f"0.{2 * n}0" for n in range(1, 5)}
    amounts = {"Tax 5 Value": "1.00", "Shipping": "0.00", "Taxes": "4.20", "Total": "24.20"}
    (order,) = read(tmp_path, {**ORDER, **named, **amounts})
    assert rates(order) == [("Café, moulu", "21")]


def test_duties_are_part_of_the_total(tmp_path: Path) -> None:
    (order,) = read(tmp_path, {**ORDER, "Duties": "3.98", "Total": "33.98"})
    assert (priced(order).tax_minor, priced(order).gross_minor) == (500, 3398)


def test_a_gift_card_pays_and_changes_no_amount(tmp_path: Path) -> None:
    (order,) = read(tmp_path, {**ORDER, "Payment Method": "gift_card + Shopify Payments"})
    assert priced(order).gross_minor == 3000


def test_untaxed_lines_and_orders_bear_no_tax(tmp_path: Path) -> None:
    first = {**ORDER, "Subtotal": "27.50", "Total": "37.50"}
    (order,) = read(tmp_path, first, {**ITEM, "Lineitem taxable": "false"})
    assert priced(order).tax_minor == 500
    (order,) = read(tmp_path, {**ORDER, "Taxes": "0.00", "Tax 1 Name": "", "Tax 1 Value": "", "Total": "25.00"})
    assert priced(order).tax_minor == 0


def test_the_delivery_address_stands_in_for_a_billing_address_that_is_not_whole(tmp_path: Path) -> None:
    there = {"Shipping Name": "Ana", "Shipping City": "Porto", "Shipping Country": "PT"}
    (order,) = read(tmp_path, {**ORDER, **there, "Billing City": ""})
    assert (body(order)["buyer"]["name"], body(order)["buyer"]["address"]["city"]) == ("Ana", "Porto")


def test_what_was_not_paid_is_left_out_by_its_state(tmp_path: Path) -> None:
    rows = [
        {**ORDER, "Name": "#1", "Financial Status": "pending"},
        {**ORDER, "Name": "#2", "Cancelled at": "2025-01-01"},
    ]
    found = read(tmp_path, *rows, {**ORDER, "Name": "#3", "Financial Status": "voided"}, ORDER)
    assert [each.state for each in found if isinstance(each, Skipped)] == ["pending", "cancelled", "voided"]
    assert [each["order_id"] for each in bodies_of(found)] == ["#1001"]


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"Currency": "EURO"}, "Currency: 'EURO' is no ISO 4217 code"),
        ({"Total": "31.00"}, "Total: 31.00 is neither"),
        ({"Total": "thirty"}, "Total: 'thirty' is no amount"),
        ({"Total": ""}, "Total: is empty"),
        ({"Total": "-30.00"}, "Total: -30.00 is below 0"),
        ({"Taxes": "NaN"}, "Taxes: 'NaN' is no amount"),
        ({"Taxes": "2.00"}, "Taxes: 2.00, but the single taxes amount to 5.00"),
        ({"Tax 1 Value": "-5.00"}, "Tax 1 Value: -5.00 is below 0"),
        ({"Subtotal": "19.00", "Total": "29.00"}, "Subtotal: the items amount to 20.00"),
        ({"Discount Amount": "90.00"}, "Discount Amount: 90.00"),
        ({"Lineitem quantity": "0"}, "Lineitem quantity: '0' is not above 0"),
        ({"Lineitem price": "ten"}, "Lineitem price: 'ten' is no amount"),
        ({"Lineitem price": ""}, "Lineitem price: '' is no price"),
        ({"Lineitem name": ""}, "Lineitem name: is empty"),
        ({"Lineitem sku": "S" * 65}, "lines[0].sku: must have at most 64 characters"),
        ({"Name": "#" * 65}, "order_id: must have 1 to 64 characters"),
    ],
)
def test_what_cannot_be_told_is_named_with_its_row_and_the_others_are_told(
    tmp_path: Path, changes: dict[str, str], what: str
) -> None:
    first, bad, last = read(tmp_path, {**ORDER, "Name": "#1"}, {**ORDER, **changes}, {**ORDER, "Name": "#3"})
    assert f"orders.csv:3: {changes.get('Name', '#1001')}: {what}" in reason(bad)
    assert [each["order_id"] for each in (body(first), body(last))] == ["#1", "#3"]


def test_a_row_of_no_order_is_named(tmp_path: Path) -> None:
    bad, good = read(tmp_path, ORDER, {**ITEM, "Name": ""})
    assert reason(bad).endswith("orders.csv:3: Name: is empty, so the row belongs to no order")
    assert isinstance(good, Request)


def test_a_row_with_more_cells_than_columns_is_named(tmp_path: Path) -> None:
    head, bad_row, good_row = text([ORDER, {**ORDER, "Name": "#2"}]).splitlines()
    bad, good = read_bytes(tmp_path, "\n".join([head, f"{bad_row},x", good_row]).encode())
    assert "the row has 1 cells more than there are columns" in reason(bad)
    assert isinstance(good, Request)


def test_a_file_without_amounts_names_each_order(tmp_path: Path) -> None:
    columns = [column for column in COLUMNS if column != "Taxes"]
    row = {name: value for name, value in ORDER.items() if name != "Taxes"}
    found = read(tmp_path, row, {**row, "Name": "#2"}, columns=columns)
    assert [(each.order_id, each.column) for each in found if isinstance(each, Rejected)] == [
        ("#1001", "Taxes"),
        ("#2", "Taxes"),
    ]
