"""The stock agent and the reconciler, with real Postgres and Valkey: Redis ends equal to Postgres, whatever is lost."""

import asyncio
import contextlib
import json
import logging
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner
from confluent_kafka import Producer

from admission.admission import Admitted, SoldOut
from admission.mirror import Ticked
from admission.reconcile import Drift, Reconciler
from domain.reservation import Change, Level, Sku
from gapless.stock import stock
from runtime.kafka import end_offsets
from runtime.metrics import REGISTRY
from schemas import catalog
from schemas.codec import encode
from sinks.postgres import levels
from sinks.postgres.positions import read_positions
from sinks.postgres.session import Connection, Session
from streams.engine.batch import Batch
from streams.engine.work import Worker
from streams.stock import Keeper, StockWork
from streams.stock_events import stock_changed
from tests.conftest import PARTITIONS, Services
from tests.integration.admission_world import OwnValkey, World, world
from tests.integration.conftest import add_seller
from tests.integration.gateways import until
from tests.integration.test_invoices_work import Sent

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
HELD, OPEN = Admitted(held=True), Admitted(held=False)
GRACE_SECONDS = 0.1
INVENTORY, ORDERS = catalog.INVENTORY_EVENTS.name, catalog.ORDER_EVENTS.name
Query = Callable[..., list[tuple[Any, ...]]]


class Shop:
    """One seller, whose stock is changed in Postgres as agents do, and mirrored to Redis."""

    def __init__(self, made: World, url: str, query: Query) -> None:
        self.world = made
        self.url = url
        self.query = query
        self.session = Session(url)
        self.missed = 0
        self.work = StockWork(made.mirror, made.cache, lambda: NOW, on_missed=self._miss)
        self.reconciler = Reconciler(made.mirror, self.session, grace_seconds=GRACE_SECONDS)
        self._worker = Worker(Session(url), self._no_log)
        self._offsets = {INVENTORY: 0, ORDERS: 0}

    def _miss(self) -> None:
        self.missed += 1

    async def _no_log(self, topic: str, partition: int, offset: int) -> tuple[int, int]:
        raise AssertionError("no test here has a hole")

    async def start(self) -> None:
        for topic in self._offsets:
            async with self.session.connection() as connection:
                await read_positions(connection, "stock", topic, [0])

    def put(self, **on_hand: int) -> None:
        """Write rows of stock, without an event."""
        for sku, pieces in on_hand.items():
            self.query(
                "INSERT INTO stock (seller_id, sku, on_hand, version) VALUES (%s, %s, %s, 1)",
                self.world.seller_id, sku, pieces,
            )  # fmt: skip

    def change(self, order_id: str, cause: str, quantity: int, sku: str = "S") -> bytes:
        """Change a row, and return the event."""
        sign = {"reserved": 1, "retaken": 1, "released": -1, "shipped": -1}[cause]
        [(on_hand, reserved, version)] = self.query(
            "UPDATE stock SET reserved = reserved + %s, on_hand = on_hand - %s, version = version + 1"
            " WHERE seller_id = %s AND sku = %s RETURNING on_hand, reserved, version",
            sign * quantity, quantity if cause == "shipped" else 0, self.world.seller_id, sku,
        )  # fmt: skip
        change = Change(Sku(self.world.seller_id, sku), quantity, Level(on_hand, reserved, version))
        return stock_changed(self.world.seller_id, order_id, cause, [change], NOW).payload

    def decide(self, order_id: str, state: str = "PAYMENT_PENDING") -> None:
        """Write the order's row."""
        self.query(
            "INSERT INTO orders (seller_id, order_id, partition, customer, state, version, history, currency,"
            " net_minor, tax_minor, gross_minor, content_sha256, payment_token, invoice_request, hold_expires_at,"
            " placed_at, source_offset)"
            " VALUES (%s, %s, 0, 'C', %s, 1, '[]', 'EUR', 0, 0, 0, '', '', '', now(), now(), 0)",
            self.world.seller_id, order_id, state,
        )  # fmt: skip

    async def mirror(self, *values: bytes, topic: str = INVENTORY) -> None:
        """Append records to the log, as a batch."""
        first = self._offsets[topic]
        self._offsets[topic] += len(values)
        records = [Sent(first + index, value, b"k") for index, value in enumerate(values)]
        await self._worker.run(self.work, Batch(topic, 0, records))

    async def rebuild(self) -> None:
        _, run_id, *_ = await self.world.mirror.tick(self.world.seller_id)
        assert await self.reconciler.rebuild(self.world.seller_id, run_id)

    async def drifts(self, *, correct: bool = True) -> list[Drift]:
        return await self.reconciler.reconcile(self.world.seller_id, correct=correct)

    async def sizes(self, *, correct: bool = True) -> dict[str, tuple[int | None, int, int]]:
        return {drift.sku: (drift.redis, drift.postgres, drift.size) for drift in await self.drifts(correct=correct)}

    async def available(self, sku: str = "S") -> int:
        return (await self.world.known(sku)).available


