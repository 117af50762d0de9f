"""The payments agent with a real ledger and a real provider process."""

from dataclasses import replace

import pytest

from schemas import catalog, codec
from sinks.postgres.positions import read_positions
from streams.engine.batch import Batch
from streams.payments import AGENT
from tests.integration.payments_world import (
    EVENTS,
    NOTICES,
    QUICK,
    Payments,
    Query,
    Sent,
    Simulator,
    add_order,
    add_orders,
    calls_in_flight,
    noticed,
    outcomes,
    payments,
    placed,
    provider,
    requested,
    until_called,
    until_finished,
)

__all__ = ["payments", "provider"]

OK, DECLINED = ("succeeded", ""), ("declined", "card_declined")


def dead_letters(query: Query) -> int:
    return int(query("SELECT count(*) FROM journal WHERE topic = %s", catalog.DEAD_LETTERS.name)[0][0])


async def test_an_order_is_authorised_captured_and_refunded(
    payments: Payments, provider: Simulator, query: Query
) -> None:
    add_order(payments.url, "A")
    await payments.run(placed("A"))
    assert await until_finished(query, 1) == {("A", "authorize"): OK}
    await payments.run(requested("A", "capture"))
    await until_finished(query, 2)
    await payments.run(requested("A", "refund:R-1", 1000), requested("A", "refund:R-2", 3798))
    found = await until_finished(query, 4)
    assert set(found.values()) == {OK}
    [charge] = await provider.ledger()
    assert (charge["acted"], charge["captured_minor"], charge["refunded_minor"]) == (1, 4798, 4798)


async def test_an_authorised_payment_is_voided(payments: Payments, provider: Simulator, query: Query) -> None:
    add_order(payments.url, "A")
    await payments.run(placed("A"))
    await until_finished(query, 1)
    await payments.run(requested("A", "void"))
    assert (await until_finished(query, 2))["A", "void"] == OK
    [charge] = await provider.ledger()
    assert (charge["status"], charge["voided_minor"]) == ("voided", 4798)


async def test_a_declined_card_ends_the_attempt_for_good(payments: Payments, provider: Simulator, query: Query) -> None:
    add_order(payments.url, "A", "tok_decline")
    await payments.run(placed("A"))
    assert await until_finished(query, 1) == {("A", "authorize"): DECLINED}
    await payments.run(placed("A"))
    assert outcomes(query) == {("A", "authorize"): DECLINED}
    [charge] = await provider.ledger()
    assert (charge["acted"], charge["sent"]) == (0, 1)


async def test_a_repeated_event_makes_no_second_attempt(payments: Payments, provider: Simulator, query: Query) -> None:
    add_order(payments.url, "A")
    await payments.run(placed("A"), placed("A"))
    await until_finished(query, 1)
    await payments.run(placed("A"))
    assert query("SELECT count(*) FROM payment_attempts") == [(1,)]
    assert dead_letters(query) == 0
    assert [charge["sent"] for charge in await provider.ledger()] == [1]


async def test_nothing_to_pay_succeeds_without_the_provider(
    payments: Payments, provider: Simulator, query: Query
) -> None:
    add_order(payments.url, "A", gross=0)
    await payments.run(placed("A", gross=0), requested("A", "capture", 0))
    assert await until_finished(query, 2) == {("A", "authorize"): OK, ("A", "capture"): OK}
    assert await provider.ledger() == []
    await payments.run(placed("A", gross=0))
    assert len(outcomes(query)) == 2


async def test_an_attempts_outcome_is_of_the_trace_that_asked_for_it(
    ledger_url: str, provider: Simulator, query: Query
) -> None:
    """Whether it is called at once, was left in its row, or needs no provider."""
    add_orders(ledger_url, [("called", "tok_ok"), ("left", "tok_ok")])
    add_order(ledger_url, "free", gross=0)
    traced = {
        name: f"00-{digit * 32}-{'4' * 16}-00" for name, digit in zip(("called", "left", "free"), "123", strict=True)
    }

    def batch(first: int, *events: tuple[str, bytes]) -> Batch:
        headers = {name: (("traceparent", each.encode()),) for name, each in traced.items()}
        sent = [Sent(first + index, value, name.encode(), headers[name]) for index, (name, value) in enumerate(events)]
        return Batch(EVENTS, 0, sent)

    payments = Payments(ledger_url, provider.url)
    async with payments.session.connection() as connection:
        await read_positions(connection, AGENT, EVENTS, [0])
    # Before it calls anybody, attempts stay in their rows.
    await payments.worker.run(payments.work, batch(0, ("left", placed("left")), ("free", placed("free", gross=0))))
    await payments.start()
    try:
        await payments.worker.run(payments.work, batch(2, ("called", placed("called"))))
        await until_finished(query, 3)
    finally:
        await payments.stop()
    rows = query("SELECT payload, traceparent FROM journal WHERE topic = %s", catalog.PAYMENT_EVENTS.name)
    events = [codec.decode(payload, catalog.PAYMENT_ATTEMPT_FINISHED, bytes_max=10_000)[1] for payload, _ in rows]
    told = {event["order_id"]: traceparent for event, (_, traceparent) in zip(events, rows, strict=True)}
    assert told == traced


