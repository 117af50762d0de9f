"""The audits look at every partition that a deployment has chosen: the last of 16, with an order and its stock."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from audit.follow import Follower, Services
from schemas.catalog import INVOICE_EVENTS
from schemas.placement import partition_of
from sinks.postgres.stock import Adjust, SetOnHand, Stock
from tests import conftest
from tests.integration.orders_world import TOPICS, Shop
from tests.integration.shop import checkout_body
from tests.integration.test_audit import found
from tests.integration.world import NOW, World, make_topics, relay

pytestmark = pytest.mark.usefixtures("orders_anywhere")

_PARTITIONS = 16
_LAST = _PARTITIONS - 1
#: Its stock is set in the last partition.
_SKU = next(sku for sku in map(str, range(10**6)) if partition_of(sku.encode(), _PARTITIONS) == _LAST)
Query = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
async def shop(services: conftest.Services, ledger_url: str, query: Query, tmp_path: Path) -> AsyncIterator[Shop]:
    """One that has sold something."""
    query("UPDATE deployment SET partitions = %s", _PARTITIONS)
    kafka = services.kafka_bootstrap
    prefix = make_topics(kafka, *(topic.name for topic in TOPICS), partitions=_PARTITIONS)
    made = Shop(World(kafka, prefix, ledger_url, tmp_path))
    await _change_stock(ledger_url, SetOnHand("demo", _SKU, 10))
    await made.checkout(_LAST, checkout_body("before", (_SKU, 1)), checkout_body("whole", (_SKU, 1)))
    await asyncio.to_thread(relay, made.world)
    yield made
    await made.session.close()


async def _change_stock(url: str, change: SetOnHand | Adjust) -> None:
    stock = Stock(url)
    await stock.change(change, _PARTITIONS, NOW)
    await stock.close()


async def test_an_audit_reads_the_last_partition(shop: Shop) -> None:
    report = await asyncio.to_thread(shop.world.audit)
    assert found(report) == ""
    assert report.counts["orders"] == 2
    # Where sums differ, it goes through the events once more.
    shop.world.execute("SET session_replication_role = replica; DELETE FROM orders WHERE order_id = 'before'")
    said = found(await asyncio.to_thread(shop.world.audit))
    assert "order demo/before: has no row and an event that says" in said
    assert "order demo/whole" not in said


async def test_an_audit_that_follows_reads_the_last_partition(shop: Shop, query: Query) -> None:
    world = shop.world
    services = Services(world.postgres_url, world.kafka, lambda _: [], lambda _: 0, world.prefix)
    follower = Follower(services, wait_seconds_max=60.0)
    assert found(await asyncio.to_thread(follower.begin)) == ""
    await _change_stock(world.postgres_url, Adjust("demo", _SKU, -2, "broken"))
    await shop.checkout(_LAST, checkout_body("after", (_SKU, 3)))
    report = await asyncio.to_thread(follower.check)
    assert found(report) == ""
    assert (report.counts["orders"], report.counts["skus"]) == (1, 1)
    query(
        "INSERT INTO journal VALUES (%s, %s, 2, 'k', 'x', %s)",
        INVOICE_EVENTS.name, _LAST, NOW,
    )  # fmt: skip
    assert f"{INVOICE_EVENTS.name}/{_LAST}" in found(await asyncio.to_thread(follower.check))
    follower.close()
