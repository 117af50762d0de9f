"""The audit of analytics: it finds each kind of damage, and takes nothing that is under way for one."""

import asyncio

import pytest

from audit.report import AuditReport
from runtime.roles import READERS
from sinks.postgres import analytics
from streams.analytics import AGENT
from tests.conftest import PARTITIONS, Services
from tests.integration.counting import Counting
from tests.integration.orders_world import build
from tests.integration.test_audit import clone, found, world
from tests.integration.world import World

__all__ = ["world"]

pytestmark = pytest.mark.usefixtures("orders_anywhere")


@pytest.fixture(scope="module")
def clean(services: Services, template_database: str, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Built once; tests change clones of it."""
    url = clone(services.postgres_url, template_database)
    return build(services.kafka_bootstrap, url, tmp_path_factory.mktemp("objects"))


def wrong(report: AuditReport) -> list[str]:
    return [f"{each.where}: {each.what}" for each in report.samples["analytics"]]


def test_what_is_counted_is_what_the_ledger_has(world: World) -> None:
    report = world.audit(complete=True)
    assert found(report) == ""
    assert report.counts["analytics sums"] > 15


@pytest.mark.parametrize(
    ("damage", "where"),
    [
        ("UPDATE analytics_counts SET events = 9 WHERE what = 'confirmed' AND partition = 0", "confirmed of demo"),
        ("UPDATE analytics_counts SET amount_minor = 1 WHERE what = 'placed' AND partition = 1", "placed of demo"),
        ("DELETE FROM analytics_counts WHERE what = 'voided'", "voided of demo"),
        ("DELETE FROM analytics_counts WHERE what = 'refused'", "refused of demo"),
        ("UPDATE analytics_counts SET currency = 'USD' WHERE what = 'captured' AND partition = 1", "captured of demo"),
        ("UPDATE analytics_counts SET seller_id = 'other' WHERE what = 'invoiced'", "invoiced of other"),
        ("UPDATE analytics_skus SET pieces = pieces - 1 WHERE sku = 'TEA' AND currency = '' AND partition = 0",
         "pieces of TEA of demo"),
    ],
)  # fmt: skip
def test_a_damaged_row_is_found(world: World, damage: str, where: str) -> None:
    world.execute(damage)
    report = world.audit()
    assert any(each.startswith(where) for each in wrong(report)), wrong(report)
    assert set(report.violations) == {"analytics"}


def test_events_that_are_not_counted_yet_are_no_violation(world: World) -> None:
    """Of a partition with some left nothing is compared that may have been later."""
    world.execute("DELETE FROM analytics_counts")
    world.execute("DELETE FROM analytics_skus")
    world.execute("UPDATE analytics_progress SET last_seq = 1")
    world.execute("UPDATE positions SET next_offset = 1 WHERE agent = 'analytics' AND next_offset > 0")
    assert wrong(world.audit()) == []


def test_what_was_before_a_rebuilds_beginning_is_not_missed(world: World) -> None:
    """The topics no longer have the first events: what they said is not counted, and not asked for."""
    asyncio.run(_rebuild_without_the_first(world.postgres_url))
    # This world's payments are paid by the real clock, years after its orders.
    world.execute("UPDATE payment_attempts SET finished_at = 'epoch'")
    assert wrong(world.audit()) == []
    # With the first event said to be the first there was, it is missed.
    world.execute("UPDATE analytics_progress SET first_seq = 1")
    assert wrong(world.audit()) != []


async def _rebuild_without_the_first(url: str) -> None:
    counting = Counting(url)
    places: dict[tuple[str, int], int] = {}
    for topic in READERS[AGENT]:
        for partition in range(PARTITIONS):
            places[topic.name, partition] = min(2, await counting.position(topic, partition))
    async with counting.session.connection() as connection:
        await analytics.begin_again(connection, AGENT, places)
    await counting.catch_up()
    await counting.close()