@contextlib.asynccontextmanager
async def opened(redis_url: str, ledger_url: str, query: Query) -> AsyncIterator[Shop]:
    async with world(redis_url) as made:
        made.seller_id = made.seller_id[-30:]
        with psycopg.connect(ledger_url, autocommit=True) as connection:
            add_seller(connection, made.seller_id)
        shop = Shop(made, ledger_url, query)
        await shop.start()
        try:
            yield shop
        finally:
            await shop.session.close()
            await shop._worker._session.close()


@pytest.fixture
async def shop(services: Services, ledger_url: str, query: Query) -> AsyncIterator[Shop]:
    async with opened(services.redis_url, ledger_url, query) as made:
        yield made


def event(schema: catalog.Schema[Any], **values: Any) -> bytes:
    """A record of the schema; fields that aren't given are empty."""
    return encode(
        schema, {field["name"]: values.get(field["name"], _empty(field)) for field in schema.newest.parsed["fields"]}
    )


def _empty(field: dict[str, Any]) -> Any:
    if isinstance(field["type"], list):
        return None
    kind = field["type"]["type"] if isinstance(field["type"], dict) else field["type"]
    return {"string": "", "array": []}.get(kind, 0)


async def test_a_placed_orders_hold_becomes_what_postgres_has_claimed(shop: Shop) -> None:
    shop.put(S=3)
    await shop.rebuild()
    assert await shop.world.admit("1", S=2) == HELD
    await shop.mirror(shop.change("1", "reserved", 2))
    known = await shop.world.known()
    assert (known.free, known.held, known.available, known.version) == (1, 0, 1, 2)
    assert await shop.world.admit("1", S=2) == OPEN
    await shop.mirror(shop.change("1", "released", 2))
    assert await shop.available() == 3


async def test_a_shipment_changes_nothing_that_can_be_admitted(shop: Shop) -> None:
    shop.put(S=3)
    await shop.rebuild()
    await shop.mirror(shop.change("1", "reserved", 2), shop.change("1", "shipped", 2))
    assert await shop.available() == 1


async def test_events_of_orders_end_holds(shop: Shop) -> None:
    shop.put(S=4)
    await shop.rebuild()
    for order_id in ("refused", "rejected", "conflicted", "placed"):
        assert await shop.world.admit(order_id, S=1) == HELD
    named = {"seller_id": shop.world.seller_id}
    await shop.mirror(
        event(catalog.ORDER_PLACED, **named, order_id="placed"),
        event(catalog.ORDER_REFUSED, **named, order_id="refused"),
        event(catalog.ORDER_REJECTED, **named, order_id="rejected"),
        event(catalog.ORDER_CONFLICTED, **named, order_id="conflicted"),
        event(catalog.ORDER_CONFLICTED, **named, order_id="placed"),
        event(catalog.ORDER_STATE_CHANGED, **named, order_id="placed"),
        topic=ORDERS,
    )
    assert list(await shop.world.mirror.held(shop.world.seller_id)) == ["placed"]


async def test_events_read_again_change_nothing(shop: Shop) -> None:
    shop.put(S=10)
    await shop.rebuild()
    events = [shop.change(str(n), "reserved", 1) for n in range(5)] + [shop.change("1", "released", 1)]
    await shop.mirror(*events)
    before = await shop.world.known()
    await shop.mirror(*events)
    assert await shop.world.known() == before
    assert before.available == 6


