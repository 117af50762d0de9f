"""/v1/carts: what buyers have chosen."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from time import time

import msgspec
from aiohttp import web

from admission.carts import ANY, LINES_MAX, Cart, CartLine, Carts, CartStatus
from admission.hints import Hints, of_checkouts
from admission.unavailable import RedisUnavailableError
from domain.checkout import PIECES_MAX, check_name, check_sku
from domain.product import check_product_id
from domain.refusals import INVALID_FIELD, Refusal
from gateway.carts.cart_shapes import (
    CART,
    CART_ID_CHARS_MAX,
    CartLineChange,
    CartLineView,
    CartMerge,
    CartView,
    MergedCart,
)
from gateway.http import bodies, problems
from gateway.http.bodies import json_answer
from gateway.http.intake import Intake, read_body
from gateway.http.openapi import DeclaredResponse, Parameter, operation, text
from gateway.http.parameters import entity_tags, whole_number
from gateway.http.problems import ProblemError
from gateway.orders import order_views
from gateway.products.catalogue import Catalogue, Offer
from sinks.postgres.lanes import PostgresUnavailableError
from sinks.postgres.orders_reader import OrdersReader

_BODY_BYTES_MAX = 4 * 1024
_VERSION_MAX = 2**53
#: After this, an order of which nobody knows anything was never accepted.
_UNKNOWN_SECONDS = 300

_SKU = Parameter("sku", "path", text(64), "The article's number.", required=True)
_IF_MATCH = Parameter("If-Match", "header", {"type": "string"}, "The ETag of the cart that may be changed.")
_SHOWN = DeclaredResponse(200, "The cart as it is now", CartView, headers=("ETag",))
_CHANGES = (
    problems.INVALID_FIELD,
    problems.NOT_FOUND,
    problems.CART_CHECKED_OUT,
    problems.PRECONDITION_FAILED,
    problems.UNAVAILABLE,
)

_change_decoder = msgspec.json.Decoder(CartLineChange)
_merge_decoder = msgspec.json.Decoder(CartMerge)


class CartKeeping:
    """Shows and changes carts."""

    def __init__(self, intake: Intake, carts: Carts, catalogue: Catalogue, orders: OrdersReader, hints: Hints) -> None:
        self._intake = intake
        self._carts = carts
        self._catalogue = catalogue
        self._orders = orders
        self._hints = hints

    def routes(self) -> list[web.RouteDef]:
        """The resources."""
        one, line = "/v1/carts/{cart_id}", "/v1/carts/{cart_id}/lines/{sku}"
        return [
            web.get(one, self.get),
            web.delete(one, self.delete),
            web.put(line, self.put_line),
            web.delete(line, self.delete_line),
            web.post(f"{one}/merge", self.merge),
        ]

    @operation("A cart", _SHOWN, parameters=[CART], problems=[problems.NOT_FOUND])
    async def get(self, request: web.Request, seller_id: str) -> web.Response:
        """GET /v1/carts/{cart_id}: an empty one if there is none."""
        return await self._answer(seller_id, await self.current(seller_id, _cart_id(request)))

    @operation(
        "Put pieces of a product into a cart, or change how many",
        _SHOWN,
        body=CartLineChange,
        parameters=[CART, _SKU, _IF_MATCH],
        problems=[*_CHANGES, problems.TOO_MANY_REQUESTS],
    )
    async def put_line(self, request: web.Request, seller_id: str) -> web.Response:
        """PUT /v1/carts/{cart_id}/lines/{sku}."""
        cart_id, sku, version = _cart_id(request), _sku(request), _version(request)
        with self._intake.place(request, seller_id):
            asked = bodies.decode_small(_change_decoder, await read_body(request, _BODY_BYTES_MAX))
            if not 1 <= asked.quantity <= PIECES_MAX:
                raise _invalid("quantity", f"must be from 1 to {PIECES_MAX}; delete the line instead of setting 0")
            refusal = check_product_id(asked.product_id)
            if refusal is not None:
                raise problems.refused(refusal)
            offer = await self._catalogue.offer(seller_id, asked.product_id)
            price = None if offer is None else offer.price_of(sku)
            if offer is None or price is None:
                raise ProblemError(problems.NOT_FOUND, "there is no such product, or it does not sell this SKU")
            line = CartLine(sku, 0, asked.quantity, price, offer.currency, offer.prices_include_tax, asked.product_id)
            with needing_redis():
                status, cart = await self._carts.put(seller_id, cart_id, line, version)
                if status is CartStatus.CHECKED_OUT and (await self._settled(seller_id, cart)) is not cart:
                    status, cart = await self._carts.put(seller_id, cart_id, line, version)
        return await self._answer(seller_id, changed(status, cart))

    @operation("Take a SKU out of a cart", _SHOWN, parameters=[CART, _SKU, _IF_MATCH], problems=_CHANGES)
    async def delete_line(self, request: web.Request, seller_id: str) -> web.Response:
        """DELETE /v1/carts/{cart_id}/lines/{sku}."""
        cart_id, sku, version = _cart_id(request), _sku(request), _version(request)
        with needing_redis():
            status, cart = await self._carts.remove(seller_id, cart_id, sku, version)
            if status is CartStatus.CHECKED_OUT and (await self._settled(seller_id, cart)) is not cart:
                status, cart = await self._carts.remove(seller_id, cart_id, sku, version)
        return await self._answer(seller_id, changed(status, cart))

    @operation("Delete a cart", DeclaredResponse(204, "It is gone"), parameters=[CART], problems=[problems.NOT_FOUND])
    async def delete(self, request: web.Request, seller_id: str) -> web.Response:
        """DELETE /v1/carts/{cart_id}."""
        with needing_redis():
            if not await self._carts.delete(seller_id, _cart_id(request)):
                raise ProblemError(problems.NOT_FOUND, "there is no such cart")
        return web.Response(status=204)

    @operation(
        "Add another cart's lines, as a guest's at login, and delete that one",
        DeclaredResponse(200, "The cart, and what could not be added as wanted", MergedCart, headers=("ETag",)),
        body=CartMerge,
        parameters=[CART],
        problems=_CHANGES,
    )
    async def merge(self, request: web.Request, seller_id: str) -> web.Response:
        """POST /v1/carts/{cart_id}/merge: at most as many pieces as may be had."""
        cart_id = _cart_id(request)
        with self._intake.place(request, seller_id):
            asked = bodies.decode_small(_merge_decoder, await read_body(request, _BODY_BYTES_MAX))
            refusal = check_name("source", asked.source, CART_ID_CHARS_MAX)
            if refusal is None and asked.source == cart_id:
                refusal = Refusal(INVALID_FIELD, "source", "must be another cart")
            if refusal is not None:
                raise problems.refused(refusal)
            with needing_redis():
                theirs = await self.current(seller_id, asked.source)
                await self.current(seller_id, cart_id)
                skus = [line.sku for line in theirs.lines]
                found = await self._catalogue.in_stock(seller_id, skus)
                most = {sku: PIECES_MAX if found is None else min(PIECES_MAX, found.get(sku, 0)) for sku in skus}
                status, cart, conflicts = await self._carts.merge(seller_id, asked.source, cart_id, most)
            changed(status, cart)
            body: MergedCart = {
                "cart": await self._view(seller_id, cart),
                "conflicts": [
                    {"sku": each.sku, "wanted": each.wanted, "quantity": each.quantity} for each in conflicts
                ],
            }
        return json_answer(body, headers=_etag(cart))

    async def current(self, seller_id: str, cart_id: str) -> Cart:
        """The cart, after what became of its order. Raises `ProblemError` while Redis is unavailable."""
        with needing_redis():
            return await self._settled(seller_id, await self._carts.get(seller_id, cart_id))

    async def _settled(self, seller_id: str, cart: Cart) -> Cart:
        """The cart itself, or as it is now that its order is decided: gone if confirmed, else open again."""
        if not cart.order_id:
            return cart
        try:
            known = await self._orders.order(seller_id, cart.order_id)
        except PostgresUnavailableError:
            return cart
        if known.placed is not None:
            # Open while a late payment may yet confirm the order, the cart would be bought twice.
            if order_views.is_open(known.placed) or order_views.may_be_retaken(known.placed):
                return cart
            if order_views.not_placed(known.placed) is not None:
                return await self._carts.reopen(seller_id, cart.cart_id, cart.order_id)
            await self._carts.finish(seller_id, cart.cart_id, cart.order_id)
            return await self._carts.get(seller_id, cart.cart_id)
        is_lost = False
        if time() - cart.checked_out_at > _UNKNOWN_SECONDS:
            is_lost = await self._hints.known(of_checkouts(seller_id), cart.order_id) is None
        if known.refused or is_lost:
            return await self._carts.reopen(seller_id, cart.cart_id, cart.order_id)
        return cart

    async def _answer(self, seller_id: str, cart: Cart) -> web.Response:
        return json_answer(await self._view(seller_id, cart), headers=_etag(cart))

    async def _view(self, seller_id: str, cart: Cart) -> CartView:
        offers = await asyncio.gather(*(self._offer(seller_id, line.product_id) for line in cart.lines))
        available = await self._catalogue.in_stock(seller_id, [line.sku for line in cart.lines]) if cart.lines else {}
        lines: list[CartLineView] = [
            {
                "sku": line.sku,
                "product_id": line.product_id,
                "name": None if offer is None else offer.texts[0].name,
                "quantity": line.quantity,
                "unit_price": line.unit_price,
                "unit_price_now": price_now(line, offer),
                "available": None if available is None else available.get(line.sku, 0),
            }
            for line, offer in zip(cart.lines, offers, strict=True)
        ]
        return {
            "cart_id": cart.cart_id,
            "version": cart.version,
            "state": "CHECKED_OUT" if cart.order_id else "OPEN",
            "order_id": cart.order_id or None,
            "currency": cart.lines[0].currency if cart.lines else None,
            "prices_include_tax": cart.lines[0].prices_include_tax if cart.lines else None,
            "lines": lines,
        }

    async def _offer(self, seller_id: str, product_id: str) -> Offer | None:
        try:
            return await self._catalogue.offer(seller_id, product_id)
        except ProblemError:
            return None


def price_now(line: CartLine, offer: Offer | None) -> str | None:
    """What the line costs now; None if it is not sold, or not in this cart's currency and with tax as it is here."""
    if offer is None or (offer.currency, offer.prices_include_tax) != (line.currency, line.prices_include_tax):
        return None
    return offer.price_of(line.sku)


