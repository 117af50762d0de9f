"""What an order becomes: EN 16931's own words for shipping, discounts, rounding and payment, and nothing made up."""

from pathlib import Path

from producers.importers.found import Request
from tests.unit.producers.importers.exports import INSIDE, ITEM, ORDER, body, priced, read, reason


def test_shipping_is_a_charge_and_not_an_article(tmp_path: Path) -> None:
    (order,) = read(tmp_path, ORDER)
    assert len(body(order)["lines"]) == 1
    assert body(order)["charges"] == [
        {"amount": "5.00", "reason": "Colissimo", "reason_code": "FC", "vat_category": "S", "vat_rate": "20"}
    ]


def test_shipping_for_free_is_shown_with_what_is_taken_off(tmp_path: Path) -> None:
    amounts = {"Discount Amount": "5.00", "Discount Code": "FREESHIP", "Taxes": "4.00", "Tax 1 Value": "4.00"}
    (order,) = read(tmp_path, {**ORDER, **amounts, "Total": "24.00"})
    made = body(order)
    assert [each["amount"] for each in (*made["charges"], *made["allowances"])] == ["5.00", "5.00"]
    assert made["allowances"][0]["reason"] == "Discount FREESHIP"


def test_an_orders_discount_is_an_allowance_for_each_rate(tmp_path: Path) -> None:
    amounts = {"Subtotal": "25.00", "Discount Amount": "2.50", "Discount Code": "TEN", "Shipping": "0.00"}
    first = {**ORDER, **amounts, "Taxes": "3.64", "Tax 1 Value": "3.64", "Total": "28.64"}
    (order,) = read(tmp_path, first, {**ITEM, "Lineitem taxable": "false"})
    assert [(each["amount"], each["vat_rate"], each["reason"]) for each in body(order)["allowances"]] == [
        ("1.82", "20", "Discount TEN"),
        ("0.68", "0", "Discount TEN"),
    ]
    assert priced(order).gross_minor == 2864


def test_a_lines_discount_is_its_allowance(tmp_path: Path) -> None:
    amounts = {"Subtotal": "15.00", "Discount Amount": "5.00", "Lineitem discount": "5.00", "Shipping": "0.00"}
    (order,) = read(tmp_path, {**ORDER, **amounts, "Taxes": "3.00", "Tax 1 Value": "3.00", "Total": "18.00"})
    assert body(order)["lines"][0]["allowances"] == [{"amount": "5.00", "reason": "Discount", "reason_code": "95"}]
    assert "allowances" not in body(order)


def test_prices_stay_as_the_buyer_saw_them(tmp_path: Path) -> None:
    (order,) = read(tmp_path, INSIDE)
    assert (body(order)["prices_include_tax"], body(order)["lines"][0]["unit_price"]) == (True, "12.10")


def test_what_a_shop_rounds_otherwise_is_a_rounding_amount(tmp_path: Path) -> None:
    """Three lines of 0.33 at 5%: 0.02 each at the shop, 0.05 together on the invoice."""
    items = [{**ITEM, "Lineitem name": f"Thing {n}", "Lineitem price": "0.33"} for n in range(3)]
    amounts = {"Subtotal": "0.99", "Shipping": "0.00", "Taxes": "0.06", "Tax 1 Value": "0.06", "Total": "1.05"}
    (order,) = read(tmp_path, {**ORDER, **items[0], **amounts, "Tax 1 Name": "GST 5%"}, *items[1:])
    assert (body(order)["rounding_amount"], priced(order).tax_minor, priced(order).gross_minor) == ("0.01", 5, 104)
    assert body(order)["prepaid_amount"] == "1.05"


def test_what_was_paid_is_not_due(tmp_path: Path) -> None:
    (order,) = read(tmp_path, {**ORDER, "Payment Method": "Shopify Payments"})
    assert body(order)["payment"] == {"paid_at": "2025-10-07", "means": "1", "means_text": "Shopify Payments"}
    assert (body(order)["prepaid_amount"], priced(order).payable_minor) == ("30.00", 0)


