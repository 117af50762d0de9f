"""Refunds made in the provider's dashboard: found, credited once, and never beyond what was captured."""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import aiohttp
import psycopg
import pytest

from domain.order import OrderIdentity
from domain.payment import PaymentIdentity, ProviderRefund
from providers.local import LocalProvider
from schemas import catalog
from sinks.postgres.positions import read_positions
from sinks.postgres.refund_checks import Checked, insert_checks, take_checks
from sinks.postgres.session import Session
from streams.found_refunds import take_up_refunds
from tests.integration.payments_world import (
    API_KEY,
    NOTICES,
    NOW,
    Payments,
    Query,
    Simulator,
    add_order,
    noticed,
    outcomes,
    payments,
    provider,
)
from tests.integration.shop import Shop, checkout_body, shop
from tests.integration.test_invoices_work import TOPIC, Agent, Sent

__all__ = ["payments", "provider", "shop"]

#: Two pieces at 10.00, and 20% VAT.
GROSS = 2400
FOUND = ("succeeded", "made-at-provider")
REFUND_NOTICE = "payment.refund"


async def until(what: str, holds: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"never {what}"
        await asyncio.sleep(0.02)


async def captured(shop: Shop, order_id: str = "A") -> None:
    """An order that is shipped and paid for."""
    shop.now = datetime.now(UTC)
    shop.query("INSERT INTO stock (seller_id, sku, on_hand) VALUES ('demo', 'S-1', 10) ON CONFLICT DO NOTHING")
    await shop.checkout(checkout_body(order_id, ("S-1", 2)))
    await until("confirmed", lambda: shop.state(order_id) == "CONFIRMED")
    await shop.command(order_id, "ship")
    await until("captured", lambda: outcomes(shop.query).get((order_id, "capture")) == ("succeeded", ""))


async def refund_in_dashboard(provider: Simulator, order_id: str = "A", amount_minor: int | None = None) -> str:
    """The provider's id of the refund."""
    body = {"order_id": order_id, "amount_minor": amount_minor}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{provider.url}/dashboard/refunds", json=body) as response,
    ):
        answer = await response.json()
        assert response.status == 200, answer
        return str(answer["id"])


async def until_checked(query: Query) -> None:
    await until("checked", lambda: query("SELECT 1 FROM refund_checks") == [])


def refunds(query: Query) -> list[tuple[Any, ...]]:
    return query("SELECT refund_id, state, amount_minor FROM refunds ORDER BY requested_at, refund_id")


def uncredited(query: Query) -> list[tuple[Any, ...]]:
    return query("SELECT provider_refund, amount_minor, currency, reason FROM uncredited_refunds ORDER BY 1")


def credited(shop: Shop) -> list[tuple[str, int]]:
    """Credit notes that were asked for."""
    return [
        (each["refund_id"], each["totals"]["gross_minor"])
        for name, each in shop.events(catalog.INVOICE_REQUESTS)
        if name == "CreditNoteRequest"
    ]


async def test_a_refund_in_the_dashboard_is_credited_and_the_rest_stays_refundable(
    shop: Shop, payments: Payments, provider: Simulator
) -> None:
    await captured(shop)
    name = await refund_in_dashboard(provider, amount_minor=500)
    refund_id = f"provider.{name}"
    await payments.run(noticed("A", REFUND_NOTICE), topic=NOTICES)
    await until_checked(shop.query)
    assert refunds(shop.query) == [(refund_id, "done", 500)]
    assert credited(shop) == [(refund_id, 500)]
    assert outcomes(shop.query)["A", f"refund:{refund_id}"] == FOUND
    [event] = [each for _, each in shop.events(catalog.PAYMENT_EVENTS) if each["request_id"] == f"refund:{refund_id}"]
    assert (event["action"], event["amount_minor"], event["reference"]) == ("refund", 500, name)
    assert shop.state("A") == "SHIPPED"
    assert (await shop.command("A", "refund", refund_id="R-1"))["outcome"] == "applied"
    await until("refunded", lambda: shop.state("A") == "REFUNDED")
    assert credited(shop) == [(refund_id, 500), ("R-1", GROSS - 500)]
    [charge] = await provider.ledger()
    assert charge["refunded_minor"] == GROSS


