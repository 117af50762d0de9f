"""Every checkout in the log up to the agent's position has exactly one outcome."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from confluent_kafka import Message

from audit import order_statements
from audit.outcomes import (
    UNDECODABLE,
    OutcomeCheck,
    RefusedRequestRow,
    judge_stopped,
    judge_stopped_in_error,
    judge_surplus,
)
from domain.checkout import check
from domain.invoice import check_order_id
from domain.numbering import SELLER_ID
from domain.records import CheckoutRequest
from domain.refusals import ALREADY_INVOICED, TAX_RULE, UNKNOWN_SELLER, Refusal
from schemas import placement
from schemas.catalog import CHECKOUT_REQUEST, CHECKOUT_REQUESTS
from schemas.codec import DecodeError, decode

_KIND = "checkout"
#: Refusals that depended on the state at the time, so they can't be checked now.
_OF_THE_MOMENT = (UNKNOWN_SELLER, ALREADY_INVOICED, TAX_RULE)


class _Request(NamedTuple):
    """A record of the log; `body` is None if it can't be decoded or its identity can't be stored."""

    offset: int
    key: bytes | None
    value: bytes | None
    #: Why it is in the wrong place; None if it isn't.
    stray: str | None
    body: CheckoutRequest | None

    @property
    def identity(self) -> tuple[str, str] | None:
        return None if self.body is None else (self.body["seller_id"], self.body["order_id"])


class _Standing(NamedTuple):
    """An order: the content and the record that it was made from."""

    content_sha256: bytes
    partition: int
    offset: int


class CheckoutCheck(OutcomeCheck):
    """Checkouts, each of which leads to an order, a refusal or a dead letter, or repeats another."""

    topic = CHECKOUT_REQUESTS.name
    noun = "checkouts"
    agent = "checkouts"
    made = "decided"
    count_made = order_statements.COUNT_ORDERS

    def _check_batch(self, partition: int, messages: Sequence[Message], found: Counter[str]) -> None:
        requests = [_request(message, self._snapshot.partitions) for message in messages]
        orders = self._orders([request.identity for request in requests if request.identity is not None])
        refused = self._refused(partition, [request.offset for request in requests])
        letters, closed = self._stopped(partition, [request[:3] for request in requests])
        for request in requests:
            self._report.counts["checkouts"] += 1
            dead = letters[request.offset]
            refusal = refused.get(request.offset)
            order = None if request.identity is None else orders.get(request.identity)
            is_first = order is not None and order[1:] == (partition, request.offset)
            found["dead"] += len(dead)
            found["refused"] += refusal is not None
            found["decided"] += is_first
            outcome, wrong = judge_surplus(dead, refusal, "an order" if is_first else None) or (
                judge_stopped(dead, request.stray or UNDECODABLE)
                if request.stray is not None or request.body is None
                else judge_stopped_in_error(dead, request.offset in closed)
                if dead
                else _judge(request, request.body, partition, refusal, order)
            )
            self._report.checkouts[outcome] += 1
            if wrong:
                name = "" if request.identity is None else f" (order {'/'.join(request.identity)})"
                self._report.add("outcome", f"{self.topic}/{partition} offset {request.offset}{name}", wrong)

    def _orders(self, identities: Sequence[tuple[str, str]]) -> dict[tuple[str, str], _Standing]:
        if not identities:
            return {}
        sellers, orders = zip(*set(identities), strict=True)
        rows = self._snapshot.rows(order_statements.ORDERS_BY_ID, seller_ids=list(sellers), order_ids=list(orders))
        return {(seller, order): _Standing(*standing) for seller, order, *standing in rows}


def _request(message: Message, partitions: int) -> _Request:
    key, value = message.key(), message.value()
    offset = message.offset() or 0
    stray = placement.misplaced(partitions, message.partition() or 0, key, value)
    try:
        _, body = decode(value, CHECKOUT_REQUEST, bytes_max=CHECKOUT_REQUESTS.value_bytes_max)
    except DecodeError:
        return _Request(offset, key, value, stray, None)
    storable = SELLER_ID.fullmatch(body["seller_id"]) and not check_order_id(body["order_id"])
    return _Request(offset, key, value, stray, body if storable else None)


def _judge(
    request: _Request,
    body: CheckoutRequest,
    partition: int,
    refusal: RefusedRequestRow | None,
    order: _Standing | None,
) -> tuple[str, str]:
    """The outcome of a decoded checkout, and what is wrong with it; empty if nothing."""
    outcome = reason = None
    if refusal is not None:
        outcome, reason = refusal.outcome, refusal.reason
        if (refusal.seller_id, refusal.order_id, refusal.kind) != (body["seller_id"], body["order_id"], _KIND):
            return "wrong", f"its refusal is another one's: {refusal.seller_id}/{refusal.order_id}"
    checked = check(body)
    if isinstance(checked, Refusal):
        if outcome == "rejected" and reason == checked.reason:
            return "rejected", ""
        return "wrong", f"breaks a rule ({checked}), and was not rejected for it"
    if outcome == "rejected":
        if reason == ALREADY_INVOICED and order is not None:
            return "wrong", f"was rejected as {ALREADY_INVOICED}, but its id is an order's"
        return (
            ("rejected", "") if reason in _OF_THE_MOMENT else ("wrong", f"was rejected for {reason}, but breaks none")
        )
    if order is None:
        return "lost", "there is no such order"
    if order.partition == partition and request.offset < order.offset:
        return "wrong", f"its order was made from the later offset {order.offset}"
    same = order.content_sha256 == checked.content_sha256
    if order[1:] == (partition, request.offset):
        return ("decided", "") if same else ("wrong", "its order was made from other content")
    if same:
        return ("repeat", "") if refusal is None else ("wrong", "repeats its order, and was called a conflict")
    if outcome == "conflict" and refusal is not None and refusal.content_sha256 == checked.content_sha256:
        return "conflict", ""
    return "wrong", "has other content than its order, and no conflict was recorded"
