"""The clients: `Client`, and `AsyncClient` for asyncio. Both have the methods of `operations.py`.

A call that gets no answer, or is told "later", is repeated until `give_up_after_s`, with growing random pauses and at
least as long as `Retry-After` says. Repeats are harmless: the order id, the refund id or the key is in the request.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

from gapless_client.following import PAUSE_S, Following
from gapless_client.models import AcceptedOrder, InvoiceView, OrderView, RejectedInvoice, RejectedOrder, WaitingOrder
from gapless_client.operations import AsyncOperations, Operations
from gapless_client.retrying import Calls, Outcome, Steps

#: States of an order that pass by themselves.
_UNDECIDED = frozenset({"accepted", "waiting", "PLACED", "PAYMENT_PENDING"})
#: An order in any stage.
AnyOrder = OrderView | AcceptedOrder | WaitingOrder | RejectedOrder


class Client(Operations):
    """A gateway, for one seller. It may be used by several threads."""

    def __init__(
        self, url: str, api_key: str, *, give_up_after_s: float = 60.0, http: httpx.Client | None = None
    ) -> None:
        """`http` brings settings of its own, such as a proxy or certificates."""
        self._calls = Calls(url, api_key, give_up_after_s)
        self._http = http or httpx.Client()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def wait_for_order(self, order_id: str, *, seconds: float = 60.0) -> OrderView | RejectedOrder:
        """The order once it is decided: confirmed, refused, cancelled or rejected. Raises `TimeoutError`."""
        order: OrderView | RejectedOrder = self._run(
            self._calls.until(_order(order_id), _is_decided, seconds), self._send
        )
        return order

    def wait_for_invoice(self, order_id: str, *, seconds: float = 60.0) -> InvoiceView | RejectedInvoice:
        """The invoice once it has its number and its document, or is rejected. Raises `TimeoutError`."""
        steps = self._calls.until(_invoice(order_id), _is_complete, seconds)
        invoice: InvoiceView | RejectedInvoice = self._run(steps, self._send)
        return invoice

    def follow_order(self, order_id: str) -> Iterator[AnyOrder]:
        """The order as it stands, and again each time it changes, until the caller stops asking.

        A lost connection is made anew, and nothing is missed: each order comes with its whole history. Raises
        `ProblemError` and `UnavailableError` as all calls do.
        """
        following = Following()
        while True:
            response: httpx.Response = self._run(
                self._calls.stream(f"{_order(order_id)}/events", following), self._open
            )
            try:
                for line in response.iter_lines():
                    order = following.read(line)
                    if order is not None:
                        yield order
            except httpx.TransportError:
                pass
            finally:
                response.close()
            time.sleep(PAUSE_S)

    def _call(self, method: str, path: str, **how: Any) -> Any:
        return self._run(self._calls.steps(method, path, **how), self._send)

    def _run(self, steps: Steps, send: Callable[[httpx.Request], Outcome]) -> Any:
        outcome: Outcome | None = None
        try:
            while True:
                step = steps.send(outcome)
                outcome = None
                if isinstance(step, httpx.Request):
                    outcome = send(step)
                else:
                    time.sleep(step)
        except StopIteration as end:
            return end.value

    def _send(self, request: httpx.Request) -> Outcome:
        try:
            return self._http.send(request)
        except httpx.TransportError as error:
            return error

    def _open(self, request: httpx.Request) -> Outcome:
        """Send it, and leave the body of a success to be read as it comes."""
        try:
            response = self._http.send(request, stream=True)
            if not response.is_success:
                response.read()
            return response
        except httpx.TransportError as error:
            return error


class AsyncClient(AsyncOperations):
    """A gateway, for one seller, on asyncio."""

    def __init__(
        self, url: str, api_key: str, *, give_up_after_s: float = 60.0, http: httpx.AsyncClient | None = None
    ) -> None:
        """`http` brings settings of its own, such as a proxy or certificates."""
        self._calls = Calls(url, api_key, give_up_after_s)
        self._http = http or httpx.AsyncClient()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def wait_for_order(self, order_id: str, *, seconds: float = 60.0) -> OrderView | RejectedOrder:
        """The order once it is decided: confirmed, refused, cancelled or rejected. Raises `TimeoutError`."""
        order: OrderView | RejectedOrder = await self._run(
            self._calls.until(_order(order_id), _is_decided, seconds), self._send
        )
        return order

    async def wait_for_invoice(self, order_id: str, *, seconds: float = 60.0) -> InvoiceView | RejectedInvoice:
        """The invoice once it has its number and its document, or is rejected. Raises `TimeoutError`."""
        steps = self._calls.until(_invoice(order_id), _is_complete, seconds)
        invoice: InvoiceView | RejectedInvoice = await self._run(steps, self._send)
        return invoice

    async def follow_order(self, order_id: str) -> AsyncIterator[AnyOrder]:
        """The order as it stands, and again each time it changes, until the caller stops asking.

        A lost connection is made anew, and nothing is missed: each order comes with its whole history. Raises
        `ProblemError` and `UnavailableError` as all calls do.
        """
        following = Following()
        while True:
            steps = self._calls.stream(f"{_order(order_id)}/events", following)
            response: httpx.Response = await self._run(steps, self._open)
            try:
                async for line in response.aiter_lines():
                    order = following.read(line)
                    if order is not None:
                        yield order
            except httpx.TransportError:
                pass
            finally:
                await response.aclose()
            await asyncio.sleep(PAUSE_S)

    async def _call(self, method: str, path: str, **how: Any) -> Any:
        return await self._run(self._calls.steps(method, path, **how), self._send)

    async def _run(self, steps: Steps, send: Callable[[httpx.Request], Awaitable[Outcome]]) -> Any:
        outcome: Outcome | None = None
        try:
            while True:
                step = steps.send(outcome)
                outcome = None
                if isinstance(step, httpx.Request):
                    outcome = await send(step)
                else:
                    await asyncio.sleep(step)
        except StopIteration as end:
            return end.value

    async def _send(self, request: httpx.Request) -> Outcome:
        try:
            return await self._http.send(request)
        except httpx.TransportError as error:
            return error

    async def _open(self, request: httpx.Request) -> Outcome:
        """Send it, and leave the body of a success to be read as it comes."""
        try:
            response = await self._http.send(request, stream=True)
            if not response.is_success:
                await response.aread()
            return response
        except httpx.TransportError as error:
            return error


def _order(order_id: str) -> str:
    return f"/v1/orders/{quote(order_id, safe='')}"


def _invoice(order_id: str) -> str:
    return f"/v1/invoices/{quote(order_id, safe='')}"


def _is_decided(order: Any) -> bool:
    return order["state"] not in _UNDECIDED


def _is_complete(invoice: Any) -> bool:
    return invoice["status"] == "rejected" or invoice.get("document") is not None
