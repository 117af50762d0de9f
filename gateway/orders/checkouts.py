"""POST /v1/checkouts: ask admission for stock, store the request in Kafka, and respond."""

import asyncio
from dataclasses import dataclass
from math import ceil
from time import monotonic, time_ns

from aiohttp import web

from admission.admission import Admission, Admitted, Asked, Limited, SoldOut
from admission.hints import Hints, Silence, of_checkouts
from domain import checkout
from domain.invoice import compare_claims
from domain.records import CheckoutRequest, OrderConflicted, OrderRefused, OrderRejected
from domain.refusals import Refusal
from domain.rules import SellerFacts, check_rules
from gateway.carts.cart_checkout import CartCheckouts, is_of_cart
from gateway.carts.cart_shapes import CartCheckout
from gateway.http import bodies, problems, telemetry
from gateway.http.auth import KEYS
from gateway.http.bodies import json_answer
from gateway.http.intake import HungUpError, Intake, not_ours, read_body
from gateway.http.openapi import DeclaredResponse, operation
from gateway.http.parameters import IDEMPOTENCY_KEY, PREFER, wait_seconds
from gateway.http.problems import ProblemError
from gateway.http.waiting import Waiter, Waiters, until_known
from gateway.orders import order_views
from gateway.orders.order_shapes import AcceptedOrder, OrderView
from runtime.publisher import Delivered
from schemas.catalog import (
    CHECKOUT_REQUEST,
    CHECKOUT_REQUESTS,
    ORDER_CONFLICTED,
    ORDER_EVENTS,
    ORDER_REFUSED,
    ORDER_REJECTED,
    ORDER_STATE_CHANGED,
    Topic,
)
from schemas.codec import DecodeError, decode, encode
from sinks.postgres.lanes import PostgresUnavailableError
from sinks.postgres.order_ids import INVOICE
from sinks.postgres.orders_reader import KnownOrder, OrdersReader, PlacedOrder

#: How often a waiting client is checked: whether it is still connected, and the gateway is not stopping.
_WAITLIST_LOOK_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class ReceivedCheckout:
    """A request for one order, read and checked."""

    seller_id: str
    order_id: str
    record: CheckoutRequest
    #: What a repeat must equal.
    content_sha256: bytes
    #: What admission is asked for.
    asked: Asked


