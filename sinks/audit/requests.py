"""Every request in the log up to the agent's position, and what became of it: exactly one thing."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from confluent_kafka import Message

from domain import credit
from domain.invoice import KINDS, check_order_id, price
from domain.issuing import CREDIT_NOTE, NOT_INVOICED, OrderKey
from domain.numbering import SELLER_ID
from domain.refusals import UNKNOWN_SELLER, Refusal
from schemas.catalog import CREDIT_NOTE_REQUEST, INVOICE_REQUESTS
from schemas.codec import DecodeError, decode
from sinks.audit import statements
from sinks.audit.outcomes import OutcomeCheck, Refused, judge_surplus, judge_undecodable
from sinks.audit.standing import Standing, invoices_of


class _Request(NamedTuple):
    """A record of the log; `body` and `identity` are None where it can't be decoded or its identity can't be stored."""

    offset: int
    key: bytes | None
    value: bytes | None
    body: dict[str, Any] | None
    identity: OrderKey | None


class RequestCheck(OutcomeCheck):
    """Invoice requests, each of which leads to a number, a refusal or a dead letter, or repeats another."""

    topic = INVOICE_REQUESTS.name
    noun = "requests"
    made = "issued"
    count_made = statements.COUNT_ISSUED

    def _check_batch(self, partition: int, messages: Sequence[Message], found: Counter[str]) -> None:
        requests = [_request(message) for message in messages]
        identities = {request.identity for request in requests if request.identity is not None}
        # A credit note's fate hangs on the invoice too.
        invoices = invoices_of(self._snapshot, identities | {identity.invoice for identity in identities})
        refused = self._refused(partition, [request.offset for request in requests])
        for request in requests:
            self._report.counts["requests"] += 1
            dead = self._dead_letters.matches(partition, request.offset, request.key, request.value)
            refusal = refused.get(request.offset)
            identity = request.identity
            invoice = invoices.get(identity) if identity is not None else None
            preceding = invoices.get(identity.invoice) if identity is not None else None
            found["dead"] += len(dead)
            found["refused"] += refusal is not None
            found["issued"] += _is_made_from(invoice, partition, request)
            outcome, wrong = _judge(request, partition, dead, refusal, invoice, preceding)
            self._report.outcomes[outcome] += 1
            if wrong:
                order = f" (order {_named(identity)})" if identity is not None else ""
                self._report.add("outcome", f"{self.topic}/{partition} offset {request.offset}{order}", wrong)


def _named(identity: OrderKey) -> str:
    refund = f" refund {identity.refund_id}" if identity.refund_id else ""
    return f"{identity.seller_id}/{identity.order_id}{refund}"


def _request(message: Message) -> _Request:
    key, value = message.key(), message.value()
    offset = message.offset() or 0
    try:
        schema, body = decode(value, *INVOICE_REQUESTS.schemas, bytes_max=INVOICE_REQUESTS.value_bytes_max)
    except DecodeError:
        return _Request(offset, key, value, None, None)
    if schema is CREDIT_NOTE_REQUEST:
        identity = OrderKey(body["seller_id"], body["order_id"], CREDIT_NOTE, body["refund_id"])
        storable = not credit.check_refund_id(identity.refund_id)
    else:
        identity = OrderKey(body["seller_id"], body["order_id"], body["kind"])
        storable = identity.kind in KINDS
    if not storable or not SELLER_ID.fullmatch(identity.seller_id) or check_order_id(identity.order_id):
        return _Request(offset, key, value, None, None)
    return _Request(offset, key, value, body, identity)


def _is_made_from(invoice: Standing | None, partition: int, request: _Request) -> bool:
    return invoice is not None and (invoice.partition, invoice.offset) == (partition, request.offset)


def _judge(
    request: _Request,
    partition: int,
    dead: list[bool],
    refusal: Refused | None,
    invoice: Standing | None,
    preceding: Standing | None,
) -> tuple[str, str]:
    """What became of a request, and what is wrong with that; empty if nothing."""
    too_many = judge_surplus(dead, refusal, "an invoice" if _is_made_from(invoice, partition, request) else None)
    if too_many is not None:
        return too_many
    if request.body is None:
        return judge_undecodable(dead)
    if dead:
        return "wrong", "can be decoded, yet has a dead letter"
    if refusal is not None:
        its = OrderKey(*(refusal[name] for name in OrderKey._fields))
        if its != request.identity:
            return "wrong", f"its refusal is another order's: {_named(its)}"
    if refusal is not None and refusal["reason"] == NOT_INVOICED:
        return _judge_not_invoiced(request, partition, preceding)
    return _judge_decoded(request, partition, refusal, invoice)


def _judge_not_invoiced(request: _Request, partition: int, preceding: Standing | None) -> tuple[str, str]:
    if request.identity is None or request.identity.kind != CREDIT_NOTE:
        return "wrong", f"was rejected as {NOT_INVOICED}, but asks for no credit note"
    if preceding is not None and preceding.partition == partition and preceding.offset < request.offset:
        return "wrong", f"was rejected as {NOT_INVOICED}, but its order's invoice is of offset {preceding.offset}"
    return "rejected", ""


def _judge_decoded(
    request: _Request, partition: int, refusal: Refused | None, invoice: Standing | None
) -> tuple[str, str]:
    body = request.body or {}
    is_credit_note = request.identity is not None and request.identity.kind == CREDIT_NOTE
    whose, what = ("refund", "credit note") if is_credit_note else ("order", "invoice")
    priced = credit.check(body) if is_credit_note else price(body)
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
        return "lost", f"its {whose} has no {what}"
    if invoice.partition == partition and request.offset < invoice.offset:
        return "wrong", f"its {whose}'s {what} was made from the later offset {invoice.offset}"
    same = invoice.content_sha256 == priced.content_sha256
    if _is_made_from(invoice, partition, request):
        return ("issued", "") if same else ("wrong", f"its {what} was made from other content")
    if same:
        return ("repeat", "") if refusal is None else ("wrong", f"repeats its {whose}, and was called a conflict")
    if outcome == "conflict" and refusal is not None and refusal["content_sha256"] == priced.content_sha256:
        return "conflict", ""
    return "wrong", f"has other content than its {whose}'s {what}, and no conflict was recorded"
