"""What a payment's outcome means for its order, whoever learns of it: from the attempt itself, or from its event."""

from datetime import datetime

from prometheus_client import Counter

from domain.credit import CANCELLATION
from domain.moments import micros
from domain.order import OrderIdentity, Trigger
from domain.payment import Action, Attempt, AttemptState, Finish
from domain.records import PaymentAttemptFinished
from runtime.metrics import REGISTRY
from schemas import catalog
from schemas.codec import encode
from streams.order_book import OrderBook

#: Request ids of refunds begin with it.
REFUND = f"{Action.REFUND}:"
STEPS = Counter(
    "gapless_order_inputs_total",
    "Triggers on orders, by whether the table permitted them.",
    ["trigger", "outcome"],
    registry=REGISTRY,
)

#: Every outcome that there is, and what that of an authorisation is to its order.
AUTHORIZED = {
    AttemptState.SUCCEEDED: Trigger.PAYMENT_AUTHORIZED,
    AttemptState.DECLINED: Trigger.PAYMENT_DECLINED,
    AttemptState.FAILED: Trigger.PAYMENT_FAILED,
}


def trigger_of(action: Action, outcome: AttemptState) -> Trigger | None:
    """What `OrderBook.load` must know of an outcome; None stands for that of anything but an authorisation."""
    return AUTHORIZED[outcome] if action is Action.AUTHORIZE else None


def name_of(action: Action, outcome: AttemptState) -> str:
    """What metrics and traces call the outcome."""
    return trigger_of(action, outcome) or action


def pay(
    book: OrderBook, order: OrderIdentity, action: Action, request_id: str, outcome: AttemptState, reason: str
) -> bool:
    """Move the order, which is loaded, or settle its refund; whether it meant anything. Again, it means nothing."""
    trigger = trigger_of(action, outcome)
    if trigger is not None:
        return book.move(order, trigger, reason)
    succeeded = outcome is AttemptState.SUCCEEDED
    if action is Action.VOID:
        return book.settle_refund(order, CANCELLATION, succeeded=succeeded)
    if action is Action.REFUND:
        return book.settle_refund(order, request_id.removeprefix(REFUND), succeeded=succeeded)
    return False


def finished_event(attempt: Attempt, finish: Finish, provider: str, now: datetime) -> bytes:
    """`PaymentAttemptFinished`, encoded."""
    event: PaymentAttemptFinished = {
        "seller_id": attempt.seller_id,
        "order_id": attempt.order_id,
        "request_id": attempt.request_id,
        "action": attempt.action.value,
        "outcome": finish.state.value,
        "amount_minor": attempt.amount_minor,
        "currency": attempt.currency,
        "provider": provider,
        "reference": finish.reference,
        "reason": finish.reason,
        "tries": attempt.tries,
        "occurred_at": micros(now),
    }
    return encode(catalog.PAYMENT_ATTEMPT_FINISHED, event)
