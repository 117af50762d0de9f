"""Passes through the provider's list of refunds: what no notice tells of is found later, and credited once."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from domain.payment import RefundPage
from providers.local import LocalProvider
from providers.provider import ForbiddenError, NoAnswerError
from sinks.postgres import refund_passes as ledger
from sinks.postgres.session import Session
from streams.refund_passes import PassPolicy
from tests.integration.payments_world import API_KEY, QUICK, Payments, Query, Simulator
from tests.integration.shop import Shop, shop
from tests.integration.test_found_refunds import (
    captured,
    credited,
    provider,
    refund_in_dashboard,
    refunds,
    until,
    until_checked,
)

__all__ = ["provider", "shop"]

#: One pass right after the other.
OFTEN = PassPolicy(every_seconds=0.1, page_seconds=0.02, poll_seconds=0.02, lease_seconds=1.0)
#: Passes only when they are asked for.
ASKED = replace(OFTEN, every_seconds=3_600.0)


class Paged(LocalProvider):
    """Lists one refund a page, and notes after which it was asked to go on."""

    def __init__(self, url: str, pages_max: int = 1_000) -> None:
        """It says nothing any more after so many pages."""
        super().__init__(url, API_KEY)
        self.asked: list[str] = []
        self._pages_max = pages_max

    async def list_refunds(self, since: datetime, after: str) -> RefundPage | None:
        self.asked.append(after)
        if len(self.asked) > self._pages_max:
            await asyncio.sleep(3_600)
        page = await super().list_refunds(since, after)
        if page is None or len(page.refunds) <= 1:
            return page
        return RefundPage(page.refunds[:1], page.refunds[0].refund)


class Forbidding(LocalProvider):
    """A provider of another name, whose key may not list refunds."""

    name = "forbidding"

    async def list_refunds(self, since: datetime, after: str) -> RefundPage | None:
        raise ForbiddenError("the provider answered 403: check the API key")


class Silent(LocalProvider):
    """A provider whose list of refunds is not there."""

    async def list_refunds(self, since: datetime, after: str) -> RefundPage | None:
        raise NoAnswerError("ClientOSError")


@pytest.fixture
async def session(ledger_url: str) -> AsyncIterator[Session]:
    made = Session(ledger_url)
    yield made
    await made.close()


async def started(url: str, provider: Paged | str, passes: PassPolicy, slot: str = "0", **options: Any) -> Payments:
    made = Payments(url, provider, replace(QUICK, passes=passes), slot, **options)
    await made.start()
    return made


async def asked(session: Session, query: Query) -> None:
    """Once there is a row, everything is listed."""
    await until("a row", lambda: passes(query) != [])
    async with session.connection() as connection:
        assert await ledger.ask_for_passes(connection, datetime.now(UTC) - timedelta(days=1)) == ["local"]


async def dashboard(shop: Shop, provider: Simulator, count: int) -> list[str]:
    """The provider's ids of refunds of as many orders, of which nobody tells; the latest first."""
    names = []
    for number in range(count):
        await captured(shop, f"A-{number}")
        names.append(await refund_in_dashboard(provider, f"A-{number}", 500))
    return names[::-1]


def passes(query: Query) -> list[tuple[Any, ...]]:
    return query("SELECT provider, listed_until, after, tries FROM refund_passes ORDER BY provider")


async def until_passed(query: Query, times: int = 2) -> None:
    """Wait for so many passes to end. The first may have begun before what it should list; the second has not."""
    for _ in range(times):
        [(_, before, *_)] = passes(query)
        await until("passed", lambda before=before: passes(query)[0][1] > before)  # type: ignore[misc]


def checks_so_far(query: Query) -> int:
    """How many checks were ever asked for."""
    [(count,)] = query("SELECT count(*) FROM refund_checks")
    [(last, is_called)] = query("SELECT last_value, is_called FROM refund_checks_asked_seq")
    assert count == 0, "not before they are over"
    return int(last) if is_called else 0


async def test_a_refund_that_nobody_tells_of_is_found_and_credited_once(
    ledger_url: str, shop: Shop, provider: Simulator
) -> None:
    """Passes overlap, so each of them lists it again; what is in our books is not compared again."""
    payments = await started(ledger_url, provider.url, OFTEN)
    await captured(shop)
    await shop.command("A", "refund", refund_id="R-1", amount="1.00")
    name = await refund_in_dashboard(provider, amount_minor=500)
    expected = [("R-1", "done", 100), (f"provider.{name}", "done", 500)]
    await until("found", lambda: sorted(refunds(shop.query)) == expected)
    await until_checked(shop.query)
    checks = checks_so_far(shop.query)
    await until_passed(shop.query, 3)
    await payments.stop()
    assert checks_so_far(shop.query) == checks
    assert sorted(credited(shop)) == [("R-1", 100), (f"provider.{name}", 500)]


