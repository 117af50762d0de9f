"""Every request in the log up to the agent's position, and what became of it: exactly one thing."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from confluent_kafka import Message

from domain.invoice import KINDS, check_order_id, price
from domain.numbering import SELLER_ID
from domain.refusals import UNKNOWN_SELLER, Refusal
from schemas.catalog import INVOICE_REQUEST, INVOICE_REQUESTS
from schemas.codec import DecodeError, decode
from sinks.audit import statements
from sinks.audit.dead_letters import DeadLetters
from sinks.audit.log import Log
from sinks.audit.report import Report
from sinks.audit.snapshot import Snapshot

_TOPIC = INVOICE_REQUESTS.name


class _Request(NamedTuple):
    """A record of the log; `body` is None where it can't be decoded or holds no identity that could be stored."""

    offset: int
    key: bytes | None
    value: bytes | None
    body: dict[str, Any] | None

    @property
    def identity(self) -> tuple[str, str, str]:
        body = self.body or {}
        return body["seller_id"], body["order_id"], body["kind"]


class _Standing(NamedTuple):
    """An order's invoice: what it was made from, and where that stands."""

    content_sha256: bytes
    partition: int
    offset: int


class RequestCheck:
    """Re-reads the requests and looks up what became of each."""

    def __init__(self, snapshot: Snapshot, log: Log, report: Report, dead_letters: DeadLetters) -> None:
        self._snapshot = snapshot
        self._log = log
        self._report = report
        self._dead_letters = dead_letters

    def check(self, partition: int, position: int) -> None:
        """Check the records of a partition before `position`."""
        first, _ = self._log.bounds(_TOPIC, partition)
        if first:
            self._report.counts["requests deleted from the log"] += first
        found = {"issued": 0, "refused": 0, "dead": 0}
        for messages in self._log.read(_TOPIC, partition, position):
            self._check_batch(partition, [_request(message) for message in messages], found)
        held = {
            "issued": self._snapshot.count(statements.COUNT_ISSUED, partition=partition, first=first),
            "refused": self._snapshot.count(statements.COUNT_REFUSED, topic=_TOPIC, partition=partition, first=first),
            "dead": self._dead_letters.count(partition, first),
        }
        for outcome, count in held.items():
            if count != found[outcome]:
                what = f"the ledger holds {count} {outcome}, the log {found[outcome]} requests that led to it"
                self._report.add("outcome", f"{_TOPIC}/{partition}", what)

    def _check_batch(self, partition: int, requests: Sequence[_Request], found: dict[str, int]) -> None:
        invoices = self._invoices([request.identity for request in requests if request.body is not None])
        refused = {
            row["log_offset"]: row
            for row in self._snapshot.dicts(
                statements.REFUSED_BY_OFFSET,
                topic=_TOPIC,
                partition=partition,
                offsets=[request.offset for request in requests],
            )
        }
        for request in requests:
            self._report.counts["requests"] += 1
            dead = self._dead_letters.matches(partition, request.offset, request.key, request.value)
            refusal = refused.get(request.offset)
            invoice = invoices.get(request.identity) if request.body is not None else None
            issued_here = invoice is not None and invoice[1:] == (partition, request.offset)
            found["dead"] += len(dead)
            found["refused"] += refusal is not None
            found["issued"] += issued_here
            outcome, wrong = _judge(request, partition, dead, refusal, invoice)
            self._report.outcomes[outcome] += 1
            if wrong:
                order = f" (order {'/'.join(request.identity[:2])})" if request.body is not None else ""
                self._report.add("outcome", f"{_TOPIC}/{partition} offset {request.offset}{order}", wrong)

    def _invoices(self, identities: Sequence[tuple[str, str, str]]) -> dict[tuple[str, str, str], _Standing]:
        if not identities:
            return {}
        sellers, orders, kinds = zip(*set(identities), strict=True)
        rows = self._snapshot.rows(
            statements.INVOICES_BY_ORDER, seller_ids=list(sellers), order_ids=list(orders), kinds=list(kinds)
        )
        return {(seller, order, kind): _Standing(*standing) for seller, order, kind, *standing in rows}


def _request(message: Message) -> _Request:
    key, value = message.key(), message.value()
    offset = message.offset() or 0
    try:
        _, body = decode(value, INVOICE_REQUEST, bytes_max=INVOICE_REQUESTS.value_bytes_max)
    except DecodeError:
        return _Request(offset, key, value, None)
    storable = body["kind"] in KINDS and SELLER_ID.fullmatch(body["seller_id"]) and not check_order_id(body["order_id"])
    return _Request(offset, key, value, body if storable else None)


def _judge(
    request: _Request, partition: int, dead: list[bool], refusal: dict[str, Any] | None, invoice: _Standing | None
) -> tuple[str, str]:
    """What became of a request, and what is wrong with that; empty if nothing."""
    outcomes = [f"{len(dead)} dead letters"] if dead else []
    outcomes += [f"a refusal ({refusal['outcome']})"] if refusal is not None else []
    issued_here = invoice is not None and invoice[1:] == (partition, request.offset)
    outcomes += ["an invoice"] if issued_here else []
    if len(outcomes) > 1 or len(dead) > 1:
        return "wrong", f"has more than one outcome: {', '.join(outcomes)}"
    if request.body is None:
        if not dead:
            return "lost", "can't be decoded, and has no dead letter"
        return ("dead letter", "") if all(dead) else ("wrong", "its dead letter holds other bytes")
    if dead:
        return "wrong", "can be decoded, yet has a dead letter"
    return _judge_decoded(request, partition, refusal, invoice)


def _judge_decoded(
    request: _Request, partition: int, refusal: dict[str, Any] | None, invoice: _Standing | None
) -> tuple[str, str]:
    body = request.body or {}
    if refusal is not None and (refusal["seller_id"], refusal["order_id"], refusal["kind"]) != request.identity:
        return "wrong", f"its refusal is another order's: {refusal['seller_id']}/{refusal['order_id']}"
    priced = price(body)
    outcome = refusal["outcome"] if refusal is not None else None
    if isinstance(priced, Refusal):
        if outcome == "rejected" and refusal is not None and refusal["reason"] == priced.reason:
            return "rejected", ""
        return "wrong", f"breaks a rule ({priced}), and was not rejected for it"
    if outcome == "rejected" and refusal is not None:
        # Whether the seller was there then can't be told now.
        known = refusal["reason"] == UNKNOWN_SELLER
        return ("rejected", "") if known else ("wrong", f"was rejected for {refusal['reason']}, but breaks no rule")
    if invoice is None:
        return "lost", "its order has no invoice"
    if invoice.partition == partition and request.offset < invoice.offset:
        return "wrong", f"its order's invoice was made from the later offset {invoice.offset}"
    same = invoice.content_sha256 == priced.content_sha256
    if invoice.partition == partition and request.offset == invoice.offset:
        return ("issued", "") if same else ("wrong", "its invoice was made from other content")
    if same:
        return ("repeat", "") if refusal is None else ("wrong", "repeats its order, and was called a conflict")
    if outcome == "conflict" and refusal is not None and refusal["content_sha256"] == priced.content_sha256:
        return "conflict", ""
    return "wrong", "has other content than its order's invoice, and no conflict was recorded"
