"""The catalogue as buyers read it: through the cache, and from it while Postgres is unavailable."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
import redis.asyncio

from admission.mirror import Mirror
from admission.product_cache import CopyState, ProductCache
from domain.reservation import Level
from schemas import catalog
from sinks.postgres.positions import read_positions
from sinks.postgres.products_reader import ProductsReader
from sinks.postgres.session import Session
from streams.engine.batch import Batch
from streams.engine.work import Worker
from streams.stock import StockWork
from tests.conftest import Services
from tests.integration.gateways import Client, Link, Topics, link_to, running, through, until
from tests.integration.test_invoices_work import Sent
from tests.integration.test_products import product, put
from tests.integration.test_reviews import deliver, events, moderate, write
from tests.records import written

NOW = datetime(2026, 11, 30, tzinfo=UTC)
Query = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
def name() -> str:
    """A product that no other test has: Redis outlives a test."""
    return f"p-{uuid4().hex[:12]}"


@pytest.fixture(autouse=True)
async def stock_is_of_postgres(services: Services) -> None:
    """Redis has no complete copy of it, whatever tests before have copied."""
    async with redis.asyncio.Redis.from_url(services.redis_url) as server:
        await server.delete("stock:{demo}:complete", "stock:{other}:complete")


@pytest.fixture
async def cache(services: Services) -> AsyncIterator[ProductCache]:
    made = ProductCache(services.redis_url, call_seconds_max=10)
    yield made
    await made.close()


@pytest.fixture
async def postgres(ledger: str) -> AsyncIterator[Link]:
    """What stands between the gateway and Postgres."""
    link = await link_to(ledger)
    yield link
    await link.cut()


@pytest.fixture
async def cut_off(services: Services, ledger: str, topics: Topics, postgres: Link) -> AsyncIterator[Client]:
    """A client of a gateway whose Postgres may go."""
    async with running(services, through(postgres, ledger), topics) as made:
        yield made


def path(name: str, seller_id: str = "demo") -> str:
    return f"/v1/catalogue/{seller_id}/products/{name}"


async def age(services: Services, name: str) -> None:
    """The copy of the product is no longer fresh."""
    async with redis.asyncio.Redis.from_url(services.redis_url) as server:
        assert await server.hset(f"catalogue:{{demo}}:product:{name}", mapping={"at": 1, "until": 1}) == 0


async def test_anybody_reads_a_product_and_what_of_it_is_in_stock(client: Client, query: Query, name: str) -> None:
    """Without a key, with what browsers and CDNs need to keep it."""
    await put(client, name, product(f"{name}-S", variants=[{"sku": f"{name}-{n}", "unit_price": "9.90"} for n in "SM"]))
    query("INSERT INTO stock (seller_id, sku, on_hand, reserved) VALUES ('demo', %s, 2, 1), ('demo', %s, 1, 1)",
          f"{name}-S", f"{name}-M")  # fmt: skip
    buyer = client.as_(None)
    first = await buyer.get(path(name))
    assert (first.status, first.json["product_id"], first.json["in_stock"]) == (200, name, [f"{name}-S"])
    assert first.headers["Surrogate-Key"] == f"demo demo/{name}"
    assert first.headers["Cache-Control"] == "public, max-age=1, stale-if-error=86400"
    assert first.headers["Cache-Status"] == "gapless; fwd=miss; stored; ttl=3600"
    again = await buyer.get(path(name))
    assert (again.json, again.headers["Cache-Status"].startswith("gapless; hit; ttl=3")) == (first.json, True)
    same = await buyer.get(path(name), If_None_Match=first.headers["ETag"])
    assert (same.status, same.body) == (304, b"")


async def test_a_change_is_seen_at_once_and_so_is_the_end_of_stock(client: Client, query: Query, name: str) -> None:
    await put(client, name, product(name))
    query("INSERT INTO stock (seller_id, sku, on_hand) VALUES ('demo', %s, 1)", name)
    before = await client.get(path(name))
    await put(client, name, product(name, variants=[{"sku": name, "unit_price": "7.50"}]))
    after = await client.get(path(name))
    assert (after.json["version"], after.json["variants"][0]["unit_price"]) == (2, "7.50")
    query("UPDATE stock SET reserved = 1 WHERE sku = %s", name)
    sold_out = await client.get(path(name))
    assert sold_out.json["in_stock"] == []
    assert len({each.headers["ETag"] for each in (before, after, sold_out)}) == 3
    await client.call("DELETE", f"/v1/products/{name}")
    assert (await client.get(path(name))).status == 404
    await put(client, name, product(name))
    assert (await client.get(path(name))).json["version"] == 4


async def test_a_copy_that_another_server_has_stored_is_old(client: Client, services: Services, name: str) -> None:
    """After a restart or a failover: the mark that says so may have been lost with the last second."""
    await put(client, name, product(name))
    assert (await client.get(path(name))).json["version"] == 1
    async with redis.asyncio.Redis.from_url(services.redis_url) as server:
        before: dict[Any, Any] = await server.hgetall(f"catalogue:{{demo}}:product:{name}")
        await put(client, name, product(name, variants=[{"sku": name, "unit_price": "7.50"}]))
        await server.hset(f"catalogue:{{demo}}:product:{name}", mapping={**before, b"server": "0" * 40})
    after = await client.get(path(name))
    assert (after.json["version"], after.headers["Cache-Status"]) == (2, "gapless; fwd=stale; stored; ttl=3600")
    assert (await client.get(path(name))).headers["Cache-Status"].startswith("gapless; hit; ttl=3")


async def test_no_copy_is_ever_another_sellers(client: Client, name: str) -> None:
    await put(client, name, product(name))
    assert (await client.get(path(name))).status == 200
    assert (await client.get(path(name, "other"))).status == 404
    assert (await client.get(path(name, "nobody"))).status == 404
    assert (await client.get(path(name, "%7Bdemo%7D"))).status == 404


async def test_an_id_that_no_product_has_is_remembered_for_a_short_while(
    client: Client, services: Services, name: str
) -> None:
    assert (await client.get(path(name))).status == 404
    async with redis.asyncio.Redis.from_url(services.redis_url) as server:
        assert 0 < await server.ttl(f"catalogue:{{demo}}:product:{name}") <= 10
    await put(client, name, product(name))
    assert (await client.get(path(name))).status == 200


async def test_one_reader_fills_the_cache_and_all_others_wait_for_it(
    client: Client, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(client, name, product(name))
    reads = []
    read = ProductsReader.product

    async def counted(self: ProductsReader, seller_id: str, product_id: str) -> Any:
        reads.append(product_id)
        await asyncio.sleep(0.1)
        return await read(self, seller_id, product_id)

    monkeypatch.setattr(ProductsReader, "product", counted)
    answers = await asyncio.gather(*(client.get(path(name)) for _ in range(200)))
    assert {(each.status, each.json["version"]) for each in answers} == {(200, 1)}
    assert reads == [name]


async def test_what_was_read_before_a_change_does_not_fill_the_cache_after_it(cache: ProductCache, name: str) -> None:
    """Nor does a filler who was taken for dead."""
    [first] = await cache.read("demo", [name], "a")
    assert (first.state, first.value) == (CopyState.FILL, None)
    assert [each.state for each in await cache.read("demo", [name], "b")] == [CopyState.FILLING]
    await cache.mark("demo", [name])
    await cache.fill("demo", name, "old", "a")
    [second] = await cache.read("demo", [name], "b")
    assert (second.state, second.value) == (CopyState.FILL, None)
    await cache.fill("demo", name, "new", "b")
    [third] = await cache.read("demo", [name], "a")
    assert (third.state, third.value) == (CopyState.FRESH, "new")
    await cache.mark("demo", [name])
    [fourth] = await cache.read("demo", [name], "a")
    assert (fourth.state, fourth.value) == (CopyState.FILL, "new")


async def test_who_asks_after_a_change_does_not_join_a_reading_from_before_it(
    client: Client, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else that one, late, would fill the cache: with the old price, for an hour."""
    await put(client, name, product(name))
    read = ProductsReader.product
    has_read, may_go = asyncio.Event(), asyncio.Event()

    async def held(self: ProductsReader, seller_id: str, product_id: str) -> Any:
        found = await read(self, seller_id, product_id)
        if not has_read.is_set():
            has_read.set()
            await may_go.wait()
        return found

    monkeypatch.setattr(ProductsReader, "product", held)
    early = asyncio.create_task(client.get(path(name)))
    await has_read.wait()
    await put(client, name, product(name, variants=[{"sku": name, "unit_price": "7.50"}]))
    late = asyncio.create_task(client.get(path(name)))
    await asyncio.wait({late}, timeout=5)
    may_go.set()
    assert [(await each).json["version"] for each in (early, late)] == [1, 2]
    assert (await client.get(path(name))).json["version"] == 2


