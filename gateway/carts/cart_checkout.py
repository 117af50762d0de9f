"""A checkout of a cart: priced from the catalogue, whatever the client says, and told where a price has changed."""

import asyncio
import contextlib
from typing import Any, NamedTuple, TypedDict

import msgspec

from admission.carts import Cart, Carts, CartStatus, is_guest
from admission.hints import Hints, of_checkouts
from admission.unavailable import RedisUnavailableError
from domain.checkout import check_name
from domain.refusals import INVALID_FIELD, Refusal
from gateway.carts.cart_shapes import CART_ID_CHARS_MAX, CartCheckout
from gateway.carts.carts import CartKeeping, changed, needing_redis, price_now
from gateway.http import bodies, problems
from gateway.http.problems import ProblemError, ProblemKind
from gateway.products.catalogue import Catalogue, Offer
from schemas.catalog import INVOICE_REQUEST, INVOICE_REQUESTS
from schemas.codec import decode
from sinks.postgres.lanes import PostgresUnavailableError
from sinks.postgres.orders_reader import OrdersReader

#: Others may change the cart while it is priced.
_TRIES_MAX = 3
#: After these it is certain that the order comes to nothing. A cancelled one may be taken up by a late payment.
_CAME_TO_NOTHING: frozenset[ProblemKind] = frozenset({problems.OUT_OF_STOCK, problems.PAYMENT_DECLINED})
#: After these it is certain that no order came of this request. Of an earlier one with the same order id, which was
#: accepted or not acknowledged, an order may have come: it says what became of it, as after any other problem.
_REFUSED: frozenset[ProblemKind] = frozenset(
    {
        problems.CONFLICT,
        problems.ALREADY_INVOICED,
        problems.TOO_MANY_REQUESTS,
        problems.OVERLOADED,
        problems.SELLER_OVERLOADED,
        problems.MALFORMED,
        *problems.RULES,
    }
)


class _PricedLine(TypedDict):
    """A line as a checkout's body has it."""

    sku: str
    description: str
    quantity: str
    unit_price: str
    vat_rate: str
    vat_category: str


class _PricedCart(TypedDict):
    """What a checkout's body says instead of its cart."""

    currency: str
    prices_include_tax: bool
    lines: list[_PricedLine]


class CheckedOutCart(NamedTuple):
    """A cart as a checkout."""

    cart_id: str
    order_id: str
    #: The checkout's body.
    body: bytes
    #: Whether an earlier request with this order id has checked it out, or may have.
    is_repeat: bool


_decoder = msgspec.json.Decoder(CartCheckout)
_priced_decoder = msgspec.json.Decoder(_PricedCart)


def is_of_cart(body: bytes) -> bool:
    """Whether the body of a checkout names a cart. A name is not guessed from its bytes alone."""
    if b'"cart"' not in body:
        return False
    try:
        return "cart" in msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False


