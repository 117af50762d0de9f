"""A change of provider: a payment stays with whom it was asked of, whatever the workers are set to."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from providers.local import LocalProvider
from streams.payment_calls import FOREIGN
from tests.integration.payments_world import (
    API_KEY,
    Payments,
    Query,
    Simulator,
    add_order,
    outcomes,
    placed,
    requested,
    simulator,
    until_finished,
    until_taken_up,
)


class OtherProvider(LocalProvider):
    """A provider of another name, elsewhere."""

    name = "other"


@pytest.fixture
def old(tmp_path: Path) -> Iterator[Simulator]:
    with simulator(tmp_path / "old") as made:
        yield made


@pytest.fixture
def new(tmp_path: Path) -> Iterator[Simulator]:
    with simulator(tmp_path / "new") as made:
        yield made


async def _left(count: float) -> None:
    """Wait until so many attempts were left to another provider."""
    deadline = time.monotonic() + 60
    while FOREIGN.labels("local")._value.get() < count:
        assert time.monotonic() < deadline, "nothing was left"
        await asyncio.sleep(0.03)


async def test_open_attempts_are_not_sent_to_the_new_provider(
    ledger_url: str, query: Query, old: Simulator, new: Simulator
) -> None:
    add_order(ledger_url, "A")
    before = Payments(ledger_url, old.url)
    await before.start()
    old.kill()
    await before.run(placed("A"))
    await until_taken_up(query)
    await before.crash()
    old.start()
    seen = FOREIGN.labels("local")._value.get()
    after = Payments(ledger_url, OtherProvider(new.url, API_KEY))
    await after.start()
    await _left(seen + 1)
    await after.stop()
    assert (outcomes(query), await new.ledger()) == ({}, [])
    both = Payments(ledger_url, OtherProvider(new.url, API_KEY), former=LocalProvider(old.url, API_KEY))
    await both.start()
    assert await until_finished(query, 1) == {("A", "authorize"): ("succeeded", "")}
    await both.stop()
    assert (len(await old.ledger()), await new.ledger()) == (1, [])


@pytest.mark.parametrize("is_noted", [True, False])
async def test_captures_and_refunds_go_to_who_authorised(
    ledger_url: str, query: Query, old: Simulator, new: Simulator, is_noted: bool
) -> None:
    for name in "AB":
        add_order(ledger_url, name)
    before = Payments(ledger_url, old.url)
    await before.start()
    await before.run(placed("A"))
    await until_finished(query, 1)
    await before.stop()
    if not is_noted:
        query("UPDATE payment_attempts SET provider = NULL")
    both = Payments(ledger_url, OtherProvider(new.url, API_KEY), former=LocalProvider(old.url, API_KEY))
    await both.start()
    await both.run(requested("A", "capture"), requested("A", "refund:R-1", 100), placed("B"))
    found = await until_finished(query, 4)
    await both.stop()
    assert {outcome for outcome, _ in found.values()} == {"succeeded"}
    [[first], [second]] = [await each.ledger() for each in (old, new)]
    assert (first["captured_minor"], first["refunded_minor"], second["captured_minor"]) == (4798, 100, 0)
    assert query("SELECT order_id, provider FROM payment_attempts WHERE action = 'authorize' ORDER BY 1") == [
        ("A", "local" if is_noted else None),
        ("B", "other"),
    ]
