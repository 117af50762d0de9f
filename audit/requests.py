"""Every invoice request in the log up to the agent's position has exactly one outcome."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from hashlib import sha256
from typing import NamedTuple, TypeAlias

from confluent_kafka import Message

from audit import order_statements, statements
from audit.issued_invoices import IssuedInvoice, invoices_of
from audit.outcomes import (
    UNDECODABLE,
    OutcomeCheck,
    RefusedRequestRow,
    judge_stopped,
    judge_stopped_in_error,
    judge_surplus,
)
from domain import credit
from domain.crediting import CheckedCredit, check_credit
from domain.external import check_external, external_invoice
from domain.invoice import KINDS, Priced, check_order_id, price
from domain.issuing import CREDIT_NOTE, INVOICE, NOT_INVOICED, InvoiceIdentity
from domain.numbering import SELLER_ID
from domain.records import CreditNoteRequest, CreditRequest, InvoiceRequest
from domain.refusals import (
    ALREADY_INVOICED,
    ALREADY_ORDERED,
    CREDIT_TOO_LARGE,
    INVALID_FIELD,
    TAX_RULE,
    TOTALS_DISAGREE,
    UNKNOWN_SELLER,
    Refusal,
)
from schemas import placement
from schemas.catalog import CREDIT_NOTE_REQUEST, CREDIT_REQUEST, INVOICE_REQUEST, INVOICE_REQUESTS
from schemas.codec import DecodeError, decode

_Body: TypeAlias = InvoiceRequest | CreditNoteRequest | CreditRequest
#: What depends on the seller, the owner of the order id, or what was credited before, as it was at the time.
_BY_CIRCUMSTANCE = {
    "kind": (UNKNOWN_SELLER, ALREADY_ORDERED, ALREADY_INVOICED, TAX_RULE),
    "refund_id": (UNKNOWN_SELLER, ALREADY_ORDERED, ALREADY_INVOICED, TAX_RULE),
    "credit_note_id": (UNKNOWN_SELLER, ALREADY_ORDERED, CREDIT_TOO_LARGE, INVALID_FIELD, TOTALS_DISAGREE),
}


class _Request(NamedTuple):
    """A record of the log; `body` and `identity` are None if it can't be decoded or its identity can't be stored."""

    offset: int
    key: bytes | None
    value: bytes | None
    #: Why it is in the wrong place; None if it isn't.
    stray: str | None
    body: _Body | None
    identity: InvoiceIdentity | None


class RequestCheck(OutcomeCheck):
    """Invoice requests, each of which leads to a number, a refusal or a dead letter, or repeats another."""

    topic = INVOICE_REQUESTS.name
    noun = "requests"
    agent = "invoices"
    made = "issued"
    count_made = statements.COUNT_ISSUED

    def _check_batch(self, partition: int, messages: Sequence[Message], found: Counter[str]) -> None:
        requests = [_request(message, self._snapshot.partitions) for message in messages]
        identities = {request.identity for request in requests if request.identity is not None}
        # The outcome of a credit note request depends on the order's invoice, too.
        invoices = invoices_of(self._snapshot, identities | {identity.invoice for identity in identities})
        own = self._own_requests({identity[:2] for identity in identities})
        refused = self._refused(partition, [request.offset for request in requests])
        kinds = self._kinds_of(refused.values())
        letters, closed = self._stopped(partition, [request[:3] for request in requests])
        for request in requests:
            self._report.counts["requests"] += 1
            dead = letters[request.offset]
            refusal = refused.get(request.offset)
            identity = request.identity
            invoice = invoices.get(identity) if identity is not None else None
            preceding = invoices.get(identity.invoice) if identity is not None else None
            found["dead"] += len(dead)
            found["refused"] += refusal is not None
            found["issued"] += _is_made_from(invoice, partition, request)
            outcome, wrong = _judge(
                request, partition, dead, refusal, invoice, preceding, is_closed=request.offset in closed
            )
            if not wrong and identity is not None and identity.kind == INVOICE:
                its_own = own.get(identity[:2])
                wrong = _judge_owner(request, outcome, refusal, its_own)
            if not wrong and identity is not None and refusal is not None and refusal.reason == ALREADY_INVOICED:
                wrong = _judge_invoiced(request, identity, kinds.get(identity[:2]))
            self._report.outcomes[outcome] += 1
            if wrong:
                order = f" (order {_named(identity)})" if identity is not None else ""
                self._report.add("outcome", f"{self.topic}/{partition} offset {request.offset}{order}", wrong)

    def _own_requests(self, orders: Collection[tuple[str, str]]) -> dict[tuple[str, str], bytes]:
        """SHA-256 of the requests by which checked-out orders request their own invoices."""
        if not orders:
            return {}
        sellers, ids = zip(*orders, strict=True)
        rows = self._snapshot.rows(order_statements.OWN_REQUESTS, seller_ids=list(sellers), order_ids=list(ids))
        return {(seller_id, order_id): digest for seller_id, order_id, digest in rows}

    def _kinds_of(self, refused: Iterable[RefusedRequestRow]) -> dict[tuple[str, str], str]:
        """The kinds that own the order ids of these requests, where an invoice or a credit note was in the way."""
        orders = {(each.seller_id, each.order_id) for each in refused if each.reason == ALREADY_INVOICED}
        if not orders:
            return {}
        sellers, ids = zip(*orders, strict=True)
        rows = self._snapshot.rows(order_statements.ID_KINDS, seller_ids=list(sellers), order_ids=list(ids))
        return {(seller_id, order_id): kind for seller_id, order_id, kind in rows}


def _judge_invoiced(request: _Request, identity: InvoiceIdentity, kind: str | None) -> str:
    """What is wrong with a refusal for what has the order id; empty if nothing. `kind` owns it."""
    if identity.kind == INVOICE:
        is_in_the_way = kind == CREDIT_NOTE
    else:
        body = request.body
        is_external = body is not None and "refund_id" in body and external_invoice(body) is not None
        is_in_the_way = is_external and kind == INVOICE
    return "" if is_in_the_way else f"was rejected as {ALREADY_INVOICED}, but its order id is {kind}'s"


def _judge_owner(request: _Request, outcome: str, refusal: RefusedRequestRow | None, own: bytes | None) -> str:
    """What is wrong with the order id's owner; empty if nothing. `own` is the digest of the checkout's own request."""
    if outcome == "issued" and own is not None and sha256(request.value or b"").digest() != own:
        return "was issued, but its order id is a checkout's, which asks by another request"
    if refusal is not None and refusal.reason == ALREADY_ORDERED and own is None:
        return f"was rejected as {ALREADY_ORDERED}, but no checkout has its order id"
    return ""


def _named(identity: InvoiceIdentity) -> str:
    refund = f" refund {identity.refund_id}" if identity.refund_id else ""
    return f"{identity.seller_id}/{identity.order_id}{refund}"


def _request(message: Message, partitions: int) -> _Request:
    key, value = message.key(), message.value()
    offset = message.offset() or 0
    stray = placement.misplaced(partitions, message.partition() or 0, key, value)
    try:
        schema, body = decode(value, *INVOICE_REQUESTS.schemas, bytes_max=INVOICE_REQUESTS.value_bytes_max)
    except DecodeError:
        return _Request(offset, key, value, stray, None, None)
    if CREDIT_NOTE_REQUEST.describes(body, schema):
        identity = InvoiceIdentity(body["seller_id"], body["order_id"], CREDIT_NOTE, body["refund_id"])
        storable = not credit.check_refund_id(identity.refund_id)
    elif CREDIT_REQUEST.describes(body, schema):
        identity = InvoiceIdentity(body["seller_id"], body["order_id"], CREDIT_NOTE, body["credit_note_id"])
        storable = not credit.check_refund_id(identity.refund_id)
    elif INVOICE_REQUEST.describes(body, schema):
        identity = InvoiceIdentity(body["seller_id"], body["order_id"], body["kind"])
        storable = identity.kind in KINDS
    else:
        raise LookupError(f"the audit does not know what a {schema.name} asks for")
    if not storable or not SELLER_ID.fullmatch(identity.seller_id) or check_order_id(identity.order_id):
        return _Request(offset, key, value, stray, None, None)
    return _Request(offset, key, value, stray, body, identity)


def _is_made_from(invoice: IssuedInvoice | None, partition: int, request: _Request) -> bool:
    return invoice is not None and (invoice.partition, invoice.offset) == (partition, request.offset)


def _judge(
    request: _Request,
    partition: int,
    dead: list[bool],
    refusal: RefusedRequestRow | None,
    invoice: IssuedInvoice | None,
    preceding: IssuedInvoice | None,
    *,
    is_closed: bool,
) -> tuple[str, str]:
    """The outcome of a request, and what is wrong with it; empty if nothing."""
    too_many = judge_surplus(dead, refusal, "an invoice" if _is_made_from(invoice, partition, request) else None)
    if too_many is not None:
        return too_many
    if request.stray is not None or request.body is None:
        return judge_stopped(dead, request.stray or UNDECODABLE)
    if dead:
        return judge_stopped_in_error(dead, is_closed)
    if refusal is not None:
        its = InvoiceIdentity(refusal.seller_id, refusal.order_id, refusal.kind, refusal.refund_id)
        if its != request.identity:
            return "wrong", f"its refusal is another order's: {_named(its)}"
    if refusal is not None and refusal.reason == NOT_INVOICED:
        return _judge_not_invoiced(request, partition, preceding)
    return _judge_decoded(request, request.body, partition, refusal, invoice)


def _judge_not_invoiced(request: _Request, partition: int, preceding: IssuedInvoice | None) -> tuple[str, str]:
    if request.identity is None or request.identity.kind != CREDIT_NOTE:
        return "wrong", f"was rejected as {NOT_INVOICED}, but asks for no credit note"
    if preceding is not None and preceding.partition == partition and preceding.offset < request.offset:
        return "wrong", f"was rejected as {NOT_INVOICED}, but its order's invoice is of offset {preceding.offset}"
    return "rejected", ""


def _checked(body: _Body) -> Priced | CheckedCredit | Refusal:
    if "credit_note_id" in body:
        return check_credit(body)
    if "refund_id" not in body:
        return price(body)
    refusal = check_external(body) if external_invoice(body) is not None else None
    return refusal or credit.check(body)


def _judge_decoded(
    request: _Request,
    body: _Body,
    partition: int,
    refusal: RefusedRequestRow | None,
    invoice: IssuedInvoice | None,
) -> tuple[str, str]:
    whose, what = ("order", "invoice") if "kind" in body else ("refund", "credit note")
    priced = _checked(body)
    outcome = refusal.outcome if refusal is not None else None
    if isinstance(priced, Refusal):
        if outcome == "rejected" and refusal is not None and refusal.reason == priced.reason:
            return "rejected", ""
        return "wrong", f"breaks a rule ({priced}), and was not rejected for it"
    if outcome == "rejected" and refusal is not None:
        # The owner of the order id is checked by `_judge_owner`.
        known = refusal.reason in next(reasons for name, reasons in _BY_CIRCUMSTANCE.items() if name in body)
        return ("rejected", "") if known else ("wrong", f"was rejected for {refusal.reason}, but breaks no rule")
    if invoice is None:
        return "lost", f"its {whose} has no {what}"
    if invoice.partition == partition and request.offset < invoice.offset:
        return "wrong", f"its {whose}'s {what} was made from the later offset {invoice.offset}"
    same = invoice.content_sha256 == priced.content_sha256
    if _is_made_from(invoice, partition, request):
        return ("issued", "") if same else ("wrong", f"its {what} was made from other content")
    if same:
        return ("repeat", "") if refusal is None else ("wrong", f"repeats its {whose}, and was called a conflict")
    if outcome == "conflict" and refusal is not None and refusal.content_sha256 == priced.content_sha256:
        return "conflict", ""
    return "wrong", f"has other content than its {whose}'s {what}, and no conflict was recorded"
