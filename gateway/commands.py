"""POST /v1/orders/{id}/shipments, /deliveries, /cancellations and /refunds: keep the command in Kafka, and answer."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from time import time_ns
from typing import Annotated, Any, TypedDict, TypeVar

import msgspec
from aiohttp import web
from msgspec import UNSET, Struct, UnsetType

from domain.checkout import PIECES_MAX, check_name
from domain.credit import CANCELLATION, REFUND_ID_CHARS_MAX
from domain.invoice import LINES_MAX
from domain.order import OBEYED, REASON_CHARS_MAX, State, Trigger
from domain.refusals import INVALID_FIELD, Refusal
from gateway import bodies, measures, order_views, problems
from gateway.answers import json_answer
from gateway.auth import KeyRing
from gateway.bodies import IDEMPOTENCY_KEY
from gateway.checkouts import hinted_as
from gateway.intake import PREFER, Intake, read_body, wait_seconds
from gateway.openapi import Answer, Parameter, limits, operation
from gateway.order_shapes import OrderView, SelfLink
from gateway.problems import Kind, ProblemError
from gateway.reading import ORDER_ID, order_id_of
from gateway.waiting import Waiters, until_known
from schemas.catalog import ORDER_COMMAND, ORDER_COMMAND_ANSWERED, ORDER_COMMANDS, ORDER_EVENTS, Topic
from schemas.codec import DecodeError, decode, encode
from sinks.postgres.lanes import PostgresUnavailableError
from sinks.postgres.orders_reader import OrdersReader, PlacedOrder
from sinks.redis.hints import Hints

#: A command is answered within some 30 ms; who wants no answer says `Prefer: wait=0`.
WAIT_SECONDS_DEFAULT = 5


class PlainCommand(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a command; `reason` is shown in the order's history."""

    reason: Annotated[str, limits(maxLength=REASON_CHARS_MAX)] | UnsetType | None = UNSET


class RefundLine(Struct, frozen=True, forbid_unknown_fields=True):
    """Pieces of one line of the order; the first line is 0."""

    line: Annotated[int, limits(minimum=0, maximum=LINES_MAX - 1)]
    quantity: Annotated[int, limits(minimum=1, maximum=PIECES_MAX)]


class RefundCommand(PlainCommand, frozen=True, forbid_unknown_fields=True):
    """The body of a refund; without lines it is for all that is left."""

    refund_id: Annotated[str, limits(minLength=1, maxLength=REFUND_ID_CHARS_MAX)] | UnsetType = UNSET
    lines: Annotated[list[RefundLine], limits(minItems=1, maxItems=LINES_MAX)] | UnsetType | None = UNSET


_Handler = TypeVar("_Handler", bound=Callable[..., Awaitable[web.Response]])

_plain_decoder = msgspec.json.Decoder(PlainCommand)
_refund_decoder = msgspec.json.Decoder(RefundCommand)


class AcceptedCommand(TypedDict):
    """A command that is kept, and not answered yet."""

    order_id: str
    action: str
    status: str
    links: SelfLink