async def test_old_copies_are_served_while_postgres_is_unavailable_and_say_so(
    cut_off: Client, services: Services, postgres: Link, name: str
) -> None:
    """Fresh ones as ever. What was never read can't be."""
    category = f"c{name}"
    for each in (name, f"{name}-2", f"{name}-3"):
        await put(cut_off, each, product(each, categories=[category]))
    for each in (name, f"{name}-2"):
        assert (await cut_off.get(path(each))).status == 200
    listed = await cut_off.get(f"/v1/catalogue/demo/products?category={category}&limit=2")
    assert len(listed.json["products"]) == 2
    await age(services, name)
    await postgres.cut()
    await asyncio.sleep(1.1)
    old = await until(lambda: cut_off.get(path(name)), lambda answer: "postgres" in answer.headers["Cache-Status"])
    assert (old.status, old.json["product_id"]) == (200, name)
    assert old.headers["Cache-Status"] == "gapless; hit; ttl=-1; detail=postgres-unavailable"
    fresh = await cut_off.get(path(f"{name}-2"))
    assert fresh.headers["Cache-Status"].startswith("gapless; hit; ttl=3")
    page = await cut_off.get(f"/v1/catalogue/demo/products?category={category}&limit=2")
    assert (page.json["products"][0]["product_id"], "postgres" in page.headers["Cache-Status"]) == (name, True)
    unknown = await cut_off.get(path(f"{name}-3"))
    assert (unknown.status, unknown.headers["Retry-After"]) == (503, "2")
    await postgres.open()
    again = await until(
        lambda: cut_off.get(path(name)), lambda answer: "postgres" not in answer.headers["Cache-Status"]
    )
    assert again.status == 200


