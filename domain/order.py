"""An order's life: its states, what moves it between them, and what each step asks of stock, payment and invoices.

The table is the whole of it. `PLACED` and `PAYMENT_PENDING` are taken at once when the order's stock is claimed, for
the event that says so is what asks for the payment.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from domain.records import Parcel
from domain.refusals import NOT_PERMITTED, Refusal


class OrderIdentity(NamedTuple):
    """The identity of an order, and what orders are sorted by when they are locked."""

    seller_id: str
    order_id: str


class OrderState(StrEnum):
    """Where an order stands."""

    PLACED = "PLACED"
    PAYMENT_PENDING = "PAYMENT_PENDING"
    CONFIRMED = "CONFIRMED"
    SHIPPED = "SHIPPED"
    DELIVERED = "DELIVERED"
    REFUNDED = "REFUNDED"
    CANCELLED = "CANCELLED"
    #: There was not enough stock; nothing was ever held.
    REFUSED = "REFUSED"


class Trigger(StrEnum):
    """What may move an order. The first four come from the storefront, the rest from payments and clocks."""

    SHIP = "ship"
    DELIVER = "deliver"
    CANCEL = "cancel"
    REFUND = "refund"
    PAYMENT_AUTHORIZED = "payment-authorized"
    PAYMENT_DECLINED = "payment-declined"
    PAYMENT_FAILED = "payment-failed"
    HOLD_EXPIRED = "hold-expired"
    #: The money of the last refund has gone back, and nothing of the order is left.
    REFUNDED_IN_FULL = "refunded-in-full"


class StockAction(StrEnum):
    """What a step does to the order's stock."""

    RELEASE = "release"
    SHIP = "ship"
    #: Claim it again if it is free: the payment of an expired hold came after all.
    RETAKE = "retake"


class PaymentAction(StrEnum):
    """What a step asks of the payment provider."""

    CAPTURE = "capture"
    VOID = "void"
    REFUND = "refund"


@dataclass(frozen=True, slots=True)
class OrderStep:
    """What a trigger does in a state. `to` is the state after it, or the same one."""

    to: OrderState
    stock: StockAction | None = None
    payment: PaymentAction | None = None
    #: The order's invoice is asked for.
    invoices: bool = False


#: Commands from storefronts.
COMMANDS = (Trigger.SHIP, Trigger.DELIVER, Trigger.CANCEL, Trigger.REFUND)

_S, _T = OrderState, Trigger
_RELEASED = OrderStep(_S.CANCELLED, stock=StockAction.RELEASE)

#: Everything that an order may do. What is not here is refused (commands) or has no effect (payments, clocks).
TABLE: Mapping[tuple[OrderState, Trigger], OrderStep] = {
    (_S.PAYMENT_PENDING, _T.PAYMENT_AUTHORIZED): OrderStep(_S.CONFIRMED, invoices=True),
    (_S.PAYMENT_PENDING, _T.PAYMENT_DECLINED): _RELEASED,
    (_S.PAYMENT_PENDING, _T.PAYMENT_FAILED): _RELEASED,
    (_S.PAYMENT_PENDING, _T.HOLD_EXPIRED): _RELEASED,
    (_S.PAYMENT_PENDING, _T.CANCEL): _RELEASED,
    (_S.CONFIRMED, _T.SHIP): OrderStep(_S.SHIPPED, stock=StockAction.SHIP, payment=PaymentAction.CAPTURE),
    (_S.CONFIRMED, _T.CANCEL): OrderStep(_S.CANCELLED, stock=StockAction.RELEASE, payment=PaymentAction.VOID),
    (_S.SHIPPED, _T.DELIVER): OrderStep(_S.DELIVERED),
    # Also before the delivery: a parcel may be lost.
    (_S.SHIPPED, _T.REFUND): OrderStep(_S.SHIPPED, payment=PaymentAction.REFUND),
    (_S.DELIVERED, _T.REFUND): OrderStep(_S.DELIVERED, payment=PaymentAction.REFUND),
    (_S.SHIPPED, _T.REFUNDED_IN_FULL): OrderStep(_S.REFUNDED),
    (_S.DELIVERED, _T.REFUNDED_IN_FULL): OrderStep(_S.REFUNDED),
    # Late: taken back into stock if there is some, else voided. Which of both is `late_payment`'s to say.
    (_S.CANCELLED, _T.PAYMENT_AUTHORIZED): OrderStep(_S.CANCELLED, payment=PaymentAction.VOID),
}
#: The other way a late payment may end.
RETAKEN = OrderStep(_S.CONFIRMED, stock=StockAction.RETAKE, invoices=True)
#: Somebody cancels what has expired: noted, so that a late payment doesn't bring the order back.
GIVEN_UP = OrderStep(_S.CANCELLED)
#: Reason of the step that notes that a late payment goes back. The event that told of it may come again, when there is
#: stock once more: without the note the order would be confirmed, and its payment voided.
LATE_PAYMENT_VOIDED = "late-payment-voided"

