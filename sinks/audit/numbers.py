"""The ledger by itself: numbers, orders, dates."""

from datetime import UTC, datetime

from domain.issuing import CREDIT_NOTE
from schemas.catalog import INVOICE_EVENTS
from sinks.audit import statements
from sinks.audit.report import Report
from sinks.audit.snapshot import Snapshot


def check_numbers(snapshot: Snapshot, report: Report) -> None:
    """Every series 1..n with next_number n + 1, each number once, dates in order."""
    series = {
        series_id: (seller_id, next_number) for series_id, seller_id, next_number in snapshot.rows(statements.SERIES)
    }
    report.counts["series"] = len(series)
    last_of: dict[str, int] = {}
    series_id, last, last_issued_at = "", 0, datetime.min.replace(tzinfo=UTC)
    for its_series, number, seller_id, order_id, kind, issued_at in snapshot.stream(statements.INVOICES):
        report.counts["credit notes" if kind == CREDIT_NOTE else "invoices"] += 1
        where = f"series {its_series} number {number}"
        if its_series != series_id:
            series_id, last, last_issued_at = its_series, 0, issued_at
            if its_series not in series:
                report.add("gap", f"series {its_series}", "has invoices, but no row that says its next number")
            elif series[its_series][0] != seller_id:
                report.add("event", where, f"is {seller_id}'s, but the series is {series[its_series][0]}'s")
        if number == last:
            report.add("repeat", where, f"stands twice, also for order {order_id}")
        elif number != last + 1:
            missing = f"{last + 1}" if number == last + 2 else f"{last + 1} to {number - 1}"
            report.add("gap", f"series {its_series}", f"has no number {missing}", number - last - 1)
        if issued_at < last_issued_at:
            report.add("date", where, f"was issued at {issued_at}, before the number that precedes it")
        last, last_issued_at = number, issued_at
        last_of[its_series] = number
    for its_series, (_, next_number) in series.items():
        last = last_of.get(its_series, 0)
        if next_number != last + 1:
            report.add("gap", f"series {its_series}", f"ends with {last}, but the next number is {next_number}")


def check_orders(snapshot: Snapshot, report: Report) -> None:
    """One invoice per order, one credit note per refund, one printed number for each, an event for each."""
    for seller_id, order_id, kind, refund_id, numbers in snapshot.stream(statements.ORDERS_TWICE):
        whose = f"order {seller_id}/{order_id} ({kind}{' ' + refund_id if refund_id else ''})"
        report.add("repeat", whose, f"has {len(numbers)} invoices: {numbers[:3]}")
    for seller_id, order_id, invoiced, credited in snapshot.stream(statements.CREDITED_TOO_MUCH):
        what = f"has credit notes of {credited} that its invoice of {invoiced} doesn't cover, or of another currency"
        report.add("money", f"order {seller_id}/{order_id}", what)
    for seller_id, invoice_number, numbers in snapshot.stream(statements.PRINTED_TWICE):
        report.add("repeat", f"{seller_id}'s {invoice_number}", f"is printed on {len(numbers)} invoices: {numbers[:3]}")
    for series_id, number, partition, seq in snapshot.stream(
        statements.INVOICES_WITHOUT_EVENT, topic=INVOICE_EVENTS.name
    ):
        report.add(
            "event",
            f"series {series_id} number {number}",
            f"has no event at {INVOICE_EVENTS.name}/{partition} seq {seq}",
        )
