"""A small town of sellers and buyers whose ledger grows, with the audit that follows it."""

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
from confluent_kafka import Producer

from audit.follow import Follower, Services
from audit.report import AuditError
from schemas import catalog
from sinks.postgres.stock import SetOnHand, Stock
from tests import conftest
from tests.conftest import PARTITIONS
from tests.integration.orders_world import TOPICS, Shop
from tests.integration.shop import checkout_body
from tests.integration.test_audit import found
from tests.integration.world import EVENTS, NOW, Headers, World, make_topics
from tests.records import written

_SKU = "MUG"


class Town:
    """A world that grows: a shop, its documents, its relay, and a follower of all of it. Partition 0."""

    def __init__(self, services: conftest.Services, postgres_url: str, objects: Path) -> None:
        prefix = make_topics(services.kafka_bootstrap, *(topic.name for topic in TOPICS))
        self.world = World(services.kafka_bootstrap, prefix, postgres_url, objects)
        self.now = 0.0
        self._producer = Producer({"bootstrap.servers": services.kafka_bootstrap, "acks": "all", "linger.ms": 1})
        self._runner = asyncio.Runner()
        self._runner.run(self._open())
        self._names = iter(range(10**6))
        self.follower = self.new_follower()

    async def _open(self) -> None:
        self.shop = Shop(self.world)
        stock = Stock(self.world.postgres_url)
        await stock.change(SetOnHand("demo", _SKU, 100_000), PARTITIONS, NOW)
        await stock.close()

    def new_follower(self) -> Follower:
        where = Services(
            self.world.postgres_url,
            self.world.kafka,
            lambda key: [(self.world.objects / key).read_bytes()],
            lambda key: (self.world.objects / key).stat().st_size,
            self.world.prefix,
        )
        return Follower(where, wait_seconds_max=60.0, clock=lambda: self.now)

    def close(self) -> None:
        self.follower.close()
        # Otherwise it searches for its brokers and logs that for as long as it exists.
        del self._producer
        self._runner.run(self.shop.session.close())
        self._runner.close()

    def begin(self) -> None:
        """Publish everything, and check that it is clean."""
        self.relay()
        while True:
            # New topics have no leaders for a moment.
            with suppress(AuditError):
                report = found(self.follower.begin())
                assert report == "", report
                return

    def check(self) -> str:
        """The report of a round, 5 seconds after the last."""
        self.now += 5.0
        return found(self.follower.check())

    def place(self, count: int = 1, **changes: Any) -> list[str]:
        """Place orders with stock, unpaid."""
        orders = [f"g{next(self._names)}" for _ in range(count)]
        for start in range(0, count, 500):
            self.send(*(checkout_body(each, (_SKU, 1), (_SKU, 2), **changes) for each in orders[start : start + 500]))
        return orders

    def send(self, *bodies: Mapping[str, Any]) -> None:
        """Append a batch of checkouts to the log, and have the agent handle it."""
        topic = catalog.CHECKOUT_REQUESTS
        values = tuple(written(catalog.CHECKOUT_REQUEST, body) for body in bodies)
        for value in values:
            self._producer.produce(self.world.prefix + topic.name, value, b"key", 0)
        assert self._producer.flush(60) == 0
        self._runner.run(self.shop.handle(topic, 0, values))

    def refused(self, order_id: str) -> list[str]:
        """The outcomes of the order's refused requests, in order."""
        with psycopg.connect(self.world.postgres_url) as connection:
            rows = connection.execute(
                "SELECT outcome FROM refused_requests WHERE order_id = %s ORDER BY log_offset", (order_id,)
            ).fetchall()
        return [outcome for (outcome,) in rows]

    def pay(self, orders: Sequence[str]) -> None:
        """Have the orders' authorisations succeed, all at once."""
        topic, schema = catalog.PAYMENT_EVENTS, catalog.PAYMENT_ATTEMPT_FINISHED
        payloads = []
        with psycopg.connect(self.world.postgres_url) as connection:
            rows = connection.execute(
                "INSERT INTO payment_attempts (seller_id, order_id, request_id, partition, action, amount_minor,"
                " currency, provider_key, state, next_try_at, reference, created_at, finished_at) SELECT 'demo',"
                " order_id, 'authorize', partition, 'authorize', gross_minor, currency, order_id, 'succeeded', now(),"
                " 'ref', now(), now() FROM orders WHERE order_id = ANY(%s)"
                " ON CONFLICT (seller_id, order_id, request_id) DO UPDATE SET state = excluded.state,"
                " provider_key = excluded.provider_key, reference = excluded.reference,"
                " finished_at = excluded.finished_at RETURNING order_id, amount_minor",
                (list(orders),),
            ).fetchall()
            for order_id, amount in rows:
                event: dict[str, object] = {
                    "seller_id": "demo", "order_id": order_id, "request_id": "authorize", "action": "authorize",
                    "outcome": "succeeded", "amount_minor": amount, "currency": "EUR", "provider": "local",
                    "reference": "ref", "reason": "", "tries": 1, "occurred_at": 0,
                }  # fmt: skip
                payloads.append(written(schema, event))
            keys = [order_id.encode() for order_id, _ in rows]
            append_all(connection, topic.name, list(zip(keys, payloads, strict=True)))
        self.relay()
        self._runner.run(self.shop.handle(topic, 0, tuple(payloads)))

    def command(self, order_id: str, action: str, **changes: Any) -> None:
        self._runner.run(self.shop.command(0, order_id, action, **changes))

    def capture(self, order_id: str) -> None:
        self.settle(order_id, "capture")

    def settle(self, order_id: str, request_id: str, amount: int | None = None) -> None:
        """Carry out what was requested of the provider."""
        self._runner.run(self.shop.pay(order_id, request_id, amount=amount))
        self.relay()

    def invoice(self) -> None:
        self.relay()
        self._runner.run(self.shop.invoice())

    def store(self) -> None:
        """Store the missing documents, as the documents agent does."""
        with psycopg.connect(self.world.postgres_url) as connection:
            rows = connection.execute(
                "SELECT seller_id, order_id, kind, series_id, number, invoice_number FROM invoices i WHERE NOT EXISTS"
                " (SELECT FROM documents d WHERE d.series_id = i.series_id AND d.number = i.number)"
            ).fetchall()
            documents: list[tuple[object, ...]] = []
            events: list[tuple[bytes, bytes]] = []
            for seller_id, order_id, kind, series_id, number, printed in rows:
                body = f"%PDF {printed}".encode() * 50
                digest = hashlib.sha256(body)
                key = f"invoices/{seller_id}/2026/{printed}-{digest.hexdigest()[:16]}.pdf"
                (self.world.objects / key).parent.mkdir(parents=True, exist_ok=True)
                (self.world.objects / key).write_bytes(body)
                documents.append((series_id, number, key, digest.digest(), len(body), NOW))
                event: dict[str, object] = {
                    "seller_id": seller_id, "order_id": order_id, "kind": kind, "series_id": series_id,
                    "number": number, "invoice_number": printed, "key": key, "sha256": digest.hexdigest(),
                    "size_bytes": len(body), "media_type": "application/pdf", "template_version": 1, "stored_at": 0,
                }  # fmt: skip
                events.append((order_id.encode(), written(catalog.INVOICE_DOCUMENT_STORED, event)))
            connection.cursor().executemany("INSERT INTO documents VALUES (%s, %s, %s, %s, %s, 1, %s)", documents)
            append_all(connection, EVENTS, events)

    def relay(self) -> None:
        """Publish the new rows, as the relay does."""
        producer = self._producer
        with psycopg.connect(self.world.postgres_url) as connection:
            rows = connection.execute(
                "SELECT topic, partition, seq, key, payload FROM journal j LEFT JOIN journal_published p"
                " USING (topic, partition) WHERE seq > coalesce(published_seq, 0) ORDER BY 1, 2, 3"
            ).fetchall()
            for topic, partition, seq, key, payload in rows:
                headers: Headers = [(catalog.SEQ_HEADER, str(seq).encode())]
                producer.produce(self.world.prefix + topic, payload, key, partition, headers=headers)
                producer.poll(0)
            assert producer.flush(60) == 0
            connection.execute(
                "INSERT INTO journal_published SELECT topic, partition, next_seq - 1 FROM journal_heads"
                " ON CONFLICT (topic, partition) DO UPDATE SET published_seq = excluded.published_seq"
            )

    def grow(self, count: int = 2) -> list[str]:
        """Orders from the checkout to the published document."""
        orders = self.place(count)
        self.pay(orders)
        self.invoice()
        self.store()
        self.relay()
        return orders

    def one(self, sql: str, *parameters: object) -> Any:
        with psycopg.connect(self.world.postgres_url) as connection:
            row = connection.execute(sql.encode(), parameters).fetchone()
        assert row is not None
        return row[0]


def append_all(
    connection: psycopg.Connection[tuple[Any, ...]], topic: str, rows: Sequence[tuple[bytes, bytes]]
) -> None:
    """Append keys and payloads to partition 0 of the journal, as agents do."""
    connection.execute(
        "WITH head AS (INSERT INTO journal_heads AS h (topic, partition, next_seq) VALUES (%(topic)s, 0, 1 + %(count)s)"
        " ON CONFLICT (topic, partition) DO UPDATE SET next_seq = h.next_seq + %(count)s RETURNING next_seq)"
        " INSERT INTO journal SELECT %(topic)s, 0, next_seq - 1 - %(count)s + place, key, payload, %(now)s FROM head,"
        " unnest(%(keys)s::bytea[], %(payloads)s::bytea[]) WITH ORDINALITY AS row (key, payload, place)",
        {
            "topic": topic, "count": len(rows), "now": NOW,
            "keys": [key for key, _ in rows], "payloads": [payload for _, payload in rows],
        },
    )  # fmt: skip
