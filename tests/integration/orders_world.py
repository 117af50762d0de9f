"""A small shop with all that belongs to it: checkouts in Kafka, orders of every fate, stock, money and invoices."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg

from domain.records import CheckoutRequest
from schemas import catalog
from sinks.postgres.session import Session
from sinks.postgres.stock import Adjust, SetOnHand, Stock
from streams.checkouts import CheckoutsWork
from streams.engine.batch import Batch
from streams.engine.work import Worker
from streams.invoices import InvoicesWork
from streams.orders import OrdersWork, expire_once
from tests.conftest import PARTITIONS
from tests.integration.counting import count_all
from tests.integration.shop import HOLD, checkout_body, command
from tests.integration.test_invoices_work import FakeTable
from tests.integration.world import NOW, Sent, World, append, make_topics, relay, store_documents
from tests.records import written

TOPICS = (
    catalog.CHECKOUT_REQUESTS,
    catalog.ORDER_COMMANDS,
    catalog.INVOICE_REQUESTS,
    catalog.ORDER_EVENTS,
    catalog.INVENTORY_EVENTS,
    catalog.PAYMENT_EVENTS,
    catalog.INVOICE_EVENTS,
    catalog.DEAD_LETTERS,
)
_LATER = HOLD + timedelta(seconds=1)


class Shop:
    """The agents of two partitions, and a payment provider that does as it is told."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.session = Session(world.postgres_url)
        self.worker = Worker(self.session, self._probe)
        self.now = NOW
        now: Callable[[], Any] = lambda: self.now  # noqa: E731
        self.works: dict[catalog.Topic, CheckoutsWork | OrdersWork | InvoicesWork] = {
            catalog.CHECKOUT_REQUESTS: CheckoutsWork(FakeTable(), now, HOLD),  # type: ignore[arg-type]
            catalog.ORDER_COMMANDS: OrdersWork(now),
            catalog.PAYMENT_EVENTS: OrdersWork(now),
            catalog.INVOICE_REQUESTS: InvoicesWork(FakeTable(), now),  # type: ignore[arg-type]
        }

    async def send(self, topic: catalog.Topic, partition: int, *values: bytes | None) -> None:
        """Into the log, and through the agent."""
        for value in values:
            self.world.produce(topic.name, partition, b"key", value)
        await self.handle(topic, partition, values)

    async def handle(self, topic: catalog.Topic, partition: int, values: tuple[bytes | None, ...]) -> None:
        work: Any = self.works[topic]
        with psycopg.connect(self.world.postgres_url) as connection:
            connection.execute(
                "INSERT INTO positions VALUES (%s, %s, %s, 0) ON CONFLICT DO NOTHING",
                (work.agent, topic.name, partition),
            )
            row = connection.execute(
                "SELECT next_offset FROM positions WHERE (agent, topic, partition) = (%s, %s, %s)",
                (work.agent, topic.name, partition),
            ).fetchone()
        assert row is not None
        sent = [Sent(row[0] + index, b"key", value) for index, value in enumerate(values)]
        await self.worker.run(work, Batch(topic.name, partition, sent))

    async def checkout(self, partition: int, *bodies: CheckoutRequest | bytes) -> None:
        values = [written(catalog.CHECKOUT_REQUEST, b) if not isinstance(b, bytes) else b for b in bodies]
        await self.send(catalog.CHECKOUT_REQUESTS, partition, *values)

    async def command(self, partition: int, order_id: str, action: str, **changes: Any) -> None:
        await self.send(catalog.ORDER_COMMANDS, partition, command(order_id, action, **changes))

    async def pay(self, order_id: str, request_id: str, outcome: str = "succeeded", amount: int | None = None) -> None:
        """What the payments agent writes when an attempt is finished, and what orders make of it."""
        action = request_id.partition(":")[0]
        with psycopg.connect(self.world.postgres_url) as connection:
            row = connection.execute(
                "INSERT INTO payment_attempts (seller_id, order_id, request_id, partition, action, amount_minor,"
                " currency, provider_key, state, next_try_at, reference, reason, created_at, finished_at)"
                " SELECT 'demo', order_id, %s, partition, %s, coalesce(%s, gross_minor), currency, order_id || %s, %s,"
                " now(), 'ref', %s, now(), now() FROM orders WHERE order_id = %s"
                " ON CONFLICT (seller_id, order_id, request_id) DO UPDATE SET state = excluded.state,"
                " amount_minor = excluded.amount_minor, provider_key = excluded.provider_key,"
                " reference = excluded.reference, reason = excluded.reason, finished_at = excluded.finished_at"
                " RETURNING partition, amount_minor",
                (request_id, action, amount, request_id, outcome, "" if outcome == "succeeded" else "why", order_id),
            ).fetchone()
            assert row is not None
            event: dict[str, object] = {
                "seller_id": "demo", "order_id": order_id, "request_id": request_id, "action": action,
                "outcome": outcome, "amount_minor": row[1], "currency": "EUR", "provider": "local",
                "reference": "ref", "reason": "" if outcome == "succeeded" else "why", "tries": 1, "occurred_at": 0,
            }  # fmt: skip
            topic, schema = catalog.PAYMENT_EVENTS, catalog.PAYMENT_ATTEMPT_FINISHED
            append(connection, topic.name, row[0], order_id.encode(), schema, event)
        # The relay's copy has the same place in the topic.
        await self.handle(catalog.PAYMENT_EVENTS, row[0], (written(schema, event),))

    async def invoice(self) -> None:
        """The invoices agent, on what the journal has asked of it since the last time."""
        for partition in range(2):
            with psycopg.connect(self.world.postgres_url) as connection:
                rows = connection.execute(
                    "SELECT payload FROM journal WHERE (topic, partition) = (%s, %s) AND seq > coalesce(("
                    " SELECT next_offset FROM positions WHERE (agent, topic, partition) = ('invoices', %s, %s)), 0)"
                    " ORDER BY seq",
                    (catalog.INVOICE_REQUESTS.name, partition) * 2,
                ).fetchall()
            if rows:
                await self.handle(catalog.INVOICE_REQUESTS, partition, tuple(payload for (payload,) in rows))

    async def _probe(self, topic: str, partition: int, offset: int) -> tuple[int, int]:
        return offset, 0


