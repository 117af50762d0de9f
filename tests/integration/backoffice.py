"""Everything behind the gateway that an order needs, as one task of the test: both agents, a provider and the relay."""

import asyncio
import contextlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from confluent_kafka import Consumer, TopicPartition

from admission.mirror import Mirror
from domain.reservation import Level
from runtime.publisher import Publisher
from schemas import catalog, codec
from sinks.postgres.positions import read_positions
from sinks.postgres.session import Connection, Session
from streams.checkouts import CheckoutsWork
from streams.engine.batch import Batch
from streams.engine.work import Worker
from streams.orders import OrdersWork
from tests.conftest import PARTITIONS, Services
from tests.integration.gateways import Topics
from tests.integration.test_invoices_work import FakeTable, Sent
from tests.records import written

#: What the provider says to a token; others are never answered.
ANSWERS = {
    "tok_ok": ("succeeded", ""),
    "tok_decline": ("declined", "insufficient_funds"),
    "tok_fail": ("failed", "gone"),
}


class Backoffice:
    """Reads a test's checkouts and commands, decides them in its ledger, and publishes its journal."""

    def __init__(self, services: Services, postgres_url: str, topics: Topics) -> None:
        self._services = services
        self._url = postgres_url
        self._topics = topics
        self._task: asyncio.Task[None] | None = None
        self._published: dict[int, int] = {}
        self._payments: dict[int, int] = {}
        #: Cleared, the ledger's events stay unpublished, as without a relay.
        self.publishes = True

    async def __aenter__(self) -> "Backoffice":
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def mirror(self, sku: str, level: Level) -> None:
        """Let Redis know of a SKU of `demo`."""
        mirror = Mirror(self._services.redis_url)
        try:
            await mirror.adopt("demo", [(sku, level)], force=True)
            _, run_id, *_ = await mirror.tick("demo")
            assert await mirror.complete("demo", run_id)
        finally:
            await mirror.close()

    async def _run(self) -> None:
        own = {self._topics.checkouts.name: "checkouts", self._topics.commands.name: "commands"}
        consumer = Consumer({"bootstrap.servers": self._services.kafka_bootstrap, "group.id": "backoffice"})
        partitions = list(range(PARTITIONS))
        consumer.assign([TopicPartition(topic, partition, 0) for topic in own for partition in partitions])
        session = Session(self._url)
        publisher = Publisher(self._services.kafka_bootstrap)
        worker = Worker(session, self._no_holes)
        checkouts = CheckoutsWork(FakeTable(), lambda: datetime.now(UTC), timedelta(minutes=10))  # type: ignore[arg-type]
        orders = OrdersWork(lambda: datetime.now(UTC))
        try:
            async with session.connection() as connection:
                await read_positions(connection, "checkouts", catalog.CHECKOUT_REQUESTS.name, partitions)
                for topic in (catalog.ORDER_COMMANDS, catalog.PAYMENT_EVENTS):
                    await read_positions(connection, "orders", topic.name, partitions)
            while True:
                for (topic_name, partition), records in (await asyncio.to_thread(_poll, consumer)).items():
                    if own[topic_name] == "checkouts":
                        await worker.run(checkouts, Batch(catalog.CHECKOUT_REQUESTS.name, partition, records))
                    else:
                        await worker.run(orders, Batch(catalog.ORDER_COMMANDS.name, partition, records))
                if self.publishes:
                    await self._relay(session, publisher, worker, orders)
        finally:
            await publisher.close()
            await session.close()
            consumer.close()

    async def _relay(self, session: Session, publisher: Publisher, worker: Worker, orders: OrdersWork) -> None:
        """Publish what is new; the provider answers what is asked of it."""
        async with session.connection() as connection:
            cursor = await connection.execute(
                "SELECT partition, seq, key, payload FROM journal WHERE topic = %s ORDER BY partition, seq",
                (catalog.ORDER_EVENTS.name,),
            )
            rows = await cursor.fetchall()
        for partition, seq, key, payload in rows:
            if seq <= self._published.get(partition, 0):
                continue
            self._published[partition] = seq
            await publisher.publish(self._topics.order_events.name, key, payload, partition=partition)
            answer = await self._provider(session, partition, payload)
            if answer is not None:
                offset = self._payments.get(partition, 0)
                self._payments[partition] = offset + 1
                record: Any = Sent(offset, answer, key)
                await worker.run(orders, Batch(catalog.PAYMENT_EVENTS.name, partition, [record]))

    async def _provider(self, session: Session, partition: int, payload: bytes) -> bytes | None:
        schema, event = codec.decode(payload, *catalog.ORDER_EVENTS.schemas, bytes_max=1_000_000)
        if schema not in (catalog.ORDER_PLACED, catalog.PAYMENT_REQUESTED):
            return None
        async with session.connection() as connection:
            return await self._attempt(connection, partition, event)

    async def _attempt(self, connection: Connection, partition: int, event: Mapping[str, Any]) -> bytes | None:
        cursor = await connection.execute(
            "SELECT payment_token FROM orders WHERE seller_id = %s AND order_id = %s",
            (event["seller_id"], event["order_id"]),
        )
        [(token,)] = await cursor.fetchall()
        action = event.get("action", "authorize")
        outcome, reason = ANSWERS.get(token, ("open", "")) if action == "authorize" else ("succeeded", "")
        request_id = event.get("request_id", "authorize")
        amount = event.get("amount_minor", event.get("gross_minor"))
        await connection.execute(
            "INSERT INTO payment_attempts (seller_id, order_id, request_id, partition, action, amount_minor, currency,"
            " provider_key, state, reason, next_try_at, created_at)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, now(), now())"
            " ON CONFLICT (seller_id, order_id, request_id) DO UPDATE"
            " SET state = excluded.state, reason = excluded.reason, provider_key = excluded.provider_key",
            (
                event["seller_id"], event["order_id"], request_id, partition, action, amount, event["currency"],
                f"{event['seller_id']}:{event['order_id']}:{request_id}", outcome, reason,
            ),
        )  # fmt: skip
        if outcome == "open":
            return None
        return written(catalog.PAYMENT_ATTEMPT_FINISHED, {
            "seller_id": event["seller_id"], "order_id": event["order_id"], "request_id": request_id, "action": action,
            "outcome": outcome, "amount_minor": amount, "currency": event["currency"], "provider": "local",
            "reference": "r", "reason": reason, "tries": 1, "occurred_at": 0,
        })  # fmt: skip

    async def _no_holes(self, topic: str, partition: int, offset: int) -> tuple[int, int]:
        raise AssertionError("the test's log has no holes")


def _poll(consumer: Consumer) -> dict[tuple[str, int], list[Any]]:
    batches: dict[tuple[str, int], list[Any]] = {}
    first = consumer.poll(0.03)
    for message in [] if first is None else [first, *consumer.consume(500, 0)]:
        assert message.error() is None, message.error()
        record = Sent(message.offset() or 0, message.value(), message.key())
        batches.setdefault((message.topic() or "", message.partition() or 0), []).append(record)
    return batches