class CartCheckouts:
    """Makes of a cart the checkout of its lines."""

    def __init__(
        self, carts: Carts, keeping: CartKeeping, catalogue: Catalogue, orders: OrdersReader, hints: Hints
    ) -> None:
        self._carts = carts
        self._keeping = keeping
        self._catalogue = catalogue
        self._orders = orders
        self._hints = hints

    async def as_checkout(self, seller_id: str, body: bytes, idempotency_key: str | None) -> CheckedOutCart:
        """The cart that the body names, checked out.

        Raises `ProblemError`, also where what the buyer has seen is not what it costs.
        """
        asked = bodies.decode_small(_decoder, body)
        order_id = bodies.order_id_of(asked.order_id, idempotency_key)
        refusal = check_name("cart", asked.cart, CART_ID_CHARS_MAX)
        if refusal is not None:
            raise problems.refused(refusal)
        priced, is_repeat = await self._ordered(seller_id, order_id), True
        if priced is None:
            with needing_redis():
                priced, is_repeat = await self._check_out(seller_id, asked.cart, order_id)
        checkout: dict[str, Any] = msgspec.to_builtins(asked)
        del checkout["cart"]
        if asked.customer is msgspec.UNSET and not is_guest(asked.cart):
            checkout["customer"] = asked.cart
        made = msgspec.json.encode(checkout | priced | {"order_id": order_id})
        return CheckedOutCart(asked.cart, order_id, made, is_repeat)

    async def came_to(self, seller_id: str, cart: CheckedOutCart, problem: ProblemError | None) -> None:
        """The order is confirmed, or a problem has ended the request."""
        # Best effort: the cart's next reader finds out from the order.
        with contextlib.suppress(RedisUnavailableError):
            if problem is None:
                await self._carts.finish(seller_id, cart.cart_id, cart.order_id)
            elif problem.kind in _CAME_TO_NOTHING or (problem.kind in _REFUSED and not cart.is_repeat):
                await self._carts.reopen(seller_id, cart.cart_id, cart.order_id)

    async def _ordered(self, seller_id: str, order_id: str) -> _PricedCart | None:
        """What the order was priced as, if it is one already: a repeat is the same order, whatever is in the cart."""
        if await self._hints.known(of_checkouts(seller_id), order_id) is None:
            return None
        try:
            placed = (await self._orders.order(seller_id, order_id)).placed
            if placed is None:
                return None
            payload = await self._orders.invoice_request(placed)
        except PostgresUnavailableError:
            return None
        _, request = decode(payload, INVOICE_REQUEST, bytes_max=INVOICE_REQUESTS.value_bytes_max)
        details = request["details"]
        return {
            "currency": request["currency"],
            "prices_include_tax": details is not None and details["prices_include_tax"] is True,
            "lines": [
                {
                    "sku": line["sku"],
                    "description": line["description"],
                    "quantity": line["quantity"],
                    "unit_price": line["unit_price"],
                    "vat_rate": line["vat_rate"],
                    "vat_category": line["vat_category"],
                }
                for line in request["lines"]
            ],
        }

    async def _check_out(self, seller_id: str, cart_id: str, order_id: str) -> tuple[_PricedCart, bool]:
        """What the cart is priced as, and whether it was checked out as this order before."""
        for _ in range(_TRIES_MAX):
            cart = await self._keeping.current(seller_id, cart_id)
            if cart.order_id and cart.order_id != order_id:
                changed(CartStatus.CHECKED_OUT, cart)
            status = CartStatus.REPEATED
            if not cart.order_id:
                priced = await self._priced(seller_id, cart)
                status, cart = await self._carts.check_out(
                    seller_id, cart_id, cart.version, order_id, msgspec.json.encode(priced).decode()
                )
                if status is CartStatus.STALE:
                    continue
                changed(status, cart)
            # Of a repeat, as it was priced the first time: it is the same order.
            return _priced_decoder.decode(cart.priced), status is CartStatus.REPEATED
        raise ProblemError(problems.CART_CHANGED, "the cart is being changed: read it again", more={"lines": []})

    async def _priced(self, seller_id: str, cart: Cart) -> _PricedCart:
        """What a checkout says of the cart; raises `ProblemError` unless that is what the buyer has seen."""
        if not cart.lines:
            raise problems.refused(Refusal(INVALID_FIELD, "cart", "has no lines"))
        offers = await asyncio.gather(*(self._catalogue.offer(seller_id, line.product_id) for line in cart.lines))
        prices = [price_now(line, offer) for line, offer in zip(cart.lines, offers, strict=True)]
        differing = [
            {"sku": line.sku, "unit_price": line.unit_price, "unit_price_now": price}
            for line, price in zip(cart.lines, prices, strict=True)
            if price != line.unit_price
        ]
        if differing:
            seen = {line.sku: price for line, price in zip(cart.lines, prices, strict=True) if price is not None}
            await self._carts.reprice(seller_id, cart.cart_id, cart.version, seen)
            raise ProblemError(
                problems.CART_CHANGED,
                "prices have changed since they were put into the cart, or products are sold no more: show the buyer"
                " the cart, which has the new prices, and check out again",
                field="cart",
                more={"lines": differing},
            )
        first = offers[0]
        if first is None:
            raise LookupError(f"a line of {cart.cart_id} has a price and no product")
        return {
            "currency": first.currency,
            "prices_include_tax": first.prices_include_tax,
            "lines": [
                _line(line.sku, line.quantity, line.unit_price, offer)
                for line, offer in zip(cart.lines, offers, strict=True)
                if offer is not None
            ],
        }


def _line(sku: str, quantity: int, unit_price: str, offer: Offer) -> _PricedLine:
    return {
        "sku": sku,
        "description": offer.texts[0].name,
        "quantity": str(quantity),
        "unit_price": unit_price,
        "vat_rate": offer.vat_rate,
        "vat_category": offer.vat_category,
    }
