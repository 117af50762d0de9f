"""Shopify's export of orders (Admin → Orders → Export, CSV).

The file has one row a line item. An order's own columns stand on one of its rows, its first; the others repeat its
`Name` and leave them empty. What the columns mean was found in many exports:

- `Subtotal` is what the items amount to after all discounts on them. A tip is a line item that it leaves out.
- `Discount Amount` is the sum of all discounts, `Lineitem discount` the part of it that one line has, and what is left
  over after the items' was taken off the shipping, which `Shipping` says before it.
- `Total` = items - `Discount Amount` + `Shipping` + `Duties` (+ `Taxes`, unless prices include them). Refunds and gift
  cards used as payment leave it as it is.
- A tax with a rate of 0% and an amount is a fee that doesn't depend on what was sold.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal

from domain.iso import CURRENCY_EXPONENTS
from producers.importers.body import request
from producers.importers.found import File, Found, Place, Rejected, Skipped
from producers.importers.shop_order import Address, Part, Payment, ShopBuyer, ShopOrder, Tax, UntellableError
from producers.importers.table import Row

#: Orders that were paid. The others (pending, authorized, voided, expired …) are not invoiced, or not yet.
INVOICED = frozenset(("paid", "partially_refunded", "refunded"))
#: Without them an order's amounts are not known.
_NEEDED = ("Currency", "Taxes", "Total", "Lineitem quantity", "Lineitem name", "Lineitem price")
#: The export has columns for five taxes an order.
_TAXES_MAX = 5
_RATE = re.compile(r"(\d{1,3}(?:[.,]\d+)?)\s*%")
_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_NOTHING = Decimal(0)


class Shopify:
    """Shopify's export of orders."""

    title = "Shopify's export of orders"

    def reads(self, file: File) -> bool:
        """Whether a line item's columns are there."""
        columns = file.table.columns
        return "Name" in columns and any(column.startswith("Lineitem ") for column in columns)

    def found(self, file: File) -> Iterator[Found]:
        """The orders in the order of their first rows."""
        path, table = file.path, file.table
        missing = [column for column in _NEEDED if column not in table.columns]
        orders: dict[str, list[Row]] = {}
        for row in table.rows:
            name = row.text("Name")
            if name:
                orders.setdefault(name, []).append(row)
            else:
                yield Rejected(Place(path, row.number), "", "Name", "is empty, so the row belongs to no order")
        for name, rows in orders.items():
            place = Place(path, rows[0].number)
            try:
                head = _head(rows)
                state = "cancelled" if head.text("Cancelled at") else head.text("Financial Status").lower()
                if state not in INVOICED and "Financial Status" in table.columns:
                    yield Skipped(place, name, state or "no status")
                    continue
                for column in ("Financial Status", *missing):
                    if column not in table.columns:
                        raise UntellableError(head.number, column, "the file has no such column")
                yield request(file, _order(name, head, rows), table.remarks)
            except UntellableError as error:
                yield Rejected(Place(path, error.row), name, error.column, error.reason)


@dataclass(frozen=True, slots=True)
class _Sums:
    """The order's own amounts."""

    currency: str
    minor: Decimal
    decimals: int
    total: Decimal
    taxes: Decimal
    shipping: Decimal
    duties: Decimal


def _head(rows: Sequence[Row]) -> Row:
    """The row that holds the order's own columns."""
    for row in rows:
        if row.surplus:
            raise UntellableError(row.number, "Name", f"the row has {row.surplus} cells more than there are columns")
    heads = [row for row in rows if row.text("Total") or row.text("Financial Status")]
    for row in heads[1:]:
        for column in ("Total", "Subtotal", "Financial Status", "Currency"):
            # A spreadsheet may have filled the columns down.
            if row.text(column) != heads[0].text(column):
                raise UntellableError(row.number, column, f"another order of this name begins in row {heads[0].number}")
    return heads[0] if heads else rows[0]


