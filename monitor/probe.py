"""Probes the whole way: asks for an invoice of a seller of its own every few seconds, as a storefront would.

What stages measure from outside can all be well while requests are refused; the probe goes where buyers go.
"""

import asyncio
import contextlib
import http
import time
from typing import Any

import aiohttp

from monitor.figures import ProbeFigures
from runtime.exits import end_if_failed
from runtime.outages import Outage

_EVERY_SECONDS = 10.0
_WAIT_SECONDS = 30
_POLL_SECONDS = 0.25
_ANSWER_SECONDS_MAX = 45.0
#: What the gateway says while there is no document yet.
_NOT_YET = (http.HTTPStatus.ACCEPTED, http.HTTPStatus.NOT_FOUND)


class Probe:
    """Sends one request at a time, and measures how long its number and its document take."""

    def __init__(self, gateway_url: str, api_key: str, every_seconds: float = _EVERY_SECONDS) -> None:
        """`api_key` is that of the probe's seller; its invoices are tests, in series of their own."""
        self._url = gateway_url.rstrip("/")
        self._api_key = api_key
        self._every_seconds = every_seconds
        self._outage = Outage("the way that the probe takes")
        self._began_at: float | None = None
        self._number_seconds: float | None = None
        self._document_seconds: float | None = None
        #: Of the request under way.
        self._is_numbered = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to send."""
        self._task = asyncio.create_task(self._go_on(), name="probe")
        self._task.add_done_callback(end_if_failed)

    async def stop(self) -> None:
        """Send no more."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def figures(self) -> ProbeFigures:
        """How long the last request took; of one under way that takes longer, how long it has taken."""
        under_way = 0.0 if self._began_at is None else time.monotonic() - self._began_at
        number = self._number_seconds
        if not self._is_numbered and under_way > (number or 0.0):
            number = under_way if number is not None or under_way > self._every_seconds else None
        document = self._document_seconds
        if under_way > (document or 0.0):
            document = under_way if document is not None or under_way > self._every_seconds else None
        return ProbeFigures(number, document, self._outage.reason or "")

    async def _go_on(self) -> None:
        timeout = aiohttp.ClientTimeout(total=_ANSWER_SECONDS_MAX)
        headers = {"Authorization": f"Bearer {self._api_key}"}
        async with aiohttp.ClientSession(timeout=timeout, headers=headers) as session:
            while True:
                self._began_at = time.monotonic()
                self._is_numbered = False
                await self._ask(session)
                took = time.monotonic() - self._began_at
                self._began_at = None
                await asyncio.sleep(max(0.0, self._every_seconds - took))

    async def _ask(self, session: aiohttp.ClientSession) -> None:
        """One request to its document; however long that takes."""
        began_at = time.monotonic()
        request = _request(f"probe-{time.time_ns()}")
        # Again and again under one id: whatever became of the first, there is one invoice.
        while not await self._is_done(session, "POST", "/v1/invoices", json=request):  # noqa: ASYNC110 - it is asked.
            await asyncio.sleep(_POLL_SECONDS)
        self._is_numbered = True
        self._number_seconds = time.monotonic() - began_at
        document = f"/v1/invoices/{request['order_id']}/document"
        while not await self._is_done(session, "GET", document):  # noqa: ASYNC110 - it is asked.
            await asyncio.sleep(_POLL_SECONDS)
        self._document_seconds = time.monotonic() - began_at
        self._outage.answered()

    async def _is_done(self, session: aiohttp.ClientSession, method: str, path: str, json: Any = None) -> bool:
        headers = {"Prefer": f"wait={_WAIT_SECONDS}"} if method == "POST" else None
        try:
            async with session.request(method, self._url + path, json=json, headers=headers) as answer:
                body = await answer.read()
                if answer.status == http.HTTPStatus.OK:
                    return True
                if answer.status not in _NOT_YET:
                    says = body[:200].decode(errors="replace")
                    self._outage.failed(f"{method} {path} is answered {answer.status}: {says}")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._outage.failed(error)
        return False


def _request(order_id: str) -> dict[str, Any]:
    """Whoever sees the invoice sees that it is a test."""
    return {
        "order_id": order_id,
        "currency": "EUR",
        "note": "Test of the monitor: not an invoice.",
        "buyer": {
            "name": "Test of the monitor",
            "email": "probe@example.com",
            "address": {"street": "Nowhere 1", "city": "Nowhere", "postal_code": "00000", "country": "FR"},
        },
        "lines": [
            {
                "sku": "probe",
                "description": "Test",
                "quantity": "1",
                "unit_price": "0.01",
                "vat_rate": "20",
                "vat_category": "S",
            }
        ],
    }
