"""A small ledger with all that belongs to it: requests in Kafka, invoices, journal, topics, documents."""

import asyncio
import hashlib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
from confluent_kafka import Consumer, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from audit.report import AuditReport
from audit.run import run_audit
from schemas import catalog, codec
from sinks.postgres.positions import read_positions
from sinks.postgres.session import Session
from streams.engine.batch import Batch
from streams.engine.work import Worker
from streams.invoices import InvoicesWork
from tests.conftest import PARTITIONS
from tests.integration.counting import count_all
from tests.integration.test_invoices_work import FakeTable
from tests.records import written
from tests.unit.domain.test_invoice import line, request

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
REQUESTS, EVENTS, DEAD = catalog.INVOICE_REQUESTS.name, catalog.INVOICE_EVENTS.name, catalog.DEAD_LETTERS.name
Headers = list[tuple[str, str | bytes | None]]


@dataclass(frozen=True)
class Sent:
    """A record as a batch holds it."""

    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True)
class World:
    """Where the parts are."""

    kafka: str
    prefix: str
    postgres_url: str
    objects: Path

    def audit(self, *, complete: bool = False, provider_url: str | None = None) -> AuditReport:
        """Audit it."""

        def read(key: str) -> list[bytes]:
            return [(self.objects / key).read_bytes()]

        return run_audit(
            self.postgres_url, self.kafka, read, topic_prefix=self.prefix, complete=complete, provider_url=provider_url
        )

    def execute(self, sql: str, *parameters: object) -> None:
        """Change the ledger by hand."""
        with psycopg.connect(self.postgres_url, autocommit=True) as connection:
            connection.execute(sql.encode(), parameters)

    def produce(
        self, topic: str, partition: int, key: bytes | None, value: bytes | None, headers: Headers | None = None
    ) -> None:
        """Append a record to one of its topics."""
        producer = Producer({"bootstrap.servers": self.kafka, "acks": "all"})
        producer.produce(self.prefix + topic, value, key, partition, headers=headers or [])
        assert producer.flush(60) == 0

    def with_topics_of_its_own(self) -> "World":
        """The same with copies of the topics, to be changed at will."""
        copied = replace(self, prefix=make_topics(self.kafka))
        producer = Producer({"bootstrap.servers": self.kafka, "acks": "all", "linger.ms": 1})
        for topic in (REQUESTS, EVENTS, DEAD):
            for partition in range(PARTITIONS):
                for message in self.records(topic, partition):
                    producer.produce(
                        copied.prefix + topic,
                        message.value(),
                        message.key(),
                        partition,
                        headers=message.headers() or [],
                    )
        assert producer.flush(60) == 0
        return copied

    def records(self, topic: str, partition: int) -> list[Message]:
        """All records of one of its partitions."""
        consumer = Consumer({"bootstrap.servers": self.kafka, "group.id": "world", "enable.auto.commit": False})
        try:
            at = TopicPartition(self.prefix + topic, partition, 0)
            _, end = consumer.get_watermark_offsets(at, timeout=60)
            consumer.assign([at])
            found: list[Message] = []
            while len(found) < end:
                found += consumer.consume(end - len(found), timeout=5)
            return found
        finally:
            consumer.close()


def make_topics(kafka: str, *names: str, partitions: int = PARTITIONS) -> str:
    """Fresh topics under a prefix of their own; returns it."""
    prefix = f"{uuid.uuid4().hex[:12]}-"
    admin = AdminClient(
        {"bootstrap.servers": kafka}
    )  # Held until the answers are there: they come from its own thread.
    made = admin.create_topics([NewTopic(prefix + name, partitions, 1) for name in names or (REQUESTS, EVENTS, DEAD)])
    for future in made.values():
        future.result(60)
    return prefix


def requests_of_every_kind() -> list[list[tuple[bytes | None, bytes | None]]]:
    """Key and value of the requests of two partitions, with each outcome among them."""

    def sent(order_id: str, **changes: object) -> tuple[bytes, bytes]:
        return order_id.encode(), written(catalog.INVOICE_REQUEST, request(order_id=order_id, **changes))

    two_rates = [line(), line(vat_rate="5.50", quantity="3")]
    first = [
        *(sent(f"A-{n}", lines=two_rates) for n in range(6)),
        sent("A-1", lines=two_rates),  # A repeat.
        sent("A-2"),  # Other content: a conflict.
        sent("A-9", currency="XXX"),  # Breaks a rule.
        sent("A-8", seller_id="nobody"),
        (b"x", b"\x00\x00\x00"),
        (None, None),
    ]
    return [first, [sent(f"B-{n}", currency="JPY") for n in range(4)]]


Requests = Sequence[Sequence[tuple[bytes | None, bytes | None]]]


