"""Stripe's exports: payments and the balance say no tax, invoices do."""

from decimal import Decimal
from pathlib import Path

import pytest

from producers.importers.found import Skipped
from tests.unit.producers.importers.exports import bodies_of, body, priced, read, reason

ADDRESS = {
    "Card Name": "Zoë O'Neil",
    "Card Address Line1": "1 rue de l'Église",
    "Card Address City": "Lyon",
    "Card Address Country": "FR",
    "Card Address Zip": "69001",
}
PAYMENT = {
    "id": "ch_1",
    "Created date (UTC)": "2026-09-10 14:30:00",
    "Amount": "1,200.00",
    "Amount Refunded": "0.00",
    "Currency": "eur",
    "Captured": "true",
    "Description": "Pro plan",
    "Status": "Paid",
    "Customer Email": "zoe@example.com",
    **ADDRESS,
}
INVOICE = {
    "id": "in_1",
    "Number": "ABC-0001",
    "Currency": "eur",
    "Customer Name": "Zoë O'Neil",
    "Customer Email": "zoe@example.com",
    "Subtotal": "110.00",
    "Total Discount Amount": "10.00",
    "Tax": "20.00",
    "Total": "120.00",
    "Amount Due": "120.00",
    "Status": "paid",
    **ADDRESS,
}
MOVEMENT = {
    "id": "txn_1",
    "Type": "charge",
    "Source": "ch_1",
    "Amount": "120.00",
    "Fee": "3.78",
    "Net": "116.22",
    "Currency": "eur",
    "Created (UTC)": "2026-09-01 14:03",
    "Description": "Course",
    "Customer Email": "zoe@example.com",
    **ADDRESS,
}


def test_a_payment_holds_the_tax_of_the_rate_that_the_caller_says(tmp_path: Path) -> None:
    (order,) = read(tmp_path, PAYMENT, columns=list(PAYMENT), vat_rate=Decimal(20))
    made = body(order)
    assert (made["order_id"], made["currency"], made["lines"][0]["description"]) == ("ch_1", "EUR", "Pro plan")
    assert (priced(order).tax_minor, priced(order).gross_minor) == (20_000, 120_000)


def test_without_a_rate_each_payment_is_named(tmp_path: Path) -> None:
    (refused,) = read(tmp_path, PAYMENT, columns=list(PAYMENT))
    assert reason(refused).endswith(":2: ch_1: Amount: the export says no tax: give --vat-rate, 0 if there is none")


def test_what_was_not_collected_is_left_out(tmp_path: Path) -> None:
    changes = ({"Status": "Failed"}, {"Captured": "false"}, {"Status": "requires_payment_method"})
    found = read(tmp_path, *({**PAYMENT, **each} for each in changes), columns=list(PAYMENT))
    states = [each.state for each in found if isinstance(each, Skipped)]
    assert states == ["failed", "uncaptured", "requires_payment_method"]


def test_an_invoice_has_its_own_tax_and_discount(tmp_path: Path) -> None:
    (order,) = read(tmp_path, INVOICE, columns=list(INVOICE))
    assert body(order)["order_id"] == "ABC-0001"
    assert (priced(order).net_minor, priced(order).tax_minor) == (10_000, 2000)
    (order,) = read(tmp_path, {**INVOICE, "Subtotal": "130.00"}, columns=list(INVOICE))
    assert (priced(order).net_minor, priced(order).tax_minor) == (10_000, 2000)
    (refused,) = read(tmp_path, {**INVOICE, "Subtotal": "131.00"}, columns=list(INVOICE))
    assert "Total: 120.00 is neither subtotal less discount, 121.00" in reason(refused)


def test_invoices_that_are_not_paid_are_left_out(tmp_path: Path) -> None:
    found = read(tmp_path, {**INVOICE, "Status": "open"}, {**INVOICE, "Status": "void"}, columns=list(INVOICE))
    assert [each.state for each in found if isinstance(each, Skipped)] == ["open", "void"]


def test_of_the_balance_charges_are_orders_and_what_they_cost_is_left_out(tmp_path: Path) -> None:
    others = [{**MOVEMENT, "Type": kind, "Source": f"x_{kind}"} for kind in ("payout", "stripe_fee")]
    refunds = [{**MOVEMENT, "Type": "refund", "Source": source, "Amount": "-20.00"} for source in ("ch_1", "re_1")]
    found = read(tmp_path, MOVEMENT, *others, *refunds, columns=list(MOVEMENT), vat_rate=Decimal(20))
    assert [each["order_id"] for each in bodies_of(found[:1])] == ["ch_1"]
    assert [each.state for each in found if isinstance(each, Skipped)] == ["payout", "stripe_fee"]
    assert reason(found[3]).endswith(":6: re_1: Source: which payment of this file it refunds is not said")


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"id": ""}, "id: is empty: an order needs a name"),
        ({"Amount": "0.00"}, "Amount: 0.00 is not above 0"),
        ({"Currency": "euro"}, "Currency: 'EURO' is no ISO 4217 code"),
    ],
)
def test_what_cannot_be_told_is_named(tmp_path: Path, changes: dict[str, str], what: str) -> None:
    (refused,) = read(tmp_path, {**PAYMENT, **changes}, columns=list(PAYMENT))
    assert what in reason(refused)
