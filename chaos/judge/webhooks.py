"""Each event of this run's orders arrived at the receiver at least once, and each order's in their order."""

from collections import defaultdict

from chaos.judge.evidence import Evidence
from chaos.record import Hooked, Kind

RULE = "webhooks"


def judge_webhooks(evidence: Evidence) -> None:
    """Checks what a receiver has accepted, if the run had one."""
    hooked = evidence.record.hooked
    if hooked is None:
        return
    verdict = evidence.verdict
    verdict.counts["webhooks"] += len(hooked)
    by_order: dict[str, list[Hooked]] = defaultdict(list)
    for each in hooked:
        by_order[each.order_id].append(each)
        if not each.signed:
            verdict.add(RULE, each.webhook_id, "is not signed with the endpoint's secret")
    for order_id, its in by_order.items():
        firsts = list(dict.fromkeys(each.sequence for each in its))
        if firsts != list(range(1, len(firsts) + 1)):
            verdict.add(RULE, order_id, f"its webhooks came in the order {firsts}")
        ids = {(each.sequence, each.webhook_id) for each in its}
        if len(ids) != len(firsts):
            verdict.add(RULE, order_id, f"{len(firsts)} webhooks came under {len(ids)} ids")
    _judge_complete(evidence, by_order)


def _judge_complete(evidence: Evidence, by_order: dict[str, list[Hooked]]) -> None:
    """Compare with the topics: steps by their version, and numbers by their orders."""
    seller_id = evidence.ledger.seller_id
    told = {order_id: {(each.type, each.version) for each in its} for order_id, its in by_order.items()}
    ours = {order_id for kind, order_id in evidence.record.asked if kind is Kind.CHECKOUT}
    for order_id in ours:
        for step in evidence.topics.steps.get((seller_id, order_id), []):
            name = "placed" if step.reason == "placed" else step.after.lower()
            version = None if name == "refused" else step.version
            if (f"order.{name}", version) not in told.get(order_id, ()):
                evidence.verdict.add(RULE, order_id, f"nothing arrived of {name} in version {step.version}")
    asked = {order_id for _, order_id in evidence.record.asked}
    for issued in evidence.topics.issued:
        name = "credit_note.issued" if issued.refund_id else "invoice.issued"
        if issued.order[0] == seller_id and issued.order[1] in asked:
            evidence.verdict.counts["webhooks of numbers"] += 1
            if (name, None) not in told.get(issued.order[1], ()):
                evidence.verdict.add(RULE, issued.order[1], f"nothing arrived of {name}")
