"""The trail of an order at each step, on a real ledger and real topics."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner, Result
from confluent_kafka import Message, Producer

from gapless.order import order
from runtime.kafka import end_offsets
from runtime.records import RecordReader
from schemas import catalog
from schemas.catalog import (
    CHECKOUT_REQUESTS,
    INVENTORY_EVENTS,
    INVOICE_REQUESTS,
    ORDER_COMMANDS,
    ORDER_EVENTS,
    PAYMENT_EVENTS,
)
from schemas.placement import partition_of
from sinks.postgres import dead_letters
from sinks.postgres.dead_letters import DeadLetterFilter
from sinks.postgres.session import Session
from sinks.postgres.stock import SetOnHand, Stock
from sinks.trail import FoundTrails, OrderTrail, Place
from sinks.trail_finder import find_trails
from streams.engine.batch import Batch
from streams.invoices import InvoicesWork
from tests.conftest import PARTITIONS, Services
from tests.integration.shop import Shop, checkout_body, command, paid, shop
from tests.integration.test_invoices_work import FakeTable, Sent
from tests.records import written
from tests.unit.domain.test_invoice import request

__all__ = ["shop"]

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE_ID}-b7ad6b7169203331-01"
ORDER_ID = "A-1001"
PARTITION = partition_of(ORDER_ID.encode(), PARTITIONS)
#: An order in the same partition.
_NEIGHBOUR = next(f"B-{n}" for n in range(99) if partition_of(f"B-{n}".encode(), PARTITIONS) == PARTITION)
COMMAND = {
    "received_at": 0, "seller_id": "demo", "order_id": ORDER_ID, "command_id": "ship", "action": "ship", "reason": "",
    "refund_id": "", "lines": [],
}  # fmt: skip
_READ = ((CHECKOUT_REQUESTS, "checkouts"), (INVOICE_REQUESTS, "invoices"), (ORDER_COMMANDS, "orders"))


class Deployment:
    """Agents of one partition on the catalogue's topics; each position begins at its topic's end."""

    def __init__(self, services: Services, shop: Shop) -> None:
        self.services = services
        self.shop = shop
        shop.partition = PARTITION
        table: Any = FakeTable()
        self._works = {
            CHECKOUT_REQUESTS.name: shop.checkouts,
            ORDER_COMMANDS.name: shop.orders,
            INVOICE_REQUESTS.name: InvoicesWork(table, lambda: shop.now),
        }
        self._producer = Producer(
            {"bootstrap.servers": services.kafka_bootstrap, "acks": "all", "partitioner": "murmur2_random"}
        )
        ends = end_offsets(services.kafka_bootstrap, [(t.name, n) for t, _ in _READ for n in range(PARTITIONS)])
        for topic, agent in _READ:
            for partition in range(PARTITIONS):
                shop.query(
                    "INSERT INTO positions VALUES (%s, %s, %s, %s)"
                    " ON CONFLICT (agent, topic, partition) DO UPDATE SET next_offset = excluded.next_offset",
                    agent, topic.name, partition, ends[topic.name, partition],
                )  # fmt: skip

    def close(self) -> None:
        """Delete the producer, which would otherwise search for its brokers and log that for as long as it exists."""
        del self._producer

    def accept(self, topic: catalog.Topic, value: bytes, order_id: str = ORDER_ID, **headers: str) -> Sent:
        """Publish a request."""
        acknowledged: list[Message] = []

        def report(error: object, message: Message) -> None:
            assert error is None
            acknowledged.append(message)

        self._producer.produce(topic.name, value, order_id.encode(), headers=list(headers.items()), on_delivery=report)
        assert self._producer.flush(60) == 0
        sent_headers = tuple((name, text.encode()) for name, text in headers.items())
        return Sent(acknowledged[0].offset() or 0, value, order_id.encode(), sent_headers)

    async def handle(self, topic: catalog.Topic, sent: Sent) -> None:
        """Have the topic's agent handle the record."""
        self.shop.now = datetime.now(UTC)
        work: Any = self._works[topic.name]
        await self.shop.worker.run(work, Batch(topic.name, PARTITION, [sent]))

    def publish(self) -> None:
        """Mark the journal as published, as the relay does."""
        self.shop.query(
            "INSERT INTO journal_published SELECT topic, partition, next_seq - 1 FROM journal_heads"
            " ON CONFLICT (topic, partition) DO UPDATE SET published_seq = excluded.published_seq"
        )

    def relay_request(self) -> Sent:
        """Publish the order's own invoice request, as the relay does."""
        [(value,)] = self.shop.query("SELECT payload FROM journal WHERE topic = %s", INVOICE_REQUESTS.name)
        return self.accept(INVOICE_REQUESTS, bytes(value))

    def store(self) -> None:
        """Insert the document's row."""
        self.shop.query("INSERT INTO documents SELECT series_id, number, 'k.pdf', '', 1, 1, now() FROM invoices")

    async def find(self, wanted: str, seller_id: str | None = None, **limits: Any) -> FoundTrails:
        reader = RecordReader(
            limits.get("bootstrap", self.services.kafka_bootstrap),
            seconds_max=limits.get("seconds_max", 60.0),
            records_max=limits.get("records_max", 10_000),
        )
        session = Session(self.shop.url)
        try:
            async with session.connection() as connection:
                return await find_trails(connection, reader, wanted, seller_id)
        finally:
            await session.close()
            reader.close()

    async def one(self, wanted: str = ORDER_ID) -> OrderTrail:
        """The only match."""
        found = await self.find(wanted)
        assert found.gaps == []
        [trail] = found.trails
        return trail