def build(kafka: str, postgres_url: str, objects: Path) -> World:
    """A clean and complete shop in an empty, migrated ledger that has the seller `demo`."""
    world = World(kafka, make_topics(kafka, *(topic.name for topic in TOPICS)), postgres_url, objects)
    asyncio.run(_sell(world))
    store_documents(world)
    relay(world)
    world.execute(
        "INSERT INTO positions (agent, topic, partition, next_offset)"
        " SELECT agent, topic, partition, next_seq - 1 FROM journal_heads"
        " JOIN (VALUES ('documents', %s), ('payments', %s), ('stock', %s), ('stock', %s), ('notifications', %s),"
        " ('notifications', %s)) AS reader (agent, topic) USING (topic)",
        *(topic.name for topic in (
            catalog.INVOICE_EVENTS, catalog.ORDER_EVENTS, catalog.ORDER_EVENTS, catalog.INVENTORY_EVENTS,
            catalog.ORDER_EVENTS, catalog.INVOICE_EVENTS,
        )),
    )  # fmt: skip
    asyncio.run(count_all(postgres_url))
    return world


async def _sell(world: World) -> None:
    stock = Stock(world.postgres_url)
    for sku, pieces in (("MUG", 20), ("TEA", 12), ("HAT", 1)):
        await stock.change(SetOnHand("demo", sku, pieces), PARTITIONS, NOW)
    await stock.change(Adjust("demo", "MUG", -3, "broken"), PARTITIONS, NOW)
    await stock.close()
    shop = Shop(world)
    await shop.checkout(
        0,
        checkout_body("confirmed", ("MUG", 1), ("TEA", 2), ("MUG", 2)),
        checkout_body("delivered", ("TEA", 2), ("MUG", 1)),
        checkout_body("cancelled", ("MUG", 2)),
        checkout_body("confirmed", ("MUG", 1), ("TEA", 2), ("MUG", 2), payment_token="tok_other"),  # A repeat.
        checkout_body("confirmed", ("MUG", 9)),  # A conflict.
        checkout_body("odd", ("MUG", 1), currency="XXX"),
        b"garbage",
    )
    await shop.checkout(
        1,
        checkout_body("refunded", ("TEA", 1)),
        checkout_body("declined", ("MUG", 1)),
        checkout_body("hat", ("HAT", 1)),
        checkout_body("short", ("HAT", 1), ("MUG", 1)),
        checkout_body("late", ("TEA", 1)),
        checkout_body("given-up", ("MUG", 1)),
        checkout_body("open", ("TEA", 1)),
    )
    for order_id in ("confirmed", "delivered", "cancelled", "refunded"):
        await shop.pay(order_id, "authorize")
    await shop.pay("declined", "authorize", "declined")
    await shop.command(1, "given-up", "cancel", reason="changed my mind")
    await shop.pay("given-up", "authorize")
    await shop.pay("given-up", "void")
    for partition, order_id in ((0, "delivered"), (1, "refunded")):
        await shop.command(partition, order_id, "ship")
        await shop.pay(order_id, "capture")
        await shop.command(partition, order_id, "deliver")
    await shop.invoice()
    await shop.command(0, "cancelled", "cancel", reason="too late")
    await shop.pay("cancelled", "void")
    await _refund(shop, 0, "delivered", "r1", [{"line": 0, "quantity": 1}])
    await _refund(shop, 1, "refunded", "all", [])
    # Holds of the rest expire; one is paid late and finds its stock.
    shop.now = NOW + _LATER
    assert await expire_once(shop.session, shop.now) == 3
    await shop.pay("late", "authorize")
    await shop.invoice()
    await shop.session.close()
    # Of an order whose event nobody has read, a release before this one has none.
    world.execute("DELETE FROM payment_attempts WHERE state = 'open'")


async def _refund(shop: Shop, partition: int, order_id: str, refund_id: str, lines: list[dict[str, int]]) -> None:
    await shop.command(partition, order_id, "refund", refund_id=refund_id, lines=lines)
    with psycopg.connect(shop.world.postgres_url) as connection:
        row = connection.execute("SELECT amount_minor FROM refunds WHERE refund_id = %s", (refund_id,)).fetchone()
    assert row is not None
    await shop.pay(order_id, f"refund:{refund_id}", amount=row[0])
