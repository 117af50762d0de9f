"""GET: checkout orders. Another seller's are not found."""

from datetime import datetime
from typing import TypedDict

from aiohttp import web

from admission.admission import Admission
from admission.hints import Hints, Silence, of_checkouts
from domain.checkout import CUSTOMER_CHARS_MAX, check_name
from domain.invoice import check_order_id
from domain.moments import micros, moment
from gateway.http import parameters, problems
from gateway.http.bodies import json_answer
from gateway.http.openapi import DeclaredResponse, Parameter, operation, text
from gateway.http.parameters import ORDER_ID, order_id_of
from gateway.http.problems import ProblemError
from gateway.invoices.reading import WHY_UNKNOWN
from gateway.orders import order_views
from gateway.orders.order_shapes import AcceptedOrder, OrderSummary, OrderView, RejectedOrder, WaitingOrder
from sinks.postgres.lanes import PostgresUnavailableError
from sinks.postgres.orders_reader import KnownOrder, OrdersReader

_SECONDS_UNTIL_DECIDED = 1

#: An order in any stage.
AnyOrder = OrderView | AcceptedOrder | WaitingOrder | RejectedOrder


class OrderList(TypedDict):
    """A page of a customer's orders."""

    orders: list[OrderSummary]
    next: str | None


class OrderReading:
    """Reads orders from Postgres, and from the hints and the waitlist where Postgres does not have them."""

    def __init__(self, reader: OrdersReader, hints: Hints, admission: Admission) -> None:
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
        DeclaredResponse(200, "The order as it stands", (OrderView, AcceptedOrder, WaitingOrder, RejectedOrder)),
        parameters=[ORDER_ID],
        problems=[problems.NOT_FOUND],
    )
    async def order(self, request: web.Request, seller_id: str) -> web.Response:
        """GET /v1/orders/{order_id}."""
        order, is_final = await self.current(seller_id, order_id_of(request))
        return json_answer(order, headers=None if is_final else {"Retry-After": str(_SECONDS_UNTIL_DECIDED)})

    async def current(self, seller_id: str, order_id: str) -> tuple[AnyOrder, bool]:
        """The order as it stands, and whether it is decided; raises `ProblemError`."""
        try:
            known = await self._reader.order(seller_id, order_id)
            if known.placed is not None:
                invoice_request = await self._reader.invoice_request(known.placed)
                return order_views.placed(known.placed, known.refused, invoice_request), True
        except PostgresUnavailableError:
            known = None
        return await self._undecided(seller_id, order_id, known)

    async def _undecided(self, seller_id: str, order_id: str, known: KnownOrder | None) -> tuple[AnyOrder, bool]:
        """An order that Postgres does not have; `known` is None if Postgres is unavailable."""
        hint = await self._hints.known(of_checkouts(seller_id), order_id)
        if isinstance(hint, bytes) and not (known and known.refused):
            return order_views.accepted(order_id), False
        position = await self._admission.position(seller_id, order_id)
        if position is not None:
            return order_views.waiting(order_id, position), False
        if known is None:
            raise problems.postgres_unavailable()
        if known.refused:
            return order_views.rejected(order_id, known.refused[0]), True
        if isinstance(hint, Silence):
            raise ProblemError(problems.NOT_FOUND, WHY_UNKNOWN[hint], retry_after_seconds=_SECONDS_UNTIL_DECIDED)
        raise ProblemError(problems.NOT_FOUND, "no order with this id is known")

    @operation(
        "A customer's orders, newest first",
        DeclaredResponse(200, "A page of them", OrderList),
        parameters=[
            Parameter("customer", "query", text(CUSTOMER_CHARS_MAX), "Whose orders.", required=True),
            *parameters.PAGE,
        ],
        problems=[problems.INVALID_FIELD],
    )
    async def orders(self, request: web.Request, seller_id: str) -> web.Response:
        """GET /v1/orders?customer=…, newest first."""
        customer = request.query.get("customer", "")
        refusal = check_name("customer", customer, CUSTOMER_CHARS_MAX)
        if refusal is not None:
            raise problems.refused(refusal)
        limit = parameters.limit_of(request.query)
        before = None
        if "cursor" in request.query:
            placed_at, order_id = parameters.read_cursor(request.query["cursor"], tuple[int, str])
            if check_order_id(order_id) is not None:
                raise parameters.foreign_cursor()
            before = (_time(placed_at), order_id)
        with problems.needing_postgres():
            # One more than requested shows whether there is another page.
            found = await self._reader.orders_of(seller_id, customer, before, limit + 1)
        body: OrderList = {"orders": [order_views.summary(each) for each in found[:limit]], "next": None}
        if len(found) > limit:
            last = found[limit - 1]
            body["next"] = parameters.cursor(micros(last.placed_at), last.order_id)
        return json_answer(body)


def _time(placed_at: int) -> datetime:
    try:
        return moment(placed_at)
    except OverflowError:
        raise parameters.foreign_cursor() from None
