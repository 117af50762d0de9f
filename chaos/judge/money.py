"""No buyer pays twice or for nothing: compares the provider's ledger with orders, invoices and credit notes."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from chaos.judge.evidence import Evidence
from chaos.judge.ledger import Attempt, Invoice, Order, OrderKey, Refund

RULE = "money"


@dataclass(slots=True)
class _Account:
    """All rows about one order's money."""

    attempts: dict[str, Attempt] = field(default_factory=dict)
    refunds: dict[str, Refund] = field(default_factory=dict)
    payments: list[Mapping[str, Any]] = field(default_factory=list)
    invoiced: Invoice | None = None
    credited: list[Invoice] = field(default_factory=list)


def judge_money(evidence: Evidence) -> None:
    """Checks every order of the ledger, and every payment of the provider."""
    verdict, ledger = evidence.verdict, evidence.ledger
    accounts = _accounts(evidence)
    for payment in evidence.payments:
        verdict.counts["payments"] += 1
        verdict.counts["payments sent blindly"] += payment["blind"]
        if payment["acted"] > 1:
            verdict.add(RULE, payment["order_id"], f"was charged {payment['acted']} times under one key")
    for key, account in accounts.items():
        order = ledger.orders.get(key)
        for what in _no_order(account) if order is None else _wrong(order, account):
            verdict.add(RULE, key[1], what)


def _accounts(evidence: Evidence) -> dict[OrderKey, _Account]:
    ledger = evidence.ledger
    accounts: dict[OrderKey, _Account] = defaultdict(_Account)
    for key in ledger.orders:
        accounts[key] = _Account()
    order_of: dict[str, OrderKey] = {}
    for attempt in ledger.attempts:
        key = (attempt.seller_id, attempt.order_id)
        accounts[key].attempts[attempt.request_id] = attempt
        order_of[attempt.provider_key] = key
    for refund in ledger.refunds:
        accounts[refund.seller_id, refund.order_id].refunds[refund.refund_id] = refund
    for payment in evidence.payments:
        # A payment that was voided before it was requested does not name its order; its key does.
        named = (payment["seller_id"], payment["order_id"])
        accounts[named if payment["order_id"] else order_of.get(payment["key"], named)].payments.append(payment)
    for row in ledger.invoices:
        if row.kind == "invoice":
            accounts[row.order].invoiced = row
        else:
            accounts[row.order].credited.append(row)
    return accounts


def _no_order(account: _Account) -> Iterator[str]:
    """Report payments without an order, and credits beyond an invoice that was asked for directly."""
    if any(payment["acted"] for payment in account.payments):
        yield "was charged, but the order does not exist"
    if account.attempts or account.refunds:
        yield f"does not exist, but has {[*account.attempts, *account.refunds]}"
    if account.credited:
        yield from _wrong_credits(account.invoiced, account.credited)


def _wrong_credits(invoice: Invoice | None, credited: list[Invoice]) -> Iterator[str]:
    if invoice is None:
        yield f"has {len(credited)} credit notes, and neither an order nor an invoice"
        return
    if len({each.refund_id for each in credited}) != len(credited):
        yield f"has credit notes of one id: {sorted(each.refund_id for each in credited)}"
    left = [
        whole - sum(parts)
        for whole, *parts in (
            (invoice.net_minor, *(each.net_minor for each in credited)),
            (invoice.tax_minor, *(each.tax_minor for each in credited)),
            (invoice.gross_minor, *(each.gross_minor for each in credited)),
        )
    ]
    if left[2] < 0 or (not left[2] and any(left)):
        yield f"(net, tax, gross) {tuple(left)} is left of its invoice after {len(credited)} credit notes"


def _wrong(order: Order, account: _Account) -> Iterator[str]:
    if order.state == "REFUSED":
        if account.attempts or any(payment["acted"] for payment in account.payments):
            yield f"was refused, but has the payments {[*account.attempts]}"
        return
    yield from _wrong_attempts(order, account)
    yield from _wrong_payment(order, account)
    yield from _wrong_refunds(order, account)


