"""The tracking page: `GET /t/{token}` shows an order to whoever has the link, until it expires.

It needs Postgres alone. While that is unavailable, an order that this gateway has shown is shown as it was then.
"""

import base64
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import lru_cache

import msgspec
from aiohttp import web

from admission.hints import Hints, of_checkouts
from documents.mail.mail import Amounts, Shop, extras_of
from documents.tracking.page import (
    ACCEPTED,
    LINES_MAX,
    REJECTED,
    Page,
    TrackedDocument,
    TrackedOrder,
    TrackedRefund,
    TrackedStep,
    expired_page,
    order_page,
    unavailable_page,
    unknown_page,
)
from domain.credit import CANCELLATION
from domain.document_link import TOKEN_CHARS_MAX, DocumentLink, sign
from domain.issuing import CREDIT_NOTE
from domain.tracking_link import TrackingLink, read_tracking, sign_tracking
from gateway.http import problems
from gateway.http.intake import Intake
from gateway.http.openapi import DeclaredResponse, Parameter, open_operation, operation, text
from gateway.http.parameters import ORDER_ID, entity_tags, languages, order_id_of
from gateway.links import LinkRequest, LinkView, link_answer, seconds_asked
from gateway.orders.order_reading import OrderReading
from schemas.catalog import INVOICE_REQUEST, INVOICE_REQUESTS
from schemas.codec import decode
from sinks.postgres.lanes import PostgresUnavailableError
from sinks.postgres.orders_reader import OrdersReader, PlacedOrder, ShopRow
from sinks.postgres.refunds import DONE, FAILED

PATH = "/t/{token}"
SECONDS_DEFAULT = 90 * 86_400
#: Of all orders that were shown and are kept, as they are encoded.
KEPT_BYTES_MAX = 16 * 1024 * 1024
_TOKEN = Parameter("token", "path", text(TOKEN_CHARS_MAX), "The link's token.", required=True)
_MICROSECONDS = 1_000_000
_SECONDS_UNTIL_AVAILABLE = 10


