"""The payments agent with a real ledger and a real provider process."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.integration.payments_world import (
    Payments,
    Query,
    Simulator,
    add_order,
    outcomes,
    placed,
    requested,
    simulator,
    until_finished,
)

OK, DECLINED = ("succeeded", ""), ("declined", "card_declined")


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[Simulator]:
    with simulator(tmp_path / "provider") as made:
        yield made


@pytest.fixture
async def payments(ledger_url: str, provider: Simulator) -> AsyncIterator[Payments]:
    made = Payments(ledger_url, provider.url)
    await made.start()
    yield made
    await made.stop()


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


async def test_a_declined_card_ends_the_attempt_for_good(payments: Payments, provider: Simulator, query: Query) -> None:
    add_order(payments.url, "A", "tok_decline")
    await payments.run(placed("A"))
    assert await until_finished(query, 1) == {("A", "authorize"): DECLINED}
    await payments.run(placed("A"))
    assert outcomes(query) == {("A", "authorize"): DECLINED}
    [charge] = await provider.ledger()
    assert (charge["acted"], charge["sent"]) == (0, 1)
