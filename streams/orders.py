"""The orders agent: moves orders by the table in `domain.order`, on what storefronts want and when a hold has expired.

It also reads what payments came to, and applies what has not been applied: see `streams.payment_rows`.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from domain.checkout import check_name
from domain.credit import REFUND_ID_CHARS_MAX
from domain.dead_letter import DeadLetterReason
from domain.invoice import check_order_id, check_segment
from domain.numbering import SELLER_ID
from domain.order import COMMANDS, REASON_CHARS_MAX, OrderIdentity, Trigger
from domain.parcel import check_parcel
from domain.payment import Action, AttemptState
from domain.records import OrderCommand, PaymentAttemptFinished
from domain.refusals import INVALID_FIELD, UNKNOWN_ORDER, Refusal
from runtime.logs import tell_decisions
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
from streams.engine.work import Part
from streams.order_book import OrderBook, Wanted
from streams.payment_outcomes import AUTHORIZED, REFUND, STEPS, pay, trigger_of

_log = logging.getLogger(__name__)

_ACTIONS = frozenset(action.value for action in Action)
AGENT = "orders"
BATCH_BYTES_MAX = 4 * 1024 * 1024
#: Most that it reads are payments' outcomes that have moved their orders already.
_GATHER_S = 0.1
#: How late a hold may expire.
_EXPIRY_PAUSE_S = 1.0
_EXPIRED_MAX = 500

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
    """A record that says what a payment attempt came to.

    Who finished the attempt has moved the order already, so that it means nothing, unless that was an older release.
    """

    record: Record
    order: OrderIdentity
    action: Action
    outcome: AttemptState
    body: PaymentAttemptFinished

    @property
    def trigger(self) -> Trigger | None:
        """As `trigger_of`."""
        return trigger_of(self.action, self.outcome)


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
    wired = Wired(
        lambda _: work,
        BATCH_BYTES_MAX,
        gather_s=_GATHER_S,
        service=lambda: expire_holds(session, lambda: datetime.now(UTC)),
    )
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

    async def apply(self, connection: Connection, parts: Sequence[Part[PreparedTriggers]]) -> None:
        """Take each input's step, in the order of arrival."""
        now = await believed(connection, self._now())
        inputs = [each for part in parts for each in part.prepared.inputs]
        wanted: dict[OrderIdentity, list[Trigger | None]] = {}
        for each in inputs:
            wanted.setdefault(each.order, []).append(each.trigger)
        book = OrderBook(now)
        await book.load(connection, wanted)
        payments = [_attempt(each) for each in inputs if isinstance(each, _Payment)]
        attempts = await orders.read_attempts(connection, payments) if payments else {}
        dead: dict[int, list[JournalRow]] = {}
        for part in parts:
            # A partition of two topics has its dead letters in one output.
            letters = dead.setdefault(part.batch.partition, [])
            letters += dated(part.prepared.dead, now)
            begin = len(book.steps)
            letters += _take_steps(book, part, attempts, now)
            part.prepared.steps = book.steps[begin:]
        await book.write(connection, dead)

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
    if due:
        async with session.pipelined_transaction() as connection:
            book = OrderBook(now)
            await book.load(connection, {order: [Trigger.HOLD_EXPIRED] for order in due})
            # Under their locks: whoever was paid meanwhile is not pending any more, and stays.
            moved = sum(book.move(order, Trigger.HOLD_EXPIRED) for order in due)
            await book.write(connection, {})
        STEPS.labels(Trigger.HOLD_EXPIRED.value, "applied").inc(moved)
        tell_decisions(_log, "moved", book.steps)
    return len(due)


def _take_steps(
    book: OrderBook,
    part: Part[PreparedTriggers],
    attempts: Mapping[tuple[OrderIdentity, str], str],
    now: datetime,
) -> list[JournalRow]:
    """Take the steps of a batch's inputs; return the dead letters of those that are not to be believed."""
    batch, prepared = part.batch, part.prepared
    dead = []
    prepared.outcomes = []
    for each in prepared.inputs:
        offset = each.record.offset
        book.traceparent = batch.traces.follow(offset)
        is_here = book.has(each.order, batch.partition)
        if isinstance(each, _Command):
            refusal = _obey(book, each) if is_here else Refusal(UNKNOWN_ORDER, "order_id", "there is no such order")
            body = each.body
            at = {"partition": batch.partition, "offset": offset}
            book.answer(each.order, body["command_id"], body["action"], refusal, **at)
            outcome = "applied" if refusal is None else refusal.reason
        # Whoever can write to the topic must not be able to confirm an order: the attempt's row says what happened.
        elif not is_here or attempts.get(_attempt(each)) != each.body["outcome"]:
            error = "no attempt of an order in this partition has come to this"
            dead.append(dead_letter(AGENT, batch, each.record, DeadLetterReason.FOREIGN, error, now))
            outcome = "dead letter"
        else:
            request_id, reason = each.body["request_id"], each.body["reason"]
            moved = pay(book, each.order, each.action, request_id, each.outcome, reason)
            outcome = "applied" if moved else "no effect"
        trigger = each.trigger or each.body["action"]
        prepared.outcomes.append((trigger, outcome))
        if book.traceparent is not None:
            batch.traces.decision(offset, {**each.order._asdict(), "trigger": trigger, "outcome": outcome})
    return dead


def _attempt(each: _Payment) -> tuple[OrderIdentity, str]:
    return each.order, each.body["request_id"]


def _read_command(record: Record) -> _Command:
    """Raises `DecodeError`, also for an action that there isn't."""
    _, body = decode(record.value, catalog.ORDER_COMMAND, bytes_max=catalog.ORDER_COMMANDS.value_bytes_max)
    order = OrderIdentity(body["seller_id"], body["order_id"])
    _check_texts(order, reason=body["reason"], refund_id=body["refund_id"], command_id=body["command_id"])
    if body["action"] not in COMMANDS:
        raise DecodeError(f"no such action: {body['action'][:40]!r}")
    parcel = body.get("parcel")
    if parcel is not None:
        refusal = check_parcel(parcel)
        if refusal is not None:
            raise DecodeError(str(refusal))
        if body["action"] != Trigger.SHIP:
            raise DecodeError("a parcel belongs to a shipment")
    return _Command(record, order, Trigger(body["action"]), body)


def _read_payment(record: Record) -> _Payment:
    """Raises `DecodeError`, also for an action or outcome that there isn't."""
    _, body = decode(record.value, catalog.PAYMENT_ATTEMPT_FINISHED, bytes_max=catalog.PAYMENT_EVENTS.value_bytes_max)
    order = OrderIdentity(body["seller_id"], body["order_id"])
    _check_texts(order, reason=body["reason"], request_id=body["request_id"])
    if body["outcome"] not in AUTHORIZED:
        raise DecodeError(f"no such outcome: {body['outcome'][:40]!r}")
    if body["action"] not in _ACTIONS:
        raise DecodeError(f"no such action: {body['action'][:40]!r}")
    return _Payment(record, order, Action(body["action"]), AttemptState(body["outcome"]), body)


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


def _obey(book: OrderBook, each: _Command) -> Refusal | None:
    body, trigger = each.body, each.trigger
    if trigger is not Trigger.REFUND:
        return book.command(each.order, trigger, body["reason"], body["command_id"], body.get("parcel"))
    if body["command_id"] != REFUND + body["refund_id"]:
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