async def test_its_credit_note_has_a_number(shop: Shop, payments: Payments, provider: Simulator) -> None:
    await captured(shop)
    refund_id = f"provider.{await refund_in_dashboard(provider, amount_minor=500)}"
    await payments.run(noticed("A", REFUND_NOTICE), topic=NOTICES)
    await until_checked(shop.query)
    agent = Agent(shop.url)
    async with agent.session.connection() as connection:
        await read_positions(connection, "invoices", TOPIC, [0, 1, 2, 3])
    rows = shop.query("SELECT payload FROM journal WHERE topic = %s ORDER BY seq", catalog.INVOICE_REQUESTS.name)
    await agent.run(*(Sent(offset, payload, b"A") for offset, (payload,) in enumerate(rows)))
    await agent.session.close()
    assert shop.query("SELECT refund_id, number, gross_minor FROM invoices WHERE kind = 'credit_note'") == [
        (refund_id, 1, 500)
    ]


async def test_a_refund_told_of_thrice_and_found_by_two_workers_is_one(
    ledger_url: str, shop: Shop, payments: Payments, provider: Simulator
) -> None:
    await captured(shop)
    refund_id = f"provider.{await refund_in_dashboard(provider, amount_minor=500)}"
    other = Payments(ledger_url, provider.url, slot="1")
    await other.start()
    for _ in range(3):
        await payments.run(noticed("A", REFUND_NOTICE), noticed("A", REFUND_NOTICE), topic=NOTICES)
        await until_checked(shop.query)
    await other.stop()
    assert refunds(shop.query) == [(refund_id, "done", 500)]
    assert credited(shop) == [(refund_id, 500)]


async def test_a_check_whose_worker_dies_is_made_by_the_next(
    ledger_url: str, shop: Shop, payments: Payments, provider: Simulator
) -> None:
    """It dies while the provider is asked: the notice's position has moved on by then."""
    await captured(shop)
    refund_id = f"provider.{await refund_in_dashboard(provider, amount_minor=500)}"
    await provider.behave(delay_ms=500)
    await payments.run(noticed("A", REFUND_NOTICE), topic=NOTICES)
    await until("taken up", lambda: shop.query("SELECT 1 FROM refund_checks WHERE tries = 1") != [])
    await payments.crash()
    assert refunds(shop.query) == []
    await provider.behave(delay_ms=0)
    after = Payments(ledger_url, provider.url, slot="1")
    await after.start()
    await until_checked(shop.query)
    await after.stop()
    assert refunds(shop.query) == [(refund_id, "done", 500)]


async def test_a_refund_in_full_ends_the_order_and_takes_back_its_lines(
    shop: Shop, payments: Payments, provider: Simulator
) -> None:
    await captured(shop)
    await refund_in_dashboard(provider)
    await payments.run(noticed("A", REFUND_NOTICE), topic=NOTICES)
    await until("refunded", lambda: shop.state("A") == "REFUNDED")
    assert shop.query("SELECT refunded::int FROM order_lines") == [(2,)]
    assert [amount for _, amount in credited(shop)] == [GROSS]


async def test_several_refunds_in_the_dashboard_add_up_to_the_invoice(
    shop: Shop, payments: Payments, provider: Simulator
) -> None:
    await captured(shop)
    for amount in (333, 777, None):
        await refund_in_dashboard(provider, amount_minor=amount)
    await payments.run(noticed("A", REFUND_NOTICE), topic=NOTICES)
    await until("refunded", lambda: shop.state("A") == "REFUNDED")
    assert [amount for _, amount in credited(shop)] == [333, 777, GROSS - 1110]


async def test_a_refund_of_ours_that_the_provider_refuses_finds_the_one_that_nobody_told_of(
    shop: Shop, payments: Payments, provider: Simulator
) -> None:
    """A lost notice: what is left is refundable once it is found."""
    await captured(shop)
    refund_id = f"provider.{await refund_in_dashboard(provider, amount_minor=500)}"
    await shop.command("A", "refund", refund_id="R-1")
    await until("found", lambda: (refund_id, "done", 500) in refunds(shop.query))
    assert set(refunds(shop.query)) == {("R-1", "failed", GROSS), (refund_id, "done", 500)}
    await shop.command("A", "refund", refund_id="R-2")
    await until("refunded", lambda: shop.state("A") == "REFUNDED")
    assert credited(shop) == [(refund_id, 500), ("R-2", GROSS - 500)]


