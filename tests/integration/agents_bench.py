"""Every agent's own work on a ledger of the test's own: any records in, and whether honest ones took effect."""

import asyncio
import functools
import os
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis

from admission.mirror import Mirror
from admission.product_cache import ProductCache
from domain.reservation import Change, Level, Sku
from runtime.roles import READERS
from runtime.settings import load
from schemas import catalog
from sinks.object_store.store import open_store
from sinks.postgres import journal
from sinks.postgres.documents import Logos
from sinks.postgres.journal import JournalRow
from sinks.postgres.positions import read_positions
from sinks.postgres.session import Session
from streams.analytics import AnalyticsWork
from streams.checkouts import CheckoutsWork
from streams.documents import DocumentsWork
from streams.engine.batch import Batch
from streams.engine.work import Worker
from streams.invoices import InvoicesWork
from streams.notifications import NotificationsWork
from streams.orders import OrdersWork
from streams.payments import PaymentsWork
from streams.rendering import Renderer
from streams.stock import StockWork
from streams.stock_events import stock_changed
from tests.conftest import Services
from tests.integration.shop import HOLD, checkout_body, command, paid
from tests.integration.test_invoices_work import NOW, FakeTable, Sent
from tests.records import written
from tests.unit.domain.test_invoice import request

#: A batch takes some 20 ms. One that waits for ever is as bad as one that ends the process.
_SECONDS_MAX = 120.0
READ = [(agent, topic) for agent, topics in READERS.items() for topic in topics]
Make = Callable[[str], Coroutine[Any, Any, bytes]]
Query = Callable[..., list[tuple[Any, ...]]]


class NoCaller:
    """Stands for what calls the provider, which is not asked here."""

    def wake(self) -> None:
        """Sleep on."""


