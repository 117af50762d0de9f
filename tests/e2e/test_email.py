"""E-mail on the real stack: an order's life as its buyer's inbox shows it, and the page that shows the inbox."""

import asyncio
import email
import email.policy
import json
import re
import time
from collections.abc import AsyncIterator
from email.message import EmailMessage
from typing import Any
from urllib.parse import urljoin

import aiohttp
import pytest

from producers.generate import bodies, checkouts
from tests.e2e.browser import chromium
from tests.e2e.running import Running

#: A mail that a killed sender had taken up is sent again when its lease of 120 s has run out.
_STEP_S_MAX = 300.0


@pytest.fixture
async def mailing(running: Running) -> AsyncIterator[Running]:
    """The stack, its seller's e-mail on."""
    turned_on = await running.gapless("email", "set", "demo", "--from", "shop@shop.example")
    assert turned_on.code == 0, turned_on.error
    yield running
    assert (await running.gapless("email", "off", "demo")).code == 0


async def mails_to(running: Running, address: str, count: int, *, addresses: int = 1) -> list[tuple[int, EmailMessage]]:
    """The mails to an address, oldest first, once there are so many; each with its number.

    `address` may be the beginning of several: of a sender that was killed a mail may come twice, and all of them must
    have come.
    """
    give_up_at = time.monotonic() + _STEP_S_MAX
    async with aiohttp.ClientSession(running.inbox) as session:
        while True:
            async with session.get("/mails.json") as answer:
                listed: list[dict[str, Any]] = (await answer.json())["mails"]
            mails = {each["number"]: each["to"] for each in listed if address in each["to"]}
            numbers = sorted(mails)
            if len(numbers) >= count and len({*mails.values()}) >= addresses:
                break
            assert time.monotonic() < give_up_at, listed
            await asyncio.sleep(0.1)
        found = []
        for number in numbers:
            async with session.get(f"/mails/{number}/source") as answer:
                found.append((number, email.message_from_bytes(await answer.read(), policy=email.policy.default)))
    return found


async def test_an_orders_life_is_in_its_buyers_inbox(mailing: Running) -> None:
    """Confirmed, shipped, delivered, invoiced and credited: each once, the documents byte by byte."""
    [made] = checkouts(1, seed=1, skus=["MAIL-1"], customers=1, tokens={"tok_ok": 1.0}, prefix="MAIL")
    body = json.loads(made)
    body["buyer"] |= {"email": "zoe+mail@bücher.example", "name": "Zoë, of <b>Lyon</b>"}
    body["buyer"]["address"]["country"] = "FR"
    async with mailing.client() as client:
        assert (await client.put_stock("MAIL-1", 3)).status == 200
        bought = await client.post_checkout(json.dumps(body).encode(), wait_s=30)
        assert (bought.status, bought.json()["state"]) == (201, "CONFIRMED")
        order_id = bought.json()["order_id"]
        assert (await client.ship(order_id)).status == 200
        assert (await client.deliver(order_id)).status == 200
        assert (await client.refund(order_id, "R-1")).status == 200
        received = [message for _, message in await mails_to(mailing, "zoe+mail@xn--bcher-kva.example", 5)]
        invoice = (await client.get_document(order_id)).payload
    subjects = [str(message["Subject"]) for message in received]
    of_order = [subject for subject in subjects if "PDF" not in subject and "pour" not in subject]
    assert of_order == [
        f"Votre commande {order_id}",
        f"Votre commande {order_id} est en route",
        f"Votre commande {order_id} a été livrée",
    ]
    documents = {str(each["Subject"]): [*each.iter_attachments()] for each in received if [*each.iter_attachments()]}
    assert set(documents) == {f"Facture pour votre commande {order_id}", f"Avoir pour votre commande {order_id}"}
    [attached] = documents[f"Facture pour votre commande {order_id}"]
    assert attached.get_content() == invoice
    assert attached.get_content_type() == "application/pdf"
    [credit] = documents[f"Avoir pour votre commande {order_id}"]
    assert credit.get_content().startswith(b"%PDF-")
    assert len({str(message["Message-ID"]) for message in received}) == 5
    await asyncio.to_thread(mailing.assert_clean)


