"""Shopify's export of orders (Admin → Orders → Export, CSV), as invoice requests.

The file has one row a line item. An order's own columns stand on its first row only; the rows that follow repeat its
`Name` and leave them empty. It doesn't say per line which tax applies, nor whether prices include it; both follow from
the amounts, and where they don't, the order is refused with its row and column rather than guessed at.
"""

import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Any

from domain.iso import CURRENCY_EXPONENTS

COLUMNS_NEEDED = (
    "Name",
    "Email",
    "Financial Status",
    "Currency",
    "Subtotal",
    "Shipping",
    "Taxes",
    "Total",
    "Lineitem quantity",
    "Lineitem name",
    "Lineitem price",
)
#: Orders that were paid; a refund is a credit note's matter. The others (pending, authorized, voided) wait.
INVOICED = frozenset(("paid", "partially_refunded", "refunded"))

_RATE = re.compile(r"(\d{1,3}(?:[.,]\d{1,2})?)\s*%")
_UNIT_PRICE_STEP = Decimal("0.000001")
#: The export has columns for five taxes an order.
_TAXES_MAX = 5


class ShopifyError(ValueError):
    """A row can't be turned into a request: `row 7, column Taxes: …`. Row 1 is the header, as spreadsheets show it."""

    def __init__(self, row: int, column: str, detail: str) -> None:
        super().__init__(f" row {row}, column {column}: {detail}")


@dataclass(frozen=True, slots=True)
class _Row:
    """A row of the file, and which one."""

    number: int
    cells: Mapping[str, str]

    def text(self, column: str) -> str:
        """The cell; spreadsheets guard digits with an apostrophe in front (`'75008`), which is no part of the value."""
        return (self.cells.get(column) or "").strip().removeprefix("'")

    def amount(self, column: str) -> Decimal:
        """The cell as an amount; an empty one is 0."""
        text = self.text(column)
        try:
            value = Decimal(text or "0")
        except InvalidOperation:
            value = Decimal("NaN")
        if not value.is_finite():
            raise self.error(column, f"{text!r} is no amount such as 19.99")
        return value

    def error(self, column: str, detail: str) -> ShopifyError:
        return ShopifyError(self.number, column, detail)


def read_orders(lines: Iterable[str], skipped: Counter[str] | None = None) -> Iterator[dict[str, Any]]:
    """The orders as bodies of `POST /v1/invoices`, in the file's order; raises `ShopifyError`.

    Orders that are cancelled or not paid are left out and counted in `skipped` by their status.
    """
    reader = csv.DictReader(lines)
    missing = [name for name in COLUMNS_NEEDED if name not in (reader.fieldnames or ())]
    if missing:
        raise ShopifyError(1, missing[0], "is missing: this is not Shopify's export of orders")
    for rows in _orders(reader):
        first = rows[0]
        status = "cancelled" if first.text("Cancelled at") else first.text("Financial Status")
        if status in INVOICED:
            yield _request(rows)
        elif skipped is not None:
            skipped[status or "no status"] += 1


def _orders(reader: "csv.DictReader[str]") -> Iterator[list[_Row]]:
    rows: list[_Row] = []
    for number, cells in enumerate(reader, 2):
        row = _Row(number, cells)
        name = row.text("Name")
        if not name:
            raise row.error("Name", "is empty, so the row belongs to no order")
        if rows and name != rows[0].text("Name"):
            yield rows
            rows = []
        rows.append(row)
    if rows:
        yield rows


def _request(rows: list[_Row]) -> dict[str, Any]:
    first = rows[0]
    currency = first.text("Currency")
    if currency not in CURRENCY_EXPONENTS:
        raise first.error("Currency", f"{currency!r} is no ISO 4217 code")
    total = first.amount("Total")
    request: dict[str, Any] = {
        "order_id": first.text("Name"),
        "currency": currency,
        "buyer": _buyer(first),
        "lines": _lines(rows, Decimal(1).scaleb(-CURRENCY_EXPONENTS[currency])),
        "totals": {"gross": str(total)},
    }
    note = first.text("Notes")
    if note:
        request["note"] = note
    return request


def _buyer(first: _Row) -> dict[str, Any]:
    if not first.text("Email"):
        raise first.error("Email", "is empty: an invoice needs somebody to be sent to")
    # Orders from the till have no billing address; the one the goods went to is the next best.
    side = next((side for side in ("Billing", "Shipping") if first.text(f"{side} Name")), None)
    if side is None:
        raise first.error("Billing Name", "is empty, and so is Shipping Name")
    for column in (f"{side} City", f"{side} Country"):
        if not first.text(column):
            raise first.error(column, "is empty: an invoice needs the buyer's address")
    street = first.text(f"{side} Street")
    if not street:
        street = ", ".join(filter(None, (first.text(f"{side} Address1"), first.text(f"{side} Address2"))))
    return {
        "name": first.text(f"{side} Company") or first.text(f"{side} Name"),
        "email": first.text("Email"),
        "address": {
            "street": street,
            "city": first.text(f"{side} City"),
            "postal_code": first.text(f"{side} Zip"),
            "country": first.text(f"{side} Country"),
        },
    }