async def test_a_sku_that_is_new_is_known_by_its_event(shop: Shop) -> None:
    shop.put(S=1)
    await shop.rebuild()
    shop.put(T=5)
    assert await shop.world.admit("1", T=1) == OPEN
    await shop.mirror(shop.change("x", "reserved", 2, sku="T"))
    assert await shop.available("T") == 3


async def test_what_is_no_event_becomes_a_dead_letter_and_stops_nothing(shop: Shop) -> None:
    shop.put(S=3)
    await shop.rebuild()
    await shop.mirror(b"\x00\x00\x00\x00\x11junk", shop.change("1", "reserved", 1), b"", b"\x00\x00\x00\x00\x09x")
    assert await shop.available() == 2
    assert shop.query("SELECT count(*) FROM journal WHERE topic = %s", catalog.DEAD_LETTERS.name) == [(3,)]


async def test_a_lost_event_is_found_and_put_right_with_its_size(shop: Shop) -> None:
    shop.put(S=10, T=5)
    await shop.rebuild()
    shop.change("1", "reserved", 4)
    assert await shop.sizes(correct=False) == {"S": (10, 6, 4)}
    assert await shop.available() == 10
    assert await shop.sizes() == {"S": (10, 6, 4)}
    assert await shop.available() == 6
    assert await shop.sizes() == {}


async def test_an_event_on_its_way_is_no_drift(shop: Shop) -> None:
    shop.put(S=10)
    await shop.rebuild()
    await shop.world.admit("1", S=4)
    payload = shop.change("1", "reserved", 4)
    shop.decide("1")
    shop.reconciler._grace_seconds = 4
    looking = asyncio.create_task(shop.drifts())
    await asyncio.sleep(0.3)
    await shop.mirror(payload)
    assert await looking == []
    assert await shop.available() == 6


async def test_what_is_held_for_decided_orders_is_found(shop: Shop) -> None:
    shop.put(S=10)
    await shop.rebuild()
    for order_id in ("refused", "placed", "open"):
        await shop.world.admit(order_id, S=2)
    shop.decide("refused", "REFUSED")
    shop.change("placed", "reserved", 2)
    shop.decide("placed")
    [drift] = await shop.drifts()
    # Of the ten, two are claimed and two are held for the undecided order.
    assert (drift.redis, drift.postgres, drift.size) == (4, 6, 2)
    assert list(await shop.world.mirror.held(shop.world.seller_id)) == ["open"]
    assert await shop.available() == 6
    assert await shop.drifts() == []


async def test_a_count_without_its_holds_is_found(shop: Shop) -> None:
    shop.put(S=10)
    await shop.rebuild()
    for number in range(3):
        await shop.world.admit(str(number), S=1)
    # As if Redis had been full and had evicted the key.
    await shop.world.mirror._calls._redis.delete(f"stock:{{{shop.world.seller_id}}}:holds")
    assert await shop.sizes() == {"S": (7, 10, 3)}
    assert await shop.available() == 10


async def test_a_sku_that_redis_has_dropped_is_found(shop: Shop) -> None:
    shop.put(S=10, T=7)
    await shop.rebuild()
    await shop.world.mirror._calls._redis.delete(f"stock:{{{shop.world.seller_id}}}:level:T")
    assert await shop.sizes() == {"T": (None, 7, 7)}
    assert await shop.available("T") == 7


async def test_a_postgres_that_has_gone_back_is_believed(shop: Shop) -> None:
    shop.put(S=10)
    await shop.rebuild()
    await shop.mirror(*(shop.change(str(n), "reserved", 1) for n in range(5)))
    shop.query("UPDATE stock SET reserved = 1, version = 2 WHERE seller_id = %s", shop.world.seller_id)
    assert await shop.sizes() == {"S": (5, 9, 4)}
    assert await shop.available() == 9
    assert (await shop.world.known()).version == 2


