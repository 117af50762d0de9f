"""POST /v1/checkouts: ask whether there is stock, keep the request in Kafka, and answer."""

import asyncio
from dataclasses import dataclass
from math import ceil
from time import monotonic, time_ns
from typing import Any

from aiohttp import web

from domain import checkout
from domain.checkout import Checkout
from domain.invoice import compare_totals
from domain.refusals import Refusal
from gateway import measures, order_views, problems, requests
from gateway.answers import json_answer
from gateway.auth import KeyRing
from gateway.bodies import IDEMPOTENCY_KEY
from gateway.intake import PREFER, Intake, not_ours, read_body, wait_seconds
from gateway.openapi import Answer, operation
from gateway.order_shapes import AcceptedOrder, OrderView
from gateway.problems import ProblemError
from gateway.waiting import Waiter, Waiters, until_known
from runtime.kafka import Delivered
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
from sinks.postgres.orders_reader import KnownOrder, OrdersReader, PlacedOrder
from sinks.redis.admission import Admission, Admitted, Asked, Limited, SoldOut
from sinks.redis.hints import Hints, Silence

#: How often somebody in line is looked after: whether the client is still there, and the gateway goes on.
_LINE_LOOK_SECONDS = 0.5


def hinted_as(seller_id: str) -> str:
    """The name under which a seller's checkouts are hinted at, apart from its invoice requests."""
    # No seller id holds an exclamation mark, so no two names meet.
    return f"{seller_id}!checkout"


@dataclass(frozen=True, slots=True)
class Sale:
    """A request for one order, read and checked."""

    order_id: str
    record: dict[str, Any]
    checkout: Checkout
    asked: Asked

    @property
    def seller_id(self) -> str:
        """Whose order."""
        return self.asked.seller_id

    @property
    def content_sha256(self) -> bytes:
        """What a repeat must equal."""
        return self.checkout.content_sha256


