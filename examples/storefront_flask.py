"""A shop with Flask: `flask --app examples/storefront_flask.py run`."""

import os
from typing import Any

from flask import Flask, jsonify, request
from flask.typing import ResponseReturnValue
from gapless_client.client import Client
from gapless_client.errors import ProblemError, UnavailableError
from gapless_client.webhooks import WebhookError, verify

app = Flask(__name__)
gapless = Client(os.environ["GAPLESS_URL"], os.environ["GAPLESS_KEY"])
webhook_keys = os.environ.get("WEBHOOK_KEYS", "").split()
#: Ids of the webhooks that were handled; in earnest, a table with a unique column.
handled: set[str] = set()


@app.post("/buy")
def buy() -> ResponseReturnValue:
    """Check out a cart. Its id is made with the cart, so that a customer who clicks twice buys once."""
    cart: Any = request.get_json()
    order = gapless.check_out(
        {
            "order_id": cart["cart_id"],
            "customer": cart["customer"],
            "payment_token": cart["payment_token"],
            "currency": "EUR",
            "buyer": cart["buyer"],
            "lines": cart["lines"],
        },
        wait_seconds=20,
    )
    # Accepted and not decided yet: the customer's page asks again.
    return jsonify(order), 201 if order["state"] == "CONFIRMED" else 202


@app.get("/orders/<order_id>")
def show(order_id: str) -> ResponseReturnValue:
    """Where an order is."""
    return jsonify(gapless.get_order(order_id))


@app.post("/webhooks")
def receive() -> ResponseReturnValue:
    """What gapless tells of orders, once for each id."""
    try:
        webhook = verify(request.get_data(), request.headers, webhook_keys)
    except WebhookError as error:
        return jsonify(error=str(error)), 400
    if webhook.id not in handled:
        app.logger.info("%s: %s", webhook.type, webhook.data)
        handled.add(webhook.id)
    return "", 204


@app.errorhandler(ProblemError)
def refused(problem: ProblemError) -> ResponseReturnValue:
    """Out of stock, declined, or a request that is wrong: the customer sees which."""
    return jsonify(problem.problem), problem.status


@app.errorhandler(UnavailableError)
def unavailable(_: UnavailableError) -> ResponseReturnValue:
    """The order may have been accepted: the same cart is sent again."""
    return jsonify(title="please try again"), 503
