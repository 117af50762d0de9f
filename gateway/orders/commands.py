"""POST /v1/orders/{id}/shipments, /deliveries, /cancellations and /refunds: store the command in Kafka, and respond."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import time_ns
from typing import Annotated, TypedDict

import msgspec
from aiohttp import web
from msgspec import UNSET, Struct, UnsetType

from admission.hints import Hints, Silence, of_checkouts
from domain.checkout import PIECES_MAX, check_name
from domain.credit import REFUND_ID_CHARS_MAX, AskedRefund, check_asked_refund_id, is_same_refund
from domain.invoice import LINES_MAX
from domain.money import PRICE_DECIMALS, NotDecimalError, minor, scaled
from domain.order import REASON_CHARS_MAX, OrderState, Trigger, has_obeyed
from domain.parcel import (
    CARRIER_CHARS_MAX,
    TRACKING_NUMBER_CHARS_MAX,
    TRACKING_URL_CHARS_MAX,
    check_parcel,
)
from domain.records import OrderCommand, Parcel
from domain.refusals import INVALID_FIELD, Refusal
from gateway.http import bodies, problems, telemetry
from gateway.http.bodies import json_answer
from gateway.http.details import Decimal
from gateway.http.intake import Intake, read_body
from gateway.http.openapi import DeclaredResponse, ForSellers, Parameter, described, limits, operation
from gateway.http.parameters import IDEMPOTENCY_KEY, ORDER_ID, PREFER, chosen_id, order_id_of, wait_seconds
from gateway.http.problems import ProblemError, ProblemKind
from gateway.http.waiting import Waiters, until_known
from gateway.invoices.reading import WHY_UNKNOWN
from gateway.orders import order_views
from gateway.orders.order_shapes import OrderView, SelfLink
from runtime.publisher import Delivered
from schemas.catalog import ORDER_COMMAND, ORDER_COMMAND_ANSWERED, ORDER_COMMANDS, ORDER_EVENTS, Topic
from schemas.codec import DecodeError, decode, encode
from sinks.postgres.lanes import PostgresUnavailableError
from sinks.postgres.orders_reader import OrdersReader, PlacedOrder, RefundSummary

#: A command is answered within some 30 ms; `Prefer: wait=0` skips the wait.
WAIT_SECONDS_DEFAULT = 5


class PlainCommand(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a command; `reason` is shown in the order's history."""

    reason: Annotated[str, limits(maxLength=REASON_CHARS_MAX)] | UnsetType | None = UNSET


class ParcelBody(Struct, frozen=True, forbid_unknown_fields=True):
    """What a shipment is sent as; buyers are shown it. It names a carrier or a tracking number."""

    carrier: Annotated[str, limits(maxLength=CARRIER_CHARS_MAX)] = ""
    tracking_number: Annotated[str, limits(maxLength=TRACKING_NUMBER_CHARS_MAX)] = ""
    tracking_url: Annotated[
        str, limits(maxLength=TRACKING_URL_CHARS_MAX), described("The carrier's page about it, https.")
    ] = ""


class ShipCommand(PlainCommand, frozen=True, forbid_unknown_fields=True):
    """The body of a shipment."""

    parcel: ParcelBody | UnsetType | None = UNSET


class RefundLine(Struct, frozen=True, forbid_unknown_fields=True):
    """Pieces of one line of the order; the first line is 0."""

    line: Annotated[int, limits(minimum=0, maximum=LINES_MAX - 1)]
    quantity: Annotated[int, limits(minimum=1, maximum=PIECES_MAX)]


class RefundCommand(PlainCommand, frozen=True, forbid_unknown_fields=True):
    """The body of a refund; without lines and amount it is for all that is left."""

    refund_id: Annotated[str, limits(minLength=1, maxLength=REFUND_ID_CHARS_MAX)] | UnsetType = UNSET
    lines: Annotated[list[RefundLine], limits(minItems=1, maxItems=LINES_MAX)] | UnsetType | None = UNSET
    amount: Annotated[Decimal, described("With tax; instead of lines.")] | UnsetType | None = UNSET


_plain_decoder = msgspec.json.Decoder(PlainCommand)
_ship_decoder = msgspec.json.Decoder(ShipCommand)
_refund_decoder = msgspec.json.Decoder(RefundCommand)


