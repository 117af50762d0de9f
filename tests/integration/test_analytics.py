"""The analytics agent on a real ledger: each event is counted once, where it happened, for its seller."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from domain.analytics import MINUTES_KEPT
from runtime.roles import READERS
from schemas import catalog
from sinks.postgres import analytics, journal
from sinks.postgres.journal import JournalRow
from streams.analytics import AGENT, AnalyticsWork, Caretaker
from streams.engine.batch import Batch
from streams.engine.work import Part
from tests.conftest import PARTITIONS, Services
from tests.integration.counting import Counting, Published
from tests.integration.orders_world import build
from tests.integration.shop import paid
from tests.integration.test_audit import clone
from tests.integration.world import World

pytestmark = pytest.mark.usefixtures("orders_anywhere")
Query = Callable[..., list[tuple[Any, ...]]]
AT = datetime(2026, 11, 28, 9, 17, 30, tzinfo=UTC)


@pytest.fixture(scope="module")
def shop(services: Services, template_database: str, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Orders of every fate, all counted."""
    url = clone(services.postgres_url, template_database)
    return build(services.kafka_bootstrap, url, tmp_path_factory.mktemp("objects"))


def sums(url: str) -> dict[str, tuple[int, int]]:
    """Events and amounts, by what they count as."""
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT what, sum(events)::int, sum(amount_minor)::int FROM analytics_counts GROUP BY what"
        ).fetchall()
    return {what: (events, amount) for what, events, amount in rows}


def all_rows(url: str) -> list[Any]:
    """Everything that was counted, and how far."""
    with psycopg.connect(url) as connection:
        return [
            connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2, 3, 4, 5".encode()).fetchall()
            for table in ("analytics_counts", "analytics_skus", "analytics_progress")
        ]


def test_orders_of_every_fate_are_counted_as_what_became_of_them(shop: World) -> None:
    """By the ledger: ten orders were decided, one of them refused."""
    found = sums(shop.postgres_url)
    with psycopg.connect(shop.postgres_url) as connection:

        def ledger(sql: str) -> Any:
            return connection.execute(sql.encode()).fetchone()

        assert found["placed"] == ledger("SELECT count(*), sum(gross_minor)::int FROM orders WHERE state <> 'REFUSED'")
        assert found["confirmed"] == ledger(
            'SELECT count(*), sum(gross_minor)::int FROM orders WHERE history @> \'[{"to": "CONFIRMED"}]\''
        )
        assert found["captured"] == ledger(
            "SELECT count(*), sum(amount_minor)::int FROM payment_attempts"
            " WHERE action = 'capture' AND state = 'succeeded'"
        )
        assert found["refunded"] == ledger(
            "SELECT count(*), sum(amount_minor)::int FROM refunds WHERE refund_id <> 'cancellation'"
        )
        for what, kind in (("invoiced", "invoice"), ("credited", "credit_note")):
            assert found[what] == ledger(f"SELECT count(*), sum(gross_minor)::int FROM invoices WHERE kind = '{kind}'")
    counts = {what: events for what, (events, _) in found.items()}
    assert counts == {
        "placed": 9, "refused": 1, "confirmed": 5, "declined": 1, "cancelled": 5, "voided": 1,
        "captured": 2, "refunded": 2, "invoiced": 5, "credited": 3,
    }  # fmt: skip


def test_pieces_sold_are_those_that_orders_hold_or_have_taken(shop: World) -> None:
    with psycopg.connect(shop.postgres_url) as connection:
        sold = connection.execute(
            "SELECT sku, sum(pieces)::int FROM analytics_skus GROUP BY sku HAVING sum(pieces) <> 0 ORDER BY sku"
        ).fetchall()
        held = connection.execute(
            "SELECT l.sku, sum(l.quantity)::int FROM order_lines l JOIN orders o USING (seller_id, order_id)"
            " WHERE o.state NOT IN ('REFUSED', 'CANCELLED') GROUP BY l.sku ORDER BY l.sku"
        ).fetchall()
    assert sold == held != []


