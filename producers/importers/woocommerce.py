"""WooCommerce's exports of orders, as its three usual exporters write them.

WooCommerce has no export of orders of its own. These have the most users, and differ in names and in where the items
are; all amounts are without tax, after discounts, and the tax of each stands beside it:

- *Customer/Order/Coupon Export* (`order_number`, `item_name` …): a row an item, or all of an order in `line_items`;
- *Order Export & Order Import* (`order_number`, `line_item_1` …): a column an item;
- *Advanced Order Export* (`Order Number`, `Item Name` …): a row an item, under names for people.
"""

import re
from collections.abc import Iterator, Sequence
from decimal import Decimal

from domain.iso import CURRENCY_EXPONENTS
from producers.importers.body import request
from producers.importers.found import File, Found, Place, Rejected, Skipped
from producers.importers.shop_order import Address, Part, Payment, ShopBuyer, ShopOrder, Tax, UntellableError
from producers.importers.table import Row, number

_ID = ("order_number_formatted", "order_number", "Order Number", "order_id", "Order ID")
_STATUS = ("status", "order_status", "Order Status")
_CURRENCY = ("order_currency", "currency", "Order Currency", "Currency")
_TOTAL = ("order_total", "Order Total Amount", "Order Total")
_TAX = ("tax_total", "Order Total Tax Amount", "total_tax")
_SHIPPING = ("shipping_total", "Order Shipping Amount")
_SHIPPING_TAX = ("shipping_tax_total", "Order Shipping Tax Amount")
_FEES = ("fee_total", "Order Fee Amount", "Order Fees Amount")
_FEES_TAX = ("fee_tax_total", "Order Fee Tax Amount")
_REFUNDED = ("refunded_total", "total_refunded", "Order Refund Amount")
_ITEM = ("item_name", "Item Name", "Product Name", "Name")
_ITEM_SKU = ("item_sku", "SKU")
_ITEM_QUANTITY = ("item_quantity", "Quantity", "Quantity (- Refund)")
_ITEM_TOTAL = ("item_total", "Order Line (w/o tax)", "Order Line Total (w/o tax)")
_ITEM_TAX = ("item_total_tax", "item_tax", "Order Line Tax")
_ITEM_PRICE = ("Item Cost", "item_price")
_PACKED_ITEM = re.compile(r"line_item_\d+")
#: `name:Tea|quantity:2`; a text may hold the separators, so that a key has to follow them.
_FIELD = re.compile(r"(?:^|\|)([a-z_]+):")

INVOICED = frozenset(("processing", "completed", "refunded"))
_NOT_INVOICED = frozenset(
    (
        "pending",
        "pending payment",
        "on-hold",
        "on hold",
        "failed",
        "cancelled",
        "canceled",
        "draft",
        "checkout-draft",
        "trash",
    )
)
_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_NOTHING = Decimal(0)


class WooCommerce:
    """WooCommerce's orders, by one of three exporters."""

    title = "WooCommerce's orders (Customer/Order Export, Order Export & Import, Advanced Order Export)"

    def reads(self, file: File) -> bool:
        """Whether an order's number, state, total and items are there."""
        columns = set(file.table.columns)
        return all(columns.intersection(names) for names in (_ID, _STATUS, _TOTAL)) and (
            not columns.isdisjoint((*_ITEM, "line_items")) or any(map(_PACKED_ITEM.fullmatch, columns))
        )

    def found(self, file: File) -> Iterator[Found]:
        """The orders in the order of their first rows."""
        orders: dict[str, list[Row]] = {}
        for row in file.table.rows:
            if name := row.text(*_ID):
                orders.setdefault(name, []).append(row)
            else:
                yield Rejected(Place(file.path, row.number), "", _ID[1], "is empty, so the row belongs to no order")
        for name, rows in orders.items():
            place = Place(file.path, rows[0].number)
            try:
                state = rows[0].text(*_STATUS).lower().removeprefix("wc-")
                if state in _NOT_INVOICED:
                    yield Skipped(place, name, state)
                    continue
                if state not in INVOICED:
                    known = ", ".join(sorted(INVOICED | _NOT_INVOICED))
                    raise UntellableError(rows[0].number, "status", f"{state!r} is none of {known}")
                yield request(file, _order(name, rows, file), file.table.remarks)
            except UntellableError as error:
                yield Rejected(Place(file.path, error.row), name, error.column, error.reason)


def _order(name: str, rows: Sequence[Row], file: File) -> ShopOrder:
    head = rows[0]
    for row in rows:
        if row.surplus:
            raise UntellableError(row.number, "", f"the row has {row.surplus} cells more than there are columns")
        if row.text(*_TOTAL) not in ("", head.text(*_TOTAL)):
            raise UntellableError(row.number, _TOTAL[0], f"another order of this number begins in row {head.number}")
    currency = (head.text(*_CURRENCY) or file.options.currency or "").upper()
    decimals = CURRENCY_EXPONENTS.get(currency)
    if decimals is None:
        what = f"{currency!r} is no ISO 4217 code of a currency in use" if currency else "is not said: give --currency"
        raise UntellableError(head.number, _CURRENCY[0], what)
    minor = Decimal(1).scaleb(-decimals)
    if not head.text(*_TOTAL):
        raise UntellableError(head.number, _TOTAL[0], "is empty")
    tax = head.amount(*_TAX, decimals=decimals)
    parts = [*_items(rows, decimals), *_extras(head, decimals)]
    known = sum((part.tax for part in parts if part.tax is not None), _NOTHING)
    # Where the items' tax isn't said, it is what the order's leaves for them.
    unsaid = any(part.tax is None for part in parts)
    taxes = (Tax(_TAX[0], "tax", tax - known, None),) if unsaid and tax > known else ()
    total = head.amount(*_TOTAL, decimals=decimals)
    found = sum((part.amount for part in parts), _NOTHING) + tax
    if abs(found - total) > minor * (len(parts) + 1):
        raise UntellableError(head.number, _TOTAL[0], f"{total}, but items, shipping, fees and tax are {found}")
    return ShopOrder(
        order_id=name,
        row=head.number,
        currency=currency,
        buyer=_buyer(head),
        parts=tuple(parts),
        total=total,
        taxes=taxes,
        note=head.lines("customer_note") or head.lines("Customer Note"),
        payment=Payment(
            _day(head.text("paid_date", "date_paid", "Paid Date")),
            head.text("payment_method_title", "Payment Method Title", "payment_method"),
        ),
        refunded=abs(head.amount(*_REFUNDED, decimals=decimals)),
        total_column=_TOTAL[0],
    )


