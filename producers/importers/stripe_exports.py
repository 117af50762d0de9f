"""Stripe's exports (Dashboard → Export, and Reports): payments, invoices, and the balance.

Payments and the balance say no tax: the caller says which rate the amounts hold. An invoice's tax stands on it.
"""

import re
from collections.abc import Iterator
from decimal import Decimal

from domain.iso import CURRENCY_EXPONENTS
from producers.importers.body import request
from producers.importers.found import File, Found, Place, Rejected, Skipped
from producers.importers.shop_order import Address, Part, Payment, ShopBuyer, ShopOrder, Tax, UntellableError
from producers.importers.table import Row

_CREATED = ("Created date (UTC)", "Created (UTC)", "created_utc", "created", "Date (UTC)")
_DAY = re.compile(r"\d{4}-\d\d-\d\d")
#: What the columns of an address begin with, and how its postal code ends.
_ADDRESSES = (("Card Address", "Zip"), ("Shipping Address", "Postal Code"), ("Customer Address", "Postal Code"))
_NOTHING = Decimal(0)


class StripePayments:
    """Payments, a row each."""

    title = "Stripe's export of payments"

    def reads(self, file: File) -> bool:
        """Whether it has payments' states and refunds."""
        columns = set(file.table.columns)
        return {"Amount", "Currency", "Status"} <= columns and not columns.isdisjoint(_CREATED) and "Net" not in columns

    def found(self, file: File) -> Iterator[Found]:
        """The payments that were collected."""
        for row in file.table.rows:
            name = row.text("id")
            state = row.text("Status").lower()
            if state in ("paid", "succeeded") and row.text("Captured").lower() == "false":
                state = "uncaptured"
            if state not in ("paid", "succeeded", "refunded", "partially refunded", "disputed"):
                yield Skipped(Place(file.path, row.number), name, state or "no status")
            else:
                yield _found(file, row, name, "id")


class StripeInvoices:
    """Invoices, a row each."""

    title = "Stripe's export of invoices"

    def reads(self, file: File) -> bool:
        """Whether it has invoices' totals."""
        columns = set(file.table.columns)
        return {"Total", "Status", "Currency"} <= columns and not columns.isdisjoint(("Amount Due", "Amount Paid"))

    def found(self, file: File) -> Iterator[Found]:
        """The invoices that were paid."""
        for row in file.table.rows:
            name = row.text("Number", "id")
            state = row.text("Status").lower()
            if state != "paid":
                yield Skipped(Place(file.path, row.number), name, state or "no status")
            else:
                yield _found(file, row, name, "Number")


class StripeBalance:
    """Movements of the balance, a row each."""

    title = "Stripe's export of the balance"

    def reads(self, file: File) -> bool:
        """Whether it has kinds of movements and what they leave."""
        columns = set(file.table.columns)
        return {"Type", "Amount", "Net"} <= columns or {"reporting_category", "gross", "net"} <= columns

    def found(self, file: File) -> Iterator[Found]:
        """Charges and payments; a refund belongs to the payment that it names."""
        rows = file.table.rows
        paid = {self._id(row) for row in rows if self._kind(row) in ("charge", "payment")}
        refunds: dict[str, list[Row]] = {}
        for row in rows:
            if self._kind(row) in ("refund", "payment_refund"):
                refunds.setdefault(self._id(row), []).append(row)
        for row in rows:
            name, kind = self._id(row), self._kind(row)
            place = Place(file.path, row.number)
            if kind in ("charge", "payment"):
                yield _found(file, row, name, "Source", refunds.get(name, ()))
            elif kind not in ("refund", "payment_refund"):
                yield Skipped(place, name, kind or "no type")
            elif name not in paid:
                yield Rejected(place, name, "Source", "which payment of this file it refunds is not said")

    def _kind(self, row: Row) -> str:
        return row.text("Type", "reporting_category").lower()

    def _id(self, row: Row) -> str:
        return row.text("charge_id", "Source", "source_id", "payment_intent_id")


def _found(file: File, row: Row, name: str, id_column: str, refunds: "tuple[Row, ...] | list[Row]" = ()) -> Found:
    try:
        if row.surplus:
            raise UntellableError(row.number, id_column, f"the row has {row.surplus} cells more than there are columns")
        if not name:
            raise UntellableError(row.number, id_column, "is empty: an order needs a name")
        return request(file, _order(file, row, name, refunds), file.table.remarks)
    except UntellableError as error:
        return Rejected(Place(file.path, error.row), name, error.column, error.reason)


