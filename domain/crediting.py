"""What a credit note is to take back, and whether that much is left: of lines, of an amount, or all of it."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from domain.credit import (
    Credit,
    check_asked_refund_id,
    credit,
    credit_amount,
    credited_line,
    left_to_credit,
    quantities,
    quantity_text,
)
from domain.invoice import LINES_MAX, price
from domain.money import PRICE_DECIMALS, SCALE_DECIMALS, NotDecimalError, minor, minor_text, scaled
from domain.order import REASON_CHARS_MAX
from domain.records import (
    CreditNoteRequest,
    CreditRequest,
    InvoiceDetails,
    InvoiceIssued,
    InvoiceLine,
    InvoiceRequest,
    RateTotal,
    RequestedLine,
    Totals,
)
from domain.refusals import CREDIT_TOO_LARGE, INVALID_FIELD, Refusal
from domain.texts import check_text


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be taken back: quantities by line, in 10^-6, an amount with tax, or neither, for all that is left."""

    lines: Mapping[int, int]
    #: Decimal text.
    amount: str = ""


@dataclass(frozen=True, slots=True)
class Given:
    """A credit note that stands: the quantities it takes back by line, empty if it is of an amount, and its totals."""

    lines: Mapping[int, int]
    per_rate: Sequence[RateTotal]


@dataclass(frozen=True, slots=True)
class Decided:
    """A credit note to be made, and the quantities by line that it takes back."""

    note: CreditNoteRequest
    lines: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class CheckedCredit:
    """A storefront's request, checked by itself. What a repeat must equal is in the digest (32 bytes)."""

    wanted: Wanted
    content_sha256: bytes


def check_credit(request: CreditRequest) -> CheckedCredit | Refusal:
    """Check a request without its invoice."""
    refusal = check_asked_refund_id(request["credit_note_id"])
    if refusal is not None:
        return Refusal(refusal.reason, "credit_note_id", refusal.detail)
    refusal = check_text("reason", request["reason"], REASON_CHARS_MAX)
    if refusal is not None:
        return refusal
    if len(request["lines"]) > LINES_MAX:
        return Refusal(INVALID_FIELD, "lines", f"must be at most {LINES_MAX}")
    if request["amount"] and request["lines"]:
        return Refusal(INVALID_FIELD, "amount", "must be left out where lines are named")
    lines: dict[int, int] = {}
    amount = 0
    try:
        field, amount = "amount", scaled(request["amount"], PRICE_DECIMALS) if request["amount"] else 0
        if request["amount"] and amount <= 0:
            return Refusal(INVALID_FIELD, "amount", "must be above zero")
        for index, each in enumerate(request["lines"]):
            field = f"lines[{index}].quantity"
            if each["line"] in lines:
                return Refusal(INVALID_FIELD, f"lines[{index}].line", "must be named once")
            lines[each["line"]] = scaled(each["quantity"], SCALE_DECIMALS)
            if lines[each["line"]] <= 0:
                return Refusal(INVALID_FIELD, field, "must be above zero")
    except NotDecimalError:
        return Refusal(INVALID_FIELD, field, "must be a decimal text, such as 5.00")
    said = [request["seller_id"], request["order_id"], request["credit_note_id"], request["reason"], amount]
    content = json.dumps([*said, sorted(lines.items())])
    return CheckedCredit(Wanted(lines, request["amount"]), hashlib.sha256(content.encode()).digest())


def invoiced(event: InvoiceIssued) -> InvoiceRequest | Refusal:
    """What an invoice says, as its request said it; a refusal if today's rules don't permit to compute with it."""
    lines: list[RequestedLine] = [
        {
            "sku": line["sku"],
            "description": line["description"],
            "quantity": line["quantity"],
            "unit_price": line["unit_price"],
            "vat_rate": line["vat_rate"],
            "vat_category": line["vat_category"],
            "details": line.get("details"),
        }
        for line in event["lines"]
    ]
    request: InvoiceRequest = {
        "received_at": 0,
        "seller_id": event["seller_id"],
        "order_id": event["order_id"],
        "kind": event["kind"],
        "currency": event["currency"],
        "note": event["note"],
        "buyer": event["buyer"],
        "lines": lines,
        "details": event.get("details"),
    }
    priced = price(request)
    return priced if isinstance(priced, Refusal) else request


