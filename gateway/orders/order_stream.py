"""GET /v1/orders/{order_id}/events: an order as it changes, as server-sent events.

Each event is the whole order as GET returns it, with its history: a client that was away misses no step, and needs no
memory but the last event's id.
"""

import asyncio
import contextlib
import hashlib
from collections import Counter as Counts
from collections.abc import Iterator
from dataclasses import dataclass
from time import monotonic
from typing import NamedTuple, cast

import msgspec
from aiohttp import web

from gateway.http import problems
from gateway.http.openapi import DeclaredResponse, Parameter, operation
from gateway.http.parameters import ORDER_ID, order_id_of
from gateway.http.problems import ProblemError
from gateway.http.server import SERVER, BoundedHandler
from gateway.http.waiting import Waiter, Waiters
from gateway.orders.order_reading import AnyOrder, OrderReading

_CONTENT_TYPE = "text/event-stream"
_LAST_EVENT_ID = Parameter(
    "Last-Event-ID", "header", {"type": "string"}, "The id of the last event received: only a change is sent."
)
_DIGEST_BYTES = 9
#: Clients connect again after this.
_RETRY_MS = 2_000


@dataclass(frozen=True, slots=True)
class StreamPolicy:
    """How many streams there are, and how often something happens on one."""

    streams_max: int = 4_000
    streams_per_seller_max: int = 2_500
    #: A comment is sent after so long without an event: proxies end silent connections, and dead ones show.
    silence_seconds: float = 15.0
    #: Postgres is asked so often besides: an event may be missed while Kafka is away.
    look_seconds: float = 15.0
    #: The same for an order that is not decided yet, as the waitlist moves without events, and after an outage.
    soon_seconds: float = 2.0
    #: A client that reads nothing for so long is let go.
    write_seconds: float = 30.0
    #: Then the client connects again: streams spread over gateways that were added.
    seconds_max: float = 3_600.0


