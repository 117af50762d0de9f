"""The whole way of an order on the real stack: bought, shipped, delivered, refunded, credited."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from producers.client import GaplessClient
from producers.generate import checkouts
from tests.e2e.running import Running

#: The lowest bound that tells a stall from a slow machine.
_STEP_S_MAX = 120.0


async def test_an_order_is_bought_shipped_refunded_and_credited(running: Running) -> None:
    [body] = checkouts(1, seed=1, skus=["WAY-1"], customers=1, tokens={"tok_ok": 1.0}, prefix="BUY")
    async with running.client() as client:
        assert (await client.put_stock("WAY-1", 3)).status == 200
        bought = await client.post_checkout(body, wait_s=30)
        assert (bought.status, bought.json()["state"]) == (201, "CONFIRMED")
        shipped = (await client.ship("BUY-1")).json()
        assert shipped["state"] == "SHIPPED"
        assert (await client.deliver("BUY-1")).json()["state"] == "DELIVERED"
        refused = await client.cancel("BUY-1")
        assert (refused.status, refused.json()["type"]) == (409, "/problems/not-permitted")
        assert (await client.refund("BUY-1", "R-1")).status == 200
        order = await _until(client, "BUY-1", lambda order: order["state"] == "REFUNDED" and order["credit_notes"])
        assert order["payment"]["refunded"] == order["totals"]["gross"]
        assert order["invoice"]["number"].startswith("INV-")
        assert order["credit_notes"][0]["number"].startswith("CN-")
        level = (await client.get_stock("WAY-1")).json()
    assert level == {"sku": "WAY-1", "on_hand": 2, "reserved": 0, "available": 2, "version": 3}
    await asyncio.to_thread(running.assert_clean)


async def _until(client: GaplessClient, order_id: str, holds: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    give_up_at = time.monotonic() + _STEP_S_MAX
    while True:
        order = (await client.get_order(order_id)).json()
        if holds(order):
            return order
        assert time.monotonic() < give_up_at, order
        await asyncio.sleep(0.05)