@pytest.mark.parametrize("ours", [GROSS, 1000])
async def test_a_refund_in_the_dashboard_beside_one_of_ours_never_exceeds_what_was_captured(
    ledger_url: str, shop: Shop, provider: Simulator, ours: int
) -> None:
    """Ours is waited for, because its amount was computed without the other; it fails if less is left."""
    before = Payments(ledger_url, provider.url)
    await before.start()
    await captured(shop)
    await before.stop()
    await shop.command("A", "refund", refund_id="R-1", amount=f"{ours / 100:.2f}")
    name = await refund_in_dashboard(provider, amount_minor=500)
    session = Session(ledger_url)
    async with session.connection() as connection:
        await insert_checks(connection, [(OrderIdentity("demo", "A"), True)])
        [check] = await take_checks(connection, 1, 60.0, "local")
    async with session.pipelined_transaction() as connection:
        await take_up_refunds(connection, [Checked(check, (ProviderRefund(name, 500, "EUR"),), 0.0)], NOW)
    await session.close()
    assert refunds(shop.query) == [("R-1", "requested", ours)]
    after = Payments(ledger_url, provider.url)
    await after.start()
    await until_checked(shop.query)
    await after.stop()
    state = "failed" if ours == GROSS else "done"
    assert set(refunds(shop.query)) == {("R-1", state, ours), (f"provider.{name}", "done", 500)}
    [charge] = await provider.ledger()
    assert charge["refunded_minor"] == sum(amount for _, amount in credited(shop)) <= charge["captured_minor"]


async def test_our_own_refunds_are_not_taken_for_the_dashboards(
    shop: Shop, payments: Payments, provider: Simulator
) -> None:
    await captured(shop)
    await shop.command("A", "refund", refund_id="R-1", amount="5.00")
    await until("done", lambda: refunds(shop.query) == [("R-1", "done", 500)])
    await payments.run(noticed("A", REFUND_NOTICE), topic=NOTICES)
    await until_checked(shop.query)
    assert (credited(shop), uncredited(shop.query)) == ([("R-1", 500)], [])


async def test_a_check_that_is_asked_for_again_meanwhile_is_not_over(ledger_url: str, query: Query) -> None:
    """A refund may have been made since the provider's list was read."""
    add_order(ledger_url, "A")
    order = OrderIdentity("demo", "A")
    session = Session(ledger_url)
    for left in (1, 0):
        async with session.connection() as connection:
            assert await insert_checks(connection, [(order, True)]) == {order}
            [check] = await take_checks(connection, 10, 60.0, "local")
            assert await take_checks(connection, 10, 60.0, "local") == []
            if left:
                await insert_checks(connection, [(order, True)])
        async with session.pipelined_transaction() as connection:
            await take_up_refunds(connection, [Checked(check, (), 0.0)], NOW)
        assert len(query("SELECT 1 FROM refund_checks")) == left
    await session.close()


class Odd(LocalProvider):
    """A provider with refunds that the local one would not make."""

    others: tuple[ProviderRefund, ...] = ()

    async def refunds(self, payment: PaymentIdentity) -> list[ProviderRefund]:
        return [*await super().refunds(payment), *self.others]


@pytest.mark.parametrize(
    ("refund", "reason"),
    [
        (ProviderRefund("re_1", GROSS + 1, "EUR"), "24.00 is left, not 24.01"),
        (ProviderRefund("re_1", 0, "EUR"), "must be above zero, with no more decimals than the currency has"),
        (ProviderRefund("re_1", 500, "USD"), "the order is in EUR, not USD"),
        (
            ProviderRefund("re_1", 500, "EUR", "0" * 32),
            "gapless has asked for it, under a key that this ledger does not have: was it restored?",
        ),
    ],
)
async def test_what_can_not_be_credited_is_recorded_with_the_reason(
    ledger_url: str, shop: Shop, provider: Simulator, refund: ProviderRefund, reason: str
) -> None:
    odd = Odd(provider.url, API_KEY)
    odd.others = (refund,)
    payments = Payments(ledger_url, odd)
    await payments.start()
    await captured(shop)
    for _ in range(2):
        await payments.run(noticed("A", REFUND_NOTICE), topic=NOTICES)
        await until_checked(shop.query)
        assert uncredited(shop.query) == [("re_1", refund.amount_minor, refund.currency, reason)]
    assert (refunds(shop.query), credited(shop)) == ([], [])
    # The provider's list is right again: nothing is left to look at.
    odd.others = ()
    await payments.run(noticed("A", REFUND_NOTICE), topic=NOTICES)
    await until_checked(shop.query)
    assert uncredited(shop.query) == []
    await payments.stop()


async def test_a_refund_that_the_provider_is_still_at_is_waited_for(
    ledger_url: str, shop: Shop, provider: Simulator
) -> None:
    odd = Odd(provider.url, API_KEY)
    odd.others = (ProviderRefund("re_1", 500, "EUR", is_pending=True),)
    payments = Payments(ledger_url, odd)
    await payments.start()
    await captured(shop)
    await payments.run(noticed("A", REFUND_NOTICE), topic=NOTICES)
    await until("asked again", lambda: shop.query("SELECT 1 FROM refund_checks WHERE tries >= 3") != [])
    assert refunds(shop.query) == []
    odd.others = (ProviderRefund("re_1", 500, "EUR"),)
    await until_checked(shop.query)
    await payments.stop()
    assert refunds(shop.query) == [("provider.re_1", "done", 500)]