def decide_credit(
    order: InvoiceRequest, given: Sequence[Given], wanted: Wanted, credit_id: str, reason: str, now_us: int
) -> Decided | Refusal:
    """The credit note that takes back what is wanted of an invoice, after those that were given.

    `price` has accepted `order`, which is what its invoice says. What is refused would take back more than is left of
    a line, or of the whole. Only the requests' own checks have been made of `wanted`.
    """
    before: dict[int, int] = {}
    for each in given:
        for line, quantity in each.lines.items():
            before[line] = before.get(line, 0) + quantity
    left = {line: quantity - before.get(line, 0) for line, quantity in enumerate(quantities(order))}
    due = left_to_credit(order, [each.per_rate for each in given])
    whole = sum(taxable + tax for taxable, tax in due.values())
    if wanted.amount:
        return _of_amount(order, due, whole, wanted.amount, credit_id, reason, now_us)
    has_amounts = any(not each.lines for each in given)
    lines = dict(wanted.lines) or {line: quantity for line, quantity in left.items() if quantity}
    if not wanted.lines and (whole <= 0 if has_amounts else not lines):
        return Refusal(CREDIT_TOO_LARGE, "lines", "nothing is left to credit")
    for line, quantity in sorted(lines.items()):
        if line not in left or quantity <= 0:
            return Refusal(INVALID_FIELD, "lines", f"there is no {quantity_text(quantity)} of a line {line}")
        if quantity > left[line]:
            rest = quantity_text(left[line])
            return Refusal(CREDIT_TOO_LARGE, "lines", f"of line {line} {rest} is left, not {quantity_text(quantity)}")
    if has_amounts and not wanted.lines:
        note = _of_share(order, due, whole, credit_id, reason, now_us)
        return Decided(note, lines)
    credited = credit(order, before, lines)
    if credited.gross_minor < 0:
        return Refusal(INVALID_FIELD, "lines", "amount to less than zero: name the lines that were paid for, too")
    if credited.gross_minor > whole:
        said = minor_text(whole, order["currency"])
        return Refusal(CREDIT_TOO_LARGE, "lines", f"{said} is left, after credits of amounts")
    return Decided(of_lines(order, credited, credit_id, reason, now_us), lines)


def _of_amount(
    order: InvoiceRequest,
    due: Mapping[tuple[str, int], tuple[int, int]],
    whole: int,
    text: str,
    credit_id: str,
    reason: str,
    now_us: int,
) -> Decided | Refusal:
    if any(taxable < 0 or tax < 0 for taxable, tax in due.values()):
        detail = "can't be shared among rates of which one is below zero: name lines, or nothing for all that is left"
        return Refusal(INVALID_FIELD, "amount", detail)
    try:
        amount = minor(text, order["currency"])
    except NotDecimalError:
        amount = 0
    if amount <= 0:
        return Refusal(INVALID_FIELD, "amount", "must be above zero, with no more decimals than the currency has")
    if amount > whole:
        said = minor_text(whole, order["currency"])
        return Refusal(CREDIT_TOO_LARGE, "amount", f"{said} is left, not {text}")
    return Decided(_of_share(order, due, amount, credit_id, reason, now_us), {})


def _of_share(
    order: InvoiceRequest,
    due: Mapping[tuple[str, int], tuple[int, int]],
    amount_minor: int,
    credit_id: str,
    reason: str,
    now_us: int,
) -> CreditNoteRequest:
    lines, totals = credit_amount(order, due, amount_minor, reason)
    return _credit_note(order, credit_id, reason, lines, totals, None, now_us)


def of_lines(order: InvoiceRequest, credited: Credit, credit_id: str, reason: str, now_us: int) -> CreditNoteRequest:
    """A credit note for parts of lines."""
    currency = order["currency"]
    lines = [credited_line(order["lines"][each.line], each, currency) for each in credited.lines]
    totals: Totals = {
        "net_minor": credited.net_minor,
        "tax_minor": credited.tax_minor,
        "gross_minor": credited.gross_minor,
        "per_rate": list(credited.per_rate),
        "details": credited.totals_details,
    }
    return _credit_note(order, credit_id, reason, lines, totals, credited.details, now_us)


def _credit_note(
    order: InvoiceRequest,
    credit_id: str,
    reason: str,
    lines: list[InvoiceLine],
    totals: Totals,
    details: InvoiceDetails | None,
    now_us: int,
) -> CreditNoteRequest:
    return {
        "received_at": now_us,
        "seller_id": order["seller_id"],
        "order_id": order["order_id"],
        "refund_id": credit_id,
        "reason": reason,
        "currency": order["currency"],
        "note": None,
        "buyer": order["buyer"],
        "lines": lines,
        "totals": totals,
        "details": details,
    }
