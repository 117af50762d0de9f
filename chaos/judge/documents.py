"""Each invoice has exactly one document, as its event says; each invalid record became a dead letter."""

import hashlib
from collections import Counter

from chaos.judge.evidence import Evidence
from chaos.judge.topics import Origin

RULE, DEAD, REDRIVEN = "documents", "dead letters", "redriven"


def judge_documents(evidence: Evidence) -> None:
    """Checks all rows and events, and the bytes of the documents that were fetched."""
    verdict = evidence.verdict
    rows = {(row.series_id, row.number): row for row in evidence.ledger.invoices}
    for row in rows.values():
        if row.document_sha256 is None:
            verdict.add(RULE, row.name, "has no document")
        else:
            verdict.counts["documents"] += 1
    told = Counter((each.series_id, each.number, each.sha256, each.size_bytes) for each in evidence.topics.stored)
    wanted = Counter(
        (row.series_id, row.number, row.document_sha256, row.document_size or 0)
        for row in rows.values()
        if row.document_sha256 is not None
    )
    evidence.same(RULE, "the document", told, wanted)
    logos = {(each.series_id, each.number): each.logo_sha256 for each in evidence.topics.issued}
    for key, answer in evidence.shown.documents.items():
        verdict.counts["documents looked at over HTTP"] += 1
        where = f"{key[0]}/{key[1]}"
        if answer.status != 200 or not answer.payload.startswith(b"%PDF"):
            verdict.add(RULE, where, f"is shown as {answer.status} {answer.payload[:60]!r}")
            continue
        sha256 = hashlib.sha256(answer.payload).hexdigest()
        stored = rows[key].document_sha256 if key in rows else None
        if sha256 != stored or answer.headers.get("etag", "").strip('"') != sha256:
            verdict.add(RULE, where, f"its bytes have {sha256}, in the ledger is {stored}")
        logo = logos.get(key)
        if logo is not None:
            _judge_logo(evidence, where, answer.payload, logo)


def _judge_logo(evidence: Evidence, where: str, document: bytes, logo_sha256: str) -> None:
    """Check that the document contains the logo's file: sellers under test have JPEGs, which PDFs embed unchanged."""
    evidence.verdict.counts["logos looked for"] += 1
    logo = evidence.ledger.logos.get(logo_sha256, b"")
    if hashlib.sha256(logo).hexdigest() != logo_sha256:
        evidence.verdict.add(RULE, where, f"its event names the logo {logo_sha256}, which Postgres does not have")
    elif logo not in document:
        evidence.verdict.add(RULE, where, f"does not contain the logo {logo_sha256} of its event")


def judge_dead_letters(evidence: Evidence) -> None:
    """Each invalid record has a dead letter with its exact bytes, one from each agent that reads the topic."""
    verdict, topics = evidence.verdict, evidence.topics
    for origin in evidence.record.garbage:
        where = _words(origin)
        if not topics.dead.get(origin):
            verdict.add(DEAD, where, "has no dead letter")
        if origin not in topics.garbage:
            verdict.add(DEAD, where, "was acknowledged, and does not exist")
        elif any(held != topics.garbage[origin] for _, held in topics.dead.get(origin, ())):
            verdict.add(DEAD, where, "its dead letter has other bytes")
    for origin, letters in topics.dead.items():
        verdict.counts["dead letters"] += len(letters)
        agents = sorted(agent for agent, _ in letters)
        if len(set(agents)) != len(agents):
            verdict.add(DEAD, _words(origin), f"has {len(agents)} dead letters, from {agents}")


def judge_redriven(evidence: Evidence) -> None:
    """Each redriven order is recorded as redriven and has one effect, however often it was sent and whatever failed."""
    verdict, ledger, invoices = evidence.verdict, evidence.ledger, evidence.invoices
    for origin, order_id in evidence.record.redriven.items():
        verdict.counts["redriven orders"] += 1
        if (states := ledger.letters.get(origin, [])) != ["redriven"]:
            verdict.add(REDRIVEN, _words(origin), f"was sent again, and is recorded as {states}")
        if (effects := len(invoices.get((ledger.seller_id, order_id), []))) != 1:
            verdict.add(REDRIVEN, order_id, f"was sent again, and has {effects} invoices")


def _words(origin: Origin) -> str:
    topic, partition, offset = origin
    return f"{topic}/{partition} offset {offset}"
