"""GET: checkout orders. Another seller's don't exist."""

from datetime import UTC, datetime, timedelta
from typing import TypedDict

from aiohttp import web

from domain.checkout import CUSTOMER_CHARS_MAX, check_name
from gateway import order_views, paging, problems
from gateway.answers import json_answer, postgres_away
from gateway.auth import KeyRing
from gateway.checkouts import hinted_as
from gateway.openapi import Answer, Parameter, operation, text
from gateway.order_shapes import AcceptedOrder, OrderSummary, OrderView, RejectedOrder, WaitingOrder
from gateway.problems import ProblemError
from gateway.reading import ORDER_ID, WHY_UNKNOWN, order_id_of
from sinks.postgres.lanes import PostgresUnavailableError
from sinks.postgres.orders_reader import KnownOrder, OrdersReader
from sinks.redis.admission import Admission
from sinks.redis.hints import Hints, Silence

_SECONDS_UNTIL_DECIDED = 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class OrderList(TypedDict):
    """A page of a customer's orders."""

    orders: list[OrderSummary]
    next: str | None


class OrderReading:
    """Answers questions about orders, from Postgres; from the hints and the waitlist where Postgres doesn't know."""

    def __init__(self, keys: KeyRing, reader: OrdersReader, hints: Hints, admission: Admission) -> None:
        self._keys = keys
        self._reader = reader
        self._hints = hints
        self._admission = admission

    def routes(self) -> list[web.RouteDef]:
        """The resources."""
        return [
            web.get("/v1/orders", self.orders),
            web.get("/v1/orders/{order_id}", self.order),
        ]

    @operation(
        "An order",
        Answer(200, "The order as it stands", (OrderView, AcceptedOrder, WaitingOrder, RejectedOrder)),
        parameters=[ORDER_ID],
        problems=[problems.NOT_FOUND],
    )
    async def order(self, request: web.Request) -> web.Response:
        """GET /v1/orders/{order_id}."""
        seller_id = await self._keys.seller_of(request)
        order_id = order_id_of(request)
        try:
            known = await self._reader.order(seller_id, order_id)
            if known.placed is not None:
                invoice_request = await self._reader.invoice_request(known.placed)
                return json_answer(order_views.placed(known.placed, known.refused, invoice_request))
        except PostgresUnavailableError:
            known = None
        return await self._undecided(seller_id, order_id, known)

    async def _undecided(self, seller_id: str, order_id: str, known: KnownOrder | None) -> web.Response:
        """What can be said of an order that Postgres doesn't know; `known` is None where it is away."""
        soon = {"Retry-After": str(_SECONDS_UNTIL_DECIDED)}
        hint = await self._hints.known(hinted_as(seller_id), order_id)
        if isinstance(hint, bytes) and not (known and known.refused):
            return json_answer(order_views.accepted(order_id), headers=soon)
        position = await self._admission.position(seller_id, order_id)
        if position is not None:
            return json_answer(order_views.waiting(order_id, position), headers=soon)
        if known is None:
            raise postgres_away()
        if known.refused:
            return json_answer(order_views.rejected(order_id, known.refused[0]))
        if isinstance(hint, Silence):
            raise ProblemError(problems.NOT_FOUND, WHY_UNKNOWN[hint], retry_after_seconds=_SECONDS_UNTIL_DECIDED)
        raise ProblemError(problems.NOT_FOUND, "no order of this id is known")

    @operation(
        "A customer's orders, newest first",
        Answer(200, "A page of them", OrderList),
        parameters=[
            Parameter("customer", "query", text(CUSTOMER_CHARS_MAX), "Whose orders.", required=True),
            *paging.PARAMETERS,
        ],
        problems=[problems.INVALID_FIELD],
    )
    async def orders(self, request: web.Request) -> web.Response:
        """GET /v1/orders?customer=…, newest first."""
        seller_id = await self._keys.seller_of(request)
        customer = request.query.get("customer", "")
        refusal = check_name("customer", customer, CUSTOMER_CHARS_MAX)
        if refusal is not None:
            raise problems.refused(refusal)
        limit = paging.limit_of(request.query)
        before = None
        if "cursor" in request.query:
            micros, order_id = paging.read_cursor(request.query["cursor"], tuple[int, str])
            before = (_time(micros), order_id)
        try:
            # One more than asked for tells whether there is more.
            found = await self._reader.orders_of(seller_id, customer, before, limit + 1)
        except PostgresUnavailableError:
            raise postgres_away() from None
        body: OrderList = {"orders": [order_views.summary(each) for each in found[:limit]], "next": None}
        if len(found) > limit:
            last = found[limit - 1]
            body["next"] = paging.cursor((last.placed_at - _EPOCH) // _MICROSECOND, last.order_id)
        return json_answer(body)


def _time(micros: int) -> datetime:
    try:
        return _EPOCH + timedelta(microseconds=micros)
    except OverflowError:
        raise paging.foreign_cursor() from None
