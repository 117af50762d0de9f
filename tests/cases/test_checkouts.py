"""Checkouts that shops really send: what each amounts to, what it claims, and what its refunds come to."""

import json
from typing import Any

import pytest

from domain.checkout import CUSTOMER_CHARS_MAX, Checkout, check
from domain.credit import Credit, credit
from domain.money import SCALE
from domain.refusals import Refusal
from gateway.http import bodies
from tests.cases.requests import body, line


def checked(asked: dict[str, Any]) -> Checkout | Refusal:
    given = bodies.read_checkout(json.dumps({"payment_token": "tok_ok", **asked}).encode())
    return check(bodies.as_checkout(given, "demo", "CASE-1", 0))


def accepted(asked: dict[str, Any]) -> Checkout:
    found = checked(asked)
    assert isinstance(found, Checkout), found
    return found


def piece_by_piece(order: Checkout) -> list[Credit]:
    """A credit note for each piece of each line, in turn."""
    before: dict[int, int] = {}
    notes = []
    for place, pieces in enumerate(order.pieces):
        for _ in range(pieces):
            notes.append(credit(order.invoice_request, before, {place: SCALE}))
            before[place] = before.get(place, 0) + SCALE
    return notes


def test_two_pieces_at_seven_and_a_half_are_refunded_by_a_cent_of_difference() -> None:
    order = accepted(body("EUR", line("2", "7.50", "21")))
    assert order.priced.gross_minor == 1815
    assert [each.gross_minor for each in piece_by_piece(order)] == [908, 907]


def test_twelve_credit_notes_at_three_prices_add_up() -> None:
    order = accepted(body("EUR", line("3", "0.664", "7"), line("2", "33.335", "7"), line("7", "0.07", "23")))
    notes = piece_by_piece(order)
    assert len(notes) == 12
    assert (sum(each.net_minor for each in notes), sum(each.tax_minor for each in notes)) == (6915, 492)
    assert sum(each.gross_minor for each in notes) == order.priced.gross_minor == 7407


@pytest.mark.parametrize(
    ("more", "gross_minor"),
    [
        ({"quantity": "1", "unit_price": "4.90"}, 5387),
        ({"quantity": "-1", "unit_price": "4.00"}, 4319),
        ({"quantity": "1", "unit_price": "-4.00"}, 4319),
    ],
    ids=["shipping", "a discount", "a negative price"],
)
def test_what_is_no_article_claims_no_stock(more: dict[str, str], gross_minor: int) -> None:
    extra = {**line("1", "0", "20"), "sku": "EXTRA", **more, "stock": False}
    order = accepted(body("EUR", line("1", "39.99", "20"), extra))
    assert order.priced.gross_minor == gross_minor
    assert [sku.sku for sku in order.wanted] == ["S-1"]
    # Without saying so, what is taken off would be pieces of an article.
    said = checked(
        body("EUR", line("1", "39.99", "20"), {name: each for name, each in extra.items() if name != "stock"})
    )
    if more["quantity"] == "-1" or more["unit_price"].startswith("-"):
        assert isinstance(said, Refusal)


@pytest.mark.parametrize("chars", [90, CUSTOMER_CHARS_MAX])
def test_a_customer_may_be_a_long_e_mail_address(chars: int) -> None:
    customer = f"{'x' * (chars - 12)}@example.com"
    assert isinstance(checked({**body("EUR", line("1", "1.00", "20")), "customer": customer}), Checkout)
    refusal = checked({**body("EUR", line("1", "1.00", "20")), "customer": "x" * (CUSTOMER_CHARS_MAX + 1)})
    assert isinstance(refusal, Refusal)
    assert refusal.field == "customer"


def test_a_guest_has_no_customer_and_a_byte_order_mark_is_skipped() -> None:
    asked = json.dumps({**body("EUR", line("1", "1.00", "20")), "payment_token": "tok_ok"}).encode()
    given = bodies.read_checkout(b"\xef\xbb\xbf" + asked)
    for record in (bodies.as_checkout(given, "demo", "CASE-1", 0), bodies.as_checkout(given, "demo", "CASE-2", 0)):
        assert record["customer"] == ""
        assert isinstance(check(record), Checkout)
