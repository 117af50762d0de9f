"""Events as webhooks tell of them: the type, when it happened, and the data."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec

from domain.moments import moment
from domain.money import minor_text
from domain.order import OrderState
from domain.records import (
    CreditNoteIssued,
    InvoiceDocumentStored,
    InvoiceIssued,
    InvoiceRequestConflicted,
    InvoiceRequestRejected,
    OrderCommandAnswered,
    OrderConflicted,
    OrderLine,
    OrderPlaced,
    OrderRefused,
    OrderRejected,
    OrderStateChanged,
    Totals,
)
from domain.webhook import EVENT_TYPES
from schemas import catalog

#: Standard Webhooks asks for less than 20 kB; the envelope takes some of it.
DATA_BYTES_MAX = 19_000
#: Events of order-events that are for our own agents.
_INTERNAL = frozenset({catalog.PAYMENT_REQUESTED})


class Told(NamedTuple):
    """What a webhook says of an event."""

    type: str
    at: datetime
    data: dict[str, Any]


def type_of(schema: catalog.Schema[Any], event: Mapping[str, Any]) -> str | None:
    """The event's type; None for one that nobody is told of."""
    if schema in _INTERNAL:
        return None
    if schema is catalog.ORDER_STATE_CHANGED:
        name = f"order.{event['to_state'].lower()}"
    elif schema is catalog.ORDER_COMMAND_ANSWERED:
        name = f"order.command_{event['outcome']}"
    elif schema in _OF_KIND:
        name = f"{event['kind']}.{_OF_KIND[schema]}"
    else:
        name = _TYPES[schema]
    return name if name in EVENT_TYPES else None


def tell(schema: catalog.Schema[Any], event: Mapping[str, Any]) -> Told:
    """The event as a webhook tells of it; `type_of` has a type for it, and the event is the journal's own."""
    name = type_of(schema, event)
    if name is None:
        raise LookupError(f"nobody is told of a {schema.name}")
    data, at = _SHOW[schema](event)
    order_id = event["order_id"]
    known = {"seller_id": event["seller_id"], "order_id": order_id}
    kind = "orders" if name.startswith("order.") else "invoices"
    links = {"links": {"self": f"/v1/{kind}/{quote(order_id, safe='')}"}}
    body = {**known, **data, **links}
    if len(msgspec.json.encode(body)) > DATA_BYTES_MAX:
        # The resource has them: the one part whose size has no limit of its own worth the name.
        body = {**body, **{name: None for name in ("lines", "short") if name in body}}
    return Told(name, moment(at), body)


def _text(micros: int) -> str:
    return moment(micros).astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _line(line: OrderLine, currency: str) -> dict[str, Any]:
    return {
        "sku": line["sku"],
        "description": line["description"],
        "quantity": line["quantity"],
        "unit_price": line["unit_price"],
        "net": minor_text(line["net_minor"], currency),
    }


def _totals(totals: Totals | OrderPlaced, currency: str) -> dict[str, str]:
    return {
        "net": minor_text(totals["net_minor"], currency),
        "tax": minor_text(totals["tax_minor"], currency),
        "gross": minor_text(totals["gross_minor"], currency),
    }


def _placed(event: OrderPlaced) -> tuple[dict[str, Any], int]:
    currency = event["currency"]
    data = {
        "state": event["state"],
        "version": event["version"],
        "customer": event["customer"] or None,
        "currency": currency,
        "totals": _totals(event, currency),
        "lines": [_line(line, currency) for line in event["lines"]],
        "hold_expires_at": _text(event["hold_expires_at"]),
    }
    return data, event["placed_at"]


def _refused(event: OrderRefused) -> tuple[dict[str, Any], int]:
    data = {
        "state": OrderState.REFUSED.value,
        "customer": event["customer"] or None,
        "short": [dict(each) for each in event["short"]],
    }
    return data, event["occurred_at"]


def _not_applied(event: OrderRejected | InvoiceRequestRejected) -> tuple[dict[str, Any], int]:
    return {"reason": event["reason"], "detail": event["detail"]}, event["occurred_at"]


def _conflicted(event: OrderConflicted | InvoiceRequestConflicted) -> tuple[dict[str, Any], int]:
    return {}, event["occurred_at"]


def _changed(event: OrderStateChanged) -> tuple[dict[str, Any], int]:
    data = {
        "state": event["to_state"],
        "from": event["from_state"],
        "version": event["version"],
        "reason": event["reason"],
        "detail": event["detail"],
        "command_id": event["command_id"] or None,
    }
    if event["parcel"] is not None:
        data["parcel"] = event["parcel"]
    return data, event["occurred_at"]


def _answered(event: OrderCommandAnswered) -> tuple[dict[str, Any], int]:
    data = {
        "command_id": event["command_id"],
        "action": event["action"],
        "reason": event["reason"] or None,
        "detail": event["detail"] or None,
    }
    return data, event["occurred_at"]


def _issued(event: InvoiceIssued | CreditNoteIssued) -> tuple[dict[str, Any], int]:
    currency = event["currency"]
    data = {
        "invoice_number": event["invoice_number"],
        "series_id": event["series_id"],
        "number": event["number"],
        "issue_date": event["issue_date"],
        "currency": currency,
        "totals": _totals(event["totals"], currency),
    }
    if "refund_id" in event:
        data |= {"refund_id": event["refund_id"], "preceding_invoice_number": event["preceding_invoice_number"]}
    return data, event["issued_at"]


def _stored(event: InvoiceDocumentStored) -> tuple[dict[str, Any], int]:
    data = {
        "invoice_number": event["invoice_number"],
        "sha256": event["sha256"],
        "size": event["size_bytes"],
        "media_type": event["media_type"],
    }
    return data, event["stored_at"]


_TYPES: Mapping[catalog.Schema[Any], str] = {
    catalog.ORDER_PLACED: "order.placed",
    catalog.ORDER_REFUSED: "order.refused",
    catalog.ORDER_CONFLICTED: "order.conflicted",
    catalog.ORDER_REJECTED: "order.rejected",
}
#: Behind `invoice.` or `credit_note.`.
_OF_KIND: Mapping[catalog.Schema[Any], str] = {
    catalog.INVOICE_ISSUED: "issued",
    catalog.CREDIT_NOTE_ISSUED: "issued",
    catalog.INVOICE_DOCUMENT_STORED: "document_stored",
    catalog.INVOICE_REQUEST_CONFLICTED: "conflicted",
    catalog.INVOICE_REQUEST_REJECTED: "rejected",
}
_SHOW: Mapping[catalog.Schema[Any], Callable[[Any], tuple[dict[str, Any], int]]] = {
    catalog.ORDER_PLACED: _placed,
    catalog.ORDER_REFUSED: _refused,
    catalog.ORDER_CONFLICTED: _conflicted,
    catalog.ORDER_REJECTED: _not_applied,
    catalog.ORDER_STATE_CHANGED: _changed,
    catalog.ORDER_COMMAND_ANSWERED: _answered,
    catalog.INVOICE_ISSUED: _issued,
    catalog.CREDIT_NOTE_ISSUED: _issued,
    catalog.INVOICE_DOCUMENT_STORED: _stored,
    catalog.INVOICE_REQUEST_CONFLICTED: _conflicted,
    catalog.INVOICE_REQUEST_REJECTED: _not_applied,
}
