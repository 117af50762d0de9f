"""Search on the real stack: what a seller puts over HTTP is found by buyers within a second or two."""

import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.e2e.running import Running

#: A change takes half a second: this is for a machine that does other things as well.
SEEN_SECONDS_MAX = 60.0


@pytest.fixture
def name() -> str:
    """A word that no other product has."""
    return f"quoll{uuid4().hex[:10].translate(str.maketrans('0123456789', 'ghijklmnop'))}"


def test_a_product_put_over_http_is_found_and_its_changes_are_seen(running: Running, name: str) -> None:
    with httpx.Client(base_url=running.url, timeout=30) as http:
        seller = {"Authorization": f"Bearer {running.api_key}"}
        body = {
            "texts": [{"language": "en", "name": f"A {name}"}],
            "currency": "EUR",
            "vat_category": "S",
            "vat_rate": "20.00",
            "variants": [{"sku": name, "unit_price": "9.90"}],
        }

        def until(holds: Callable[[dict[str, Any]], bool], question: str = name) -> float:
            began = time.monotonic()
            while True:
                answer = http.get(f"/v1/catalogue/demo/search?q={question}")
                assert answer.status_code == 200, answer.text
                if holds(answer.json()):
                    return time.monotonic() - began
                assert time.monotonic() - began < SEEN_SECONDS_MAX, answer.text
                time.sleep(0.02)

        def put(**changes: Any) -> None:
            answer = http.put(f"/v1/products/{name}", json=body | changes, headers=seller)
            assert answer.status_code in (200, 201), answer.text

        until(lambda page: page["total"] == 0)
        put()
        seconds = until(lambda page: [hit["price"] for hit in page["hits"]] == ["9.90"])
        put(variants=[{"sku": name, "unit_price": "7.50"}])
        seconds = max(seconds, until(lambda page: [hit["price"] for hit in page["hits"]] == ["7.50"]))
        assert http.put(f"/v1/stock/{name}", json={"on_hand": 1}, headers=seller).status_code == 200
        seconds = max(seconds, until(lambda page: [hit["in_stock"] for hit in page["hits"]] == [[name]]))
        assert http.delete(f"/v1/products/{name}", headers=seller).status_code in (200, 204)
        seconds = max(seconds, until(lambda page: page["total"] == 0))
        print(f"the slowest change was seen after {seconds:.2f} s")
