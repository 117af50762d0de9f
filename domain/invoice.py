"""An invoice request: what it must be, what it amounts to, and when two of them say the same.

Totals follow EN 16931: each line is rounded once
(BR-DEC-23), tax is rounded once per category and rate (BR-CO-17), and sums are sums of rounded amounts (BR-CO-10 ff.).
What few requests have, such as allowances, is in `domain.amounts` and `domain.terms`.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple, TypeAlias, TypeVar

from domain.amounts import Entry, add_up, add_up_all, line_minor
from domain.content import digest
from domain.iso import COUNTRIES, CURRENCY_EXPONENTS
from domain.money import (
    PRICE_DECIMALS,
    PRICE_SCALE,
    RATE_DECIMALS,
    SCALE,
    SCALE_DECIMALS,
    NotDecimalError,
    divide_half_away,
    minor_text,
    scaled,
    unsigned_zero,
)
from domain.records import (
    Address,
    CreditNoteRequest,
    InvoiceLine,
    InvoiceRequest,
    RateTotal,
    RequestedLine,
    TotalsDetails,
)
from domain.refusals import INVALID_FIELD, NEGATIVE_TOTAL, TOTALS_DISAGREE, Refusal
from domain.terms import VAT_CATEGORIES, check_rate, check_terms
from domain.texts import TEXT_CHARS_MAX, check_lines, check_note, check_text

#: What has the content of an invoice.
Invoiced: TypeAlias = InvoiceRequest | CreditNoteRequest
_Line = TypeVar("_Line", RequestedLine, InvoiceLine)

#: Beyond this the document is a book, and one order holds up a whole batch.
LINES_MAX = 1_000
ORDER_ID_CHARS_MAX = 64
#: 10^15 minor units: sums of 1,000 lines stay inside 64 bits.
AMOUNT_MINOR_MAX = 10**15
KINDS = ("invoice",)

#: In version 1 of the content prices have 6 decimals and rates 2: so many of today's units are one of these.
_OLD_PRICE = 10 ** (PRICE_DECIMALS - 6)
_OLD_RATE = 10 ** (RATE_DECIMALS - 2)
EMAIL = re.compile(r"[^@\s]+@[^@\s]+")


class Priced(NamedTuple):
    """A request that may be invoiced: the net of each line, the totals, and the digest of its content (32 bytes)."""

    nets_minor: tuple[int, ...]
    #: `vat_rate` is canonical text with two to four decimals.
    per_rate: tuple[RateTotal, ...]
    net_minor: int
    tax_minor: int
    gross_minor: int
    content_sha256: bytes
    #: None where the lines are all there is.
    details: TotalsDetails | None = None

    @property
    def payable_minor(self) -> int:
        """What is due. BT-115."""
        return self.gross_minor if self.details is None else self.details["payable_minor"]


def price(request: InvoiceRequest) -> Priced | Refusal:
    """Check every rule and compute the totals; the first rule broken is the refusal."""
    return price_as(request["kind"], request)


def price_as(kind: str, request: Invoiced) -> Priced | Refusal:
    """Like `price`, as if the request were of this kind."""
    currency = request["currency"]
    exponent = CURRENCY_EXPONENTS.get(currency)
    if exponent is None:
        return _invalid("currency", "must be an ISO 4217 code in capitals, such as EUR")
    refusal = _check_head(kind, request) or check_terms(request)
    if refusal is not None:
        return refusal
    lines = request["lines"]
    if not 1 <= len(lines) <= LINES_MAX:
        return _invalid("lines", f"must be 1 to {LINES_MAX} lines, not {len(lines)}")
    entries: list[Entry] = []
    content = [_head_text(kind, request)]
    unit = 10**exponent
    for index, line in enumerate(lines):
        amounts = _line_amounts(line)
        if isinstance(amounts, Refusal):
            return Refusal(amounts.reason, f"lines[{index}].{amounts.field}", amounts.detail)
        quantity, unit_price, rate = amounts
        if line.get("details") is None:
            net = divide_half_away(quantity * unit_price * unit, SCALE * PRICE_SCALE)
        else:
            net = line_minor(line, currency)
        if abs(net) > AMOUNT_MINOR_MAX:
            return _invalid(f"lines[{index}]", "the net amount of a line must stay below 10^15 minor units")
        category = line["vat_category"]
        entries.append((category, rate, net))
        numbers = f"{quantity}\x1f{_old_text(unit_price, _OLD_PRICE)}\x1f{_old_text(rate, _OLD_RATE)}"
        content.append(f"{line['sku']}\x1f{line['description']}\x1f{numbers}\x1f{category}")
    details = request.get("details")
    sums = add_up(entries) if details is None else add_up_all(entries, details, currency)
    if sums.net_minor + sums.tax_minor < 0:
        return Refusal(NEGATIVE_TOTAL, "lines", "an invoice's total must not be negative: ask for a credit note")
    return Priced(
        sums.nets_minor,
        sums.per_rate,
        sums.net_minor,
        sums.tax_minor,
        sums.net_minor + sums.tax_minor,
        digest(content, request),
        sums.details,
    )


def compare_claims(priced: Priced, claimed: Mapping[str, str], currency: str) -> Refusal | None:
    """The caller's own totals and net amounts of lines, by the paths of their fields, must be ours."""
    ours = {
        "totals.net": priced.net_minor,
        "totals.tax": priced.tax_minor,
        "totals.gross": priced.gross_minor,
        "totals.payable": priced.payable_minor,
    }
    if not claimed.keys() <= ours.keys():
        ours |= {f"lines[{index}].net": net for index, net in enumerate(priced.nets_minor)}
    for path, text in claimed.items():
        try:
            agrees = scaled(text, PRICE_DECIMALS) * 10 ** CURRENCY_EXPONENTS[currency] == ours[path] * PRICE_SCALE
        except NotDecimalError:
            return _invalid(path, "must be a decimal text, such as 19.99")
        if not agrees:
            what = "the line amounts" if path.startswith("lines[") else "the lines amount"
            return Refusal(TOTALS_DISAGREE, path, f"{what} to {minor_text(ours[path], currency)}")
    return None


