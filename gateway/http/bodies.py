"""JSON bodies: requests decoded strictly, naming the offending field, and answers; those of invoices and checkouts."""

import json
import re
from codecs import BOM_UTF8
from collections.abc import Mapping
from typing import Annotated, Any, NoReturn, TypeVar

import msgspec
from aiohttp import web
from msgspec import UNSET, Struct, UnsetType

from domain import records
from domain.amounts import with_amounts
from domain.checkout import CUSTOMER_CHARS_MAX, GUEST, PAYMENT_TOKEN_CHARS_MAX, TOKEN
from domain.credit import REFUND_ID_CHARS_MAX
from domain.invoice import EMAIL, LINES_MAX, ORDER_ID_CHARS_MAX, check_order_id
from domain.iso import COUNTRIES, CURRENCY_EXPONENTS
from domain.money import NotDecimalError
from domain.order import REASON_CHARS_MAX
from domain.refusals import INVALID_FIELD, Refusal
from domain.terms import VAT_CATEGORIES
from domain.texts import SHORT_CHARS_MAX, TEXT_CHARS_MAX, in_lines, in_one_line
from gateway.http import problems
from gateway.http.details import (
    Decimal,
    InvoiceExtras,
    LineExtras,
    PartyExtras,
    invoice_details,
    line_details,
    party_details,
)
from gateway.http.openapi import described, limits, whole
from gateway.http.parameters import chosen_id
from gateway.http.problems import ProblemError

_AMOUNTS = frozenset(
    "quantity unit_price vat_rate net tax gross payable amount percent base_amount rounding_amount prepaid_amount"
    " exchange_rate base_quantity gross_price price_discount".split()
)
_WHERE = re.compile(r"^(.*?)(?: - at `\$\.?(.*)`)?$", re.DOTALL)
_NAMED = re.compile(r"`([^`]*)`")
_NUMBER_FOR_TEXT = re.compile(r"Expected `str(?: \| null)?`, got `(?:int|float)`")

_Body = TypeVar("_Body")
_Record = TypeVar("_Record", records.InvoiceRequest, records.CheckoutRequest)

#: Of a buyer without one.
NO_ADDRESS: records.Address = {"street": "", "city": "", "postal_code": "", "country": ""}

_CHARS = TEXT_CHARS_MAX
_Line = Annotated[str, limits(maxLength=SHORT_CHARS_MAX)]


class Line(LineExtras, frozen=True, forbid_unknown_fields=True, gc=False):
    """A line; amounts are decimal strings, so that no client rounds them."""

    sku: Annotated[str, limits(maxLength=_CHARS["sku"])]
    description: Annotated[str, limits(minLength=1, maxLength=_CHARS["description"])]
    quantity: Decimal
    unit_price: Decimal
    vat_rate: Decimal
    vat_category: Annotated[str, limits(enum=list(VAT_CATEGORIES))]
    net: Annotated[Decimal, described("What the caller has come to, BT-131.")] | UnsetType | None = UNSET