class Checkouts:
    """Accepts checkouts; responds 202 only after the brokers' acknowledgement."""

    def __init__(
        self,
        intake: Intake,
        hints: Hints,
        admission: Admission,
        reader: OrdersReader,
        waiters: Waiters,
        carts: CartCheckouts,
        *,
        topic: Topic = CHECKOUT_REQUESTS,
    ) -> None:
        """Requests go to `topic`; `waiters` are woken by the order events."""
        self._topic = topic.name
        self._intake = intake
        self._hints = hints
        self._admission = admission
        self._reader = reader
        self._waiters = waiters
        self._carts = carts

    def routes(self) -> list[web.RouteDef]:
        """The resource."""
        return [web.post("/v1/checkouts", self.post)]

    @operation(
        "Check out",
        DeclaredResponse(201, "The order is confirmed, within the wait", OrderView, headers=("Location",)),
        DeclaredResponse(
            202, "Accepted; stock and payment are decided soon", AcceptedOrder, headers=("Location", "Retry-After")
        ),
        body=(bodies.CheckoutRequest, CartCheckout),
        parameters=[IDEMPOTENCY_KEY, PREFER],
        problems=[
            problems.ORDER_ID_MISSING,
            problems.ORDER_ID_AMBIGUOUS,
            problems.PAYMENT_DECLINED,
            problems.OUT_OF_STOCK,
            problems.ORDER_CANCELLED,
            problems.CONFLICT,
            problems.ALREADY_INVOICED,
            *problems.RULES,
            problems.CART_CHECKED_OUT,
            problems.CART_CHANGED,
            problems.TOO_MANY_REQUESTS,
            problems.NOT_ACKNOWLEDGED,
        ],
    )
    async def post(self, request: web.Request, seller_id: str) -> web.Response:
        """POST /v1/checkouts."""
        with self._intake.place(request, seller_id):
            body = await read_body(request)
            if not is_of_cart(body):
                return await self._check_out(request, seller_id, body)
            key = request.headers.get("Idempotency-Key")
            cart = await self._carts.as_checkout(seller_id, body, key)
            try:
                answer = await self._check_out(request, seller_id, cart.body)
            except ProblemError as problem:
                await self._carts.came_to(seller_id, cart, problem)
                raise
            if answer.status == 201:
                await self._carts.came_to(seller_id, cart, None)
            return answer

    async def _check_out(self, request: web.Request, seller_id: str, body: bytes) -> web.Response:
        """The answer to a checkout with lines. Raises `ProblemError`."""
        facts = await request.app[KEYS].facts_of(seller_id)
        checkout, broken = _read(body, seller_id, request.headers.get("Idempotency-Key"), facts)
        request[telemetry.ORDER_ID] = checkout.order_id
        if broken is not None and (await self._standing(checkout)).placed is None:
            # A rule may be younger than an order.
            raise problems.refused(broken)
        wait = wait_seconds(request.headers)
        applied = {"Preference-Applied": f"wait={wait}"} if wait else {}
        with self._waiters.waiting(checkout.order_id.encode(), wait) as waiter:
            known = await self._take(request, checkout, waiter, wait)
        if known is not None:
            return json_answer(
                known, status=201, headers={"Location": order_views.path_of(checkout.order_id), **applied}
            )
        return json_answer(
            order_views.accepted(checkout.order_id),
            status=202,
            headers={"Location": order_views.path_of(checkout.order_id), "Retry-After": "1", **applied},
        )

    async def _take(
        self, request: web.Request, checkout: ReceivedCheckout, waiter: Waiter | None, wait: int
    ) -> OrderView | None:
        """The order if it is confirmed within the wait; None if it is only accepted. Raises `ProblemError`."""
        deadline = monotonic() + wait
        # Both are asked before one is awaited: in one call to Redis.
        of_order = self._hints.known(of_checkouts(checkout.seller_id), checkout.order_id)
        of_invoice = self._hints.known(checkout.seller_id, checkout.order_id)
        hint, invoiced = await of_order, await of_invoice
        if isinstance(invoiced, bytes):
            await self._refuse_invoiced(checkout, is_ours=isinstance(hint, bytes))
        order = await self._find_or_admit(request, checkout, hint, waiter, deadline)
        delivered = None
        if order is None:
            # Also if a hint shows that it was accepted: a hint may be wrong, and a repeat has no effect.
            delivered = await self._keep(checkout)
        else:
            body = await _answer(self._reader, order)
            if body is not None:
                return body
        if waiter is None:
            return None
        outcome = _Outcome(self._reader, checkout, delivered)
        look_at_once = order is None and hint is not None
        with not_ours():
            return await until_known(waiter, outcome, max(0.0, deadline - monotonic()), look_at_once=look_at_once)

    async def _find_or_admit(
        self,
        request: web.Request,
        checkout: ReceivedCheckout,
        hint: bytes | Silence | None,
        waiter: Waiter | None,
        deadline: float,
    ) -> PlacedOrder | None:
        """The order, if it was decided before; None if the request is to be published. Raises `ProblemError`."""
        if hint is not None:
            # The order may have its stock already: then it takes no more, and is not refused as out of stock.
            standing = await self._standing(checkout)
            if standing.placed is not None:
                return standing.placed
            if isinstance(hint, bytes):
                if hint != checkout.content_sha256 and not standing.refused:
                    raise _conflict(checkout.order_id)
                return None
        verdict = await self._admission.admit(checkout.asked)
        if isinstance(verdict, SoldOut | Limited) and hint is None:
            # A hint lasts a day, an order for ever.
            standing = await self._standing(checkout)
            if standing.placed is not None:
                return standing.placed
        if isinstance(verdict, SoldOut) and waiter is not None:
            with not_ours():
                verdict = await self._join_waitlist(request, checkout.asked, waiter, deadline - monotonic())
        if isinstance(verdict, SoldOut):
            telemetry.CHECKOUTS.labels("out-of-stock").inc()
            raise order_views.out_of_stock(checkout.order_id, verdict.short)
        if isinstance(verdict, Limited):
            telemetry.CHECKOUTS.labels("limited").inc()
            raise ProblemError(
                problems.TOO_MANY_REQUESTS,
                "this customer checks out the same SKU too often",
                field="customer",
                retry_after_seconds=max(1, ceil(verdict.retry_after_seconds)),
            )
        return None

    async def _standing(self, checkout: ReceivedCheckout) -> KnownOrder:
        """The order in Postgres; raises `ProblemError` if it has different content."""
        try:
            known = await self._reader.order(checkout.seller_id, checkout.order_id)
        except PostgresUnavailableError:
            return KnownOrder(None)
        if known.placed is not None and known.placed.content_sha256 != checkout.content_sha256:
            raise _conflict(checkout.order_id)
        return known

    async def _refuse_invoiced(self, checkout: ReceivedCheckout, *, is_ours: bool) -> None:
        """Raise the conflict with an invoice that a hint shows, unless Postgres contradicts it.

        `is_ours` if a checkout with this id was accepted too: the agents decide which of the two came first.
        """
        try:
            owner = (await self._reader.order(checkout.seller_id, checkout.order_id)).owner
        except PostgresUnavailableError:
            owner = None
        if owner == INVOICE or (owner is None and not is_ours):
            detail = "`order_id` has an invoice that was requested directly: use another id"
            raise ProblemError(problems.ALREADY_INVOICED, detail, field="order_id")

    async def _join_waitlist(
        self, request: web.Request, asked: Asked, waiter: Waiter, seconds: float
    ) -> Admitted | SoldOut:
        """A place on the waitlist, given up when the client disconnects or the gateway stops.

        Raises `HungUpError` and `ProblemError` for these.
        """
        waiting = asyncio.ensure_future(self._admission.join_waitlist(asked, seconds))
        try:
            while True:
                done, _ = await asyncio.wait({waiting}, timeout=_WAITLIST_LOOK_SECONDS)
                if done:
                    return waiting.result()
                if request.transport is None or request.transport.is_closing():
                    raise HungUpError
                if waiter.cut_short:
                    raise ProblemError(problems.OVERLOADED, "the gateway is stopping", retry_after_seconds=1)
        finally:
            waiting.cancel()

    async def _keep(self, checkout: ReceivedCheckout) -> Delivered:
        """Publish the request; return when it is durable and its hint is written. Raises `ProblemError`."""
        try:
            delivered = await self._intake.keep(
                self._topic, checkout.order_id.encode(), encode(CHECKOUT_REQUEST, checkout.record)
            )
        except ProblemError as problem:
            # If it is unknown whether the request is durable, it may need its hold, which expires by itself.
            if problem.kind is not problems.NOT_ACKNOWLEDGED:
                await self._admission.release(checkout.asked)
            raise
        telemetry.CHECKOUTS.labels("accepted").inc()
        await self._hints.remember(of_checkouts(checkout.seller_id), checkout.order_id, checkout.content_sha256)
        return delivered


