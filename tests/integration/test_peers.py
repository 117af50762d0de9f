"""The shop of the benchmarks' peers keeps the promises that it is measured for: no gap, no repeat, nothing oversold."""

import asyncio
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from benchmarks.peers.shop import Shop
from producers.generate import bodies
from tests.conftest import Services


@pytest.fixture
def database(services: Services) -> Iterator[str]:
    """A database of the peer's own, empty."""
    with psycopg.connect(services.postgres_url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE peer_shop")
        yield f"{services.postgres_url.rpartition('/')[0]}/peer_shop"
        connection.execute("DROP DATABASE peer_shop WITH (FORCE)")


async def test_invoices_at_once_are_numbered_without_a_gap_and_a_repeat_keeps_its_number(database: str) -> None:
    orders = list(bodies(100, seed=1))
    async with Shop.open(database) as shop:
        numbers = await asyncio.gather(*(shop.issue(each) for each in [*orders, *orders]))
    assert sorted(numbers[:100]) == list(range(1, 101))
    assert numbers[:100] == numbers[100:]


async def test_a_failed_transaction_returns_its_number(database: str) -> None:
    good, bad = bodies(2, seed=1)
    async with Shop.open(database) as shop:
        with pytest.raises(psycopg.DataError):
            # Beyond a bigint: refused by the statement that has taken the number.
            await shop.issue({**bad, "lines": [{**bad["lines"][0], "unit_price": "9" * 19}]})
        assert await shop.issue(good) == 1


async def test_no_more_is_reserved_than_there_is_and_a_refused_order_leaves_nothing(database: str) -> None:
    async with Shop.open(database) as shop:
        await shop.put_stock("A", 3)
        await shop.put_stock("B", 100)
        placed = await asyncio.gather(*(shop.place(_order(number, ("B", "A"))) for number in range(10)))
    assert sum(placed) == 3
    assert _rows(database, "SELECT sku, reserved FROM stock ORDER BY sku") == [("A", 3), ("B", 3)]
    assert _rows(database, "SELECT count(*) FROM orders") == [(3,)]


async def test_a_step_that_is_repeated_changes_nothing(database: str) -> None:
    """As DBOS repeats one after a crash."""
    paid, unpaid = _order(1, ("A",)), _order(2, ("A",))
    async with Shop.open(database) as shop:
        await shop.put_stock("A", 10)
        for _ in range(2):
            assert await shop.place(paid)
            assert await shop.place(unpaid)
            await shop.cancel(unpaid)
            assert await shop.confirm(paid) == 1
    assert _rows(database, "SELECT reserved FROM stock") == [(1,)]
    assert _rows(database, "SELECT order_id, state FROM orders ORDER BY order_id") == [
        ("P-1", "CONFIRMED"),
        ("P-2", "CANCELLED"),
    ]


async def test_commits_are_durable(database: str) -> None:
    async with Shop.open(database) as shop, shop._transaction() as connection:
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            row = await (await connection.execute(f"SHOW {setting}".encode())).fetchone()
            assert row == ("on",), setting


def _order(number: int, skus: tuple[str, ...]) -> dict[str, Any]:
    price = {"quantity": "1", "unit_price": "9.90", "vat_rate": "20.00", "vat_category": "S"}
    return {"order_id": f"P-{number}", "currency": "EUR", "lines": [{"sku": sku, **price} for sku in skus]}


def _rows(database: str, sql: str) -> list[tuple[object, ...]]:
    with psycopg.connect(database, autocommit=True) as connection:
        return connection.execute(sql.encode()).fetchall()
