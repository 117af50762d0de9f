"""A shop's order as the body of `POST /v1/invoices`, checked as the gateway will check it."""

from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import msgspec

from domain.invoice import Priced, compare_claims, price
from domain.iso import CURRENCY_EXPONENTS
from domain.money import minor_text
from domain.refusals import Refusal
from gateway.http import bodies
from gateway.http.problems import ProblemError
from producers.importers.found import File, Place, Request
from producers.importers.shop_order import Part, ShopBuyer, ShopOrder, UntellableError
from producers.importers.taxes import Assignment, assign

_NOTHING = Decimal(0)
_UNIT_PRICE_STEP = Decimal("0.0000000001")
#: UNCL5189: discount. UNCL7161: freight service.
_DISCOUNT = "95"
_FREIGHT = "FC"
#: UNCL4461: the instrument is not defined. UNCL4451: tax declaration.
_ANY_MEANS = "1"
_TAX_DECLARATION = "TXD"
#: Parts that are lines. Shipping, duties and fees are charges of the document (BG-21).
_LINES = frozenset(("item", "tip"))
#: Who bought where the export doesn't say.
_GUEST = "Guest"


def request(file: File, order: ShopOrder, remarks: Sequence[str] = ()) -> Request:
    """The request that the gateway will accept, for exactly the order's total; raises `UntellableError`."""
    if order.buyer.has_address and not order.buyer.email and not file.options.without_email:
        # With neither the order is a till's, where buyers are handed their receipts.
        detail = "is empty, so nobody would be sent the invoice: say --without-email to have it all the same"
        raise UntellableError(order.row, "buyer.email", detail)
    minor = Decimal(1).scaleb(-CURRENCY_EXPONENTS[order.currency])
    assigned = assign(
        order.parts, order.discount, order.taxes, included=order.prices_include_tax, minor=minor, row=order.row
    )
    body = _body(order, assigned, minor)
    priced = checked(msgspec.json.encode(body), order.row)
    total = order.total / minor
    # Shops round each line's tax, EN 16931 that of each rate: they differ by less than a minor unit a line.
    rounding = total - priced.gross_minor
    gross = minor_text(priced.gross_minor, order.currency)
    if abs(rounding) > len(order.parts) + 1 or total != int(total):
        raise UntellableError(order.row, order.total_column, f"{order.total}, but the lines and their tax are {gross}")
    if rounding:
        body["rounding_amount"] = f"{rounding * minor:f}"
    if order.total:
        # All of it was paid; the rest is nothing.
        body["prepaid_amount"] = f"{order.total:f}"
    body["totals"] = {"gross": gross, "payable": minor_text(0, order.currency)}
    payload = msgspec.json.encode(body)
    checked(payload, order.row)
    place = Place(file.path, order.row)
    found = (*remarks, *assigned.remarks, *_left_out(order))
    return Request(place, order.order_id, payload, found, order.refunded, order.currency)


def checked(payload: bytes, row: int) -> Priced:
    """What a body amounts to, by the gateway's own code, so that what passes here is accepted there.

    Raises `UntellableError` with the field and the rule by which the gateway would refuse it.
    """
    try:
        asked = bodies.read_invoice(payload)
        record = bodies.as_record(asked, "seller", bodies.order_id(asked, None), 0)
    except ProblemError as error:
        field = error.field or ""
        raise UntellableError(row, field, error.detail.removeprefix(f"{field}: ")) from None
    priced = price(record)
    if isinstance(priced, Refusal):
        raise UntellableError(row, priced.field, priced.detail)
    refusal = compare_claims(priced, bodies.claims(asked), asked.currency)
    if refusal is not None:
        raise UntellableError(row, refusal.field, refusal.detail)
    return priced


