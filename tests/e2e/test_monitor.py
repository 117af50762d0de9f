"""What the monitor shows, in a real browser, beside what Kafka and Postgres say when asked otherwise."""

import asyncio
import random
import re
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from playwright.async_api import Page, expect

from monitor.meter import STAGES, open_meter
from monitor.probe import Probe
from monitor.watch import MEASURE_EVERY_SECONDS
from producers.generate import body, checkouts
from runtime.kafka import end_offsets
from schemas import catalog
from schemas.catalog import INVOICE_REQUEST, Schema
from schemas.codec import encode
from schemas.placement import partition_of
from tests.conftest import PARTITIONS
from tests.e2e.browser import chromium
from tests.e2e.running import Running, wait_for

REQUESTS = catalog.INVOICE_REQUESTS.name
#: What the browser, the monitor and a busy machine may take.
SHOWN_MS_MAX = 60_000.0
KEY = "gpl_of-the-probe-" + "x" * 32
#: Why invoices wait whose worker was stopped: a while later it is in its group no more.
CAUSE = re.compile(r"^(invoices-1: does not answer within 1 s, since |no worker owns it)")


@pytest.fixture
async def page(running: Running) -> AsyncIterator[Page]:
    """The dashboard, opened by the link that `gapless status` prints. It must not log a single error."""
    errors: list[str] = []
    async with chromium() as browser:
        page = await browser.new_page()
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        await page.goto(running.dashboard)
        await expect(page.locator("tbody.stage")).to_have_count(len(STAGES), timeout=SHOWN_MS_MAX)
        yield page
    assert not errors


async def state(running: Running) -> Any:
    """The last measurement, as programs read it."""
    headers = {"Authorization": f"Bearer {running.monitor_token}"}
    async with aiohttp.request("GET", f"{running.monitor_url}/state", headers=headers) as answer:
        assert answer.status == 200
        return await answer.json()


async def stage(running: Running, name: str) -> dict[str, Any]:
    """One stage of it."""
    [found] = [each for each in (await state(running))["stages"] if each["name"] == name]
    return dict(found)


async def until_shown(running: Running, name: str, holds: Any, what: str) -> dict[str, Any]:
    """The stage, once it is as wanted."""
    deadline = time.monotonic() + SHOWN_MS_MAX / 1000
    while True:
        found = await stage(running, name)
        if holds(found):
            return found
        assert time.monotonic() < deadline, f"{what}: still {found}"
        await asyncio.sleep(MEASURE_EVERY_SECONDS / 4)


def of_partition(partition: int, count: int, prefix: str) -> list[str]:
    """Order ids whose key puts them into a partition."""
    ids = (f"{prefix}-{number}" for number in range(100_000))
    found = [each for each in ids if partition_of(each.encode(), PARTITIONS) == partition]
    return found[:count]


def cell(page: Page, name: str, field: str) -> Any:
    """A figure of a stage on the page."""
    return page.locator(f'tbody[data-stage="{name}"] [data-field="{field}"]')


async def turn_to(page: Page, name: str) -> None:
    """Another page of the dashboard, by its link."""
    await page.get_by_role("navigation").get_by_role("link", name=name).click()


def waiting(running: Running) -> tuple[int, float]:
    """Records of invoice requests beyond the agent's positions, counted one by one, and when the oldest was taken."""
    with running.ledger() as ledger:
        rows = ledger.execute(
            "SELECT partition, next_offset FROM positions WHERE agent = 'invoices' AND topic = %s", (REQUESTS,)
        ).fetchall()
    positions = {int(str(partition)): int(str(offset)) for partition, offset in rows}
    ends = end_offsets(running.settings.kafka_bootstrap, [(REQUESTS, number) for number in range(PARTITIONS)])
    behind = {partition: ends[REQUESTS, partition] for partition in positions}
    consumer = Consumer(
        {"bootstrap.servers": running.settings.kafka_bootstrap, "group.id": "counts", "enable.auto.commit": False}
    )
    consumer.assign([TopicPartition(REQUESTS, number, positions[number]) for number in behind])
    left = sum(behind[number] - positions[number] for number in behind)
    times: list[float] = []
    while len(times) < left:
        message = consumer.poll(60)
        assert message is not None, f"{left - len(times)} records did not come"
        assert message.error() is None
        times.append(message.timestamp()[1] / 1000)
    consumer.close()
    return len(times), min(times, default=0.0)