@dataclass(frozen=True, slots=True)
class _Outcome:
    """The outcome of one checkout."""

    reader: OrdersReader
    checkout: ReceivedCheckout
    #: The request's place in its topic; None for an order that was placed before.
    delivered: Delivered | None

    async def look(self) -> OrderView | None:
        """The outcome in Postgres."""
        checkout = self.checkout
        try:
            known = await self.reader.order(checkout.seller_id, checkout.order_id)
        except PostgresUnavailableError:
            return None
        if known.placed is None:
            for refused in known.refused:
                if self.delivered is not None and refused.log_offset == self.delivered.offset:
                    raise problems.rejected(refused.reason, refused.detail)
            return None
        if known.placed.content_sha256 != checkout.content_sha256:
            raise _conflict(checkout.order_id)
        return await _answer(self.reader, known.placed)

    async def judge(self, event: bytes) -> OrderView | None:
        """The outcome in an event of this order id; None if it decides nothing, or is about another request."""
        try:
            schema, value = decode(
                event,
                ORDER_STATE_CHANGED,
                ORDER_REFUSED,
                ORDER_CONFLICTED,
                ORDER_REJECTED,
                bytes_max=ORDER_EVENTS.value_bytes_max,
            )
        except DecodeError:  # The order is placed, or its payment requested: not decided yet.
            return None
        if value["seller_id"] != self.checkout.seller_id:
            return None
        if ORDER_REFUSED.describes(value, schema) and self._is_ours(value):
            raise order_views.out_of_stock(self.checkout.order_id, value["short"])
        if ORDER_REJECTED.describes(value, schema) and self._is_answered(value):
            raise problems.rejected(value["reason"], value["detail"])
        if ORDER_CONFLICTED.describes(value, schema) and self._is_answered(value):
            raise _conflict(self.checkout.order_id)
        if schema is ORDER_REFUSED or schema is ORDER_STATE_CHANGED:
            # The event says that it is decided. Postgres has the outcome and the content.
            return await self.look()
        return None

    def _is_answered(self, event: OrderRejected | OrderConflicted) -> bool:
        """Whether the event answers this very record."""
        return (event["source_partition"], event["source_offset"]) == self.delivered

    def _is_ours(self, refused: OrderRefused) -> bool:
        """Whether the shortage is of SKUs in this request: then its content was refused, as far as it matters."""
        wanted = dict(self.checkout.asked.pieces)
        return refused["customer"] == self.checkout.record["customer"] and all(
            wanted.get(each["sku"]) == each["wanted"] for each in refused["short"]
        )


