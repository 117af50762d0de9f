"""Compares the payment provider's ledger with ours: no buyer is charged twice, or for nothing.

It reads `GET /ledger` of the local provider. Real providers have reports for this purpose.
"""

import json
import urllib.request
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import Any

from audit import order_statements
from audit.report import AuditError, AuditReport
from audit.snapshot import Snapshot
from domain.credit import found_refund_id

_ANSWER_S_MAX = 30.0
_BATCH = 500


def check_provider(snapshot: Snapshot, report: AuditReport, url: str) -> None:
    """Compare every payment of the provider with its attempts. Holds the ledger in memory; raises `AuditError`.

    The ledger is read after the snapshot and before the attempts: so each effect in it has an attempt's row, and each
    authorisation of the snapshot must be in it.
    """
    payments = {payment["key"]: payment for payment in _fetch(url)}
    report.counts["provider's payments"] += len(payments)
    charges: Counter[str] = Counter()
    remaining = iter(payments.values())
    while batch := list(islice(remaining, _BATCH)):
        keys = [payment["key"] for payment in batch]
        # Before the attempts' sums: what is taken up meanwhile is in both or in the sums alone.
        found = {row[0]: row[1:] for row in snapshot.rows_now(order_statements.REFUNDS_FOUND, keys=keys)}
        known = {row[0]: row[1:] for row in snapshot.rows_now(order_statements.PAYMENTS_BY_KEY, keys=keys)}
        for payment in batch:
            charges[_order(payment)] += payment["acted"] > 0
            for what in _judge(payment, known.get(payment["key"]), found.get(payment["key"], (False, (), ()))):
                report.add("provider", _order(payment), what)
    for order, count in charges.items():
        if count > 1:
            report.add("provider", order, f"was charged under {count} keys")
    for seller_id, order_id, key in snapshot.stream(order_statements.AUTHORIZED):
        if key not in payments:
            report.add("provider", f"order {seller_id}/{order_id}", "is authorised, but the provider has no payment")


def _fetch(url: str) -> list[dict[str, Any]]:
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/ledger", timeout=_ANSWER_S_MAX) as answer:  # noqa: S310
            payments: list[dict[str, Any]] = json.load(answer)["payments"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        why = next(iter(str(error).splitlines()), type(error).__name__)
        raise AuditError(f"the provider's ledger at {url} can't be read: {why}") from None
    return payments


def _order(payment: dict[str, Any]) -> str:
    # A payment that was voided before it was requested does not name its order.
    name = f"{payment['seller_id']}/{payment['order_id']}"
    return f"order {name}" if payment["order_id"] else f"payment {payment['key']}"


def _judge(payment: dict[str, Any], row: tuple[Any, ...] | None, found: tuple[Any, ...]) -> Iterator[str]:
    """Yield what is wrong with a payment; `row` is its authorisation in Postgres, with other attempts' sums.

    `found` says of refunds made at the provider itself whether they are about to be compared, which were taken up, and
    which can't be credited.
    """
    if payment["acted"] > 1:
        yield f"was charged {payment['acted']} times under one key"
    if row is None:
        if payment["acted"]:
            yield f"was charged under the key {payment['key']}, which no attempt has"
        return
    state, amount, currency, captured, may_capture, refunded, may_refund, voided, may_void = row
    if state in ("declined", "failed") and payment["status"] == "authorized":
        yield f"is charged, but its authorisation has {state}"
    if state != "succeeded":
        return
    if payment["status"] not in ("authorized", "voided"):
        yield f"is authorised, but the provider has it as {payment['status']}"
    if (payment["amount_minor"], payment["currency"]) != (amount, currency):
        theirs = f"{payment['amount_minor']} {payment['currency']}"
        yield f"is authorised for {amount} {currency}, at the provider for {theirs}"
    if not captured <= payment["captured_minor"] <= captured + may_capture:
        yield f"{captured} are captured, at the provider {payment['captured_minor']}"
    is_compared_soon, taken_up, uncredited = found
    theirs_only = [
        each for each in payment.get("refunds", ()) if not each["key"] and found_refund_id(each["id"]) not in taken_up
    ]
    if not is_compared_soon:
        for each in theirs_only:
            if each["id"] not in uncredited:
                what = (
                    f"the refund {each['id']} of {each['amount_minor']} was made at the provider, and is unknown here"
                )
                yield f"{what}: run `gapless refunds find`"
    # Those not taken up yet may have been, when the sums were read.
    theirs = payment["refunded_minor"]
    least = theirs - sum(each["amount_minor"] for each in theirs_only)
    if not (refunded <= theirs and least <= refunded + may_refund):
        yield f"{refunded} are refunded, at the provider {theirs}"
    if not voided <= (payment["status"] == "voided") <= voided + may_void:
        yield f"is {'' if voided else 'not '}voided, but the provider has it as {payment['status']}"
