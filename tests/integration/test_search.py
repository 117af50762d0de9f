"""Search workers on real topics and a real ledger: they follow, go on after a crash, and rebuild what is damaged."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from confluent_kafka import Producer

from domain.records import ProductChanged, ReviewChanged, SynonymsChanged
from gapless.search import search as search_command
from gateway.products.search_workers import FAILURES
from runtime.kafka import TopicError
from schemas import catalog
from schemas.codec import encode
from search.app import QUERIES
from search.index import IndexFolder
from search.rebuild import why_unusable
from tests.conftest import Services
from tests.integration.gateways import Client, Topics, link_to, running, until
from tests.integration.search_world import Searcher, Town, mug, searching

Query = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
async def town(services: Services, ledger: str, empty_outputs: None) -> AsyncIterator[Town]:
    made = Town(services, ledger)
    yield made
    await made.close()


def named(name: str, sku: str, **changes: Any) -> Any:
    return mug(sku, texts=[{"language": "en", "name": name}], **changes)


async def publish(town: Town, *searchers: Searcher) -> None:
    """Publish, and wait until they have it."""
    town.publish()
    for searcher in searchers:
        await searcher.caught_up()


async def test_a_worker_follows_products_and_stock_from_its_index_own_position(town: Town, tmp_path: Path) -> None:
    async with searching(town, tmp_path) as searcher:
        assert await searcher.found("kettle") == []
        await town.put("k-1", named("Red kettle", "K-1"))
        await publish(town, searcher)
        [hit] = (await searcher.ask("kettle"))["hits"]
        assert (hit["product_id"], hit["price"], hit["in_stock"]) == ("k-1", "9.90", [])
        await town.set_stock("K-1", 3)
        await publish(town, searcher)
        [hit] = (await searcher.ask("kettle", in_stock=True))["hits"]
        assert hit["in_stock"] == ["K-1"]
        await town.put("k-1", named("Red kettle", "K-1", variants=[{"sku": "K-1", "unit_price": "7.50"}]))
        await publish(town, searcher)
        [hit] = (await searcher.ask("kettle"))["hits"]
        assert (hit["price"], hit["version"], hit["in_stock"]) == ("7.50", 2, ["K-1"])
        await town.put("k-1", None)
        await publish(town, searcher)
        assert await searcher.found("kettle") == []


async def test_stock_that_is_there_before_its_product_is_known_of_it(town: Town, tmp_path: Path) -> None:
    async with searching(town, tmp_path) as searcher:
        await town.set_stock("T-1", 2)
        await publish(town, searcher)
        await town.put("t-1", named("Tea towel", "T-1"))
        await publish(town, searcher)
        assert [hit["in_stock"] for hit in (await searcher.ask("towel"))["hits"]] == [["T-1"]]


async def test_a_rating_filters_and_is_shown(town: Town, tmp_path: Path) -> None:
    async with searching(town, tmp_path) as searcher:
        await town.put("r-1", named("Rated jar", "R-1"))
        town.publish()
        produce(town, catalog.REVIEW_EVENTS.name, encode(catalog.REVIEW_CHANGED, review("R-1", four=1, five=1)))
        await searcher.caught_up()
        [hit] = (await searcher.ask("jar", rating_min=450))["hits"]
        assert hit["rating"] == {"count": 2, "average": "4.50"}
        assert await searcher.found("jar", rating_min=451) == []


async def test_another_sellers_products_are_never_found(town: Town, tmp_path: Path) -> None:
    """Whatever is asked: by word, by SKU, by filters, or for everything."""
    async with searching(town, tmp_path) as searcher:
        await town.put("same", named("Blue lantern", "L-1", brand="Ours"))
        await town.put("same", named("Blue lantern", "L-1", brand="Theirs"), seller_id="other")
        await publish(town, searcher)
        for question in (
            {"text": "lantern"},
            {"text": "L-1"},
            {"text": "lantrn"},
            {"text": ""},
            {"text": "lantern xyzzy"},
        ):
            for seller_id, brand in (("demo", "Ours"), ("other", "Theirs")):
                answer = await searcher.ask(seller_id=seller_id, **question)
                assert [hit["brand"] for hit in answer["hits"]] == [brand], question
                assert answer["facets"]["brands"] == [{"value": brand, "count": 1}], question
        assert await searcher.found("lantern", seller_id="demo", brand="Theirs") == []
        assert (await searcher.ask("lantern", seller_id="nobody"))["total"] == 0


async def test_synonyms_are_followed_and_are_their_sellers_own(town: Town, tmp_path: Path) -> None:
    """At once, also where an answer without them is remembered; no product is indexed again."""
    async with searching(town, tmp_path) as searcher:
        await town.put("s-1", named("Velvet sofa", "S-1"))
        await town.put("s-1", named("Velvet sofa", "S-1"), seller_id="other")
        await publish(town, searcher)
        assert await searcher.found("couch") == []
        await town.put_synonyms(("couch", "sofa"))
        await publish(town, searcher)
        assert await searcher.found("couches") == ["s-1"]
        assert await searcher.found("couch", seller_id="other") == []
        # An older event takes nothing back, by itself and among all others.
        await town.put_synonyms(("settee", "sofa"))
        await publish(town, searcher)
        older = synonyms(1, "couch", "sofa")
        produce(town, catalog.CATALOGUE_EVENTS.name, encode(catalog.SYNONYMS_CHANGED, older))
        await searcher.caught_up()
        assert (await searcher.found("settee"), await searcher.found("couch")) == (["s-1"], [])
        town.published.clear()
        await publish(town, searcher)
        assert (await searcher.found("settee"), await searcher.found("couch")) == (["s-1"], [])
        await town.put_synonyms()
        await publish(town, searcher)
        assert await searcher.found("settee") == []


async def test_synonyms_that_break_a_rule_are_stepped_over(
    town: Town, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As another release may have written them."""
    async with searching(town, tmp_path) as searcher:
        produce(town, catalog.CATALOGUE_EVENTS.name, encode(catalog.SYNONYMS_CHANGED, synonyms(1, "?")))
        await searcher.caught_up()
    assert "is not indexed" in caplog.text


