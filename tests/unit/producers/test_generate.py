"""Generated bodies are what storefronts send: valid, varied, and the same for the same seed."""

import json
from typing import Any, cast

from domain.checkout import Checkout, check
from domain.invoice import Priced, price
from domain.records import CheckoutRequest, InvoiceRequest
from producers.generate import LINES_MAX, bodies, checkouts


def as_request(body: dict[str, Any]) -> InvoiceRequest:
    """As the gateway reads it."""
    received = {"seller_id": "demo", "received_at": 0, "kind": "invoice", "note": None}
    return cast(InvoiceRequest, {**received, **body, "buyer": {"vat_id": None, **body["buyer"]}})


def test_every_body_may_be_invoiced() -> None:
    for body in bodies(2_000, seed=3):
        result = price(as_request(body))
        assert isinstance(result, Priced), (body, result)


def test_the_same_seed_gives_the_same_bodies() -> None:
    assert list(bodies(50, seed=1)) == list(bodies(50, seed=1)) != list(bodies(50, seed=2))


def test_order_ids_are_distinct_and_lines_vary() -> None:
    made = list(bodies(500, seed=1, prefix="X"))
    assert len({body["order_id"] for body in made}) == 500
    assert {len(body["lines"]) for body in made} == set(range(1, LINES_MAX + 1))
    scripts = "".join(body["buyer"]["name"] for body in made)
    assert all(letter in scripts for letter in ("ë", "Ε", "Д", "م", "山", "김"))


def test_every_checkout_may_become_an_order() -> None:
    made = [json.loads(each) for each in checkouts(40, seed=1, skus=["A", "B"], customers=7, tokens={"tok_ok": 1.0})]
    assert [body["order_id"] for body in made] == [f"C-{number}" for number in range(1, 41)]
    assert len({body["customer"] for body in made}) == 7
    for body in made:
        received = {"seller_id": "demo", "received_at": 0, "note": None, **body}
        result = check(cast(CheckoutRequest, {**received, "buyer": {"vat_id": None, **body["buyer"]}}))
        assert isinstance(result, Checkout), result
        assert sum(result.wanted.values()) == 1


def test_means_of_payment_follow_their_weights_and_the_seed() -> None:
    def tokens(seed: int) -> list[str]:
        weights = {"tok_ok": 9.0, "tok_decline": 1.0}
        made = checkouts(2_000, seed=seed, skus=["A"], customers=1, tokens=weights)
        return [json.loads(each)["payment_token"] for each in made]

    assert tokens(1) == tokens(1) != tokens(2)
    assert 120 < tokens(1).count("tok_decline") < 280