async def test_reconciling_under_load_finds_nothing_and_breaks_nothing(shop: Shop) -> None:
    shop.put(S=2_000)
    await shop.rebuild()
    done = asyncio.Event()

    async def sell() -> None:
        for number in range(400):
            assert await shop.world.admit(str(number), S=1) == HELD
            payload = shop.change(str(number), "reserved", 1)
            shop.decide(str(number))
            await asyncio.sleep(0.002)
            await shop.mirror(payload)
        done.set()

    selling = asyncio.create_task(sell())
    found = []
    while not done.is_set():
        found += await shop.drifts()
        await asyncio.sleep(0.01)
    await selling
    assert found == []
    assert await shop.available() == 1_600
    assert (await shop.world.known()).held == 0


async def test_many_skus_are_copied_a_page_at_a_time(shop: Shop) -> None:
    shop.query(
        "INSERT INTO stock (seller_id, sku, on_hand, version)"
        " SELECT %s, 'S-' || n, n, 1 FROM generate_series(1, 1300) n",
        shop.world.seller_id,
    )
    await shop.rebuild()
    assert [await shop.available(f"S-{n}") for n in (1, 500, 501, 1300)] == [1, 500, 501, 1300]
    assert await shop.drifts() == []


async def test_redis_away_lets_the_position_move_and_is_made_up_for(
    tmp_path: Path, ledger_url: str, query: Query
) -> None:
    own = OwnValkey(tmp_path / "valkey")
    await own.start()
    async with opened(own.url, ledger_url, query) as shop:
        shop.put(S=10)
        await shop.rebuild()
        own.kill()
        await shop.mirror(shop.change("1", "reserved", 4))
        assert shop.missed == 1
        assert query("SELECT next_offset FROM positions WHERE topic = %s", INVENTORY) == [(1,)]
        await own.start()
        keeper = Keeper(shop.world.mirror, shop.url, tick_seconds=0.05, grace_seconds=GRACE_SECONDS)
        keeping = asyncio.create_task(keeper.run())
        await until(lambda: shop.world.admit(f"{time.time_ns()}", S=1), lambda verdict: verdict == HELD)
        assert (await shop.world.known()).free == 6
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
    own.kill()


async def test_what_was_missed_is_compared_soon(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    """The correction comes early, and each drift is logged."""
    shop.put(S=10)
    keeper = Keeper(shop.world.mirror, shop.url, tick_seconds=0.05, compare_seconds=60, grace_seconds=GRACE_SECONDS)
    keeping = asyncio.create_task(keeper.run())
    try:
        await until(lambda: shop.world.admit(f"{time.time_ns()}", S=1), lambda verdict: verdict == HELD)
        shop.change("1", "reserved", 4)
        with caplog.at_level(logging.WARNING, logger="streams.stock"):
            keeper.compare_soon()
            await until(shop.world.known, lambda known: known.free == 6)
        assert f"off by 4 pieces of {shop.world.seller_id}/S" in caplog.text
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)


async def test_the_keeper_ends_holds_where_no_gateway_asks(services: Services, ledger_url: str, query: Query) -> None:
    async with opened(services.redis_url, ledger_url, query) as shop:
        shop.put(S=1)
        shop.world.gateway._hold_ms = 200
        await shop.rebuild()
        await shop.world.admit("1", S=1)
        keeper = Keeper(shop.world.mirror, shop.url, tick_seconds=0.05)
        keeping = asyncio.create_task(keeper.run())
        client = shop.world.mirror._calls._redis
        key = f"stock:{{{shop.world.seller_id}}}:holds"
        await until(lambda: client.exists(key), lambda there: there == 0)
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)


SELLERS = 1_000


