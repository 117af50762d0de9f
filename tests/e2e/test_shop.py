"""The demo shop in a real browser, on the real stack: from the shelf to the invoice's PDF."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from playwright.async_api import Page, expect

from local.layout import free_port
from local.shop import opened
from local.shop_goods import goods
from tests.e2e.browser import chromium
from tests.e2e.running import Running

SHOWN_MS_MAX = 60_000.0
#: Of the first page a browser loads at most this, pictures included.
FIRST_VIEW_BYTES_MAX = 50_000


@pytest.fixture
async def shop(running: Running) -> AsyncIterator[str]:
    """Its address; with a part of its goods, which are put soon."""
    port = free_port()
    async with opened(running.url, running.api_key, port, itertools.islice(goods().values(), 40)):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
async def buyers(shop: str) -> AsyncIterator[Callable[[], Awaitable[Page]]]:
    """Browsers of buyers. They must not log a single error, nor be refused anything by the pages' own policy."""
    errors: list[str] = []

    def note(message: Any) -> None:
        # What is refused or can't be reached is answered so, which Chromium logs.
        if message.type == "error" and "409" not in message.text and "503" not in message.text:
            errors.append(message.text)

    async with chromium() as browser:

        async def buyer() -> Page:
            page = await browser.new_page(base_url=shop, locale="en-GB")
            page.on("console", note)
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.set_default_timeout(SHOWN_MS_MAX)
            return page

        yield buyer
    assert not errors


@pytest.fixture
async def page(buyers: Callable[[], Awaitable[Page]]) -> Page:
    """One buyer's browser."""
    return await buyers()


async def test_a_buyer_walks_from_the_shelf_to_the_invoice(page: Page, running: Running) -> None:
    loaded: list[int] = []

    async def count(response: Any) -> None:
        loaded.append(len(await response.body()))

    page.on("response", count)
    await page.goto("/shop")
    await expect(page.locator("ul.products li")).to_have_count(24)
    shifted = await page.evaluate(
        "() => new Promise(done => { let sum = 0; new PerformanceObserver(list => {"
        " for (const each of list.getEntries()) sum += each.value;"
        "}).observe({type: 'layout-shift', buffered: true}); setTimeout(() => done(sum), 200); })"
    )
    assert shifted == 0
    page.remove_listener("response", count)
    assert sum(loaded) < FIRST_VIEW_BYTES_MAX
    # By keyboard and by names, as somebody who does not see the page finds things.
    await page.get_by_role("link", name="Kitchen").click()
    await page.get_by_role("link", name="Ocean mug by Aubel").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Ocean mug by Aubel")
    assert await page.locator("img[alt='A mug, ocean']").evaluate("image => image.naturalWidth > 0")
    await page.get_by_label("Pieces").fill("2")
    await page.get_by_role("button", name="Add to cart").click()
    await expect(page.get_by_role("row", name="Ocean mug by Aubel")).to_contain_text("8.90 EUR")
    await expect(page.locator(".total")).to_have_text("Total 17.80 EUR")
    await page.get_by_label("Your name").fill("Zoë")
    await page.get_by_role("button", name="Log in").click()
    await expect(page.locator("header")).to_contain_text("Zoë")
    await page.get_by_role("link", name="Check out").click()
    await page.get_by_label("4000 0000 0000 0002").check()
    await page.get_by_role("button", name="Pay 17.80 EUR").click()
    await expect(page.get_by_role("alert")).to_contain_text("declined", timeout=SHOWN_MS_MAX)
    await page.get_by_label("4242 4242 4242 4242").check()
    await page.get_by_role("button", name="Pay 17.80 EUR").click()
    await expect(page.locator("[data-state=CONFIRMED]")).to_be_visible(timeout=SHOWN_MS_MAX)
    invoice = page.get_by_role("link", name="Invoice INV")
    await expect(invoice).to_be_visible(timeout=SHOWN_MS_MAX)
    answer = await page.request.get(str(await invoice.get_attribute("href")))
    assert (answer.status, (await answer.body())[:5]) == (200, b"%PDF-")
    await _review(page)
    await page.goto("/shop/cart")
    await expect(page.get_by_text("Your cart is empty.")).to_be_visible()
    await asyncio.to_thread(running.assert_clean)


