"""Producers that are none of ours, writing to the topics that anybody may write to: real agents, and a clean audit."""

import asyncio
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

from confluent_kafka import Producer
from psycopg.rows import scalar_row

from schemas import catalog, codec
from schemas.placement import partition_of
from tests.conftest import PARTITIONS
from tests.e2e.running import Running, wait_for
from tests.integration.shop import checkout_body, command
from tests.records import written
from tests.unit.domain.test_invoice import request

INVOICES, CHECKOUTS = catalog.INVOICE_REQUESTS, catalog.CHECKOUT_REQUESTS
_S_MAX = 120.0
#: Much longer than an audit takes on any machine: the brokers must not end the transaction that it is to see open.
_TIMEOUT_MS = 600_000


def in_partition(partition: int, prefix: str) -> Iterator[str]:
    """Order ids whose key belongs there."""
    ids = (f"{prefix}-{number}" for number in range(10**6))
    return (each for each in ids if partition_of(each.encode(), PARTITIONS) == partition)


def invoice(order_id: str) -> bytes:
    return written(catalog.INVOICE_REQUEST, request(order_id=order_id))


def checkout(order_id: str) -> bytes:
    return written(catalog.CHECKOUT_REQUEST, checkout_body(order_id, ("TX-1", 1)))


def placed_wrongly(order_id: str, value: bytes) -> list[tuple[str | None, bytes, int]]:
    """Key, value and partition: another partition than the key's, another key than the order's, and none."""
    its = partition_of(order_id.encode(), PARTITIONS)
    other = f"{order_id}-other"
    return [
        (order_id, value, (its + 1) % PARTITIONS),
        (other, value, partition_of(other.encode(), PARTITIONS)),
        (None, value, its),
    ]


class Foreign:
    """A producer of the world, with transactions if it has a name for them."""

    def __init__(self, running: Running, transactional_id: str | None = None) -> None:
        config: dict[str, Any] = {"bootstrap.servers": running.settings.kafka_bootstrap, "acks": "all", "linger.ms": 0}
        if transactional_id is not None:
            config |= {"transactional.id": transactional_id, "transaction.timeout.ms": _TIMEOUT_MS}
        self.producer = Producer({**config, "partitioner": "murmur2_random"})
        if transactional_id is not None:
            self.producer.init_transactions(_S_MAX)

    def send(
        self,
        topic: catalog.Topic,
        key: str | None,
        value: bytes,
        partition: int = -1,
        headers: list[tuple[str, str | bytes | None]] | None = None,
    ) -> None:
        encoded = None if key is None else key.encode()
        self.producer.produce(topic.name, value, encoded, partition, headers=headers or [])
        assert self.producer.flush(_S_MAX) == 0


def invoiced(running: Running, *order_ids: str) -> list[str]:
    with running.ledger() as ledger:
        rows = ledger.execute("SELECT order_id FROM invoices WHERE order_id = ANY(%s)", (list(order_ids),)).fetchall()
    return sorted(str(order_id) for (order_id,) in rows)


def placed(running: Running, *order_ids: str) -> list[str]:
    with running.ledger() as ledger:
        rows = ledger.execute("SELECT order_id FROM orders WHERE order_id = ANY(%s)", (list(order_ids),)).fetchall()
    return sorted(str(order_id) for (order_id,) in rows)


async def stock(running: Running) -> None:
    async with running.client() as client:
        assert (await client.put_stock("TX-1", 1_000)).status == 200


async def test_only_what_a_transaction_commits_has_an_effect(running: Running) -> None:
    """Aborted records are passed over, and the log ends with a control record: that is no lag."""
    await stock(running)
    await asyncio.to_thread(_commit_and_abort, running)
    report = await asyncio.to_thread(running.assert_clean)
    assert report.lag.total() == report.held_back.total() == 0


