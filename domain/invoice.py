"""An invoice request: what it must be, what it amounts to, and when two of them say the same.

Totals follow EN 16931: each line is rounded once
(BR-DEC-23), tax is rounded once per category and rate (BR-CO-17), and sums are sums of rounded amounts (BR-CO-10 ff.).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from domain.content import digest
from domain.iso import COUNTRIES, CURRENCY_EXPONENTS
from domain.money import (
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
    CreditNoteRequest,
    InvoiceLine,
    InvoiceRequest,
    RateTotal,
    RequestedLine,
)
from domain.refusals import INVALID_FIELD, NEGATIVE_TOTAL, TOTALS_DISAGREE, Refusal

#: What has the content of an invoice.
Invoiced: TypeAlias = InvoiceRequest | CreditNoteRequest
_Line = TypeVar("_Line", RequestedLine, InvoiceLine)

#: Beyond this the document is a book, and one order holds up a whole batch.
LINES_MAX = 1_000
ORDER_ID_CHARS_MAX = 64
#: 10^15 minor units: sums of 1,000 lines stay inside 64 bits.
AMOUNT_MINOR_MAX = 10**15
RATE_MAX = 100 * 10**RATE_DECIMALS

#: UNCL5305 codes that EN 16931 permits; True where the rate must be zero (BR-Z-5, BR-E-5, BR-AE-5, BR-IC-5, BR-G-5).
VAT_CATEGORIES: dict[str, bool] = {
    "S": False,
    "Z": True,
    "E": True,
    "AE": True,
    "K": True,
    "G": True,
    "O": True,
    "L": False,
    "M": False,
}
KINDS = ("invoice",)

#: By the path of the field; of a line, its name.
TEXT_CHARS_MAX = {
    "buyer.name": 200,
    "buyer.email": 254,
    "buyer.vat_id": 32,
    "buyer.address.street": 200,
    "buyer.address.city": 100,
    "buyer.address.postal_code": 20,
    "sku": 64,
    "description": 500,
    "note": 2_000,
}
# Control characters end a log line, a C string or a Postgres text; a note may have line breaks and tabs.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_CONTROL_IN_NOTE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
EMAIL = re.compile(r"[^@\s]+@[^@\s]+")


@dataclass(frozen=True, slots=True)
class Priced:
    """A request that may be invoiced: the net of each line, the totals, and the digest of its content (32 bytes)."""

    nets_minor: tuple[int, ...]
    #: `vat_rate` is canonical text with two decimals.
    per_rate: tuple[RateTotal, ...]
    net_minor: int
    tax_minor: int
    gross_minor: int
    content_sha256: bytes


def price(request: InvoiceRequest) -> Priced | Refusal:
    """Check every rule and compute the totals; the first rule broken is the refusal."""
    return price_as(request["kind"], request)


def price_as(kind: str, request: Invoiced) -> Priced | Refusal:
    """Like `price`, as if the request were of this kind."""
    currency = request["currency"]
    exponent = CURRENCY_EXPONENTS.get(currency)
    if exponent is None:
        return _invalid("currency", "must be an ISO 4217 code in capitals, such as EUR")
    refusal = _check_head(kind, request)
    if refusal is not None:
        return refusal
    lines = request["lines"]
    if not 1 <= len(lines) <= LINES_MAX:
        return _invalid("lines", f"must be 1 to {LINES_MAX} lines, not {len(lines)}")
    nets: list[int] = []
    taxables: dict[tuple[str, int], int] = {}
    content = [_head_text(kind, request)]
    unit = 10**exponent
    for index, line in enumerate(lines):
        amounts = _line_amounts(line)
        if isinstance(amounts, Refusal):
            return Refusal(amounts.reason, f"lines[{index}].{amounts.field}", amounts.detail)
        quantity, unit_price, rate = amounts
        net = divide_half_away(quantity * unit_price * unit, SCALE * SCALE)
        if abs(net) > AMOUNT_MINOR_MAX:
            return _invalid(f"lines[{index}]", "the net amount of a line must stay below 10^15 minor units")
        nets.append(net)
        category = line["vat_category"]
        taxables[category, rate] = taxables.get((category, rate), 0) + net
        content.append(f"{line['sku']}\x1f{line['description']}\x1f{quantity}\x1f{unit_price}\x1f{rate}\x1f{category}")
    per_rate = tuple(
        rate_total(category, rate, taxable, divide_half_away(taxable * rate, RATE_MAX))
        for (category, rate), taxable in sorted(taxables.items())
    )
    net_minor = sum(nets)
    tax_minor = sum(total["tax_minor"] for total in per_rate)
    if net_minor + tax_minor < 0:
        return Refusal(NEGATIVE_TOTAL, "lines", "an invoice's total must not be negative: ask for a credit note")
    return Priced(tuple(nets), per_rate, net_minor, tax_minor, net_minor + tax_minor, digest(content, request))


def compare_totals(priced: Priced, claimed: Mapping[str, str], currency: str) -> Refusal | None:
    """The caller's own totals, each optional, must be ours."""
    ours = {"net": priced.net_minor, "tax": priced.tax_minor, "gross": priced.gross_minor}
    for name, text in claimed.items():
        try:
            agrees = scaled(text, SCALE_DECIMALS) * 10 ** CURRENCY_EXPONENTS[currency] == ours[name] * SCALE
        except NotDecimalError:
            return _invalid(f"totals.{name}", "must be a decimal text, such as 19.99")
        if not agrees:
            return Refusal(TOTALS_DISAGREE, f"totals.{name}", f"the lines amount to {minor_text(ours[name], currency)}")
    return None