def with_plain_zeros(lines: Sequence[_Line]) -> list[_Line]:
    """Lines that `price` has accepted, as they are shown: a price or a rate of negative zero is zero."""
    return [
        {**line, "unit_price": unsigned_zero(line["unit_price"]), "vat_rate": unsigned_zero(line["vat_rate"])}
        if line["unit_price"].startswith("-") or line["vat_rate"].startswith("-")
        else line
        for line in lines
    ]


def check_order_id(order_id: str) -> Refusal | None:
    """1-64 characters, none of them a control character. They are compared one by one: nothing is trimmed or folded."""
    if not 1 <= len(order_id) <= ORDER_ID_CHARS_MAX:
        return _invalid("order_id", f"must have 1 to {ORDER_ID_CHARS_MAX} characters")
    return check_segment("order_id", order_id) or check_text("order_id", order_id, ORDER_ID_CHARS_MAX)


def check_segment(field: str, text: str) -> Refusal | None:
    """An id can be a segment of a URL's path."""
    if text in (".", ".."):
        return _invalid(field, "must not be . or .., which clients take out of a URL")
    return None


def _head_text(kind: str, request: Invoiced) -> str:
    """What a repeat must equal in version 1 of the content, besides the lines. No text holds a control character."""
    buyer = request["buyer"]
    address = buyer["address"]
    texts = (
        request["seller_id"],
        request["order_id"],
        kind,
        request["currency"],
        request["note"] or "",
        buyer["name"],
        buyer["email"],
        buyer["vat_id"] or "",
        address["street"],
        address["city"],
        address["postal_code"],
        address["country"],
    )
    return "\x1f".join(texts)


def _check_head(kind: str, request: Invoiced) -> Refusal | None:
    buyer = request["buyer"]
    address = buyer["address"]
    if kind not in KINDS:
        return _invalid("kind", f"must be one of {', '.join(KINDS)}")
    refusal = (
        check_order_id(request["order_id"])
        or check_text("buyer.name", buyer["name"], required=True)
        or check_text("buyer.email", buyer["email"])
        or check_text("buyer.vat_id", buyer["vat_id"] or "")
        or _check_address(address)
    )
    if refusal is not None:
        return refusal
    if buyer["email"] and EMAIL.fullmatch(buyer["email"]) is None:
        return _invalid("buyer.email", "must be an e-mail address, such as zoe@example.com")
    return check_note(request["note"] or "")


def _check_address(address: Address) -> Refusal | None:
    """An address, or none at all; whether the invoice may do without one is asked in `domain.simplified`."""
    if not (address["country"] or address["city"] or address["street"] or address["postal_code"]):
        return None
    refusal = (
        check_lines("buyer.address.street", address["street"], TEXT_CHARS_MAX["buyer.address.street"])
        or check_text("buyer.address.city", address["city"], required=True)
        or check_text("buyer.address.postal_code", address["postal_code"])
    )
    if refusal is None and address["country"] not in COUNTRIES:
        return _invalid("buyer.address.country", "must be an ISO 3166-1 alpha-2 code in capitals, such as FR")
    return refusal


def _line_amounts(line: RequestedLine | InvoiceLine) -> tuple[int, int, int] | Refusal:
    """Quantity scaled by 10^6, unit price by 10^10, and the rate in 10^-4 percent."""
    refusal = check_text("sku", line["sku"]) or check_lines(
        "description", line["description"], TEXT_CHARS_MAX["description"], required=True
    )
    if refusal is not None:
        return refusal
    try:
        field, decimals = "quantity", SCALE_DECIMALS
        quantity = scaled(line["quantity"], SCALE_DECIMALS)
        field, decimals = "unit_price", PRICE_DECIMALS
        unit_price = scaled(line["unit_price"], PRICE_DECIMALS)
        field, decimals = "vat_rate", RATE_DECIMALS
        rate = scaled(line["vat_rate"], RATE_DECIMALS)
    except NotDecimalError:
        return _invalid(field, f"must be a decimal text with at most {decimals} decimals, such as 19.99")
    if quantity == 0:
        return _invalid("quantity", "must not be zero")
    if unit_price < 0:
        return _invalid("unit_price", "must not be negative (BR-27): return goods by a negative quantity")
    if line["vat_category"] not in VAT_CATEGORIES:
        return _invalid("vat_category", f"must be one of {', '.join(VAT_CATEGORIES)}")
    refusal = check_rate("", line["vat_category"], rate)
    return (quantity, unit_price, rate) if refusal is None else refusal


@lru_cache(maxsize=65_536)
def _old_text(value: int, unit: int) -> str:
    """The value in the units of version 1 of the content, as it always was where it is a whole number of them."""
    whole, rest = divmod(value, unit)
    return f"{whole}.{rest}/{unit}" if rest else str(whole)


def _invalid(field: str, detail: str) -> Refusal:
    return Refusal(INVALID_FIELD, field, detail)