class Address(Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """A postal address."""

    street: Annotated[str, limits(maxLength=_CHARS["buyer.address.street"])]
    city: Annotated[str, limits(minLength=1, maxLength=_CHARS["buyer.address.city"])]
    postal_code: Annotated[str, limits(maxLength=_CHARS["buyer.address.postal_code"])]
    country: Annotated[str, limits(enum=sorted(COUNTRIES))]
    line2: Annotated[_Line, described("BT-51.")] | UnsetType | None = UNSET
    line3: Annotated[_Line, described("BT-163.")] | UnsetType | None = UNSET
    subdivision: Annotated[_Line, described("Region, province or state, BT-54.")] | UnsetType | None = UNSET


class Buyer(PartyExtras, frozen=True, forbid_unknown_fields=True, gc=False):
    """Who is invoiced."""

    name: Annotated[str, limits(minLength=1, maxLength=_CHARS["buyer.name"])]
    email: Annotated[str, limits(maxLength=_CHARS["buyer.email"], pattern=whole(EMAIL))] | UnsetType | None = UNSET
    address: Address | UnsetType | None = UNSET
    vat_id: Annotated[str, limits(maxLength=_CHARS["buyer.vat_id"])] | UnsetType | None = UNSET


class Totals(Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """The totals that the caller expects; each one given is compared."""

    net: Decimal | UnsetType = UNSET
    tax: Decimal | UnsetType = UNSET
    gross: Decimal | UnsetType = UNSET
    payable: Decimal | UnsetType = UNSET


class InvoiceRequest(InvoiceExtras, frozen=True, forbid_unknown_fields=True, gc=False):
    """The body of POST /v1/invoices."""

    currency: Annotated[str, limits(enum=sorted(CURRENCY_EXPONENTS))]
    buyer: Buyer
    lines: Annotated[list[Line], limits(minItems=1, maxItems=LINES_MAX)]
    order_id: Annotated[str, limits(minLength=1, maxLength=ORDER_ID_CHARS_MAX)] | UnsetType = UNSET
    note: Annotated[str, limits(maxLength=_CHARS["note"])] | UnsetType | None = UNSET
    totals: Totals | UnsetType | None = UNSET


class CheckoutRequest(InvoiceRequest, frozen=True, forbid_unknown_fields=True, gc=False, kw_only=True):
    """The body of POST /v1/checkouts: the invoice's content, the customer and the means of payment."""

    payment_token: Annotated[str, limits(maxLength=PAYMENT_TOKEN_CHARS_MAX, pattern=whole(TOKEN))]
    #: A guest has none.
    customer: Annotated[str, limits(minLength=1, maxLength=CUSTOMER_CHARS_MAX)] | UnsetType | None = UNSET


class CreditNoteRequest(InvoiceRequest, frozen=True, forbid_unknown_fields=True, gc=False, kw_only=True):
    """The body of POST /v1/credit-notes: what is credited, as an invoice says it.

    `preceding_invoices` names the one invoice that was issued elsewhere.
    """

    order_id: Annotated[str, limits(minLength=1, maxLength=ORDER_ID_CHARS_MAX)]
    credit_note_id: Annotated[str, limits(minLength=1, maxLength=REFUND_ID_CHARS_MAX)] | UnsetType = UNSET
    reason: Annotated[str, limits(maxLength=REASON_CHARS_MAX), described("Is printed.")] | UnsetType | None = UNSET


_Request = TypeVar("_Request", bound=InvoiceRequest)

_invoice_decoder = msgspec.json.Decoder(InvoiceRequest)
_checkout_decoder = msgspec.json.Decoder(CheckoutRequest)
_credit_note_decoder = msgspec.json.Decoder(CreditNoteRequest)


def read_invoice(body: bytes) -> InvoiceRequest:
    """The request; raises `ProblemError` with the offending field, where there is one."""
    return _read(_invoice_decoder, body)


def read_checkout(body: bytes) -> CheckoutRequest:
    """The request; raises `ProblemError`, which never holds the payment token."""
    return _read(_checkout_decoder, body)


def read_credit_note(body: bytes) -> CreditNoteRequest:
    """The request; raises `ProblemError` with the offending field, where there is one."""
    return _read(_credit_note_decoder, body)


def _read(decoder: msgspec.json.Decoder[_Request], body: bytes) -> _Request:
    request = decode(decoder, body)
    # The decoder silently uses the last value of a repeated field. Only a full parse finds one; it runs only if the
    # number of colons is not the expected one.
    if b"\\u003" in body or body.count(b":") != _colons(request):
        refuse_repeated_fields(body)
    return request


def order_id(request: InvoiceRequest, idempotency_key: str | None) -> str:
    """The order's id, from the body or the Idempotency-Key header; raises `ProblemError`."""
    return order_id_of(request.order_id, idempotency_key)


def order_id_of(asked: str | UnsetType, idempotency_key: str | None) -> str:
    """The order's id, from a body's field or the Idempotency-Key header; raises `ProblemError`."""
    given = None if asked is UNSET else asked
    chosen = chosen_id("order_id", given, idempotency_key, problems.ORDER_ID_MISSING, problems.ORDER_ID_AMBIGUOUS)
    refusal = check_order_id(chosen)
    if refusal is not None:
        raise problems.refused(refusal)
    return chosen


def as_record(request: InvoiceRequest, seller_id: str, order: str, received_at_us: int) -> records.InvoiceRequest:
    """The request as it goes to Kafka."""
    record: records.InvoiceRequest = {
        "received_at": received_at_us,
        "seller_id": seller_id,
        "order_id": order,
        "kind": "invoice",
        "currency": request.currency,
        # Empty means the same as absent, so it is the same content.
        "note": request.note or None,
        "buyer": _buyer(request.buyer),
        "lines": _lines(request.lines),
    }
    return _completed(record, request)


def as_checkout(request: CheckoutRequest, seller_id: str, order: str, received_at_us: int) -> records.CheckoutRequest:
    """The request as it goes to Kafka."""
    record: records.CheckoutRequest = {
        "received_at": received_at_us,
        "seller_id": seller_id,
        "order_id": order,
        "customer": customer_of(request),
        "payment_token": request.payment_token,
        "currency": request.currency,
        "note": request.note or None,
        "buyer": _buyer(request.buyer),
        "lines": _lines(request.lines),
    }
    return _completed(record, request)


def _completed(record: _Record, request: InvoiceRequest) -> _Record:
    """The record with what few requests say, and the amounts that follow from percentages and lines' net amounts."""
    details = invoice_details(request)
    if details is not None:
        record["details"] = details
    nets = _claimed_nets(request)
    if details is None and not nets and all("details" not in line for line in record["lines"]):
        return record
    try:
        return with_amounts(record, nets)
    except (NotDecimalError, KeyError):  # The checks that follow name the field.
        return record


def _buyer(buyer: Buyer) -> records.Buyer:
    address = buyer.address
    record: records.Buyer = {
        "name": in_one_line(buyer.name),
        "email": buyer.email or "",
        "vat_id": buyer.vat_id or None,
        "address": _address(address) if isinstance(address, Address) else NO_ADDRESS,
    }
    details = party_details(buyer)
    return record if details is None else {**record, "details": details}


def _address(address: Address) -> records.Address:
    record: records.Address = {
        "street": in_lines(address.street),
        "city": in_one_line(address.city),
        "postal_code": in_one_line(address.postal_code),
        "country": address.country,
    }
    if address.line2 or address.line3 or address.subdivision:
        record["line2"] = in_one_line(address.line2 or "")
        record["line3"] = in_one_line(address.line3 or "")
        record["subdivision"] = in_one_line(address.subdivision or "")
    return record


def _lines(lines: list[Line]) -> list[records.RequestedLine]:
    return [_line(line) for line in lines]


def _line(line: Line) -> records.RequestedLine:
    record: records.RequestedLine = {
        "sku": line.sku,
        "description": in_lines(line.description),
        "quantity": line.quantity,
        "unit_price": line.unit_price,
        "vat_rate": line.vat_rate,
        "vat_category": line.vat_category,
    }
    details = line_details(line)
    if details is not None:
        record["details"] = details
    return record


def customer_of(request: CheckoutRequest) -> str:
    """The customer, or `GUEST` if none is given; raises `ProblemError` for an empty one, which may be a mistake."""
    if request.customer == GUEST:
        detail = f"must have 1 to {CUSTOMER_CHARS_MAX} characters; omit it for a guest"
        raise problems.refused(Refusal(INVALID_FIELD, "customer", detail))
    return request.customer if isinstance(request.customer, str) else GUEST


def claims(request: InvoiceRequest) -> dict[str, str]:
    """The amounts that the caller expects, by the paths of their fields: totals, and net amounts of lines."""
    claimed = {f"lines[{index}].net": text for index, text in _claimed_nets(request).items()}
    return _claimed_totals(request) | claimed


def _claimed_nets(request: InvoiceRequest) -> dict[int, str]:
    return {index: line.net for index, line in enumerate(request.lines) if isinstance(line.net, str)}


def _claimed_totals(request: InvoiceRequest) -> dict[str, str]:
    totals = request.totals
    if totals is UNSET or totals is None:
        return {}
    given = {"net": totals.net, "tax": totals.tax, "gross": totals.gross, "payable": totals.payable}
    return {f"totals.{name}": text for name, text in given.items() if text is not UNSET}


def _colons(request: InvoiceRequest) -> int:
    """The number of colons of a body that gives each field of `request` once: one per field, and those in its texts.

    It holds for bodies that write no colon as an escape. What few requests have is not counted: where there is any of
    it, the body has more colons than this.
    """
    buyer = request.buyer
    fields = 3 + 1 + 6 * len(request.lines)
    texts = [request.currency, buyer.name]
    for optional in (request.order_id, request.note, buyer.vat_id, buyer.email):
        if optional is not UNSET:
            fields += 1
            if optional is not None:
                texts.append(optional)
    if buyer.address is not UNSET:
        fields += 1
        if buyer.address is not None:
            fields += 4
            address = buyer.address
            texts += [address.street, address.city, address.postal_code, address.country]
    if request.totals is not UNSET:
        fields += 1
        claimed = _claimed_totals(request)
        fields += len(claimed)
        texts += claimed.values()
    if isinstance(request, CheckoutRequest):
        fields += 1
        texts.append(request.payment_token)
        if request.customer is not UNSET:
            fields += 1
            texts.append(request.customer or "")
    colons = fields + "".join(texts).count(":")
    for line in request.lines:
        colons += line.sku.count(":") + line.description.count(":")
        # The domain checks later whether these are numbers.
        colons += (line.quantity + line.unit_price + line.vat_rate + line.vat_category).count(":")
    return colons


def json_answer(
    body: Mapping[str, Any], *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """`body` as JSON."""
    return web.Response(status=status, body=msgspec.json.encode(body), content_type="application/json", headers=headers)


def decode(decoder: msgspec.json.Decoder[_Body], body: bytes) -> _Body:
    """The decoded body; raises `ProblemError` with the offending field, where there is one. Repeated fields pass.

    A byte order mark before it is skipped: Windows software often writes one (RFC 8259, 8.1).
    """
    try:
        return decoder.decode(body.removeprefix(BOM_UTF8))
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        _refuse_malformed(body, error)


def decode_small(decoder: msgspec.json.Decoder[_Body], body: bytes) -> _Body:
    """Like `decode`, but a field given twice is refused."""
    decoded = decode(decoder, body)
    refuse_repeated_fields(body)
    return decoded


def _invalid(message: str) -> ProblemError:
    """msgspec's message, such as "Expected `str`, got `int` - at `$.lines[0].quantity`", as a problem."""
    match = _WHERE.match(message)
    text, path = (match.group(1), match.group(2) or "") if match else (message, "")
    if "missing required field" in text or "unknown field" in text:
        named = _NAMED.search(text)
        name = named.group(1) if named else ""
        path = f"{path}.{name}" if path else name
        text = "is missing" if "missing" in text else "is not a field of this request"
    elif _NUMBER_FOR_TEXT.search(text) and path.rpartition(".")[2] in _AMOUNTS:
        text = 'is a number: write it as a string, such as "19.99"'
    else:
        text = text.replace("`", "").replace("Expected", "expected")
    return ProblemError(problems.MALFORMED, f"{path}: {text}" if path else text, field=path or None)


def _refuse_malformed(body: bytes, error: Exception) -> NoReturn:
    """Raise `ProblemError` for a body that is not JSON; NaN and infinities are named by their field."""
    try:
        document = json.loads(body, parse_constant=_NotJson)
    except (ValueError, RecursionError):
        document = None
    found = _find_not_json(document, "", 0)
    if found is not None:
        path, text = found
        raise ProblemError(problems.MALFORMED, f"{path}: {text} is not JSON", field=path or None)
    if isinstance(error, RecursionError):
        raise ProblemError(problems.MALFORMED, "the body is nested too deeply")
    if isinstance(error, UnicodeDecodeError):
        raise ProblemError(problems.MALFORMED, f"the body is not UTF-8 (byte {error.start})")
    raise ProblemError(problems.MALFORMED, str(error))


class _NotJson:
    """NaN, Infinity or -Infinity."""

    def __init__(self, text: str) -> None:
        self.text = text


def _find_not_json(node: Any, path: str, depth: int) -> tuple[str, str] | None:
    if isinstance(node, _NotJson):
        return path, node.text
    if depth > 8:  # Deeper than any field of ours.
        return None
    children: list[tuple[str, Any]] = []
    if isinstance(node, dict):
        children = [(f"{path}.{name}" if path else name, child) for name, child in node.items()]
    elif isinstance(node, list):
        children = [(f"{path}[{index}]", child) for index, child in enumerate(node)]
    for where, child in children:
        found = _find_not_json(child, where, depth + 1)
        if found is not None:
            return found
    return None


def refuse_repeated_fields(body: bytes) -> None:
    """Raise `ProblemError` if an object of well-formed JSON gives a field twice."""

    def check(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        fields = dict(pairs)
        if len(fields) != len(pairs):
            seen: set[str] = set()
            name = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
            raise ProblemError(problems.MALFORMED, f"{name}: given twice", field=name)
        return fields

    json.loads(body, object_pairs_hook=check)