def _items(rows: Sequence[Row], decimals: int) -> list[Part]:
    head = rows[0]
    packed = [head.lines("line_items")] if head.text("line_items") else []
    packed = [item for cell in packed for item in re.split(r";(?=\s*(?:id|name):)", cell) if item.strip()]
    packed += [head.lines(column) for column in head.cells if _PACKED_ITEM.fullmatch(column) and head.text(column)]
    if packed:
        return [_packed(head, item, decimals) for item in packed]
    return [_item(row, decimals) for row in rows]


def _item(row: Row, decimals: int) -> Part:
    name = row.text(*_ITEM)
    quantity = row.amount(*_ITEM_QUANTITY)
    if not name:
        raise UntellableError(row.number, _ITEM[0], "is empty")
    if quantity <= 0:
        raise UntellableError(row.number, _ITEM_QUANTITY[0], f"{quantity} is not above 0")
    if row.text(*_ITEM_TOTAL):
        price = row.amount(*_ITEM_TOTAL, decimals=decimals) / quantity
    elif row.text(*_ITEM_PRICE):
        price = row.amount(*_ITEM_PRICE, decimals=decimals)
    else:
        raise UntellableError(row.number, _ITEM_TOTAL[0], "is empty")
    tax = row.amount(*_ITEM_TAX, decimals=decimals) if row.text(*_ITEM_TAX) else None
    return Part("item", row.number, name, price, quantity, row.text(*_ITEM_SKU), tax=tax)


def _packed(row: Row, item: str, decimals: int) -> Part:
    """An item of which the cell says `name:Tea|sku:T-1|quantity:2|total:20.00|total_tax:4.00`."""
    pieces = _FIELD.split(item.strip())
    said = dict(zip(pieces[1::2], (piece.strip() for piece in pieces[2::2]), strict=True))

    def amount(field: str) -> Decimal | None:
        if not said.get(field):
            return None
        value = number(said[field], has_decimal_commas=row.has_decimal_commas, decimals=decimals)
        if value is None:
            raise UntellableError(row.number, "line_items", f"{field} {said[field]!r} is no amount")
        return value

    quantity, total = amount("quantity"), amount("total")
    if not said.get("name") or not quantity or total is None:
        raise UntellableError(row.number, "line_items", f"{item[:80]!r} has no name, quantity or total")
    if quantity < 0:
        raise UntellableError(row.number, "line_items", f"quantity {quantity} is not above 0")
    tax = amount("total_tax")
    return Part("item", row.number, said["name"], total / quantity, quantity, said.get("sku", ""), tax=tax)


def _extras(head: Row, decimals: int) -> list[Part]:
    """Shipping and fees, with their taxes."""
    shipping = head.amount(*_SHIPPING, decimals=decimals)
    fees = head.amount(*_FEES, decimals=decimals)
    method = head.text("shipping_method", "Shipping Method Title") or "Shipping"
    parts = [
        Part("shipping", head.number, method, shipping, tax=_tax(head, _SHIPPING_TAX, decimals)),
        Part("fee", head.number, "Fees", fees, tax=_tax(head, _FEES_TAX, decimals)),
    ]
    return [part for part in parts if part.unit_price]


def _tax(head: Row, columns: Sequence[str], decimals: int) -> Decimal | None:
    return head.amount(*columns, decimals=decimals) if head.text(*columns) else None


def _buyer(head: Row) -> ShopBuyer:
    """The billing address, or else the shipping one."""
    for side in ("billing", "shipping"):
        label = side.capitalize()
        first = head.text(f"{side}_first_name", f"First Name ({label})")
        last = head.text(f"{side}_last_name", f"Last Name ({label})")
        name = f"{first} {last}".strip() or head.text(f"{side}_full_name", f"Full Name ({label})")
        company = head.text(f"{side}_company", f"Company ({label})")
        if name or company:
            address = Address(
                street=head.text(f"{side}_address_1", f"Address 1 ({label})", f"Address 1&2 ({label})"),
                line2=head.text(f"{side}_address_2", f"Address 2 ({label})"),
                city=head.text(f"{side}_city", f"City ({label})"),
                postal_code=head.code(f"{side}_postcode", f"Postcode ({label})"),
                subdivision=head.text(f"{side}_state", f"State Code ({label})", f"State Name ({label})"),
                country=head.text(f"{side}_country", f"Country Code ({label})", f"Country ({label})").upper(),
            )
            return ShopBuyer(company or name, _email(head), "", address)
    return ShopBuyer("", _email(head))


def _email(head: Row) -> str:
    return head.text("billing_email", "Email (Billing)", "customer_email", "Customer Email")


def _day(text: str) -> str:
    return text[:10] if _DAY.match(text) else ""
