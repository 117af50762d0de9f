"""What is written down goes by Postgres' clock, within a minute; dates never run backwards along the numbers."""

import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from domain.delivery import Channel
from domain.order import OrderIdentity
from domain.payment import Action, AttemptState, Finish
from domain.refusals import Refusal
from schemas import catalog, codec
from sinks.postgres import webhooks
from sinks.postgres.analytics import fold
from sinks.postgres.deliveries import CHANCE_BYTES, delivery_id
from sinks.postgres.migrate import migrate
from sinks.postgres.payments import Finished, insert_attempts, new_attempt
from sinks.postgres.positions import read_positions
from sinks.postgres.sealing import Sealing
from sinks.postgres.session import Session
from streams.delivery_rows import DeliveryRows
from streams.payment_rows import PaymentRows
from tests.integration.conftest import BELIEVED
from tests.integration.payments_world import add_order
from tests.integration.shop import HOLD, Shop, checkout_body, shop
from tests.integration.test_invoices_work import TOPIC, Agent, Query, Sent, sent

__all__ = ["shop"]

YEARS = timedelta(days=5 * 365)


@pytest.fixture
async def agent(ledger_url: str, shop: Shop) -> AsyncIterator[Agent]:
    """The invoices agent beside the shop's."""
    made = Agent(ledger_url)
    async with made.session.connection() as connection:
        await read_positions(connection, "invoices", TOPIC, [0])
    yield made
    await made.session.close()


@pytest.fixture
def rule(query: Query) -> None:
    """Clocks are believed as in earnest."""
    query(f"{BELIEVED} RETURN believed_in_earnest(worker_clock)")


def dates(query: Query) -> list[str]:
    """The dates printed on the invoices, in the order of the journal."""
    found = []
    for (payload,) in query("SELECT payload FROM journal WHERE topic = 'invoice-events' ORDER BY seq"):
        _, event = codec.decode(payload, catalog.INVOICE_ISSUED, bytes_max=len(payload))
        found.append(event["issue_date"])
    return found


@pytest.mark.usefixtures("rule")
@pytest.mark.parametrize("ahead", [YEARS, -YEARS, timedelta(minutes=2), timedelta(minutes=-2)])
async def test_a_clock_that_is_wrong_dates_nothing(shop: Shop, agent: Agent, query: Query, ahead: timedelta) -> None:
    shop.now = agent.now = datetime.now(UTC) + ahead
    shop.stock("S-1", 5)
    await agent.run(sent(0, "A"), Sent(1, b"junk"))
    await shop.checkout(checkout_body("B"), b"junk")
    await shop.pay("B")
    written = [
        *query("SELECT issued_at FROM invoices UNION ALL SELECT last_issued_at FROM series"),
        *query("SELECT occurred_at FROM journal UNION ALL SELECT placed_at FROM orders"),
        *query("SELECT hold_expires_at - %s FROM orders", HOLD),
    ]
    assert len(written) >= 9
    assert all(abs(datetime.now(UTC) - at) < timedelta(minutes=1) for (at,) in written)
    assert query("SELECT count(*) FROM journal_default") == [(0,)]


@pytest.mark.usefixtures("rule")
async def test_a_clock_within_a_minute_is_believed(agent: Agent, query: Query) -> None:
    agent.now = datetime.now(UTC) + timedelta(seconds=40)
    await agent.run(sent(0, "A"))
    assert query("SELECT issued_at FROM invoices") == [(agent.now,)]


@pytest.mark.usefixtures("rule")
async def test_a_clock_that_is_ahead_expires_no_hold(shop: Shop) -> None:
    shop.now = datetime.now(UTC)
    shop.stock("S-1", 5)
    await shop.checkout(checkout_body("A"))
    shop.now += YEARS
    assert await shop.expire() == 0
    assert shop.state("A") == "PAYMENT_PENDING"


async def test_months_are_made_although_rows_lie_in_them(ledger_url: str, query: Query) -> None:
    [(month,)] = query("SELECT (date_trunc('month', now()) + interval '36 months')::date")
    for at in (month, month + timedelta(days=10), datetime(2100, 1, 1, tzinfo=UTC)):
        query("INSERT INTO journal VALUES ('t', 0, 1, NULL, '', %s)", at)
    query("SELECT make_journal_months(%s, 2)", month)
    found: dict[object, object] = dict(query("SELECT tableoid::regclass::text, count(*) FROM journal GROUP BY 1"))
    assert found == {f"journal_{month:%Y_%m}": 2, "journal_default": 1}
    # What comes later goes there too, and the next upgrade finds nothing to do.
    query("INSERT INTO journal VALUES ('t', 0, 2, NULL, '', %s)", month)
    await migrate(ledger_url)
    assert query(f"SELECT count(*) FROM journal_{month:%Y_%m}") == [(3,)]