async def test_a_stopped_worker_stalls_its_stage_and_a_worker_that_goes_on_drains_it(
    running: Running, page: Page
) -> None:
    """One partition of four is hot. The page shows what a count of the records shows."""
    running.wait_until_drained()
    await expect(cell(page, "invoices", "state")).to_have_text("ok", timeout=SHOWN_MS_MAX)
    ids = of_partition(2, 40, "MON")
    with running.stopped("invoices-1"):
        async with running.client() as client:
            answers = await asyncio.gather(
                *(client.post_invoice(body(each, random.Random(1)), wait_s=0) for each in ids)
            )
        assert {answer.status for answer in answers} == {202}
        await until_shown(
            running, "invoices", lambda each: each["state"] == "stalled" and CAUSE.match(each["cause"]), "stalled"
        )
        await expect(cell(page, "invoices", "state")).to_have_text("stalled", timeout=SHOWN_MS_MAX)
        count, oldest_at = waiting(running)
        assert count == len(ids)
        await expect(cell(page, "invoices", "lag_records")).to_have_text(str(count), timeout=SHOWN_MS_MAX)
        measured = await state(running)
        [shown] = [each for each in measured["stages"] if each["name"] == "invoices"]
        assert (shown["state"], shown["lag_records"]) == ("stalled", count)
        assert shown["lag_seconds"] == pytest.approx(measured["at"] - oldest_at, abs=1.0)
        assert shown["seconds_to_drain"] is None
        await expect(cell(page, "invoices", "drain")).to_have_text("not at this rate")
        # The one hot partition is not averaged away, and the others are not blamed.
        by_number = {each["partition"]: each for each in shown["partitions"]}
        assert [number for number, each in by_number.items() if each["state"] != "ok"] == [2]
        assert by_number[2]["lag_records"] == count
        await expect(cell(page, "invoices", "cause")).to_have_text(CAUSE, timeout=SHOWN_MS_MAX)
        # Nobody sends any more: the age climbs all the same.
        later = await until_shown(
            running, "invoices", lambda each: each["lag_seconds"] > shown["lag_seconds"] + 1, "the age climbs"
        )
        assert later["lag_records"] == count
        # The others are well.
        await until_shown(running, "checkouts", lambda each: each["state"] == "ok", "well")
        await page.get_by_role("button", name="invoices").click()
        row = page.locator(f'[id="open-invoices"] tr[data-at="{REQUESTS}/2"]')
        await expect(row.locator("td").nth(2)).to_have_text("stalled")
        await expect(row.locator("td").nth(4)).to_have_text(str(count))
    await expect(cell(page, "invoices", "state")).to_have_text("ok", timeout=SHOWN_MS_MAX)
    await expect(cell(page, "invoices", "lag_records")).to_have_text("0", timeout=SHOWN_MS_MAX)
    await expect(cell(page, "invoices", "drain")).to_have_text("0 s", timeout=SHOWN_MS_MAX)
    numbering = await headline(running, "numbering_seconds_p99")
    assert numbering > 1, "those that waited are part of the sample"
    running.assert_clean()


