"""The orders of one transaction: loaded under their locks, moved by the table, written at once.

`OrderBook.load` takes the locks, in the one order that all agents keep: orders by id, then stock by SKU. Between it
and `write` everything is plain decisions.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from domain import crediting
from domain import order as rules
from domain.credit import CANCELLATION, FOUND, AskedRefund, credit, is_found, is_same_refund
from domain.crediting import Decided, Given, decide_credit, of_lines
from domain.moments import micros
from domain.money import SCALE, NotDecimalError, minor, minor_text
from domain.order import OrderIdentity, OrderState, OrderStep, PaymentAction, StepTaken, StockAction, Trigger
from domain.payment import Action
from domain.records import (
    CreditNoteRequest,
    InvoiceRequest,
    OrderCommandAnswered,
    OrderStateChanged,
    Parcel,
    PaymentRequested,
)
from domain.refusals import (
    CREDIT_TOO_LARGE,
    INVALID_FIELD,
    NOT_PERMITTED,
    REFUND_CONFLICT,
    REFUND_IN_PROGRESS,
    REFUND_TOO_LARGE,
    Refusal,
)
from domain.reservation import Change, Shelf, Sku, wanted_of
from runtime import traces
from schemas import catalog
from schemas.codec import decode, decode_field, encode
from sinks.postgres import journal, orders, payments, refunds
from sinks.postgres.journal import JournalRow
from sinks.postgres.orders import LockedOrder
from sinks.postgres.payments import NewAttempt, new_attempt
from sinks.postgres.refunds import DONE, FAILED, REQUESTED, RefundRow
from sinks.postgres.session import Connection
from streams.stock_events import stock_changed

#: Triggers that may touch the order's stock, whatever its state.
_BYTES_MAX = catalog.INVOICE_REQUESTS.value_bytes_max
_STOCK_TRIGGERS = frozenset(
    {Trigger.SHIP, Trigger.CANCEL, Trigger.PAYMENT_DECLINED, Trigger.PAYMENT_FAILED, Trigger.HOLD_EXPIRED}
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a refund is to be of: pieces by line, an amount with tax, or neither, for all that is left."""

    lines: Mapping[int, int]
    amount: str = ""


@dataclass(slots=True)
class _Order:
    """One order as the transaction changes it."""

    standing: LockedOrder
    state: OrderState
    version: int
    reason: str
    was_delivered: bool
    #: `(sku, quantity)` of each line; empty where no step can need them.
    lines: list[tuple[str, int]] = field(default_factory=list)
    refunded: dict[int, int] = field(default_factory=dict)
    refunds: dict[str, RefundRow] = field(default_factory=dict)
    steps: list[StepTaken] = field(default_factory=list)