def _commit_and_abort(running: Running) -> None:
    name = uuid4().hex[:8]
    producer = Foreign(running, name)
    asked = {how: [f"{name}-{how}-{number}" for number in range(8)] for how in ("abort", "commit", "late")}
    bought = {how: [f"{order_id}-c" for order_id in order_ids] for how, order_ids in asked.items()}
    for how in asked:
        producer.producer.begin_transaction()
        for order_id in asked[how]:
            producer.send(INVOICES, order_id, invoice(order_id))
        for order_id in bought[how]:
            producer.send(CHECKOUTS, order_id, checkout(order_id))
        if how == "commit":
            producer.producer.commit_transaction(_S_MAX)
        else:
            producer.producer.abort_transaction(_S_MAX)
    committed = sorted(asked["commit"] + bought["commit"])
    wait_for(lambda: invoiced(running, *committed) == committed, "invoices of what was committed", _S_MAX)
    running.wait_until_drained()
    aborted = [order_id for how in ("abort", "late") for order_id in asked[how] + bought[how]]
    assert invoiced(running, *aborted) == placed(running, *aborted) == []


async def test_an_open_transaction_holds_back_what_follows_it_until_the_brokers_end_it(running: Running) -> None:
    await stock(running)
    await asyncio.to_thread(_leave_open, running)
    await asyncio.to_thread(running.assert_clean)


def _leave_open(running: Running) -> None:
    name = uuid4().hex[:8]
    asked, bought = in_partition(2, name), in_partition(2, f"{name}-c")
    before, opened, behind = ([next(asked), next(bought)] for _ in range(3))
    plain, producer = Foreign(running), Foreign(running, name)
    _send(plain, before)
    wait_for(lambda: _done(running, before) == before, "what was before", _S_MAX)
    running.wait_until_drained()
    producer.producer.begin_transaction()
    _send(producer, opened)
    _send(plain, behind)
    # Seen as what it is, and passed over by nobody: neither lag nor a hole.
    report = running.audit_as_it_is()
    assert report.clean, list(report.shown())
    assert report.held_back["invoices invoice-requests"] == report.held_back["checkouts checkout-requests"] == 2
    assert not running.is_drained()
    assert _done(running, opened) == _done(running, behind) == []
    # Its producer has gone. To the next of the same name the brokers say that it is ended.
    del producer
    Foreign(running, name)
    wait_for(lambda: _done(running, behind) == behind, "what was held back", _S_MAX)
    assert _done(running, opened) == []


def _send(producer: Foreign, order_ids: list[str]) -> None:
    asked, bought = order_ids
    producer.send(INVOICES, asked, invoice(asked))
    producer.send(CHECKOUTS, bought, checkout(bought))


def _done(running: Running, order_ids: list[str]) -> list[str]:
    asked, bought = order_ids
    return invoiced(running, asked) + placed(running, bought)


async def test_records_in_the_wrong_place_become_dead_letters_and_change_nothing(running: Running) -> None:
    """As librdkafka's own partitioner places them: an order sold there could never be shipped or cancelled."""
    await stock(running)
    # Other tests misplace records on the same stack.
    before = (await asyncio.to_thread(running.assert_clean)).counts["records in the wrong place"]
    name = uuid4().hex[:8]
    async with running.client() as client:
        body = {**checkout_body(f"{name}-kept", ("TX-1", 1))}
        body = {each: body[each] for each in ("order_id", "customer", "payment_token", "currency", "buyer", "lines")}
        assert (await client.post_checkout(body, wait_s=30)).status == 201
        await asyncio.to_thread(_misplace, running, name)
        assert (await client.get_order(f"{name}-kept")).json()["state"] == "CONFIRMED"
        assert (await client.cancel(f"{name}-kept")).json()["state"] == "CANCELLED"
    report = await asyncio.to_thread(running.assert_clean)
    assert report.counts["records in the wrong place"] - before == 6


