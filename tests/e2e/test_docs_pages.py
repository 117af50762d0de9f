"""The pages at `/docs`, in a real browser: drawn under their policy, from what the gateway itself has."""

import pytest
from playwright.async_api import expect

from tests.e2e.browser import chromium
from tests.e2e.running import Running

_MS_MAX = 60_000


@pytest.mark.parametrize(
    ("path", "shown"),
    [("/docs", ["Check out", "Ask for an invoice"]), ("/docs/topics", ["dead-letters", "CheckoutRequest"])],
)
async def test_a_page_shows_its_document_and_loads_nothing_from_elsewhere(
    running: Running, path: str, shown: list[str]
) -> None:
    async with chromium() as browser:
        page = await browser.new_page()
        answered: list[str] = []
        errors: list[str] = []
        page.on("response", lambda response: answered.append(response.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        await page.goto(running.url + path)
        for text in shown:
            await page.get_by_text(text).first.wait_for(state="attached", timeout=_MS_MAX)
        assert errors == []
        assert all(url.startswith((running.url, "data:", "blob:")) for url in answered), answered
        link = page.get_by_role("link", name="topics" if path == "/docs" else "HTTP", exact=True)
        await link.first.click()
        await expect(page).to_have_url(running.url + ("/docs/topics" if path == "/docs" else "/docs"))