def _lines(rows: list[_Row], minor: Decimal) -> list[dict[str, str]]:
    """The line items, the discount and the shipping as lines, net of tax, that amount to exactly `Total`."""
    first = rows[0]
    taxes = first.amount("Taxes")
    rate = _rate(first, taxes)
    included = _tax_is_included(first, taxes)
    items = [_item(row, rate) for row in rows]
    listed = sum((price * quantity for _, _, quantity, price, _ in items), Decimal(0))
    discount = listed - first.amount("Subtotal")
    if not 0 <= discount <= max(first.amount("Discount Amount"), Decimal(0)):
        raise first.error(
            "Subtotal", f"the line items amount to {listed}, which its discount does not bring to the subtotal"
        )
    if discount:
        rates = {its_rate for *_, its_rate in items}
        if len(rates) > 1:
            raise first.error("Discount Amount", "covers taxed and untaxed lines; the export says no shares")
        code = first.text("Discount Code")
        items.append(("DISCOUNT", f"Discount {code}".strip(), Decimal(-1), discount, rates.pop()))
    if first.amount("Shipping"):
        name = first.text("Shipping Method") or "Shipping"
        items.append(("SHIPPING", name, Decimal(1), first.amount("Shipping"), rate))
    lines = [
        _line(sku, name, quantity, price / (1 + its_rate / 100) if included else price, its_rate)
        for sku, name, quantity, price, its_rate in items
    ]
    return lines + _rounding(first, lines, taxes, minor)


def _rate(first: _Row, taxes: Decimal) -> Decimal:
    """The one rate of the order, in percent."""
    named = [
        (f"Tax {n} Name", first.text(f"Tax {n} Name"))
        for n in range(1, _TAXES_MAX + 1)
        if first.amount(f"Tax {n} Value")
    ]
    if not taxes:
        return Decimal(0)
    if not named:
        raise first.error("Tax 1 Name", f"is empty, though taxes are {taxes}: the rate stands nowhere else")
    if len(named) > 1:
        raise first.error(named[1][0], "is a second tax; the export does not say which lines bear it")
    column, name = named[0]
    match = _RATE.search(name)
    if match is None:
        raise first.error(column, f"{name!r} names no rate, such as VAT 20%")
    return Decimal(match.group(1).replace(",", "."))


def _tax_is_included(first: _Row, taxes: Decimal) -> bool:
    """Whether prices hold the tax already: then subtotal and shipping make up the total without it."""
    without_tax = first.amount("Subtotal") + first.amount("Shipping")
    total = first.amount("Total")
    if without_tax == total:
        return taxes != 0
    if without_tax + taxes == total:
        return False
    raise first.error(
        "Total", f"{total} is neither subtotal + shipping, {without_tax}, nor that with taxes, {without_tax + taxes}"
    )


def _item(row: _Row, rate: Decimal) -> tuple[str, str, Decimal, Decimal, Decimal]:
    """SKU, description, quantity, price as listed, rate."""
    quantity, price = row.amount("Lineitem quantity"), row.amount("Lineitem price")
    if quantity <= 0:
        raise row.error("Lineitem quantity", "must be above 0")
    if price < 0:
        raise row.error("Lineitem price", "must not be negative")
    if not row.text("Lineitem name"):
        raise row.error("Lineitem name", "is empty")
    taxed = row.text("Lineitem taxable").lower() != "false"
    return row.text("Lineitem sku"), row.text("Lineitem name"), quantity, price, rate if taxed else Decimal(0)


def _line(sku: str, name: str, quantity: Decimal, unit_price: Decimal, rate: Decimal) -> dict[str, str]:
    return {
        "sku": sku,
        "description": name,
        "quantity": format(quantity, "f"),
        "unit_price": _plain(unit_price.quantize(_UNIT_PRICE_STEP, ROUND_HALF_UP)),
        "vat_rate": format(rate, "f"),
        # The export does not say why a line bears no tax; Z is the category that needs no reason given.
        "vat_category": "S" if rate else "Z",
    }


def _plain(amount: Decimal) -> str:
    """Without the zeros at the end that only the division brought."""
    text = format(amount, "f").rstrip("0")
    whole, _, decimals = text.partition(".")
    return f"{whole}.{decimals:0<2}"


def _rounding(first: _Row, lines: list[dict[str, str]], taxes: Decimal, minor: Decimal) -> list[dict[str, str]]:
    """A line for the minor units by which rounding tax once a rate differs from Shopify's rounding of each line.

    More than one unit a line is no rounding: the order is refused.
    """
    nets: dict[Decimal, Decimal] = {}
    for line in lines:
        rate = Decimal(line["vat_rate"])
        net = (Decimal(line["quantity"]) * Decimal(line["unit_price"])).quantize(minor, ROUND_HALF_UP)
        nets[rate] = nets.get(rate, Decimal(0)) + net
    tax = sum(((net * rate / 100).quantize(minor, ROUND_HALF_UP) for rate, net in nets.items()), Decimal(0))
    allowed = minor * (len(lines) + 1)
    if abs(tax - taxes) > allowed:
        raise first.error("Taxes", f"{taxes}, but the taxed lines bear {tax}")
    difference = first.amount("Total") - sum(nets.values(), Decimal(0)) - tax
    if abs(difference) > allowed:
        raise first.error("Total", f"the lines and their tax differ from it by {difference}")
    if not difference:
        return []
    return [_line("ROUNDING", "Rounding", Decimal(1 if difference > 0 else -1), abs(difference), Decimal(0))]