@pytest.fixture
async def deployment(services: Services, empty_outputs: None, shop: Shop) -> AsyncIterator[Deployment]:
    """A deployment with stock."""
    shop.stock("S-1", 100)
    made = Deployment(services, shop)
    yield made
    made.close()


def steps(trail: OrderTrail) -> list[tuple[str, str]]:
    return [(entry.by, entry.what) for entry in trail.entries]


def waits(trail: OrderTrail) -> list[tuple[str, str]]:
    return [(each.stage, each.what) for each in trail.outstanding]


async def test_an_order_says_at_each_step_what_it_waits_for(deployment: Deployment) -> None:
    """From the brokers' acknowledgement to the document, with the position of each record."""
    shop = deployment.shop
    checkout = deployment.accept(
        CHECKOUT_REQUESTS, written(catalog.CHECKOUT_REQUEST, checkout_body(ORDER_ID)), traceparent=TRACEPARENT
    )
    place = Place(CHECKOUT_REQUESTS.name, PARTITION, checkout.offset)
    trail = await deployment.one()
    assert (trail.state, steps(trail)) == ("accepted", [("kafka", "checkout accepted")])
    assert (trail.entries[0].place, trail.entries[0].trace_id) == (place, TRACE_ID)
    [outstanding] = trail.outstanding
    assert (outstanding.stage, outstanding.place, outstanding.position) == ("checkouts", place, checkout.offset)

    await deployment.handle(CHECKOUT_REQUESTS, checkout)
    trail = await deployment.one()
    assert trail.entries[0].place == place
    placed = Place(ORDER_EVENTS.name, PARTITION, seq=1)
    assert waits(trail) == [("payments", "to take up authorize")]
    deployment.publish()

    shop.now = datetime.now(UTC)
    await shop.pay(ORDER_ID)
    assert waits(await deployment.one()) == [("relay", "to publish, for invoices to number the invoice")]
    deployment.publish()
    assert waits(await deployment.one()) == [("invoices", "to number the invoice")]
    asked = deployment.relay_request()
    assert waits(await deployment.one())[0] == ("invoices", "to read the invoice request")

    await deployment.handle(INVOICE_REQUESTS, asked)
    trail = await deployment.one()
    [number] = trail.numbers
    assert waits(trail) == [("relay", f"to publish, for documents to store the document of {number}")]
    deployment.publish()
    assert waits(await deployment.one()) == [("documents", f"to store the document of {number}")]

    deployment.store()
    trail = await deployment.one(number)
    assert (trail.state, waits(trail)) == ("CONFIRMED", [])
    names = ("PLACED", "PAYMENT_PENDING", "authorize requested", "stock reserved")
    placing = [("checkouts", what) for what in names]
    assert steps(trail)[:5] == [("kafka", "checkout accepted"), *placing]
    assert [entry.trace_id for entry in trail.entries[:5]] == [TRACE_ID] * 5
    reserved = Place(INVENTORY_EVENTS.name, PARTITION, seq=1)
    assert [entry.place for entry in trail.entries[1:5]] == [placed, placed, None, reserved]
    [confirmed] = [entry for entry in trail.entries if entry.what == "CONFIRMED"]
    assert confirmed.place == Place(ORDER_EVENTS.name, PARTITION, seq=2)
    assert steps(trail)[-2:] == [
        ("invoices", f"invoice {number} issued"),
        ("documents", f"document of {number} stored"),
    ]
    [accepted] = [entry for entry in trail.entries if entry.what == "invoice request accepted"]
    assert accepted.place == Place(INVOICE_REQUESTS.name, PARTITION, asked.offset)
    assert all(entry.at is not None for entry in trail.entries)


