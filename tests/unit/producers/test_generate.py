"""Generated bodies are what storefronts send: valid, varied, and the same for the same seed."""

from typing import Any

from domain.invoice import Priced, price
from producers.generate import LINES_MAX, bodies


def as_request(body: dict[str, Any]) -> dict[str, Any]:
    """As the gateway reads it."""
    return {"seller_id": "demo", "kind": "invoice", "note": None, **body, "buyer": {"vat_id": None, **body["buyer"]}}


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
