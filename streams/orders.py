"""The orders agent: the only place where an order's state changes, by the table in `domain.order`.

It reads what payments came to and what storefronts want, and looks for holds that have expired.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from prometheus_client import Counter

from domain.checkout import check_name
from domain.credit import CANCELLATION, REFUND_ID_CHARS_MAX
from domain.dead_letter import DeadLetterReason
from domain.invoice import check_order_id, check_segment
from domain.numbering import SELLER_ID
from domain.order import COMMANDS, REASON_CHARS_MAX, OrderIdentity, Trigger
from domain.payment import Action
from domain.records import OrderCommand, PaymentAttemptFinished
from domain.refusals import INVALID_FIELD, UNKNOWN_ORDER, Refusal
from runtime.logs import tell_decisions
from runtime.metrics import REGISTRY
from runtime.outages import POSTGRES
from runtime.settings import Settings
from schemas import catalog
from schemas.codec import DecodeError, decode
from sinks.postgres import orders
from sinks.postgres.journal import JournalRow
from sinks.postgres.session import OUTAGES, TOO_SLOW, Connection, Session, believed
from streams.engine.app import Wired, run_agent
from streams.engine.batch import Batch, Record
from streams.engine.dead_letters import dated, dead_letter
from streams.order_book import OrderBook, Wanted

_log = logging.getLogger(__name__)

AGENT = "orders"
BATCH_BYTES_MAX = 4 * 1024 * 1024
#: How late a hold may expire.
_EXPIRY_PAUSE_S = 1.0
_EXPIRED_MAX = 500

STEPS = Counter(
    "gapless_order_inputs_total",
    "Triggers on orders, by whether the table permitted them.",
    ["trigger", "outcome"],
    registry=REGISTRY,
)

_AUTHORIZED = {
    "succeeded": Trigger.PAYMENT_AUTHORIZED,
    "declined": Trigger.PAYMENT_DECLINED,
    "failed": Trigger.PAYMENT_FAILED,
}
_ACTIONS = frozenset(action.value for action in Action)
_REFUND = "refund:"
_CHARS_MAX = {"reason": REASON_CHARS_MAX, "refund_id": REFUND_ID_CHARS_MAX, "request_id": 64, "command_id": 64}


@dataclass(slots=True)
class _Command:
    """A record that asks something of its order."""

    record: Record
    order: OrderIdentity
    trigger: Trigger
    body: OrderCommand


@dataclass(slots=True)
class _Payment:
    """A record that says what a payment attempt came to; no trigger for a void or a refund."""

    record: Record
    order: OrderIdentity
    trigger: Trigger | None
    body: PaymentAttemptFinished


@dataclass(slots=True)
class PreparedTriggers:
    """A batch decoded."""

    inputs: list[_Command | _Payment] = field(default_factory=list)
    dead: list[JournalRow] = field(default_factory=list)
    outcomes: list[tuple[str, str]] = field(default_factory=list)
    #: Each step that an order took, for the log.
    steps: list[Mapping[str, object]] = field(default_factory=list)


def run(settings: Settings) -> None:
    """Run an orders worker until SIGTERM."""
    work = OrdersWork(lambda: datetime.now(UTC))
    session = Session(settings.postgres_url.get_secret_value())
    wired = Wired(lambda _: work, BATCH_BYTES_MAX, service=lambda: expire_holds(session, lambda: datetime.now(UTC)))
    run_agent(AGENT, settings, lambda _: wired)


class OrdersWork:
    """Moves orders by payments' answers and storefronts' commands."""

    agent = AGENT
    outages: tuple[type[Exception], ...] = ()

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now

    async def prepare(self, batch: Batch) -> PreparedTriggers:
        """Decode; what can't be understood is a dead letter."""
        prepared = PreparedTriggers()
        now = self._now()
        read = _READ[batch.topic]
        for record in batch.records:
            try:
                prepared.inputs.append(read(record))
            except DecodeError as error:
                prepared.dead.append(dead_letter(AGENT, batch, record, DeadLetterReason.UNDECODABLE, str(error), now))
        return prepared

    def distrust(self, prepared: PreparedTriggers) -> bool:
        """Nothing here relies on a hint."""
        return False

    async def apply(self, connection: Connection, batch: Batch, prepared: PreparedTriggers) -> None:
        """Take each input's step, in the order of arrival."""
        now = await believed(connection, self._now())
        prepared.outcomes = []
        dead = dated(prepared.dead, now)
        wanted: dict[OrderIdentity, list[Trigger | None]] = {}
        for each in prepared.inputs:
            wanted.setdefault(each.order, []).append(each.trigger)
        book = OrderBook(batch.partition, now)
        await book.load(connection, wanted)
        payments = [_attempt(each) for each in prepared.inputs if isinstance(each, _Payment)]
        attempts = await orders.read_attempts(connection, payments) if payments else {}
        for each in prepared.inputs:
            offset = each.record.offset
            book.traceparent = batch.traces.follow(offset)
            if isinstance(each, _Command):
                refusal = _obey(book, each)
                book.answer(each.order, each.body["command_id"], each.body["action"], refusal, offset)
                outcome = "applied" if refusal is None else refusal.reason
            # Whoever can write to the topic must not be able to confirm an order: the attempt's row says what happened.
            elif not book.has(each.order) or attempts.get(_attempt(each)) != each.body["outcome"]:
                error = "no attempt of an order in this partition has come to this"
                dead.append(dead_letter(AGENT, batch, each.record, DeadLetterReason.FOREIGN, error, now))
                outcome = "dead letter"
            else:
                outcome = "applied" if _pay(book, each) else "no effect"
            trigger = each.trigger or each.body["action"]
            prepared.outcomes.append((trigger, outcome))
            if book.traceparent is not None:
                batch.traces.decision(offset, {**each.order._asdict(), "trigger": trigger, "outcome": outcome})
        await book.write(connection, dead)
        prepared.steps = book.steps

    async def committed(self, batch: Batch, prepared: PreparedTriggers) -> None:
        """Count."""
        for trigger, outcome in prepared.outcomes:
            STEPS.labels(trigger, outcome).inc()
        tell_decisions(_log, "moved", prepared.steps)


