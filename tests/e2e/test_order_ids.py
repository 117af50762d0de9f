"""One id for a checkout and an invoice, on the real stack: one of them has it, the other gets 409.

The last test audits what all have done.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from producers.client import GaplessClient, GatewayAnswer
from tests.e2e.running import Running

_SKU = "IDS-1"
_BUYER = {
    "name": "Zoë O'Neil",
    "email": "zoe@example.com",
    "address": {"street": "1 Main St", "city": "Lyon", "postal_code": "69001", "country": "FR"},
}
_PAIRS = 32
_ORDERED, _INVOICED = (409, "/problems/already-ordered"), (409, "/problems/already-invoiced")


def invoice(order_id: str, unit_price: str = "39.99") -> dict[str, Any]:
    """What 47.99 is asked for by default."""
    line = {"sku": _SKU, "description": "Tea", "quantity": "1", "unit_price": unit_price}
    lines = [{**line, "vat_rate": "20.00", "vat_category": "S"}]
    return {"order_id": order_id, "currency": "EUR", "buyer": _BUYER, "lines": lines}


def checkout(order_id: str, token: str) -> dict[str, Any]:
    """A checkout of the same content, by a customer of its own."""
    return {**invoice(order_id), "customer": order_id, "payment_token": token}


def outcome(answer: GatewayAnswer) -> tuple[int, str]:
    """The status, and of a problem its type."""
    return answer.status, answer.json().get("type", "")


async def _settled(client: GaplessClient, order_id: str) -> Mapping[str, Any]:
    """The order when nothing of it is under way."""
    async with asyncio.timeout(60):
        while True:
            order: Mapping[str, Any] = (await client.get_order(order_id)).json()
            if order["state"] == "CANCELLED" or (order["state"] == "CONFIRMED" and order["invoice"]):
                return order
            await asyncio.sleep(0.05)


async def _cancelled(client: GaplessClient, order_id: str) -> None:
    """Cancel the order, as soon as it is placed."""
    async with asyncio.timeout(60):
        while True:
            if (await client.cancel(order_id)).status == 200:
                return
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("unit_price", ["1.00", "39.99"])
async def test_an_invoice_under_the_id_of_a_checkout_that_pays_is_a_conflict(running: Running, unit_price: str) -> None:
    order_id = f"IDS-PAYS-{unit_price}"
    async with running.client() as client:
        await client.put_stock(_SKU, 1_000)
        assert (await client.post_checkout(checkout(order_id, "tok_slow"))).status == 202
        assert outcome(await client.post_invoice(invoice(order_id, unit_price))) == _ORDERED
        assert outcome(await client.post_invoice(invoice(order_id, unit_price), wait_s=20)) == _ORDERED
        order = await _settled(client, order_id)
        assert (order["state"], order["totals"]["gross"]) == ("CONFIRMED", "47.99")
        assert outcome(await client.post_invoice(invoice(order_id, unit_price))) == _ORDERED
        assert (await client.get_invoice(order_id)).json()["totals"]["gross"] == "47.99"


@pytest.mark.parametrize("end", ["declined", "cancelled"])
async def test_an_invoice_under_the_id_of_a_checkout_that_came_to_nothing_is_a_conflict(
    running: Running, end: str
) -> None:
    order_id = f"IDS-{end}"
    async with running.client() as client:
        await client.put_stock(_SKU, 1_000)
        token = "tok_decline" if end == "declined" else "tok_slow"
        await client.post_checkout(checkout(order_id, token), wait_s=20 if end == "declined" else None)
        if end == "cancelled":
            await _cancelled(client, order_id)
        assert (await _settled(client, order_id))["state"] == "CANCELLED"
        assert outcome(await client.post_invoice(invoice(order_id))) == _ORDERED
        assert (await client.get_invoice(order_id)).status == 404


async def test_a_checkout_under_the_id_of_an_invoice_is_a_conflict(running: Running) -> None:
    async with running.client() as client:
        await client.put_stock(_SKU, 1_000)
        assert (await client.post_invoice(invoice("IDS-FIRST"))).status == 202
        assert outcome(await client.post_checkout(checkout("IDS-FIRST", "tok_ok"))) == _INVOICED
        assert (await client.post_invoice(invoice("IDS-FIRST"), wait_s=20)).status == 200
        assert outcome(await client.post_checkout(checkout("IDS-FIRST", "tok_ok"), wait_s=20)) == _INVOICED
        assert (await client.get_order("IDS-FIRST")).status == 404


async def test_of_each_racing_pair_exactly_one_is_accepted(running: Running) -> None:
    ids = [f"IDS-RACE-{number}" for number in range(_PAIRS)]
    async with running.client(connections=2 * _PAIRS) as client:
        await client.put_stock(_SKU, 1_000)

        async def race(number: int, order_id: str) -> tuple[GatewayAnswer, GatewayAnswer]:
            calls = [
                client.post_checkout(checkout(order_id, "tok_ok"), wait_s=30),
                client.post_invoice(invoice(order_id), wait_s=30),
            ]
            # Each goes first in half of the pairs.
            tasks = [asyncio.ensure_future(call) for call in (calls if number % 2 else reversed(calls))]
            bought, invoiced = tasks if number % 2 else reversed(tasks)
            return await bought, await invoiced

        pairs = await asyncio.gather(*(race(*each) for each in enumerate(ids)))
        for order_id, (bought, invoiced) in zip(ids, pairs, strict=True):
            found = outcome(bought), outcome(invoiced)
            assert found in (((201, ""), _ORDERED), (_INVOICED, (200, ""))), (order_id, found)
            known = await client.get_order(order_id)
            assert known.status == (200 if bought.status == 201 else 404) or known.json()["state"] == "rejected"
    with running.ledger() as ledger:
        [owned] = ledger.execute("SELECT count(*) FROM order_ids WHERE order_id = ANY(%s)", (ids,)).fetchall()
    assert owned == (_PAIRS,)
    await asyncio.to_thread(running.assert_clean)
