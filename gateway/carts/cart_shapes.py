"""The types of carts in requests and responses; the OpenAPI document is made from them."""

from typing import Annotated, TypedDict

from msgspec import UNSET, Struct, UnsetType

from admission.carts import LINES_MAX
from domain.checkout import CUSTOMER_CHARS_MAX, PAYMENT_TOKEN_CHARS_MAX, PIECES_MAX, TOKEN
from domain.invoice import ORDER_ID_CHARS_MAX
from domain.product import PRODUCT_ID
from domain.texts import TEXT_CHARS_MAX
from gateway.http.bodies import Buyer, Totals
from gateway.http.openapi import Parameter, described, limits, text, whole

CART_ID_CHARS_MAX = CUSTOMER_CHARS_MAX
CART = Parameter(
    "cart_id", "path", text(CART_ID_CHARS_MAX), "The customer's id, or `guest:` and a session's id.", required=True
)


class CartLineChange(Struct, frozen=True, forbid_unknown_fields=True):
    """How many pieces of a product's SKU."""

    product_id: Annotated[str, limits(pattern=whole(PRODUCT_ID))]
    quantity: Annotated[int, limits(minimum=1, maximum=PIECES_MAX)]


class CartMerge(Struct, frozen=True, forbid_unknown_fields=True):
    """Whose lines are added."""

    source: Annotated[str, limits(minLength=1, maxLength=CART_ID_CHARS_MAX)]


class CartCheckout(Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """A checkout of what is in a cart, at the catalogue's prices."""

    cart: Annotated[str, limits(minLength=1, maxLength=CART_ID_CHARS_MAX)]
    payment_token: Annotated[str, limits(maxLength=PAYMENT_TOKEN_CHARS_MAX, pattern=whole(TOKEN))]
    buyer: Buyer
    order_id: Annotated[str, limits(minLength=1, maxLength=ORDER_ID_CHARS_MAX)] | UnsetType = UNSET
    customer: (
        Annotated[str, limits(minLength=1, maxLength=CUSTOMER_CHARS_MAX), described("The cart's, unless a guest's.")]
        | UnsetType
        | None
    ) = UNSET
    note: Annotated[str, limits(maxLength=TEXT_CHARS_MAX["note"])] | UnsetType | None = UNSET
    totals: Annotated[Totals, described("What the buyer has seen.")] | UnsetType | None = UNSET


class CartLineView(TypedDict):
    """A line: the price that the buyer has seen, and the one of now, null if it is not sold or nobody can say."""

    sku: str
    product_id: str
    name: str | None
    quantity: int
    unit_price: str
    unit_price_now: str | None
    available: int | None


class CartView(TypedDict):
    """A cart; `order_id` is the order that it is checked out as."""

    cart_id: str
    version: int
    state: str
    order_id: str | None
    currency: str | None
    prices_include_tax: bool | None
    lines: Annotated[list[CartLineView], limits(maxItems=LINES_MAX)]


class MergeConflictView(TypedDict):
    """A line of which fewer pieces were added than wanted."""

    sku: str
    wanted: int
    quantity: int


class MergedCart(TypedDict):
    """The cart after a merge."""

    cart: CartView
    conflicts: list[MergeConflictView]