async def expire_holds(session: Session, now: Callable[[], datetime]) -> None:
    """Cancel, for ever, orders whose payment was not known in time; their stock is free again."""
    at_once = _EXPIRED_MAX
    while True:
        found = 0
        try:
            found = await expire_once(session, now(), at_once)
        except OUTAGES as error:
            POSTGRES.failed(error)
            if isinstance(error, TOO_SLOW):
                at_once = max(1, at_once // 2)
        else:
            POSTGRES.answered()
            at_once = at_once if found == at_once else _EXPIRED_MAX
        if found < at_once:
            await asyncio.sleep(_EXPIRY_PAUSE_S)


async def expire_once(session: Session, now: datetime, at_once: int = _EXPIRED_MAX) -> int:
    """Expire what is due, so many `at_once`; return how many were found. Raises one of `OUTAGES`."""
    async with session.connection() as connection:
        now = await believed(connection, now)
        due = await orders.read_expired(connection, now, at_once)
    by_partition: dict[int, list[OrderIdentity]] = {}
    for order, partition in due:
        by_partition.setdefault(partition, []).append(order)
    for partition, expired in sorted(by_partition.items()):
        async with session.pipelined_transaction() as connection:
            book = OrderBook(partition, now)
            await book.load(connection, {order: [Trigger.HOLD_EXPIRED] for order in expired})
            # Under their locks: whoever was paid meanwhile is not pending any more, and stays.
            moved = sum(book.move(order, Trigger.HOLD_EXPIRED) for order in expired)
            await book.write(connection, [])
        STEPS.labels(Trigger.HOLD_EXPIRED.value, "applied").inc(moved)
        tell_decisions(_log, "moved", book.steps)
    return len(due)


def _attempt(each: _Payment) -> tuple[OrderIdentity, str]:
    return each.order, each.body["request_id"]


def _read_command(record: Record) -> _Command:
    """Raises `DecodeError`, also for an action that there isn't."""
    _, body = decode(record.value, catalog.ORDER_COMMAND, bytes_max=catalog.ORDER_COMMANDS.value_bytes_max)
    order = OrderIdentity(body["seller_id"], body["order_id"])
    _check_texts(order, reason=body["reason"], refund_id=body["refund_id"], command_id=body["command_id"])
    if body["action"] not in COMMANDS:
        raise DecodeError(f"no such action: {body['action'][:40]!r}")
    return _Command(record, order, Trigger(body["action"]), body)


def _read_payment(record: Record) -> _Payment:
    """Raises `DecodeError`, also for an action or outcome that there isn't."""
    _, body = decode(record.value, catalog.PAYMENT_ATTEMPT_FINISHED, bytes_max=catalog.PAYMENT_EVENTS.value_bytes_max)
    order = OrderIdentity(body["seller_id"], body["order_id"])
    _check_texts(order, reason=body["reason"], request_id=body["request_id"])
    if body["outcome"] not in _AUTHORIZED:
        raise DecodeError(f"no such outcome: {body['outcome'][:40]!r}")
    if body["action"] not in _ACTIONS:
        raise DecodeError(f"no such action: {body['action'][:40]!r}")
    trigger = _AUTHORIZED[body["outcome"]] if body["action"] == Action.AUTHORIZE else None
    return _Payment(record, order, trigger, body)


_READ: dict[str, Callable[[Record], _Command | _Payment]] = {
    catalog.PAYMENT_EVENTS.name: _read_payment,
    catalog.ORDER_COMMANDS.name: _read_command,
}


def _check_texts(order: OrderIdentity, **texts: str) -> None:
    """Raise `DecodeError` for texts that can't be stored, which would stop the partition for ever."""
    if SELLER_ID.fullmatch(order.seller_id) is None:
        raise DecodeError("seller_id must be 1 to 40 of a-z, 0-9 and -")
    refusals = [check_name(name, text, _CHARS_MAX[name]) for name, text in texts.items() if text]
    for refusal in (check_order_id(order.order_id), *refusals):
        if refusal is not None:
            raise DecodeError(str(refusal))


def _pay(book: OrderBook, each: _Payment) -> bool:
    """What a payment's outcome means for its order; whether it meant anything."""
    body = each.body
    if each.trigger is not None:
        return book.move(each.order, each.trigger, body["reason"])
    succeeded = body["outcome"] == "succeeded"
    if body["action"] == "void":
        book.settle_refund(each.order, CANCELLATION, succeeded=succeeded)
    elif body["action"] == "refund":
        book.settle_refund(each.order, body["request_id"].removeprefix(_REFUND), succeeded=succeeded)
    if not succeeded:
        _log.error(
            "the %s of order %s of %s has %s at the provider (%s): somebody must look at it",
            body["action"],
            each.order.order_id,
            each.order.seller_id,
            body["outcome"],
            body["reason"],
            extra=book.identity(each.order),
        )
    return succeeded


def _obey(book: OrderBook, each: _Command) -> Refusal | None:
    body, trigger = each.body, each.trigger
    if not book.has(each.order):
        return Refusal(UNKNOWN_ORDER, "order_id", "there is no such order")
    if trigger is not Trigger.REFUND:
        return book.command(each.order, trigger, body["reason"], body["command_id"])
    if body["command_id"] != _REFUND + body["refund_id"]:
        return Refusal(INVALID_FIELD, "command_id", "must be refund: and the refund_id")
    refusal = check_segment("refund_id", body["refund_id"])
    if refusal is not None:
        return refusal
    pieces: dict[int, int] = {}
    for line in body["lines"]:
        pieces[line["line"]] = pieces.get(line["line"], 0) + line["quantity"]
    amount = body["amount"]
    if amount and pieces:
        return Refusal(INVALID_FIELD, "amount", "must be left out where lines are named")
    return book.refund(each.order, body["refund_id"], Wanted(pieces, amount), body["reason"])
