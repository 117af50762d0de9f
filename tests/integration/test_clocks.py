"""What is written down goes by Postgres' clock, within a minute; dates never run backwards along the numbers."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from schemas import catalog, codec
from sinks.postgres.migrate import migrate
from sinks.postgres.positions import read_positions
from tests.integration.conftest import BELIEVED
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