class AcceptedCommand(TypedDict):
    """A command that is accepted, and not answered yet."""

    order_id: str
    action: str
    status: str
    links: SelfLink


def _command(
    summary: str, body: type[PlainCommand], *kinds: ProblemKind, parameters: Sequence[Parameter] = ()
) -> ForSellers:
    return operation(
        summary,
        DeclaredResponse(200, "The command was applied", OrderView),
        DeclaredResponse(202, "Accepted, and not answered yet", AcceptedCommand, headers=("Location", "Retry-After")),
        body=body,
        needs_body=False,
        parameters=[ORDER_ID, PREFER, *parameters],
        problems=[
            problems.NOT_FOUND,
            problems.UNKNOWN_ORDER,
            problems.NOT_PERMITTED,
            problems.INVALID_FIELD,
            problems.NOT_ACKNOWLEDGED,
            *kinds,
        ],
    )


@dataclass(frozen=True, slots=True)
class Command:
    """A command on an order."""

    seller_id: str
    order_id: str
    action: Trigger
    reason: str
    #: Empty but for a refund.
    refund_id: str = ""
    #: Pieces by line; empty for all that is left.
    lines: tuple[tuple[int, int], ...] = ()
    #: With tax, as decimal text; empty for lines, and for all that is left.
    amount: str = ""
    #: Of a shipment.
    parcel: Parcel | None = None

    @property
    def command_id(self) -> str:
        """Unique within the order."""
        return f"refund:{self.refund_id}" if self.refund_id else self.action.value

    def record(self, received_at_us: int) -> OrderCommand:
        """The command as it goes to Kafka."""
        return {
            "received_at": received_at_us,
            "seller_id": self.seller_id,
            "order_id": self.order_id,
            "command_id": self.command_id,
            "action": self.action.value,
            "reason": self.reason,
            "refund_id": self.refund_id,
            "lines": [{"line": line, "quantity": quantity} for line, quantity in self.lines],
            "amount": self.amount,
            "parcel": self.parcel,
        }