async def test_a_pass_whose_worker_dies_goes_on_from_the_last_page_that_was_written(
    ledger_url: str, shop: Shop, provider: Simulator, session: Session
) -> None:
    """It dies while it asks for the third page of four."""
    before = await started(ledger_url, provider.url, ASKED)
    names = await dashboard(shop, provider, 4)
    await before.stop()
    dying = Paged(provider.url, pages_max=2)
    payments = await started(ledger_url, dying, replace(ASKED, lease_seconds=60.0))
    await asked(session, shop.query)
    await until("at the third page", lambda: len(dying.asked) == 3)
    await payments.crash()
    assert dying.asked == ["", names[0], names[1]]
    # Its lease runs out.
    shop.query("UPDATE refund_passes SET next_at = now()")
    listing = Paged(provider.url)
    after = await started(ledger_url, listing, ASKED, slot="1")
    await until("all found", lambda: len(credited(shop)) == 4)
    await until("over", lambda: passes(shop.query)[0][2] == "")
    await after.stop()
    assert listing.asked == [names[1], names[2]]
    assert sorted(refunds(shop.query)) == sorted((f"provider.{name}", "done", 500) for name in names)


async def test_workers_share_a_pass(ledger_url: str, shop: Shop, provider: Simulator, session: Session) -> None:
    """Each page is one's: none is asked for twice."""
    before = await started(ledger_url, provider.url, ASKED)
    names = await dashboard(shop, provider, 5)
    await before.stop()
    listing = [Paged(provider.url) for _ in range(3)]
    workers = [await started(ledger_url, each, ASKED, str(slot)) for slot, each in enumerate(listing)]
    await asked(session, shop.query)
    await until("all found", lambda: len(credited(shop)) == 5)
    for each in workers:
        await each.stop()
    assert sorted(after for each in listing for after in each.asked) == sorted(["", *names[:4]])
    assert sorted(refunds(shop.query)) == sorted((f"provider.{name}", "done", 500) for name in names)


async def test_a_pass_waits_for_a_provider_that_does_not_answer(
    ledger_url: str, shop: Shop, provider: Simulator, session: Session
) -> None:
    payments = await started(ledger_url, provider.url, ASKED)
    [name] = await dashboard(shop, provider, 1)
    provider.kill()
    await asked(session, shop.query)
    await until("tried again", lambda: passes(shop.query)[0][3] >= 2)
    provider.start()
    await until("found", lambda: refunds(shop.query) == [(f"provider.{name}", "done", 500)])
    await until("over", lambda: passes(shop.query)[0][3] == 0)
    await payments.stop()


async def test_a_refund_at_the_former_provider_is_found_though_the_new_one_lists_nothing(
    ledger_url: str, shop: Shop, provider: Simulator
) -> None:
    """Payments go on, too: the worker does not end for want of a permission that they don't need."""
    before = await started(ledger_url, provider.url, ASKED)
    [name] = await dashboard(shop, provider, 1)
    await before.stop()
    former = LocalProvider(provider.url, API_KEY)
    payments = await started(ledger_url, Forbidding(provider.url, API_KEY), OFTEN, former=former)  # type: ignore[arg-type]
    await until("found", lambda: refunds(shop.query) == [(f"provider.{name}", "done", 500)])
    await until("tried again", lambda: passes(shop.query)[0][0] == "forbidding" and passes(shop.query)[0][3] >= 2)
    await captured(shop, "B")
    await payments.stop()


async def test_a_list_that_is_not_there_keeps_no_payment_waiting(
    ledger_url: str, shop: Shop, provider: Simulator
) -> None:
    """Its failures do not open the breaker."""
    policy = replace(QUICK, passes=OFTEN, breaker_failures=1, breaker_seconds=3_600.0)
    payments = Payments(ledger_url, Silent(provider.url, API_KEY), policy)
    await payments.start()
    await until("tried again", lambda: [tries for *_, tries in passes(shop.query)] >= [2])
    await captured(shop)
    await payments.stop()


async def test_a_pass_begins_anew_where_the_provider_does_not_know_its_place(
    ledger_url: str, shop: Shop, provider: Simulator, session: Session
) -> None:
    payments = await started(ledger_url, provider.url, ASKED)
    [name] = await dashboard(shop, provider, 1)
    shop.query("UPDATE refund_passes SET after = 're_gone', next_at = now()")
    await until("found", lambda: refunds(shop.query) == [(f"provider.{name}", "done", 500)])
    await payments.stop()


