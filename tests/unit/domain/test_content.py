"""The digest by which a repeat is told from a conflict: it outlives every version of a request."""

import copy
from collections.abc import Callable, Mapping
from typing import Any, cast

import pytest

from domain import checkout, credit, invoice
from domain.checkout import Checkout
from domain.content import said_later
from domain.invoice import Priced
from domain.records import CheckoutRequest, CreditNoteRequest, InvoiceRequest
from tests.credit_notes import credit_note_request
from tests.unit.domain.test_invoice import line, request

Request = Mapping[str, Any]


def invoiced(body: Request) -> bytes:
    priced = invoice.price(cast(InvoiceRequest, body))
    assert isinstance(priced, Priced)
    return priced.content_sha256


def credited(body: Request) -> bytes:
    priced = credit.check(cast(CreditNoteRequest, body))
    assert isinstance(priced, Priced)
    return priced.content_sha256


def ordered(body: Request) -> bytes:
    checked = checkout.check(cast(CheckoutRequest, body))
    assert isinstance(checked, Checkout)
    return checked.content_sha256


def checkout_request() -> Request:
    body: Request = request(order_id="A-1", lines=[line(sku="S-1", quantity="2")])
    asked = {name: value for name, value in body.items() if name != "kind"}
    return {**asked, "customer": "C-17", "payment_token": "tok_ok"}


#: A request of each kind, and the digest that stands in Postgres for it since the first release.
REQUESTS: dict[str, tuple[Callable[[], Request], Callable[[Request], bytes], str]] = {
    "invoice": (
        lambda: request(order_id="A-1"),
        invoiced,
        "d62870a3467e2d3128e89929e42f22b9ed9b711b11c7812f7c92dc62257362c7",
    ),
    "credit note": (
        lambda: credit_note_request(request(order_id="A-1", lines=[line(quantity="2")]), "R-1", {0: 1}),
        credited,
        "a229005c6f8f12aa0e255fc5ce93d05f224131343cb6ba58f9686b45868df49c",
    ),
    "checkout": (checkout_request, ordered, "cc11578361fca3ec926e3d819587dc6d92956a938684faa5794d1b14f5d93cca"),
}
by_kind = pytest.mark.parametrize("kind", sorted(REQUESTS))

_SAID: list[tuple[tuple[str | int, ...], Any]] = [
    (("purchase_order",), "PO-7"),
    (("buyer", "reference"), "desk 4"),
    (("buyer", "address", "region"), "ARA"),
    (("lines", 0, "gtin"), "4006381333931"),
    (("delivery",), {"country": "BE", "notes": ["ring twice", ""]}),
    (("priority",), 0),
    (("gift",), False),
]


def with_field(body: Request, path: tuple[str | int, ...], value: Any) -> Request:
    changed = copy.deepcopy(dict(body))
    node: Any = changed
    for step in path[:-1]:
        node = node[step]
    node[path[-1]] = value
    return changed


@by_kind
def test_what_requests_said_from_the_first_has_the_digest_it_always_had(kind: str) -> None:
    make, digest_of, stored = REQUESTS[kind]
    assert digest_of(make()).hex() == stored


@by_kind
@pytest.mark.parametrize(("path", "value"), _SAID)
def test_a_field_that_came_later_counts_where_it_says_something(
    kind: str, path: tuple[str | int, ...], value: Any
) -> None:
    make, digest_of, stored = REQUESTS[kind]
    assert digest_of(with_field(make(), path, value)).hex() != stored
    assert digest_of(with_field(make(), path, value)) == digest_of(with_field(make(), path, value))


@by_kind
@pytest.mark.parametrize("path", [path for path, _ in _SAID])
@pytest.mark.parametrize("absent", [None, "", [], {}, {"country": "", "notes": []}])
def test_a_field_that_came_later_and_says_nothing_leaves_the_digest(
    kind: str, path: tuple[str | int, ...], absent: Any
) -> None:
    """So that an order of the release before, repeated, is no conflict."""
    make, digest_of, stored = REQUESTS[kind]
    assert digest_of(with_field(make(), path, absent)).hex() == stored


def test_no_two_contents_share_a_digest() -> None:
    """The same text in another field, in another line, and a line more."""
    two_lines = request(lines=[line(), line()])
    bodies: list[Request] = [
        with_field(two_lines, path, "x")
        for path in (("a",), ("b",), ("buyer", "a"), ("lines", 0, "a"), ("lines", 1, "a"), ("lines", 1, "b"))
    ]
    bodies += [two_lines, with_field(two_lines, ("a",), "y"), with_field(two_lines, ("a",), {"a": "x"})]
    assert len({invoiced(body) for body in bodies}) == len(bodies)


def test_a_later_release_that_adds_another_field_leaves_this_one() -> None:
    """What is said is named: it doesn't matter which fields there are besides."""
    said = with_field(request(), ("purchase_order",), "PO-7")
    assert invoiced(with_field(said, ("cost_centre",), None)) == invoiced(said)
    assert said_later(said) == {"purchase_order": "PO-7"}


def test_what_a_checkout_says_later_is_in_its_invoice_too() -> None:
    checked = checkout.check(cast(CheckoutRequest, with_field(checkout_request(), ("purchase_order",), "PO-7")))
    assert isinstance(checked, Checkout)
    invoiced_as: Request = checked.invoice_request
    assert invoiced_as["purchase_order"] == "PO-7"
    assert not {"customer", "payment_token"} & invoiced_as.keys()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"unit_price": "0.0000001"}, {"unit_price": "0.0000002"}),
        ({"unit_price": "19.99"}, {"unit_price": "19.9900000001"}),
        ({"vat_rate": "9.97"}, {"vat_rate": "9.975"}),
        ({"vat_rate": "9.975"}, {"vat_rate": "9.9755"}),
    ],
)
def test_decimals_that_version_1_did_not_have_count(one: Request, other: Request) -> None:
    """Prices have 10 decimals and rates 4, where they had 6 and 2."""
    assert invoiced(request(lines=[line(**one)])) != invoiced(request(lines=[line(**other)]))
