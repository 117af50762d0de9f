"""An invoice request as it comes over HTTP: read strictly, and told apart from everything that only looks like one."""

import json
import re
from typing import Any, NoReturn

import msgspec
from msgspec import UNSET, Struct, UnsetType

from domain.invoice import check_order_id
from gateway.problems import MALFORMED, ORDER_ID_AMBIGUOUS, ORDER_ID_MISSING, ProblemError, refused

_AMOUNTS = ("quantity", "unit_price", "vat_rate", "net", "tax", "gross")


class Line(Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """A line; amounts are decimal strings, so that no client rounds them on the way."""

    sku: str
    description: str
    quantity: str
    unit_price: str
    vat_rate: str
    vat_category: str


class Address(Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """A postal address."""

    street: str
    city: str
    postal_code: str
    country: str


class Buyer(Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """Who is invoiced."""

    name: str
    email: str
    address: Address
    vat_id: str | UnsetType | None = UNSET


class Totals(Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """What the caller believes the invoice to amount to; each is compared where it is given."""

    net: str | UnsetType = UNSET
    tax: str | UnsetType = UNSET
    gross: str | UnsetType = UNSET


class InvoiceRequest(Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """The body of POST /v1/invoices."""

    currency: str
    buyer: Buyer
    lines: list[Line]
    order_id: str | UnsetType = UNSET
    note: str | UnsetType | None = UNSET
    totals: Totals | UnsetType | None = UNSET


_decoder = msgspec.json.Decoder(InvoiceRequest)
_WHERE = re.compile(r"^(.*?)(?: - at `\$\.?(.*)`)?$", re.DOTALL)
_NAMED = re.compile(r"`([^`]*)`")
_NUMBER_FOR_TEXT = re.compile(r"Expected `str(?: \| null)?`, got `(?:int|float)`")


def read(body: bytes) -> InvoiceRequest:
    """The request; raises `ProblemError` with the field that is wrong, as far as there is one."""
    try:
        request = _decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        _refuse_malformed(body, error)
    # A field given twice keeps its last value, and the caller would never know; only a full parse finds it, so that is
    # done where the colons don't add up.
    if b"\\u003" in body or body.count(b":") != _colons(request):
        _refuse_repeated_fields(body)
    return request


def order_id(request: InvoiceRequest, idempotency_key: str | None) -> str:
    """The order's id, from the body or the Idempotency-Key header; raises `ProblemError`."""
    key = None if idempotency_key is None else _unquoted(idempotency_key.strip())
    if request.order_id is UNSET:
        if not key:
            raise ProblemError(
                ORDER_ID_MISSING, "give order_id in the body, or the Idempotency-Key header", field="order_id"
            )
        chosen = key
    elif key and key != request.order_id:
        raise ProblemError(
            ORDER_ID_AMBIGUOUS, "order_id and the Idempotency-Key header differ: leave one out", field="order_id"
        )
    else:
        chosen = request.order_id
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


def claimed_totals(request: InvoiceRequest) -> dict[str, str]:
    """The totals that the caller sent along, by name."""
    totals = request.totals
    if totals is UNSET or totals is None:
        return {}
    given = {"net": totals.net, "tax": totals.tax, "gross": totals.gross}
    return {name: text for name, text in given.items() if text is not UNSET}


def _unquoted(key: str) -> str:
    """The header's draft makes its value a quoted string; bare values are common, and taken too."""
    return key[1:-1] if len(key) >= 2 and key[0] == key[-1] == '"' else key


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
    colons = fields + "".join(texts).count(":")
    for line in request.lines:
        colons += line.sku.count(":") + line.description.count(":")
        # Whether these are numbers is for the domain to say, later.
        colons += (line.quantity + line.unit_price + line.vat_rate + line.vat_category).count(":")
    return colons


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
    return ProblemError(MALFORMED, f"{path}: {text}" if path else text, field=path or None)


def _refuse_malformed(body: bytes, error: Exception) -> NoReturn:
    """Say what is wrong with a body that is no JSON; a number that JSON doesn't have is named by its field."""
    try:
        document = json.loads(body, parse_constant=_NotJson)
    except (ValueError, RecursionError):
        document = None
    found = _find_not_json(document, "", 0)
    if found is not None:
        path, text = found
        raise ProblemError(MALFORMED, f"{path}: {text} is no JSON", field=path or None)
    if isinstance(error, RecursionError):
        raise ProblemError(MALFORMED, "the body is nested too deeply")
    if isinstance(error, UnicodeDecodeError):
        raise ProblemError(MALFORMED, f"the body is not UTF-8 (byte {error.start})")
    raise ProblemError(MALFORMED, str(error))


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


def _refuse_repeated_fields(body: bytes) -> None:
    def check(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        fields = dict(pairs)
        if len(fields) != len(pairs):
            seen: set[str] = set()
            name = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
            raise ProblemError(MALFORMED, f"{name}: given twice", field=name)
        return fields

    json.loads(body, object_pairs_hook=check)
