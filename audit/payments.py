"""Compares money authorised, captured and refunded with what was invoiced and credited."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from audit import order_statements
from audit.report import AuditReport
from audit.snapshot import Snapshot
from domain.credit import CANCELLATION
from domain.order import CLAIMING, OrderState

#: States after the shipment, when the money must have been captured.
_SHIPPED = frozenset(OrderState) - CLAIMING - {OrderState.CANCELLED, OrderState.REFUSED}
#: What an order may wait for, as named in reports.
PAYMENT, CAPTURE, VOID = "with a payment under way", "not yet captured", "not yet voided"
INVOICE, REFUND, CREDIT_NOTE = "confirmed, not yet invoiced", "with a refund under way", "refunded, not yet credited"


#: What an order waits for, by seller and order id.
Pending = set[tuple[tuple[str, str], str]]


class Money(NamedTuple):
    """The rows about money of all orders, or of some."""

    orders: Iterable[dict[str, Any]]
    refunds: Iterable[dict[str, Any]]
    attempts_without_order: Iterable[tuple[Any, ...]]
    lines_refunded_otherwise: Iterable[tuple[Any, ...]]
    credit_notes_without_refund: Iterable[tuple[Any, ...]]
    credits_amiss: Iterable[tuple[Any, ...]]
    uncredited: Iterable[tuple[Any, ...]]


def check_payments(snapshot: Snapshot, report: AuditReport) -> Pending:
    """Check the money of every order; returns the invoices and credit notes that agents still must issue."""
    return judge_money(
        report,
        Money(
            snapshot.stream_dicts(order_statements.MONEY),
            snapshot.stream_dicts(order_statements.REFUNDS),
            snapshot.stream(order_statements.ATTEMPTS_WITHOUT_ORDER),
            snapshot.stream(order_statements.LINES_REFUNDED_OTHERWISE),
            snapshot.stream(order_statements.CREDIT_NOTES_WITHOUT_REFUND),
            snapshot.stream(order_statements.CREDITS_AMISS),
            snapshot.stream(order_statements.UNCREDITED),
        ),
    )


def judge_money(report: AuditReport, money: Money) -> Pending:
    """Check every order's money, every refund, and payments without an order.

    Returns the invoices and credit notes that agents still must issue. All other waits depend on customers, sellers and
    the payment provider.
    """
    credit_notes_due = _check_refunds(report, money.refunds)
    ours: Pending = {(order, CREDIT_NOTE) for order in credit_notes_due}
    for row in money.orders:
        where = f"order {row['seller_id']}/{row['order_id']}"
        for what in _judge(row):
            report.add("payment", where, what)
        pending = _pending(row)
        for what in pending:
            report.pending[what] += 1
        if INVOICE in pending:
            ours.add(((row["seller_id"], row["order_id"]), INVOICE))
        # Some refunds may be credited and others not yet, so sums can be compared only once all are.
        if not pending and (row["seller_id"], row["order_id"]) not in credit_notes_due:
            for what in _judge_at_rest(row):
                report.add("payment", where, what)
    for seller_id, order_id, request_id in money.attempts_without_order:
        report.add("payment", f"order {seller_id}/{order_id}", f"was refused or never placed, but has {request_id}")
    for seller_id, order_id, line, ours, theirs in money.lines_refunded_otherwise:
        report.add(
            "payment", f"order {seller_id}/{order_id}", f"line {line} has {ours} pieces refunded, its refunds {theirs}"
        )
    for seller_id, order_id, refund_id in money.credit_notes_without_refund:
        report.add("payment", f"order {seller_id}/{order_id}", f"has a credit note {refund_id}, but no such refund")
    for seller_id, order_id, credit_note_id, has_no_note in money.credits_amiss:
        why = "without a credit note" if has_no_note else "although its invoice is a checkout's"
        report.add("payment", f"order {seller_id}/{order_id}", f"was credited by {credit_note_id}, {why}")
    for seller_id, order_id, provider_refund, amount, currency, reason in money.uncredited:
        what = f"the refund {provider_refund} of {amount} {currency}, made at the provider, is not credited: {reason}"
        report.add("payment", f"order {seller_id}/{order_id}", what)
    return ours


def _judge(row: dict[str, Any]) -> Iterator[str]:
    """Yield violations that are never permitted, at rest or not."""
    state = row["state"]
    for name in ("authorized", "captured", "voided"):
        if row[name] > 1:
            yield f"was {name} {row[name]} times"
    if row["captured"] and row["voided"]:
        yield "was captured and voided"
    if row["confirmed"] and row["authorized"] != 1:
        yield f"was confirmed with {row['authorized']} successful authorisations"
    if row["captured"] and state not in _SHIPPED:
        yield f"was captured, but is {state}"
    if row["voided"] and state != OrderState.CANCELLED:
        yield f"was voided, but is {state}"
    if row["amiss"]:
        yield f"has {row['amiss']} payments of another amount or currency"
    if row["foreign"]:
        yield f"has {row['foreign']} invoices in another currency"
    if row["invoices"] > 1:
        yield f"has {row['invoices']} invoices"
    if row["others"]:
        yield f"has {row['others']} invoices of other content than its own"
    if row["invoices"] and not row["confirmed"]:
        yield f"is {state} and never was confirmed, but has an invoice"
    if row["invoices"] == 1 and row["invoiced_minor"] != row["gross_minor"]:
        yield f"amounts to {row['gross_minor']}, but its invoice to {row['invoiced_minor']}"
    if row["refunded_minor"] > row["captured_minor"]:
        yield f"{row['refunded_minor']} were refunded of {row['captured_minor']} captured"
    if row["credited_minor"] > row["invoiced_minor"]:
        yield f"{row['credited_minor']} were credited of {row['invoiced_minor']} invoiced"
    if bool(row["cancellations"]) != bool(row["confirmed"] and state == OrderState.CANCELLED):
        yield f"is {state}, with {row['cancellations']} refunds of a cancellation"
    # Failed attempts are not retried: an operator must see to the money.
    if state in _SHIPPED and not row["captured"] and row["capture_over"]:
        yield f"is {state}, but its capture has failed"
    if state == OrderState.CANCELLED and row["authorized"] and not row["voided"] and row["void_over"]:
        yield "is CANCELLED, but its void has failed"


def _pending(row: dict[str, Any]) -> list[str]:
    """What an order still waits for."""
    state = row["state"]
    found = {
        PAYMENT: state in (OrderState.PLACED, OrderState.PAYMENT_PENDING) or row["open"],
        CAPTURE: state in _SHIPPED and not row["captured"] and not row["capture_over"],
        VOID: state == OrderState.CANCELLED and row["authorized"] and not row["voided"] and not row["void_over"],
        INVOICE: row["confirmed"] and not row["invoices"],
        REFUND: row["requested"],
    }
    return [what for what, is_pending in found.items() if is_pending]


def _judge_at_rest(row: dict[str, Any]) -> Iterator[str]:
    """Yield differences of sums that must agree once nothing of the order is under way."""
    if row["state"] not in _SHIPPED and row["state"] != OrderState.CANCELLED:
        return
    kept, charged = row["captured_minor"] - row["refunded_minor"], row["invoiced_minor"] - row["credited_minor"]
    if kept != charged:
        yield (
            f"{row['captured_minor']} captured - {row['refunded_minor']} refunded = {kept}, but"
            f" {row['invoiced_minor']} invoiced - {row['credited_minor']} credited = {charged}"
        )
    if row["state"] == OrderState.REFUNDED and kept:
        yield f"is REFUNDED, but {kept} are kept"


def _check_refunds(report: AuditReport, refunds: Iterable[dict[str, Any]]) -> set[tuple[str, str]]:
    """Compare each refund with its payment and its credit note; returns orders that wait for a credit note."""
    due: set[tuple[str, str]] = set()
    for row in refunds:
        report.counts["refunds"] += 1
        where = f"order {row['seller_id']}/{row['order_id']}"
        if row["state"] == "done" and row["credited_minor"] is None:
            due.add((row["seller_id"], row["order_id"]))
            report.pending[CREDIT_NOTE] += 1
        for what in _judge_refund(row):
            report.add("payment", where, f"refund {row['refund_id']} {what}")
    return due


def _judge_refund(row: dict[str, Any]) -> Iterator[str]:
    amount = row["amount_minor"]
    if (row["state"] == "done") and row["attempt"] != "succeeded":
        yield f"is done, but its payment is {row['attempt'] or 'not there'}"
    if row["state"] == "failed" and row["attempt"] == "succeeded":
        yield "has failed, but its payment succeeded"
    if row["moved_minor"] is not None and row["moved_minor"] != amount:
        yield f"is of {amount}, but its payment of {row['moved_minor']}"
    if row["credited_minor"] is not None and row["credited_minor"] != amount:
        yield f"is of {amount}, but its credit note of {row['credited_minor']}"
    if row["refund_id"] == CANCELLATION and amount != row["gross_minor"]:
        yield f"is of {amount}, but the order of {row['gross_minor']}"