@dataclass
class Bench:
    """One agent's worker on one of its topics, in partition 0, and agents before it that make what it works on."""

    services: Services
    url: str
    query: Query
    objects: Path
    renderer: Renderer
    seller_id: str = "demo"
    offsets: dict[tuple[str, str], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.sessions = [Session(self.url)]
        self.worker = Worker(self.sessions[0], self._no_log)
        self.mirror = Mirror(self.services.redis_url)
        self.cache = ProductCache(self.services.redis_url)
        self.missed = 0
        table: Any = FakeTable()
        other_table: Any = FakeTable()
        caller: Any = NoCaller()
        store = open_store(load(objects_url=self.objects.as_uri()))
        now = lambda: NOW  # noqa: E731
        self.works: dict[str, Any] = {
            "checkouts": CheckoutsWork(table, now, HOLD),
            "payments": PaymentsWork(caller, now),
            "orders": OrdersWork(now),
            "stock": StockWork(self.mirror, self.cache, now, on_missed=self._miss),
            "invoices": InvoicesWork(other_table, now),
            "documents": DocumentsWork(store, self.renderer, Logos(), self.sessions[0], now),
            "notifications": NotificationsWork(READERS["notifications"], self.sessions[0], now, os.urandom),
            "analytics": AnalyticsWork(READERS["analytics"], self.sessions[0], now),
        }

    @classmethod
    async def opened(cls, *arguments: Any, **more: Any) -> "Bench":
        """Make it on the running loop, as its connections want it."""
        made = cls(*arguments, **more)
        await made.open()
        return made

    async def open(self) -> None:
        """Make the positions, and stock for any number of orders."""
        async with self.sessions[0].connection() as connection:
            for agent, topic in READ:
                self.offsets[agent, topic.name] = (await read_positions(connection, agent, topic.name, [0]))[0]
        self.query("INSERT INTO stock (seller_id, sku, on_hand) VALUES ('demo', 'S-1', 1000000)")

    async def close(self) -> None:
        """End its connections."""
        for session in self.sessions:
            await session.close()
        await self.mirror.close()
        await self.cache.close()

    async def run(
        self, agent: str, topic: catalog.Topic, records: Sequence[tuple[bytes | None, bytes | None]]
    ) -> Batch:
        """A batch of keys and values."""
        first = self.offsets[agent, topic.name]
        batch = Batch(
            topic.name,
            0,
            [Sent(first + n, value, key, self._headers(topic, value)) for n, (key, value) in enumerate(records)],
        )
        async with asyncio.timeout(_SECONDS_MAX):
            await self.worker.run(self.works[agent], batch)
        self.offsets[agent, topic.name] = batch.next_offset
        return batch

    def _headers(self, topic: catalog.Topic, value: bytes | None) -> tuple[tuple[str, bytes], ...]:
        """As the relay writes them, of what is in the journal."""
        rows = self.query(
            "SELECT seq FROM journal WHERE topic = %s AND partition = 0 AND payload = %s", topic.name, value
        )
        return ((catalog.SEQ_HEADER, str(rows[0][0]).encode()),) if rows else ()

    async def place(self, order_id: str) -> None:
        """An order whose payment is pending."""
        value = written(catalog.CHECKOUT_REQUEST, checkout_body(order_id))
        await self.run("checkouts", catalog.CHECKOUT_REQUESTS, [(b"key", value)])

    def journal(self, topic: catalog.Topic, order_id: str) -> bytes:
        """The first event of an order."""
        rows = self.query(
            "SELECT payload FROM journal WHERE topic = %s AND key = %s ORDER BY seq", topic.name, order_id.encode()
        )
        return bytes(rows[0][0])

    def was_counted(self, topic: catalog.Topic, order_id: str) -> bool:
        """Whether the analytics have come to the first event of an order."""
        rows = self.query(
            "SELECT j.seq <= p.last_seq FROM journal j LEFT JOIN analytics_progress p USING (topic, partition)"
            " WHERE j.topic = %s AND j.key = %s ORDER BY j.seq", topic.name, order_id.encode()
        )  # fmt: skip
        return bool(rows and rows[0][0])

    def attempt(self, order_id: str, state: str) -> None:
        """The row of an attempt to authorise, which is not due for an hour."""
        self.query(
            "INSERT INTO payment_attempts (seller_id, order_id, request_id, partition, action, amount_minor, currency,"
            " provider_key, state, tries, next_try_at, created_at) VALUES ('demo', %s, 'authorize', 0, 'authorize', 0,"
            " 'EUR', %s, %s, 1, now() + interval '1 hour', now())"
            " ON CONFLICT (seller_id, order_id, request_id) DO UPDATE"
            " SET state = excluded.state, tries = excluded.tries, next_try_at = excluded.next_try_at",
            order_id, order_id, state,
        )  # fmt: skip

    def add_endpoint(self) -> None:
        """One that wants to know all, from the beginning."""
        self.query(
            "INSERT INTO webhook_endpoints (endpoint_id, seller_id, url, events, description, created_at)"
            " VALUES ('we_1', 'demo', 'https://shop.example', '{}', '', '2000-01-01') ON CONFLICT DO NOTHING"
        )

    def in_redis(self, key: str) -> bool:
        """Whether Redis has this key of the seller."""
        with redis.Redis.from_url(self.services.redis_url) as server:
            return bool(server.exists(f"stock:{{{self.seller_id}}}:{key}"))

    def is_marked(self, product_id: str) -> bool:
        """Whether Redis' copy of the product is old."""
        with redis.Redis.from_url(self.services.redis_url, decode_responses=True) as server:
            fresh_until = server.hget(f"catalogue:{{{self.seller_id}}}:product:{product_id}", "until")
        return isinstance(fresh_until, str) and float(fresh_until) <= time.time()

    def _miss(self) -> None:
        self.missed += 1

    async def _no_log(self, topic: str, partition: int, offset: int) -> tuple[int, int]:
        raise AssertionError("no test here has a hole")


class Good:
    """An honest record of an order of its own, and whether it took effect."""

    def __init__(self, bench: Bench, agent: str, topic: catalog.Topic) -> None:
        self._bench = bench
        make: dict[tuple[str, catalog.Topic], tuple[Make, Callable[[str], bool]]] = {
            ("checkouts", catalog.CHECKOUT_REQUESTS): (self._checkout, self._is("orders")),
            ("payments", catalog.ORDER_EVENTS): (self._placed, self._is("payment_attempts")),
            ("payments", catalog.PAYMENT_NOTICES): (
                self._notice, self._is("payment_attempts", "next_try_at <= now()")
            ),
            ("orders", catalog.PAYMENT_EVENTS): (self._paid, self._is("orders", "state = 'CONFIRMED'")),
            ("orders", catalog.ORDER_COMMANDS): (self._cancel, self._is("orders", "state = 'CANCELLED'")),
            ("stock", catalog.INVENTORY_EVENTS): (
                self._stocked, lambda name: bench.in_redis(f"level:{name}")
            ),
            ("stock", catalog.ORDER_EVENTS): (self._refused, lambda name: bench.in_redis(f"done:{name}")),
            ("stock", catalog.CATALOGUE_EVENTS): (self._changed, bench.is_marked),
            ("stock", catalog.REVIEW_EVENTS): (self._reviewed, bench.is_marked),
            ("invoices", catalog.INVOICE_REQUESTS): (self._request, self._is("invoices")),
            ("notifications", catalog.ORDER_EVENTS): (self._placed, self._is("deliveries")),
            ("notifications", catalog.INVOICE_EVENTS): (self._issued, self._is("deliveries")),
            **{
                ("analytics", read): (make_event, functools.partial(bench.was_counted, read))
                for read, make_event in (
                    (catalog.ORDER_EVENTS, self._placed),
                    (catalog.PAYMENT_EVENTS, self._captured),
                    (catalog.INVENTORY_EVENTS, self._claimed),
                    (catalog.INVOICE_EVENTS, self._issued),
                )
            },
            ("documents", catalog.INVOICE_EVENTS): (
                self._issued, self._is("invoices", "EXISTS (SELECT FROM documents d WHERE (d.series_id, d.number) ="
                                       " (invoices.series_id, invoices.number))")
            ),
        }  # fmt: skip
        if agent == "notifications":
            bench.add_endpoint()
        #: Make the record; whether it took effect.
        self.make, self.took_effect = make[agent, topic]

    def _is(self, table: str, condition: str = "true") -> Callable[[str], bool]:
        def look(name: str) -> bool:
            return bool(self._bench.query(f"SELECT 1 FROM {table} WHERE order_id = %s AND {condition}", name))

        return look

    async def _checkout(self, name: str) -> bytes:
        return written(catalog.CHECKOUT_REQUEST, checkout_body(name))

    async def _placed(self, name: str) -> bytes:
        await self._bench.place(name)
        return self._bench.journal(catalog.ORDER_EVENTS, name)

    async def _notice(self, name: str) -> bytes:
        await self._bench.place(name)
        self._bench.attempt(name, "open")
        notice = {"received_at": 0, "seller_id": "demo", "order_id": name, "provider": "local", "event_id": "e"}
        return written(catalog.PAYMENT_NOTICE, notice)

    async def _paid(self, name: str) -> bytes:
        await self._bench.place(name)
        self._bench.attempt(name, "succeeded")
        return paid(name, "succeeded", "authorize", "authorize")

    async def _captured(self, name: str) -> bytes:
        row = JournalRow(name.encode(), paid(name, "succeeded", "capture", "capture"), NOW)
        async with self._bench.sessions[0].connection() as connection, connection.transaction():
            await journal.append(connection, {(catalog.PAYMENT_EVENTS.name, 0): [row]})
        return self._bench.journal(catalog.PAYMENT_EVENTS, name)

    async def _claimed(self, name: str) -> bytes:
        await self._bench.place(name)
        return self._bench.journal(catalog.INVENTORY_EVENTS, name)

    async def _cancel(self, name: str) -> bytes:
        await self._bench.place(name)
        return command(name, "cancel")

    async def _stocked(self, name: str) -> bytes:
        change = Change(Sku(self._bench.seller_id, name), 5, Level(5, 0, 1))
        return stock_changed(self._bench.seller_id, name, "set", [change], NOW).payload

    async def _refused(self, name: str) -> bytes:
        event = {
            "seller_id": self._bench.seller_id, "order_id": name, "customer": "C", "short": [], "occurred_at": 0
        }  # fmt: skip
        return written(catalog.ORDER_REFUSED, event)

    async def _changed(self, name: str) -> bytes:
        await self._copy(name)
        event = {
            "seller_id": self._bench.seller_id, "product_id": name, "version": 1, "product": None, "occurred_at": 0
        }  # fmt: skip
        return written(catalog.PRODUCT_CHANGED, event)

    async def _reviewed(self, name: str) -> bytes:
        await self._copy(name)
        rating = {"version": 1, "one": 0, "two": 0, "three": 0, "four": 0, "five": 1}
        event = {
            "seller_id": self._bench.seller_id, "sku": name, "product_id": name, "order_id": name, "line": 0,
            "version": 2, "state": "published", "stars": 5, "title": "", "body": "", "author": "", "rating": rating,
            "occurred_at": 0, "event_id": None,
        }  # fmt: skip
        return written(catalog.REVIEW_CHANGED, event)

    async def _copy(self, name: str) -> None:
        """Redis has a fresh copy of the product."""
        await self._bench.cache.read(self._bench.seller_id, [name], "token")
        await self._bench.cache.fill(self._bench.seller_id, name, "{}", "token")

    async def _request(self, name: str) -> bytes:
        return written(catalog.INVOICE_REQUEST, request(order_id=name))

    async def _issued(self, name: str) -> bytes:
        value = written(catalog.INVOICE_REQUEST, request(order_id=name))
        await self._bench.run("invoices", catalog.INVOICE_REQUESTS, [(name.encode(), value)])
        return self._bench.journal(catalog.INVOICE_EVENTS, name)