async def _review(page: Page) -> None:
    """The owner ships and delivers, the buyer reviews, the owner approves: then all who look are shown it."""
    await page.get_by_role("button", name="Ship it").click()
    await page.get_by_role("button", name="Say that it has arrived").click()
    await page.get_by_label("4 stars").check()
    await page.get_by_label("Title").fill("<b>Good</b>")
    await page.get_by_label("Review").fill("Holds coffee.\nAnd tea.")
    await page.get_by_label("Your name").fill("Zoë")
    await page.get_by_role("button", name="Send the review").click()
    await expect(page.get_by_text("You said: 4 of 5 stars, <b>Good</b>")).to_be_visible()
    await page.get_by_role("button", name="approve it").click()
    await expect(page.get_by_text("You said: 4 of 5 stars")).to_be_visible()
    await expect(page.get_by_role("button", name="approve it")).to_have_count(0)

    async def is_rated() -> bool:
        await page.goto("/shop/products/mug-aubel-ocean")
        return await page.get_by_text("4.00 of 5 stars").count() == 1

    give_up_at = time.monotonic() + SHOWN_MS_MAX / 1000
    while not await is_rated():
        assert time.monotonic() < give_up_at, "the product's rating is not shown"
    shown = page.get_by_role("list").filter(has_text="Holds coffee.")
    await expect(shown).to_contain_text("<b>Good</b>")
    await page.goto("/shop?category=kitchen/mugs")
    await expect(page.get_by_role("listitem").filter(has_text="Ocean mug by Aubel")).to_contain_text("(1 review)")


async def test_the_pages_refuse_foreign_forms_and_show_what_is_not_there(page: Page, shop: str) -> None:
    """And without scripts they work as well."""
    foreign = await page.request.post("/shop/cart", form={"sku": "x"}, headers={"Origin": "https://evil.example"})
    assert foreign.status == 403
    missing = await page.request.get("/shop/products/nothing")
    assert (missing.status, "There is no such thing here." in await missing.text()) == (404, True)
    policy = missing.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    text = await (await page.request.get("/shop?category=kitchen/mugs", headers={"Accept-Language": "fr"})).text()
    assert "Tasse bleu océan de Aubel" in text


async def test_a_buyer_searches_narrows_and_finds(page: Page) -> None:
    """From the box on every page, by its label; and what is typed comes back as text, whatever it is."""
    await page.goto("/shop")
    box = page.get_by_role("searchbox", name="Search the shop")
    await box.fill("ocean mugs")
    await box.press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Search: ocean mugs")
    results = page.locator("ul.products li")
    narrow = page.get_by_role("navigation", name="Narrow the search")
    # The goods are put a moment before, and found partition by partition.
    give_up_at = time.monotonic() + SHOWN_MS_MAX / 1000
    while not await narrow.get_by_role("link", name="Brandt").count():
        assert time.monotonic() < give_up_at, "the search does not find what was put"
        await page.wait_for_timeout(250)
        await page.reload()
    await expect(results.first).to_contain_text("Ocean mug")
    await expect(results.first.locator("mark").first).to_have_text("Ocean")
    await narrow.get_by_role("link", name="Brandt").click()
    await expect(results).to_have_count(1)
    await expect(results).to_contain_text("Ocean mug by Brandt")
    await narrow.get_by_role("link", name="remove Brandt").click()
    await expect(page.get_by_role("status")).to_contain_text("products")
    await page.get_by_role("searchbox").fill("<img src=x onerror=alert(1)>")
    await page.get_by_role("button", name="Search").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Search: <img src=x onerror=alert(1)>")
    await expect(page.get_by_text("Nothing was found")).to_be_visible()


