"""The orders agent: the only place where an order's state changes, by the table in `domain.order`.

It reads what payments came to and what storefronts want, and looks for holds that have expired.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from prometheus_client import Counter

from domain.checkout import check_name
from domain.credit import CANCELLATION, REFUND_ID_CHARS_MAX
from domain.invoice import check_order_id
from domain.numbering import SELLER_ID
from domain.order import COMMANDS, REASON_CHARS_MAX, Trigger
from domain.payment import Action
from domain.refusals import INVALID_FIELD, UNKNOWN_ORDER, Refusal
from runtime.metrics import REGISTRY
from runtime.settings import Settings
from schemas import catalog
from schemas.codec import DecodeError, decode
from sinks.postgres import orders
from sinks.postgres.journal import JournalRow
from sinks.postgres.orders import OrderId
from sinks.postgres.session import OUTAGES, Connection, Session
from streams.app import Wired, run_agent
from streams.batch import Batch
from streams.dead_letters import dead_letter
from streams.order_book import OrderBook

_log = logging.getLogger(__name__)

AGENT = "orders"
BATCH_BYTES_MAX = 4 * 1024 * 1024
#: How late a hold may expire.
_EXPIRY_PAUSE_S = 1.0
_EXPIRED_MAX = 500

STEPS = Counter(
    "gapless_order_inputs_total",
    "What moved orders, by whether the table permitted it.",
    ["trigger", "outcome"],
    registry=REGISTRY,
)

_AUTHORIZED = {
    "succeeded": Trigger.PAYMENT_AUTHORIZED,
    "declined": Trigger.PAYMENT_DECLINED,
    "failed": Trigger.PAYMENT_FAILED,
}
_SCHEMAS = {
    catalog.PAYMENT_EVENTS.name: (catalog.PAYMENT_EVENTS, catalog.PAYMENT_ATTEMPT_FINISHED),
    catalog.ORDER_COMMANDS.name: (catalog.ORDER_COMMANDS, catalog.ORDER_COMMAND),
}
_ACTIONS = frozenset(action.value for action in Action)
_REFUND = "refund:"


@dataclass(slots=True)
class _Input:
    """One record, and what it asks of its order; no trigger for what a void or a refund came to."""

    record: Any
    order: OrderId
    trigger: Trigger | None
    body: dict[str, Any]


@dataclass(slots=True)
class Prepared:
    """A batch decoded."""

    inputs: list[_Input] = field(default_factory=list)
    dead: list[JournalRow] = field(default_factory=list)
    outcomes: list[tuple[str, str]] = field(default_factory=list)


def run(settings: Settings) -> None:
    """Run an orders worker until SIGTERM."""
    work = OrdersWork(lambda: datetime.now(UTC))
    session = Session(settings.postgres_url.get_secret_value())
    wired = Wired(
        catalog.READERS[AGENT],
        work,
        BATCH_BYTES_MAX,
        service=lambda: expire_holds(session, lambda: datetime.now(UTC)),
    )
    run_agent(AGENT, settings, lambda _: wired)


class OrdersWork:
    """Moves orders by payments' answers and storefronts' commands."""

    agent = AGENT
    outages: tuple[type[Exception], ...] = ()

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now

    async def prepare(self, batch: Batch) -> Prepared:
        """Decode; what can't be understood is a dead letter."""
        prepared = Prepared()
        now = self._now()
        topic, schema = _SCHEMAS[batch.topic]
        for record in batch.records:
            try:
                _, body = decode(record.value, schema, bytes_max=topic.value_bytes_max)
                order = OrderId(body["seller_id"], body["order_id"])
                _check_texts(order, body)
                prepared.inputs.append(_Input(record, order, _trigger(body), body))
            except DecodeError as error:
                prepared.dead.append(dead_letter(AGENT, batch, record, str(error), now))
        return prepared

    def distrust(self, prepared: Prepared) -> bool:
        """Nothing here relies on a hint."""
        return False

    async def apply(self, connection: Connection, batch: Batch, prepared: Prepared) -> None:
        """Take each input's step, in the order of arrival."""
        now = self._now()
        prepared.outcomes = []
        dead = list(prepared.dead)
        wanted: dict[OrderId, list[Trigger | None]] = {}
        for each in prepared.inputs:
            wanted.setdefault(each.order, []).append(each.trigger)
        book = OrderBook(batch.partition, now)
        await book.load(connection, wanted)
        are_commands = batch.topic == catalog.ORDER_COMMANDS.name
        attempts = {} if are_commands else await orders.read_attempts(connection, map(_attempt, prepared.inputs))
        for each in prepared.inputs:
            if are_commands:
                refusal = _obey(book, each)
                book.answer(each.order, each.body["command_id"], each.body["action"], refusal)
                outcome = "applied" if refusal is None else refusal.reason
            # Whoever can write to the topic must not be able to confirm an order: the attempt's row says what happened.
            elif not book.has(each.order) or attempts.get(_attempt(each)) != each.body["outcome"]:
                error = "no attempt of an order in this partition has come to this"
                dead.append(dead_letter(AGENT, batch, each.record, error, now))
                outcome = "dead letter"
            else:
                outcome = "applied" if _pay(book, each) else "no effect"
            prepared.outcomes.append((each.trigger or each.body["action"], outcome))
        await book.write(connection, dead)

    async def committed(self, batch: Batch, prepared: Prepared) -> None:
        """Count."""
        for trigger, outcome in prepared.outcomes:
            STEPS.labels(trigger, outcome).inc()