async def test_an_order_that_is_not_shipped_has_nothing_to_credit(
    shop: Shop, payments: Payments, provider: Simulator
) -> None:
    """Somebody has captured and refunded in the dashboard."""
    shop.now = datetime.now(UTC)
    shop.stock("S-1", 10)
    await shop.checkout(checkout_body("A", ("S-1", 2)))
    await until("confirmed", lambda: shop.state("A") == "CONFIRMED")
    [charge] = await provider.ledger()
    headers = {"Authorization": f"Bearer {API_KEY}"}
    async with aiohttp.ClientSession(headers=headers) as session:
        url = f"{provider.url}/payments/{charge['key']}/capture"
        async with session.post(url, json={"key": "by-hand", "amount_minor": GROSS}) as response:
            assert response.status == 200
    name = await refund_in_dashboard(provider, amount_minor=500)
    await payments.run(noticed("A", REFUND_NOTICE), topic=NOTICES)
    await until_checked(shop.query)
    assert uncredited(shop.query) == [(name, 500, "EUR", "the order is CONFIRMED: it has nothing to refund")]
    assert refunds(shop.query) == []


async def test_a_refund_of_an_unknown_order_is_a_dead_letter_and_stops_nothing(
    shop: Shop, payments: Payments, provider: Simulator
) -> None:
    await captured(shop)
    await refund_in_dashboard(provider, amount_minor=500)
    await payments.run(noticed("nobody's", REFUND_NOTICE), noticed("A", REFUND_NOTICE), topic=NOTICES)
    await until_checked(shop.query)
    [(_, letter)] = shop.events(catalog.DEAD_LETTERS)
    assert letter["error"] == "foreign: the provider tells of a refund of an order that does not exist here"
    assert len(refunds(shop.query)) == 1


@pytest.mark.parametrize(("kind", "found"), [(None, 1), ("payment.capture", 0), ("charge.refunded", 1)])
async def test_only_notices_that_may_tell_of_a_refund_have_the_provider_asked(
    shop: Shop, payments: Payments, provider: Simulator, kind: str | None, found: int
) -> None:
    """An older gateway does not note what a notice is of."""
    await captured(shop)
    await refund_in_dashboard(provider, amount_minor=500)
    await payments.run(noticed("A", kind), topic=NOTICES)
    assert len(shop.query("SELECT 1 FROM refund_checks")) + len(refunds(shop.query)) == found


async def test_a_storefront_can_not_take_the_id_of_a_refund_that_is_found_later(
    shop: Shop, payments: Payments, provider: Simulator
) -> None:
    await captured(shop)
    answer = await shop.command("A", "refund", refund_id="provider.re_1")
    assert (answer["outcome"], answer["reason"]) == ("refused", "refund-conflict")


async def test_checks_wait_for_a_provider_that_does_not_answer(
    shop: Shop, payments: Payments, provider: Simulator
) -> None:
    await captured(shop)
    refund_id = f"provider.{await refund_in_dashboard(provider, amount_minor=500)}"
    provider.kill()
    await payments.run(noticed("A", REFUND_NOTICE), topic=NOTICES)
    await until("tried again", lambda: shop.query("SELECT 1 FROM refund_checks WHERE tries >= 2") != [])
    provider.start()
    await until_checked(shop.query)
    assert refunds(shop.query) == [(refund_id, "done", 500)]


async def test_a_notice_waits_for_its_order_before_it_holds_an_attempt(
    ledger_url: str, payments: Payments, query: Query
) -> None:
    """Who finishes the attempt has the order first: each would wait for the other."""
    add_order(ledger_url, "A")
    query(
        "INSERT INTO payment_attempts (seller_id, order_id, request_id, partition, action, amount_minor, currency,"
        " provider_key, tries, next_try_at, created_at) VALUES ('demo', 'A', 'refund:R-1', 0, 'refund', 1, 'EUR', 'k',"
        " 1, now() + interval '1 hour', now())"
    )
    async with await psycopg.AsyncConnection.connect(ledger_url) as finishing:
        await finishing.execute("SELECT FROM orders WHERE order_id = 'A' FOR UPDATE")
        noting = asyncio.create_task(payments.run(noticed("A", REFUND_NOTICE), topic=NOTICES))
        blocked = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        await until("waits for the order", lambda: query(blocked) != [])
        await finishing.execute("SELECT FROM payment_attempts WHERE order_id = 'A' FOR UPDATE NOWAIT")
        # As where our own refund is refused.
        await finishing.execute("SET LOCAL lock_timeout = '1s'")
        await insert_checks(finishing, [(OrderIdentity("demo", "A"), True)])
    await noting
    await until_checked(query)
