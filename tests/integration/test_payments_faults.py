"""Faults of the provider and of ourselves: at most one charge an order, and none forgotten."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from domain.breaker import Gate
from domain.order import OrderIdentity
from domain.payment import Action, Attempt, AttemptState, Finish, Known, ProviderAnswer, provider_key
from providers.local import LocalProvider
from schemas import catalog
from sinks.postgres import payments as ledger
from sinks.postgres.payments import Finished, new_attempt
from sinks.postgres.session import Session
from streams.payment_calls import Caller
from streams.payment_rows import PaymentRows
from tests.integration.conftest import lose_an_answer
from tests.integration.payments_world import (
    API_KEY,
    QUICK,
    Payments,
    Query,
    add_order,
    add_orders,
    outcomes,
    placed,
    requested,
    simulator,
    until_finished,
)

SEED = int(os.environ.get("TEST_SEED", "1"))
OK = ("succeeded", "")
GAVE_UP = ("failed", "gave-up")
EACH = 200
#: After the hold's end.
AT_ONCE = timedelta(0)


def check_charges(charges: list[dict[str, Any]], orders: int) -> None:
    """One charge an order, and nothing was sent again without asking."""
    assert len(charges) == len({charge["order_id"] for charge in charges}) == orders
    assert {charge["acted"] for charge in charges} == {1}
    assert sum(charge["blind"] for charge in charges) == 0


@pytest.mark.parametrize(
    "token", ["tok_timeout", "tok_timeout_charged", "tok_5xx", "tok_cut", "tok_slow", "tok_duplicate"]
)
async def test_each_fault_ends_in_one_charge_an_order(
    token: str, tmp_path: Path, ledger_url: str, query: Query
) -> None:
    with simulator(tmp_path / "provider") as provider:
        await provider.behave(slow_s=0.5)
        payments = Payments(ledger_url, provider.url)
        await payments.start()
        ids = [f"O-{number}" for number in range(EACH)]
        add_orders(ledger_url, [(each, token) for each in ids])
        await payments.run(*[placed(each) for each in ids])
        found = await until_finished(query, EACH)
        assert set(found.values()) == {OK}
        check_charges(await provider.ledger(), EACH)
        await payments.stop()


async def test_a_seed_of_faults_through_the_whole_life_of_orders(tmp_path: Path, ledger_url: str, query: Query) -> None:
    print(f"TEST_SEED={SEED}")
    with simulator(tmp_path / "provider", "--seed", str(SEED), "--faults", "0.3") as provider:
        await provider.behave(slow_s=0.3)
        payments = Payments(ledger_url, provider.url)
        await payments.start()
        ids = [f"O-{number}" for number in range(EACH)]
        add_orders(ledger_url, [(each, "tok_ok") for each in ids])
        await payments.run(*[placed(each) for each in ids])
        await until_finished(query, EACH)
        half = ids[: EACH // 2]
        await payments.run(
            *[requested(each, "capture") for each in half],
            *[requested(each, "void") for each in ids[EACH // 2 :]],
            *[requested(each, "refund:R-1", 98) for each in half],
            *[requested(each, "refund:R-2", 700) for each in half],
        )
        found = await until_finished(query, EACH * 3)
        await payments.stop()
        assert set(found.values()) == {OK}
        charges = await provider.ledger()
        check_charges(charges, EACH)
        sums = Counter((c["captured_minor"], c["refunded_minor"], c["voided_minor"]) for c in charges)
        assert sums == {(4798, 798, 0): EACH // 2, (0, 0, 4798): EACH // 2}


async def test_a_provider_that_is_killed_and_back_has_lost_nothing_and_charges_once(
    tmp_path: Path, ledger_url: str, query: Query
) -> None:
    with simulator(tmp_path / "provider", "--delay-ms", "30") as provider:
        payments = Payments(ledger_url, provider.url)
        await payments.start()
        ids = [f"O-{number}" for number in range(400)]
        add_orders(ledger_url, [(each, "tok_ok") for each in ids])
        for first in range(0, 400, 50):
            await payments.run(*[placed(each) for each in ids[first : first + 50]])
            if first in (100, 200):
                await asyncio.sleep(0.04)
                provider.kill()
                await asyncio.sleep(0.3)
                provider.start()
        found = await until_finished(query, 400)
        await payments.stop()
        assert set(found.values()) == {OK}
        charges = await provider.ledger()
        assert len(charges) == 400
        assert {charge["acted"] for charge in charges} == {1}


async def test_the_breaker_spares_a_provider_that_is_away_and_nothing_is_lost(
    tmp_path: Path, ledger_url: str, query: Query
) -> None:
    with simulator(tmp_path / "provider") as provider:
        policy = replace(QUICK, breaker_failures=5, breaker_seconds=6.0, in_flight_max=10)
        counted = Counting(provider.url)
        payments = Payments(ledger_url, counted, policy)
        await payments.start()
        provider.kill()
        ids = [f"O-{number}" for number in range(100)]
        add_orders(ledger_url, [(each, "tok_ok") for each in ids])
        await payments.run(*[placed(each) for each in ids[:50]])
        await until_open(payments)
        before = counted.calls
        # Five in a row, and those that were under way with them.
        assert 5 <= before <= 15
        await payments.run(*[placed(each) for each in ids[50:]])
        await asyncio.sleep(0.5)
        assert counted.calls == before
        assert outcomes(query) == {}
        async with asyncio.timeout(60):
            while counted.calls == before:  # noqa: ASYNC110 - it tells nobody.
                await asyncio.sleep(0.02)
        # A few probes, one after the other.
        assert before < counted.calls <= before + 3
        provider.start()
        found = await until_finished(query, 100)
        await payments.stop()
        assert set(found.values()) == {OK}
        check_charges(await provider.ledger(), 100)


async def test_failures_of_the_providers_own_keep_nobody_else_waiting(
    tmp_path: Path, ledger_url: str, query: Query
) -> None:
    """A 500 is an answer: the breaker, which would stay open for a minute here, is for those that don't answer."""
    with simulator(tmp_path / "provider") as provider:
        payments = Payments(ledger_url, provider.url, replace(QUICK, breaker_failures=5, breaker_seconds=60))
        await payments.start()
        add_orders(ledger_url, [(f"F-{number}", "tok_5xx") for number in range(50)])
        await payments.run(*[placed(f"F-{number}") for number in range(50)])
        found = await until_finished(query, 50)
        assert set(found.values()) == {OK}
        await payments.stop()


