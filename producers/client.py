"""The load tool's client: posts checkouts and invoice requests until they are kept, and asks what became of them.

Storefronts use `gapless-client`. This one stays for load, chaos and tests: it returns every answer with its status and
the number of attempts instead of raising, and takes bodies as bytes. httpx costs several times the CPU of aiohttp and
`wire`, which on a shared machine would be measured as the gateway's.
"""

import asyncio
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlencode

import aiohttp
import msgspec

#: Answers that say "later": worth another try with the same order id, which makes the repeat harmless.
_LATER = frozenset((429, 502, 503, 504))
_CONFLICT = 409
_BACKOFF_FIRST_S = 0.1
_BACKOFF_MAX_S = 5.0
#: Beyond this a Retry-After is not obeyed but cut: the caller set the deadline, not the server.
_RETRY_AFTER_S_MAX = 30.0
_DECODER = msgspec.json.Decoder()


class UnavailableError(Exception):
    """No answer, or only "later", until the deadline; what was asked may or may not have been kept: ask again."""


@dataclass(frozen=True, slots=True)
class GatewayAnswer:
    """The gateway's last answer, whatever its status."""

    status: int
    payload: bytes
    #: Requests sent until this answer, the first included.
    attempts: int

    def json(self) -> dict[str, Any]:
        """The body as a mapping: what was asked for, or the problem (RFC 9457)."""
        value: dict[str, Any] = _DECODER.decode(self.payload)
        return value


