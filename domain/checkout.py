"""A checkout request: an order to be priced like an invoice, of whole pieces, by a customer or guest with a token."""

import hashlib
import re
from dataclasses import dataclass
from typing import Any, cast

from domain.invoice import Priced, check_segment, price, with_plain_zeros
from domain.records import CheckoutRequest, InvoiceRequest, RequestedLine
from domain.refusals import INVALID_FIELD, Refusal
from domain.reservation import Sku, wanted_of

#: Of an e-mail address (RFC 5321), which many shops know their customers by.
CUSTOMER_CHARS_MAX = 254
#: The customer of a checkout by somebody whom the storefront doesn't know.
GUEST = ""
PAYMENT_TOKEN_CHARS_MAX = 200
SKU_CHARS_MAX = 64
#: Pieces of one line: sums over 1,000 lines stay far inside 64 bits, and a slip of the finger is seen.
PIECES_MAX = 1_000_000

_NOT_INVOICED = ("customer", "payment_token")

TOKEN = re.compile(r"[\x21-\x7e]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_PIECES = re.compile(r"(-?)([1-9][0-9]{0,6})(?:\.0{1,6})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Checkout:
    """A request that may become an order."""

    #: The invoice that the order will have.
    invoice_request: InvoiceRequest
    priced: Priced
    #: Whole pieces of each line, in the order of the lines; below zero for a discount.
    pieces: tuple[int, ...]
    #: Pieces per SKU, lines of the same SKU together; those of lines that claim stock.
    wanted: dict[Sku, int]
    #: What a repeat must equal: the invoice's content and the customer; not the payment token.
    content_sha256: bytes


def check(request: CheckoutRequest) -> Checkout | Refusal:
    """Check the request by every rule; the first one broken is the refusal."""
    refusal = _check_customer(request["customer"]) or _check_token(request["payment_token"])
    if refusal is not None:
        return refusal
    details = request.get("details")
    if details is not None:
        for name, amount in (("prepaid", details["prepaid_amount"]), ("rounding", details["rounding_amount"])):
            if amount:
                return Refusal(INVALID_FIELD, f"{name}_amount", "must be left out of a checkout, which is paid in full")
    pieces = []
    for index, line in enumerate(request["lines"]):
        count = _pieces(line)
        if isinstance(count, Refusal):
            return Refusal(count.reason, f"lines[{index}].{count.field}", count.detail)
        pieces.append(count)
    if all(claims_no_stock(line) for line in request["lines"]):
        return Refusal(INVALID_FIELD, "lines", "must hold a line that claims stock: ask for an invoice otherwise")
    # All else: a field that both requests gain is invoiced, and in the digest, without a word here.
    asked: dict[str, Any] = {name: value for name, value in request.items() if name not in _NOT_INVOICED}
    asked |= {"kind": "invoice", "lines": with_plain_zeros([_as_invoiced(line) for line in request["lines"]])}
    invoice_request = cast(InvoiceRequest, asked)
    priced = price(invoice_request)
    if isinstance(priced, Refusal):
        return priced
    skus = (sku_of(line) for line in request["lines"])
    return Checkout(
        invoice_request,
        priced,
        tuple(pieces),
        wanted_of(request["seller_id"], zip(skus, pieces, strict=True)),
        hashlib.sha256(priced.content_sha256 + request["customer"].encode()).digest(),
    )


def claims_no_stock(line: RequestedLine) -> bool:
    """Whether it is shipping, a discount, or else something of which there is no stock."""
    details = line.get("details")
    return details is not None and details["stock"] is False


def sku_of(line: RequestedLine) -> str:
    """What the line claims; empty if it claims nothing."""
    return "" if claims_no_stock(line) else line["sku"]


def _pieces(line: RequestedLine) -> int | Refusal:
    match = _PIECES.fullmatch(line["quantity"])
    count = int(match[2]) if match is not None else 0
    if claims_no_stock(line):
        if not 1 <= count <= PIECES_MAX:
            return Refusal(INVALID_FIELD, "quantity", f"must be a whole number, at most {PIECES_MAX}, not zero")
        # A negative price says the same as a negative quantity.
        is_negative = (match is not None and match[1] == "-") != line["unit_price"].startswith("-")
        return -count if is_negative else count
    refusal = check_sku(line["sku"])
    if refusal is not None:
        return refusal
    if match is None or match[1] or count > PIECES_MAX:
        hint = ", or anything but zero with stock: false"
        return Refusal(INVALID_FIELD, "quantity", f"must be a whole number of pieces from 1 to {PIECES_MAX}{hint}")
    return count


def _as_invoiced(line: RequestedLine) -> RequestedLine:
    """With the sign at the quantity: an invoice's price is not negative (BR-27)."""
    if not (line["unit_price"].startswith("-") and claims_no_stock(line)):
        return line
    quantity = line["quantity"]
    other = quantity[1:] if quantity.startswith("-") else f"-{quantity}"
    return {**line, "quantity": other, "unit_price": line["unit_price"][1:]}


def check_name(field: str, text: str, chars_max: int) -> Refusal | None:
    """A customer's or an article's name: not empty, no control characters."""
    if not 1 <= len(text) <= chars_max or not text.strip():
        return Refusal(INVALID_FIELD, field, f"must have 1 to {chars_max} characters")
    # Most texts are printable, which is the cheaper question.
    if not text.isprintable() and _CONTROL.search(text):
        return Refusal(INVALID_FIELD, field, "must hold no control characters")
    return None


def _check_customer(customer: str) -> Refusal | None:
    return None if customer == GUEST else check_name("customer", customer, CUSTOMER_CHARS_MAX)


def check_sku(sku: str) -> Refusal | None:
    """A SKU of which there may be stock: a name that a URL can hold."""
    return check_name("sku", sku, SKU_CHARS_MAX) or check_segment("sku", sku)


def _check_token(token: str) -> Refusal | None:
    # The detail never repeats it.
    if len(token) > PAYMENT_TOKEN_CHARS_MAX or TOKEN.fullmatch(token) is None:
        return Refusal(
            INVALID_FIELD,
            "payment_token",
            f"must be 1 to {PAYMENT_TOKEN_CHARS_MAX} characters of ASCII without spaces",
        )
    return None