async def expire_holds(session: Session, now: Callable[[], datetime]) -> None:
    """Cancel, for ever, orders whose payment was not known in time; their stock is free again."""
    while True:
        try:
            found = await expire_once(session, now())
        except OUTAGES as error:
            _log.warning("expired holds wait: %s", next(iter(str(error).splitlines()), ""))
            found = 0
        if found < _EXPIRED_MAX:
            await asyncio.sleep(_EXPIRY_PAUSE_S)


async def expire_once(session: Session, now: datetime) -> int:
    """Expire what is due, up to a bound; return how many were found. Raises one of `OUTAGES`."""
    due = await orders.read_expired(await session.connection(), now, _EXPIRED_MAX)
    by_partition: dict[int, list[OrderId]] = {}
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
    return len(due)


def _attempt(each: _Input) -> tuple[OrderId, str]:
    return each.order, each.body["request_id"]


def _check_texts(order: OrderId, body: Mapping[str, Any]) -> None:
    """Raise `DecodeError` for texts that can't be stored, which would stop the partition for ever."""
    if SELLER_ID.fullmatch(order.seller_id) is None:
        raise DecodeError("seller_id must be 1 to 40 of a-z, 0-9 and -")
    texts = {"reason": REASON_CHARS_MAX, "refund_id": REFUND_ID_CHARS_MAX, "request_id": 64, "command_id": 64}
    refusals = [check_name(name, body[name], chars_max) for name, chars_max in texts.items() if body.get(name)]
    for refusal in (check_order_id(order.order_id), *refusals):
        if refusal is not None:
            raise DecodeError(str(refusal))


def _trigger(body: Mapping[str, Any]) -> Trigger | None:
    """What the record may set off; raises `DecodeError` for an action or outcome that there isn't."""
    if "command_id" in body:
        if body["action"] not in COMMANDS:
            raise DecodeError(f"no such action: {body['action'][:40]!r}")
        return Trigger(body["action"])
    if body["outcome"] not in _AUTHORIZED:
        raise DecodeError(f"no such outcome: {body['outcome'][:40]!r}")
    if body["action"] not in _ACTIONS:
        raise DecodeError(f"no such action: {body['action'][:40]!r}")
    return _AUTHORIZED[body["outcome"]] if body["action"] == Action.AUTHORIZE else None


def _pay(book: OrderBook, each: _Input) -> bool:
    """What a payment's outcome means for its order; whether it meant anything."""
    body = each.body
    if each.trigger is not None:
        moved: bool = book.move(each.order, each.trigger, body["reason"])
        return moved
    succeeded: bool = body["outcome"] == "succeeded"
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
        )
    return succeeded


def _obey(book: OrderBook, each: _Input) -> Refusal | None:
    body, trigger = each.body, each.trigger
    if not book.has(each.order):
        return Refusal(UNKNOWN_ORDER, "order_id", "there is no such order")
    if trigger is None:
        raise ValueError("a command without a trigger was let through by prepare")
    if trigger is not Trigger.REFUND:
        return book.command(each.order, trigger, body["reason"], body["command_id"])
    if body["command_id"] != _REFUND + body["refund_id"]:
        return Refusal(INVALID_FIELD, "command_id", "must be refund: and the refund_id")
    pieces: dict[int, int] = {}
    for line in body["lines"]:
        pieces[line["line"]] = pieces.get(line["line"], 0) + line["quantity"]
    return book.refund(each.order, body["refund_id"], pieces, body["reason"])