class OrderBook:
    """Orders in one transaction."""

    def __init__(self, now: datetime) -> None:
        self._now = now
        #: The trace that what is done next follows from.
        self.traceparent: str | None = None
        self._orders: dict[OrderIdentity, _Order] = {}
        self._shelf = Shelf({})
        self._new_refunds: list[RefundRow] = []
        self._settled: list[RefundRow] = []
        self._refunded: set[OrderIdentity] = set()
        self._attempts: list[NewAttempt] = []
        self._output: dict[journal.OutputKey, list[JournalRow]] = {}
        #: Each step that was taken, for the log.
        self.steps: list[Mapping[str, object]] = []

    async def load(self, connection: Connection, wanted: Mapping[OrderIdentity, Iterable[Trigger | None]]) -> None:
        """Lock the orders, and what their triggers may need. None stands for the outcome of a void or a refund."""
        found = await orders.lock_orders(connection, wanted.keys())
        self._orders = {
            each: _Order(
                standing, OrderState(standing.state), standing.version, standing.reason, standing.was_delivered
            )
            for each, standing in found.items()
        }
        with_lines = [each for each in self._orders if self._needs_lines(each, tuple(wanted[each]))]
        with_refunds = [each for each in with_lines if self._orders[each].state not in rules.CLAIMING]
        for each, lines in (await orders.read_lines(connection, with_lines)).items():
            self._orders[each].lines = [(sku, quantity) for sku, quantity, _ in lines]
            self._orders[each].refunded = {line: refunded for line, (_, _, refunded) in enumerate(lines)}
        for each, its_refunds in (await refunds.read_refunds(connection, with_refunds)).items():
            self._orders[each].refunds = its_refunds
        skus = {sku for each in with_lines for sku in self._claim(each)}
        self._shelf = Shelf(await orders.lock_stock(connection, skus))

    def has(self, order: OrderIdentity, partition: int) -> bool:
        """Whether there is such an order in this partition."""
        return order in self._orders and self._orders[order].standing.partition == partition

    def move(
        self,
        order: OrderIdentity,
        trigger: Trigger,
        detail: str = "",
        command_id: str = "",
        parcel: Parcel | None = None,
    ) -> bool:
        """Take the table's step, if it has one, and say whether it did. Not for refunds."""
        its = self._orders[order]
        step = rules.step(its.state, trigger)
        if step is None:
            return False
        changes: list[Change] = []
        if its.state is OrderState.CANCELLED and trigger is Trigger.PAYMENT_AUTHORIZED:
            # An event may come again. What it brought about already, here or when the order was cancelled, stays.
            if its.reason == rules.LATE_PAYMENT_VOIDED or CANCELLATION in its.refunds:
                return False
            step, changes = self._late_payment(order)
            if step.payment is PaymentAction.VOID:
                self._take(order, step, rules.LATE_PAYMENT_VOIDED, detail, command_id)
        elif step.stock is StockAction.RELEASE:
            changes = self._shelf.release(self._claim(order))
            self._say_stock(order, "released", changes)
        elif step.stock is StockAction.SHIP:
            changes = self._shelf.ship(self._claim(order))
            self._say_stock(order, "shipped", changes)
        was = its.state
        if step.to is not was:
            self._take(order, step, trigger.value, detail, command_id, parcel)
        if step.payment is PaymentAction.CAPTURE:
            self._ask_payment(order, "capture", step.payment, its.standing.gross_minor)
        elif step.payment is PaymentAction.VOID:
            if was is OrderState.CONFIRMED:
                everything = {line: quantity for line, (_, quantity) in enumerate(its.lines)}
                request = self._invoice_request(order)
                whole = credit(request, {}, _scaled(everything))
                note = of_lines(request, whole, CANCELLATION, detail, micros(self._now))
                self._add_refund(order, note, everything, detail, for_all_left=True)
            self._ask_payment(order, "void", step.payment, its.standing.gross_minor)
        if step.invoices:
            self.say(catalog.INVOICE_REQUESTS, order, its.standing.invoice_request)
        return True

    def command(
        self,
        order: OrderIdentity,
        command: Trigger,
        detail: str,
        command_id: str,
        parcel: Parcel | None = None,
    ) -> Refusal | None:
        """Obey a storefront's command, or say why not. What was obeyed before is obeyed again, without effect."""
        its = self._orders[order]
        state = its.state
        given_up = rules.give_up(state, its.reason) if command is Trigger.CANCEL else None
        if given_up is not None:
            self._take(order, given_up, command.value, detail, command_id)
            return None
        if rules.has_obeyed(command, state, was_delivered=its.was_delivered):
            return None
        return None if self.move(order, command, detail, command_id, parcel) else rules.forbid(state, command)

    def refund(self, order: OrderIdentity, refund_id: str, wanted: Wanted, reason: str) -> Refusal | None:
        """Accept a refund of pieces by line, of an amount, or of all that is left, or say why not."""
        its = self._orders[order]
        before = its.refunds.get(refund_id)
        asked = wanted.lines
        if before is not None:
            stands = AskedRefund(before.lines, before.amount_minor, before.for_all_left)
            if is_same_refund(stands, AskedRefund(asked, self._minor(order, wanted.amount))):
                return None
            detail = "this refund_id has come with other lines or another amount; what came first stands"
            return Refusal(REFUND_CONFLICT, "refund_id", detail)
        if rules.step(its.state, Trigger.REFUND) is None:
            return rules.forbid(its.state, Trigger.REFUND)
        if any(each.state == REQUESTED for each in its.refunds.values()):
            # Its amount is the difference to what was credited before: should that fail, the sums would not add up.
            detail = "another refund of this order is under way: send this one again when it is done"
            return Refusal(REFUND_IN_PROGRESS, "refund_id", detail)
        if refund_id == CANCELLATION or is_found(refund_id):
            detail = f"{CANCELLATION} and what begins with {FOUND} are kept for other refunds: use another"
            return Refusal(REFUND_CONFLICT, "refund_id", detail)
        given = [_given(each) for each in its.refunds.values() if each.state != FAILED]
        decided = decide_credit(
            self._invoice_request(order), given, crediting.Wanted(_scaled(asked), wanted.amount), refund_id, reason,
            micros(self._now),
        )  # fmt: skip
        if isinstance(decided, Refusal):
            too_large = decided.reason == CREDIT_TOO_LARGE
            return replace(decided, reason=REFUND_TOO_LARGE) if too_large else decided
        pieces = {line: quantity // SCALE for line, quantity in decided.lines.items()}
        self._note_refund(order, decided.note, pieces, reason, for_all_left=not asked and not wanted.amount)
        return None

    def take_up_refund(self, order: OrderIdentity, refund_id: str, amount_minor: int, currency: str) -> Refusal | bool:
        """Note a refund that was made at the provider itself, as done; or say why it can't be credited.

        False if it was noted before. `REFUND_IN_PROGRESS` only stands for now.
        """
        its = self._orders[order]
        if refund_id in its.refunds:
            return False
        if currency != its.standing.currency:
            return Refusal(INVALID_FIELD, "currency", f"the order is in {its.standing.currency}, not {currency}")
        if rules.step(its.state, Trigger.REFUND) is None:
            return Refusal(NOT_PERMITTED, "state", f"the order is {its.state.value}: it has nothing to refund")
        if any(each.state == REQUESTED for each in its.refunds.values()):
            return Refusal(REFUND_IN_PROGRESS, "refund_id", "another refund of this order is under way")
        request, now_us = self._invoice_request(order), micros(self._now)
        given = [_given(each) for each in its.refunds.values() if each.state != FAILED]
        everything = decide_credit(request, given, crediting.Wanted({}), refund_id, "", now_us)
        takes_all = isinstance(everything, Decided) and everything.note["totals"]["gross_minor"] == amount_minor
        wanted = crediting.Wanted({}, minor_text(amount_minor, currency))
        decided = everything if takes_all else decide_credit(request, given, wanted, refund_id, "", now_us)
        if isinstance(decided, Refusal):
            return decided
        pieces = {line: quantity // SCALE for line, quantity in decided.lines.items()}
        self._add_refund(order, decided.note, pieces, "", for_all_left=takes_all)
        return self.settle_refund(order, refund_id, succeeded=True)

    def partition(self, order: OrderIdentity) -> int:
        """That of an order that is loaded."""
        return self._orders[order].standing.partition

    def _note_refund(
        self, order: OrderIdentity, note: CreditNoteRequest, pieces: Mapping[int, int], reason: str, *,
        for_all_left: bool,
    ) -> None:  # fmt: skip
        amount = self._add_refund(order, note, pieces, reason, for_all_left=for_all_left)
        self._ask_payment(order, f"refund:{note['refund_id']}", PaymentAction.REFUND, amount)

    def _minor(self, order: OrderIdentity, amount: str) -> int:
        """An amount in minor units; 0 for none, and for one that is none."""
        try:
            return minor(amount, self._orders[order].standing.currency) if amount else 0
        except NotDecimalError:
            return 0

    def _has_amounts(self, order: OrderIdentity) -> bool:
        """Whether an amount was refunded, beside pieces."""
        return any(not each.lines and each.state != FAILED for each in self._orders[order].refunds.values())

    def _invoice_request(self, order: OrderIdentity) -> InvoiceRequest:
        payload = self._orders[order].standing.invoice_request
        return decode(payload, catalog.INVOICE_REQUEST, bytes_max=_BYTES_MAX)[1]

    def settle_refund(self, order: OrderIdentity, refund_id: str, *, succeeded: bool) -> bool:
        """The money of a refund has moved, or never will; whether that is news."""
        its = self._orders[order]
        refund = its.refunds.get(refund_id)
        if refund is None or refund.state != REQUESTED:
            return False
        refund = its.refunds[refund_id] = refund._replace(state=DONE if succeeded else FAILED)
        self._settled.append(refund)
        if succeeded:
            self.say(catalog.INVOICE_REQUESTS, order, refund.credit_note_request)
        else:
            for line, quantity in refund.lines.items():
                its.refunded[line] -= quantity
            self._refunded.add(order)
        all_settled = all(each.state != REQUESTED for each in its.refunds.values())
        nothing_left = all(its.refunded[line] == quantity for line, (_, quantity) in enumerate(its.lines))
        if all_settled and self._has_amounts(order):
            done = sum(each.amount_minor for each in its.refunds.values() if each.state == DONE)
            nothing_left = done >= its.standing.gross_minor
        if all_settled and nothing_left and rules.step(its.state, Trigger.REFUNDED_IN_FULL) is not None:
            self.move(order, Trigger.REFUNDED_IN_FULL)
        return True

    def answer(
        self,
        order: OrderIdentity,
        command_id: str,
        action: str,
        refusal: Refusal | None,
        *,
        partition: int,
        offset: int,
    ) -> None:
        """Say what became of the command at `offset` of the `partition` of its topic, in the orders' partition."""
        value: OrderCommandAnswered = {
            "seller_id": order.seller_id,
            "order_id": order.order_id,
            "command_id": command_id,
            "action": action,
            "outcome": "applied" if refusal is None else "refused",
            "reason": "" if refusal is None else refusal.reason,
            "detail": "" if refusal is None else refusal.detail,
            "occurred_at": micros(self._now),
            "source_partition": partition,
            "source_offset": offset,
        }
        self._append(catalog.ORDER_EVENTS, partition, order, encode(catalog.ORDER_COMMAND_ANSWERED, value))

    async def write(self, connection: Connection, dead: Mapping[int, list[JournalRow]]) -> None:
        """Write what changed, and say it; `dead` goes along, by partition."""
        await orders.write_states(connection, {each: its.steps for each, its in self._orders.items()})
        await orders.write_stock(connection, self._shelf.levels, self._shelf.changed)
        await refunds.write_refunded(connection, {each: self._orders[each].refunded for each in self._refunded})
        await refunds.insert_refunds(connection, self._new_refunds, self._now)
        await refunds.write_refund_states(connection, self._settled)
        await payments.insert_attempts(connection, self._attempts, self._now)
        letters = {(catalog.DEAD_LETTERS.name, partition): rows for partition, rows in dead.items()}
        await journal.append(connection, letters | self._output)

    def identity(self, order: OrderIdentity) -> dict[str, object]:
        """Whose step is taken, for the log: the order, and the trace if there is one."""
        trace = {} if self.traceparent is None else {"trace_id": traces.trace_id(self.traceparent)}
        return {**order._asdict(), **trace}

    def say(self, topic: catalog.Topic, order: OrderIdentity, payload: bytes) -> None:
        """Write an event about an order that is loaded, or a request of it."""
        self._append(topic, self._orders[order].standing.partition, order, payload)

    def _append(self, topic: catalog.Topic, partition: int, order: OrderIdentity, payload: bytes) -> None:
        row = JournalRow(order.order_id.encode(), payload, self._now, self.traceparent)
        self._output.setdefault((topic.name, partition), []).append(row)

    def _needs_lines(self, order: OrderIdentity, triggers: tuple[Trigger | None, ...]) -> bool:
        state = self._orders[order].state
        if len(triggers) > 1 or None in triggers:
            return True
        if triggers == (Trigger.PAYMENT_AUTHORIZED,):
            return state is OrderState.CANCELLED
        return triggers[0] in _STOCK_TRIGGERS or triggers[0] is Trigger.REFUND

    def _claim(self, order: OrderIdentity) -> dict[Sku, int]:
        return wanted_of(order.seller_id, self._orders[order].lines)

    def _late_payment(self, order: OrderIdentity) -> tuple[OrderStep, list[Change]]:
        """Claim the stock again, if the order's hold had expired and all of it is free."""
        reason = self._orders[order].reason
        changes: list[Change] = []
        if reason == Trigger.HOLD_EXPIRED:
            changes = [each for each in self._shelf.reserve(self._claim(order)) if isinstance(each, Change)]
        step = rules.late_payment(reason, stock_is_free=bool(changes))
        if changes:
            self._say_stock(order, "retaken", changes)
        return step, changes

    def _take(
        self,
        order: OrderIdentity,
        step: OrderStep,
        reason: str,
        detail: str,
        command_id: str,
        parcel: Parcel | None = None,
    ) -> None:
        its = self._orders[order]
        taken = StepTaken(its.version + 1, its.state, step.to, reason, detail, micros(self._now), parcel)
        value: OrderStateChanged = {
            "seller_id": order.seller_id,
            "order_id": order.order_id,
            "version": taken.version,
            "from_state": its.state.value,
            "to_state": taken.to_state.value,
            "reason": taken.reason,
            "detail": taken.detail,
            "command_id": command_id,
            "occurred_at": taken.at,
            "parcel": parcel,
        }
        self.say(catalog.ORDER_EVENTS, order, encode(catalog.ORDER_STATE_CHANGED, value))
        its.steps.append(taken)
        self.steps.append(
            {
                **self.identity(order),
                "state": taken.to_state.value,
                "version": taken.version,
                "reason": taken.reason,
            }
        )
        its.state, its.version, its.reason = taken.to_state, taken.version, taken.reason
        its.was_delivered = its.was_delivered or taken.to_state is OrderState.DELIVERED

    def _add_refund(
        self,
        order: OrderIdentity,
        note: CreditNoteRequest,
        pieces: Mapping[int, int],
        reason: str,
        *,
        for_all_left: bool,
    ) -> int:
        """Note the refund and its credit note; return what goes back."""
        its = self._orders[order]
        refund_id, gross = note["refund_id"], note["totals"]["gross_minor"]
        payload = encode(catalog.CREDIT_NOTE_REQUEST, note)
        refund = RefundRow(order, refund_id, pieces, gross, REQUESTED, reason, payload, for_all_left)
        its.refunds[refund_id] = refund
        self._new_refunds.append(refund)
        for line, quantity in pieces.items():
            its.refunded[line] += quantity
        self._refunded.add(order)
        return gross

    def _ask_payment(self, order: OrderIdentity, request_id: str, action: PaymentAction, amount_minor: int) -> None:
        value: PaymentRequested = {
            "seller_id": order.seller_id,
            "order_id": order.order_id,
            "request_id": request_id,
            "action": action.value,
            "amount_minor": amount_minor,
            "currency": self._orders[order].standing.currency,
            "occurred_at": micros(self._now),
        }
        self.say(catalog.ORDER_EVENTS, order, encode(catalog.PAYMENT_REQUESTED, value))
        standing = self._orders[order].standing
        attempt = new_attempt(
            order,
            standing.partition,
            request_id,
            Action(action.value),
            amount_minor,
            standing.currency,
            traceparent=self.traceparent,
        )
        self._attempts.append(attempt)

    def _say_stock(self, order: OrderIdentity, cause: str, changes: list[Change]) -> None:
        row = stock_changed(order.seller_id, order.order_id, cause, changes, self._now, self.traceparent)
        output = (catalog.INVENTORY_EVENTS.name, self._orders[order].standing.partition)
        self._output.setdefault(output, []).append(row)


def _given(refund: RefundRow) -> Given:
    payload = refund.credit_note_request
    totals = decode_field(payload, catalog.CREDIT_NOTE_REQUEST, "totals", bytes_max=_BYTES_MAX)
    return Given(_scaled(refund.lines), totals["per_rate"])


def _scaled(pieces: Mapping[int, int]) -> dict[int, int]:
    """Pieces by line as quantities in 10^-6."""
    return {line: quantity * SCALE for line, quantity in pieces.items()}
