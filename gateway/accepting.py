"""POST /v1/invoices: take a request, keep it in Kafka, and answer."""

import asyncio
import re
from time import monotonic, time_ns
from typing import Any

import msgspec
from aiohttp import web

from domain.invoice import Priced, compare_totals, price
from domain.refusals import Refusal
from gateway import measures, orders, problems, requests
from gateway.auth import KeyRing
from gateway.problems import ProblemError
from gateway.waiting import Waiter, Waiters
from runtime.kafka import Delivered, NotAcknowledgedError, OverloadedError, Publisher
from schemas.catalog import (
    INVOICE_EVENTS,
    INVOICE_ISSUED,
    INVOICE_REQUEST,
    INVOICE_REQUEST_CONFLICTED,
    INVOICE_REQUEST_REJECTED,
    INVOICE_REQUESTS,
    Topic,
)
from schemas.codec import DecodeError, decode, encode
from sinks.postgres.reader import Order, PostgresUnavailableError, Reader
from sinks.redis.hints import Hints

BODY_BYTES_MAX = 1024 * 1024
#: A body that trickles in holds memory; this much time is enough for 1 MiB over a bad line.
BODY_SECONDS_MAX = 15.0
WAIT_SECONDS_MAX = 30
#: Requests under way. Each is a connection and a body; beyond this they only wait for each other.
IN_FLIGHT_MAX = 5_000
#: Bytes of the bodies under way. Decoded, each byte takes some ten: this is what bounds the gateway's memory.
IN_FLIGHT_BYTES_MAX = 32 * 1024 * 1024
#: While a client waits, Postgres is asked now and then as well: its number may be there although no event comes. A
#: request that nothing hints at is new, nearly always, and its event comes sooner than this.
_LOOK_SECONDS_MIN = 0.75
_LOOK_SECONDS_MAX = 4.0

_WAIT = re.compile(r'(?:^|,)\s*wait\s*=\s*"?([0-9]{1,6})"?\s*(?:;|,|$)', re.IGNORECASE)


def wait_seconds(prefer: str | None) -> int:
    """What `Prefer: wait=N` asks for, at most `WAIT_SECONDS_MAX`; 0 for no wait. Other preferences are ignored."""
    match = _WAIT.search(prefer) if prefer else None
    return min(int(match.group(1)), WAIT_SECONDS_MAX) if match else 0