async def test_a_link_in_a_mail_leads_to_the_document(mailing: Running) -> None:
    """Without a key: whoever has the mail has the document."""
    assert (await mailing.gapless("email", "set", "demo", "--documents", "link")).code == 0
    [body] = bodies(1, seed=7, prefix="LINKED")
    body["buyer"]["email"] = "linked@example.com"
    async with mailing.client() as client:
        assert (await client.post_invoice(body, wait_s=30)).status == 200
        [(_, message)] = await mails_to(mailing, "linked@example.com", 1)
        document = (await client.get_document(body["order_id"])).payload
    text = message.get_body(("plain",))
    assert text is not None
    [url] = re.findall(r"http://\S+/d/\S+", text.get_content())
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        assert await answer.read() == document


async def test_a_link_in_a_mail_leads_to_the_orders_page(mailing: Running) -> None:
    """On a phone, in the dark: it loads nothing, fits, and can be read."""
    [made] = checkouts(1, seed=1, skus=["PAGE-1"], customers=1, tokens={"tok_ok": 1.0}, prefix="PAGE")
    body = json.loads(made)
    body["buyer"] |= {"email": "page@example.com", "name": "Zoë"}
    body["buyer"]["address"]["country"] = "FR"
    body["lines"][0]["description"] = "Un article dont le nom ne finit pas " + "x" * 80
    order_id = body["order_id"]
    async with mailing.client() as client:
        assert (await client.put_stock("PAGE-1", 3)).status == 200
        assert (await client.post_checkout(json.dumps(body).encode(), wait_s=30)).status == 201
        parcel = {"carrier": "Colissimo", "tracking_number": "6A123", "tracking_url": "https://colis.example/6A123"}
        assert (await client.ship(order_id, parcel=parcel)).status == 200
        # The last tells of the invoice, or of the shipment.
        received = [message for _, message in await mails_to(mailing, "page@example.com", 3)]
        document = (await client.get_document(order_id)).payload
    texts = [each.get_content() for message in received if (each := message.get_body(("plain",))) is not None]
    links = [url for text in texts for url in re.findall(r"Suivre votre commande: (http://\S+/t/\S+)", text)]
    assert len(links) == 2
    # Two that were made in the same second are the same.
    urls = set(links)
    async with chromium() as browser:
        page = await browser.new_page(viewport={"width": 360, "height": 740}, color_scheme="dark")
        faults: list[str] = []
        asked: list[str] = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
        page.on("request", lambda request: asked.append(request.url))
        for url in urls:
            await page.goto(url)
            assert await page.inner_text("h1") == f"Votre commande {order_id}"
            assert await page.inner_text(".state") == "Votre commande est en route."
            assert await page.inner_text("[aria-current=step]") != ""
            assert await page.evaluate("document.documentElement.scrollWidth") == 360
            assert (
                await page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(13, 17, 23)"
            )
            follow = page.get_by_role("link", name="Suivre le colis")
            assert await follow.get_attribute("href") == "https://colis.example/6A123"
        assert faults == []
        # Chromium asks for an icon by itself, if at all.
        assert {each for each in asked if not each.endswith("/favicon.ico")} == urls
        href = await page.get_by_role("link", name="Facture").get_attribute("href")
    async with aiohttp.ClientSession() as session, session.get(urljoin(page.url, href)) as answer:
        assert await answer.read() == document


async def test_a_sender_that_is_killed_loses_no_mail(mailing: Running) -> None:
    for number in range(20):
        sent = await mailing.gapless("email", "test", "demo", f"kill-{number}@example.com")
        assert sent.code == 0, sent.error
        if number == 10:
            mailing.kill("deliveries")
    received = await mails_to(mailing, "kill-", 20, addresses=20)
    assert {str(message["To"]) for _, message in received} == {f"kill-{number}@example.com" for number in range(20)}


async def test_the_inbox_can_be_read_in_a_browser(mailing: Running) -> None:
    sent = await mailing.gapless("email", "test", "demo", "browser@example.com")
    assert sent.code == 0, sent.error
    [(number, message)] = await mails_to(mailing, "browser@example.com", 1)
    async with chromium() as browser:
        page = await browser.new_page()
        faults: list[str] = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
        await page.goto(mailing.inbox)
        await page.click(f"a[href='/mails/{number}']")
        frame = page.frame_locator("iframe")
        assert await frame.locator("h1").inner_text() == str(message["Subject"])
        assert str(message["Message-ID"]) in await page.inner_text("body")
        assert faults == []