@contextmanager
def needing_redis() -> Iterator[None]:
    """What only Redis can answer: `ProblemError` while it is unavailable."""
    try:
        yield
    except RedisUnavailableError:
        raise ProblemError(
            problems.UNAVAILABLE, "the cart can't be reached: Redis is unavailable", retry_after_seconds=1
        ) from None


def changed(status: CartStatus, cart: Cart) -> Cart:
    """The cart after a change; raises `ProblemError` if it was refused."""
    if status is CartStatus.CHECKED_OUT:
        raise ProblemError(
            problems.CART_CHECKED_OUT,
            f"the cart is checked out as the order {cart.order_id}: it is open again if that comes to nothing",
            more={"order_id": cart.order_id},
        )
    if status is CartStatus.STALE:
        raise ProblemError(
            problems.PRECONDITION_FAILED,
            f"the cart is at version {cart.version}, to which If-Match doesn't permit a change: read it again",
            headers=_etag(cart),
            more={"version": cart.version},
        )
    if status is CartStatus.FULL:
        raise _invalid("sku", f"would be line {LINES_MAX + 1}: a cart has at most {LINES_MAX}")
    if status is CartStatus.MIXED:
        raise _invalid("product_id", "is sold in another currency, or not with tax as the cart's lines are")
    if status is CartStatus.LIMITED:
        detail = "this cart's line of the SKU is changed too often"
        raise ProblemError(problems.TOO_MANY_REQUESTS, detail, field="sku", retry_after_seconds=1)
    return cart


def _cart_id(request: web.Request) -> str:
    cart_id = request.match_info["cart_id"]
    if check_name("cart_id", cart_id, CART_ID_CHARS_MAX) is not None:
        raise ProblemError(problems.NOT_FOUND, "no cart can have an id like this")
    return cart_id


def _sku(request: web.Request) -> str:
    sku = request.match_info["sku"]
    if check_sku(sku) is not None:
        raise ProblemError(problems.NOT_FOUND, "no SKU can be called like this")
    return sku


def _version(request: web.Request) -> int:
    """The version that may be changed; one that no cart has for a tag that none has."""
    tags = entity_tags(request.headers, "If-Match")
    if tags is None or tags.is_any:
        return ANY
    versions = [whole_number(tag, 0, _VERSION_MAX) for tag in tags.strong]
    return next((version for version in versions if version is not None), _VERSION_MAX)


def _etag(cart: Cart) -> dict[str, str]:
    return {"ETag": f'"{cart.version}"'}


def _invalid(field: str, detail: str) -> ProblemError:
    return problems.refused(Refusal(INVALID_FIELD, field, detail))