def build(kafka: str, postgres_url: str, objects: Path, batches: Requests | None = None) -> World:
    """A clean and complete world in an empty, migrated ledger that has the seller `demo`.

    `batches` are the requests of its partitions, key and value; those of every kind if left out.
    """
    world = World(kafka, make_topics(kafka), postgres_url, objects)
    batches = requests_of_every_kind() if batches is None else batches
    for partition, records in enumerate(batches):
        for key, value in records:
            world.produce(REQUESTS, partition, key, value)
    asyncio.run(_issue(postgres_url, batches))
    store_documents(world)
    relay(world)
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO positions (agent, topic, partition, next_offset)"
            " SELECT agent, topic, partition, next_seq - 1 FROM journal_heads"
            " CROSS JOIN (VALUES ('documents'), ('notifications')) AS reader (agent) WHERE topic = %s",
            (EVENTS,),
        )
    asyncio.run(count_all(postgres_url))
    return world


async def _issue(postgres_url: str, batches: Requests) -> None:
    session = Session(postgres_url)

    async def probe(topic: str, partition: int, offset: int) -> tuple[int, int]:
        return offset, 0

    async with session.connection() as connection:
        await read_positions(connection, "invoices", REQUESTS, range(PARTITIONS))
    worker = Worker(session, probe)
    work = InvoicesWork(FakeTable(), lambda: NOW)  # type: ignore[arg-type]
    for partition, records in enumerate(batches):
        sent = [Sent(offset, key, value) for offset, (key, value) in enumerate(records)]
        await worker.run(work, Batch(REQUESTS, partition, sent))
    await session.close()


def store_documents(world: World) -> None:
    """What the documents agent does, with bytes that are quick to make."""
    with psycopg.connect(world.postgres_url) as connection:
        rows = connection.execute(
            "SELECT seller_id, order_id, kind, series_id, number, invoice_number, source_partition FROM invoices"
            " ORDER BY series_id, number"
        ).fetchall()
        for *names, partition in rows:
            event = dict(
                zip(("seller_id", "order_id", "kind", "series_id", "number", "invoice_number"), names, strict=True)
            )
            body = f"%PDF {event['invoice_number']}".encode() * 50
            digest = hashlib.sha256(body)
            key = f"invoices/{event['seller_id']}/2026/{event['invoice_number']}-{digest.hexdigest()[:16]}.pdf"
            (world.objects / key).parent.mkdir(parents=True, exist_ok=True)
            (world.objects / key).write_bytes(body)
            connection.execute(
                "INSERT INTO documents VALUES (%s, %s, %s, %s, %s, 1, %s)",
                (event["series_id"], event["number"], key, digest.digest(), len(body), NOW),
            )
            stored = {
                "key": key,
                "sha256": digest.hexdigest(),
                "size_bytes": len(body),
                "media_type": "application/pdf",
            }
            event |= {**stored, "template_version": 1, "stored_at": 0}
            append(connection, EVENTS, partition, event["order_id"].encode(), catalog.INVOICE_DOCUMENT_STORED, event)


def append(
    connection: psycopg.Connection[tuple[object, ...]],
    topic: str,
    partition: int,
    key: bytes | None,
    schema: catalog.Schema[Any],
    event: Mapping[str, Any],
) -> None:
    """Append an event to the journal as agents do."""
    row = connection.execute(
        "INSERT INTO journal_heads AS h (topic, partition, next_seq) VALUES (%s, %s, 2)"
        " ON CONFLICT (topic, partition) DO UPDATE SET next_seq = h.next_seq + 1 RETURNING next_seq - 1",
        (topic, partition),
    ).fetchone()
    assert row is not None
    connection.execute(
        "INSERT INTO journal VALUES (%s, %s, %s, %s, %s, %s)",
        (topic, partition, row[0], key, codec.encode(schema, event), NOW),
    )


def relay(world: World) -> None:
    """What the relay does, once."""
    producer = Producer({"bootstrap.servers": world.kafka, "acks": "all", "linger.ms": 1})
    with psycopg.connect(world.postgres_url, autocommit=True) as connection:
        rows = connection.execute("SELECT topic, partition, seq, key, payload FROM journal ORDER BY 1, 2, 3").fetchall()
        for topic, partition, seq, key, payload in rows:
            headers: Headers = [(catalog.SEQ_HEADER, str(seq).encode())]
            producer.produce(world.prefix + topic, payload, key, partition, headers=headers)
        assert producer.flush(60) == 0
        connection.execute(
            "INSERT INTO journal_published SELECT topic, partition, next_seq - 1 FROM journal_heads"
            " ON CONFLICT (topic, partition) DO UPDATE SET published_seq = excluded.published_seq"
        )