def _misplace(running: Running, name: str) -> None:
    producer = Foreign(running)
    notice = {"received_at": 0, "seller_id": "demo", "order_id": f"{name}-kept", "provider": "local", "event_id": "e"}
    values = {
        CHECKOUTS: (f"{name}-c", checkout(f"{name}-c")),
        INVOICES: (f"{name}-i", invoice(f"{name}-i")),
        catalog.ORDER_COMMANDS: (f"{name}-kept", command(f"{name}-kept", "cancel")),
        catalog.PAYMENT_NOTICES: (f"{name}-kept", written(catalog.PAYMENT_NOTICE, notice)),
    }
    assert set(values) == set(catalog.INPUT_TOPICS)
    for topic, (order_id, value) in values.items():
        for key, its_value, partition in placed_wrongly(order_id, value):
            producer.send(topic, key, its_value, partition)
    running.wait_until_drained()
    with running.ledger() as ledger:
        cursor = ledger.cursor(row_factory=scalar_row)
        payloads = cursor.execute(
            "SELECT payload FROM journal WHERE topic = %s", (catalog.DEAD_LETTERS.name,)
        ).fetchall()
    letters = [codec.decode(payload, catalog.DEAD_LETTER, bytes_max=10**7)[1] for payload in payloads]
    for topic, (_, value) in values.items():
        its = [each for each in letters if each["source_topic"] == topic.name and each["value"] == value]
        reasons = sorted(each["error"].partition(":")[0] for each in its)
        assert reasons == ["wrong-key", "wrong-key", "wrong-partition"]
    assert placed(running, f"{name}-c") == invoiced(running, f"{name}-i") == []


async def test_what_was_misplaced_is_done_once_after_a_redrive(running: Running) -> None:
    """Each record stands in two wrong places, and is sent again from both; so is the command of an order."""
    await stock(running)
    # Other tests redrive on the same stack.
    redriven = (await asyncio.to_thread(running.assert_clean)).counts["dead letters redriven"]
    name = uuid4().hex[:8]
    kept = f"{name}-kept"
    async with running.client() as client:
        body = {**checkout_body(kept, ("TX-1", 1))}
        body = {each: body[each] for each in ("order_id", "customer", "payment_token", "currency", "buyer", "lines")}
        assert (await client.post_checkout(body, wait_s=30)).status == 201
        await asyncio.to_thread(_misplace, running, name)
        for order_id, count in ((f"{name}-c", 3), (f"{name}-i", 3), (kept, 6)):
            done = await running.gapless("dead-letters", "redrive", "--order", order_id, "--why", "placed rightly")
            assert (done.code, done.output.splitlines()[-1]) == (0, f"{count} sent, 0 stay open"), done
        await asyncio.to_thread(running.wait_until_drained)
        assert (await client.get_order(kept)).json()["state"] == "CANCELLED"
        assert (await client.get_order(f"{name}-c")).json()["state"] == "CONFIRMED"
    assert invoiced(running, f"{name}-i", f"{name}-c") == [f"{name}-c", f"{name}-i"]
    shown = await running.gapless("dead-letters", "list", "--order", kept)
    assert shown.output.splitlines()[-1] == "0 open"
    report = await asyncio.to_thread(running.assert_clean)
    assert report.counts["dead letters redriven"] - redriven == 12


async def test_a_header_of_the_relays_on_a_foreign_record_changes_nothing(running: Running) -> None:
    """It is a request like any other, whatever its header says, and the relay's own go on."""
    await stock(running)
    await asyncio.to_thread(_forge, running)
    await asyncio.to_thread(running.assert_clean)


def _forge(running: Running) -> None:
    name = uuid4().hex[:8]
    producer = Foreign(running)
    for at, seq in enumerate((b"1", b"2", b"999999", b"x", b"")):
        order_id = f"{name}-{at}"
        producer.send(INVOICES, order_id, invoice(order_id), headers=[(catalog.SEQ_HEADER, seq)])
        # The relay publishes what a confirmed order asks for.
        producer.send(CHECKOUTS, f"{order_id}-c", checkout(f"{order_id}-c"))
    wanted = sorted(f"{name}-{at}{kind}" for at in range(5) for kind in ("", "-c"))
    wait_for(lambda: invoiced(running, *wanted) == wanted, "an invoice for each", _S_MAX)