@pytest.mark.parametrize("policy", ["partitioned", "continuous"])
async def test_a_seller_who_moves_back_over_the_date_line_dates_no_number_before_the_last(
    agent: Agent, query: Query, policy: str
) -> None:
    query(
        "UPDATE sellers SET time_zone = 'Pacific/Kiritimati', numbering_policy = %s, number_format = %s"
        " WHERE seller_id = 'demo'",
        policy,
        "INV-{year}-{number:08d}" if policy == "continuous" else "INV-{partition:02d}-{number:08d}",
    )
    # 2 a.m. on New Year's Day there; on Pago Pago it is 1 a.m. the day before.
    agent.now = datetime(2026, 12, 31, 12, 0, tzinfo=UTC)
    await agent.run(sent(0, "A"))
    query("UPDATE sellers SET time_zone = 'Pacific/Pago_Pago' WHERE seller_id = 'demo'")
    agent.now += timedelta(minutes=1)
    await agent.run(sent(1, "B"))
    assert dates(query) == ["2027-01-01", "2027-01-01"]
    assert query("SELECT order_id, number FROM invoices ORDER BY number") == [("A", 1), ("B", 2)]
    assert query("SELECT DISTINCT right(series_id, 4) FROM invoices") == [
        ("2027" if policy == "continuous" else ".p00",)
    ]
    if policy == "continuous":
        assert query("SELECT invoice_number FROM invoices WHERE number = 2") == [("INV-2027-00000002",)]
    # A day later the two agree again, and it goes on.
    agent.now += timedelta(days=1, hours=1)
    await agent.run(sent(2, "C"))
    assert dates(query)[2] == "2027-01-01"


@pytest.mark.usefixtures("rule")
@pytest.mark.parametrize("ahead", [YEARS, -YEARS])
async def test_a_payments_worker_whose_clock_is_wrong_dates_no_outcome(
    ledger_url: str, query: Query, ahead: timedelta
) -> None:
    add_order(ledger_url, "A")
    rows = PaymentRows(ledger_url, "0", lease_seconds=60, provider="local", now=lambda: datetime.now(UTC) + ahead)
    session = Session(ledger_url)
    async with session.connection() as connection:
        row = new_attempt(OrderIdentity("demo", "A"), 0, "authorize", Action.AUTHORIZE, 4798, "EUR")
        await insert_attempts(connection, [row], datetime.now(UTC))
    [leased] = await rows.take(1)
    await rows.write(Finished(leased.attempt, Finish(AttemptState.SUCCEEDED), "local"))
    await rows.close()
    await session.close()
    [(payload,)] = query("SELECT payload FROM journal WHERE topic = 'payment-events'")
    _, event = codec.decode(payload, catalog.PAYMENT_ATTEMPT_FINISHED, bytes_max=len(payload))
    assert abs(datetime.now(UTC).timestamp() - event["occurred_at"] / 1e6) < 60


@pytest.mark.usefixtures("rule")
async def test_a_sender_whose_clock_is_ahead_deletes_nothing(ledger_url: str, query: Query) -> None:
    query(
        "WITH given AS (INSERT INTO deliveries (delivery_id, destination, seller_id, order_id, sequence, type, payload,"
        " state, created_at, finished_at) VALUES (%s, 'we_1', 'demo', 'A', 1, 'test', '', 'delivered', now(), now()))"
        " SELECT 1",
        delivery_id(datetime.now(UTC), bytes(CHANCE_BYTES)),
    )
    rows = DeliveryRows(ledger_url, Channel.WEBHOOK, lease_seconds=30, failing_seconds_max=1)
    await rows.purge(datetime.now(UTC) + YEARS)
    await rows.close([])
    assert query("SELECT count(*) FROM deliveries") == [(1,)]


@pytest.mark.usefixtures("rule")
async def test_an_analytics_worker_whose_clock_is_ahead_folds_no_minutes(ledger_url: str, query: Query) -> None:
    minute = int(datetime.now(UTC).timestamp()) // 60
    query(
        "WITH given AS (INSERT INTO analytics_counts (seller_id, partition, currency, what, minute, events,"
        " amount_minor) VALUES ('demo', 0, 'EUR', 'captured', %s, 1, 100)) SELECT 1",
        # Not the first of its quarter, which is folded already.
        minute - minute % 15 + 1,
    )
    session = Session(ledger_url)
    async with session.connection() as connection:
        assert await fold(connection, datetime.now(UTC) + YEARS) == 0
    await session.close()


@pytest.mark.usefixtures("rule")
@pytest.mark.parametrize("ahead", [YEARS, -YEARS])
async def test_a_gateway_whose_clock_is_wrong_dates_no_delivery(
    ledger_url: str, query: Query, ahead: timedelta
) -> None:
    """A delivery's id begins with its time, by which it is deleted one day."""
    now = datetime.now(UTC) + ahead
    session = Session(ledger_url)
    async with session.connection() as connection:
        made = await webhooks.create(
            connection, "demo", "https://shop.example/hooks", [], "", now, os.urandom, Sealing(), may_be_plain=False
        )
        assert not isinstance(made, Refusal)
        await webhooks.send_test(connection, "demo", made[0].endpoint_id, now, os.urandom)
        await webhooks.rotate(connection, "demo", made[0].endpoint_id, now, os.urandom, Sealing())
    await session.close()
    [(delivery,)] = query("SELECT delivery_id FROM deliveries")
    soon, late = (delivery_id(datetime.now(UTC) + timedelta(minutes=n), bytes(CHANCE_BYTES)) for n in (-1, 1))
    assert soon < delivery < late
    written = query("SELECT created_at FROM webhook_secrets UNION ALL SELECT created_at FROM webhook_endpoints")
    assert len(written) == 3
    assert all(abs(datetime.now(UTC) - at) < timedelta(minutes=1) for (at,) in written)