def _order(name: str, head: Row, rows: Sequence[Row]) -> ShopOrder:
    sums = _sums(head)
    items = [_item(row, sums.decimals) for row in rows]
    listed = sum((item.amount for item in items), _NOTHING)
    discount = head.amount("Discount Amount", decimals=sums.decimals)
    if not 0 <= discount <= listed + sums.shipping:
        raise UntellableError(head.number, "Discount Amount", f"{discount} of {listed + sums.shipping}")
    tips, of_shipping = _outside_subtotal(head, items, discount, sums)
    items = [_as_tip(item) if item in tips else item for item in items]
    fees, taxes = _taxes(head, sums)
    extras = [
        Part("shipping", head.number, head.text("Shipping Method") or "Shipping", sums.shipping, discount=of_shipping),
        Part("duties", head.number, "Duties", sums.duties),
        *fees,
    ]
    items, rest = _line_discounts(rows, items, discount - of_shipping, sums.decimals)
    parts = (*items, *(part for part in extras if part.unit_price))
    without = sum((part.amount for part in parts), _NOTHING) - rest
    return ShopOrder(
        order_id=name,
        row=head.number,
        currency=sums.currency,
        buyer=_buyer(head),
        parts=parts,
        total=sums.total,
        prices_include_tax=_tax_is_included(head, without, taxes, sums),
        taxes=tuple(taxes),
        discount=rest,
        discount_name=head.text("Discount Code"),
        note=head.lines("Notes"),
        payment=Payment(_day(head.text("Paid at")), head.text("Payment Method")),
        refunded=head.amount("Refunded Amount", decimals=sums.decimals),
    )


def _sums(head: Row) -> _Sums:
    currency = head.text("Currency").upper()
    decimals = CURRENCY_EXPONENTS.get(currency)
    if decimals is None:
        raise UntellableError(head.number, "Currency", f"{currency!r} is no ISO 4217 code of a currency in use")
    if not head.text("Total"):
        raise UntellableError(head.number, "Total", "is empty")
    sums = _Sums(
        currency,
        Decimal(1).scaleb(-decimals),
        decimals,
        head.amount("Total", decimals=decimals),
        head.amount("Taxes", decimals=decimals),
        head.amount("Shipping", decimals=decimals),
        head.amount("Duties", decimals=decimals),
    )
    for column, amount in (("Total", sums.total), ("Taxes", sums.taxes), ("Shipping", sums.shipping)):
        if amount < 0:
            raise UntellableError(head.number, column, f"{amount} is below 0")
    return sums


def _item(row: Row, decimals: int) -> Part:
    quantity = row.amount("Lineitem quantity", decimals=decimals)
    price = row.amount("Lineitem price", decimals=decimals)
    name = row.lines("Lineitem name")
    if not name:
        raise UntellableError(row.number, "Lineitem name", "is empty")
    if quantity <= 0:
        raise UntellableError(row.number, "Lineitem quantity", f"{row.text('Lineitem quantity')!r} is not above 0")
    if not row.text("Lineitem price") or price < 0:
        raise UntellableError(row.number, "Lineitem price", f"{row.text('Lineitem price')!r} is no price")
    taxable = row.text("Lineitem taxable").lower() != "false"
    return Part("item", row.number, name, price, quantity, row.text("Lineitem sku"), is_taxable=taxable)


def _outside_subtotal(
    head: Row, items: Sequence[Part], discount: Decimal, sums: _Sums
) -> tuple[Sequence[Part], Decimal]:
    """Which lines the subtotal leaves out as tips, and what the discount takes off the shipping.

    Subtotal = items - tips - (discount - discount of the shipping). Where both are unknown, a discount of nothing or of
    all the shipping is likelier than one of a part of it, and no tip likelier than one.
    """
    if not head.text("Subtotal"):
        return (), _NOTHING
    subtotal = head.amount("Subtotal", decimals=sums.decimals)
    listed = sum((item.amount for item in items), _NOTHING)
    untaxed = [item for item in items if not item.is_taxable]
    choices: list[tuple[int, int, Sequence[Part], Decimal]] = []
    for place, tips in enumerate(((), *([item] for item in reversed(untaxed)), untaxed)):
        left = listed - sum((tip.amount for tip in tips), _NOTHING)
        of_shipping = subtotal + discount - left
        if 0 <= of_shipping <= sums.shipping:
            likelihood = 0 if not of_shipping else 1 if of_shipping == sums.shipping else 2
            choices.append((likelihood, place, tips, of_shipping))
    if not choices:
        reason = f"the items amount to {listed}, which a discount of {discount} doesn't bring to {subtotal}"
        raise UntellableError(head.number, "Subtotal", reason)
    *_, tips, of_shipping = min(choices, key=lambda each: each[:2])
    return tips, of_shipping