def _command(
    summary: str, body: type[PlainCommand], *kinds: Kind, parameters: Sequence[Parameter] = ()
) -> Callable[[_Handler], _Handler]:
    return operation(
        summary,
        Answer(200, "The order has obeyed", OrderView),
        Answer(202, "Kept, and not answered yet", AcceptedCommand, headers=("Location", "Retry-After")),
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
    """What is to happen to an order."""

    seller_id: str
    order_id: str
    action: Trigger
    reason: str
    #: Empty but for a refund.
    refund_id: str = ""
    #: Pieces by line; empty for all that is left.
    lines: tuple[tuple[int, int], ...] = ()

    @property
    def command_id(self) -> str:
        """Unique within the order."""
        return f"refund:{self.refund_id}" if self.refund_id else self.action.value

    def record(self, received_at_us: int) -> dict[str, Any]:
        """The command as the `OrderCommand` schema has it."""
        return {
            "received_at": received_at_us,
            "seller_id": self.seller_id,
            "order_id": self.order_id,
            "command_id": self.command_id,
            "action": self.action.value,
            "reason": self.reason,
            "refund_id": self.refund_id,
            "lines": [{"line": line, "quantity": quantity} for line, quantity in self.lines],
        }


class Commands:
    """Takes commands. They are answered by the orders agent, the only one who changes an order."""

    def __init__(
        self,
        keys: KeyRing,
        intake: Intake,
        hints: Hints,
        reader: OrdersReader,
        waiters: Waiters,
        *,
        topic: Topic = ORDER_COMMANDS,
    ) -> None:
        """Commands go to `topic`; `waiters` are woken by the order events."""
        self._topic = topic.name
        self._keys = keys
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

    @_command("Ship an order", PlainCommand)
    async def ship(self, request: web.Request) -> web.Response:
        """POST /v1/orders/{order_id}/shipments."""
        return await self._post(request, Trigger.SHIP)

    @_command("An order was delivered", PlainCommand)
    async def deliver(self, request: web.Request) -> web.Response:
        """POST /v1/orders/{order_id}/deliveries."""
        return await self._post(request, Trigger.DELIVER)

    @_command("Cancel an order", PlainCommand)
    async def cancel(self, request: web.Request) -> web.Response:
        """POST /v1/orders/{order_id}/cancellations."""
        return await self._post(request, Trigger.CANCEL)

    @_command(
        "Refund an order, or lines of it",
        RefundCommand,
        problems.REFUND_ID_MISSING,
        problems.REFUND_ID_AMBIGUOUS,
        problems.REFUND_TOO_LARGE,
        problems.REFUND_CONFLICT,
        parameters=[IDEMPOTENCY_KEY],
    )
    async def refund(self, request: web.Request) -> web.Response:
        """POST /v1/orders/{order_id}/refunds."""
        return await self._post(request, Trigger.REFUND)

    async def _post(self, request: web.Request, action: Trigger) -> web.Response:
        seller_id = await self._keys.seller_of(request)
        order_id = order_id_of(request)
        with self._intake.place(request):
            body = await read_body(request)
            command = read(seller_id, order_id, action, body, request.headers.get("Idempotency-Key"))
            await self._refuse_unknown(command)
            preference = request.headers.get("Prefer")
            wait = wait_seconds(preference, WAIT_SECONDS_DEFAULT)
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
        """Raise `ProblemError` for an order that isn't there. While nobody can tell, the agent will."""
        try:
            known = await self._reader.order(command.seller_id, command.order_id)
        except PostgresUnavailableError:
            return
        if known.placed is not None:
            return
        if isinstance(await self._hints.known(hinted_as(command.seller_id), command.order_id), bytes):
            raise ProblemError(problems.UNKNOWN_ORDER, "this order is not placed yet", retry_after_seconds=1)
        raise ProblemError(problems.UNKNOWN_ORDER, "no order of this id is known")

    async def _keep_and_wait(self, command: Command, wait: int) -> OrderView | None:
        """The order once it has obeyed; None if that isn't known in time. Raises `ProblemError`."""
        key = command.order_id.encode()
        waiter = self._waiters.add(key) if wait else None
        try:
            payload = encode(ORDER_COMMAND, command.record(time_ns() // 1000))
            await self._intake.keep(self._topic, key, payload)
            measures.COMMANDS.labels(command.action.value).inc()
            if waiter is None:
                return None
            return await until_known(waiter, _Outcome(self._reader, command), wait, look_at_once=False)
        finally:
            if waiter is not None:
                self._waiters.remove(key, waiter)


class _Outcome:
    """What becomes of one command."""

    def __init__(self, reader: OrdersReader, command: Command) -> None:
        self._reader = reader
        self._command = command

    async def look(self) -> OrderView | None:
        """The order, if Postgres says that it has obeyed. A refusal leaves no trace there."""
        return await self._order(self._is_obeyed)

    async def judge(self, event: bytes) -> OrderView | None:
        """What an event of this order means; None if it is no answer to this command."""
        command = self._command
        try:
            _, value = decode(event, ORDER_COMMAND_ANSWERED, bytes_max=ORDER_EVENTS.value_bytes_max)
        except DecodeError:  # Something else has happened to the order.
            return None
        if (value["seller_id"], value["command_id"]) != (command.seller_id, command.command_id):
            return None
        if value["outcome"] != "applied":
            raise problems.rejected(value["reason"], value["detail"])
        return await self._order(lambda order: True)

    async def _order(self, holds: Callable[[PlacedOrder], bool]) -> OrderView | None:
        """The order, if that holds of it; raises `ProblemError` where the refund's id stands for other lines."""
        command = self._command
        try:
            known = await self._reader.order(command.seller_id, command.order_id)
            order = known.placed
            if order is None:
                return None
            refund = self._refund(order)
            if refund is not None and command.lines and command.lines != _pieces(refund["lines"]):
                raise ProblemError(
                    problems.REFUND_CONFLICT, "this refund_id has come with other lines before", field="refund_id"
                )
            if not holds(order):
                return None
            return order_views.placed(order, known.refused, await self._reader.invoice_request(order))
        except PostgresUnavailableError:
            return None

    def _is_obeyed(self, order: PlacedOrder) -> bool:
        action = self._command.action
        if action is Trigger.REFUND:
            return self._refund(order) is not None
        return State(order.state) in OBEYED[action]

    def _refund(self, order: PlacedOrder) -> Mapping[str, Any] | None:
        refund_id = self._command.refund_id
        return next((each for each in order.refunds if refund_id and each["refund_id"] == refund_id), None)


def read(seller_id: str, order_id: str, action: Trigger, body: bytes, idempotency_key: str | None) -> Command:
    """The command, checked; raises `ProblemError`."""
    if action is not Trigger.REFUND:
        plain = bodies.decode_small(_plain_decoder, body) if body else PlainCommand()
        return Command(seller_id, order_id, action, _reason(plain))
    asked = bodies.decode_small(_refund_decoder, body) if body else RefundCommand()
    refund_id = bodies.chosen_id(
        "refund_id",
        None if asked.refund_id is UNSET else asked.refund_id,
        idempotency_key,
        problems.REFUND_ID_MISSING,
        problems.REFUND_ID_AMBIGUOUS,
    )
    refusal = check_name("refund_id", refund_id, REFUND_ID_CHARS_MAX)
    if refusal is None and refund_id in (CANCELLATION, ".", ".."):
        refusal = Refusal(INVALID_FIELD, "refund_id", f"must not be {refund_id}")
    if refusal is not None:
        raise problems.refused(refusal)
    lines = () if asked.lines is UNSET or asked.lines is None else _checked_lines(asked.lines)
    return Command(seller_id, order_id, action, _reason(asked), refund_id, lines)


def _reason(asked: PlainCommand) -> str:
    reason = asked.reason if isinstance(asked.reason, str) else ""
    # By the agent's own rule: what it could not take would be kept, and never answered.
    refusal = check_name("reason", reason, REASON_CHARS_MAX) if reason else None
    if refusal is not None:
        raise problems.refused(refusal)
    return reason


def _checked_lines(lines: list[RefundLine]) -> tuple[tuple[int, int], ...]:
    refusal = None
    if not 1 <= len(lines) <= LINES_MAX:
        refusal = Refusal(
            INVALID_FIELD, "lines", f"must be 1 to {LINES_MAX}; leave them out to refund all that is left"
        )
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


def _pieces(lines: list[Mapping[str, int]]) -> tuple[tuple[int, int], ...]:
    return tuple(sorted((each["line"], each["quantity"]) for each in lines))
