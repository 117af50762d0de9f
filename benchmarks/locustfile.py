"""Checkouts from Locust, for those who bring their own load tool: `locust -f benchmarks/locustfile.py --host URL`.

Locust is not among our dependencies: `pip install locust` into an environment of its own. The API key is read from
GAPLESS_API_KEY. Each user buys one piece, waits for the answer, and buys again after a moment.
"""

import itertools
import os
import uuid

from locust import HttpUser, between, task

_SKUS = 20
_BUYER = {
    "name": "Zoë O'Neil",
    "email": "zoe@example.com",
    "address": {"street": "1 Main St", "city": "Lyon", "postal_code": "69001", "country": "FR"},
}
_NUMBERS = itertools.count(1)
#: Order ids of another run are other orders.
_RUN = uuid.uuid4().hex[:8]


class Buyer(HttpUser):
    """One storefront's customer after the other."""

    wait_time = between(0.5, 1.5)

    def on_start(self) -> None:
        """Authenticate, and see that there is something to buy."""
        self.client.headers["Authorization"] = f"Bearer {os.environ['GAPLESS_API_KEY']}"
        for number in range(_SKUS):
            self.client.put(f"/v1/stock/LOCUST-{number}", json={"on_hand": 100_000_000}, name="/v1/stock/{sku}")

    @task
    def check_out(self) -> None:
        """201 is confirmed; 202 means that the order is safe and was not paid within the wait."""
        number = next(_NUMBERS)
        line = {"sku": f"LOCUST-{number % _SKUS}", "description": "Article", "quantity": "1"}
        price = {"unit_price": "19.90", "vat_rate": "20.00", "vat_category": "S"}
        body = {
            "order_id": f"L-{_RUN}-{number}",
            "customer": f"L-{_RUN}-{number}",
            "payment_token": "tok_ok",
            "currency": "EUR",
            "buyer": _BUYER,
            "lines": [{**line, **price}],
        }
        self.client.post("/v1/checkouts", json=body, headers={"Prefer": "wait=30"}, name="/v1/checkouts")