def _wrong_attempts(order: Order, account: _Account) -> Iterator[str]:
    permitted = {"authorize", *(f"refund:{refund_id}" for refund_id in account.refunds if refund_id != "cancellation")}
    permitted |= {"capture"} if order.was("SHIPPED") else set()
    permitted |= {"void"} if order.was("CANCELLED") else set()
    for request_id, attempt in account.attempts.items():
        if request_id not in permitted or attempt.action != request_id.partition(":")[0]:
            yield f"is {order.state}, and has a payment {request_id} ({attempt.action}) that nothing requires"
        if attempt.state == "open":
            yield f"its payment {request_id} is still open"
        if attempt.currency != order.currency:
            yield f"its payment {request_id} is in {attempt.currency}"
    authorize, capture = account.attempts.get("authorize"), account.attempts.get("capture")
    if authorize is None or authorize.amount_minor != order.gross_minor:
        yield f"of {order.gross_minor}, its authorisation is {authorize}"
    elif order.was("CONFIRMED") and authorize.state != "succeeded":
        yield f"was confirmed, but its authorisation has {authorize.state}"
    if order.was("SHIPPED") and (
        capture is None or (capture.state, capture.amount_minor) != ("succeeded", order.gross_minor)
    ):
        yield f"was shipped, but its capture is {capture}"


def _wrong_payment(order: Order, account: _Account) -> Iterator[str]:
    """Compare the order with the provider's payment."""
    charged = [payment for payment in account.payments if payment["acted"]]
    if len(charged) > 1:
        yield f"was charged under {len(charged)} keys"
    if order.gross_minor == 0:
        return
    if order.state == "CANCELLED":
        for payment in account.payments:
            if payment["status"] == "authorized" or payment["captured_minor"]:
                what = f"{payment['status']}, {payment['captured_minor']} captured"
                yield f"is cancelled, but its money is {what}: {payment['amount_minor']}"
        return
    if not order.was("CONFIRMED"):
        return
    if not charged:
        yield f"is {order.state}, but the provider has no payment of it"
        return
    payment = charged[0]
    has = (payment["status"], payment["amount_minor"], payment["currency"], payment["captured_minor"])
    captured = order.gross_minor if order.was("SHIPPED") else 0
    if has != ("authorized", order.gross_minor, order.currency, captured):
        yield f"is {order.state} and of {order.gross_minor}, but the provider has (status, amount, captured) {has}"


def _wrong_refunds(order: Order, account: _Account) -> Iterator[str]:
    """Compare refunds with credit notes, and the money left with what is invoiced less credits."""
    credited = Counter({each.refund_id: each.gross_minor for each in account.credited})
    if len(credited) != len(account.credited):
        yield f"has {len(account.credited)} credit notes for {sorted(credited)}"
    for refund_id, refund in account.refunds.items():
        if refund.state == "requested":
            yield f"its refund {refund_id} is still under way"
        elif (refund.state == "done") != (refund_id in credited):
            yield f"its refund {refund_id} is {refund.state}, with {int(refund_id in credited)} credit notes"
        elif refund.state == "done" and credited[refund_id] != refund.amount_minor:
            yield f"its refund {refund_id} is of {refund.amount_minor}, its credit note of {credited[refund_id]}"
    for refund_id in credited.keys() - account.refunds.keys():
        yield f"has a credit note {refund_id}, and no such refund"
    was_sold_and_cancelled = order.state == "CANCELLED" and order.was("CONFIRMED")
    if was_sold_and_cancelled != ("cancellation" in account.refunds):
        yield f"is {order.state}, with the refunds {sorted(account.refunds)}"
    invoiced = 0 if account.invoiced is None else account.invoiced.gross_minor
    left = invoiced - sum(credited.values())
    captured = sum(payment["captured_minor"] for payment in account.payments)
    refunded = sum(payment["refunded_minor"] for payment in account.payments)
    done = sum(
        each.amount_minor for name, each in account.refunds.items() if each.state == "done" and name != "cancellation"
    )
    if refunded != done:
        yield f"{done} were refunded, at the provider {refunded}"
    # Before the shipment, money is only authorised.
    if (order.was("SHIPPED") or was_sold_and_cancelled) and captured - refunded != left:
        yield f"{captured} captured less {refunded} refunded, but {invoiced} invoiced less {invoiced - left} credited"
    if order.state == "REFUNDED" and left:
        yield f"is refunded, but {left} of its invoice are not credited"
    if account.invoiced is not None and account.credited and not left:
        net = sum(each.net_minor for each in account.credited)
        if net != account.invoiced.net_minor:
            yield f"all is credited, but net {net} of {account.invoiced.net_minor}"