async def test_an_invoice_asked_for_directly_is_found_by_id_and_by_number(deployment: Deployment) -> None:
    sent = deployment.accept(INVOICE_REQUESTS, written(catalog.INVOICE_REQUEST, request(order_id=ORDER_ID)))
    await deployment.handle(INVOICE_REQUESTS, sent)
    by_id = await deployment.one()
    assert by_id.state == "issued"
    assert await deployment.one(by_id.numbers[0]) == by_id
    deployment.store()
    assert (await deployment.one()).state == "stored"


async def test_the_orders_of_a_buyer_are_found_by_the_e_mail_address(deployment: Deployment) -> None:
    """Checkouts and invoices, latest first, for any spelling of the address, and of one seller if requested."""
    deployment.shop.now = datetime(2026, 11, 1, tzinfo=UTC)
    for seller_id, order_id, email in (
        ("demo", "first", "zoe@shop.example"),
        ("demo", "of another", "other@shop.example"),
        ("other", "last", "Zoe@Shop.example"),
    ):
        body = request(order_id=order_id)
        body = {**body, "seller_id": seller_id, "buyer": {**body["buyer"], "email": email}}
        sent = deployment.accept(INVOICE_REQUESTS, written(catalog.INVOICE_REQUEST, body), ORDER_ID)
        await deployment.handle(INVOICE_REQUESTS, sent)
    checkout = checkout_body("middle")
    checkout["buyer"]["email"] = "zoe@shop.example"
    sent = deployment.accept(CHECKOUT_REQUESTS, written(catalog.CHECKOUT_REQUEST, checkout), ORDER_ID)
    await deployment.handle(CHECKOUT_REQUESTS, sent)
    found = await deployment.find("ZOE@shop.example")
    assert [each.order_id for each in found.trails] == ["middle", "last", "first"]
    assert [each.order_id for each in (await deployment.find("zoe@shop.example", "other")).trails] == ["last"]


async def test_what_was_refused_says_why_and_where_it_stands(deployment: Deployment) -> None:
    """It is shown with what exists under the id."""
    first, other = (
        deployment.accept(INVOICE_REQUESTS, written(catalog.INVOICE_REQUEST, request(order_id=ORDER_ID, note=note)))
        for note in (None, "other")
    )
    await deployment.handle(INVOICE_REQUESTS, first)
    await deployment.handle(INVOICE_REQUESTS, other)
    [refused] = [entry for entry in (await deployment.one()).entries if entry.what == "invoice request: conflict"]
    assert "other content" in refused.detail
    assert refused.place == Place(INVOICE_REQUESTS.name, PARTITION, other.offset)