async def test_without_redis_products_come_from_postgres(
    services: Services, ledger: str, topics: Topics, query: Query, name: str
) -> None:
    link = await link_to(services.redis_url)
    async with running(services, ledger, topics, redis_url=through(link, services.redis_url)) as client:
        await link.cut()
        assert (await put(client, name, product(name))).status == 201
        query("INSERT INTO stock (seller_id, sku, on_hand) VALUES ('demo', %s, 1)", name)
        found = await client.get(path(name))
        assert (found.status, found.json["in_stock"]) == (200, [name])
        assert found.headers["Cache-Status"] == "gapless; fwd=miss"
        page = await client.get("/v1/catalogue/demo/products")
        assert [each["product_id"] for each in page.json["products"]] == [name]


async def test_what_is_in_stock_is_what_admission_would_let_through(
    client: Client, services: Services, ledger: str, topics: Topics, name: str
) -> None:
    """Where Redis has a complete copy: pieces that a checkout under way holds are not to be had."""
    mirror = Mirror(services.redis_url)
    await mirror.adopt("other", [(name, Level(1, 0, 1))])
    ticked = await mirror.tick("other")
    assert await mirror.complete("other", ticked.run_id)
    await mirror.close()
    other = client.as_("key-of-other-" + "x" * 32)
    await put(other, name, product(name))
    assert (await client.get(path(name, "other"))).json["in_stock"] == [name]


