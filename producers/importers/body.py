"""A shop's order as the body of `POST /v1/invoices`, checked as the gateway will check it."""

from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import msgspec

from domain.invoice import Priced, compare_totals, price
from domain.iso import CURRENCY_EXPONENTS
from domain.money import minor_text
from domain.refusals import Refusal
from gateway.http import bodies
from gateway.http.problems import ProblemError
from producers.importers.found import Place, Request
from producers.importers.shop_order import ShopOrder, UntellableError
from producers.importers.taxes import Assignment, assign

_NOTHING = Decimal(0)
_UNIT_PRICE_STEP = Decimal("0.000001")
#: A seller's article numbers for what is no article.
_SKUS = {"shipping": "SHIPPING", "duties": "DUTIES", "fee": "FEE"}


def request(path: Path, order: ShopOrder, remarks: Sequence[str] = ()) -> Request:
    """The request that the gateway will accept, for exactly the order's total; raises `UntellableError`."""
    minor = Decimal(1).scaleb(-CURRENCY_EXPONENTS[order.currency])
    assigned = assign(
        order.parts, order.discount, order.taxes, included=order.prices_include_tax, minor=minor, row=order.row
    )
    body = _body(order, assigned)
    priced = checked(msgspec.json.encode(body), order.row)
    total = order.total / minor
    # Shops round each line's tax, EN 16931 that of each rate: they differ by less than a minor unit a line.
    rounding = total - priced.gross_minor
    if abs(rounding) > len(order.parts) + 1 or total != int(total):
        amount = minor_text(priced.gross_minor, order.currency)
        raise UntellableError(order.row, order.total_column, f"{order.total}, but the lines and their tax are {amount}")
    if rounding:
        unit_price = abs(rounding) * minor
        body["lines"].append(_line("ROUNDING", "Rounding", Decimal(1 if rounding > 0 else -1), unit_price, _NOTHING))
    body["totals"] = {"gross": f"{order.total:f}"}
    payload = msgspec.json.encode(body)
    checked(payload, order.row)
    return Request(Place(path, order.row), order.order_id, payload, (*remarks, *assigned.remarks))


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
    refusal = compare_totals(priced, bodies.claimed_totals(asked), asked.currency)
    if refusal is not None:
        raise UntellableError(row, refusal.field, refusal.detail)
    return priced


def _body(order: ShopOrder, assigned: Assignment) -> dict[str, Any]:
    buyer = order.buyer
    address = buyer.address
    body: dict[str, Any] = {
        "order_id": order.order_id,
        "currency": order.currency,
        "buyer": {
            "name": buyer.name,
            "email": buyer.email,
            "address": {
                "street": ", ".join(filter(None, (address.street, address.line2))),
                "city": address.city,
                "postal_code": address.postal_code,
                "country": address.country,
            },
        },
        "lines": _lines(order, assigned),
    }
    if buyer.vat_id:
        body["buyer"]["vat_id"] = buyer.vat_id
    if order.note:
        body["note"] = order.note
    return body


def _lines(order: ShopOrder, assigned: Assignment) -> list[dict[str, str]]:
    lines = []
    discounts: dict[Decimal, Decimal] = {}
    for part, rate, share in zip(order.parts, assigned.rates, assigned.shares, strict=True):
        lines.append(
            _line(
                part.sku or _SKUS.get(part.kind, ""), part.name, part.quantity, _net(order, part.unit_price, rate), rate
            )
        )
        discounts[rate] = discounts.get(rate, _NOTHING) + part.discount + share
    for rate, discount in discounts.items():
        if discount:
            name = f"Discount {order.discount_name}".strip()
            lines.append(_line("DISCOUNT", name, Decimal(-1), _net(order, discount, rate), rate))
    return lines


def _net(order: ShopOrder, amount: Decimal, rate: Decimal) -> Decimal:
    return amount / (1 + rate / 100) if order.prices_include_tax else amount


def _line(sku: str, name: str, quantity: Decimal, unit_price: Decimal, rate: Decimal) -> dict[str, str]:
    return {
        "sku": sku,
        "description": name,
        "quantity": _plain(quantity, 0),
        "unit_price": _plain(unit_price.quantize(_UNIT_PRICE_STEP, ROUND_HALF_UP), 2),
        "vat_rate": _plain(rate, 0),
        # No export says why a line bears no tax; Z is the category that needs no reason given.
        "vat_category": "S" if rate else "Z",
    }


def _plain(amount: Decimal, decimals: int) -> str:
    """Without the zeros at its end beyond the decimals."""
    text = format(amount, "f")
    if "." not in text:
        return text
    whole, _, fraction = text.rstrip("0").partition(".")
    return f"{whole}.{fraction:0<{decimals}}" if fraction or decimals else whole