async def test_a_capture_waits_for_its_authorisation_and_a_refund_for_its_capture(
    payments: Payments, provider: Simulator, query: Query
) -> None:
    await provider.behave(slow_s=0.4)
    add_order(payments.url, "A", "tok_slow")
    await payments.run(placed("A"), requested("A", "refund:R-1", 100), requested("A", "capture"))
    found = await until_finished(query, 3)
    assert list(found) == [("A", "authorize"), ("A", "capture"), ("A", "refund:R-1")]
    assert set(found.values()) == {OK}
    [charge] = await provider.ledger()
    assert (charge["captured_minor"], charge["refunded_minor"]) == (4798, 100)


async def test_what_stands_behind_a_declined_authorisation_ends_too(payments: Payments, query: Query) -> None:
    add_order(payments.url, "A", "tok_decline")
    add_order(payments.url, "B", "tok_decline")
    await payments.run(placed("A"), placed("B"), requested("A", "capture"), requested("B", "void"))
    found = await until_finished(query, 4)
    assert found["A", "capture"] == ("failed", "not-authorized")
    # Nothing was authorised, so nothing is left to void.
    assert found["B", "void"] == OK


async def test_the_token_is_in_no_event(payments: Payments, query: Query) -> None:
    add_order(payments.url, "A")
    await payments.run(placed("A"))
    await until_finished(query, 1)
    assert all(b"tok_" not in payload for (payload,) in query("SELECT payload FROM journal"))


@pytest.mark.parametrize(
    "value",
    [
        placed("nobody's"),
        placed("A", gross=99_999),
        requested("A", "capture", 99_999),
        requested("A", "capture", currency="USD"),
        requested("A", "capture", action="refund"),
        requested("A", "authorize"),
        requested("A", "capture", -1),
        requested("A\0", "capture"),
        b"\x00\x00\x00\x00\x09short",
        None,
    ],
    # Their bytes hold the time, and who runs the tests tells them apart by their names.
    ids=[
        "of nobody",
        "of another amount",
        "captures another amount",
        "captures another currency",
        "refunds under a capture's id",
        "asks to authorise",
        "captures less than nothing",
        "an id that can't be stored",
        "cut off",
        "a tombstone",
    ],
)
async def test_what_no_order_owes_is_a_dead_letter_and_never_called(
    value: bytes | None, payments: Payments, provider: Simulator, query: Query
) -> None:
    add_order(payments.url, "A")
    add_order(payments.url, "B")
    await payments.run(value, placed("B"))
    assert await until_finished(query, 1) == {("B", "authorize"): OK}
    assert dead_letters(query) == 1
    assert [charge["order_id"] for charge in await provider.ledger()] == ["B"]


async def test_other_events_of_the_topic_are_passed_over_undecoded(payments: Payments, query: Query) -> None:
    await payments.run(b"\x00\x00\x00\x00\x0dnot looked at")
    assert dead_letters(query) == 0
    async with payments.session.connection() as connection:
        assert (await read_positions(connection, AGENT, EVENTS, [0]))[0] == 1


async def test_a_notice_has_the_provider_asked_at_once(payments: Payments, provider: Simulator, query: Query) -> None:
    add_order(payments.url, "A")
    await payments.run(placed("A"))
    await until_finished(query, 1)
    query("UPDATE payment_attempts SET state = 'open', next_try_at = now() + interval '1 hour', finished_at = NULL")
    query("DELETE FROM journal")
    await payments.run(noticed("A"), noticed("A"), noticed("B"), b"nothing", topic=NOTICES)
    assert await until_finished(query, 1) == {("A", "authorize"): OK}
    assert [charge["sent"] for charge in await provider.ledger()] == [1]
    assert dead_letters(query) == 1


async def test_more_than_memory_may_hold_waits_in_its_rows(ledger_url: str, provider: Simulator, query: Query) -> None:
    """None of them is taken for one that may have been called before: each is sent once and never asked for."""
    payments = Payments(ledger_url, provider.url, replace(QUICK, queued_max=50, in_flight_max=20))
    await payments.start()
    ids = [f"O-{number}" for number in range(300)]
    add_orders(ledger_url, [(each, "tok_ok") for each in ids])
    await payments.run(*[placed(each) for each in ids])
    found = await until_finished(query, 300)
    await payments.stop()
    assert set(found.values()) == {OK}
    assert {(charge["acted"], charge["sent"]) for charge in await provider.ledger()} == {(1, 1)}
    assert query("SELECT DISTINCT tries FROM payment_attempts") == [(1,)]


async def test_a_worker_that_is_told_to_stop_ends_the_calls_under_way(
    ledger_url: str, provider: Simulator, query: Query
) -> None:
    await provider.behave(delay_ms=300)
    payments = Payments(ledger_url, provider.url)
    await payments.start()
    add_order(ledger_url, "A")
    await payments.run(placed("A"))
    await until_called()
    await payments.stop()
    assert calls_in_flight() == 0
    assert outcomes(query) == {("A", "authorize"): OK}
