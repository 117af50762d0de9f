"""Invoice and checkout requests as they come over HTTP: read strictly, and told apart from what only looks like one."""

from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import UNSET, Struct, UnsetType

from domain.checkout import CUSTOMER_CHARS_MAX, PAYMENT_TOKEN_CHARS_MAX, TOKEN
from domain.invoice import EMAIL, LINES_MAX, ORDER_ID_CHARS_MAX, TEXT_CHARS_MAX, VAT_CATEGORIES, check_order_id
from domain.iso import COUNTRIES, CURRENCY_EXPONENTS
from domain.money import DECIMAL
from gateway import bodies
from gateway.openapi import limits, whole
from gateway.problems import ORDER_ID_AMBIGUOUS, ORDER_ID_MISSING, refused

_CHARS = TEXT_CHARS_MAX
_Decimal = Annotated[str, limits(pattern=whole(DECIMAL))]


class Line(Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """A line; amounts are decimal strings, so that no client rounds them on the way."""

    sku: Annotated[str, limits(maxLength=_CHARS["sku"])]
    description: Annotated[str, limits(minLength=1, maxLength=_CHARS["description"])]
    quantity: _Decimal
    unit_price: _Decimal
    vat_rate: _Decimal
    vat_category: Annotated[str, limits(enum=list(VAT_CATEGORIES))]


class Address(Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """A postal address."""

    street: Annotated[str, limits(maxLength=_CHARS["buyer.address.street"])]
    city: Annotated[str, limits(minLength=1, maxLength=_CHARS["buyer.address.city"])]
    postal_code: Annotated[str, limits(maxLength=_CHARS["buyer.address.postal_code"])]
    country: Annotated[str, limits(enum=sorted(COUNTRIES))]


class Buyer(Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """Who is invoiced."""

    name: Annotated[str, limits(minLength=1, maxLength=_CHARS["buyer.name"])]
    email: Annotated[str, limits(maxLength=_CHARS["buyer.email"], pattern=whole(EMAIL))]
    address: Address
    vat_id: Annotated[str, limits(maxLength=_CHARS["buyer.vat_id"])] | UnsetType | None = UNSET


class Totals(Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """What the caller believes the invoice to amount to; each is compared where it is given."""

    net: _Decimal | UnsetType = UNSET
    tax: _Decimal | UnsetType = UNSET
    gross: _Decimal | UnsetType = UNSET


class InvoiceRequest(Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """The body of POST /v1/invoices."""

    currency: Annotated[str, limits(enum=sorted(CURRENCY_EXPONENTS))]
    buyer: Buyer
    lines: Annotated[list[Line], limits(minItems=1, maxItems=LINES_MAX)]
    order_id: Annotated[str, limits(minLength=1, maxLength=ORDER_ID_CHARS_MAX)] | UnsetType = UNSET
    note: Annotated[str, limits(maxLength=_CHARS["note"])] | UnsetType | None = UNSET
    totals: Totals | UnsetType | None = UNSET


class CheckoutRequest(InvoiceRequest, frozen=True, forbid_unknown_fields=True, gc=False, kw_only=True):
    """The body of POST /v1/checkouts: an invoice to be, who buys, and how they pay."""

    customer: Annotated[str, limits(minLength=1, maxLength=CUSTOMER_CHARS_MAX)]
    payment_token: Annotated[str, limits(maxLength=PAYMENT_TOKEN_CHARS_MAX, pattern=whole(TOKEN))]


_Request = TypeVar("_Request", bound=InvoiceRequest)

_invoice_decoder = msgspec.json.Decoder(InvoiceRequest)
_checkout_decoder = msgspec.json.Decoder(CheckoutRequest)


def read(body: bytes) -> InvoiceRequest:
    """The request; raises `ProblemError` with the field that is wrong, as far as there is one."""
    return _read(_invoice_decoder, body)


def read_checkout(body: bytes) -> CheckoutRequest:
    """The request; raises `ProblemError`, which never holds the payment token."""
    return _read(_checkout_decoder, body)


def _read(decoder: msgspec.json.Decoder[_Request], body: bytes) -> _Request:
    request = bodies.decode(decoder, body)
    # A field given twice keeps its last value, and the caller would never know; only a full parse finds it, so that is
    # done where the colons don't add up.
    if b"\\u003" in body or body.count(b":") != _colons(request):
        bodies.refuse_repeated_fields(body)
    return request


def order_id(request: InvoiceRequest, idempotency_key: str | None) -> str:
    """The order's id, from the body or the Idempotency-Key header; raises `ProblemError`."""
    given = None if request.order_id is UNSET else request.order_id
    chosen = bodies.chosen_id("order_id", given, idempotency_key, ORDER_ID_MISSING, ORDER_ID_AMBIGUOUS)
    refusal = check_order_id(chosen)
    if refusal is not None:
        raise refused(refusal)
    return chosen


def as_record(request: InvoiceRequest, seller_id: str, order: str, received_at_us: int) -> dict[str, Any]:
    """The request as the `InvoiceRequest` schema has it."""
    buyer = request.buyer
    address = buyer.address
    return {
        "received_at": received_at_us,
        "seller_id": seller_id,
        "order_id": order,
        "kind": "invoice",
        "currency": request.currency,
        # Empty says the same as absent, so that it is the same content.
        "note": request.note or None,
        "buyer": {
            "name": buyer.name,
            "email": buyer.email,
            "vat_id": buyer.vat_id or None,
            "address": {
                "street": address.street,
                "city": address.city,
                "postal_code": address.postal_code,
                "country": address.country,
            },
        },
        "lines": [
            {
                "sku": line.sku,
                "description": line.description,
                "quantity": line.quantity,
                "unit_price": line.unit_price,
                "vat_rate": line.vat_rate,
                "vat_category": line.vat_category,
            }
            for line in request.lines
        ],
    }


def as_checkout(request: CheckoutRequest, seller_id: str, order: str, received_at_us: int) -> dict[str, Any]:
    """The request as the `CheckoutRequest` schema has it."""
    record = as_record(request, seller_id, order, received_at_us)
    del record["kind"]
    record["customer"] = request.customer
    record["payment_token"] = request.payment_token
    return record


def claimed_totals(request: InvoiceRequest) -> dict[str, str]:
    """The totals that the caller sent along, by name."""
    totals = request.totals
    if totals is UNSET or totals is None:
        return {}
    given = {"net": totals.net, "tax": totals.tax, "gross": totals.gross}
    return {name: text for name, text in given.items() if text is not UNSET}


def _colons(request: InvoiceRequest) -> int:
    """How many colons a body has that gives each field of `request` once: one a field, and those inside its texts.

    It holds for bodies that write no colon as an escape.
    """
    buyer = request.buyer
    address = buyer.address
    fields = 3 + 3 + 4 + 6 * len(request.lines)
    texts = [request.currency, buyer.name, buyer.email]
    texts += [address.street, address.city, address.postal_code, address.country]
    for optional in (request.order_id, request.note, buyer.vat_id):
        if optional is not UNSET:
            fields += 1
            if optional is not None:
                texts.append(optional)
    if request.totals is not UNSET:
        fields += 1
        claimed = claimed_totals(request)
        fields += len(claimed)
        texts += claimed.values()
    if isinstance(request, CheckoutRequest):
        fields += 2
        texts += (request.customer, request.payment_token)
    colons = fields + "".join(texts).count(":")
    for line in request.lines:
        colons += line.sku.count(":") + line.description.count(":")
        # Whether these are numbers is for the domain to say, later.
        colons += (line.quantity + line.unit_price + line.vat_rate + line.vat_category).count(":")
    return colons