def _as_tip(item: Part) -> Part:
    return Part("tip", item.row, item.name, item.unit_price, item.quantity, item.sku, is_taxable=False)


def _line_discounts(
    rows: Sequence[Row], items: Sequence[Part], discount: Decimal, decimals: int
) -> tuple[list[Part], Decimal]:
    """The items with their own discounts, and what is left for the order's."""
    own = [row.amount("Lineitem discount", decimals=decimals) for row in rows]
    if sum(own, _NOTHING) > discount or any(
        not 0 <= each <= item.amount or (each and item.kind != "item") for each, item in zip(own, items, strict=True)
    ):
        return list(items), discount
    made = [
        Part(i.kind, i.row, i.name, i.unit_price, i.quantity, i.sku, discount=each, is_taxable=i.is_taxable)
        for each, i in zip(own, items, strict=True)
    ]
    return made, discount - sum(own, _NOTHING)


def _taxes(head: Row, sums: _Sums) -> tuple[list[Part], list[Tax]]:
    """Fees and taxes; a tax without a name where the named ones don't make up `Taxes`."""
    fees: list[Part] = []
    taxes: list[Tax] = []
    named = _NOTHING
    for number in range(1, _TAXES_MAX + 1):
        column = f"Tax {number} Value"
        amount = head.amount(column, decimals=sums.decimals)
        name = head.text(f"Tax {number} Name")
        found = _RATE.findall(name)
        rate = Decimal(found[-1].replace(",", ".")) if found else None
        named += amount
        if amount < 0:
            raise UntellableError(head.number, column, f"{amount} is below 0")
        if amount and rate == 0:
            fees.append(Part("fee", head.number, name.replace(f"{found[-1]}%", "").strip() or name, amount))
        elif amount:
            taxes.append(Tax(column, name or f"Tax {number}", amount, rate))
    rest = sums.taxes - named
    if rest < -sums.minor * _TAXES_MAX:
        raise UntellableError(head.number, "Taxes", f"{sums.taxes}, but the single taxes amount to {named}")
    # The export has no columns for a sixth tax. A few cents are no tax, but rounding.
    if rest > sums.minor * (len(taxes) if taxes else 0):
        taxes.append(Tax("Taxes", "a tax without a name", rest, None))
    return fees, taxes


def _tax_is_included(head: Row, without: Decimal, taxes: Sequence[Tax], sums: _Sums) -> bool:
    """Whether prices hold the tax already: then the parts make up the total without it."""
    tax = sum((each.amount for each in taxes), _NOTHING)
    if not tax and sums.total == without:
        return False
    if sums.total == without:
        return True
    # `Taxes` may differ by a cent from its parts; who pays in cash pays a rounded total.
    if abs(sums.total - without - tax) <= sums.minor * (len(taxes) + 1):
        return False
    reason = f"{sums.total} is neither what the items, shipping and discounts amount to, {without}"
    raise UntellableError(head.number, "Total", f"{reason}, nor that with taxes, {without + tax}")


def _buyer(head: Row) -> ShopBuyer:
    """Billing address, or else where the goods went: orders from the till have none, or no more than a name."""
    sides = [side for side in ("Billing", "Shipping") if head.text(f"{side} Name", f"{side} Company")]
    whole = [side for side in sides if head.text(f"{side} City") and head.text(f"{side} Country")]
    side = (whole or sides or ["Billing"])[0]
    first = head.lines(f"{side} Address1")
    address = Address(
        street=first or head.lines(f"{side} Street"),
        line2=head.text(f"{side} Address2") if first else "",
        city=head.text(f"{side} City"),
        postal_code=head.code(f"{side} Zip"),
        subdivision=head.text(f"{side} Province Name", f"{side} Province"),
        country=head.text(f"{side} Country").upper(),
    )
    return ShopBuyer(head.text(f"{side} Company", f"{side} Name"), head.text("Email"), "", address)


def _day(text: str) -> str:
    return text[:10] if _DAY.match(text) else ""