def _body(order: ShopOrder, assigned: Assignment, minor: Decimal) -> dict[str, Any]:
    """All of it but what is due."""
    body: dict[str, Any] = {"order_id": order.order_id, "currency": order.currency, "buyer": _buyer(order.buyer)}
    if order.prices_include_tax and any(assigned.rates):
        body["prices_include_tax"] = True
    parts = list(zip(order.parts, assigned.rates, strict=True))
    body["lines"] = [_line(part, rate) for part, rate in parts if part.kind in _LINES]
    charges = [_charge(part, rate) for part, rate in parts if part.kind not in _LINES]
    if charges:
        body["charges"] = charges
    allowances = _allowances(order, assigned)
    if allowances:
        body["allowances"] = allowances
    if order.note:
        body["note"] = order.note
    if sum(1 for tax in order.taxes if tax.amount) > 1:
        texts = [f"{tax.name}: {tax.amount.quantize(minor):f} {order.currency}" for tax in order.taxes if tax.amount]
        body["notes"] = [{"subject_code": _TAX_DECLARATION, "text": "\n".join(texts)}]
    payment = {"paid_at": order.payment.paid_at, "means_text": order.payment.means}
    if order.payment.means:
        payment["means"] = _ANY_MEANS
    if any(payment.values()):
        body["payment"] = {name: text for name, text in payment.items() if text}
    return body


def _buyer(buyer: ShopBuyer) -> dict[str, Any]:
    body: dict[str, Any] = {"name": buyer.name or buyer.email or _GUEST}
    if buyer.email:
        body["email"] = buyer.email
    if buyer.vat_id:
        body["vat_id"] = buyer.vat_id
    if buyer.has_address:
        address = buyer.address
        body["address"] = {
            "street": address.street,
            "city": address.city,
            "postal_code": address.postal_code,
            "country": address.country,
        }
        rare = {"line2": address.line2, "subdivision": address.subdivision}
        body["address"] |= {name: text for name, text in rare.items() if text}
    return body


def _left_out(order: ShopOrder) -> list[str]:
    """What stands in for what the export doesn't say."""
    buyer = order.buyer
    remarks = []
    if not buyer.name:
        stands = "their e-mail address" if buyer.email else _GUEST
        remarks.append(f"no buyer's name: {stands} stands for it")
    if not buyer.email:
        remarks.append("no e-mail address: nobody is sent the invoice")
    if not buyer.has_address:
        remarks.append("no city or no country: a simplified invoice, without an address")
    return remarks


def _line(part: Part, rate: Decimal) -> dict[str, Any]:
    line: dict[str, Any] = {
        "sku": part.sku,
        "description": part.name,
        "quantity": _plain(part.quantity, 0),
        "unit_price": _plain(part.unit_price.quantize(_UNIT_PRICE_STEP, ROUND_HALF_UP), 2),
        **_category(rate),
    }
    if part.discount:
        line["allowances"] = [{"amount": f"{part.discount:f}", "reason": "Discount", "reason_code": _DISCOUNT}]
    return line


def _charge(part: Part, rate: Decimal) -> dict[str, str]:
    charge = {"amount": f"{part.quantity * part.unit_price:f}", "reason": part.name, **_category(rate)}
    return charge | ({"reason_code": _FREIGHT} if part.kind == "shipping" else {})


def _allowances(order: ShopOrder, assigned: Assignment) -> list[dict[str, str]]:
    """The order's discount for each rate, and what is taken off charges."""
    name = f"Discount {order.discount_name}".strip()
    amounts: dict[tuple[str, Decimal], Decimal] = {}
    for part, rate, share in zip(order.parts, assigned.rates, assigned.shares, strict=True):
        own = _NOTHING if part.kind in _LINES else part.discount
        amounts[name, rate] = amounts.get((name, rate), _NOTHING) + share + own
    return [
        {"amount": f"{amount:f}", "reason": reason, "reason_code": _DISCOUNT, **_category(rate)}
        for (reason, rate), amount in amounts.items()
        if amount
    ]


def _category(rate: Decimal) -> dict[str, str]:
    # No export says why a line bears no tax; Z is the category that needs no reason given.
    return {"vat_rate": _plain(rate, 0), "vat_category": "S" if rate else "Z"}


def _plain(amount: Decimal, decimals: int) -> str:
    """Without the zeros at its end beyond the decimals."""
    text = format(amount, "f")
    if "." not in text:
        return text
    whole, _, fraction = text.rstrip("0").partition(".")
    return f"{whole}.{fraction:0<{decimals}}" if fraction or decimals else whole