class Checkouts:
    """Takes checkouts. 202 means kept: it is answered only after the brokers' acknowledgement."""

    def __init__(
        self,
        keys: KeyRing,
        intake: Intake,
        hints: Hints,
        admission: Admission,
        reader: OrdersReader,
        waiters: Waiters,
        *,
        topic: Topic = CHECKOUT_REQUESTS,
    ) -> None:
        """Requests go to `topic`; `waiters` are woken by the order events."""
        self._topic = topic.name
        self._keys = keys
        self._intake = intake
        self._hints = hints
        self._admission = admission
        self._reader = reader
        self._waiters = waiters

    def routes(self) -> list[web.RouteDef]:
        """The resource."""
        return [web.post("/v1/checkouts", self.post)]

    @operation(
        "Check out",
        Answer(201, "Waited for: the order is confirmed", OrderView, headers=("Location",)),
        Answer(202, "Kept; stock and payment are decided soon", AcceptedOrder, headers=("Location", "Retry-After")),
        body=requests.CheckoutRequest,
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
            problems.TOO_MANY_REQUESTS,
            problems.NOT_ACKNOWLEDGED,
        ],
    )
    async def post(self, request: web.Request) -> web.Response:
        """POST /v1/checkouts."""
        seller_id = await self._keys.seller_of(request)
        with self._intake.place(request):
            sale = _read(await read_body(request), seller_id, request.headers.get("Idempotency-Key"))
            wait = wait_seconds(request.headers.get("Prefer"))
            applied = {"Preference-Applied": f"wait={wait}"} if wait else {}
            key = sale.order_id.encode()
            # Before anything is asked: the outcome may come before the acknowledgement.
            waiter = self._waiters.add(key) if wait else None
            try:
                known = await self._take(request, sale, waiter, wait)
            finally:
                if waiter is not None:
                    self._waiters.remove(key, waiter)
        if known is not None:
            return json_answer(known, status=201, headers={"Location": order_views.path_of(sale.order_id), **applied})
        return json_answer(
            order_views.accepted(sale.order_id),
            status=202,
            headers={"Location": order_views.path_of(sale.order_id), "Retry-After": "1", **applied},
        )

    async def _take(self, request: web.Request, sale: Sale, waiter: Waiter | None, wait: int) -> OrderView | None:
        """The order once it is confirmed; None if it is kept and that is all there is to say. Raises `ProblemError`."""
        deadline = monotonic() + wait
        hint = await self._hints.known(hinted_as(sale.seller_id), sale.order_id)
        order = await self._find_or_admit(request, sale, hint, waiter, deadline)
        delivered = None
        if order is None:
            # Also where a hint says that it was kept: a hint may be wrong, and a repeat has no effect.
            delivered = await self._keep(sale)
        else:
            body = await _answer(self._reader, order)
            if body is not None:
                return body
        if waiter is None:
            return None
        outcome = _Outcome(self._reader, sale, delivered)
        look_at_once = order is None and hint is not None
        with not_ours():
            return await until_known(waiter, outcome, max(0.0, deadline - monotonic()), look_at_once=look_at_once)

    async def _find_or_admit(
        self, request: web.Request, sale: Sale, hint: bytes | Silence | None, waiter: Waiter | None, deadline: float
    ) -> PlacedOrder | None:
        """The order, if it was decided before; None if it is to be kept. Raises `ProblemError`."""
        if hint is not None:
            # It may hold its stock already: then it takes no more, and is not turned away for want of any.
            standing = await self._standing(sale)
            if standing.placed is not None:
                return standing.placed
            if isinstance(hint, bytes):
                if hint != sale.content_sha256 and not standing.refused:
                    raise _conflict(sale.order_id)
                return None
        verdict = await self._admission.admit(sale.asked)
        if isinstance(verdict, SoldOut | Limited) and hint is None:
            # A hint lasts a day, an order for ever.
            standing = await self._standing(sale)
            if standing.placed is not None:
                return standing.placed
        if isinstance(verdict, SoldOut) and waiter is not None:
            with not_ours():
                verdict = await self._wait_in_line(request, sale.asked, waiter, deadline - monotonic())
        if isinstance(verdict, SoldOut):
            measures.CHECKOUTS.labels("out-of-stock").inc()
            raise order_views.out_of_stock(sale.order_id, verdict.short)
        if isinstance(verdict, Limited):
            measures.CHECKOUTS.labels("limited").inc()
            raise ProblemError(
                problems.TOO_MANY_REQUESTS,
                "this customer checks out the same article too often",
                field="customer",
                retry_after_seconds=max(1, ceil(verdict.retry_after_seconds)),
            )
        return None

    async def _standing(self, sale: Sale) -> KnownOrder:
        """What Postgres knows of the order; raises `ProblemError` if it has other content."""
        try:
            known = await self._reader.order(sale.seller_id, sale.order_id)
        except PostgresUnavailableError:
            return KnownOrder(None)
        if known.placed is not None and known.placed.content_sha256 != sale.content_sha256:
            raise _conflict(sale.order_id)
        return known

    async def _wait_in_line(
        self, request: web.Request, asked: Asked, waiter: Waiter, seconds: float
    ) -> Admitted | SoldOut:
        """A place in the line for stock, given up when the client goes, or the gateway stops."""
        line = asyncio.ensure_future(self._admission.wait_in_line(asked, seconds))
        try:
            while True:
                done, _ = await asyncio.wait({line}, timeout=_LINE_LOOK_SECONDS)
                if done:
                    return line.result()
                if waiter.cut_short or request.transport is None or request.transport.is_closing():
                    raise ProblemError(problems.OVERLOADED, "the gateway stops", retry_after_seconds=1)
        finally:
            line.cancel()

    async def _keep(self, sale: Sale) -> Delivered:
        """Publish the request; return when it is kept and hinted at. Raises `ProblemError`."""
        try:
            delivered = await self._intake.keep(
                self._topic, sale.order_id.encode(), encode(CHECKOUT_REQUEST, sale.record)
            )
        except ProblemError as problem:
            # Where it is unknown whether the request is kept, it may need its hold; that ends by itself.
            if problem.kind is not problems.NOT_ACKNOWLEDGED:
                await self._admission.release(sale.asked)
            raise
        measures.CHECKOUTS.labels("accepted").inc()
        await self._hints.remember(hinted_as(sale.seller_id), sale.order_id, sale.content_sha256)
        return delivered