async def test_what_is_read_again_is_counted_once(shop: World) -> None:
    """Batches that were done, records that the relay repeats in new places, and both in one batch."""
    before = all_rows(shop.postgres_url)
    counting = Counting(shop.postgres_url)
    for topic in (catalog.ORDER_EVENTS, catalog.INVENTORY_EVENTS, catalog.PAYMENT_EVENTS, catalog.INVOICE_EVENTS):
        records = await counting.published(topic, 0)
        await counting.run(Batch(topic.name, 0, records))
        position = await counting.position(topic, 0)
        again = [replace(each, offset=position + index) for index, each in enumerate([*records, *records])]
        await counting.run(Batch(topic.name, 0, again))
        assert await counting.position(topic, 0) == position + 2 * len(records)
    await counting.close()
    assert all_rows(shop.postgres_url) == before


class _Killed(BaseException):
    """The process ends here."""


async def test_a_worker_that_dies_before_the_commit_has_counted_nothing(
    ledger_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the next one counts all of it."""
    counting = Counting(ledger_url)
    await happen(counting, catalog.PAYMENT_EVENTS, captured("A-1", 500, AT), captured("A-2", 700, AT))
    [*records] = await counting.published(catalog.PAYMENT_EVENTS, 0)
    await counting.position(catalog.PAYMENT_EVENTS, 0)
    batch = Batch(catalog.PAYMENT_EVENTS.name, 0, records)
    apply = AnalyticsWork.apply

    async def die(self: AnalyticsWork, connection: Any, parts: Any) -> None:
        await apply(self, connection, parts)
        raise _Killed

    with monkeypatch.context() as patch:
        patch.setattr(AnalyticsWork, "apply", die)
        prepared = await counting.work.prepare(batch)
        with pytest.raises(_Killed):
            await counting.worker._transact(counting.work, [Part(batch, prepared, 0)])
    assert sums(ledger_url) == {}
    assert await counting.position(catalog.PAYMENT_EVENTS, 0) == 0
    await counting.catch_up()
    await counting.close()
    assert sums(ledger_url) == {"captured": (2, 1200)}


async def test_a_late_event_goes_to_its_own_minute(ledger_url: str, query: Query) -> None:
    """Whatever came before it; and currencies and sellers are kept apart."""
    counting = Counting(ledger_url)
    await happen(
        counting,
        catalog.PAYMENT_EVENTS,
        captured("A-1", 500, AT),
        captured("A-2", 700, AT - timedelta(hours=5)),
        captured("A-3", 90, AT, currency="JPY"),
        captured("A-4", 20, AT, seller_id="other"),
        captured("A-5", 1, AT),
    )
    await counting.catch_up()
    await counting.close()
    minute = int(AT.timestamp()) // 60
    rows = query(
        "SELECT seller_id, minute, currency, what, events, amount_minor FROM analytics_counts ORDER BY 1, 2, 3"
    )
    assert rows == [
        ("demo", minute - 300, "EUR", "captured", 1, 700),
        ("demo", minute, "EUR", "captured", 2, 501),
        ("demo", minute, "JPY", "captured", 1, 90),
        ("other", minute, "EUR", "captured", 1, 20),
    ]


async def test_only_what_the_journal_has_is_counted(ledger_url: str, query: Query) -> None:
    """Anything else is a dead letter; but what the journal has archived is neither."""
    counting = Counting(ledger_url)
    await happen(counting, catalog.PAYMENT_EVENTS, *(captured(f"A-{n}", 100, AT) for n in range(3)))
    first, second, third = await counting.published(catalog.PAYMENT_EVENTS, 0)
    query("DELETE FROM journal WHERE topic = 'payment-events' AND seq = 1")
    forged = replace(second, value=captured("A-1", 10**9, AT))
    unheard_of = Published(0, b"k", captured("A-9", 10**9, AT), ((catalog.SEQ_HEADER, b"999999999999"),))
    unnumbered = Published(0, b"k", captured("A-9", 10**9, AT))
    garbage = Published(0, b"k", b"garbage")
    records = [first, forged, unheard_of, unnumbered, garbage, second, third]
    await counting.position(catalog.PAYMENT_EVENTS, 0)
    await counting.run(
        Batch(catalog.PAYMENT_EVENTS.name, 0, [replace(each, offset=n) for n, each in enumerate(records)])
    )
    await counting.close()
    assert sums(ledger_url) == {"captured": (2, 200)}
    letters = query("SELECT payload FROM journal WHERE topic = 'dead-letters' ORDER BY seq")
    assert len(letters) == 4
    assert query("SELECT first_seq, last_seq FROM analytics_progress") == [(2, 3)]


async def test_old_minutes_are_folded_into_quarters_without_a_change_of_any_sum(ledger_url: str, query: Query) -> None:
    counting = Counting(ledger_url)
    now = AT + MINUTES_KEPT
    times = [AT - timedelta(minutes=n) for n in range(40)] + [now - timedelta(minutes=3)]
    await happen(counting, catalog.PAYMENT_EVENTS, *(captured(f"A-{n}", n + 1, at) for n, at in enumerate(times)))
    await counting.catch_up()
    before = sums(ledger_url)
    for _ in range(2):
        async with counting.session.connection() as connection:
            while await analytics.fold(connection, now):
                pass
    assert sums(ledger_url) == before == {"captured": (41, 41 * 42 // 2)}
    quarter = int(AT.timestamp()) // 60 // 15 * 15
    minutes = [minute for (minute,) in query("SELECT minute FROM analytics_counts ORDER BY minute")]
    # The quarter that MINUTES_KEPT ends in is still by the minute.
    folded = [quarter - 45, quarter - 30, quarter - 15]
    assert minutes == [*folded, quarter, quarter + 1, quarter + 2, int(times[-1].timestamp()) // 60]
    # A late event goes to its minute, and is folded later.
    await happen(counting, catalog.PAYMENT_EVENTS, captured("A-99", 1000, AT - timedelta(minutes=20)))
    await counting.catch_up()
    async with counting.session.connection() as connection:
        while await analytics.fold(connection, now):
            pass
    await counting.close()
    assert sums(ledger_url) == {"captured": (42, 41 * 42 // 2 + 1000)}
    assert len(query("SELECT 1 FROM analytics_counts")) == len(minutes)


async def test_a_rebuild_counts_what_is_left_again_and_ends_workers_that_stand_elsewhere(
    shop: World, services: Services
) -> None:
    url = clone(services.postgres_url, shop.postgres_url.rpartition("/")[2])
    before = all_rows(url)
    counting = Counting(url)
    caretaker = Caretaker(url, lambda: datetime.now(UTC))
    async with counting.session.connection() as connection:
        assert not await caretaker.has_moved_back(connection)
        positions = {(topic.name, number): 0 for topic in READERS[AGENT] for number in range(PARTITIONS)}
        await analytics.begin_again(connection, AGENT, positions)
        assert await caretaker.has_moved_back(connection)
        assert not await caretaker.has_moved_back(connection)
    assert all_rows(url) == [[], [], []]
    await counting.catch_up()
    await counting.close()
    assert all_rows(url) == before


def captured(order_id: str, amount: int, at: datetime, **changes: Any) -> bytes:
    """A payment that was captured."""
    micros = int(at.timestamp()) * 1_000_000
    return paid(order_id, "succeeded", "capture", "capture", amount_minor=amount, occurred_at=micros, **changes)


async def happen(counting: Counting, topic: catalog.Topic, *values: bytes) -> None:
    """Events in the journal."""
    async with counting.session.connection() as connection, connection.transaction():
        await journal.append(connection, {(topic.name, 0): [JournalRow(b"key", value, AT) for value in values]})