async def test_a_refund_of_an_order_that_does_not_exist_stops_nothing(
    ledger_url: str, shop: Shop, provider: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    """Two deployments share the provider's account."""
    payments = await started(ledger_url, provider.url, OFTEN)
    [ours, theirs] = await dashboard(shop, provider, 2)
    await until("both found", lambda: len(credited(shop)) == 2)
    await payments.stop()
    for table in ("refund_checks", "refunds", "payment_attempts", "order_lines", "orders"):
        shop.query(f"DELETE FROM {table} WHERE order_id = 'A-0'")
    shop.query("UPDATE refund_passes SET next_at = now()")
    payments = await started(ledger_url, provider.url, OFTEN)
    await until_passed(shop.query)
    await payments.stop()
    assert "local has refunds of 1 orders that do not exist here, such as demo/A-0" in caplog.text
    assert refunds(shop.query) == [(f"provider.{ours}", "done", 500)], theirs


async def test_only_the_last_turn_may_write_and_only_once(session: Session, query: Query) -> None:
    """A worker that was stopped for longer than its lease would take the pass back to an earlier page."""
    async with session.connection() as connection:
        await ledger.add_passes(connection, ["local"], 60.0, 60.0)
        assert await ledger.take_pass(connection, "local", 60.0) is None
        await ledger.ask_for_passes(connection, datetime.now(UTC))
        late = await ledger.take_pass(connection, "local", 0.0)
        turn = await ledger.take_pass(connection, "local", 60.0)
        assert late is not None
        assert turn is not None
        assert await ledger.take_pass(connection, "local", 60.0) is None
        assert not await ledger.move_pass(connection, late, None, 0.0)
        await ledger.retry_pass(connection, late, 0.0)
        assert await ledger.take_pass(connection, "local", 60.0) is None
        assert await ledger.move_pass(connection, turn, "re_1", 60.0)
        # Its answer was lost.
        assert not await ledger.move_pass(connection, turn, "re_1", 60.0)
    assert [(after, tries) for _, _, after, tries in passes(query)] == [("re_1", 0)]


async def test_a_pass_that_is_asked_for_begins_anew_and_further_back(session: Session, query: Query) -> None:
    async with session.connection() as connection:
        await ledger.add_passes(connection, ["local"], 60.0, 0.0)
        under_way = await ledger.take_pass(connection, "local", 60.0)
        assert under_way is not None
        assert await ledger.move_pass(connection, under_way, "re_1", 60.0)
        since = datetime.now(UTC) - timedelta(days=3)
        assert await ledger.ask_for_passes(connection, since) == ["local"]
        turn = await ledger.take_pass(connection, "local", 60.0)
        assert turn is not None
        assert (turn.listed_until, turn.after) == (since, "")
        [(began_at,)] = query("SELECT began_at FROM refund_passes")
        assert await ledger.move_pass(connection, turn, None, 60.0)
        # Not so far back as the last pass.
        await ledger.ask_for_passes(connection, datetime.now(UTC) + timedelta(days=1))
    assert [each[1] for each in passes(query)] == [began_at]


async def test_what_is_made_during_a_pass_is_left_to_the_next(session: Session, query: Query) -> None:
    """It may be above the first page: the next pass lists from when this one began, not from when it ended."""
    async with session.connection() as connection:
        await ledger.add_passes(connection, ["local"], 60.0, 0.0)
        turn = await ledger.take_pass(connection, "local", 60.0)
        [(began_at,)] = query("SELECT began_at FROM refund_passes")
        assert turn is not None
        assert await ledger.move_pass(connection, turn, "re_1", 0.0)
        turn = await ledger.take_pass(connection, "local", 60.0)
        assert turn is not None
        assert await ledger.move_pass(connection, turn, None, 60.0)
    assert [each[1] for each in passes(query)] == [began_at]


async def test_a_shorter_interval_is_in_force_at_once(session: Session, query: Query) -> None:
    async with session.connection() as connection:
        for every in (3_600.0, 86_400.0):
            await ledger.add_passes(connection, ["local"], 60.0, every)
            assert query(
                "SELECT next_at > now() + interval '59 min', next_at < now() + interval '1 h' FROM refund_passes"
            ) == [(True, True)]
        await ledger.add_passes(connection, ["local"], 60.0, 0.0)
        assert await ledger.take_pass(connection, "local", 60.0) is not None


async def test_the_local_provider_lists_a_hundred_refunds_a_page_the_latest_first(
    ledger_url: str, shop: Shop, provider: Simulator
) -> None:
    payments = await started(ledger_url, provider.url, ASKED)
    await captured(shop)
    names = [await refund_in_dashboard(provider, amount_minor=1) for _ in range(101)]
    adapter = payments.provider
    long_ago, later = datetime(2026, 1, 1, tzinfo=UTC), datetime.now(UTC) + timedelta(hours=1)
    first = await adapter.list_refunds(long_ago, "")
    assert first is not None
    assert [(each.refund, each.order, each.provider_key) for each in first.refunds] == [
        (name, ("demo", "A"), "") for name in names[:0:-1]
    ]
    assert first.after == names[1]
    last = await adapter.list_refunds(long_ago, names[1])
    assert last is not None
    assert ([each.refund for each in last.refunds], last.after) == ([names[0]], None)
    assert await adapter.list_refunds(later, "") == RefundPage([], None)
    assert await adapter.list_refunds(long_ago, "re_unknown") is None
    await payments.stop()
