"""The judge: compares what was promised with what a customer can read, without using the product's code."""

from collections.abc import Callable

import psycopg
from confluent_kafka import KafkaException

from chaos.judge.catalogue import judge_catalogue
from chaos.judge.documents import judge_dead_letters, judge_documents, judge_redriven
from chaos.judge.evidence import Evidence, connect, gather
from chaos.judge.journal import judge_journal
from chaos.judge.mails import judge_mails
from chaos.judge.money import judge_money
from chaos.judge.numbers import judge_numbers
from chaos.judge.promises import judge_promises
from chaos.judge.steps import judge_once, judge_steps
from chaos.judge.stock import judge_stock
from chaos.judge.verdict import Access, Verdict
from chaos.judge.web import UnreachableError
from chaos.judge.webhooks import judge_webhooks
from chaos.record import Kind, Record

RULES: tuple[Callable[[Evidence], None], ...] = (
    judge_promises,
    judge_numbers,
    judge_journal,
    judge_once,
    judge_steps,
    judge_stock,
    judge_catalogue,
    judge_money,
    judge_documents,
    judge_dead_letters,
    judge_redriven,
    judge_webhooks,
    judge_mails,
)
LOOKED = "looked"


def judge(access: Access, record: Record) -> Verdict:
    """Judge a stack that has drained. Blocks.

    The rules about the ledger apply to everything in it; those about promises, to the record's run. Evidence that can't
    be read is a violation, too.
    """
    try:
        with connect(access) as connection:
            evidence = gather(access, record, connection)
    except (UnreachableError, psycopg.Error, KafkaException) as error:
        verdict = Verdict()
        verdict.add(LOOKED, "nothing", f"{type(error).__name__}: {' '.join(str(error).split())}")
        return verdict
    return weigh(evidence)


def weigh(evidence: Evidence) -> Verdict:
    """Apply all rules to this evidence."""
    for rule in RULES:
        rule(evidence)
    _judge_looks(evidence)
    return evidence.verdict


def _judge_looks(evidence: Evidence) -> None:
    """Report rules that examined nothing although the record requires it: they would find nothing wrong."""
    needed = {"series"} if evidence.ledger.series else set()
    if not evidence.ledger.seller_id:
        evidence.verdict.add(LOOKED, "sellers", "no seller in the ledger has the API key")
    accepted = [each.kind for each in evidence.record.asked.values() if each.accepted]
    if Kind.INVOICE in accepted:
        needed |= {"invoices looked at over HTTP", "contents compared", "numbers", "issued events", "journal rows"}
        needed |= {"records read", "documents", "documents looked at over HTTP", "numbers looked at over HTTP"}
        if any(each.logo_sha256 for each in evidence.topics.issued):
            needed.add("logos looked for")
    if Kind.CHECKOUT in accepted:
        needed |= {"orders looked at over HTTP", "order events", "records read", "journal rows"}
    if evidence.record.stock:
        needed |= {"stock looked at over HTTP", "stock events"}
    if evidence.record.offered:
        needed |= {"products looked at over HTTP", "product events", "products shown to buyers", "products found"}
    if evidence.record.garbage:
        needed.add("dead letters")
    if evidence.record.hooked is not None:
        needed |= {"webhooks", "webhooks of numbers"}
    if evidence.record.mailed is not None:
        needed.add("mails")
    for what in sorted(needed):
        if not evidence.verdict.counts[what]:
            evidence.verdict.add(LOOKED, what, "none were seen")
