"""What the gateway takes as an invoice request, and how it says no to the rest."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.http import bodies
from gateway.http.problems import ProblemError


def body(**changes: Any) -> dict[str, Any]:
    """A request as the README shows it, with some of its fields changed; None removes one."""
    asked: dict[str, Any] = {
        "order_id": "A-1001",
        "currency": "EUR",
        "note": "optional",
        "buyer": {
            "name": "Zoë O'Neil",
            "email": "zoe@example.com",
            "address": {"street": "1 Main St", "city": "Lyon", "postal_code": "69001", "country": "FR"},
        },
        "lines": [
            {
                "sku": "S-1",
                "description": "Café crème",
                "quantity": "2",
                "unit_price": "19.99",
                "vat_rate": "20.00",
                "vat_category": "S",
            }
        ],
    }
    asked.update(changes)
    return {name: value for name, value in asked.items() if value is not None}


def refusal_of(raw: bytes) -> ProblemError:
    """The problem that a body meets."""
    with pytest.raises(ProblemError) as caught:
        bodies.read_invoice(raw)
    return caught.value


def test_the_request_of_the_readme_becomes_a_record() -> None:
    """Every field arrives where the schema has it."""
    asked = bodies.read_invoice(json.dumps(body()).encode())
    record = bodies.as_record(asked, "demo", bodies.order_id(asked, None), 7)
    assert record["seller_id"] == "demo"
    assert record["order_id"] == "A-1001"
    assert record["received_at"] == 7
    assert record["buyer"]["address"]["city"] == "Lyon"
    assert record["buyer"]["vat_id"] is None
    assert record["lines"] == body()["lines"]


@pytest.mark.parametrize(
    ("raw", "field", "says"),
    [
        (b"", None, "truncated"),
        (b"{", None, "truncated"),
        (b"[]", None, "expected object"),
        (b'"x"', None, "expected object"),
        (b"\xff\xfe", None, "JSON"),
        (b"[" * 100_000, None, "expected object"),
        (b'{"currency": "EUR", "buyer": "\xe9"}', None, ""),
    ],
)
def test_a_body_that_is_no_json_object_is_malformed(raw: bytes, field: str | None, says: str) -> None:
    """It says what is wrong."""
    problem = refusal_of(raw)
    assert problem.kind.status == 400
    assert says in problem.detail
    assert problem.field in (field, "buyer")


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_json_does_not_have_are_named_by_their_field(constant: str) -> None:
    """NaN is malformed, and the field says where."""
    raw = json.dumps(body()).replace('"19.99"', constant).encode()
    problem = refusal_of(raw)
    assert problem.kind.status == 400
    assert problem.field == "lines[0].unit_price"
    assert constant in problem.detail


@pytest.mark.parametrize("field", ["quantity", "unit_price", "vat_rate"])
def test_an_amount_as_a_number_is_refused_and_says_to_write_a_string(field: str) -> None:
    """A JSON number may have lost its last digit already."""
    asked = body()
    asked["lines"][0][field] = 1.5
    problem = refusal_of(json.dumps(asked).encode())
    assert problem.kind.status == 400
    assert problem.field == f"lines[0].{field}"
    assert "write it as a string" in problem.detail


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"surprise": 1}, "surprise"),
        ({"currency": None}, "currency"),
        ({"currency": 3}, "currency"),
        ({"buyer": {"email": "x@y"}}, "buyer.name"),
        ({"lines": "x"}, "lines"),
        ({"lines": [{}]}, "lines[0].sku"),
        ({"totals": {"brutto": "1"}}, "totals.brutto"),
        ({"totals": {"net": 1}}, "totals.net"),
    ],
)
def test_the_field_that_is_wrong_is_named(change: dict[str, Any], field: str) -> None:
    """Unknown, missing and of the wrong type."""
    problem = refusal_of(json.dumps(body(**change)).encode())
    assert problem.kind.status == 400
    assert problem.field == field


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ('"currency": "EUR"', '"currency": "EUR", "currency": "USD"', "currency"),
        ('"currency": "EUR"', '"currency": "EUR","currency"\t:"EUR"', "currency"),
        ('"city": "Lyon"', '"city": "Paris", "city": "Lyon"', "city"),
        ('"quantity": "2"', '"quantity": "3", "quant\\u0069ty": "2"', "quantity"),
        # The colon that the second quantity adds is taken off again by one written as an escape.
        ('"quantity": "2"', '"quantity": "3", "quantity": "2", "sku": "S\\u003a1"', "quantity"),
    ],
)
def test_a_field_given_twice_is_refused(old: str, new: str, field: str) -> None:
    """Whichever of the two counted, the caller might have meant the other."""
    raw = json.dumps(body())
    if "sku" in new:
        raw = raw.replace('"sku": "S-1", ', "")
    problem = refusal_of(raw.replace(old, new).encode())
    assert problem.kind.status == 400
    assert problem.field == field


_TEXT = st.text(st.characters(codec="utf-8"), max_size=20)


@given(note=st.none() | _TEXT, vat_id=st.none() | _TEXT, name=_TEXT, sku=_TEXT, quantity=_TEXT, escaped=st.booleans())
def test_no_text_looks_like_a_field_given_twice(
    note: str | None, vat_id: str | None, name: str, sku: str, quantity: str, escaped: bool
) -> None:
    """Colons, quotes and escapes inside of texts count for nothing."""
    asked = body(note=note)
    asked["buyer"].update(name=name, vat_id=vat_id)
    asked["lines"] *= 2
    asked["lines"][0] = {**asked["lines"][0], "sku": sku, "quantity": quantity}
    asked["totals"] = {"net": quantity}
    read = bodies.read_invoice(json.dumps(asked, ensure_ascii=escaped).encode())
    assert read.buyer.name == name
    assert read.lines[0].sku == sku


def test_the_idempotency_key_serves_where_the_body_has_no_order_id() -> None:
    """As a bare value and as the quoted string of the header's draft."""
    asked = bodies.read_invoice(json.dumps(body(order_id=None)).encode())
    assert bodies.order_id(asked, "K-1") == "K-1"
    assert bodies.order_id(asked, ' "K-1" ') == "K-1"


def test_the_same_id_in_both_places_is_one_id() -> None:
    """A client may send both."""
    assert bodies.order_id(bodies.read_invoice(json.dumps(body()).encode()), "A-1001") == "A-1001"


@pytest.mark.parametrize(
    ("in_body", "header", "kind", "status"),
    [
        (None, None, "order-id-missing", 400),
        (None, "", "order-id-missing", 400),
        (None, '""', "order-id-missing", 400),
        ("A", "B", "order-id-ambiguous", 400),
        ("", None, "invalid-field", 422),
        ("x" * 65, None, "invalid-field", 422),
        ("a\nb", None, "invalid-field", 422),
        (None, "caf\udce9", "invalid-field", 422),
    ],
)
def test_an_order_without_a_clear_id_is_refused(
    in_body: str | None, header: str | None, kind: str, status: int
) -> None:
    """None, two, and those that no order can have."""
    asked = bodies.read_invoice(json.dumps(body(order_id=in_body)).encode())
    with pytest.raises(ProblemError) as caught:
        bodies.order_id(asked, header)
    assert (caught.value.kind.name, caught.value.kind.status) == (kind, status)
    assert caught.value.field == "order_id"


def test_an_empty_note_says_the_same_as_none() -> None:
    """Else a repeat from another client library would be a conflict."""
    records = [
        bodies.as_record(bodies.read_invoice(json.dumps(body(note=note)).encode()), "demo", "A", 0)
        for note in ("", None)
    ]
    assert records[0] == records[1]