async def test_an_older_event_and_a_repeat_change_nothing(town: Town, tmp_path: Path) -> None:
    await town.put("v-1", named("First vase", "V-1"))
    await town.put("v-1", named("Second vase", "V-1"))
    async with searching(town, tmp_path) as searcher:
        # The index was built of the rows: what comes now is older, or the same.
        town.publish()
        await searcher.caught_up()
        town.published.clear()
        await publish(town, searcher)
        assert [hit["name"] for hit in (await searcher.ask("vase"))["hits"]] == ["Second vase"]
        await town.put("v-1", None)
        await publish(town, searcher)
        town.published.clear()
        await publish(town, searcher)
        assert await searcher.found("vase") == []


async def test_a_record_that_says_nothing_is_stepped_over_and_logged(
    town: Town, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with searching(town, tmp_path) as searcher:
        produce(town, catalog.CATALOGUE_EVENTS.name, b"\x00nonsense")
        await town.put("n-1", named("Napkin", "N-1"))
        await publish(town, searcher)
        assert await searcher.found("napkin") == ["n-1"]
    assert "is not indexed" in caplog.text


async def test_a_killed_worker_goes_on_exactly_where_its_index_stands(town: Town, tmp_path: Path) -> None:
    """Killed at any moment, with kill -9; the next one has each change, and rebuilds nothing."""
    for number in range(3):
        await town.put(f"c-{number}", named(f"Candle {number}", f"C-{number}"))
    town.publish()
    process = await started(town, tmp_path)
    for number in range(3, 30):
        await town.put(f"c-{number}", named(f"Candle {number}", f"C-{number}"))
        town.publish()
        if number % 9 == 5:
            process.send_signal(signal.SIGKILL)
            await process.wait()
            process = await started(town, tmp_path)
    process.send_signal(signal.SIGTERM)
    assert await process.wait() == 0
    assert not (tmp_path / "set-aside").exists()
    log = (tmp_path / "log").read_text()
    assert log.count("was built of") == 1
    async with searching(town, tmp_path) as searcher:
        assert sorted(await searcher.found("candle", limit=100)) == sorted(f"c-{number}" for number in range(30))


@pytest.mark.parametrize("damage", ["missing", "byte", "meta", "version"])
async def test_an_index_that_cannot_be_used_is_set_aside_and_rebuilt(
    town: Town, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    await town.put("p-1", named("Pitcher", "P-1"))
    await town.set_stock("P-1", 1)
    town.publish()
    async with searching(town, tmp_path) as searcher:
        assert await searcher.found("pitcher", in_stock=True) == ["p-1"]
    index = tmp_path / "index"
    if damage == "missing":
        for path in index.iterdir():
            path.unlink()
    elif damage == "byte":
        path = next(index.glob("*.store"))
        content = bytearray(path.read_bytes())
        content[len(content) // 3] ^= 1
        path.write_bytes(content)
    elif damage == "meta":
        (index / "meta.json").write_text("{}")
    else:
        monkeypatch.setattr("search.rebuild.INDEX_VERSION", 99)
        monkeypatch.setattr("search.index.INDEX_VERSION", 99)
    with caplog.at_level(logging.INFO):
        async with searching(town, tmp_path) as searcher:
            assert await searcher.found("pitcher", in_stock=True) == ["p-1"]
    assert "the search index is set aside" in caplog.text
    assert (tmp_path / "set-aside").is_dir()


async def test_an_index_of_other_topics_is_rebuilt(town: Town, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a restore: its positions say nothing about these topics."""
    await town.put("o-1", named("Opener", "O-1"))
    town.publish()
    async with searching(town, tmp_path):
        pass
    with monkeypatch.context() as patched:
        patched.setattr("search.rebuild.start_offsets", lambda _, places: dict.fromkeys(places, 10**9))
        why = why_unusable(IndexFolder(tmp_path).open().positions(), town.services.kafka_bootstrap)
        assert why is not None
        assert "not followed for too long" in why


async def test_topics_that_a_broker_does_not_know_yet_are_waited_for(
    town: Town, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when it has just started: the index is none the worse for it."""
    async with searching(town, tmp_path):
        pass
    positions = IndexFolder(tmp_path).open().positions()
    monkeypatch.setattr("search.rebuild.describe_topics", lambda *_: {})
    with pytest.raises(TopicError, match="or not yet"):
        why_unusable(positions, town.services.kafka_bootstrap)


async def test_a_rebuilt_index_and_one_that_followed_answer_alike(town: Town, tmp_path: Path) -> None:
    """The one has seen every event, the other the rows alone; and two workers agree on each question."""
    async with searching(town, tmp_path / "followed") as followed:
        for number in range(40):
            name = f"{('Oak', 'Ash', 'Elm', 'Fir')[number % 4]} {('chair', 'table')[number % 2]} {number}"
            await town.put(f"w-{number}", named(name, f"W-{number}", brand=f"Maker {number % 3}"))
            if number % 3:
                await town.set_stock(f"W-{number}", number % 5)
            if number % 7 == 0:
                await publish(town, followed)
        for number in range(0, 40, 4):
            await town.put(f"w-{number}", None if number % 8 else named("Oak stool", f"W-{number}"))
        await town.put_synonyms(("fir", "spruce"))
        await town.put_synonyms(("fir", "elm"))
        await publish(town, followed)
        async with searching(town, tmp_path / "rebuilt") as rebuilt:
            for question in ({"text": "oak"}, {"text": "chair"}, {"text": "tabel 7"}, {"text": ""}, {"text": "W-3"},
                             {"text": "ash", "in_stock": True}, {"text": "", "sort": "price"},
                             {"text": "elm", "brand": "Maker 1"}, {"text": "elm"}):  # fmt: skip
                answers = [await each.ask(limit=50, **question) for each in (followed, rebuilt)]
                assert answers[0] == answers[1], question
            assert (await rebuilt.ask("oak", limit=50))["total"] > 0
            assert {hit["name"].split()[0] for hit in answers[0]["hits"]} == {"Elm", "Fir"}


async def test_a_command_rebuilds_the_index_for_the_next_start(
    town: Town, tmp_path: Path, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the worker answers."""
    for name, value in environment(town, tmp_path).items():
        if name.startswith("GAPLESS_"):
            monkeypatch.setenv(name, value)
    await town.put("q-1", named("Quilt", "Q-1"))
    async with searching(town, tmp_path) as searcher:
        # Changed behind the topics' back: only rows say so.
        query("UPDATE products SET is_deleted = true, version = 9, event = %s", deleted("q-1", 9))
        done = await asyncio.to_thread(CliRunner().invoke, search_command, ["rebuild"], catch_exceptions=False)
        assert (done.exit_code, "built of" in done.output) == (0, True)
        assert await searcher.found("quilt") == ["q-1"]
    async with searching(town, tmp_path) as searcher:
        assert await searcher.found("quilt") == []


async def test_answers_are_remembered_until_the_sellers_products_change(town: Town, tmp_path: Path) -> None:
    await town.put("s-1", named("Spoon", "S-1"))
    async with searching(town, tmp_path) as searcher:

        def cached() -> float:
            return QUERIES.labels("cached")._value.get()  # type: ignore[no-any-return]

        before = cached()
        first = await searcher.ask("spoon")
        assert (await searcher.ask("spoon"), cached() - before) == (first, 1)
        assert (await searcher.ask("spoon", seller_id="other"))["total"] == 0
        await town.put("s-2", named("Spoon rest", "S-2"))
        await publish(town, searcher)
        assert sorted(await searcher.found("spoon")) == ["s-1", "s-2"]


async def test_a_gateway_asks_another_worker_where_one_does_not_answer(
    town: Town, topics: Topics, tmp_path: Path
) -> None:
    """And says so clearly where none does."""
    await town.put("g-1", named("Grill <b>", "G-1"))
    async with searching(town, tmp_path) as searcher:
        link = await link_to(searcher.worker.url)
        urls = f"http://127.0.0.1:1,http://127.0.0.1:{link.port}"
        async with running(town.services, town.ledger, topics, search_urls=urls) as client:
            buyer: Client = client.as_(None)
            for _ in range(4):
                found = await buyer.get("/v1/catalogue/demo/search?q=grill")
                assert (found.status, found.json["total"]) == (200, 1)
            assert found.json["hits"][0]["name_html"] == "<mark>Grill</mark> &lt;b&gt;"
            assert found.headers["Surrogate-Key"] == "demo"
            assert (await buyer.get("/v1/catalogue/other/search?q=grill")).json["total"] == 0
            assert (await buyer.get("/v1/catalogue/%7Bdemo/search?q=grill")).status == 404
            for field, value in (("limit", "0"), ("price_min", "x"), ("price_max", "-1"), ("rating_min", "6"),
                                 ("sort", "best"), ("in_stock", "yes"), ("lang", "!"), ("category", "A"),
                                 ("q", "x" * 201), ("cursor", "zz"), ("currency", "eur")):  # fmt: skip
                wrong = await buyer.get(f"/v1/catalogue/demo/search?{field}={value}")
                assert (wrong.status, wrong.json["field"]) == (422, field)
            await link.cut()
            none = await buyer.get("/v1/catalogue/demo/search?q=grill")
            assert (none.status, none.json["type"]) == (503, "/problems/unavailable")
            assert int(none.headers["Retry-After"]) > 0
            await link.open()
            await until(
                lambda: buyer.get("/v1/catalogue/demo/search?q=grill"), lambda answer: bool(answer.status == 200)
            )
            await link.cut()


async def test_prices_are_compared_in_one_currency_that_is_named_where_there_are_several(
    town: Town, topics: Topics, tmp_path: Path
) -> None:
    """A refusal is no failure of the worker: no other one is asked, and the next question is answered."""
    await town.put("e-1", named("Easel", "E-1"))
    async with (
        searching(town, tmp_path) as searcher,
        running(town.services, town.ledger, topics, search_urls=searcher.worker.url) as client,
    ):
        buyer = client.as_(None)
        path = "/v1/catalogue/demo/search?q=easel&price_max=20"
        assert (await buyer.get(path)).json["total"] == 1
        failures = FAILURES._value.get()
        await town.put("e-2", named("Easel", "E-2", currency="JPY", variants=[{"sku": "E-2", "unit_price": "12"}]))
        await publish(town, searcher)
        refused = await buyer.get(path)
        assert (refused.status, refused.json["field"]) == (422, "currency")
        assert "EUR, JPY" in refused.json["detail"]
        for currency, product_id in (("EUR", "e-1"), ("JPY", "e-2")):
            answer = (await buyer.get(f"{path}&currency={currency}&sort=price")).json
            assert [hit["product_id"] for hit in answer["hits"]] == [product_id]
        assert (await buyer.get("/v1/catalogue/demo/search?q=easel")).json["total"] == 2
        assert FAILURES._value.get() == failures


async def test_pages_are_read_by_their_cursors(town: Town, topics: Topics, tmp_path: Path) -> None:
    for number in range(7):
        await town.put(f"h-{number}", named(f"Hook {number}", f"H-{number}"))
    async with (
        searching(town, tmp_path) as searcher,
        running(town.services, town.ledger, topics, search_urls=searcher.worker.url) as client,
    ):
        seen: list[str] = []
        path = "/v1/catalogue/demo/search?q=hook&limit=3"
        cursor = ""
        while True:
            page = (await client.as_(None).get(path + cursor)).json
            seen += [hit["product_id"] for hit in page["hits"]]
            if page["next"] is None:
                break
            cursor = f"&cursor={page['next']}"
        assert sorted(seen) == [f"h-{number}" for number in range(7)]


def environment(town: Town, folder: Path) -> dict[str, str]:
    """Of a worker's process."""
    return {
        **os.environ,
        "GAPLESS_KAFKA_BOOTSTRAP": town.services.kafka_bootstrap,
        "GAPLESS_POSTGRES_URL": town.ledger,
        "GAPLESS_WORKER_DATA": str(folder),
        "GAPLESS_SEARCH_PORT": "0",
    }


async def started(town: Town, folder: Path) -> asyncio.subprocess.Process:
    """A worker as a process, once it listens; its log is in the folder."""
    with (folder / "log").open("ab") as log:
        before = log.tell()
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gapless", "search", env=environment(town, folder), stdout=log, stderr=log
        )

    async def said() -> str:
        assert process.returncode is None, (folder / "log").read_text()
        return (folder / "log").read_bytes()[before:].decode()

    await until(said, lambda text: "serving at http" in text)
    return process


def produce(town: Town, topic: str, value: bytes) -> None:
    producer = Producer({"bootstrap.servers": town.services.kafka_bootstrap, "acks": "all"})
    producer.produce(topic, value, b"key", 0)
    assert producer.flush(60) == 0


def deleted(product_id: str, version: int) -> bytes:
    event: ProductChanged = {
        "seller_id": "demo",
        "product_id": product_id,
        "version": version,
        "product": None,
        "occurred_at": 1,
    }
    return encode(catalog.PRODUCT_CHANGED, event)


def synonyms(version: int, *words: str) -> SynonymsChanged:
    return {
        "seller_id": "demo",
        "version": version,
        "groups": [{"words": [{"text": each} for each in words], "also_finds": []}],
        "occurred_at": 1,
    }


def review(sku: str, *, four: int, five: int) -> ReviewChanged:
    return {
        "seller_id": "demo",
        "sku": sku,
        "order_id": "A-1",
        "line": 0,
        "version": 1,
        "state": "published",
        "stars": 5,
        "title": "",
        "body": "",
        "author": "",
        "rating": {"version": 1, "one": 0, "two": 0, "three": 0, "four": four, "five": five},
        "occurred_at": 1,
        "event_id": None,
        "product_id": None,
    }
