"""POST /v1/invoices: accept a request, store it in Kafka, and respond."""

from dataclasses import KW_ONLY, dataclass
from time import time_ns
from typing import cast

from aiohttp import web

from admission.hints import Hints, Silence, of_checkouts
from domain.invoice import Priced, compare_claims, price
from domain.records import InvoiceIssued, InvoiceRequest
from domain.refusals import Refusal
from domain.rules import check_rules
from gateway.http import bodies, problems, telemetry
from gateway.http.auth import KEYS
from gateway.http.bodies import json_answer
from gateway.http.intake import Intake, read_body
from gateway.http.openapi import DeclaredResponse, operation
from gateway.http.parameters import IDEMPOTENCY_KEY, PREFER, wait_seconds
from gateway.http.problems import ProblemError
from gateway.http.waiting import Waiters, until_known
from gateway.invoices import invoice_views
from gateway.invoices.invoice_views import AcceptedInvoice, InvoiceView, RejectedInvoice
from runtime.publisher import Delivered
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
from sinks.postgres.invoices_reader import InvoiceOutcome, InvoicesReader
from sinks.postgres.lanes import PostgresUnavailableError
from sinks.postgres.order_ids import CHECKOUT


class InvoiceAccepting:
    """Accepts invoice requests; responds 202 only after the brokers' acknowledgement."""

    def __init__(
        self,
        intake: Intake,
        hints: Hints,
        reader: InvoicesReader,
        waiters: Waiters,
        *,
        topic: Topic = INVOICE_REQUESTS,
    ) -> None:
        """Requests go to `topic`; `waiters` are woken by the invoice events."""
        self._topic = topic.name
        self._intake = intake
        self._hints = hints
        self._reader = reader
        self._waiters = waiters

    def routes(self) -> list[web.RouteDef]:
        """The resource."""
        return [web.post("/v1/invoices", self.post)]

    @operation(
        "Ask for an invoice",
        DeclaredResponse(
            200, "The order has its number, within the wait", InvoiceView, headers=("Preference-Applied",)
        ),
        DeclaredResponse(202, "Accepted; its number follows", AcceptedInvoice, headers=("Location", "Retry-After")),
        body=bodies.InvoiceRequest,
        parameters=[IDEMPOTENCY_KEY, PREFER],
        problems=[
            problems.ORDER_ID_MISSING,
            problems.ORDER_ID_AMBIGUOUS,
            problems.CONFLICT,
            problems.ALREADY_ORDERED,
            problems.ALREADY_INVOICED,
            *problems.RULES,
            problems.NOT_ACKNOWLEDGED,
        ],
    )
    async def post(self, request: web.Request, seller_id: str) -> web.Response:
        """POST /v1/invoices."""
        with self._intake.place(request, seller_id):
            asked = bodies.read_invoice(await read_body(request))
            order_id = bodies.order_id(asked, request.headers.get("Idempotency-Key"))
            request[telemetry.ORDER_ID] = order_id
            record = bodies.as_record(asked, seller_id, order_id, time_ns() // 1000)
            priced = _priced(record, asked)
            facts = await request.app[KEYS].facts_of(seller_id)
            broken = None if facts is None else check_rules(record, priced, facts)
            if broken is not None:
                await self._refuse_unless_issued(record, priced, broken)
            payload = encode(INVOICE_REQUEST, record)
            # Both are asked before one is awaited: in one call to Redis.
            of_invoice = self._hints.known(seller_id, order_id)
            of_order = self._hints.known(of_checkouts(seller_id), order_id)
            hint, ordered = await of_invoice, await of_order
            if isinstance(ordered, bytes):
                await self._refuse_ordered(seller_id, order_id, is_ours=isinstance(hint, bytes))
            if isinstance(hint, bytes) and hint != priced.content_sha256:
                await self._refuse_known_conflict(seller_id, order_id, priced.content_sha256)
            wait = wait_seconds(request.headers)
            key = order_id.encode()
            body = None
            with self._waiters.waiting(key, wait) as waiter:
                delivered = await self._intake.keep(self._topic, key, payload)
                telemetry.ACCEPTED.inc()
                await self._hints.remember(seller_id, order_id, priced.content_sha256)
                if waiter is not None:
                    may_be_ordered = isinstance(ordered, Silence)
                    outcome = _Outcome(
                        self._reader, record, payload, priced.content_sha256, delivered, may_be_ordered=may_be_ordered
                    )
                    body = await until_known(waiter, outcome, wait, look_at_once=isinstance(hint, bytes))
        applied = {"Preference-Applied": f"wait={wait}"} if wait else {}
        if body is not None:
            return json_answer(body, headers=applied)
        headers = {"Location": invoice_views.path_of(order_id), "Retry-After": "1", **applied}
        return json_answer(invoice_views.accepted(order_id), status=202, headers=headers)

    async def _refuse_ordered(self, seller_id: str, order_id: str, *, is_ours: bool) -> None:
        """Raise the conflict with a checkout that a hint shows, unless Postgres contradicts it.

        `is_ours` if an invoice with this id was accepted too: the agents decide which of the two came first.
        """
        try:
            owner = (await self._reader.outcome(seller_id, order_id)).owner
        except PostgresUnavailableError:
            owner = None
        if owner == CHECKOUT or (owner is None and not is_ours):
            raise _ordered()

    async def _refuse_unless_issued(self, record: InvoiceRequest, priced: Priced, broken: Refusal) -> None:
        """Raise the refusal, unless it repeats a request that has its number: a rule may be younger than that."""
        try:
            invoice = (await self._reader.outcome(record["seller_id"], record["order_id"])).invoice
        except PostgresUnavailableError:
            invoice = None
        if invoice is None or invoice.content_sha256 != priced.content_sha256:
            raise problems.refused(broken)

    async def _refuse_known_conflict(self, seller_id: str, order_id: str, content_sha256: bytes) -> None:
        """Raise the conflict that a hint shows, unless Postgres contradicts it."""
        # A hint shows the request acknowledged first; in the log, concurrent requests may be in another order.
        try:
            outcome = await self._reader.outcome(seller_id, order_id)
        except PostgresUnavailableError:
            outcome = InvoiceOutcome(None, ())
        if outcome.invoice is None:
            if outcome.refused:  # The request behind the hint was rejected, so this one may be its correction.
                return
            raise _conflict(order_id)
        if outcome.invoice.content_sha256 != content_sha256:
            raise _conflict(order_id)


@dataclass(frozen=True, slots=True)
class _Outcome:
    """The outcome of one request."""

    reader: InvoicesReader
    record: InvoiceRequest
    #: The record, encoded.
    payload: bytes
    content_sha256: bytes
    #: The record's place in its topic.
    delivered: Delivered
    _: KW_ONLY
    #: Unless a hint shows that the order id is no checkout's.
    may_be_ordered: bool

    async def look(self) -> InvoiceView | RejectedInvoice | None:
        """The outcome in Postgres."""
        try:
            outcome = await self.reader.outcome(self.record["seller_id"], self.record["order_id"])
            if outcome.invoice is None:
                for refused in outcome.refused:
                    if refused.outcome == invoice_views.REJECTED and refused.log_offset == self.delivered.offset:
                        raise problems.rejected(refused.reason, refused.detail)
                return None
            if outcome.owner == CHECKOUT:
                raise _ordered()
            if outcome.invoice.content_sha256 != self.content_sha256:
                raise _conflict(self.record["order_id"])
            event = await self.reader.event(outcome.invoice)
        except PostgresUnavailableError:
            return None
        return invoice_views.known(self.record["order_id"], outcome, event)

    async def judge(self, event: bytes) -> InvoiceView | RejectedInvoice | None:
        """The outcome in an event of this order id; None if the event is about another request."""
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
        if value["seller_id"] != self.record["seller_id"]:
            return None
        if INVOICE_ISSUED.describes(value, schema):
            # Other texts may be the same content, such as 2 and 2.0, or a conflict: Postgres has the digest.
            if self.may_be_ordered or not self._is_ours(value):
                return await self.look()
            try:
                return invoice_views.issued(value)
            except OverflowError:  # An impossible time: not the agent's event. Postgres has the outcome.
                return None
        if (value["source_partition"], value["source_offset"]) != self.delivered:
            return None
        if INVOICE_REQUEST_REJECTED.describes(value, schema):
            raise problems.rejected(value["reason"], value["detail"])
        raise _conflict(self.record["order_id"])

    def _is_ours(self, event: InvoiceIssued) -> bool:
        """Whether the invoice is of a request that says the same as this one, text by text."""
        asked = cast(InvoiceRequest, {**event, "received_at": self.record["received_at"]})
        return encode(INVOICE_REQUEST, asked) == self.payload


def _priced(record: InvoiceRequest, asked: bodies.InvoiceRequest) -> Priced:
    priced = price(record)
    if isinstance(priced, Refusal):
        raise problems.refused(priced)
    refusal = compare_claims(priced, bodies.claims(asked), asked.currency)
    if refusal is not None:
        raise problems.refused(refusal)
    return priced


def _ordered() -> ProblemError:
    detail = "`order_id` belongs to a checkout, which has its own invoice: use another id"
    return ProblemError(problems.ALREADY_ORDERED, detail, field="order_id")


def _conflict(order_id: str) -> ProblemError:
    return problems.conflict(order_id, invoice_views.path_of(order_id))
