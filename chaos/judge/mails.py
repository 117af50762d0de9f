"""Each order of this run that was confirmed is confirmed by mail at least once, and under one Message-ID."""

from collections import defaultdict

from chaos.judge.evidence import Evidence
from chaos.record import Kind

RULE = "mails"


def judge_mails(evidence: Evidence) -> None:
    """Checks what the mail server has taken, if the run had mails."""
    if evidence.record.mailed is None:
        return
    verdict = evidence.verdict
    asked = {order_id: each for (kind, order_id), each in evidence.record.asked.items() if kind is Kind.CHECKOUT}
    by_order: dict[str, set[str]] = defaultdict(set)
    for mail in evidence.record.mailed:
        for order_id in set(mail.subject.split()) & asked.keys():
            verdict.counts["mails"] += 1
            by_order[order_id].add(mail.message_id)
            if asked[order_id].bodies[0]["buyer"].get("email", "") not in mail.to:
                verdict.add(RULE, order_id, f"its mail went to {mail.to}")
    for order_id in asked:
        steps = evidence.topics.steps.get((evidence.ledger.seller_id, order_id), [])
        is_confirmed = any(step.after == "CONFIRMED" for step in steps)
        mails = by_order.get(order_id, set())
        if is_confirmed and not mails:
            verdict.add(RULE, order_id, "was confirmed, and no mail says so")
        elif mails and not is_confirmed:
            verdict.add(RULE, order_id, "was never confirmed, and a mail says so")
        if len(mails) > 1:
            verdict.add(RULE, order_id, f"is confirmed by mails with {len(mails)} Message-IDs")