async def test_a_command_that_nobody_has_read_is_outstanding(deployment: Deployment) -> None:
    checkout = deployment.accept(CHECKOUT_REQUESTS, written(catalog.CHECKOUT_REQUEST, checkout_body(ORDER_ID)))
    await deployment.handle(CHECKOUT_REQUESTS, checkout)
    cancel = deployment.accept(ORDER_COMMANDS, command(ORDER_ID, "cancel", reason="too slow"))
    trail = await deployment.one()
    [outstanding] = [each for each in trail.outstanding if each.stage == "orders"]
    assert outstanding.what == "to read the command cancel"
    assert outstanding.place == Place(ORDER_COMMANDS.name, PARTITION, cancel.offset)
    await deployment.handle(ORDER_COMMANDS, cancel)
    again = deployment.accept(ORDER_COMMANDS, command(ORDER_ID, "ship"))
    await deployment.handle(ORDER_COMMANDS, again)
    trail = await deployment.one()
    # What was asked for is asked of the provider, and voided then.
    assert (trail.state, waits(trail)) == ("CANCELLED", [("payments", "to take up authorize")])
    answers = [entry for entry in trail.entries if entry.what.startswith("command ")]
    assert [(entry.what, entry.place) for entry in answers] == [
        ("command cancel accepted", Place(ORDER_COMMANDS.name, PARTITION, cancel.offset)),
        ("command cancel applied", Place(ORDER_EVENTS.name, PARTITION, seq=3)),
        ("command ship accepted", Place(ORDER_COMMANDS.name, PARTITION, again.offset)),
        ("command ship refused", Place(ORDER_EVENTS.name, PARTITION, seq=4)),
    ]
    assert "can't ship" in answers[-1].detail


async def test_a_record_that_became_a_dead_letter_is_shown_under_its_key(deployment: Deployment) -> None:
    """For every seller; for one seller only if its bytes name that seller."""
    for seller_id, value in (
        ("", b"garbage"),
        ("a:b", written(catalog.ORDER_COMMAND, {**COMMAND, "seller_id": "a:b"})),
    ):
        await deployment.handle(ORDER_COMMANDS, deployment.accept(ORDER_COMMANDS, value))
        [trail] = (await deployment.find(ORDER_ID, seller_id)).trails[-1:]
        assert (trail.seller_id, trail.state, waits(trail)) == (seller_id, "dead letter", [])
        [entry] = trail.entries
        assert (entry.by, entry.what) == ("orders", "dead letter")
        assert entry.detail.startswith(f"{ORDER_COMMANDS.name}/{PARTITION} offset ")
        assert entry.place is not None
        assert entry.place.topic == catalog.DEAD_LETTERS.name


async def test_what_was_done_about_a_dead_letter_is_a_step(deployment: Deployment) -> None:
    """It is found by the order id in its record, whatever its key."""
    await deployment.handle(ORDER_COMMANDS, deployment.accept(ORDER_COMMANDS, b"garbage"))
    letter = {
        "agent": "orders", "source_topic": ORDER_COMMANDS.name, "source_partition": 0, "source_offset": 7,
        "key": b"K", "value": written(catalog.ORDER_COMMAND, COMMAND), "error": "wrong-key: why", "occurred_at": 0,
    }  # fmt: skip
    deployment.shop.query(
        "INSERT INTO journal (topic, partition, seq, key, payload, occurred_at) VALUES ('dead-letters', %s, 2, 'K', %s,"
        " now())",
        PARTITION, written(catalog.DEAD_LETTER, letter),
    )  # fmt: skip
    deployment.shop.query("UPDATE journal_heads SET next_seq = 3 WHERE topic = 'dead-letters'")
    with psycopg.connect(deployment.shop.url, autocommit=True) as connection:
        dead_letters.note_new(connection)
        wanted = DeadLetterFilter(order_id=ORDER_ID)
        assert dead_letters.discard(connection, wanted, by="ada", why="a test") == 2
    found = await deployment.find(ORDER_ID)
    assert [(each.seller_id, each.state) for each in found.trails] == [("", "dead letter"), ("demo", "dead letter")]
    for trail in found.trails:
        _, discarded = trail.entries
        assert (discarded.by, discarded.what, discarded.detail) == (
            "operator",
            "dead letter discarded",
            "by ada: a test",
        )
        assert waits(trail) == []


async def test_a_dead_letter_of_an_order_is_named_where_its_agent_is_waited_for(deployment: Deployment) -> None:
    """It will not be read without an operator."""
    checkout = deployment.accept(CHECKOUT_REQUESTS, written(catalog.CHECKOUT_REQUEST, checkout_body(ORDER_ID)))
    await deployment.handle(CHECKOUT_REQUESTS, checkout)
    # As a release places orders that leaves the attempt to who reads the event.
    deployment.shop.query("DELETE FROM payment_attempts")
    deployment.publish()
    letter = {
        "agent": "payments", "source_topic": ORDER_EVENTS.name, "source_partition": PARTITION, "source_offset": 7,
        "key": ORDER_ID.encode(), "error": "undecodable: why", "occurred_at": 0,
        "value": deployment.shop.query("SELECT payload FROM journal WHERE topic = %s", ORDER_EVENTS.name)[0][0],
    }  # fmt: skip
    deployment.shop.query(
        "INSERT INTO journal (topic, partition, seq, key, payload, occurred_at) VALUES ('dead-letters', %s, 1, %s, %s,"
        " now())",
        PARTITION, ORDER_ID.encode(), written(catalog.DEAD_LETTER, letter),
    )  # fmt: skip
    [outstanding] = (await deployment.one()).outstanding
    assert outstanding.what == (
        f"to take up authorize; but a record of this order is a dead letter (dead-letters/{PARTITION} seq 1)"
    )


