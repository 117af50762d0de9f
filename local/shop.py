"""A demo shop at `/shop`: a storefront as a seller would build one, which knows the gateway's HTTP interface alone.

Pages are rendered here and need no script; one small script keeps an order's page up to date. The buyer's browser never
sees the API key. Who a buyer is stands in a signed cookie.
"""

import asyncio
import hashlib
import hmac
import re
import secrets
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Any
from urllib.parse import quote

import aiohttp
import msgspec
from aiohttp import web
from cachetools import TTLCache
from jinja2 import Environment, PackageLoader

from domain.iso import CURRENCY_EXPONENTS
from domain.money import PRICE_DECIMALS, PRICE_SCALE, divide_half_away, minor_text, scaled
from local.shop_gateway import Gateway, ShopError
from local.shop_goods import Good, categories, goods
from local.shop_reviews import OWNER_STEPS, approve, reviewed_lines, reviews_of, take_step, write_review
from local.shop_search import asked_of, gateway_query, page_of

SELLER_ID = "demo"
_PAGE = 24
_BULK = 250
_STOCK_AT_ONCE = 8
_SESSION, _CUSTOMER = "shop_session", "shop_customer"
#: Of a request: whose browser it comes from, and who has just said who they are.
_SESSION_ID = web.RequestKey("session_id", str)
_CUSTOMER_NAME = web.RequestKey("customer_name", str)
_HOSTS = ("127.0.0.1", "localhost", "::1")
_NAME = re.compile(r"[\w .@+-]{1,60}")
_QUANTITY_MAX = 99
#: How long the buyer's browser waits for the answer to a checkout; the order's page tells the rest.
_WAIT_SECONDS = 3
#: How long a checkout may wait on the waitlist.
_WAITLIST_SECONDS = 60
#: What became of a checkout is known so long, and of so many.
_ASKED_SECONDS, _ASKED_MAX = 600, 10_000
_POLICY = "; ".join(
    [
        "default-src 'none'",
        "style-src 'self'",
        "script-src 'self'",
        "connect-src 'self'",
        "img-src 'self' https:",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ]
)
_HEADERS = {"Content-Security-Policy": _POLICY, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin"}
#: The cards that the local provider knows, and what comes of them.
CARDS = (
    ("tok_ok", "4242 4242 4242 4242", "is accepted"),
    ("tok_decline", "4000 0000 0000 0002", "is declined"),
    ("tok_slow", "4000 0000 0000 3000", "is accepted after three seconds"),
    ("tok_timeout_charged", "4000 0000 0000 0341", "is charged, and the answer is lost"),
)
#: What a state means to a buyer, and whether it may still change by itself within seconds.
_STATES = {
    "accepted": ("We have your order and are about to reserve it.", True),
    "waiting": ("You are in the waitlist.", True),
    "PLACED": ("Your pieces are reserved. We are taking the payment.", True),
    "PAYMENT_PENDING": ("Your pieces are reserved. We are taking the payment.", True),
    "CONFIRMED": ("Thank you. Your order is confirmed and paid.", False),
    "SHIPPED": ("Your order is on its way.", False),
    "DELIVERED": ("Your order has arrived.", False),
    "REFUNDED": ("Your order was refunded.", False),
    "CANCELLED": ("Your order was cancelled, and you have paid nothing.", False),
    "REFUSED": ("There was not enough stock, and you have paid nothing.", False),
    "rejected": ("Your order could not be accepted, and you have paid nothing.", False),
}


async def stock_up(gateway: Gateway, found: Iterable[Good]) -> int:
    """Put the products into the catalogue, and pieces of each SKU that never had any; returns how many were new."""
    wanted = list(found)
    new = 0
    for first in range(0, len(wanted), _BULK):
        lines = msgspec.json.Encoder().encode_lines([each.body for each in wanted[first : first + _BULK]])
        answer, _ = await gateway.raw("POST", "/v1/products/bulk", lines, Content_Type="application/x-ndjson")
        statuses = [msgspec.json.decode(line)["status"] for line in answer.splitlines()]
        if max(statuses) >= 400:
            raise ShopError({"title": "The catalogue could not be put", "detail": answer.decode()[:500]})
        new += statuses.count(201)
    have: set[str] = set()
    cursor = ""
    while True:
        page = await gateway.call("GET", f"/v1/stock?limit=100{cursor}")
        have.update(level["sku"] for level in page["stock"])
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    missing = [(sku, each.on_hand) for each in wanted for sku in each.skus if sku not in have]
    for first in range(0, len(missing), _STOCK_AT_ONCE):
        await asyncio.gather(
            *(
                gateway.call("PUT", f"/v1/stock/{quote(sku, safe='')}", {"on_hand": on_hand})
                for sku, on_hand in missing[first : first + _STOCK_AT_ONCE]
            )
        )
    return new


class Shop:
    """The pages."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        #: Signs who a buyer is. Of this process alone: a new one asks again.
        self._secret = secrets.token_bytes(32)
        #: The checkouts that were asked for lately, by order id: an order that is not accepted is known here alone.
        self._asked: TTLCache[str, asyncio.Task[ShopError | None]] = TTLCache(_ASKED_MAX, _ASKED_SECONDS)
        self._pages = Environment(loader=PackageLoader("local", "pages"), autoescape=True, trim_blocks=True)
        self._pages.globals["categories"] = [_category(path) for path in categories()]

    def app(self) -> web.Application:
        """The routes."""
        app = web.Application(middlewares=[self._around])
        app.add_routes(
            [
                web.get("/", self.home),
                web.get("/shop", self.list),
                web.get("/shop/search", self.search),
                web.get("/shop/products/{product_id}", self.product),
                web.get("/shop/pictures/{product_id}.svg", self.picture),
                web.get("/shop/shop.css", self.asset),
                web.get("/shop/shop.js", self.asset),
                web.get("/shop/cart", self.cart),
                web.post("/shop/cart", self.change_cart),
                web.post("/shop/login", self.login),
                web.get("/shop/checkout", self.checkout_form),
                web.post("/shop/checkout", self.checkout),
                web.get("/shop/orders/{order_id}", self.order),
                web.get("/shop/orders/{order_id}/invoice", self.invoice),
                web.post("/shop/orders/{order_id}/step", self.step),
                web.post("/shop/orders/{order_id}/review", self.review),
                web.post("/shop/orders/{order_id}/review/approve", self.approve),
                web.get("/readyz", self.ready),
            ]
        )
        return app

    async def home(self, _: web.Request) -> web.Response:
        """GET /."""
        return _see_other("/shop")

    async def ready(self, _: web.Request) -> web.Response:
        """GET /readyz."""
        return web.json_response({"status": "ready"})

    async def list(self, request: web.Request) -> web.Response:
        """GET /shop: what is sold, in pages."""
        category, cursor = request.query.get("category", ""), request.query.get("cursor", "")
        path = f"/v1/catalogue/{SELLER_ID}/products?limit={_PAGE}"
        path += f"&category={quote(category)}" if category else ""
        path += f"&cursor={quote(cursor)}" if cursor else ""
        page = await self._gateway.call("GET", path)
        products = [_shown(each, request) for each in page["products"]]
        return await self._page(
            request, "shop_list.html", products=products, category=category, next=page["next"], title=_title(category)
        )

    async def search(self, request: web.Request) -> web.Response:
        """GET /shop/search: what was found, and how to narrow it."""
        asked = asked_of(request.query)
        language = re.match(r"[A-Za-z]{2,3}(?=$|[-,;])", request.headers.get("Accept-Language", ""))
        query = gateway_query(asked, language.group().lower() if language else "", _PAGE)
        found = await self._gateway.call("GET", f"/v1/catalogue/{SELLER_ID}/search?{query}")
        title = f"Search: {asked['q']}" if "q" in asked else "Search"
        return await self._page(request, "shop_search.html", title=title, **page_of(asked, found))

    async def product(self, request: web.Request) -> web.Response:
        """GET /shop/products/{product_id}."""
        product_id = request.match_info["product_id"]
        found = await self._gateway.call("GET", f"/v1/catalogue/{SELLER_ID}/products/{quote(product_id, safe='')}")
        shown, reviews = _shown(found, request), await reviews_of(self._gateway, found)
        return await self._page(request, "shop_product.html", product=shown, reviews=reviews, title=shown["name"])

    async def picture(self, request: web.Request) -> web.Response:
        """GET /shop/pictures/{product_id}.svg: drawn, and never another."""
        good = goods().get(request.match_info["product_id"])
        if good is None:
            raise web.HTTPNotFound
        headers = {"Cache-Control": "public, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}
        return web.Response(text=good.picture, content_type="image/svg+xml", headers=headers)

    async def asset(self, request: web.Request) -> web.Response:
        """GET /shop/shop.css and /shop/shop.js."""
        name = request.path.rpartition("/")[2]
        kind = "text/css" if name.endswith(".css") else "text/javascript"
        text = files("local").joinpath("pages", name).read_text(encoding="utf-8")
        return web.Response(text=text, content_type=kind, headers={"Cache-Control": "max-age=300"})

    async def cart(self, request: web.Request) -> web.Response:
        """GET /shop/cart."""
        return await self._show_cart(request)

    async def change_cart(self, request: web.Request) -> web.Response:
        """POST /shop/cart: put so many pieces of a SKU into the cart; 0 takes it out."""
        form = await request.post()
        sku, product_id, quantity = str(form.get("sku", "")), str(form.get("product_id", "")), _number(form)
        line = f"{self._cart_path(request)}/lines/{quote(sku, safe='')}"
        if "add" in form:
            cart = await self._gateway.call("GET", self._cart_path(request))
            quantity += sum(each["quantity"] for each in cart["lines"] if each["sku"] == sku)
        try:
            if quantity == 0:
                await self._gateway.call("DELETE", line)
            else:
                await self._gateway.call("PUT", line, {"product_id": product_id, "quantity": quantity})
        except ShopError as error:
            return await self._show_cart(request, error=_said(error), status=409)
        return _see_other("/shop/cart")

    async def login(self, request: web.Request) -> web.Response:
        """POST /shop/login: who the buyer is; a guest's cart comes along."""
        name = str((await request.post()).get("name", "")).strip()
        if _NAME.fullmatch(name) is None or name.startswith("guest:"):
            return await self._show_cart(request, error="Please give a name of letters and digits.", status=422)
        source = self._cart_id(request)
        path = f"/v1/carts/{quote(name, safe='')}/merge"
        conflicts = []
        if source != name:
            conflicts = (await self._gateway.call("POST", path, {"source": source}))["conflicts"]
        request[_CUSTOMER_NAME] = name
        response = await self._show_cart(request, conflicts=conflicts)
        self._remember(response, _CUSTOMER, self._signed(name))
        return response

    async def checkout_form(self, request: web.Request) -> web.Response:
        """GET /shop/checkout."""
        return await self._show_checkout(request, {})

    async def checkout(self, request: web.Request) -> web.Response:
        """POST /shop/checkout: the gateway prices the cart and takes the payment."""
        form = {name: str(value).strip() for name, value in (await request.post()).items()}
        order_id = form.get("order_id") or _new_order_id()
        body = {
            "cart": self._cart_id(request),
            "order_id": order_id,
            "payment_token": form.get("card", ""),
            "buyer": {
                "name": form.get("name", ""),
                "email": form.get("email", ""),
                "address": {name: form.get(name, "") for name in ("street", "city", "postal_code", "country")},
            },
        }
        # Beside this request: on the waitlist is who waits, and the buyer is shown meanwhile how it stands.
        self._asked[order_id] = asked = asyncio.create_task(self._check_out(body))
        await asyncio.wait({asked}, timeout=_WAIT_SECONDS)
        if asked.done() and (error := asked.result()) is not None:
            # A refused order keeps its id; another attempt is another order.
            return await self._show_checkout(request, form, error=_said(error), status=409)
        return _see_other(f"/shop/orders/{quote(order_id, safe='')}")

    async def _check_out(self, body: Mapping[str, Any]) -> ShopError | None:
        """Why the checkout was refused; None if it was not."""
        try:
            await self._gateway.call("POST", "/v1/checkouts", body, Prefer=f"wait={_WAITLIST_SECONDS}")
        except ShopError as error:
            return error
        return None

    async def order(self, request: web.Request) -> web.Response:
        """GET /shop/orders/{order_id}: how it stands. Its id is not to be guessed."""
        return await self._show_order(request)

    async def step(self, request: web.Request) -> web.Response:
        """POST /shop/orders/{order_id}/step: what the shop's owner does next for it."""
        order_id = request.match_info["order_id"]
        await take_step(self._gateway, order_id, str((await request.post()).get("state", "")))
        return _see_other(f"/shop/orders/{quote(order_id, safe='')}")

    async def review(self, request: web.Request) -> web.Response:
        """POST /shop/orders/{order_id}/review: what the buyer says of a line."""
        order_id = request.match_info["order_id"]
        form = {name: str(value).strip() for name, value in (await request.post()).items()}
        try:
            await write_review(self._gateway, order_id, form)
        except ShopError as error:
            return await self._show_order(request, error=_said(error), form=form, status=422)
        return _see_other(f"/shop/orders/{quote(order_id, safe='')}")

    async def approve(self, request: web.Request) -> web.Response:
        """POST /shop/orders/{order_id}/review/approve: the shop's owner publishes what the buyer said."""
        order_id = request.match_info["order_id"]
        await approve(self._gateway, order_id, str((await request.post()).get("line", "")))
        return _see_other(f"/shop/orders/{quote(order_id, safe='')}")

    async def _show_order(self, request: web.Request, *, status: int = 200, **values: Any) -> web.Response:
        order_id = request.match_info["order_id"]
        try:
            found = await self._gateway.call("GET", f"/v1/orders/{quote(order_id, safe='')}")
        except ShopError as error:
            asked = self._asked.get(order_id)
            if error.type != "not-found" or asked is None:
                raise
            if asked.done() and (refused := asked.result()) is not None:
                raise refused from None
            found = {"order_id": order_id, "state": "accepted"}
        said, changes = _STATES.get(found["state"], (found["state"], True))
        invoice = found.get("invoice")
        has_document = invoice is not None and invoice["status"] == "stored"
        awaits_invoice = found["state"] == "CONFIRMED" and not has_document
        return await self._page(
            request,
            "shop_order.html",
            order=found,
            said=said,
            is_live=changes or awaits_invoice,
            has_document=has_document,
            step=OWNER_STEPS.get(found["state"]),
            lines=await reviewed_lines(self._gateway, found),
            title=f"Order {order_id}",
            status=status,
            **values,
        )

    async def invoice(self, request: web.Request) -> web.Response:
        """GET /shop/orders/{order_id}/invoice: the PDF."""
        path = f"/v1/invoices/{quote(request.match_info['order_id'], safe='')}/document"
        body, content_type = await self._gateway.raw("GET", path)
        headers = {**_HEADERS, "Content-Disposition": 'inline; filename="invoice.pdf"'}
        return web.Response(body=body, content_type=content_type, headers=headers)

    async def _show_cart(self, request: web.Request, *, status: int = 200, **values: Any) -> web.Response:
        cart = await self._gateway.call("GET", self._cart_path(request))
        return await self._page(
            request, "shop_cart.html", cart=cart, total=_total(cart), title="Cart", status=status, **values
        )

    async def _show_checkout(
        self, request: web.Request, form: Mapping[str, str], *, status: int = 200, **values: Any
    ) -> web.Response:
        cart = await self._gateway.call("GET", self._cart_path(request))
        if not cart["lines"]:
            return _see_other("/shop/cart")
        return await self._page(
            request,
            "shop_checkout.html",
            cart=cart,
            total=_total(cart),
            form=form,
            cards=CARDS,
            order_id=_new_order_id(),
            title="Checkout",
            status=status,
            **values,
        )

    async def _page(self, request: web.Request, template: str, *, status: int = 200, **values: Any) -> web.Response:
        text = self._pages.get_template(template).render(customer=self._customer(request), **values)
        headers = {**_HEADERS, "Cache-Control": "no-store"}
        return web.Response(text=text, status=status, content_type="text/html", headers=headers)

    @web.middleware
    async def _around(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """Refuse foreign names and foreign forms; give each browser a session; show problems as pages."""
        if request.url.host not in _HOSTS:
            raise web.HTTPForbidden
        origin = request.headers.get("Origin")
        if request.method == "POST" and origin is not None and origin != str(request.url.origin()):
            raise web.HTTPForbidden
        session = request.cookies.get(_SESSION, "")
        is_new = re.fullmatch("[0-9a-f]{32}", session) is None
        request[_SESSION_ID] = session = secrets.token_hex(16) if is_new else session
        try:
            response: web.StreamResponse = await handler(request)
        except ShopError as error:
            status = int(error.problem.get("status", 502))
            response = await self._page(request, "shop_problem.html", said=_said(error), title="Sorry", status=status)
        if is_new:
            self._remember(response, _SESSION, session)
        return response

    def _remember(self, response: web.StreamResponse, name: str, value: str) -> None:
        response.set_cookie(name, value, path="/shop", httponly=True, samesite="Lax", max_age=30 * 24 * 3600)

    def _customer(self, request: web.Request) -> str:
        """Who the buyer is; empty for a guest."""
        if _CUSTOMER_NAME in request:
            return request[_CUSTOMER_NAME]
        name, _, _ = request.cookies.get(_CUSTOMER, "").rpartition(".")
        name = bytes.fromhex(name).decode() if re.fullmatch("(?:[0-9a-f]{2})+", name) else ""
        is_ours = hmac.compare_digest(request.cookies.get(_CUSTOMER, "").encode(), self._signed(name).encode())
        return name if is_ours else ""

    def _signed(self, name: str) -> str:
        digest = hmac.new(self._secret, name.encode(), hashlib.sha256).hexdigest()
        return f"{name.encode().hex()}.{digest}"

    def _cart_id(self, request: web.Request) -> str:
        return self._customer(request) or f"guest:{request[_SESSION_ID]}"

    def _cart_path(self, request: web.Request) -> str:
        return f"/v1/carts/{quote(self._cart_id(request), safe='')}"


def _see_other(path: str) -> web.Response:
    return web.Response(status=303, headers={"Location": path})


def _shown(product: Mapping[str, Any], request: web.Request) -> dict[str, Any]:
    """A product in the buyer's language."""
    text = _text(product["texts"], request.headers.get("Accept-Language", ""))
    first = product["texts"][0]
    prices = [variant["unit_price"] for variant in product["variants"]]
    there = product["in_stock"]
    return {
        **product,
        "name": text["name"],
        "language": text["language"],
        "description": text["description"] or first["description"],
        "description_language": text["language"] if text["description"] else first["language"],
        "price": min(prices, key=lambda price: scaled(price, PRICE_DECIMALS)),
        "has_prices": len(set(prices)) > 1,
        "is_sold_out": there is not None and not there,
    }


def _text(texts: Sequence[Mapping[str, str]], accepted: str) -> Mapping[str, str]:
    by_language = {text["language"].partition("-")[0].lower(): text for text in reversed(texts)}
    for wanted in re.findall(r"(?:^|,)\s*([A-Za-z]{2,3})", accepted):
        if wanted.lower() in by_language:
            return by_language[wanted.lower()]
    return texts[0]


def _total(cart: Mapping[str, Any]) -> str:
    """What the lines come to, at the prices that the buyer has seen."""
    if not cart["lines"]:
        return ""
    currency = cart["currency"]
    unit = 10 ** CURRENCY_EXPONENTS[currency]
    lines = (
        divide_half_away(line["quantity"] * scaled(line["unit_price"], PRICE_DECIMALS) * unit, PRICE_SCALE)
        for line in cart["lines"]
    )
    return f"{minor_text(sum(lines), currency)} {currency}"


def _number(form: Mapping[str, Any]) -> int:
    text = str(form.get("quantity", "1"))
    return min(int(text), _QUANTITY_MAX) if text.isascii() and text.isdecimal() and len(text) < 5 else 1


def _category(path: str) -> tuple[str, str]:
    return path, path.rpartition("/")[2].title()


def _title(category: str) -> str:
    return _category(category)[1] if category else "Everything"


def _new_order_id() -> str:
    return f"shop-{secrets.token_hex(12)}"


_SAID = {
    "payment-declined": "Your card was declined. Nothing was charged; choose another card.",
    "out-of-stock": "Somebody was faster: there is not enough stock any more. Nothing was charged.",
    "cart-changed": "Prices or products have changed. Please look at your cart before you pay.",
    "cart-checked-out": "Your order is being decided. Please wait a moment.",
    "order-cancelled": "The payment failed. Nothing was charged.",
    "not-found": "There is no such thing here.",
    "unavailable": "This can't be reached at the moment. Please try again soon.",
}


def _said(error: ShopError) -> str:
    """What the buyer is told."""
    return _SAID.get(error.type) or f"{error.problem.get('title', 'Something failed')}. {error}"


@asynccontextmanager
async def opened(gateway_url: str, key: str, port: int, found: Iterable[Good]) -> AsyncIterator[None]:
    """Put the products into the catalogue, and serve the shop on this machine while the block runs.

    Raises `ShopError` and `OSError`.
    """
    async with aiohttp.ClientSession() as session:
        gateway = Gateway(session, gateway_url, key)
        await stock_up(gateway, found)
        runner = web.AppRunner(Shop(gateway).app(), access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", port).start()
            yield
        finally:
            await runner.cleanup()