def _order(file: File, row: Row, name: str, refunds: "tuple[Row, ...] | list[Row]") -> ShopOrder:
    currency = row.text("Customer Facing Currency", "customer_facing_currency", "Currency", "currency").upper()
    decimals = CURRENCY_EXPONENTS.get(currency)
    if decimals is None:
        raise UntellableError(row.number, "Currency", f"{currency!r} is no ISO 4217 code of a currency in use")
    is_invoice = bool(row.text("Total"))
    facing = ("Customer Facing Amount", "customer_facing_amount")
    columns = ("Total",) if is_invoice else (*facing, "Amount", "gross")
    total = row.amount(*columns, decimals=decimals)
    if total <= 0:
        raise UntellableError(row.number, _first(row, columns), f"{total} is not above 0")
    refunded = abs(row.amount("Amount Refunded", decimals=decimals))
    refunded += abs(sum((each.amount(*facing, "Amount", "gross", decimals=decimals) for each in refunds), _NOTHING))
    discount, said, included = _tax(row, total, decimals) if is_invoice else (_NOTHING, None, True)
    tax = said or _of_rate(file, row, total)
    price = total + discount - (_NOTHING if included else tax.amount)
    text = row.lines("Checkout Line Item Summary") or row.lines("Description") or row.lines("description")
    text = text or (f"Invoice {name}" if is_invoice else f"Payment {name}")
    minor = Decimal(1).scaleb(-decimals)
    return ShopOrder(
        order_id=name,
        row=row.number,
        currency=currency,
        buyer=_buyer(row),
        parts=(Part("item", row.number, text, price, discount=discount),),
        total=total,
        prices_include_tax=included,
        taxes=(Tax(tax.column, tax.name, tax.amount.quantize(minor), tax.rate),),
        payment=Payment(_day(row.text(*_CREATED)), row.text("Card Brand", "payment_method_type")),
        refunded=refunded,
        total_column=_first(row, columns),
    )


def _first(row: Row, columns: tuple[str, ...]) -> str:
    """The first of the columns that has a text."""
    return next((column for column in columns if row.text(column)), columns[0])


def _of_rate(file: File, row: Row, total: Decimal) -> Tax:
    """The tax in an amount, of the rate that the caller says."""
    rate = file.options.vat_rate
    if rate is None:
        raise UntellableError(row.number, "Amount", "the export says no tax: give --vat-rate, 0 if there is none")
    return Tax("Amount", f"{rate}%", total * rate / (100 + rate), rate)


def _tax(row: Row, total: Decimal, decimals: int) -> tuple[Decimal, Tax | None, bool]:
    """An invoice's discount, tax, and whether its amounts include that."""
    discount = abs(row.amount("Total Discount Amount", decimals=decimals))
    if "Tax" not in row.cells:
        return discount, None, True
    amount = row.amount("Tax", decimals=decimals)
    percent = row.amount("Tax Percent") if row.text("Tax Percent") else None
    tax = Tax("Tax", f"{percent}%" if percent else "tax", amount, percent or None)
    if not row.text("Subtotal"):
        raise UntellableError(row.number, "Subtotal", "is empty, so that it isn't known whether amounts include tax")
    left = row.amount("Subtotal", decimals=decimals) - discount
    if total not in (left, left + amount):
        reason = f"{total} is neither subtotal less discount, {left}, nor that with tax, {left + amount}"
        raise UntellableError(row.number, "Total", reason)
    return discount, tax, total == left


def _buyer(row: Row) -> ShopBuyer:
    """The name on the card or of the customer, and the address of the card or of the delivery."""
    email = row.text("Customer Email", "customer_email", "receipt_email")
    name = row.text("Customer Name", "customer_name", "Card Name", "Shipping Name", "Customer Description")
    for prefix, code in (
        ("Card Address", "Zip"),
        ("Shipping Address", "Postal Code"),
        ("Customer Address", "Postal Code"),
    ):
        if row.text(f"{prefix} City") and row.text(f"{prefix} Country"):
            address = Address(
                street=row.text(f"{prefix} Line1"),
                line2=row.text(f"{prefix} Line2"),
                city=row.text(f"{prefix} City"),
                postal_code=row.code(f"{prefix} {code}"),
                subdivision=row.text(f"{prefix} State"),
                country=row.text(f"{prefix} Country").upper(),
            )
            return ShopBuyer(name, email, "", address)
    return ShopBuyer(name, email)


def _day(text: str) -> str:
    return text[:10] if _DAY.match(text) else ""
