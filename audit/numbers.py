"""Checks the ledger by itself: numbers, orders, dates."""

from collections.abc import Iterable, MutableMapping
from datetime import datetime
from typing import Any, NamedTuple

from audit import order_statements, statements
from audit.cursors import Cursors, Walked
from audit.report import AuditReport
from audit.snapshot import Snapshot
from domain.issuing import CREDIT_NOTE
from schemas.catalog import INVOICE_EVENTS


class NumberedRow(NamedTuple):
    """An invoice or credit note in its series."""

    series_id: str
    number: int
    seller_id: str
    order_id: str
    kind: str
    issued_at: datetime


def check_numbers(snapshot: Snapshot, report: AuditReport, cursors: Cursors) -> None:
    """Check that each series runs 1..n with next_number n + 1, each number once, with dates in order."""
    series = {
        series_id: (seller_id, next_number) for series_id, seller_id, next_number in snapshot.rows(statements.SERIES)
    }
    report.counts["series"] = len(series)
    for row in snapshot.stream(statements.INVOICES):
        take_number(report, cursors.series, NumberedRow(*row), series)
    judge_ends(report, cursors.series, series)


def take_number(
    report: AuditReport,
    walked: MutableMapping[str, Walked],
    invoice: NumberedRow,
    series: MutableMapping[str, tuple[str, int]],
) -> None:
    """Advance a series by one number; `series` has each one's seller and next number."""
    its_series, number = invoice.series_id, invoice.number
    report.counts["credit notes" if invoice.kind == CREDIT_NOTE else "invoices"] += 1
    where = f"series {its_series} number {number}"
    before = walked.get(its_series)
    if before is None:
        before = Walked()
        if its_series not in series:
            report.add("gap", f"series {its_series}", "has invoices, but no row that says its next number")
    if its_series in series and series[its_series][0] != invoice.seller_id:
        report.add("event", where, f"is {invoice.seller_id}'s, but the series is {series[its_series][0]}'s")
    last = before.number
    if number == last:
        report.add("repeat", where, f"exists twice, also for order {invoice.order_id}")
    elif number != last + 1:
        missing = f"{last + 1}" if number == last + 2 else f"{last + 1} to {number - 1}"
        report.add("gap", f"series {its_series}", f"has no number {missing}", number - last - 1)
    if invoice.issued_at < before.issued_at:
        report.add("date", where, f"was issued at {invoice.issued_at}, before the number that precedes it")
    walked[its_series] = Walked(number, invoice.issued_at)


def judge_ends(
    report: AuditReport, walked: MutableMapping[str, Walked], series: MutableMapping[str, tuple[str, int]]
) -> None:
    """Check that each series' next number follows its last one."""
    for its_series, (_, next_number) in series.items():
        last = walked.get(its_series, Walked()).number
        if next_number != last + 1:
            report.add("gap", f"series {its_series}", f"ends with {last}, but the next number is {next_number}")


def check_orders(snapshot: Snapshot, report: AuditReport) -> None:
    """Check for one invoice per order, one credit note per refund, one printed number and one event for each."""
    judge_orders(report, snapshot.stream(statements.ORDERS_TWICE), snapshot.stream(statements.CREDITED_TOO_MUCH))
    for seller_id, invoice_number, numbers in snapshot.stream(statements.PRINTED_TWICE):
        report.add("repeat", f"{seller_id}'s {invoice_number}", f"is printed on {len(numbers)} invoices: {numbers[:3]}")
    judge_ids(report, snapshot.stream(order_statements.IDS_AMISS))
    judge_without_event(report, snapshot.stream(statements.INVOICES_WITHOUT_EVENT, topic=INVOICE_EVENTS.name))


def judge_orders(report: AuditReport, twice: Iterable[tuple[Any, ...]], credited: Iterable[tuple[Any, ...]]) -> None:
    """Report orders with too many invoices, or credited too much, from these rows."""
    for seller_id, order_id, kind, refund_id, numbers in twice:
        whose = f"order {seller_id}/{order_id} ({kind}{' ' + refund_id if refund_id else ''})"
        report.add("repeat", whose, f"has {len(numbers)} invoices: {numbers[:3]}")
    for seller_id, order_id, invoiced, is_credited in credited:
        what = f"has credit notes of {is_credited} that its invoice of {invoiced} doesn't cover, or of another currency"
        report.add("money", f"order {seller_id}/{order_id}", what)


def judge_ids(report: AuditReport, rows: Iterable[tuple[Any, ...]]) -> None:
    """Report order ids that are recorded as another kind's than what there is, from these rows."""
    for seller_id, order_id, kind, has_order, has_invoice in rows:
        there = "an order" if has_order else "an invoice" if has_invoice else "neither an order nor an invoice"
        report.add("order", f"order {seller_id}/{order_id}", f"has an id that stands as {kind}'s, and there is {there}")


def judge_without_event(report: AuditReport, rows: Iterable[tuple[Any, ...]]) -> None:
    """Report invoices without an event, from these rows."""
    for series_id, number, partition, seq in rows:
        what = f"has no event at {INVOICE_EVENTS.name}/{partition} seq {seq}"
        report.add("event", f"series {series_id} number {number}", what)