async def test_a_seller_s_changes_of_a_sku_are_not_of_the_order_of_that_name(deployment: Deployment) -> None:
    """Their key is the SKU."""
    stock = Stock(deployment.shop.url)
    await stock.change(SetOnHand("demo", ORDER_ID, 5), PARTITIONS, datetime.now(UTC))
    await stock.close()
    assert (await deployment.find(ORDER_ID)).trails == []


async def test_an_open_payment_names_the_worker_that_holds_it(deployment: Deployment) -> None:
    checkout = deployment.accept(CHECKOUT_REQUESTS, written(catalog.CHECKOUT_REQUEST, checkout_body(ORDER_ID)))
    await deployment.handle(CHECKOUT_REQUESTS, checkout)
    deployment.shop.query("UPDATE payment_attempts SET tries = 2, leased_by = 'payments-1'")
    [outstanding] = (await deployment.one()).outstanding
    assert outstanding.stage == "payments"
    assert "authorize, 2 tries so far, held by worker payments-1" in outstanding.what


async def test_a_payment_that_the_order_has_not_acted_on_waits_for_relay_and_agent(deployment: Deployment) -> None:
    shop = deployment.shop
    checkout = deployment.accept(CHECKOUT_REQUESTS, written(catalog.CHECKOUT_REQUEST, checkout_body(ORDER_ID)))
    await deployment.handle(CHECKOUT_REQUESTS, checkout)
    deployment.publish()
    # As a release finishes attempts that leaves the order to who reads the event.
    shop.query("UPDATE payment_attempts SET state = 'declined', tries = 1, leased_by = '3', finished_at = now()")
    shop.query("INSERT INTO journal_heads VALUES (%s, %s, 2)", PAYMENT_EVENTS.name, PARTITION)
    shop.query(
        "INSERT INTO journal (topic, partition, seq, key, payload, occurred_at) VALUES (%s, %s, 1, %s, %s, now())",
        PAYMENT_EVENTS.name, PARTITION, ORDER_ID.encode(), paid(ORDER_ID, "declined", "authorize", "authorize"),
    )  # fmt: skip
    trail = await deployment.one()
    assert waits(trail) == [("relay", "to publish, for orders to act on authorize declined")]
    [declined] = [entry for entry in trail.entries if entry.what == "authorize declined"]
    assert (declined.worker, declined.place) == ("3", Place(PAYMENT_EVENTS.name, PARTITION, seq=1))
    deployment.publish()
    assert waits(await deployment.one()) == [("orders", "to act on authorize declined")]


async def test_sellers_that_share_an_order_id_are_all_shown(deployment: Deployment) -> None:
    """One of them if requested, and nothing of other sellers."""
    for seller_id in ("other", "demo"):
        body = {**request(order_id=ORDER_ID), "seller_id": seller_id}
        await deployment.handle(
            INVOICE_REQUESTS, deployment.accept(INVOICE_REQUESTS, written(catalog.INVOICE_REQUEST, body))
        )
    deployment.accept(CHECKOUT_REQUESTS, written(catalog.CHECKOUT_REQUEST, checkout_body(ORDER_ID)))
    assert [each.seller_id for each in (await deployment.find(ORDER_ID)).trails] == ["demo", "other"]
    [only] = (await deployment.find(ORDER_ID, "other")).trails
    assert (only.seller_id, [entry.place and entry.place.topic for entry in only.entries]) == (
        "other",
        [INVOICE_REQUESTS.name, catalog.INVOICE_EVENTS.name],
    )