async def test_a_category_is_listed_in_pages_with_those_that_are_part_of_it(client: Client, name: str) -> None:
    category = f"c{name}"
    for number, within in enumerate(("mugs", "cups", "mugs")):
        await put(client, f"{name}-{number}", product(f"{name}-{number}", categories=[f"{category}/{within}"]))
    found = f"/v1/catalogue/demo/products?category={category}"
    first = (await client.as_(None).get(f"{found}&limit=2")).json
    rest = (await client.get(f"{found}&limit=2&cursor={first['next']}")).json
    ids = [each["product_id"] for each in (*first["products"], *rest["products"])]
    assert (ids, rest["next"]) == ([f"{name}-{n}" for n in range(3)], None)
    mugs = (await client.get(f"{found}/mugs")).json
    assert [each["product_id"] for each in mugs["products"]] == [f"{name}-0", f"{name}-2"]
    await put(client, f"{name}-0", product(f"{name}-0", categories=[]))
    await asyncio.sleep(1.05)
    assert [each["product_id"] for each in (await client.get(f"{found}/mugs")).json["products"]] == [f"{name}-2"]
    assert (await client.get("/v1/catalogue/demo/products?category=Mugs")).json["field"] == "category"


async def test_an_event_marks_copies_as_old_and_waits_for_redis(
    client: Client, services: Services, ledger: str, query: Query, cache: ProductCache, name: str
) -> None:
    """If the gateway died before it could: the event tells of the change until Redis has taken it."""
    await put(client, name, product(name))
    assert (await client.get(path(name))).json["version"] == 1
    [(payload,)] = query("SELECT payload FROM journal WHERE topic = %s", catalog.CATALOGUE_EVENTS.name)
    link = await link_to(services.redis_url)
    session = Session(ledger)
    async with session.connection() as connection:
        await read_positions(connection, "stock", catalog.CATALOGUE_EVENTS.name, [0])
    linked = ProductCache(through(link, services.redis_url), call_seconds_max=10)
    mirror = Mirror(services.redis_url)

    async def no_log(topic: str, partition: int, offset: int) -> tuple[int, int]:
        raise AssertionError("no hole here")

    work = StockWork(mirror, linked, lambda: NOW, on_missed=lambda: None)
    await link.cut()
    batch = Batch(catalog.CATALOGUE_EVENTS.name, 0, [Sent(0, payload, name.encode())])
    running_batch = asyncio.create_task(Worker(session, no_log).run(work, batch))
    await asyncio.sleep(0.3)
    assert not running_batch.done()
    [copy] = await cache.read("demo", [name], "reader")
    assert copy.state is CopyState.FRESH
    await link.open()
    await asyncio.wait_for(running_batch, 60)
    [copy] = await cache.read("demo", [name], "reader")
    assert copy.state is CopyState.FILL
    for each in (linked, mirror, session):
        await each.close()
    await link.cut()


async def test_a_review_that_is_published_changes_the_products_rating(
    client: Client, services: Services, query: Query, cache: ProductCache, name: str
) -> None:
    """That of all its SKUs, as soon as the event is read; a review of what no product sells changes none."""
    skus = [f"{name}-S", f"{name}-M"]
    await put(client, name, product(variants=[{"sku": sku, "unit_price": "9.90"} for sku in skus]))
    unrated = await client.get(path(name))
    assert unrated.json["rating"] == {"count": 0, "average": None}
    for sku, stars in zip((*skus, "NOBODYS"), (5, 2, 1), strict=True):
        order_id = f"{name}-{stars}"
        deliver(query, order_id, sku)
        await write(client, order_id, stars=stars)
        await moderate(client, order_id, "approve", 1)
    reviews = events(query)
    assert {each["sku"]: each["product_id"] for each in reviews} == {**dict.fromkeys(skus, name), "NOBODYS": None}
    assert (await client.get(path(name))).json == unrated.json
    mirror = Mirror(services.redis_url)
    work = StockWork(mirror, cache, lambda: NOW, on_missed=lambda: None)
    records = [Sent(offset, written(catalog.REVIEW_CHANGED, each)) for offset, each in enumerate(reviews)]
    prepared = await work.prepare(Batch(catalog.REVIEW_EVENTS.name, 0, records))
    assert prepared.dead == []
    rated = await client.get(path(name))
    assert rated.json["rating"] == {"count": 2, "average": "3.50"}
    assert rated.headers["ETag"] != unrated.headers["ETag"]
    assert (await client.get(f"/v1/products/{name}")).json.keys() == rated.json.keys() - {"rating", "in_stock"}
    await mirror.close()
