"""Compares what the analytics agent has counted with what the ledger says of orders, payments and invoices.

Each partition is compared for the time in which all its events are counted: from the first event that was, unless that
is the first there ever was, to the first that is not yet. Events stand in the order of their transactions, and the
clocks of two workers differ by a minute at most, so a quarter of an hour is left out at either end.
"""

from collections.abc import Iterator
from typing import NamedTuple

from audit import analytics_statements as statements
from audit.report import AuditReport
from audit.snapshot import Snapshot
from domain.analytics import PAYMENTS, QUARTER_MINUTES, Counted, counted_as, quarter_of
from schemas.catalog import INVENTORY_EVENTS, INVOICE_EVENTS, ORDER_EVENTS, PAYMENT_EVENTS

#: Beyond any minute there is.
_EVER = 2**31 - 1


class _Window(NamedTuple):
    """The minutes of a partition that are compared: from `first` to before `last`."""

    partition: int
    first: int
    last: int


#: Seller, partition, currency and what is counted.
_Row = tuple[str, int, str, str]


def check_analytics(snapshot: Snapshot, report: AuditReport) -> None:
    """Report each sum that differs from the ledger's."""
    for topic, compare in (
        (ORDER_EVENTS.name, _orders),
        (PAYMENT_EVENTS.name, _payments),
        (INVOICE_EVENTS.name, _invoices),
        (INVENTORY_EVENTS.name, _pieces),
    ):
        windows = list(_windows(snapshot, topic))
        if windows:
            _compare(report, *compare(snapshot, windows))


def _windows(snapshot: Snapshot, topic: str) -> Iterator[_Window]:
    for partition, first_seq, first_minute, next_minute in snapshot.rows(statements.PROGRESS, topic=topic):
        first = 0 if first_seq == 1 else quarter_of(first_minute) + 2 * QUARTER_MINUTES
        last = _EVER if next_minute is None else quarter_of(next_minute) - QUARTER_MINUTES
        if first < last:
            yield _Window(partition, first, last)


def _compare(report: AuditReport, counted: dict[_Row, tuple[int, int]], ledger: dict[_Row, tuple[int, int]]) -> None:
    report.counts["analytics sums"] += len(counted)
    for row in sorted(counted.keys() | ledger.keys()):
        ours, theirs = counted.get(row, (0, 0)), ledger.get(row, (0, 0))
        if ours != theirs:
            seller_id, partition, currency, what = row
            where = f"{what} of {seller_id} in partition {partition}" + (f", {currency}" if currency else "")
            report.add(
                "analytics", where, f"counted {ours[0]} with {ours[1]}, but the ledger has {theirs[0]} with {theirs[1]}"
            )


def _columns(windows: list[_Window]) -> dict[str, list[int]]:
    partitions, firsts, lasts = map(list, zip(*windows, strict=True))
    return {"partitions": partitions, "firsts": firsts, "lasts": lasts}


def _counted(snapshot: Snapshot, windows: list[_Window], whats: list[Counted]) -> dict[_Row, tuple[int, int]]:
    names = [what.value for what in whats]
    rows = snapshot.rows(statements.COUNTED, whats=names, **_columns(windows))
    return {(*place,): (events, amount) for *place, events, amount in rows}


_OF_ORDERS = [
    Counted.PLACED, Counted.REFUSED, Counted.CONFIRMED, Counted.DECLINED, Counted.CANCELLED, Counted.VOIDED
]  # fmt: skip


def _orders(
    snapshot: Snapshot, windows: list[_Window]
) -> tuple[dict[_Row, tuple[int, int]], dict[_Row, tuple[int, int]]]:
    ledger: dict[_Row, tuple[int, int]] = {}
    for seller, partition, currency, before, to, reason, steps, gross in snapshot.rows(
        statements.STEPS, **_columns(windows)
    ):
        if to == "PLACED":
            whats, of = [Counted.PLACED], currency
        elif to == "REFUSED":
            whats, of, gross = [Counted.REFUSED], "", 0
        else:
            whats, of = counted_as(before or "", to, reason), currency
        for what in whats:
            row = (seller, partition, of, what.value)
            had = ledger.get(row, (0, 0))
            ledger[row] = had[0] + steps, had[1] + gross
    return _counted(snapshot, windows, _OF_ORDERS), ledger


def _payments(
    snapshot: Snapshot, windows: list[_Window]
) -> tuple[dict[_Row, tuple[int, int]], dict[_Row, tuple[int, int]]]:
    ledger = {
        (seller, partition, currency, PAYMENTS[action].value): (attempts, amount)
        for seller, partition, currency, action, attempts, amount in snapshot.rows(
            statements.PAID, actions=list(PAYMENTS), **_columns(windows)
        )
    }
    return _counted(snapshot, windows, list(PAYMENTS.values())), ledger


_OF_INVOICES = {"invoice": Counted.INVOICED, "credit_note": Counted.CREDITED}


def _invoices(
    snapshot: Snapshot, windows: list[_Window]
) -> tuple[dict[_Row, tuple[int, int]], dict[_Row, tuple[int, int]]]:
    ledger = {
        (seller, partition, currency, _OF_INVOICES[kind].value): (invoices, gross)
        for seller, partition, currency, kind, invoices, gross in snapshot.rows(statements.ISSUED, **_columns(windows))
    }
    return _counted(snapshot, windows, list(_OF_INVOICES.values())), ledger


def _pieces(
    snapshot: Snapshot, windows: list[_Window]
) -> tuple[dict[_Row, tuple[int, int]], dict[_Row, tuple[int, int]]]:
    counted, ledger = (
        {
            (seller, partition, "", f"pieces of {sku}"): (pieces, 0)
            for seller, partition, sku, pieces in snapshot.rows(statement, **_columns(windows))
        }
        for statement in (statements.SOLD, statements.CLAIMED)
    )
    return counted, ledger