async def test_who_comes_late_to_a_flash_sale_waits_and_gets_what_comes_back(
    buyers: Callable[[], Awaitable[Page]], running: Running
) -> None:
    """One piece: the first buyer's card is declined, the second has waited meanwhile, the third is late."""
    await _put_product(running, "flash-lamp", "Flash lamp", on_hand=1)
    first, second, third = [await buyers() for _ in range(3)]
    for buyer in (first, second, third):
        await buyer.goto("/shop/products/flash-lamp")
        await buyer.get_by_role("button", name="Add to cart").click()
        await buyer.get_by_role("link", name="Check out").click()
    await first.get_by_label("4000 0000 0000 0002").check()
    with running.stopped("provider"):
        await first.get_by_role("button", name="Pay").click()
        await expect(first.locator("[data-state=PAYMENT_PENDING]")).to_be_visible()
        await second.get_by_role("button", name="Pay").click()
        await expect(second.locator("[data-state=waiting]")).to_contain_text("You are in the waitlist.")
        await expect(second.get_by_text("Your place: 1.")).to_be_visible()
    await expect(first.locator("[data-state=CANCELLED]")).to_contain_text("you have paid nothing")
    await expect(second.locator("[data-state=CONFIRMED]")).to_be_visible()
    await third.get_by_role("button", name="Pay").click()
    await expect(third.get_by_role("alert")).to_contain_text("Somebody was faster")
    await third.goto("/shop/products/flash-lamp")
    await expect(third.get_by_text("Sold out", exact=True)).to_be_visible()
    await asyncio.to_thread(running.assert_clean)


async def test_with_redis_stopped_the_shop_shows_what_it_has_and_sells_again_after(
    page: Page, running: Running
) -> None:
    await _put_product(running, "quiet-lamp", "Quiet lamp", on_hand=5)
    await page.goto("/shop/products/quiet-lamp")
    await page.get_by_role("button", name="Add to cart").click()
    await expect(page.get_by_role("row", name="Quiet lamp")).to_be_visible()
    with running.stopped("redis"):
        await page.goto("/shop/products/quiet-lamp")
        await expect(page.get_by_role("heading", level=1)).to_have_text("Quiet lamp")
        await page.goto("/shop?category=kitchen/mugs")
        await expect(page.get_by_role("link", name="Ocean mug by Aubel")).to_be_visible()
        # A cart is in Redis alone.
        await page.goto("/shop/cart")
        await expect(page.get_by_role("alert")).to_contain_text("can't be reached at the moment")
    await page.goto("/shop/checkout")
    while await page.get_by_role("alert").count():
        await page.reload()
    await page.get_by_role("button", name="Pay").click()
    await expect(page.locator("[data-state=CONFIRMED]")).to_be_visible()
    await asyncio.to_thread(running.assert_clean)


async def _put_product(running: Running, product_id: str, name: str, *, on_hand: int) -> None:
    """A product of one variant, once buyers are shown it."""
    product = {
        "texts": [{"language": "en", "name": name}],
        "currency": "EUR",
        "vat_category": "S",
        "vat_rate": "20.00",
        "prices_include_tax": True,
        "variants": [{"sku": product_id, "unit_price": "30.00"}],
    }
    async with aiohttp.ClientSession(running.url, headers={"Authorization": f"Bearer {running.api_key}"}) as session:
        for path, body in ((f"/v1/products/{product_id}", product), (f"/v1/stock/{product_id}", {"on_hand": on_hand})):
            async with session.put(path, json=body) as response:
                assert response.status in (200, 201), await response.text()
        give_up_at = time.monotonic() + SHOWN_MS_MAX / 1000
        while True:
            async with session.get(f"/v1/catalogue/demo/products/{product_id}") as response:
                if response.status == 200 and (await response.json())["in_stock"] == [product_id]:
                    return
            assert time.monotonic() < give_up_at, "the product is not in stock for buyers"
            await asyncio.sleep(0.05)