def test_several_taxes_in_one_rate_are_declared_one_by_one(tmp_path: Path) -> None:
    taxes = {"Tax 1 Name": "GST 5%", "Tax 1 Value": "1.00", "Tax 2 Name": "PST 7%", "Tax 2 Value": "1.40"}
    (order,) = read(tmp_path, {**ORDER, **taxes, "Shipping": "0.00", "Taxes": "2.40", "Total": "22.40"})
    assert body(order)["notes"] == [{"subject_code": "TXD", "text": "GST 5%: 1.00 EUR\nPST 7%: 1.40 EUR"}]


def test_rates_of_three_decimals(tmp_path: Path) -> None:
    rows = []
    for name, rate, tax in (("#1", "QST 9.975%", "9.98"), ("#2", "NYC Sales Tax 8.875%", "8.88")):
        amounts = {"Subtotal": "100.00", "Taxes": tax, "Total": f"10{tax}", "Lineitem price": "100.00"}
        rows.append({**INSIDE, **amounts, "Name": name, "Tax 1 Name": rate, "Tax 1 Value": tax})
    assert [priced(each).tax_minor for each in read(tmp_path, *rows)] == [998, 888]


def test_texts_of_several_lines_keep_them(tmp_path: Path) -> None:
    texts = {"Lineitem name": "Tea\nsecond line", "Billing Street": "1 Main St\nApt 4", "Notes": "one\r\ntwo"}
    (order,) = read(tmp_path, {**INSIDE, **texts})
    assert body(order)["lines"][0]["description"] == "Tea\nsecond line"
    assert body(order)["buyer"]["address"]["street"] == "1 Main St\nApt 4"
    assert body(order)["note"] == "one\ntwo"
    (refused,) = read(tmp_path, {**INSIDE, "Notes": "x" * 2001})
    assert "#1001: note: must have at most 2000 characters" in reason(refused)


def test_an_address_has_its_second_line(tmp_path: Path) -> None:
    lines = {"Billing Street": "1 Main St, Apt 4", "Billing Address1": "1 Main St", "Billing Address2": "Apt 4"}
    (order,) = read(tmp_path, {**INSIDE, **lines})
    address = body(order)["buyer"]["address"]
    assert (address["street"], address["line2"]) == ("1 Main St", "Apt 4")


def test_an_order_without_an_e_mail_address_is_named_unless_the_caller_wants_it_or_it_is_a_tills(
    tmp_path: Path,
) -> None:
    (named,) = read(tmp_path, {**INSIDE, "Email": ""})
    assert "#1001: buyer.email: is empty" in reason(named)
    (till,) = read(tmp_path, {**INSIDE, "Email": "", "Billing City": ""})
    assert "address" not in body(till)["buyer"]
    (order,) = read(tmp_path, {**INSIDE, "Email": ""}, without_email=True)
    assert "email" not in body(order)["buyer"]
    assert isinstance(order, Request)
    assert order.remarks == ("no e-mail address: nobody is sent the invoice",)


def test_a_name_that_is_not_said_is_not_made_up_in_silence(tmp_path: Path) -> None:
    named, unnamed = read(
        tmp_path,
        {**INSIDE, "Billing Name": ""},
        {**INSIDE, "Name": "#2", "Billing Name": "", "Email": ""},
        without_email=True,
    )
    assert isinstance(named, Request)
    assert isinstance(unnamed, Request)
    assert [body(each)["buyer"]["name"] for each in (named, unnamed)] == ["zoe@example.com", "Guest"]
    assert "no buyer's name: their e-mail address stands for it" in named.remarks
    assert "no buyer's name: Guest stands for it" in unnamed.remarks


def test_what_was_given_back_is_told_beside_the_request(tmp_path: Path) -> None:
    (order,) = read(tmp_path, {**INSIDE, "Financial Status": "partially_refunded", "Refunded Amount": "2.10"})
    assert isinstance(order, Request)
    assert (str(order.refunded), order.currency, priced(order).gross_minor) == ("2.10", "EUR", 1210)
