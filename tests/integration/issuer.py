"""The invoices agent and the relay, as one task of the test that can be held back."""

import asyncio
import contextlib
import hashlib
from datetime import UTC, datetime
from typing import Any

import psycopg
from confluent_kafka import Consumer, TopicPartition

from runtime.publisher import Publisher
from runtime.settings import load
from schemas import catalog
from sinks.object_store.store import open_store
from sinks.postgres.positions import read_positions
from sinks.postgres.session import Session
from streams.engine.batch import Batch
from streams.engine.work import Worker
from streams.invoices import InvoicesWork
from tests.conftest import PARTITIONS, Services
from tests.integration.gateways import Topics
from tests.integration.test_invoices_work import FakeTable, Sent

REQUESTS, EVENTS = catalog.INVOICE_REQUESTS.name, catalog.INVOICE_EVENTS.name


class Issuer:
    """Reads a test's requests, issues them into its ledger, and publishes its journal."""

    def __init__(self, services: Services, postgres_url: str, topics: Topics) -> None:
        self._services = services
        self._url = postgres_url
        self._topics = topics
        self._task: asyncio.Task[None] | None = None
        #: Cleared, the ledger's events stay unpublished, as without a relay.
        self.publishes = True
        self._published: dict[int, int] = {}

    async def __aenter__(self) -> "Issuer":
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def store_document(self, order_id: str, body: bytes) -> str:
        """Make `body` the order's document; its digest in hex."""
        digest = hashlib.sha256(body).hexdigest()
        key = f"invoices/demo/2026/{order_id}-{digest[:16]}.pdf"
        await open_store(load(objects_url=self._services.objects.as_uri())).put_if_absent(key, body)
        async with await psycopg.AsyncConnection.connect(self._url, autocommit=True) as connection:
            await connection.execute(
                "INSERT INTO documents SELECT series_id, number, %s, decode(%s, 'hex'), %s, 1, now()"
                " FROM invoices WHERE order_id = %s",
                (key, digest, len(body), order_id),
            )
        return digest

    async def _run(self) -> None:
        consumer = Consumer({"bootstrap.servers": self._services.kafka_bootstrap, "group.id": "issuer"})
        partitions = range(PARTITIONS)
        consumer.assign([TopicPartition(self._topics.requests.name, partition, 0) for partition in partitions])
        session = Session(self._url)
        publisher = Publisher(self._services.kafka_bootstrap)
        worker = Worker(session, self._no_holes)
        work = InvoicesWork(FakeTable(), lambda: datetime.now(UTC))  # type: ignore[arg-type]
        try:
            async with session.connection() as connection:
                await read_positions(connection, "invoices", REQUESTS, list(partitions))
            while True:
                batches = await asyncio.to_thread(_poll, consumer)
                for partition, records in batches.items():
                    await worker.run(work, Batch(REQUESTS, partition, records))
                if self.publishes:
                    await self._publish(session, publisher)
        finally:
            await publisher.close()
            await session.close()
            consumer.close()

    async def _publish(self, session: Session, publisher: Publisher) -> None:
        async with session.connection() as connection:
            cursor = await connection.execute(
                "SELECT partition, seq, key, payload FROM journal WHERE topic = %s ORDER BY partition, seq", (EVENTS,)
            )
            rows = await cursor.fetchall()
        for partition, seq, key, payload in rows:
            if seq > self._published.get(partition, 0):
                await publisher.publish(self._topics.events.name, key, payload, partition=partition)
                self._published[partition] = seq

    async def _no_holes(self, topic: str, partition: int, offset: int) -> tuple[int, int]:
        raise AssertionError("the test's log has no holes")


def _poll(consumer: Consumer) -> dict[int, list[Sent]]:
    batches: dict[int, list[Any]] = {}
    first = consumer.poll(0.05)
    for message in [] if first is None else [first, *consumer.consume(500, 0)]:
        assert message.error() is None, message.error()
        record = Sent(message.offset() or 0, message.value(), message.key())
        batches.setdefault(message.partition() or 0, []).append(record)
    return batches