async def test_a_tick_costs_what_is_due_and_not_what_there_is(
    tmp_path: Path, ledger_url: str, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 1,000 sellers, all are checked at the start; later ticks check only those with something due."""
    own = OwnValkey(tmp_path / "valkey")
    await own.start()
    async with opened(own.url, ledger_url, query) as shop:
        query(
            "INSERT INTO sellers (seller_id, legal_name, street, city, postal_code, country, number_format)"
            " SELECT 's-' || n, 'S', '1 Main St', 'Lyon', '69001', 'FR', '' FROM generate_series(1, %s) n",
            SELLERS,
        )
        query(
            "INSERT INTO stock (seller_id, sku, on_hand) SELECT 's-' || n, 'S', 5 FROM generate_series(1, %s) n",
            SELLERS,
        )
        shop.put(S=10)
        await shop.rebuild()
        client = shop.world.mirror._calls._redis
        run_id = (await client.info("server"))["run_id"]
        pipeline = client.pipeline()
        for n in range(1, SELLERS + 1):
            pipeline.set(f"stock:{{s-{n}}}:complete", run_id)
        await pipeline.execute()

        looked_at: list[str] = []
        listed: list[int] = []
        tick, read_sellers = shop.world.mirror.tick, levels.read_sellers_with_stock

        async def counted_tick(seller_id: str) -> Ticked:
            looked_at.append(seller_id)
            return await tick(seller_id)

        async def counted_list(connection: Connection) -> list[str]:
            found = await read_sellers(connection)
            listed.append(len(found))
            return found

        monkeypatch.setattr(shop.world.mirror, "tick", counted_tick)
        monkeypatch.setattr("streams.stock.read_sellers_with_stock", counted_list)
        keeper = Keeper(shop.world.mirror, shop.url, tick_seconds=60)
        await keeper._tick()
        assert sorted(looked_at) == sorted([shop.world.seller_id, *(f"s-{n}" for n in range(1, SELLERS + 1))])
        assert listed == [SELLERS + 1]

        looked_at.clear()
        for _ in range(5):
            await keeper._tick()
        assert looked_at == []
        # A hold that nothing else ends, and a seller that is known from an event first.
        shop.world.gateway._hold_ms = 100
        assert await shop.world.admit("1", S=1) == HELD
        keeper.heard_of(["s-1", "new"])
        await until_due(keeper, looked_at, {"new", shop.world.seller_id})
        assert sorted(set(looked_at)) == sorted({"new", shop.world.seller_id})
        assert len(looked_at) <= 4
        assert (await shop.world.known()).held == 0
        assert listed == [SELLERS + 1]
        # After Redis has lost its data, all sellers are checked.
        await client.flushall()
        looked_at.clear()
        monkeypatch.setattr(keeper, "_rebuild", skip_rebuild(keeper))
        await keeper._tick()
        assert len(set(looked_at)) == SELLERS + 1
        await keeper._ticks.close()
        await keeper._compares.close()
    own.kill()


def skip_rebuild(keeper: Keeper) -> Callable[[str], Awaitable[None]]:
    async def rebuild(seller_id: str) -> None:
        keeper._note(seller_id, is_complete=True)

    return rebuild


async def until_due(keeper: Keeper, looked_at: list[str], wanted: set[str]) -> None:
    async def tick() -> set[str]:
        await keeper._tick()
        return set(looked_at)

    await until(tick, lambda seen: seen >= wanted)


async def test_sellers_without_a_full_copy_are_counted_while_they_are_copied(
    shop: Shop, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted from when it is known until each seller is complete."""
    query(
        "INSERT INTO stock (seller_id, sku, on_hand) SELECT seller_id, 'S', 5 FROM sellers"
        " WHERE seller_id IN ('demo', 'other')"
    )
    shop.put(S=10)
    # Left there by another test.
    for seller_id in ("demo", "other"):
        await shop.world.mirror._calls._redis.delete(f"stock:{{{seller_id}}}:complete")
    counted: list[float | None] = []
    rebuild = Reconciler.rebuild

    async def watched(self: Reconciler, seller_id: str, run_id: str) -> bool:
        counted.append(REGISTRY.get_sample_value("gapless_stock_incomplete_sellers"))
        return await rebuild(self, seller_id, run_id)

    monkeypatch.setattr(Reconciler, "rebuild", watched)
    keeper = Keeper(shop.world.mirror, shop.url, tick_seconds=60)
    await keeper._tick()
    assert counted[-3:] == [3, 2, 1]
    assert REGISTRY.get_sample_value("gapless_stock_incomplete_sellers") == 0
    await keeper._ticks.close()
    await keeper._compares.close()


@pytest.fixture
def command(shop: Shop, services: Services, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """`command(*arguments)` runs `gapless stock …` in a thread, on the test's services; its exit code and output."""
    monkeypatch.setenv("GAPLESS_POSTGRES_URL", shop.url)
    monkeypatch.setenv("GAPLESS_REDIS_URL", services.redis_url)

    async def run(*arguments: str) -> tuple[int, str]:
        def call() -> tuple[int, str]:
            result = CliRunner().invoke(stock, arguments, standalone_mode=False)
            if result.exception is not None:
                return 1, str(getattr(result.exception, "message", result.exception))
            code = result.return_value if isinstance(result.return_value, int) else 0
            return code, result.output

        return await asyncio.to_thread(call)

    return run


async def test_preload_makes_skus_known_in_shards(shop: Shop, command: Callable[..., Any]) -> None:
    shop.put(S=10, T=5)
    assert await shop.world.admit("0", S=1) == OPEN
    code, output = await command("preload", "S", "T", "--shards", "4")
    assert (code, output) == (0, f"{shop.world.seller_id}: 2 SKUs are in Redis, each as 4 counters\n")
    assert [await shop.world.admit(str(n), S=1) for n in range(1, 11)] == [HELD] * 10
    assert isinstance(await shop.world.admit("11", S=1), SoldOut)
    keys = await shop.world.mirror._calls._redis.keys(f"stock:{{{shop.world.seller_id}}}:left:*")
    assert len(keys) == 8


async def test_preload_names_what_postgres_does_not_have(shop: Shop, command: Callable[..., Any]) -> None:
    shop.put(S=10)
    code, output = await command("preload", "S", "nothing")
    assert code == 1
    assert "has no stock of nothing" in output


async def test_reconcile_prints_drifts_and_a_dry_run_leaves_them(shop: Shop, command: Callable[..., Any]) -> None:
    shop.put(S=10)
    assert await command("reconcile", "--dry-run") == (
        1,
        f"{shop.world.seller_id}: Redis has no full copy, so its data is not used and all orders are admitted\n",
    )
    assert await command("reconcile") == (0, "Redis and Postgres agree\n")
    shop.change("1", "reserved", 4)
    code, output = await command("reconcile", "--dry-run")
    assert code == 1
    assert "1 SKUs differ" in output
    assert [line.split()[1:5] for line in output.splitlines() if shop.world.seller_id in line] == [
        ["S", "10", "6", "4"]
    ]
    code, output = await command("reconcile", "--seller", shop.world.seller_id, "--json")
    assert code == 0
    found = json.loads(output)
    assert [(each["sku"], each["redis"], each["postgres"], each["size"]) for each in found["drifts"]] == [
        ("S", 10, 6, 4)
    ]
    assert await command("reconcile", "--dry-run") == (0, "Redis and Postgres agree\n")


async def test_the_command_says_when_redis_is_away(
    shop: Shop, command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.put(S=10)
    monkeypatch.setenv("GAPLESS_REDIS_URL", "redis://127.0.0.1:1/0")
    assert await command("reconcile") == (1, "cannot query Redis: ConnectionError")


@pytest.mark.usefixtures("empty_outputs")
async def test_the_worker_process_copies_and_follows(
    services: Services, shop: Shop, query: Query, tmp_path: Path
) -> None:
    """A worker run by `gapless worker stock`: Redis is soon complete, and gets the next change."""
    query("DELETE FROM positions")
    sources = [(topic, number) for topic in (INVENTORY, ORDERS) for number in range(PARTITIONS)]
    for (topic, partition), offset in end_offsets(services.kafka_bootstrap, sources).items():
        query("INSERT INTO positions VALUES ('stock', %s, %s, %s)", topic, partition, offset)
    shop.put(S=10)
    environment = {
        **os.environ,
        "GAPLESS_KAFKA_BOOTSTRAP": services.kafka_bootstrap,
        "GAPLESS_POSTGRES_URL": shop.url,
        "GAPLESS_REDIS_URL": services.redis_url,
        "GAPLESS_WORKER_DATA": str(tmp_path),
        "GAPLESS_WORKER_SLOT": tmp_path.name[-20:],
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gapless", "worker", "stock", env=environment, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        await until(lambda: shop.world.admit(f"{time.time_ns()}", S=1), lambda verdict: verdict == HELD, 60)
        producer = Producer({"bootstrap.servers": services.kafka_bootstrap})
        producer.produce(INVENTORY, shop.change("1", "reserved", 4), b"1", 2)
        producer.flush(60)
        await until(shop.world.known, lambda known: known.free == 6, 60)
    finally:
        process.terminate()
        assert await process.wait() == 0
