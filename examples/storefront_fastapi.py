"""A shop with FastAPI: `uvicorn examples.storefront_fastapi:app`."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from gapless_client.client import AsyncClient
from gapless_client.errors import ProblemError, UnavailableError

gapless = AsyncClient(os.environ["GAPLESS_URL"], os.environ["GAPLESS_KEY"])


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Close the connections at the end."""
    async with gapless:
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/buy")
async def buy(cart: dict[str, Any]) -> JSONResponse:
    """Check out a cart. Its id is made with the cart, so that a customer who clicks twice buys once."""
    order = await gapless.check_out(
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
    return JSONResponse(order, 201 if order["state"] == "CONFIRMED" else 202)


@app.get("/orders/{order_id}")
async def show(order_id: str) -> JSONResponse:
    """Where an order is."""
    return JSONResponse(await gapless.get_order(order_id))


@app.exception_handler(ProblemError)
async def refused(_: Request, problem: ProblemError) -> JSONResponse:
    """Out of stock, declined, or a request that is wrong: the customer sees which."""
    return JSONResponse(problem.problem, problem.status)


@app.exception_handler(UnavailableError)
async def unavailable(_: Request, __: UnavailableError) -> JSONResponse:
    """The order may have been accepted: the same cart is sent again."""
    return JSONResponse({"title": "please try again"}, 503)