async def test_a_backlog_drains_with_a_falling_time_to_drain(running: Running, page: Page) -> None:
    """As the page shows it. Each document's event comes behind the others: until all are made, as many come as go."""
    running.wait_until_drained()
    drain = cell(page, "documents", "drain")
    with running.stopped("documents-1"):
        requests = [body(each, random.Random(1)) for each in of_partition(1, 1_500, "MON-DRAIN")]
        async with running.client() as client:
            await asyncio.gather(*(client.post_invoice(each, wait_s=0) for each in requests))
        await until_shown(running, "documents", lambda each: each["lag_records"] >= 1_500, "all wait")
        # What came is more than ten seconds ago then: what goes is all that moves the figure.
        await until_shown(running, "documents", lambda each: each["rates"]["in_10s"] == 0, "none come")
        await expect(drain).to_have_text("not at this rate")
    shown: list[float] = []

    async def look_until(enough: int) -> None:
        async with asyncio.timeout(300):
            while (text := await drain.text_content()) != "0 s" and len(shown) < enough:
                # On a machine that others use as well, ten seconds may pass without a batch.
                if text and text[0].isdigit() and (seconds := in_seconds(text)) not in shown:
                    shown.append(seconds)
                await asyncio.sleep(0.1)

    with running.slowed("documents-1"):
        # A worker that stood still for so long joins its group anew first.
        await expect(drain).to_have_text(re.compile(r"^[1-9]"), timeout=120_000)
        with running.ledger() as ledger:
            [(made,)] = ledger.execute(
                "SELECT count(*) FROM documents JOIN invoices USING (series_id, number)"
                " WHERE order_id LIKE 'MON-DRAIN-%'"
            ).fetchall()
        assert int(str(made)) < 1_500, "it is told while documents are to be made"
        await look_until(10)
    await look_until(1_500)
    half = len(shown) // 2
    assert min(shown[half:]) < min(shown[:half]), shown
    await expect(cell(page, "documents", "state")).to_have_text("ok", timeout=SHOWN_MS_MAX)
    running.wait_until_drained()


def in_seconds(shown: str) -> float:
    """Of a duration as the page shows it, such as `1 min 5 s`."""
    units = {"s": 1, "min": 60, "h": 3600}
    parts = shown.split()
    return sum(float(number) * units[unit] for number, unit in zip(parts[::2], parts[1::2], strict=True))


async def test_the_documents_to_be_made_are_those_that_the_ledger_lacks(running: Running) -> None:
    """Of each partition, as a count says; refusals, and the events of documents that are made, are not among them."""
    running.wait_until_drained()
    meter = open_meter(running.settings)

    def measured() -> dict[int, int]:
        meter.measure(())
        return {partition: documents.left for partition, documents in meter._documents.items()}

    def counted() -> dict[int, int]:
        with running.ledger() as ledger:
            rows = ledger.execute(
                "SELECT source_partition, count(*) FROM invoices LEFT JOIN documents d USING (series_id, number)"
                " WHERE d.key IS NULL GROUP BY source_partition"
            ).fetchall()
        return dict.fromkeys(range(PARTITIONS), 0) | {int(str(each)): int(str(count)) for each, count in rows}

    def refused() -> int:
        with running.ledger() as ledger:
            [(count,)] = ledger.execute(
                "SELECT count(*) FROM refused_requests WHERE order_id LIKE 'MON-LEFT-%' AND reason = 'conflict'"
            ).fetchall()
        return int(str(count))

    try:
        assert set(measured().values()) == {0}
        with running.stopped("documents-1"):
            ids = [f"MON-LEFT-{number}" for number in range(600)]
            async with running.client() as client:
                await asyncio.gather(*(client.post_invoice(body(each, random.Random(1)), wait_s=0) for each in ids))
            measured()
            producer = Producer({"bootstrap.servers": running.settings.kafka_bootstrap})
            for each in ids[:200]:
                producer.produce(REQUESTS, request_of(each), each.encode(), partition_of(each.encode(), PARTITIONS))
            assert producer.flush(60) == 0
            await until(lambda: refused() == 200)
            assert sum(counted().values()) == 600
            assert measured() == counted()
        with running.slowed("documents-1"):
            await until(lambda: 0 < sum(counted().values()) < 600)
        with running.stopped("documents-1"):
            await until(lambda: measured() == counted())
            assert sum(counted().values()) > 0
    finally:
        meter.close()
    running.wait_until_drained()


async def test_the_terminal_shows_the_same_stages(running: Running) -> None:
    """Without a terminal it is one table."""
    shown = await running.gapless("top")
    assert shown.code == 0, shown.error
    names = [line.split()[0] for line in shown.output.splitlines() if line.strip()]
    assert [name for name in names if name in STAGES] == list(STAGES)
    assert "not ready" not in shown.output