class Tracking:
    """Makes links to orders' pages, and shows the pages."""

    def __init__(
        self,
        intake: Intake,
        reading: OrderReading,
        reader: OrdersReader,
        hints: Hints,
        *,
        keys: Sequence[bytes],
        document_keys: Sequence[bytes],
        public_url: str | None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """The first of `keys` signs; without any there are no links. `public_url` None: as the caller addresses us."""
        self._intake = intake
        self._reading = reading
        self._reader = reader
        self._hints = hints
        self._keys = keys
        self._document_keys = document_keys
        self._public_url = public_url
        self._now = now
        self._kept = KeptOrders()

    def routes(self) -> list[web.RouteDef]:
        """The resources."""
        return [web.post("/v1/orders/{order_id}/tracking-link", self.make), web.get(PATH, self.show)]

    @operation(
        "A link to an order's tracking page, for people without a key",
        DeclaredResponse(201, "The link", LinkView),
        body=LinkRequest,
        needs_body=False,
        parameters=[ORDER_ID],
        problems=[problems.NOT_FOUND, problems.INVALID_FIELD],
    )
    async def make(self, request: web.Request, seller_id: str) -> web.Response:
        """POST /v1/orders/{order_id}/tracking-link."""
        order_id = order_id_of(request)
        with self._intake.place(request, seller_id):
            seconds = await seconds_asked(request, SECONDS_DEFAULT, can_sign=bool(self._keys))
        # Raises unless there is such an order.
        await self._reading.current(seller_id, order_id)
        expires_at = int(self._now().timestamp()) + seconds
        token = sign_tracking(TrackingLink(seller_id, order_id, expires_at), self._keys[0])
        return link_answer(request, self._public_url, PATH.format(token=token), expires_at)

    @open_operation(
        "How an order is doing, for its buyer: a page",
        DeclaredResponse(200, "The page", media_type="text/html", headers=("ETag", "Content-Security-Policy")),
        DeclaredResponse(304, "The caller already has it", headers=("ETag",)),
        DeclaredResponse(404, "A page that says that the link leads nowhere", media_type="text/html"),
        DeclaredResponse(410, "A page that says that the link has expired", media_type="text/html"),
        DeclaredResponse(503, "A page that says that it is unavailable", media_type="text/html"),
        parameters=[_TOKEN],
    )
    async def show(self, request: web.Request) -> web.Response:
        """GET /t/{token}."""
        tags = languages(request.headers)
        link = read_tracking(request.match_info["token"], self._keys)
        if link is None:
            return _answer(request, unknown_page(tags), 404)
        if link.expires_at <= self._now().timestamp():
            return _answer(request, expired_page(tags), 410)
        known_at = None
        try:
            order = await self._find(link, tags)
        except PostgresUnavailableError:
            order, known_at = self._kept.get(link.seller_id, link.order_id)
            if order is None:
                return _answer(request, unavailable_page(tags), 503)
        if order is None:
            return _answer(request, unknown_page(tags), 404)
        urls = [self._document_url(link, each.refund_id) for each in order.documents]
        return _answer(request, order_page(order, urls, known_at), 200)

    async def _find(self, link: TrackingLink, tags: Sequence[str]) -> TrackedOrder | None:
        """The order as Postgres has it, and as it is kept from now on; None if there is none."""
        known = await self._reader.order(link.seller_id, link.order_id)
        shop = await self._reader.shop(link.seller_id)
        if shop is None:
            return None
        placed = known.placed
        if placed is None:
            if not known.refused:
                hint = await self._hints.known(of_checkouts(link.seller_id), link.order_id)
                if hint is None:
                    return None
            state = REJECTED if known.refused else ACCEPTED
            return _undecided(link.order_id, shop, state, tags)
        order = tracked(placed, shop, await self._reader.invoice_request(placed))
        self._kept.keep(link.seller_id, order, self._now())
        return order

    def _document_url(self, link: TrackingLink, refund_id: str) -> str:
        """Relative to the page, wherever buyers reach it; for as long as the page's own link."""
        token = sign(DocumentLink(link.seller_id, link.order_id, refund_id, link.expires_at), self._document_keys[0])
        return f"../d/{token}"


class KeptOrders:
    """Orders that were shown lately, up to a number of bytes; those that were not shown for longest go first."""

    def __init__(self, bytes_max: int = KEPT_BYTES_MAX) -> None:
        self._orders: OrderedDict[tuple[str, str], tuple[bytes, datetime]] = OrderedDict()
        self._bytes_max = bytes_max
        self._bytes = 0

    def keep(self, seller_id: str, order: TrackedOrder, now: datetime) -> None:
        """Remember it as it is now."""
        key = (seller_id, order.order_id)
        self._drop(key)
        encoded = msgspec.msgpack.encode(order)
        self._orders[key] = encoded, now
        self._bytes += len(encoded)
        while self._bytes > self._bytes_max:
            self._drop(next(iter(self._orders)))

    def get(self, seller_id: str, order_id: str) -> tuple[TrackedOrder | None, datetime | None]:
        """The order, and since when it may have changed; None if it is not kept."""
        kept = self._orders.get((seller_id, order_id))
        if kept is None:
            return None, None
        return _kept_decoder.decode(kept[0]), kept[1]

    def _drop(self, key: tuple[str, str]) -> None:
        if key in self._orders:
            self._bytes -= len(self._orders.pop(key)[0])


def tracked(order: PlacedOrder, shop: ShopRow, invoice_request: bytes) -> TrackedOrder:
    """What the page says of a decided order."""
    _, request = decode(invoice_request, INVOICE_REQUEST, bytes_max=INVOICE_REQUESTS.value_bytes_max)
    details = request["details"] if "details" in request else None  # noqa: SIM401 - the default's type would be lost.
    parcels = [step["parcel"] for step in order.history if "parcel" in step]
    return TrackedOrder(
        order_id=order.order_id,
        state=order.state,
        shop=Shop.of(shop),
        time_zone=shop.time_zone,
        language=details["language"] if details else "",
        country=request["buyer"]["address"]["country"],
        currency=order.currency,
        amounts=Amounts(order.net_minor, order.tax_minor, order.gross_minor),
        extras=extras_of(request),
        steps=[TrackedStep(step["to"], step["at"] // _MICROSECONDS) for step in order.history],
        lines=request["lines"][:LINES_MAX],
        lines_left=max(0, len(request["lines"]) - LINES_MAX),
        parcel=parcels[-1] if parcels else None,
        refunds=[
            TrackedRefund(each["amount"], each["state"] == DONE, each["at"] // _MICROSECONDS)
            for each in order.refunds
            # A cancelled order's authorisation was released: no money was taken.
            if each["state"] != FAILED and each["refund_id"] != CANCELLATION
        ],
        documents=[
            TrackedDocument(
                each["number"],
                each["refund_id"] if each["kind"] == CREDIT_NOTE else "",
                is_cancellation=each["refund_id"] == CANCELLATION,
            )
            for each in order.invoices
            if each["is_stored"]
        ],
    )


def _undecided(order_id: str, shop: ShopRow, state: str, tags: Sequence[str]) -> TrackedOrder:
    """An order of which Postgres has no row: only its reader's browser knows the language."""
    return TrackedOrder(
        order_id=order_id,
        state=state,
        shop=Shop.of(shop),
        time_zone=shop.time_zone,
        language=tags[0] if tags else "",
    )


def _answer(request: web.Request, page: Page, status: int) -> web.Response:
    body = page.html.encode()
    tag = hashlib.sha256(body).hexdigest()[:32]
    headers = {
        "ETag": f'"{tag}"',
        # Whoever shares the browser's cache is not to find it, and what is shown is to be current.
        "Cache-Control": "private, no-cache" if status == 200 else "no-store",
        "Content-Language": page.language,
        "Vary": "Accept-Language",
        "Content-Security-Policy": _policy(page.style),
        "X-Content-Type-Options": "nosniff",
        # The page's address is the secret.
        "Referrer-Policy": "no-referrer",
        "X-Robots-Tag": "noindex",
    }
    if status == 503:
        headers["Retry-After"] = str(_SECONDS_UNTIL_AVAILABLE)
    known = entity_tags(request.headers, "If-None-Match") if status == 200 else None
    if known is not None and known.match_weakly(tag):
        return web.Response(status=304, headers=headers)
    return web.Response(body=body, status=status, content_type="text/html", charset="utf-8", headers=headers)


@lru_cache(256)
def _policy(style: str) -> str:
    """Nothing is loaded, run, sent or framed; the page's own style is known by its hash."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


_kept_decoder = msgspec.msgpack.Decoder(TrackedOrder)