class Commands:
    """Accepts commands. The orders agent obeys and answers them."""

    def __init__(
        self,
        intake: Intake,
        hints: Hints,
        reader: OrdersReader,
        waiters: Waiters,
        *,
        topic: Topic = ORDER_COMMANDS,
    ) -> None:
        """Commands go to `topic`; `waiters` are woken by the order events."""
        self._topic = topic.name
        self._intake = intake
        self._hints = hints
        self._reader = reader
        self._waiters = waiters

    def routes(self) -> list[web.RouteDef]:
        """The resources."""
        return [
            web.post("/v1/orders/{order_id}/shipments", self.ship),
            web.post("/v1/orders/{order_id}/deliveries", self.deliver),
            web.post("/v1/orders/{order_id}/cancellations", self.cancel),
            web.post("/v1/orders/{order_id}/refunds", self.refund),
        ]

    @_command("Ship an order", ShipCommand)
    async def ship(self, request: web.Request, seller_id: str) -> web.Response:
        """POST /v1/orders/{order_id}/shipments."""
        return await self._post(request, seller_id, Trigger.SHIP)

    @_command("An order was delivered", PlainCommand)
    async def deliver(self, request: web.Request, seller_id: str) -> web.Response:
        """POST /v1/orders/{order_id}/deliveries."""
        return await self._post(request, seller_id, Trigger.DELIVER)

    @_command("Cancel an order", PlainCommand)
    async def cancel(self, request: web.Request, seller_id: str) -> web.Response:
        """POST /v1/orders/{order_id}/cancellations."""
        return await self._post(request, seller_id, Trigger.CANCEL)

    @_command(
        "Refund an order, or lines of it",
        RefundCommand,
        problems.REFUND_ID_MISSING,
        problems.REFUND_ID_AMBIGUOUS,
        problems.REFUND_TOO_LARGE,
        problems.REFUND_CONFLICT,
        problems.REFUND_IN_PROGRESS,
        parameters=[IDEMPOTENCY_KEY],
    )
    async def refund(self, request: web.Request, seller_id: str) -> web.Response:
        """POST /v1/orders/{order_id}/refunds."""
        return await self._post(request, seller_id, Trigger.REFUND)

    async def _post(self, request: web.Request, seller_id: str, action: Trigger) -> web.Response:
        order_id = request[telemetry.ORDER_ID] = order_id_of(request)
        with self._intake.place(request, seller_id):
            body = await read_body(request)
            command = read(seller_id, order_id, action, body, request.headers.get("Idempotency-Key"))
            await self._refuse_unknown(command)
            wait = wait_seconds(request.headers, WAIT_SECONDS_DEFAULT)
            order = await self._keep_and_wait(command, wait)
        if order is not None:
            return json_answer(order)
        path = order_views.path_of(order_id)
        accepted: AcceptedCommand = {
            "order_id": order_id,
            "action": action.value,
            "status": "accepted",
            "links": {"self": path},
        }
        return json_answer(accepted, status=202, headers={"Location": path, "Retry-After": "1"})

    async def _refuse_unknown(self, command: Command) -> None:
        """Raise `ProblemError` for an unknown order. If that can't be determined here, the agent decides."""
        try:
            known = await self._reader.order(command.seller_id, command.order_id)
        except PostgresUnavailableError:
            return
        if known.placed is not None:
            return
        hint = await self._hints.known(of_checkouts(command.seller_id), command.order_id)
        if isinstance(hint, bytes):
            raise ProblemError(problems.UNKNOWN_ORDER, "this order is not placed yet", retry_after_seconds=1)
        if isinstance(hint, Silence):
            raise ProblemError(problems.UNKNOWN_ORDER, WHY_UNKNOWN[hint], retry_after_seconds=1)
        raise ProblemError(problems.UNKNOWN_ORDER, "no order with this id is known")

    async def _keep_and_wait(self, command: Command, wait: int) -> OrderView | None:
        """The order after the command; None if the answer does not arrive in time. Raises `ProblemError`."""
        key = command.order_id.encode()
        with self._waiters.waiting(key, wait) as waiter:
            payload = encode(ORDER_COMMAND, command.record(time_ns() // 1000))
            delivered = await self._intake.keep(self._topic, key, payload)
            telemetry.COMMANDS.labels(command.action.value).inc()
            if waiter is None:
                return None
            return await until_known(waiter, _Outcome(self._reader, command, delivered), wait, look_at_once=False)


@dataclass(frozen=True, slots=True)
class _Outcome:
    """The outcome of one command; `delivered` is its place in its topic."""

    reader: OrdersReader
    command: Command
    delivered: Delivered

    async def look(self) -> OrderView | None:
        """The order, if Postgres shows that the command was applied. A refusal leaves no trace there."""
        return await self._order(self._is_obeyed)

    async def judge(self, event: bytes) -> OrderView | None:
        """The outcome in an event of this order; None unless it answers this command."""
        command = self.command
        try:
            _, value = decode(event, ORDER_COMMAND_ANSWERED, bytes_max=ORDER_EVENTS.value_bytes_max)
        except DecodeError:  # The order has changed for another reason.
            return None
        # Two requests for the same thing share the command's id: one may be refused, and the other applied.
        if value["seller_id"] != command.seller_id:
            return None
        if (value["source_partition"], value["source_offset"]) != self.delivered:
            return None
        if value["outcome"] != "applied":
            raise problems.rejected(value["reason"], value["detail"])
        return await self._order(lambda order: True)

    async def _order(self, holds: Callable[[PlacedOrder], bool]) -> OrderView | None:
        """The order, if the command was applied; raises `ProblemError` if the refund has different lines."""
        command = self.command
        try:
            known = await self.reader.order(command.seller_id, command.order_id)
            order = known.placed
            if order is None:
                return None
            refund = self._refund(order)
            if refund is not None and not _is_same(refund, command, order.currency):
                raise ProblemError(
                    problems.REFUND_CONFLICT, "`refund_id` was already used with different lines", field="refund_id"
                )
            if not holds(order):
                return None
            return order_views.placed(order, known.refused, await self.reader.invoice_request(order))
        except PostgresUnavailableError:
            return None

    def _is_obeyed(self, order: PlacedOrder) -> bool:
        action = self.command.action
        if action is Trigger.REFUND:
            return self._refund(order) is not None
        was_delivered = any(step["to"] == OrderState.DELIVERED for step in order.history)
        return has_obeyed(action, OrderState(order.state), was_delivered=was_delivered)

    def _refund(self, order: PlacedOrder) -> RefundSummary | None:
        refund_id = self.command.refund_id
        return next((each for each in order.refunds if refund_id and each["refund_id"] == refund_id), None)


def read(seller_id: str, order_id: str, action: Trigger, body: bytes, idempotency_key: str | None) -> Command:
    """The command, checked; raises `ProblemError`."""
    if action is Trigger.SHIP:
        shipped = bodies.decode_small(_ship_decoder, body) if body else ShipCommand()
        return Command(seller_id, order_id, action, _reason(shipped), parcel=_parcel(shipped))
    if action is not Trigger.REFUND:
        plain = bodies.decode_small(_plain_decoder, body) if body else PlainCommand()
        return Command(seller_id, order_id, action, _reason(plain))
    asked = bodies.decode_small(_refund_decoder, body) if body else RefundCommand()
    refund_id = chosen_id(
        "refund_id",
        None if asked.refund_id is UNSET else asked.refund_id,
        idempotency_key,
        problems.REFUND_ID_MISSING,
        problems.REFUND_ID_AMBIGUOUS,
    )
    refusal = check_asked_refund_id(refund_id)
    if refusal is not None:
        raise problems.refused(refusal)
    lines = () if asked.lines is UNSET or asked.lines is None else _checked_lines(asked.lines)
    return Command(seller_id, order_id, action, _reason(asked), refund_id, lines, _amount(asked, lines))


def _parcel(asked: ShipCommand) -> Parcel | None:
    if not isinstance(asked.parcel, ParcelBody):
        return None
    parcel: Parcel = {
        "carrier": asked.parcel.carrier,
        "tracking_number": asked.parcel.tracking_number,
        "tracking_url": asked.parcel.tracking_url,
    }
    refusal = check_parcel(parcel)
    if refusal is not None:
        raise problems.refused(refusal)
    return parcel


def _amount(asked: RefundCommand, lines: tuple[tuple[int, int], ...]) -> str:
    if not isinstance(asked.amount, str):
        return ""
    refusal = None
    try:
        if scaled(asked.amount, PRICE_DECIMALS) <= 0:
            refusal = Refusal(INVALID_FIELD, "amount", "must be above zero")
    except NotDecimalError:
        refusal = Refusal(INVALID_FIELD, "amount", "must be a decimal text, such as 5.00")
    if lines:
        refusal = Refusal(INVALID_FIELD, "amount", "must be left out where lines are named")
    if refusal is not None:
        raise problems.refused(refusal)
    return asked.amount


def _reason(asked: PlainCommand) -> str:
    reason = asked.reason if isinstance(asked.reason, str) else ""
    # By the agent's own rule: a command that it could not decode would be durable, and never answered.
    refusal = check_name("reason", reason, REASON_CHARS_MAX) if reason else None
    if refusal is not None:
        raise problems.refused(refusal)
    return reason


def _checked_lines(lines: list[RefundLine]) -> tuple[tuple[int, int], ...]:
    refusal = None
    if not 1 <= len(lines) <= LINES_MAX:
        refusal = Refusal(INVALID_FIELD, "lines", f"must be 1 to {LINES_MAX}; omit them to refund all that is left")
    elif len({each.line for each in lines}) != len(lines):
        refusal = Refusal(INVALID_FIELD, "lines", "must name each line once")
    for index, each in enumerate(lines if refusal is None else ()):
        if not 0 <= each.line < LINES_MAX:
            refusal = Refusal(INVALID_FIELD, f"lines[{index}].line", "must be a line of the order, the first is 0")
        elif not 1 <= each.quantity <= PIECES_MAX:
            refusal = Refusal(INVALID_FIELD, f"lines[{index}].quantity", f"must be from 1 to {PIECES_MAX}")
    if refusal is not None:
        raise problems.refused(refusal)
    return tuple(sorted((each.line, each.quantity) for each in lines))


def _is_same(refund: RefundSummary, command: Command, currency: str) -> bool:
    lines = {each["line"]: each["quantity"] for each in refund["lines"]}
    stands = AskedRefund(lines, refund["amount"], refund["for_all_left"])
    try:
        amount = minor(command.amount, currency) if command.amount else 0
    except NotDecimalError:
        return False
    return is_same_refund(stands, AskedRefund(dict(command.lines), amount))