async def test_an_authorisation_that_never_gets_an_answer_is_settled_and_given_up(
    tmp_path: Path, ledger_url: str, query: Query
) -> None:
    with simulator(tmp_path / "provider") as provider:
        payments = Payments(ledger_url, provider.url, give_up_after=AT_ONCE)
        await payments.start()
        add_order(ledger_url, "A", "tok_timeout_always")
        await payments.run(placed("A", hold_seconds=1.5))
        assert await until_finished(query, 1) == {("A", "authorize"): GAVE_UP}
        # Not before its time.
        assert query("SELECT finished_at >= give_up_at FROM payment_attempts") == [(True,)]
        await payments.stop()
        [payment] = await provider.ledger()
        assert (payment["status"], payment["acted"]) == ("voided", 0)


async def test_a_charge_that_arrives_after_it_was_given_up_finds_it_void(
    tmp_path: Path, ledger_url: str, query: Query
) -> None:
    with simulator(tmp_path / "provider") as provider:
        await provider.behave(late_s=6.0)
        payments = Payments(ledger_url, provider.url, give_up_after=AT_ONCE)
        await payments.start()
        add_order(ledger_url, "A", "tok_late")
        await payments.run(placed("A", hold_seconds=0.3))
        assert await until_finished(query, 1) == {("A", "authorize"): GAVE_UP}
        await asyncio.sleep(6.5)
        await payments.stop()
        [payment] = await provider.ledger()
        assert (payment["status"], payment["acted"], payment["sent"]) == ("voided", 0, 1)


async def test_an_authorisation_found_after_its_time_has_succeeded_late(
    tmp_path: Path, ledger_url: str, query: Query
) -> None:
    with simulator(tmp_path / "provider") as provider:
        payments = Payments(ledger_url, provider.url, give_up_after=AT_ONCE)
        await payments.start()
        add_order(ledger_url, "A", "tok_timeout_charged")
        await payments.run(placed("A", hold_seconds=0.2))
        assert await until_finished(query, 1) == {("A", "authorize"): OK}
        await payments.stop()
        check_charges(await provider.ledger(), 1)


async def test_what_was_never_called_is_given_up_without_the_provider(
    tmp_path: Path, ledger_url: str, query: Query
) -> None:
    payments = Payments(ledger_url, "http://127.0.0.1:9", give_up_after=AT_ONCE)
    await payments.start()
    add_order(ledger_url, "A")
    await payments.run(placed("A", hold_seconds=-1))
    assert await until_finished(query, 1) == {("A", "authorize"): GAVE_UP}
    await payments.stop()


