"""An order's events form a path that its states permit, and every event of every kind exists once."""

from collections import Counter
from itertools import pairwise

from chaos.judge.evidence import Evidence
from chaos.judge.ledger import Order, Step
from chaos.judge.topics import INVENTORY_EVENTS, INVOICE_EVENTS, ORDER_EVENTS, PAYMENT_EVENTS, Stepped

RULE, ONCE = "steps", "once"
#: As drawn in docs/architecture.md.
_PERMITTED = frozenset(
    {
        (None, "PLACED"),
        (None, "REFUSED"),
        ("PLACED", "PAYMENT_PENDING"),
        ("PAYMENT_PENDING", "CONFIRMED"),
        ("PAYMENT_PENDING", "CANCELLED"),
        ("CONFIRMED", "SHIPPED"),
        ("CONFIRMED", "CANCELLED"),
        ("SHIPPED", "DELIVERED"),
        ("SHIPPED", "REFUNDED"),
        ("DELIVERED", "REFUNDED"),
        # Only after the hold expired: a late payment, or a cancellation by the storefront.
        ("CANCELLED", "CONFIRMED"),
        ("CANCELLED", "CANCELLED"),
    }
)
#: Topics whose records are keyed by order, except for changes of stock by sellers.
_BY_ORDER = frozenset((ORDER_EVENTS, PAYMENT_EVENTS, INVOICE_EVENTS, INVENTORY_EVENTS))


def judge_steps(evidence: Evidence) -> None:
    """Checks every order's history and events."""
    verdict = evidence.verdict
    for order in evidence.ledger.orders.values():
        told = evidence.topics.steps.get(order.key, [])
        verdict.counts["order events"] += len(told)
        what = _wrong_history(order)
        if what:
            verdict.add(RULE, order.order_id, what)
        what = _wrong_path(told)
        if what:
            verdict.add(RULE, order.order_id, what)
        elif [(each.before, each.after, each.version, each.reason) for each in told] != _expected(order):
            verdict.add(RULE, order.order_id, f"its events say {_words(told)}, its history {_words(order.history)}")
        for each in told:
            if each.gross_minor not in (None, order.gross_minor):
                verdict.add(RULE, order.order_id, f"is of {order.gross_minor}, but was placed with {each.gross_minor}")


def _wrong_history(order: Order) -> str:
    history = order.history
    if not history or order.version != len(history) or history[-1].after != order.state:
        return f"is {order.state} in version {order.version}, but its history is {_words(history)}"
    before, reason = None, ""
    for version, step in enumerate(history, 1):
        noted = step.reason == "late-payment-voided" != reason
        late = before == "CANCELLED" and reason != "hold-expired" and not noted
        if (step.version, step.before) != (version, before) or (before, step.after) not in _PERMITTED or late:
            return f"its history is impossible: {_words(history)}"
        before, reason = step.after, step.reason
    return ""


def _wrong_path(told: list[Stepped]) -> str:
    """Each step begins in the state in which the step before it ended."""
    for before, after in pairwise(told):
        if (after.before, after.version) != (before.after, before.version + 1):
            return f"its events form no path: {_words(told)}"
    return "" if not told or not told[0].before else f"its events begin with {told[0].before}"


def _expected(order: Order) -> list[tuple[str, str, int, str]]:
    if order.state == "REFUSED":
        return [("", "REFUSED", 1, "out-of-stock")]
    steps = [(step.before or "", step.after, step.version, step.reason) for step in order.history[2:]]
    return [("", "PAYMENT_PENDING", 2, "placed"), *steps]


def _words(steps: list[Stepped] | tuple[Step, ...]) -> str:
    return ", ".join(f"{step.version} {step.before or ''}→{step.after} ({step.reason})" for step in steps) or "nothing"


def judge_once(evidence: Evidence) -> None:
    """Each row of the ledger has exactly one event in the topics, and each event has a row."""
    verdict, ledger, topics = evidence.verdict, evidence.ledger, evidence.topics
    births = Counter({key: sum(not each.before for each in told) for key, told in topics.steps.items()})
    evidence.same(ONCE, "the birth of", births, Counter(ledger.orders.keys()))
    finished = Counter(
        ((each.seller_id, each.order_id), each.request_id, each.state, each.amount_minor)
        for each in ledger.attempts
        if each.state != "open"
    )
    evidence.same(ONCE, "the end of the payment", topics.finished, finished)
    # Without authorisations, which are requested by the order's first event, and refunds in the provider's dashboard.
    asked = Counter(
        ((each.seller_id, each.order_id), each.request_id)
        for each in ledger.attempts
        if each.request_id != "authorize" and not each.request_id.startswith("refund:provider.")
    )
    evidence.same(ONCE, "the request for the payment", topics.asked, asked)
    refused = Counter(
        ((each.seller_id, each.order_id), each.kind, each.outcome, each.topic, each.partition, each.log_offset)
        for each in ledger.refused
    )
    evidence.same(ONCE, "the refusal of", topics.refused, refused)
    requested = Counter((order.key, "") for order in ledger.orders.values() if order.was("CONFIRMED"))
    requested.update(
        ((each.seller_id, each.order_id), each.refund_id) for each in ledger.refunds if each.state == "done"
    )
    evidence.same(ONCE, "the request for the invoice or credit note of", topics.requested, requested)
    for (topic, key), partitions in topics.partitions.items():
        if topic in _BY_ORDER and key[1] and len(partitions) > 1:
            verdict.add(RULE, f"{key[1]} in {topic}", f"its events are in the partitions {sorted(partitions)}")
