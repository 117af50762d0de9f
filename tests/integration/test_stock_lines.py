"""The stock worker ends lines, on real Postgres and Valkey: when no payment can fail any more, nobody waits for it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from time import monotonic

import pytest

from admission.admission import Admitted, SoldOut
from domain.reservation import Short, Sku
from sinks.postgres import levels
from sinks.postgres.levels import read_obtainable
from streams.stock import Keeper
from tests.conftest import Services
from tests.integration.test_stock_mirror import Query, Shop, opened

HELD = Admitted(held=True)
SOLD_OUT = SoldOut((Short("S", 1, 0),))
TICK_SECONDS = 0.1


@pytest.fixture
async def shop(services: Services, ledger_url: str, query: Query) -> AsyncIterator[Shop]:
    async with opened(services.redis_url, ledger_url, query) as made:
        yield made


@contextlib.asynccontextmanager
async def kept(shop: Shop) -> AsyncIterator[None]:
    keeping = asyncio.create_task(Keeper(shop.world.mirror, shop.url, tick_seconds=TICK_SECONDS).run())
    try:
        yield
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)


def place(shop: Shop, order_id: str, quantity: int = 1, sku: str = "S") -> bytes:
    """The order is placed, its payment asked for; the event."""
    shop.decide(order_id)
    shop.query(
        "INSERT INTO order_lines (seller_id, order_id, line, sku, quantity) VALUES (%s, %s, 0, %s, %s)",
        shop.world.seller_id, order_id, sku, quantity,
    )  # fmt: skip
    return shop.change(order_id, "reserved", quantity, sku)


def turn(shop: Shop, order_id: str, state: str) -> None:
    shop.query(
        "UPDATE orders SET state = %s WHERE seller_id = %s AND order_id = %s", state, shop.world.seller_id, order_id
    )


async def obtainable(shop: Shop, *skus: str) -> dict[str, tuple[int, int]]:
    wanted = [Sku(shop.world.seller_id, sku) for sku in skus]
    async with shop.session.connection() as connection:
        return {sku.sku: found for sku, found in (await read_obtainable(connection, wanted)).items()}


async def test_a_line_ends_when_the_last_payment_is_known(shop: Shop) -> None:
    shop.put(S=3)
    await shop.rebuild()
    async with kept(shop):
        for order_id in "123":
            assert await shop.world.admit(order_id, S=1) == HELD
        waiting = [await shop.world.lined_up(order_id, 30, S=1) for order_id in "abc"]
        await shop.mirror(*(place(shop, order_id) for order_id in "123"))
        turn(shop, "1", "CONFIRMED")
        # One for which nothing is left; the others may still hope.
        assert await waiting[2] == SOLD_OUT
        await asyncio.sleep(5 * TICK_SECONDS)
        assert await shop.world.line(*"abc") == [1, 2, None]
        turn(shop, "2", "CANCELLED")
        await shop.mirror(shop.change("2", "released", 1))
        assert await waiting[0] == HELD
        await shop.mirror(place(shop, "a"))
        for order_id in "3a":
            turn(shop, order_id, "CONFIRMED")
        began = monotonic()
        assert await waiting[1] == SOLD_OUT
        assert monotonic() - began < 25
        assert await shop.world.wait("d", 30, S=1) == SOLD_OUT
        assert monotonic() - began < 25


async def test_a_line_stays_while_an_order_holds_that_postgres_has_not_seen(shop: Shop) -> None:
    shop.put(S=2)
    await shop.rebuild()
    async with kept(shop):
        await shop.world.admit("1", S=2)
        waiting = await shop.world.lined_up("a", 30, S=1)
        await asyncio.sleep(5 * TICK_SECONDS)
        assert not waiting.done()
        await shop.world.gateway.release(shop.world.asked("1", S=2))
        assert await waiting == HELD


async def test_a_cancelled_sale_serves_who_comes_after_the_lines_end(shop: Shop) -> None:
    shop.put(S=1)
    await shop.rebuild()
    async with kept(shop):
        await shop.mirror(place(shop, "1"))
        turn(shop, "1", "CONFIRMED")
        assert await shop.world.wait("a", 30, S=1) == SOLD_OUT
        turn(shop, "1", "CANCELLED")
        await shop.mirror(shop.change("1", "released", 1))
        assert await shop.world.wait("b", 30, S=1) == HELD


async def test_lines_of_buyers_who_come_and_go_under_load_are_never_cut_short(shop: Shop) -> None:
    """Every payment fails, so that every piece comes back, again and again: all who wait are served in the end."""
    shop.put(S=5)
    await shop.rebuild()
    lock = asyncio.Lock()

    async def buy(number: int) -> None:
        while True:
            verdict = await shop.world.wait(f"O-{number}", 20, S=1)
            if verdict == HELD:
                break
            # The line was full when it came.
            await asyncio.sleep(0.05)
            assert verdict == SOLD_OUT
        async with lock:
            await shop.mirror(place(shop, f"O-{number}"))
        await asyncio.sleep(0.05)
        async with lock:
            turn(shop, f"O-{number}", "CANCELLED")
            await shop.mirror(shop.change(f"O-{number}", "released", 1))

    async with kept(shop), asyncio.timeout(60):
        await asyncio.gather(*(buy(number) for number in range(60)))
        assert await shop.available() == 5


async def test_obtainable_is_what_is_free_and_what_unpaid_orders_claim(shop: Shop) -> None:
    shop.put(S=10, T=5)
    for order_id, quantity in (("unpaid", 2), ("paid", 3)):
        place(shop, order_id, quantity)
    turn(shop, "paid", "CONFIRMED")
    assert await obtainable(shop, "S", "T", "no such") == {"S": (7, 3), "T": (5, 1)}


async def test_too_many_unpaid_orders_say_nothing(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.put(S=10)
    for order_id in "123":
        place(shop, order_id)
    monkeypatch.setattr(levels, "UNPAID_MAX", 3)
    assert await obtainable(shop, "S") == {"S": (10, 4)}
    monkeypatch.setattr(levels, "UNPAID_MAX", 2)
    assert await obtainable(shop, "S") == {}


async def test_the_question_goes_by_indexes_and_reads_no_order_that_is_paid(shop: Shop, query: Query) -> None:
    """Whatever the planner knows of the tables: here they have grown since it last looked."""
    seller_id = shop.world.seller_id
    shop.put(S=10_000)
    query("ANALYZE orders, order_lines")
    query(
        "INSERT INTO orders (seller_id, order_id, partition, customer, state, version, history, currency, net_minor,"
        " tax_minor, gross_minor, content_sha256, payment_token, invoice_request, hold_expires_at, placed_at,"
        " source_offset) SELECT %s, 'O-' || n, 0, 'C', CASE WHEN n %% 100 = 0 THEN 'PAYMENT_PENDING' ELSE 'CONFIRMED'"
        " END, 1, '[]', 'EUR', 0, 0, 0, '', '', '', now(), now(), 0 FROM generate_series(1, 5000) n",
        seller_id,
    )
    query(
        "INSERT INTO order_lines (seller_id, order_id, line, sku, quantity)"
        " SELECT %s, 'O-' || n, 0, 'S', 1 FROM generate_series(1, 5000) n",
        seller_id,
    )
    parameters = {"seller_ids": [seller_id], "skus": ["S"], "unpaid_max": 100}
    async with shop.session.connection() as connection:
        cursor = await connection.execute("EXPLAIN (ANALYZE, COSTS OFF) " + levels._OBTAINABLE, parameters)
        plan = "\n".join(row[0] for row in await cursor.fetchall())
    assert " on orders_awaiting_payment " in plan or " using orders_awaiting_payment " in plan, plan
    assert "orders_pkey" not in plan
    assert "Seq Scan" not in plan
    [lines] = [line for line in plan.splitlines() if "on order_lines" in line]
    assert "using order_lines_pkey" in lines and "rows=1" in lines and "loops=50" in lines, plan