#: States that only an order which has obeyed the command can be in. A delivery needs the history: a refund in full may
#: come before it or after it.
_OBEYED: Mapping[Trigger, frozenset[OrderState]] = {
    _T.SHIP: frozenset({_S.SHIPPED, _S.DELIVERED, _S.REFUNDED}),
    _T.DELIVER: frozenset({_S.DELIVERED}),
    _T.CANCEL: frozenset({_S.CANCELLED}),
}

#: Steps that a history may show, with the reason it gives: the birth, the late payment's, and the table's.
WALKS: frozenset[tuple[OrderState | None, OrderState, str]] = frozenset(
    {
        (None, _S.PLACED, "placed"),
        (None, _S.REFUSED, "out-of-stock"),
        (_S.PLACED, _S.PAYMENT_PENDING, "payment-requested"),
        (_S.CANCELLED, _S.CONFIRMED, _T.PAYMENT_AUTHORIZED.value),
        (_S.CANCELLED, _S.CANCELLED, _T.CANCEL.value),
        (_S.CANCELLED, _S.CANCELLED, LATE_PAYMENT_VOIDED),
        *((state, step.to, trigger.value) for (state, trigger), step in TABLE.items() if step.to is not state),
    }
)

#: Orders in these states hold their pieces in `stock.reserved`.
CLAIMING = frozenset({_S.PLACED, _S.PAYMENT_PENDING, _S.CONFIRMED})


def step(state: OrderState, trigger: Trigger) -> OrderStep | None:
    """What the table says; None where it says nothing."""
    return TABLE.get((state, trigger))


def has_obeyed(command: Trigger, state: OrderState, *, was_delivered: bool) -> bool:
    """Whether an order has obeyed the command before: repeating it is answered as it was the first time.

    `was_delivered` if its history has a step to DELIVERED. Refunds have ids of their own: not for them.
    """
    return state in _OBEYED[command] or (command is Trigger.DELIVER and was_delivered)


def late_payment(last_reason: str, *, stock_is_free: bool) -> OrderStep:
    """A payment authorised after the order was cancelled: only an expired hold may be taken up again.

    `last_reason` is the cancellation's. Whoever cancelled, or was declined, doesn't want the order any more.
    """
    if last_reason == Trigger.HOLD_EXPIRED and stock_is_free:
        return RETAKEN
    return TABLE[OrderState.CANCELLED, Trigger.PAYMENT_AUTHORIZED]


def give_up(state: OrderState, last_reason: str) -> OrderStep | None:
    """The step of who cancels an order whose hold has expired; None for any other order."""
    return GIVEN_UP if state is OrderState.CANCELLED and last_reason == Trigger.HOLD_EXPIRED else None


def forbid(state: OrderState, command: Trigger) -> Refusal:
    """Why the table forbids a command, in words."""
    permitted = sorted({before.value for before, trigger in TABLE if trigger is command})
    return Refusal(
        NOT_PERMITTED,
        "action",
        f"an order that is {state.value} can't {command.value}; it must be {' or '.join(permitted)}",
    )


@dataclass(frozen=True, slots=True)
class StepTaken:
    """One entry of an order's history."""

    version: int
    from_state: OrderState | None
    to_state: OrderState
    reason: str
    detail: str
    #: Microseconds since 1970, UTC.
    at: int
    #: Of the step to SHIPPED, if the storefront has named one.
    parcel: Parcel | None = None


#: Of the words that a caller gives for a command.
REASON_CHARS_MAX = 500
#: Reasons of an order's first steps.
PLACED, PAYMENT_REQUESTED, OUT_OF_STOCK = "placed", "payment-requested", "out-of-stock"


def birth(at: int) -> list[StepTaken]:
    """The first steps of an order whose stock is claimed, at `at` in microseconds since 1970."""
    return [
        StepTaken(1, None, OrderState.PLACED, PLACED, "", at),
        StepTaken(2, OrderState.PLACED, OrderState.PAYMENT_PENDING, PAYMENT_REQUESTED, "", at),
    ]


def is_walk(history: list[StepTaken]) -> bool:
    """Whether a history could have come from the table: versions 1, 2, 3 …, each from where the last one ended.

    The reasons count too: whoever cancelled never finds the order confirmed, and a late payment goes back once.
    """
    before: OrderState | None = None
    last_reason = ""
    for version, taken in enumerate(history, 1):
        if taken.version != version or taken.from_state is not before:
            return False
        if (before, taken.to_state, taken.reason) not in WALKS:
            return False
        if before is OrderState.CANCELLED and last_reason != Trigger.HOLD_EXPIRED:
            is_noted = taken.reason == LATE_PAYMENT_VOIDED != last_reason
            if not is_noted:
                return False
        before, last_reason = taken.to_state, taken.reason
    return before is not None
