"""The way of an order, and a sale, on the real stack, through crashes: sold is paid, paid is sold, stock is stock."""

import asyncio
import itertools
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from producers.client import GaplessClient
from tests.e2e.buying import CANCELLED, CONFIRMED, DECLINED, SOLD_OUT, Told, buy, level, payloads, put_stock
from tests.e2e.running import Running

#: The lowest bound that tells a stall from a slow machine.
_STEP_S_MAX = 30.0


async def test_an_order_is_bought_shipped_refunded_and_credited(running: Running) -> None:
    await put_stock(running, WAY_1=3)
    [body] = payloads(1, "BUY", ["WAY-1"])
    assert (await buy(running, [body], at_once=1)).outcomes == {"BUY-1": CONFIRMED}
    async with running.client() as client:
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
    assert await level(running, "WAY-1") == {"sku": "WAY-1", "on_hand": 2, "reserved": 0, "available": 2, "version": 3}
    await asyncio.to_thread(running.assert_clean)


@pytest.mark.parametrize("stock", [1, 40])
async def test_a_sale_sells_exactly_its_stock(running: Running, stock: int) -> None:
    sku = f"SALE-{stock}"
    await put_stock(running, **{sku: stock})
    told = await buy(running, payloads(600, sku, [sku]), at_once=300, wait_s=5)
    assert told.count() == {CONFIRMED: stock, SOLD_OUT: 600 - stock}
    await _assert_sold(running, sku, stock, told)


async def test_a_sale_sells_exactly_its_stock_while_redis_is_killed(running: Running) -> None:
    await put_stock(running, **{"SALE-REDIS": 40})
    with _repeatedly(lambda: running.signal("redis", signal.SIGKILL), every_s=1.5):
        told = await buy(running, payloads(600, "SALE-REDIS", ["SALE-REDIS"]), at_once=100, wait_s=5)
    assert told.count() == {CONFIRMED: 40, SOLD_OUT: 560}
    await _assert_sold(running, "SALE-REDIS", 40, told)


async def test_a_sale_sells_exactly_its_stock_while_its_workers_are_killed(running: Running) -> None:
    await put_stock(running, **{"SALE-KILL": 40})
    victims = itertools.cycle(["checkouts-1", "orders-1", "payments-1", "checkouts-1", "relay"])
    # Few at a time, so that the kills fall into the sale, not behind it.
    with _repeatedly(lambda: running.signal(next(victims), signal.SIGKILL), every_s=3.0):
        told = await buy(running, payloads(400, "SALE-KILL", ["SALE-KILL"]), at_once=6, wait_s=10)
    assert told.count() == {CONFIRMED: 40, SOLD_OUT: 360}
    await _assert_sold(running, "SALE-KILL", 40, told)


async def test_every_fault_of_the_provider_charges_at_most_once(running: Running) -> None:
    tokens = {
        "tok_ok": 4.0,
        "tok_decline": 1.0,
        "tok_5xx": 1.0,
        "tok_duplicate": 1.0,
    }
    await put_stock(running, FAULTS=1000)
    told = await buy(running, payloads(100, "FAULTS", ["FAULTS"], **tokens), at_once=100, wait_s=10)
    assert set(told.count()) <= {CONFIRMED, DECLINED, CANCELLED}
    assert len(told.outcomes) == 100
    # The audit compares every attempt with the provider's own ledger.
    await _assert_sold(running, "FAULTS", len(told.those(CONFIRMED)), told)


async def _assert_sold(running: Running, sku: str, sold: int, told: Told) -> None:
    report = await asyncio.to_thread(running.assert_clean)
    assert report.counts["provider's payments"]
    now = await level(running, sku)
    assert now["reserved"] == sold
    with running.ledger() as ledger:
        rows = ledger.execute(
            "SELECT o.order_id FROM orders o JOIN order_lines l USING (seller_id, order_id)"
            " WHERE l.sku = %s AND o.state = 'CONFIRMED'",
            (sku,),
        ).fetchall()
    assert {str(order_id) for (order_id,) in rows} == told.those(CONFIRMED)


async def _until(client: GaplessClient, order_id: str, holds: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    give_up_at = time.monotonic() + _STEP_S_MAX
    while True:
        order = (await client.get_order(order_id)).json()
        if holds(order):
            return order
        assert time.monotonic() < give_up_at, order
        await asyncio.sleep(0.05)


@contextmanager
def _repeatedly(do: Callable[[], object], *, every_s: float) -> Iterator[None]:
    """Do it at once and then now and again, until the block ends."""
    over = threading.Event()

    def run() -> None:
        while not over.is_set():
            do()
            over.wait(every_s)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
