"""A storefront's client: posts an invoice request until it is kept, and asks what became of it."""

import asyncio
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import aiohttp
import msgspec

#: Answers that say "later": worth another try with the same order id, which makes the repeat harmless.
_LATER = frozenset((429, 502, 503, 504))
_BACKOFF_FIRST_S = 0.1
_BACKOFF_MAX_S = 5.0
#: Beyond this a Retry-After is not obeyed but cut: the caller set the deadline, not the server.
_RETRY_AFTER_S_MAX = 30.0
_DECODER = msgspec.json.Decoder()


class UnavailableError(Exception):
    """No answer, or only "later", until the deadline; what was asked may or may not have been kept: ask again."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The gateway's last answer, whatever its status."""

    status: int
    payload: bytes
    #: Requests sent until this answer, the first included.
    attempts: int

    def json(self) -> dict[str, Any]:
        """The body as a mapping: the invoice's status, or the problem (RFC 9457)."""
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

    async def post_invoice(self, body: Mapping[str, Any] | bytes, wait_s: int | None = None) -> Answer:
        """Post a request; with `wait_s` (1-30) the answer waits for the number that long.

        Raises `UnavailableError` when nothing but failures came back until the deadline.
        """
        payload = body if isinstance(body, bytes) else msgspec.json.encode(body)
        headers = {"Prefer": f"wait={wait_s}"} if wait_s else None
        return await self._until_answered("POST", "/v1/invoices", payload, headers)

    async def get_invoice(self, order_id: str) -> Answer:
        """What became of an order's request."""
        return await self._until_answered("GET", f"/v1/invoices/{quote(order_id, safe='')}", None, None)

    async def get_document(self, order_id: str) -> Answer:
        """The PDF of an order's invoice, as the answer's payload."""
        return await self._until_answered("GET", f"/v1/invoices/{quote(order_id, safe='')}/document", None, None)

    async def _until_answered(
        self, method: str, path: str, payload: bytes | None, headers: Mapping[str, str] | None
    ) -> Answer:
        give_up_at = time.monotonic() + self._give_up_after_s
        pause_s = _BACKOFF_FIRST_S
        attempts = 0
        while True:
            attempts += 1
            try:
                status, answer, retry_after = await self._request(method, path, payload, headers)
            except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, OSError) as error:
                status, answer, retry_after = 0, (str(error) or type(error).__name__).encode(), None
            if status and status not in _LATER:
                return Answer(status, answer, attempts)
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


def _retry_after_seconds(text: str) -> float:
    """Seconds or an HTTP date (RFC 9110, 10.2.3); what can't be read asks for nothing."""
    if text.strip().isdecimal():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    return max(0.0, moment.timestamp() - time.time())