class Accepting:
    """Takes invoice requests. 202 means kept: it is answered only after the brokers' acknowledgement."""

    def __init__(
        self,
        keys: KeyRing,
        publisher: Publisher,
        hints: Hints,
        reader: Reader,
        waiters: Waiters,
        *,
        topic: Topic = INVOICE_REQUESTS,
    ) -> None:
        """Requests go to `topic`."""
        self._topic = topic.name
        self._keys = keys
        self._publisher = publisher
        self._hints = hints
        self._reader = reader
        self._waiters = waiters
        self._in_flight = 0
        self._in_flight_bytes = 0

    @property
    def in_flight(self) -> int:
        """How many requests are under way."""
        return self._in_flight

    async def post(self, request: web.Request) -> web.Response:
        """POST /v1/invoices."""
        seller_id = await self._keys.seller_of(request)
        length = request.content_length
        if length is not None and length > BODY_BYTES_MAX:
            raise _too_large()
        held_bytes = BODY_BYTES_MAX if length is None else length
        if self._in_flight >= IN_FLIGHT_MAX or self._in_flight_bytes + held_bytes > IN_FLIGHT_BYTES_MAX:
            raise ProblemError(problems.OVERLOADED, "too many requests are under way", retry_after_seconds=1)
        self._in_flight += 1
        self._in_flight_bytes += held_bytes
        try:
            return await self._accept(request, seller_id)
        finally:
            self._in_flight -= 1
            self._in_flight_bytes -= held_bytes

    async def _accept(self, request: web.Request, seller_id: str) -> web.Response:
        asked = requests.read(await _body(request))
        order_id = requests.order_id(asked, request.headers.get("Idempotency-Key"))
        record = requests.as_record(asked, seller_id, order_id, time_ns() // 1000)
        priced = _priced(record, asked)
        payload = encode(INVOICE_REQUEST, record)
        hint = await self._hints.known(seller_id, order_id)
        if isinstance(hint, bytes) and hint != priced.content_sha256:
            await self._refuse_known_conflict(seller_id, order_id, priced.content_sha256)
        wait = wait_seconds(request.headers.get("Prefer"))
        if not wait:
            await self._keep(seller_id, order_id, priced, payload)
            return _accepted(order_id, {})
        key = order_id.encode()
        # Before the request is published: its event may come before the acknowledgement.
        waiter = self._waiters.add(key)
        try:
            delivered = await self._keep(seller_id, order_id, priced, payload)
            outcome = _Wait(self._reader, record, priced, delivered)
            body = await outcome.until_known(waiter, wait, look_at_once=isinstance(hint, bytes))
        finally:
            self._waiters.remove(key, waiter)
        applied = {"Preference-Applied": f"wait={wait}"}
        return _accepted(order_id, applied) if body is None else _json(200, body, applied)

    async def _keep(self, seller_id: str, order_id: str, priced: Priced, payload: bytes) -> Delivered:
        """Publish the request; return when it is kept and hinted at. Raises `ProblemError`."""
        began = monotonic()
        try:
            delivered = await self._publisher.publish(self._topic, order_id.encode(), payload)
        except OverloadedError:
            raise ProblemError(
                problems.OVERLOADED, "too many requests wait for the brokers", retry_after_seconds=1
            ) from None
        except NotAcknowledgedError:
            measures.NOT_ACKNOWLEDGED.inc()
            raise ProblemError(
                problems.NOT_ACKNOWLEDGED,
                "the brokers did not acknowledge in time; sent again with the same order_id it has one effect",
                retry_after_seconds=2,
            ) from None
        except ValueError:
            raise _too_large() from None
        measures.ACKNOWLEDGE_SECONDS.observe(monotonic() - began)
        measures.ACCEPTED.inc()
        await self._hints.remember(seller_id, order_id, priced.content_sha256)
        return delivered

    async def _refuse_known_conflict(self, seller_id: str, order_id: str, content_sha256: bytes) -> None:
        """Raise the conflict that a hint tells of, unless Postgres knows better."""
        # A hint says what was acknowledged first, which two requests at once may leave in another order in the log.
        try:
            order = await self._reader.order(seller_id, order_id)
        except PostgresUnavailableError:
            order = Order(None, ())
        if order.invoice is None:
            if order.refused:  # What the hint is about was rejected, so this may be its correction.
                return
            raise _conflict(order_id)
        if order.invoice.content_sha256 != content_sha256:
            raise _conflict(order_id)


class _Wait:
    """One client's wait until its request's outcome is known."""

    def __init__(self, reader: Reader, record: dict[str, Any], priced: Priced, delivered: Delivered) -> None:
        self._reader = reader
        self._record = record
        self._seller_id: str = record["seller_id"]
        self._order_id: str = record["order_id"]
        self._content_sha256 = priced.content_sha256
        self._delivered = delivered

    async def until_known(self, waiter: Waiter, seconds: float, *, look_at_once: bool) -> dict[str, Any] | None:
        """The order with its number; None if that is not known in time. Raises `ProblemError` for a refusal.

        `look_at_once` for an order that is known: it may be an old one, for which no event comes any more.
        """
        deadline = monotonic() + seconds
        pause = _LOOK_SECONDS_MIN
        look_at = monotonic() + (0 if look_at_once else pause)
        while True:
            now = monotonic()
            if now >= min(look_at, deadline) or waiter.cut_short:
                body = await self._look()
                if body is not None or now >= deadline or waiter.cut_short:
                    return body
                look_at, pause = now + pause, min(2 * pause, _LOOK_SECONDS_MAX)
            event = await waiter.next(min(look_at, deadline) - monotonic())
            if event is None:
                continue
            body = self._judge(event)
            if body is not None:
                return body

    async def _look(self) -> dict[str, Any] | None:
        """What Postgres says."""
        try:
            order = await self._reader.order(self._seller_id, self._order_id)
            if order.invoice is None:
                for refused in order.refused:
                    if refused.outcome == orders.REJECTED and refused.log_offset == self._delivered.offset:
                        raise problems.rejected(refused.reason, refused.detail)
                return None
            if order.invoice.content_sha256 != self._content_sha256:
                raise _conflict(self._order_id)
            event = await self._reader.event(order.invoice)
        except PostgresUnavailableError:
            return None
        return orders.known(self._order_id, order, event)

    def _judge(self, value: bytes) -> dict[str, Any] | None:
        """What an event of this order id means; None if it is about another request."""
        try:
            schema, event = decode(
                value,
                INVOICE_ISSUED,
                INVOICE_REQUEST_CONFLICTED,
                INVOICE_REQUEST_REJECTED,
                bytes_max=INVOICE_EVENTS.value_bytes_max,
            )
        except DecodeError:  # Its document is stored: the number was known before.
            return None
        if event["seller_id"] != self._seller_id:
            return None
        if schema is INVOICE_ISSUED:
            # An event of other content leaves it to Postgres, or to the conflict's own event, to say so.
            return orders.issued(event) if self._is_ours(event) else None
        if (event["source_partition"], event["source_offset"]) != self._delivered:
            return None
        if schema is INVOICE_REQUEST_CONFLICTED:
            raise _conflict(self._order_id)
        raise problems.rejected(event["reason"], event["detail"])

    def _is_ours(self, event: dict[str, Any]) -> bool:
        """Whether the invoice has our content."""
        ours = self._record
        # The same texts are the same content; other texts may be, such as 2 and 2.0.
        if (
            all(event[name] == ours[name] for name in ("currency", "note", "buyer"))
            and len(event["lines"]) == len(ours["lines"])
            and all(line.items() <= issued.items() for line, issued in zip(ours["lines"], event["lines"], strict=True))
        ):
            return True
        standing = price(event)
        return isinstance(standing, Priced) and standing.content_sha256 == self._content_sha256


def _priced(record: dict[str, Any], asked: requests.InvoiceRequest) -> Priced:
    priced = price(record)
    if isinstance(priced, Refusal):
        raise problems.refused(priced)
    refusal = compare_totals(priced, requests.claimed_totals(asked), asked.currency)
    if refusal is not None:
        raise problems.refused(refusal)
    return priced


async def _body(request: web.Request) -> bytes:
    try:
        async with asyncio.timeout(BODY_SECONDS_MAX):
            return await request.read()
    except TimeoutError:
        raise ProblemError(
            problems.TIMEOUT, f"the body did not come within {BODY_SECONDS_MAX:g} s", headers={"Connection": "close"}
        ) from None
    except web.HTTPRequestEntityTooLarge:
        raise _too_large() from None


def _accepted(order_id: str, headers: dict[str, str]) -> web.Response:
    return _json(202, orders.accepted(order_id), {"Location": orders.path_of(order_id), "Retry-After": "1", **headers})


def _json(status: int, body: dict[str, Any], headers: dict[str, str]) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(body), content_type="application/json", headers=headers)


def _too_large() -> ProblemError:
    return ProblemError(problems.TOO_LARGE, f"a request has at most {BODY_BYTES_MAX} bytes")


def _conflict(order_id: str) -> ProblemError:
    return ProblemError(
        problems.CONFLICT,
        "this order_id has come with other content before; what came first stands",
        field="order_id",
        more={"order_id": order_id, "links": {"self": orders.path_of(order_id)}},
    )
