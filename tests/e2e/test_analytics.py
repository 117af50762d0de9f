"""What is sold is seen, once: in a browser, in CSV, after a kill of the worker, and again after a rebuild."""

import asyncio
import csv
import io
import json
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx
from gapless_client.client import AsyncClient
from playwright.async_api import expect

from producers.generate import checkouts
from tests.e2e.browser import chromium
from tests.e2e.running import Running

SHOWN_MS_MAX = 60_000.0
_S_MAX = 120.0


async def until(holds: Callable[[], Any], what: str) -> None:
    give_up_at = time.monotonic() + _S_MAX
    while not await holds():
        assert time.monotonic() < give_up_at, f"not within {_S_MAX:g} s: {what}"
        await asyncio.sleep(0.2)


async def test_what_is_sold_is_on_the_page_and_in_the_files_and_there_again_after_a_rebuild(running: Running) -> None:
    sku = f"STAT-{uuid4().hex[:8]}"
    async with AsyncClient(running.url, running.api_key) as shop:
        await shop.put_stock(sku, {"on_hand": 100})
        before = (await shop.get_analytics_series(step="minute"))["totals"]

        async def buy(count: int) -> None:
            bodies = checkouts(
                count, seed=3, skus=[sku], customers=1_000, tokens={"tok_ok": 1.0}, prefix=uuid4().hex[:8]
            )
            for body in map(json.loads, bodies):
                await shop.check_out(body)
                await shop.wait_for_order(body["order_id"])

        async def sold() -> int:
            found = [each for each in (await shop.get_analytics_skus(limit=100))["skus"] if each["sku"] == sku]
            return found[0]["sold"] if found else 0

        async def confirmed() -> int:
            return (await shop.get_analytics_series(step="minute"))["totals"]["confirmed"]

        await buy(2)
        running.kill("analytics-1")
        await buy(1)

        async def three_are_counted() -> bool:
            return await confirmed() >= before["confirmed"] + 3 and await sold() >= 3

        await until(three_are_counted, "three orders are counted")
        link = (await shop.create_analytics_link())["url"]
        errors: list[str] = []
        async with chromium() as browser:
            page = await browser.new_page(locale="en-GB")
            page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
            page.on("pageerror", lambda error: errors.append(str(error)))
            await page.goto(f"{link}?step=minute")
            await expect(page.locator(f'tr[data-sku="{sku}"] td').first).to_have_text(str(await sold()))
            await expect(page.locator("#charts canvas").first).to_be_visible()
            await expect(page.locator("nav a[aria-current]")).to_have_text("Last hour")
            # It is live: without a reload, what is sold next is shown.
            pieces = await sold()
            await buy(2)
            await asyncio.to_thread(running.wait_until_drained)
            assert await sold() > pieces
            await expect(page.locator(f'tr[data-sku="{sku}"] td').first).to_have_text(
                str(await sold()), timeout=SHOWN_MS_MAX
            )
            await expect(page.locator("#charts canvas").first).to_be_visible()
            async with page.expect_download() as download:
                await page.get_by_role("link", name="SKUs as CSV").click()
            text = (await (await download.value).path()).read_text()
        assert not errors
        [line, *_] = [each for each in csv.DictReader(io.StringIO(text)) if each["sku"] == sku]
        assert int(line["sold"]) == await sold()
        async with httpx.AsyncClient() as anybody:
            assert (await anybody.get(f"{running.url}/v1/analytics/series.csv")).status_code == 401
        # Everything is counted before the sums are compared, and after the workers have begun again.
        await asyncio.to_thread(running.wait_until_drained)
        sums = await shop.get_analytics_series(step="day")
        rebuilt = await running.gapless("analytics", "rebuild")
        assert rebuilt.code == 0, rebuilt
        assert "order-events has records since 20" in rebuilt.output
        again = await shop.get_analytics_series(step="day")
        assert again["totals"] == sums["totals"]
    await asyncio.to_thread(running.assert_clean)