class GaplessClient:
    """Talks to one gateway with one API key, over a bounded number of connections that stay open.

    Outages and refusals for load are retried with growing pauses until `give_up_after_s`; the pauses are drawn at
    random, so that clients that failed together don't come back together.
    """

    def __init__(
        self,
        url: str,
        api_key: str,
        *,
        connections: int = 32,
        give_up_after_s: float = 60.0,
        timeout_s: float = 45.0,
        chance: random.Random | None = None,
    ) -> None:
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {api_key}", "Content-Type": "application/json"}
        self._connections = connections
        self._give_up_after_s = give_up_after_s
        self._timeout_s = timeout_s
        self._chance = chance or random.Random()  # noqa: S311 - spreads retries, guards nothing.
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._connections, keepalive_timeout=60),
            timeout=aiohttp.ClientTimeout(total=self._timeout_s),
            # Neither is used, and both cost on every request.
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=("Accept-Encoding", "User-Agent"),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def post_invoice(self, body: Mapping[str, Any] | bytes, wait_s: int | None = None) -> GatewayAnswer:
        """Post a request; with `wait_s` (1-30) the answer waits for the number that long.

        Raises `UnavailableError` when nothing but failures came back until the deadline.
        """
        payload = body if isinstance(body, bytes) else msgspec.json.encode(body)
        headers = {"Prefer": f"wait={wait_s}"} if wait_s else None
        return await self._until_answered("POST", "/v1/invoices", payload, headers)

    async def get_invoice(self, order_id: str) -> GatewayAnswer:
        """What became of an order's request."""
        return await self._until_answered("GET", f"/v1/invoices/{quote(order_id, safe='')}", None, None)

    async def get_document(self, order_id: str) -> GatewayAnswer:
        """The PDF of an order's invoice, as the answer's payload."""
        return await self._until_answered("GET", f"/v1/invoices/{quote(order_id, safe='')}/document", None, None)

    async def post_checkout(self, body: Mapping[str, Any] | bytes, wait_s: int | None = None) -> GatewayAnswer:
        """Check out; with `wait_s` (1-30) the answer waits that long for stock and for the payment.

        201 is confirmed, 202 kept, 402 declined, 409 short of stock, or a conflict. A customer who is too fast (429)
        is slowed down. Raises `UnavailableError` as `post_invoice` does.
        """
        payload = body if isinstance(body, bytes) else msgspec.json.encode(body)
        headers = {"Prefer": f"wait={wait_s}"} if wait_s else None
        return await self._until_answered("POST", "/v1/checkouts", payload, headers)

    async def get_order(self, order_id: str) -> GatewayAnswer:
        """A checkout order as it stands."""
        return await self._until_answered("GET", f"/v1/orders/{quote(order_id, safe='')}", None, None)

    async def get_orders(self, customer: str, *, limit: int = 20, cursor: str | None = None) -> GatewayAnswer:
        """A page of a customer's orders, newest first; `cursor` is the `next` of the page before."""
        return await self._until_answered("GET", _page("/v1/orders", limit, cursor, customer=customer), None, None)

    async def ship(
        self, order_id: str, reason: str = "", wait_s: int | None = None, *, parcel: Mapping[str, str] | None = None
    ) -> GatewayAnswer:
        """The order leaves the warehouse. 200 with the order, 409 with the reason, 202 if it takes longer."""
        body = {"reason": reason} if parcel is None else {"reason": reason, "parcel": parcel}
        return await self._command(order_id, "shipments", body, wait_s)

    async def deliver(self, order_id: str, reason: str = "", wait_s: int | None = None) -> GatewayAnswer:
        """The order has arrived; answered as `ship`."""
        return await self._command(order_id, "deliveries", {"reason": reason}, wait_s)

    async def cancel(self, order_id: str, reason: str = "", wait_s: int | None = None) -> GatewayAnswer:
        """The order is not wanted any more; answered as `ship`."""
        return await self._command(order_id, "cancellations", {"reason": reason}, wait_s)

    async def refund(
        self,
        order_id: str,
        refund_id: str,
        lines: Mapping[int, int] | None = None,
        reason: str = "",
        wait_s: int | None = None,
    ) -> GatewayAnswer:
        """Give back the money for so many pieces by line, the first is 0; for all that is left without `lines`."""
        body: dict[str, Any] = {"refund_id": refund_id, "reason": reason}
        if lines is not None:
            body["lines"] = [{"line": line, "quantity": quantity} for line, quantity in lines.items()]
        return await self._command(order_id, "refunds", body, wait_s)

    async def credit(
        self, order_id: str, credit_note_id: str, amount: str | None = None, wait_s: int | None = None
    ) -> GatewayAnswer:
        """Credit so much of an invoice that was asked for directly, with tax; all that is left without `amount`."""
        body: dict[str, Any] = {"credit_note_id": credit_note_id} | ({} if amount is None else {"amount": amount})
        path = f"/v1/invoices/{quote(order_id, safe='')}/credit-notes"
        headers = None if wait_s is None else {"Prefer": f"wait={wait_s}"}
        return await self._until_answered("POST", path, msgspec.json.encode(body), headers)

    async def get_product(self, seller_id: str, product_id: str) -> GatewayAnswer:
        """A product as buyers see it."""
        return await self._until_answered("GET", f"/v1/catalogue/{seller_id}/products/{product_id}", None, None)

    async def search(self, seller_id: str, query: str) -> GatewayAnswer:
        """What buyers find; `query` is the query string, encoded."""
        return await self._until_answered("GET", f"/v1/catalogue/{seller_id}/search?{query}", None, None)

    async def put_cart_line(self, cart_id: str, product_id: str, sku: str, quantity: int) -> GatewayAnswer:
        """Set how many pieces of a SKU are in a cart."""
        path = f"/v1/carts/{quote(cart_id, safe='')}/lines/{quote(sku, safe='')}"
        payload = msgspec.json.encode({"product_id": product_id, "quantity": quantity})
        return await self._until_answered("PUT", path, payload, None)

    async def put_products(self, lines: bytes) -> GatewayAnswer:
        """Put products, one JSON object a line; the answer has a line for each."""
        headers = {"Content-Type": "application/x-ndjson"}
        return await self._until_answered("POST", "/v1/products/bulk", lines, headers)

    async def put_stock(self, sku: str, on_hand: int) -> GatewayAnswer:
        """So many pieces are in the warehouse."""
        return await self._put_stock(sku, {"on_hand": on_hand})

    async def adjust_stock(self, sku: str, adjust: int, key: str) -> GatewayAnswer:
        """So many pieces came, or went; once for each key, however often it is sent."""
        return await self._put_stock(sku, {"adjust": adjust, "key": key})

    async def get_stock(self, sku: str) -> GatewayAnswer:
        """A SKU's stock."""
        return await self._until_answered("GET", f"/v1/stock/{quote(sku, safe='')}", None, None)

    async def list_stock(self, *, limit: int = 100, cursor: str | None = None) -> GatewayAnswer:
        """A page of all stock, by SKU; `cursor` is the `next` of the page before."""
        return await self._until_answered("GET", _page("/v1/stock", limit, cursor), None, None)

    async def _command(self, order_id: str, what: str, body: Mapping[str, Any], wait_s: int | None) -> GatewayAnswer:
        path = f"/v1/orders/{quote(order_id, safe='')}/{what}"
        headers = None if wait_s is None else {"Prefer": f"wait={wait_s}"}
        return await self._until_answered("POST", path, msgspec.json.encode(body), headers)

    async def _put_stock(self, sku: str, body: Mapping[str, Any]) -> GatewayAnswer:
        return await self._until_answered("PUT", f"/v1/stock/{quote(sku, safe='')}", msgspec.json.encode(body), None)

    async def _until_answered(
        self, method: str, path: str, payload: bytes | None, headers: Mapping[str, str] | None
    ) -> GatewayAnswer:
        give_up_at = time.monotonic() + self._give_up_after_s
        pause_s = _BACKOFF_FIRST_S
        attempts = 0
        while True:
            attempts += 1
            try:
                status, answer, retry_after = await self._request(method, path, payload, headers)
            except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, OSError) as error:
                status, answer, retry_after = 0, (str(error) or type(error).__name__).encode(), None
            # A conflict that says when to come back passes: another refund of the order is under way.
            is_later = status in _LATER or (status == _CONFLICT and retry_after is not None)
            if status and not is_later:
                return GatewayAnswer(status, answer, attempts)
            wait_s = pause_s * self._chance.uniform(0.5, 1.0)
            if retry_after is not None:
                wait_s += min(_retry_after_seconds(retry_after), _RETRY_AFTER_S_MAX)
            if time.monotonic() + wait_s >= give_up_at:
                what = f"{status}" if status else "no answer"
                detail = answer[:200].decode(errors="replace")
                raise UnavailableError(f"{method} {path}: {what} after {attempts} attempts: {detail}")
            await asyncio.sleep(wait_s)
            pause_s = min(2 * pause_s, _BACKOFF_MAX_S)

    async def _request(
        self, method: str, path: str, payload: bytes | None, headers: Mapping[str, str] | None
    ) -> tuple[int, bytes, str | None]:
        if self._session is None:
            raise RuntimeError("use the client in `async with`")
        merged = {**self._headers, **headers} if headers else self._headers
        async with self._session.request(method, self._url + path, data=payload, headers=merged) as response:
            return response.status, await response.read(), response.headers.get("Retry-After")


def _page(path: str, limit: int, cursor: str | None, **filters: str) -> str:
    return f"{path}?{urlencode({**filters, 'limit': limit, **({} if cursor is None else {'cursor': cursor})})}"


def _retry_after_seconds(text: str) -> float:
    """Seconds or an HTTP date (RFC 9110, 10.2.3); what can't be read asks for nothing."""
    if text.strip().isdecimal():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    return max(0.0, moment.timestamp() - time.time())