class _Outcome:
    """What becomes of one checkout."""

    def __init__(self, reader: OrdersReader, sale: Sale, delivered: Delivered | None) -> None:
        """`delivered` is where the request stands; None for an order that was placed before."""
        self._reader = reader
        self._sale = sale
        self._delivered = delivered

    async def look(self) -> OrderView | None:
        """What Postgres says."""
        sale = self._sale
        try:
            known = await self._reader.order(sale.seller_id, sale.order_id)
        except PostgresUnavailableError:
            return None
        if known.placed is None:
            for refused in known.refused:
                if self._delivered is not None and refused.log_offset == self._delivered.offset:
                    raise problems.rejected(refused.reason, refused.detail)
            return None
        if known.placed.content_sha256 != sale.content_sha256:
            raise _conflict(sale.order_id)
        return await _answer(self._reader, known.placed)

    async def judge(self, event: bytes) -> OrderView | None:
        """What an event of this order id means; None if it decides nothing, or is about another request."""
        try:
            schema, value = decode(
                event,
                ORDER_STATE_CHANGED,
                ORDER_REFUSED,
                ORDER_CONFLICTED,
                ORDER_REJECTED,
                bytes_max=ORDER_EVENTS.value_bytes_max,
            )
        except DecodeError:  # It is placed, or its payment asked for: there is more to come.
            return None
        if value["seller_id"] != self._sale.seller_id:
            return None
        if schema is ORDER_REFUSED and self._is_ours(value):
            raise order_views.out_of_stock(self._sale.order_id, value["short"])
        if schema is ORDER_REFUSED or schema is ORDER_STATE_CHANGED:
            # The event says that it's decided. Postgres says what, and whether that has our content.
            return await self.look()
        if (value["source_partition"], value["source_offset"]) != self._delivered:
            return None
        if schema is ORDER_CONFLICTED:
            raise _conflict(self._sale.order_id)
        raise problems.rejected(value["reason"], value["detail"])

    def _is_ours(self, refused: dict[str, Any]) -> bool:
        """Whether what is short is what we want: then it was refused for our content, as far as it matters."""
        wanted = dict(self._sale.asked.pieces)
        return refused["customer"] == self._sale.record["customer"] and all(
            wanted.get(each["sku"]) == each["wanted"] for each in refused["short"]
        )


async def _answer(reader: OrdersReader, order: PlacedOrder) -> OrderView | None:
    """The order if it is a sale, None while its payment is under way; raises `ProblemError` if it is none."""
    problem = order_views.not_placed(order)
    if problem is not None:
        raise problem
    if order_views.is_open(order):
        return None
    try:
        return order_views.placed(order, (), await reader.invoice_request(order))
    except PostgresUnavailableError:
        return None


def _read(body: bytes, seller_id: str, idempotency_key: str | None) -> Sale:
    """The request, checked by every rule; raises `ProblemError`."""
    asked = requests.read_checkout(body)
    order_id = requests.order_id(asked, idempotency_key)
    record = requests.as_checkout(asked, seller_id, order_id, time_ns() // 1000)
    checked = checkout.check(record)
    if isinstance(checked, Refusal):
        raise problems.refused(checked)
    refusal = compare_totals(checked.priced, requests.claimed_totals(asked), asked.currency)
    if refusal is not None:
        raise problems.refused(refusal)
    pieces = tuple(sorted((sku.sku, count) for sku, count in checked.wanted.items()))
    return Sale(order_id, record, checked, Asked(seller_id, order_id, asked.customer, pieces))


def _conflict(order_id: str) -> ProblemError:
    return problems.conflict(order_id, order_views.path_of(order_id))