def rate_total(vat_category: str, rate: int, taxable_minor: int, tax_minor: int) -> RateTotal:
    """The totals of a category and a rate in hundredths of a percent."""
    return {
        "vat_category": vat_category,
        "vat_rate": rate_text(rate),
        "taxable_minor": taxable_minor,
        "tax_minor": tax_minor,
    }


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
    return check_segment("order_id", order_id) or _check_text("order_id", order_id, ORDER_ID_CHARS_MAX)


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
        or _check_text("buyer.name", buyer["name"], required=True)
        or _check_text("buyer.email", buyer["email"], required=True)
        or _check_text("buyer.vat_id", buyer["vat_id"] or "")
        or _check_text("buyer.address.street", address["street"])
        or _check_text("buyer.address.city", address["city"], required=True)
        or _check_text("buyer.address.postal_code", address["postal_code"])
    )
    if refusal is not None:
        return refusal
    if address["country"] not in COUNTRIES:
        return _invalid("buyer.address.country", "must be an ISO 3166-1 alpha-2 code in capitals, such as FR")
    if EMAIL.fullmatch(buyer["email"]) is None:
        return _invalid("buyer.email", "must be an e-mail address, such as zoe@example.com")
    note = request["note"] or ""
    if len(note) > TEXT_CHARS_MAX["note"] or _CONTROL_IN_NOTE.search(note):
        chars_max = TEXT_CHARS_MAX["note"]
        return _invalid("note", f"must have at most {chars_max} characters, no control character among them")
    return None


def _line_amounts(line: RequestedLine | InvoiceLine) -> tuple[int, int, int] | Refusal:
    """Quantity and unit price scaled by 10^6, and the rate in hundredths of a percent."""
    refusal = _check_text("sku", line["sku"]) or _check_text("description", line["description"], required=True)
    if refusal is not None:
        return refusal
    try:
        field = "quantity"
        quantity = scaled(line["quantity"], SCALE_DECIMALS)
        field = "unit_price"
        unit_price = scaled(line["unit_price"], SCALE_DECIMALS)
        field = "vat_rate"
        rate = scaled(line["vat_rate"], RATE_DECIMALS)
    except NotDecimalError:
        decimals = RATE_DECIMALS if field == "vat_rate" else SCALE_DECIMALS
        return _invalid(field, f"must be a decimal text with at most {decimals} decimals, such as 19.99")
    if quantity == 0:
        return _invalid("quantity", "must not be zero")
    if unit_price < 0:
        return _invalid("unit_price", "must not be negative (BR-27): return goods by a negative quantity")
    rate_is_zero = VAT_CATEGORIES.get(line["vat_category"])
    if rate_is_zero is None:
        return _invalid("vat_category", f"must be one of {', '.join(VAT_CATEGORIES)}")
    if not 0 <= rate <= RATE_MAX:
        return _invalid("vat_rate", "must be between 0 and 100")
    if rate_is_zero and rate:
        return _invalid("vat_rate", f"must be 0 in category {line['vat_category']}")
    if line["vat_category"] == "S" and not rate:
        return _invalid("vat_rate", "must be above 0 in category S (BR-S-5): zero-rated is Z, exempt is E")
    return quantity, unit_price, rate


def _check_text(field: str, text: str, chars_max: int | None = None, *, required: bool = False) -> Refusal | None:
    limit = chars_max or TEXT_CHARS_MAX[field]
    if len(text) > limit:
        return _invalid(field, f"must have at most {limit} characters")
    # Most texts are printable, which is the cheaper question.
    if not text.isprintable() and _CONTROL.search(text):
        return _invalid(field, "must hold no control characters")
    if required and not text.strip():
        return _invalid(field, "must not be empty")
    return None


def rate_text(rate: int) -> str:
    """A rate in hundredths of a percent, as text with two decimals."""
    return f"{rate // 100}.{rate % 100:02d}"


def _invalid(field: str, detail: str) -> Refusal:
    return Refusal(INVALID_FIELD, field, detail)
