"""One id is a checkout's or an invoice's, never both: the agents' batches against a real Postgres, in both orders."""

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from schemas import catalog, codec
from sinks.postgres.positions import read_positions
from streams.engine.work import OUTAGE_RETRIES
from tests.integration.shop import Shop, checkout_body, shop
from tests.integration.test_invoices_work import TOPIC, Agent, FakeTable, Query, Sent, sent
from tests.records import written

__all__ = ["shop"]


@pytest.fixture
async def agent(ledger_url: str, shop: Shop) -> AsyncIterator[Agent]:
    """The invoices agent of the same partition."""
    made = Agent(ledger_url)
    async with made.session.connection() as connection:
        await read_positions(connection, "invoices", TOPIC, [0, 1, 2, 3])
    yield made
    await made.session.close()


def own_request(query: Query, order_id: str) -> bytes:
    """The request for its invoice that a checked-out order holds."""
    [(request,)] = query("SELECT invoice_request FROM orders WHERE order_id = %s", order_id)
    return bytes(request)


def outcomes(query: Query) -> list[tuple[Any, ...]]:
    return query("SELECT kind, outcome, reason FROM refused_requests ORDER BY kind, log_offset")


ORDERED = ("invoice", "rejected", "already-ordered")


async def test_no_invoice_takes_the_id_of_an_order_that_pays(shop: Shop, agent: Agent, query: Query) -> None:
    shop.stock("S-1", 5)
    await shop.checkout(checkout_body("A"))
    # The same bytes too: who may write to the topic must not have an order invoiced before it is paid.
    await agent.run(sent(0, "A"), Sent(1, own_request(query, "A")))
    assert outcomes(query) == [ORDERED, ORDERED]
    assert query("SELECT count(*) FROM invoices") == [(0,)]
    assert query("SELECT kind FROM order_ids") == [("checkout",)]


@pytest.mark.parametrize("end", ["declined", "cancelled", "refused"])
async def test_no_invoice_takes_the_id_of_an_order_that_came_to_nothing(
    shop: Shop, agent: Agent, query: Query, end: str
) -> None:
    if end != "refused":
        shop.stock("S-1", 5)
    await shop.checkout(checkout_body("A"))
    if end == "declined":
        await shop.pay("A", "declined")
    elif end == "cancelled":
        await shop.command("A", "cancel")
    await agent.run(sent(0, "A"), Sent(1, own_request(query, "A")))
    assert outcomes(query) == [ORDERED, ORDERED]
    assert query("SELECT count(*) FROM invoices") == [(0,)]


async def test_a_confirmed_order_gets_its_own_invoice_and_no_other(shop: Shop, agent: Agent, query: Query) -> None:
    shop.stock("S-1", 5)
    await shop.checkout(checkout_body("A"))
    await shop.pay("A")
    own = own_request(query, "A")
    [(requested,)] = query("SELECT payload FROM journal WHERE topic = %s", TOPIC)
    assert bytes(requested) == own
    _, body = codec.decode(own, catalog.INVOICE_REQUEST, bytes_max=len(own))
    same_content = written(catalog.INVOICE_REQUEST, {**body, "received_at": 1})
    await agent.run(sent(0, "A"), Sent(1, same_content), Sent(2, own), Sent(3, own), Sent(4, same_content))
    assert outcomes(query) == [ORDERED] * 3
    assert query("SELECT source_offset FROM invoices") == [(2,)]


async def test_no_checkout_takes_the_id_of_an_invoice(shop: Shop, agent: Agent, query: Query) -> None:
    shop.stock("S-1", 5)
    await agent.run(sent(0, "A"))
    await shop.checkout(checkout_body("A"), checkout_body("B"))
    assert outcomes(query) == [("checkout", "rejected", "already-invoiced")]
    assert query("SELECT order_id FROM orders") == [("B",)]
    assert shop.level("S-1")[1] == 1
    # And what is refused leaves no mark: the invoice repeats as ever.
    await agent.run(sent(1, "A"))
    assert query("SELECT count(*) FROM invoices") == [(1,)]


async def test_what_is_rejected_takes_no_id(shop: Shop, agent: Agent, query: Query) -> None:
    shop.stock("S-1", 5)
    await agent.run(sent(0, "A", currency="XXX"), sent(1, "B", seller_id="nobody"))
    await shop.checkout(checkout_body("A"), checkout_body("C", payment_token="two words"))
    assert query("SELECT order_id, kind FROM order_ids") == [("A", "checkout")]


async def test_rows_of_a_release_without_order_ids_keep_theirs(shop: Shop, agent: Agent, query: Query) -> None:
    shop.stock("S-1", 5)
    await shop.checkout(checkout_body("A"))
    await agent.run(sent(0, "B"))
    query("DELETE FROM order_ids")
    await agent.run(sent(1, "A"))
    await shop.checkout(checkout_body("B"))
    assert outcomes(query) == [("checkout", "rejected", "already-invoiced"), ORDERED]


async def test_of_racing_pairs_exactly_one_has_the_id(ledger_url: str, shop: Shop, agent: Agent, query: Query) -> None:
    """Four partitions at once, each with both agents, whose batches hold the same ids in different orders."""
    ids = [[f"{partition}-{number}" for number in range(60)] for partition in range(4)]
    # A SKU for all: the checkouts of every partition wait for each other, with their ids claimed.
    shop.stock("S-1", 1_000)
    retries = [OUTAGE_RETRIES.labels(agent) for agent in ("checkouts", "invoices")]
    before = [each._value.get() for each in retries]
    made: list[Any] = []

    async def check_out(partition: int) -> None:
        made.append(its := Shop(ledger_url, query, partition=partition, table=FakeTable()))
        names = random.Random(partition).sample(ids[partition], 60)
        for start in range(0, 60, 15):
            await its.checkout(*(checkout_body(name) for name in names[start : start + 15]))

    async def invoice(partition: int) -> None:
        made.append(its := Agent(ledger_url))
        names = random.Random(-partition - 1).sample(ids[partition], 60)
        for start in range(0, 60, 15):
            batch = [sent(start + index, name) for index, name in enumerate(names[start : start + 15])]
            await its.run(*batch, partition=partition)

    await asyncio.gather(*(run(each) for each in range(4) for run in (check_out, invoice)))
    for its in made:
        await its.session.close()
    # A deadlock would be waited out like an outage.
    assert [each._value.get() for each in retries] == before
    orders, invoices = (
        {name for (name,) in query(f"SELECT order_id FROM {table}")} for table in ("orders", "invoices")
    )
    assert orders.isdisjoint(invoices)
    assert orders | invoices == {name for names in ids for name in names}
    assert orders and invoices, "nothing raced"
    refused = {name for (name,) in query("SELECT order_id FROM refused_requests")}
    assert refused == orders | invoices
    assert len(outcomes(query)) == 240