async def test_a_search_that_ends_before_the_log_says_so(deployment: Deployment) -> None:
    """What was not searched is not reported as absent."""
    deployment.accept(CHECKOUT_REQUESTS, b"", _NEIGHBOUR)
    deployment.accept(CHECKOUT_REQUESTS, written(catalog.CHECKOUT_REQUEST, checkout_body(ORDER_ID)))
    found = await deployment.find(ORDER_ID, records_max=1)
    assert found.trails == []
    [gap] = found.gaps
    assert gap.startswith(f"{CHECKOUT_REQUESTS.name}/{PARTITION} was searched for unread requests from offset ")
    assert len((await deployment.find(ORDER_ID)).trails) == 1


async def test_without_kafka_what_postgres_has_is_shown(deployment: Deployment) -> None:
    sent = deployment.accept(INVOICE_REQUESTS, written(catalog.INVOICE_REQUEST, request(order_id=ORDER_ID)))
    await deployment.handle(INVOICE_REQUESTS, sent)
    found = await deployment.find(ORDER_ID, bootstrap="127.0.0.1:1", seconds_max=0.5)
    [trail] = found.trails
    assert steps(trail)[0] == ("kafka", "invoice request accepted")
    assert trail.entries[0].at is None
    [gap] = found.gaps
    assert gap.startswith("requests are not shown as Kafka has them: cannot query Kafka")


async def test_a_record_of_another_order_at_the_same_offset_is_not_the_request(deployment: Deployment) -> None:
    """As after a topic was recreated: the record's time says nothing about this order."""
    other = deployment.accept(INVOICE_REQUESTS, b"", _NEIGHBOUR)
    value = written(catalog.INVOICE_REQUEST, request(order_id=ORDER_ID))
    await deployment.handle(INVOICE_REQUESTS, Sent(other.offset, value, ORDER_ID.encode()))
    [accepted, *_] = (await deployment.one()).entries
    assert (accepted.place, accepted.at) == (Place(INVOICE_REQUESTS.name, PARTITION, other.offset), None)


@pytest.fixture
def gapless_order(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """The command, on the test's services."""
    monkeypatch.setenv("GAPLESS_KAFKA_BOOTSTRAP", deployment.services.kafka_bootstrap)
    monkeypatch.setenv("GAPLESS_POSTGRES_URL", deployment.shop.url)
    return lambda *arguments: CliRunner().invoke(order, arguments)


async def test_the_command_shows_the_trail_to_people_and_to_programs(
    deployment: Deployment, gapless_order: Callable[..., Result]
) -> None:
    checkout = deployment.accept(CHECKOUT_REQUESTS, written(catalog.CHECKOUT_REQUEST, checkout_body(ORDER_ID)))
    await deployment.handle(CHECKOUT_REQUESTS, checkout)
    shown = await asyncio.to_thread(gapless_order, ORDER_ID)
    assert shown.exit_code == 0, shown.output
    first, *_ = shown.stdout.splitlines()
    assert first == f"{ORDER_ID} of demo: PAYMENT_PENDING"
    assert re.search(
        rf"kafka +checkout accepted +checkout-requests/{PARTITION} offset {checkout.offset}\b", shown.stdout
    )
    assert "waits for payments to take up authorize, since 20" in shown.stdout
    told = json.loads((await asyncio.to_thread(gapless_order, ORDER_ID, "--json")).stdout)
    [shown_order] = told["orders"]
    assert (shown_order["seller_id"], shown_order["state"]) == ("demo", "PAYMENT_PENDING")
    assert shown_order["steps"][0]["offset"] == checkout.offset
    assert shown_order["outstanding"][0]["stage"] == "payments"


async def test_what_is_not_found_is_one_line_and_exit_code_1(gapless_order: Callable[..., Result]) -> None:
    for arguments, code, says in (
        (["A-9"], 1, "there is no order and no invoice 'A-9'"),
        (["A-9", "--seller", "demo"], 1, "there is no order and no invoice 'A-9' of seller 'demo'"),
        (["nobody@shop.example"], 1, "there is no order of 'nobody@shop.example'"),
        (["A\n9"], 2, "control characters"),
    ):
        result = await asyncio.to_thread(gapless_order, *arguments)
        assert result.exit_code == code
        assert says in result.stderr
        assert result.stdout == ""