class OrderStreams:
    """Streams of orders."""

    def __init__(
        self,
        reading: OrderReading,
        order_waiters: Waiters,
        invoice_waiters: Waiters,
        policy: StreamPolicy | None = None,
    ) -> None:
        """The waiters are woken by the events of the order, and by those of its invoice and credit notes."""
        self._reading = reading
        self._waiters = (order_waiters, invoice_waiters)
        self._policy = policy or StreamPolicy()
        self._open: Counts[str] = Counts()

    def routes(self) -> list[web.RouteDef]:
        """The resource."""
        return [web.get("/v1/orders/{order_id}/events", self.events)]

    @operation(
        "An order as it changes: server-sent events, each with the whole order",
        DeclaredResponse(
            200, "A stream; it may end at any time, and is to be asked for again", media_type=_CONTENT_TYPE
        ),
        parameters=[ORDER_ID, _LAST_EVENT_ID],
        problems=[problems.NOT_FOUND, problems.SELLER_OVERLOADED, problems.OVERLOADED],
    )
    async def events(self, request: web.Request, seller_id: str) -> web.StreamResponse:
        """GET /v1/orders/{order_id}/events."""
        order_id = order_id_of(request)
        with self._place(seller_id), self._waiting(order_id.encode()) as waiter:
            order, is_decided = await self._reading.current(seller_id, order_id)
            event = _event(order)
            stream = await self._begin(request, waiter)
            progress = _Progress(request.headers.get("Last-Event-ID", ""), is_decided)
            # The client is gone, or as good as gone.
            with contextlib.suppress(ConnectionError, TimeoutError):
                await self._write(stream, b"retry: %d\n\n" % _RETRY_MS)
                await self._send(stream, event, progress)
                # A stream may be open for an hour, and the order is the largest part of it.
                del order, event
                await self._follow(stream, seller_id, order_id, waiter, progress)
        return stream

    async def _begin(self, request: web.Request, waiter: Waiter) -> web.StreamResponse:
        stream = web.StreamResponse(
            headers={
                "Content-Type": _CONTENT_TYPE,
                "Cache-Control": "no-store",
                # nginx would gather events otherwise.
                "X-Accel-Buffering": "no",
                "Server": SERVER,
            }
        )
        await stream.prepare(request)
        cast(BoundedHandler, request.protocol).when_lost = waiter.cut
        return stream

    async def _follow(
        self, stream: web.StreamResponse, seller_id: str, order_id: str, waiter: Waiter, progress: "_Progress"
    ) -> None:
        policy = self._policy
        end_at = monotonic() + policy.seconds_max
        sent_at = monotonic()
        while True:
            pause_s = policy.look_seconds if progress.is_decided and progress.is_known else policy.soon_seconds
            look_at = min(monotonic() + pause_s, end_at)
            woken = False
            while not woken and not waiter.cut_short and monotonic() < look_at:
                silent_at = sent_at + policy.silence_seconds
                woken = await waiter.next(max(0.0, min(look_at, silent_at) - monotonic())) is not None
                if not woken and monotonic() >= silent_at:
                    await self._write(stream, b":\n\n")
                    sent_at = monotonic()
            if waiter.cut_short or monotonic() >= end_at:
                return
            if await self._look(stream, seller_id, order_id, progress):
                sent_at = monotonic()

    async def _look(self, stream: web.StreamResponse, seller_id: str, order_id: str, progress: "_Progress") -> bool:
        """Send the order if it has changed; whether it was."""
        try:
            order, is_decided = await self._reading.current(seller_id, order_id)
        except ProblemError:
            # Postgres is unavailable, or Redis has lost its note of a new order.
            progress.is_known = False
            return False
        # Without Postgres, Redis still knows that the order was accepted: that is older than what was sent.
        progress.is_known = is_decided or not progress.is_decided
        if not progress.is_known:
            return False
        progress.is_decided = is_decided
        return await self._send(stream, _event(order), progress)

    async def _send(self, stream: web.StreamResponse, event: "_Event", progress: "_Progress") -> bool:
        if event.event_id == progress.last_id:
            return False
        await self._write(stream, b"event: order\nid: %b\ndata: %b\n\n" % (event.event_id.encode(), event.data))
        progress.last_id = event.event_id
        return True

    async def _write(self, stream: web.StreamResponse, data: bytes) -> None:
        async with asyncio.timeout(self._policy.write_seconds):
            await stream.write(data)

    @contextlib.contextmanager
    def _place(self, seller_id: str) -> Iterator[None]:
        if self._open.total() >= self._policy.streams_max:
            raise ProblemError(problems.OVERLOADED, "there are too many streams at this gateway", retry_after_seconds=2)
        if self._open[seller_id] >= self._policy.streams_per_seller_max:
            raise ProblemError(
                problems.SELLER_OVERLOADED, "this seller has too many streams at this gateway", retry_after_seconds=2
            )
        self._open[seller_id] += 1
        try:
            yield
        finally:
            self._open[seller_id] -= 1
            if not self._open[seller_id]:
                del self._open[seller_id]

    @contextlib.contextmanager
    def _waiting(self, key: bytes) -> Iterator[Waiter]:
        """One waiter, woken by both topics."""
        waiter = Waiter()
        for each in self._waiters:
            each.join(key, waiter)
        try:
            yield waiter
        finally:
            for each in self._waiters:
                each.remove(key, waiter)


class _Event(NamedTuple):
    event_id: str
    data: bytes


@dataclass(slots=True)
class _Progress:
    """What the client has."""

    last_id: str
    is_decided: bool
    #: Whether the last look has found anything.
    is_known: bool = True


def _event(order: AnyOrder) -> _Event:
    data = msgspec.json.encode(order)
    return _Event(hashlib.blake2b(data, digest_size=_DIGEST_BYTES).hexdigest(), data)
