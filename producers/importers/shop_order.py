"""A shop's order as any export tells it, before it is an invoice request; and what else an importer may find.

Amounts are decimals in the order's currency. `prices_include_tax` says whether they hold the tax: of all parts,
discounts and fees alike.
"""

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, TypeAlias

#: `item` is sold, and the order's discount is taken off it; the others are not discounted by it. `tip` is a line that
#: the shop's subtotal leaves out; `fee` is an amount that an authority adds, whatever was sold.
PartKind: TypeAlias = Literal["item", "tip", "shipping", "duties", "fee"]


@dataclass(frozen=True, slots=True)
class Part:
    """One amount of an order that may bear tax."""

    kind: PartKind
    #: Where it is in the file, as spreadsheets count.
    row: int
    name: str
    unit_price: Decimal
    quantity: Decimal = Decimal(1)
    sku: str = ""
    #: Taken off the whole line; not negative.
    discount: Decimal = Decimal(0)
    #: Whether the export says that it is taxed.
    is_taxable: bool = True
    #: Its own tax, where the export says so.
    tax: Decimal | None = None

    @property
    def amount(self) -> Decimal:
        """What is charged for it, before the order's discount."""
        return self.quantity * self.unit_price - self.discount


@dataclass(frozen=True, slots=True)
class Tax:
    """A tax of the whole order: which parts bear it follows from its amount."""

    column: str
    name: str
    amount: Decimal
    #: In percent; None if the export doesn't say.
    rate: Decimal | None


@dataclass(frozen=True, slots=True)
class Address:
    """A postal address; a text is empty where the export says nothing."""

    street: str = ""
    line2: str = ""
    city: str = ""
    postal_code: str = ""
    subdivision: str = ""
    country: str = ""


@dataclass(frozen=True, slots=True)
class ShopBuyer:
    """Who bought; a text is empty where the export says nothing."""

    name: str = ""
    email: str = ""
    vat_id: str = ""
    address: Address = Address()

    @property
    def has_address(self) -> bool:
        """Whether it is one that an invoice may bear."""
        return bool(self.address.city and self.address.country)


@dataclass(frozen=True, slots=True)
class Payment:
    """That the order was paid: the day as `YYYY-MM-DD`, and by which means; empty where the export says nothing."""

    paid_at: str = ""
    means: str = ""


@dataclass(frozen=True, slots=True)
class ShopOrder:
    """An order to be invoiced. What its amounts add up to has been compared with `total`."""

    order_id: str
    row: int
    currency: str
    buyer: ShopBuyer
    parts: tuple[Part, ...]
    total: Decimal
    prices_include_tax: bool = False
    taxes: tuple[Tax, ...] = ()
    #: Off all the items together; not negative.
    discount: Decimal = Decimal(0)
    discount_name: str = ""
    note: str = ""
    payment: Payment = Payment()
    #: Given back to the buyer since, tax included.
    refunded: Decimal = Decimal(0)
    #: The column to name if amounts or taxes don't add up.
    total_column: str = "Total"


class UntellableError(Exception):
    """An order can't be told: its row and column, and why."""

    def __init__(self, row: int, column: str, reason: str) -> None:
        super().__init__(f"row {row}, column {column}: {reason}")
        self.row = row
        self.column = column
        self.reason = reason