async def headline(running: Running, name: str) -> float:
    """A figure of the headline."""
    return float((await state(running))["headline"][name])


async def test_what_nobody_reads_any_more_does_not_count_as_waiting(running: Running) -> None:
    """At rest each stage is at its end, and says 0: that of the relay too."""
    running.wait_until_drained()
    for name in ("checkouts", "payments", "orders", "stock", "invoices", "documents", "relay"):
        await until_shown(
            running,
            name,
            lambda each: (
                (
                    each["lag_records"],
                    each["state"],
                    each["lag_seconds"],
                    each["seconds_to_drain"],
                )
                == (0, "ok", 0.0, 0.0)
            ),
            "drained",
        )


async def test_each_partition_names_its_owner(running: Running) -> None:
    """A worker, or the relay that holds its lock."""
    await until_shown(running, "checkouts", lambda each: owners(each) == {"checkouts-1"}, "one worker owns all")
    await until_shown(running, "relay", lambda each: owners(each) == {"relay"}, "one relay publishes all")


def owners(shown: Any) -> set[str | None]:
    """Of a stage's partitions."""
    return {each["owner"] for each in shown["partitions"]}


async def test_a_phone_and_a_dark_room_show_the_same(running: Running) -> None:
    """Nothing is cut off; the first screen has the stages' states."""
    async with chromium() as browser:
        context = await browser.new_context(viewport={"width": 375, "height": 800}, color_scheme="dark")
        page = await context.new_page()
        await page.goto(running.dashboard)
        await expect(page.locator("tbody.stage")).to_have_count(len(STAGES), timeout=SHOWN_MS_MAX)
        for name in ("Stages", "Orders", "Payments", "Stock", "Dead letters", "Series"):
            await turn_to(page, name)
            await expect(page.locator("nav [aria-current]")).to_contain_text(name)
            assert await page.evaluate("document.documentElement.scrollWidth") <= 375
        ground = await page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
        assert ground == "rgb(13, 17, 23)"


async def test_an_order_is_found_by_its_id_its_number_and_its_buyer(running: Running, page: Page) -> None:
    """With each step, and what it waits for: here for nothing any more."""
    request = body("MON-FIND", random.Random(5))
    request["buyer"]["email"] = "mon-find@example.com"
    async with running.client() as client:
        number = (await client.post_invoice(request, wait_s=30)).json()["invoice_number"]
    running.wait_until_drained()
    await turn_to(page, "Orders")
    for wanted in ("MON-FIND", number, "mon-find@example.com"):
        await page.locator("#wanted").fill(wanted)
        await page.get_by_role("button", name="Find").click()
        found = page.locator("#found article")
        await expect(found.locator("h3")).to_have_text(f"MON-FIND of demo: stored, {number}", timeout=SHOWN_MS_MAX)
        await expect(found).to_contain_text(REQUESTS)
        await expect(found).to_contain_text("nothing is outstanding")
        # Who has taken its steps.
        await expect(found).to_contain_text("invoices-1")
        await expect(found).to_contain_text("documents-1")
    await page.locator("#wanted").fill("<b>nothing</b>")
    await page.locator("#wanted").press("Enter")
    await expect(page.locator("#found")).to_contain_text("There is no order, no invoice and no buyer <b>nothing</b>.")


