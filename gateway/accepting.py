"""POST /v1/invoices: take a request, keep it in Kafka, and answer."""

from time import time_ns
from typing import Any

from aiohttp import web

from domain.invoice import Priced, compare_totals, price
from domain.refusals import Refusal
from gateway import invoice_views, measures, problems, requests
from gateway.answers import json_answer
from gateway.auth import KeyRing
from gateway.bodies import IDEMPOTENCY_KEY
from gateway.intake import PREFER, Intake, read_body, wait_seconds
from gateway.invoice_views import AcceptedInvoice, InvoiceView, RejectedInvoice
from gateway.openapi import Answer, operation
from gateway.problems import ProblemError
from gateway.waiting import Waiters, until_known
from runtime.kafka import Delivered
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
from sinks.postgres.lanes import PostgresUnavailableError
from sinks.postgres.reader import Order, Reader
from sinks.redis.hints import Hints


class Accepting:
    """Takes invoice requests. 202 means kept: it is answered only after the brokers' acknowledgement."""

    def __init__(
        self,
        keys: KeyRing,
        intake: Intake,
        hints: Hints,
        reader: Reader,
        waiters: Waiters,
        *,
        topic: Topic = INVOICE_REQUESTS,
    ) -> None:
        """Requests go to `topic`; `waiters` are woken by the invoice events."""
        self._topic = topic.name
        self._keys = keys
        self._intake = intake
        self._hints = hints
        self._reader = reader
        self._waiters = waiters

    def routes(self) -> list[web.RouteDef]:
        """The resource."""
        return [web.post("/v1/invoices", self.post)]

    @operation(
        "Ask for an invoice",
        Answer(200, "Waited for: the order has its number", InvoiceView, headers=("Preference-Applied",)),
        Answer(202, "Kept; its number follows", AcceptedInvoice, headers=("Location", "Retry-After")),
        body=requests.InvoiceRequest,
        parameters=[IDEMPOTENCY_KEY, PREFER],
        problems=[
            problems.ORDER_ID_MISSING,
            problems.ORDER_ID_AMBIGUOUS,
            problems.CONFLICT,
            *problems.RULES,
            problems.NOT_ACKNOWLEDGED,
        ],
    )
    async def post(self, request: web.Request) -> web.Response:
        """POST /v1/invoices."""
        seller_id = await self._keys.seller_of(request)
        with self._intake.place(request):
            return await self._accept(request, seller_id)

    async def _accept(self, request: web.Request, seller_id: str) -> web.Response:
        asked = requests.read(await read_body(request))
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
            outcome = _Outcome(self._reader, record, priced, delivered)
            body = await until_known(waiter, outcome, wait, look_at_once=isinstance(hint, bytes))
        finally:
            self._waiters.remove(key, waiter)
        applied = {"Preference-Applied": f"wait={wait}"}
        return _accepted(order_id, applied) if body is None else json_answer(body, headers=applied)

    async def _keep(self, seller_id: str, order_id: str, priced: Priced, payload: bytes) -> Delivered:
        """Publish the request; return when it is kept and hinted at. Raises `ProblemError`."""
        delivered = await self._intake.keep(self._topic, order_id.encode(), payload)
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


class _Outcome:
    """What becomes of one request."""

    def __init__(self, reader: Reader, record: dict[str, Any], priced: Priced, delivered: Delivered) -> None:
        self._reader = reader
        self._record = record
        self._seller_id: str = record["seller_id"]
        self._order_id: str = record["order_id"]
        self._content_sha256 = priced.content_sha256
        self._delivered = delivered

    async def look(self) -> InvoiceView | RejectedInvoice | None:
        """What Postgres says."""
        try:
            order = await self._reader.order(self._seller_id, self._order_id)
            if order.invoice is None:
                for refused in order.refused:
                    if refused.outcome == invoice_views.REJECTED and refused.log_offset == self._delivered.offset:
                        raise problems.rejected(refused.reason, refused.detail)
                return None
            if order.invoice.content_sha256 != self._content_sha256:
                raise _conflict(self._order_id)
            event = await self._reader.event(order.invoice)
        except PostgresUnavailableError:
            return None
        return invoice_views.known(self._order_id, order, event)

    async def judge(self, event: bytes) -> InvoiceView | RejectedInvoice | None:
        """What an event of this order id means; None if it is about another request."""
        try:
            schema, value = decode(
                event,
                INVOICE_ISSUED,
                INVOICE_REQUEST_CONFLICTED,
                INVOICE_REQUEST_REJECTED,
                bytes_max=INVOICE_EVENTS.value_bytes_max,
            )
        except DecodeError:  # Its document is stored: the number was known before.
            return None
        if value["seller_id"] != self._seller_id:
            return None
        if schema is INVOICE_ISSUED:
            # An event of other content leaves it to Postgres, or to the conflict's own event, to say so.
            return self._issued(value) if self._is_ours(value) else None
        if (value["source_partition"], value["source_offset"]) != self._delivered:
            return None
        if schema is INVOICE_REQUEST_CONFLICTED:
            raise _conflict(self._order_id)
        raise problems.rejected(value["reason"], value["detail"])

    def _issued(self, event: dict[str, Any]) -> InvoiceView | None:
        try:
            return invoice_views.issued(event)
        except OverflowError:  # A time that there isn't: not the agent's event. Postgres knows.
            return None

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


def _accepted(order_id: str, headers: dict[str, str]) -> web.Response:
    return json_answer(
        invoice_views.accepted(order_id),
        status=202,
        headers={"Location": invoice_views.path_of(order_id), "Retry-After": "1", **headers},
    )


def _conflict(order_id: str) -> ProblemError:
    return problems.conflict(order_id, invoice_views.path_of(order_id))