async def test_what_nobody_called_for_is_given_up_while_the_breaker_is_open(ledger_url: str, query: Query) -> None:
    """More than a few of them would else stand before those that find the provider back."""
    policy = replace(QUICK, breaker_failures=1, breaker_seconds=60, in_flight_max=5)
    payments = Payments(ledger_url, "http://127.0.0.1:9", policy, give_up_after=AT_ONCE)
    await payments.start()
    ids = [f"O-{number}" for number in range(600)]
    add_orders(ledger_url, [(each, "tok_ok") for each in ids])
    await payments.run(placed(ids[0]))
    await until_open(payments)
    await payments.run(*[placed(each, hold_seconds=1) for each in ids[1:]])
    found = await until_finished(query, 599)
    await payments.stop()
    assert set(found.values()) == {GAVE_UP}
    assert (ids[0], "authorize") not in found


class Counting(LocalProvider):
    """Counts the calls, and can be told to stop dead: the worker's end, seen from its provider."""

    def __init__(self, url: str) -> None:
        super().__init__(url, API_KEY)
        self.calls = 0
        self.answered = 0
        self.asked = 0
        self.stops_before_call = False
        self.stops_after_call = False

    async def authorize(self, attempt: Attempt, token: str) -> ProviderAnswer:
        self.calls += 1
        if self.stops_before_call:
            await asyncio.sleep(60)
        answer = await super().authorize(attempt, token)
        self.answered += 1
        if self.stops_after_call:
            await asyncio.sleep(60)
        return answer

    async def ask(self, attempt: Attempt) -> Known:
        self.calls += 1
        self.asked += 1
        return await super().ask(attempt)


async def until_open(payments: Payments) -> None:
    """Wait until the breaker has opened and the calls that were under way have ended."""
    async with asyncio.timeout(60):
        while (  # noqa: ASYNC110 - it tells nobody.
            payments.caller._breaker.gate(time.monotonic()) is not Gate.OPEN or payments.caller._calls
        ):
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("moment", ["stops_before_call", "stops_after_call"])
async def test_a_worker_that_dies_at_the_call_is_followed_by_one_that_asks(
    moment: str, tmp_path: Path, ledger_url: str, query: Query
) -> None:
    with simulator(tmp_path / "provider") as provider:
        dying = Counting(provider.url)
        setattr(dying, moment, True)
        first = Payments(ledger_url, dying, replace(QUICK, timeout_seconds=30))
        await first.start()
        add_order(ledger_url, "A")
        await first.run(placed("A"))
        async with asyncio.timeout(60):
            while not (dying.calls if dying.stops_before_call else dying.answered):  # noqa: ASYNC110 - it tells nobody.
                await asyncio.sleep(0.01)
        await first.crash()
        assert outcomes(query) == {}
        following = Counting(provider.url)
        second = Payments(ledger_url, following)
        await second.start()
        assert await until_finished(query, 1) == {("A", "authorize"): OK}
        await second.stop()
        assert following.asked == 1
        check_charges(await provider.ledger(), 1)


async def test_what_a_dead_worker_had_taken_up_is_asked_for_by_the_next_in_its_slot_and_by_nobody_else(
    tmp_path: Path, ledger_url: str, query: Query
) -> None:
    """At once: its lease would last for a minute."""
    policy = replace(QUICK, timeout_seconds=30, lease_seconds=60)
    with simulator(tmp_path / "provider") as provider:
        dying = Counting(provider.url)
        dying.stops_after_call = True
        first = Payments(ledger_url, dying, policy, slot="0")
        await first.start()
        add_orders(ledger_url, [("A", "tok_ok"), ("B", "tok_ok")])
        await first.run(placed("A"), placed("B"))
        async with asyncio.timeout(60):
            while len(await provider.ledger()) < 2:  # noqa: ASYNC110 - it tells nobody.
                await asyncio.sleep(0.02)
        await first.crash()
        assert query("SELECT count(*) FROM payment_attempts WHERE next_try_at > now() + interval '30 s'") == [(2,)]
        other = Counting(provider.url)
        following = Counting(provider.url)
        workers = [Payments(ledger_url, other, policy, slot="1"), Payments(ledger_url, following, policy, slot="0")]
        await workers[0].start()
        await asyncio.sleep(5 * policy.poll_seconds)
        assert other.calls == 0
        await workers[1].start()
        assert set((await until_finished(query, 2)).values()) == {OK}
        for each in workers:
            await each.stop()
        assert other.asked + following.asked == 2
        check_charges(await provider.ledger(), 2)