async def test_the_probe_takes_the_way_that_buyers_take(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """To a number and a document of its own seller; while its stage stands still, its time grows."""
    monkeypatch.setenv("GAPLESS_PROBE_API_KEY", KEY)
    for _ in range(2):
        made = await running.gapless("sellers", "ensure-probe")
        assert (made.code, made.output) == (0, "the probe's seller is probe\n"), made.error
    probe = Probe(running.url, KEY, every_seconds=0.5)
    with running.ledger() as ledger:
        [(before,)] = ledger.execute("SELECT count(*) FROM invoices WHERE seller_id <> 'probe'").fetchall()
        probe.start()
        try:
            await until(lambda: probe.figures().document_seconds is not None)
            first = probe.figures()
            assert first.number_seconds is not None
            assert first.document_seconds is not None
            assert first.number_seconds < first.document_seconds
            late = first.document_seconds + 1
            with running.stopped("documents-1"):
                await until(lambda: (probe.figures().document_seconds or 0) > late)
            await until(lambda: not probe.figures().says)
        finally:
            await probe.stop()
        running.wait_until_drained()
        numbers = ledger.execute("SELECT invoice_number FROM invoices WHERE seller_id = 'probe'").fetchall()
        assert numbers
        assert all(str(number).startswith("TEST-") for (number,) in numbers)
        [(after,)] = ledger.execute("SELECT count(*) FROM invoices WHERE seller_id <> 'probe'").fetchall()
        assert after == before
    running.assert_clean()


async def test_the_last_number_of_each_series_is_shown(running: Running, page: Page) -> None:
    """As the ledger has it."""
    async with running.client() as client:
        await client.post_invoice(body("MON-SERIES", random.Random(6)), wait_s=30)
    running.wait_until_drained()
    with running.ledger() as ledger:
        rows = ledger.execute(
            "SELECT series_id, max(number) FROM invoices WHERE seller_id = 'demo' GROUP BY series_id ORDER BY series_id"
        ).fetchall()
    await turn_to(page, "Series")
    await page.locator("#seller").fill("demo")
    await page.get_by_role("button", name="Show its series").click()
    shown = page.locator("#series tbody tr")
    await expect(shown).to_have_count(len(rows), timeout=SHOWN_MS_MAX)
    for index, (series_id, number) in enumerate(rows):
        cells = shown.nth(index).locator("td")
        assert await cells.nth(0).text_content() == series_id
        assert await cells.nth(2).text_content() == f"{number:,}"
    await page.locator("#seller").fill("nobody")
    await page.locator("#seller").press("Enter")
    await expect(page.locator("#series")).to_have_text("nobody has given no number.")


async def until(holds: Callable[[], bool]) -> None:
    """Wait for a condition on this loop."""
    async with asyncio.timeout(120):
        while not holds():  # noqa: ASYNC110 - any condition.
            await asyncio.sleep(0.05)


async def test_a_dead_letter_is_shown_until_somebody_has_dealt_with_it(running: Running, page: Page) -> None:
    """With its topic, its reason and its record, and with the commands that end it."""
    await turn_to(page, "Dead letters")
    partition = (partition_of(b"MON-DEAD", PARTITIONS) + 1) % PARTITIONS
    producer = Producer({"bootstrap.servers": running.settings.kafka_bootstrap})
    producer.produce(REQUESTS, request_of("MON-DEAD"), b"MON-DEAD", partition)
    assert producer.flush(60) == 0
    # Other tests on this stack leave letters of the same topic, for other reasons.
    row = page.locator("#letters tbody tr", has_text="MON-DEAD").first
    await expect(row).to_contain_text(f"{REQUESTS}/{partition} offset ", timeout=SHOWN_MS_MAX)
    letter_id = await row.get_by_role("button").text_content()
    await row.get_by_role("button").click()
    opened = page.locator("#letters tr.opened")
    await expect(opened).to_contain_text('"order_id": "MON-DEAD"')
    await expect(opened).to_contain_text(f'gapless dead-letters redrive {letter_id} --why "…"')
    # Another one joins the list, and what is being read stays open.
    producer.produce(
        REQUESTS, request_of("MON-NEXT"), b"MON-NEXT", (partition_of(b"MON-NEXT", PARTITIONS) + 1) % PARTITIONS
    )
    assert producer.flush(60) == 0
    await expect(page.locator("#letters tbody tr", has_text="MON-NEXT").first).to_be_visible(timeout=SHOWN_MS_MAX)
    await expect(opened).to_contain_text('"order_id": "MON-DEAD"')
    await row.get_by_role("button").click()
    await expect(opened).to_have_count(0)
    await page.locator("#find-letters [name=order]").fill("nobody's")
    await page.get_by_role("button", name="Show", exact=True).click()
    await expect(page.locator("#letters")).to_have_text("0 open")
    await page.locator("#find-letters [name=order]").fill("MON-DEAD")
    await page.get_by_role("button", name="Show", exact=True).click()
    await expect(page.locator("#letters")).to_contain_text("gapless dead-letters redrive --order 'MON-DEAD' --dry-run")
    await row.get_by_role("button").click()
    await expect(opened).to_contain_text('"order_id": "MON-DEAD"')
    sent = await running.gapless("dead-letters", "redrive", str(letter_id), "--why", "a test")
    assert sent.code == 0, sent.error
    # The list follows what is open.
    await expect(page.locator("#letters")).to_have_text("0 open", timeout=SHOWN_MS_MAX)
    await page.locator("#find-letters [name=state]").select_option("redriven")
    await page.get_by_role("button", name="Show", exact=True).click()
    # Read anew: what stood open says nothing of the redrive.
    await row.get_by_role("button").click()
    await expect(opened).to_contain_text("a test")
    running.assert_clean()


def request_of(order_id: str) -> bytes:
    """A request for an invoice as the gateway would write it."""
    asked = body(order_id, random.Random(8))
    request: Any = {"received_at": 0, "seller_id": "demo", **asked, "buyer": {"vat_id": None, **asked["buyer"]}}
    schema: Schema[Any] = INVOICE_REQUEST
    return encode(schema, request)


async def test_payments_are_shown_by_what_became_of_them_with_each_breaker(running: Running, page: Page) -> None:
    """One that was declined, with its reason."""
    async with running.client() as client:
        assert (await client.put_stock("MON-PAID", 10)).status == 200
        [declined] = checkouts(1, seed=9, skus=["MON-PAID"], customers=1, tokens={"tok_decline": 1}, prefix="MON-PAY")
        assert (await client.post_checkout(declined, wait_s=30)).status == 402
    await turn_to(page, "Payments")
    shown = page.locator("#payments")
    await expect(shown.locator("tr", has_text="payments-1").locator(".state.ok")).to_have_text("closed")
    with running.ledger() as ledger:
        [(reason,)] = ledger.execute(
            "SELECT reason FROM payment_attempts WHERE order_id LIKE 'MON-PAY-%' AND state = 'declined'"
        ).fetchall()
    # Other tests on this stack may have had theirs declined for other reasons.
    of_reason = shown.locator("tr", has_text="declined").filter(has_text=str(reason))
    await expect(of_reason.first).to_be_visible(timeout=SHOWN_MS_MAX)


async def test_hot_skus_are_shown_as_postgres_and_redis_have_them(running: Running, page: Page) -> None:
    """What is free in Postgres is what Redis admits."""
    async with running.client() as client:
        assert (await client.put_stock("MON-HOT", 40)).status == 200
        hot = list(checkouts(30, seed=9, skus=["MON-HOT"], customers=30, tokens={"tok_ok": 1}, prefix="MON-HOT"))
        await asyncio.gather(*(client.post_checkout(each, wait_s=30) for each in hot))
    running.wait_until_drained()
    with running.ledger() as ledger:
        [(free,)] = ledger.execute("SELECT on_hand - reserved FROM stock WHERE sku = 'MON-HOT'").fetchall()
    await turn_to(page, "Stock")
    row = page.locator("#stock tr", has_text="MON-HOT")
    for column in (6, 7):
        await expect(row.locator("td").nth(column)).to_have_text(str(free), timeout=SHOWN_MS_MAX)
    await expect(row.locator("td.cause")).to_have_text("")
    await expect(page.locator("#stock tr", has_text="stock-1")).to_be_visible()


async def test_the_monitor_shows_what_processes_say(running: Running, page: Page) -> None:
    """Each of ours has its place, and says that it is ready."""
    for name in ("gateway", "relay", "checkouts-1", "invoices-1", "documents-1"):
        await expect(page.locator(f'[data-process="{name}"] .state.ok')).to_be_visible(timeout=SHOWN_MS_MAX)


def test_what_is_shown_is_new(running: Running) -> None:
    """Each second there is another measurement."""
    seen = set()

    def look() -> bool:
        seen.add(asyncio.run(state(running))["at"])
        return len(seen) >= 4

    wait_for(look, "four measurements", 60)
