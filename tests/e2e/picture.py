"""The picture of the dashboard in the README, taken from a stack under load whose documents worker stands still.

`python -m tests.e2e.picture` writes `docs/images/dashboard.png`.
"""

import asyncio
import random
import tempfile
import time
from pathlib import Path

from PIL import Image
from playwright.async_api import expect

from gapless.demo_sale import raise_file_limit
from local.stack import Stack
from producers.generate import bodies
from tests.e2e.browser import chromium
from tests.e2e.running import Running

PICTURE = Path(__file__).parents[2] / "docs" / "images" / "dashboard.png"
_SIZE = (1160, 760)
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


def main() -> None:
    """Take it on a stack in a temporary folder."""
    raise_file_limit(4_096)
    with tempfile.TemporaryDirectory(prefix="gapless-picture-") as folder:
        stack = Stack(Path(folder), bound=True)
        stack.start()
        try:
            asyncio.run(take(Running(stack)))
        finally:
            stack.remove()
    Image.open(PICTURE).convert("RGB").quantize(_COLOURS).save(PICTURE, optimize=True)


if __name__ == "__main__":
    main()
