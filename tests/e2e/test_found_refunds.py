"""A refund in the provider's dashboard, on the real stack: told of by webhook or not, credited, audited."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import aiohttp

from domain.money import minor
from producers.client import GaplessClient
from producers.generate import checkouts
from runtime.settings import Settings
from tests.e2e.running import Running

#: The lowest bound that tells a stall from a slow machine; a lease of 30 s may run out first.
_STEP_S_MAX = 120.0


async def test_a_refund_in_the_dashboard_is_credited_once_though_the_worker_is_killed(running: Running) -> None:
    [body] = checkouts(1, seed=3, skus=["DASH-1"], customers=1, tokens={"tok_ok": 1.0}, prefix="DASH")
    async with running.client() as client:
        assert (await client.put_stock("DASH-1", 50)).status == 200
        assert (await client.post_checkout(body, wait_s=30)).json()["state"] == "CONFIRMED"
        assert (await client.ship("DASH-1")).json()["state"] == "SHIPPED"
        order = await _until(client, lambda order: order["payment"]["status"] == "captured")
        gross = minor(order["totals"]["gross"], order["currency"])
        made = await _refund_in_dashboard(running.settings, "DASH-1", 100)
        # Wherever it is: before it asks, while it asks, or when it has written.
        running.kill("payments-1")
        order = await _until(client, lambda order: len(order["credit_notes"]) == 1)
        [refund] = order["refunds"]
        assert (refund["refund_id"], refund["origin"], refund["state"]) == (f"provider.{made}", "provider", "done")
        assert (minor(refund["amount"], order["currency"]), refund["provider_reason"]) == (100, None)
        assert refund["credit_note"] == order["credit_notes"][0]["number"]
        assert (order["state"], order["payment"]["status"]) == ("SHIPPED", "partially-refunded")
        await _tell_of(running.settings, share=0.0)
        await _refund_in_dashboard(running.settings, "DASH-1", 200)
        await _tell_of(running.settings, share=1.0)
        # Long before the next pass.
        found = await running.gapless("refunds", "find", "--since", "2026-01-01")
        said = "refunds made at local since 2026-01-01 00:00 UTC are compared now"
        assert (found.code, said in found.output) == (0, True), found
        await _until(client, lambda order: len(order["credit_notes"]) == 2)
        assert (await client.refund("DASH-1", "R-1")).status == 200
        order = await _until(client, lambda order: len(order["credit_notes"]) == 3)
        assert order["state"] == "REFUNDED"
        assert [minor(each["amount"], order["currency"]) for each in order["refunds"]] == [100, 200, gross - 300]
    shown = await running.gapless("order", "DASH-1")
    assert (shown.code, "nothing is outstanding" in shown.output) == (0, True), shown
    await asyncio.to_thread(running.assert_clean)


async def _refund_in_dashboard(settings: Settings, order_id: str, amount_minor: int) -> str:
    body = {"order_id": order_id, "amount_minor": amount_minor}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{settings.provider_url}/dashboard/refunds", json=body) as response,
    ):
        answer = await response.json()
        assert response.status == 200, answer
        return str(answer["id"])


async def _tell_of(settings: Settings, *, share: float) -> None:
    """Have the provider tell of so many refunds in its dashboard."""
    async with (
        aiohttp.ClientSession() as session,
        session.put(f"{settings.provider_url}/behaviour", json={"dashboard_notices": share}) as response,
    ):
        assert response.status == 200


async def _until(client: GaplessClient, holds: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    give_up_at = time.monotonic() + _STEP_S_MAX
    while True:
        order = (await client.get_order("DASH-1")).json()
        if holds(order):
            return order
        assert time.monotonic() < give_up_at, order
        await asyncio.sleep(0.05)