async def _answer(reader: OrdersReader, order: PlacedOrder) -> OrderView | None:
    """The order if it is confirmed; None while its payment is under way. Raises `ProblemError` if it was not sold."""
    problem = order_views.not_placed(order)
    if problem is not None:
        raise problem
    if order_views.is_open(order):
        return None
    try:
        return order_views.placed(order, (), await reader.invoice_request(order))
    except PostgresUnavailableError:
        return None


def _read(
    body: bytes, seller_id: str, idempotency_key: str | None, facts: SellerFacts | None
) -> tuple[ReceivedCheckout, Refusal | None]:
    """The request, checked, and the rule of tax that it breaks; raises `ProblemError`."""
    asked = bodies.read_checkout(body)
    order_id = bodies.order_id(asked, idempotency_key)
    record = bodies.as_checkout(asked, seller_id, order_id, time_ns() // 1000)
    checked = checkout.check(record)
    if isinstance(checked, Refusal):
        raise problems.refused(checked)
    refusal = compare_claims(checked.priced, bodies.claims(asked), asked.currency)
    if refusal is not None:
        raise problems.refused(refusal)
    pieces = tuple(sorted((sku.sku, count) for sku, count in checked.wanted.items()))
    asked_for = Asked(seller_id, order_id, _limited_as(record), pieces)
    broken = None if facts is None else check_rules(checked.invoice_request, checked.priced, facts)
    return ReceivedCheckout(seller_id, order_id, record, checked.content_sha256, asked_for), broken


def _limited_as(record: CheckoutRequest) -> str:
    """The key of the rate limit: the customer, the e-mail address of a guest, or else nobody but this order."""
    # No customer's name begins with a control character.
    return record["customer"] or f"\x1f{record['buyer']['email'].lower() or record['order_id']}"


def _conflict(order_id: str) -> ProblemError:
    return problems.conflict(order_id, order_views.path_of(order_id))