async def test_a_worker_that_is_stopped_leaves_what_it_could_not_finish_to_others_at_once(
    tmp_path: Path, ledger_url: str, query: Query
) -> None:
    policy = replace(QUICK, timeout_seconds=30, lease_seconds=60, stop_seconds=0)
    with simulator(tmp_path / "provider") as provider:
        stopping = Counting(provider.url)
        stopping.stops_before_call = True
        first = Payments(ledger_url, stopping, policy, slot="0")
        await first.start()
        add_order(ledger_url, "A")
        await first.run(placed("A"))
        async with asyncio.timeout(60):
            while not stopping.calls:  # noqa: ASYNC110 - it tells nobody.
                await asyncio.sleep(0.02)
        await first.stop()
        second = Payments(ledger_url, provider.url, policy, slot="1")
        await second.start()
        assert await until_finished(query, 1) == {("A", "authorize"): OK}
        await second.stop()
        check_charges(await provider.ledger(), 1)


async def test_what_was_committed_without_an_answer_is_called_for_at_once(
    tmp_path: Path, ledger_url: str, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lease would last for a minute, and nobody else may call meanwhile."""
    with simulator(tmp_path / "provider") as provider:
        counting = Counting(provider.url)
        payments = Payments(ledger_url, counting, replace(QUICK, lease_seconds=60))
        await payments.start()
        lose_an_answer(monkeypatch, payments.worker)
        add_order(ledger_url, "A")
        await payments.run(placed("A"))
        assert await until_finished(query, 1) == {("A", "authorize"): OK}
        await payments.stop()
        assert (counting.calls, counting.asked) == (1, 0)
        check_charges(await provider.ledger(), 1)


async def test_a_worker_that_is_stopped_while_it_waits_for_the_ledger_lets_go_of_its_provider() -> None:
    """Before it has begun: nothing was asked for yet, and what is open must be closed all the same."""

    class Closing(LocalProvider):
        is_closed = False

        async def close(self) -> None:
            self.is_closed = True
            await super().close()

    provider = Closing("http://127.0.0.1:9", API_KEY)
    caller = Caller(provider, "postgresql://nobody@127.0.0.1:9/nothing", QUICK, "0")
    running = asyncio.create_task(caller.run())
    await asyncio.sleep(0)
    running.cancel()
    await asyncio.wait({running})
    assert provider.is_closed


async def test_two_workers_that_ask_for_the_same_payment_write_one_outcome(
    tmp_path: Path, ledger_url: str, query: Query
) -> None:
    """The first is only slow: its lease has run out, and it comes back with an answer of its own."""
    with simulator(tmp_path / "provider", "--delay-ms", "500") as provider:
        policy = replace(QUICK, timeout_seconds=5, lease_seconds=0.3)
        workers = [Payments(ledger_url, provider.url, policy) for _ in range(2)]
        for each in workers:
            await each.start()
        ids = [f"O-{number}" for number in range(20)]
        add_orders(ledger_url, [(each, "tok_ok") for each in ids])
        await workers[0].run(*[placed(each) for each in ids])
        found = await until_finished(query, 20)
        await asyncio.sleep(1.5)
        for each in workers:
            await each.stop()
        assert outcomes(query) == found
        charges = await provider.ledger()
        assert [charge["acted"] for charge in charges] == [1] * 20


async def test_an_outcome_that_is_written_twice_at_once_takes_effect_once(ledger_url: str, query: Query) -> None:
    """The attempt was taken up again, by the same worker, while its first call was under way."""
    add_order(ledger_url, "A")
    rows = PaymentRows(ledger_url, "0", lease_seconds=60, provider="local", now=lambda: datetime.now(UTC))
    session = Session(ledger_url)
    async with session.connection() as connection:
        row = new_attempt(OrderIdentity("demo", "A"), 0, "authorize", Action.AUTHORIZE, 4798, "EUR")
        await ledger.insert_attempts(connection, [row], datetime.now(UTC))
    [leased] = await rows.take(1)
    finish = Finish(AttemptState.SUCCEEDED)
    await asyncio.gather(*(rows.write(Finished(leased.attempt, finish, "local")) for _ in range(2)))
    await rows.close()
    await session.close()
    assert outcomes(query) == {("A", "authorize"): OK}
    assert query("SELECT count(*) FROM journal WHERE topic = %s", catalog.INVOICE_REQUESTS.name) == [(1,)]


async def test_the_ledger_away_delays_the_outcome_and_loses_nothing(
    tmp_path: Path, ledger_url: str, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection is cut while outcomes are written, also where the commit's answer is lost."""
    with simulator(tmp_path / "provider", "--delay-ms", "20") as provider:
        payments = Payments(ledger_url, provider.url)
        await payments.start()
        ids = [f"O-{number}" for number in range(200)]
        add_orders(ledger_url, [(each, "tok_ok") for each in ids])

        async def cut() -> None:
            for _ in range(15):
                await asyncio.sleep(0.02)
                query(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )

        cutting = asyncio.create_task(cut())
        for first in range(0, 200, 20):
            await payments.run(*[placed(each) for each in ids[first : first + 20]])
        await cutting
        found = await until_finished(query, 200)
        await payments.stop()
        assert set(found.values()) == {OK}
        for topic in (catalog.PAYMENT_EVENTS, catalog.INVOICE_REQUESTS):
            appended = query("SELECT count(*), min(seq), max(seq) FROM journal WHERE topic = %s", topic.name)
            assert appended == [(200, 1, 200)]
        assert {charge["acted"] for charge in await provider.ledger()} == {1}


def test_a_process_killed_again_and_again_charges_each_order_once(
    tmp_path: Path, ledger_url: str, query: Query
) -> None:
    """The caller as a process of its own, killed every half second, under calls that take their time."""
    with simulator(tmp_path / "provider", "--delay-ms", "100") as provider:
        ids = [f"O-{number}" for number in range(300)]
        add_orders(ledger_url, [(each, "tok_ok") for each in ids])
        for number in ids:
            query(
                "INSERT INTO payment_attempts (seller_id, order_id, request_id, partition, action, amount_minor,"
                " currency, provider_key, next_try_at, give_up_at, created_at) VALUES ('demo', %s, 'authorize', 0,"
                " 'authorize', 4798, 'EUR', %s, now(), now() + interval '10 minutes', now())",
                number,
                provider_key("demo", number, "authorize"),
            )
        environment = {**os.environ, "LEDGER": ledger_url, "PROVIDER": provider.url, "API_KEY": API_KEY}
        deadline = time.monotonic() + 240
        kills = 0
        while len(outcomes(query)) < len(ids):
            assert time.monotonic() < deadline
            # Of slots that nobody starts in again: the leases must run out.
            with subprocess.Popen(
                [sys.executable, "-c", _CALLER], env={**environment, "SLOT": str(kills)}, stdout=subprocess.PIPE
            ) as process:
                assert process.stdout is not None
                # A busy machine takes seconds to get so far.
                assert process.stdout.readline() == b"up\n"
                time.sleep(0.4 if kills < 6 else 2.5)
                process.send_signal(signal.SIGKILL)
            kills += 1
        assert kills >= 2
        assert set(outcomes(query).values()) == {OK}
        charges = asyncio.run(provider.ledger())
        assert len(charges) == len(ids)
        assert {charge["acted"] for charge in charges} == {1}
        assert sum(charge["blind"] for charge in charges) == 0


_CALLER = """
import asyncio, os
from providers.local import LocalProvider
from streams.payment_calls import Caller
from streams.payment_calls import Policy

async def main():
    policy = Policy(timeout_seconds=1, lease_seconds=2.2, poll_seconds=0.05, in_flight_max=20, queued_max=40)
    provider = LocalProvider(os.environ["PROVIDER"], os.environ["API_KEY"])
    print("up", flush=True)
    await Caller(provider, os.environ["LEDGER"], policy, os.environ["SLOT"]).run()

asyncio.run(main())
"""


async def test_what_is_being_voided_can_not_succeed_any_more(ledger_url: str, query: Query) -> None:
    """Whoever still heard of a success: the void may be acted on in the next moment."""
    session = Session(ledger_url)
    add_order(ledger_url, "O-1")
    row = new_attempt(OrderIdentity("demo", "O-1"), 0, "authorize", Action.AUTHORIZE, 4798, "EUR", 0.0)
    key = row.provider_key

    async def finish(state: AttemptState) -> set[str]:
        outcome = Finished(taken.attempt, Finish(state), "local")
        return await ledger.finish_attempts(connection, [outcome], datetime.now(UTC))

    async with session.connection() as connection:
        await ledger.insert_attempts(connection, [row], datetime.now(UTC))
        assert await ledger.settle_attempt(connection, key)
        [taken] = await ledger.take_attempts(connection, 1, "0", 0.0, "local")
        assert taken.attempt.settling
        assert await finish(AttemptState.SUCCEEDED) == set()
        assert await finish(AttemptState.FAILED) == {key}
        assert not await ledger.settle_attempt(connection, key)
    assert query("SELECT state FROM payment_attempts") == [("failed",)]
    await session.close()
