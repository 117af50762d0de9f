"""The pictures of pages: the dashboard of a stack under load whose documents worker stands still, and a tracking page.

`python -m tests.e2e.picture` writes `docs/images/dashboard.png` and `docs/images/tracking.png`.
"""

import asyncio
import io
import random
import tempfile
import time
from pathlib import Path
from typing import Any, Literal

import aiohttp
import msgspec
from PIL import Image
from playwright.async_api import expect

from gapless.demo_sale import raise_file_limit
from local.stack import Stack
from producers.generate import bodies
from tests.e2e.browser import chromium
from tests.e2e.running import Running

_IMAGES = Path(__file__).parents[2] / "docs" / "images"
PICTURE = _IMAGES / "dashboard.png"
TRACKING = _IMAGES / "tracking.png"
_SIZE = (1160, 760)
_PHONE = (390, 844)
_GAP = 24
_SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
_ORDER: dict[str, Any] = {
    "order_id": "T-1001",
    "customer": "C-17",
    "payment_token": "tok_ok",
    "currency": "GBP",
    "buyer": {
        "name": "Zoë O'Neil",
        "email": "zoe@example.com",
        "address": {"street": "1 Main St", "city": "Leeds", "postal_code": "LS1 1UR", "country": "GB"},
    },
    "lines": [
        {"sku": "MUG", "description": description, "quantity": quantity, "unit_price": price, "vat_rate": "20.00",
         "vat_category": "S"}
        for description, quantity, price in (("Mug with a lighthouse", "2", "9.90"), ("Earl Grey, 100 g", "1", "6.50"))
    ],
}  # fmt: skip
_PARCEL = {"carrier": "Royal Mail", "tracking_number": "AB 1234 5678 9GB", "tracking_url": "https://carrier.example"}
_COLOURS = 64
_PER_SECOND = 120
_BEFORE_S = 45
_STOPPED_S = 20


async def take(running: Running) -> None:
    """Load for a minute; for its last seconds nobody makes documents."""
    requests = iter(bodies(_PER_SECOND * (_BEFORE_S + _STOPPED_S + 30), seed=7, prefix="P"))
    stop = asyncio.Event()

    async def load() -> None:
        async with running.client() as client:
            while not stop.is_set():
                began = time.monotonic()
                batch = [next(requests) for _ in range(_PER_SECOND // 4)]
                await asyncio.gather(*(client.post_invoice(each, wait_s=0) for each in batch))
                await asyncio.sleep(max(0.0, 0.25 - (time.monotonic() - began)) * random.uniform(0.8, 1.2))

    loading = asyncio.create_task(load())
    async with chromium() as browser:
        page = await browser.new_page(viewport={"width": _SIZE[0], "height": _SIZE[1]})
        await page.goto(running.dashboard)
        await asyncio.sleep(_BEFORE_S)
        with running.stopped("documents-1"):
            state = page.locator('tbody[data-stage="documents"] [data-field="state"]')
            await expect(state).to_have_text("stalled", timeout=60_000)
            await asyncio.sleep(_STOPPED_S)
            await page.screenshot(path=PICTURE)
    stop.set()
    await loading


async def take_tracking(running: Running) -> None:
    """An order that was shipped, as its buyer's phone shows it, by day and by night."""
    shots: list[Image.Image] = []
    async with running.client() as client:
        await client.put_stock("MUG", 10)
        await client.post_checkout(msgspec.json.encode(_ORDER), wait_s=30)
        await client.get_document(str(_ORDER["order_id"]))
        await client.ship(str(_ORDER["order_id"]), parcel=_PARCEL)
    await running.gapless("sellers", "set", "demo", "--trading-name", "Tea & Mugs", "--colour", "#b5651d")
    headers = {"Authorization": f"Bearer {running.api_key}"}
    path = f"{running.url}/v1/orders/{_ORDER['order_id']}/tracking-link"
    async with aiohttp.ClientSession() as session, session.post(path, headers=headers) as answer:
        url = (await answer.json())["url"]
    async with chromium() as browser:
        for scheme in _SCHEMES:
            page = await browser.new_page(
                viewport={"width": _PHONE[0], "height": _PHONE[1]}, color_scheme=scheme, device_scale_factor=1.5
            )
            await page.goto(url)
            shots.append(Image.open(io.BytesIO(await page.screenshot())).convert("RGB"))
    width = sum(each.width for each in shots) + _GAP
    whole = Image.new("RGB", (width, shots[0].height), "white")
    for number, each in enumerate(shots):
        whole.paste(each, (number * (each.width + _GAP), 0))
    whole.quantize(_COLOURS).save(TRACKING, optimize=True)


def main() -> None:
    """Take it on a stack in a temporary folder."""
    raise_file_limit(4_096)
    with tempfile.TemporaryDirectory(prefix="gapless-picture-") as folder:
        stack = Stack(Path(folder), bound=True)
        stack.start()
        try:
            asyncio.run(take_tracking(Running(stack)))
            asyncio.run(take(Running(stack)))
        finally:
            stack.remove()
    Image.open(PICTURE).convert("RGB").quantize(_COLOURS).save(PICTURE, optimize=True)


if __name__ == "__main__":
    main()
