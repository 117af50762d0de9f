"""What a request says, as one digest: a repeat has the same one, other content has another.

Digests stand in Postgres for ever, while requests gain fields. So the digest names the version of what it is made from:

1. the texts of the fields that requests had from the first, in a fixed order, and nothing else;
2. the digest of version 1, and by their names all fields that came later and say something.

A field that is absent is in no digest, so a request from before the field has the digest that it always had.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

_LEAF: None = None
_ADDRESS = dict.fromkeys(("street", "city", "postal_code", "country"), _LEAF)
_LINE = ("sku", "description", "quantity", "unit_price", "vat_rate", "vat_category", "net_minor")
_RATE = ("vat_category", "vat_rate", "taxable_minor", "tax_minor")

#: The fields of version 1, of requests for invoices and for credit notes; fields of nested records below their names.
FIRST: Mapping[str, Any] = {
    **dict.fromkeys(("received_at", "seller_id", "order_id", "kind", "refund_id", "reason", "currency", "note"), _LEAF),
    "buyer": {**dict.fromkeys(("name", "email", "vat_id"), _LEAF), "address": _ADDRESS},
    "lines": dict.fromkeys(_LINE, _LEAF),
    "totals": {**dict.fromkeys(("net_minor", "tax_minor", "gross_minor"), _LEAF), "per_rate": dict.fromkeys(_RATE)},
}

#: Of a request for an invoice, which has no refund id, reason and totals, and no net amounts of its lines.
_HEAD_FIELDS = len(FIRST) - 3
_LINE_FIELDS = len(_LINE) - 1
_BUYER_FIELDS = len(FIRST["buyer"])

#: The fields that addresses gained: all others of a request gained `details`.
_LATER_IN_ADDRESS = ("line2", "line3", "subdivision")
#: Stands for a field that is not there, where another one is.
_UNKNOWN = "?"

#: The values of a field that says nothing. A field that requests gain has one of them as its default: a test checks it.
ABSENT: tuple[object, ...] = (None, "", [], {})


def digest(texts: Sequence[str], request: Mapping[str, Any]) -> bytes:
    """SHA-256 of what `request` says; `texts` are those of version 1, none of which holds a control character."""
    first = hashlib.sha256("\x1e".join(texts).encode()).digest()
    later = {} if _is_first(request) else said_later(request)
    if not later:
        return first
    # No text of version 1 has this before its first separator.
    return hashlib.sha256(f"2\x1e{first.hex()}\x1e{json.dumps(later, sort_keys=True)}".encode()).digest()


def said_later(request: Mapping[str, Any], first: Mapping[str, Any] = FIRST) -> dict[str, Any]:
    """What the request says in fields that version 1 doesn't have, by their names; empty if nothing."""
    later = {}
    for name, value in request.items():
        if name not in first:
            said = _said(value)
        elif first[name] is _LEAF:
            continue
        elif isinstance(value, list):
            items = [said_later(item, first[name]) for item in value]
            said = items if any(items) else None
        else:
            said = said_later(value, first[name])
        if said not in ABSENT:
            later[name] = said
    return later


def _is_first(request: Mapping[str, Any]) -> bool:
    """Whether an invoice's request says nothing beyond version 1, as nearly all do: asked in a few look-ups.

    It has the fields of version 1, all of which are required: what it has beyond them must be absent.
    """
    buyer = request["buyer"]
    return (
        "received_at" in request
        and _says_no_more(request, _HEAD_FIELDS)
        and _says_no_more(buyer, _BUYER_FIELDS)
        and _says_no_more(buyer["address"], len(_ADDRESS), _LATER_IN_ADDRESS)
        and all(len(line) == _LINE_FIELDS or _says_no_more(line, _LINE_FIELDS) for line in request["lines"])
    )


def _says_no_more(record: Mapping[str, Any], fields: int, later: tuple[str, ...] = ("details",)) -> bool:
    """Whether a record that has all `fields` of version 1 has no others, or only `later` ones, all absent."""
    if len(record) == fields:
        return True
    return len(record) == fields + len(later) and not any(record.get(name, _UNKNOWN) for name in later)


def _said(value: Any) -> Any:
    """A value without the fields in it that are absent."""
    if isinstance(value, Mapping):
        parts = {name: _said(part) for name, part in value.items()}
        return {name: part for name, part in parts.items() if part not in ABSENT}
    return [_said(item) for item in value] if isinstance(value, list) else value
