"""The notifications agent of partition 0, a sender, and receivers, in the test's own process on a real Postgres."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import psycopg
from aiohttp import web
from standardwebhooks import Webhook

from domain.addresses import parse_networks
from domain.delivery import Channel
from domain.refusals import Refusal
from providers.webhooks import WebhookCalls, secret_text
from schemas import catalog
from sinks.postgres import journal, webhooks
from sinks.postgres.journal import JournalRow
from sinks.postgres.positions import read_positions
from sinks.postgres.sealing import Sealing
from sinks.postgres.session import Session
from sinks.postgres.webhooks import Endpoint, Secrets
from streams.deliveries import WebhookChannel
from streams.delivery_rows import DeliveryRows
from streams.engine.batch import Batch
from streams.engine.work import Worker
from streams.notifications import AGENT, NotificationsWork
from streams.sender import Sender, SenderPolicy
from tests.records import written

LOOPBACK = parse_networks("127.0.0.0/8,::1/128")
TOPICS = (catalog.ORDER_EVENTS, catalog.INVOICE_EVENTS)
#: Quick enough for tests, but for what a busy machine may take to answer: it would be sent again, as if it were lost.
QUICK = SenderPolicy(
    lease_seconds=6.0,
    poll_seconds=0.5,
    breaker_seconds=0.5,
    retry_seconds=(0.05, 0.05, 0.05),
    stop_seconds=0.5,
)
Query = Callable[..., list[tuple[Any, ...]]]


@dataclass(frozen=True)
class Sent:
    """A record as the consumer hands it over."""

    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


@dataclass
class Received:
    """A request to a receiver."""

    webhook_id: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)

    @property
    def order_id(self) -> str:
        """Of the event."""
        return str(self.json["data"].get("order_id", ""))

    @property
    def place(self) -> tuple[str, int]:
        """The order, and its sequence."""
        return self.order_id, self.json["sequence"]


Behave = Callable[[Received], Awaitable[web.StreamResponse]]


async def accept(_: Received) -> web.StreamResponse:
    """204."""
    return web.Response(status=204)


@dataclass
class Receiver:
    """A server that writes down what it gets, and answers as it is told."""

    behave: Behave = accept
    url: str = ""
    received: list[Received] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Any request."""
        headers = {name.lower(): value for name, value in request.headers.items()}
        received = Received(headers.get("webhook-id", ""), headers, await request.read())
        self.received.append(received)
        return await self.behave(received)

    def of(self, order_id: str) -> list[int]:
        """The sequence numbers that came of an order, in the order in which they came."""
        return [each.json["sequence"] for each in self.received if each.order_id == order_id]

    async def until(self, count: int, seconds: float = 60.0) -> list[Received]:
        """Wait for so many requests."""
        async with asyncio.timeout(seconds):
            while len(self.received) < count:  # noqa: ASYNC110 - it tells nobody.
                await asyncio.sleep(0.01)
        return self.received


@asynccontextmanager
async def receiver(behave: Behave = accept) -> AsyncIterator[Receiver]:
    """A running receiver."""
    made = Receiver(behave)
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", made.handle)
    # 0 would wait without end for a handler that does not answer.
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port, *_ = runner.addresses[0]
    made.url = f"http://{host}:{port}/hooks"
    try:
        yield made
    finally:
        await runner.cleanup()


class Hooks:
    """A notifications worker fed by hand, and a sender."""

    def __init__(self, url: str, policy: SenderPolicy = QUICK) -> None:
        self.url = url
        self.policy = policy
        self.session = Session(url)
        self.worker = Worker(self.session, self._no_log)
        self.work = NotificationsWork(TOPICS, self.session, lambda: datetime.now(UTC), os.urandom)
        self._offsets: dict[str, int] = {}
        self._sending: asyncio.Task[None] | None = None
        self.calls_timeout = 5.0
        self.sealing = Sealing([b"k" * 32])

    async def open(self) -> None:
        """Make the positions."""
        async with self.session.connection() as connection:
            for topic in TOPICS:
                self._offsets[topic.name] = (await read_positions(connection, AGENT, topic.name, [0]))[0]

    async def start(self) -> None:
        """Begin to send."""
        rows = DeliveryRows(
            self.url,
            Channel.WEBHOOK,
            lease_seconds=self.policy.lease_seconds,
            failing_seconds_max=self.policy.failing_seconds_max,
        )
        channel = WebhookChannel(WebhookCalls(LOOPBACK, timeout_seconds=self.calls_timeout), rows.signers, self.sealing)
        self._sending = asyncio.create_task(Sender(rows, channel, self.policy, chance=lambda: 0.5).run())

    async def stop(self) -> None:
        """End both as processes do that are told to."""
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.wait({self._sending})
            if not self._sending.cancelled():
                self._sending.result()
            self._sending = None

    async def close(self) -> None:
        """End all."""
        await self.stop()
        await self.session.close()

    async def add(self, url: str, *events: str, seller_id: str = "demo") -> tuple[Endpoint, Secrets]:
        """An endpoint."""
        async with await psycopg.AsyncConnection.connect(self.url, autocommit=True) as connection:
            made = await webhooks.create(
                connection, seller_id, url, events, "", datetime.now(UTC), os.urandom, self.sealing, may_be_plain=True
            )
        assert not isinstance(made, Refusal), made
        return made

    async def happen(self, *values: bytes, topic: catalog.Topic = catalog.ORDER_EVENTS) -> Batch:
        """Events in the journal and, by the relay, on the topic; then the agent's batch."""
        return await self.run(await self.published(*values, topic=topic), topic)

    async def published(self, *values: bytes, topic: catalog.Topic = catalog.ORDER_EVENTS) -> list[Sent]:
        """Events in the journal, and their records."""
        records = []
        async with await psycopg.AsyncConnection.connect(self.url, autocommit=True) as connection:
            for value in values:
                row = JournalRow(b"key", value, datetime.now(UTC))
                firsts = await journal.append_numbered(connection, {(topic.name, 0): [row]})
                seq = firsts[topic.name, 0]
                cursor = await connection.execute(
                    "SELECT payload FROM journal WHERE topic = %s AND partition = 0 AND seq = %s", (topic.name, seq)
                )
                [(payload,)] = await cursor.fetchall()
                records.append(Sent(-1, b"key", payload, ((catalog.SEQ_HEADER, str(seq).encode()),)))
        return records

    async def run(self, records: Sequence[Sent], topic: catalog.Topic = catalog.ORDER_EVENTS) -> Batch:
        """A batch of these records, wherever they come from."""
        first = self._offsets[topic.name]
        placed = [Sent(first + n, each.key, each.value, each.headers) for n, each in enumerate(records)]
        self._offsets[topic.name] += len(placed)
        batch = Batch(topic.name, 0, placed)
        await self.worker.run(self.work, batch)
        return batch

    async def _no_log(self, topic: str, partition: int, offset: int) -> tuple[int, int]:
        raise AssertionError("no test here has a hole")


@asynccontextmanager
async def hooks(url: str, policy: SenderPolicy = QUICK) -> AsyncIterator[Hooks]:
    """An agent at the beginning, and a sender that sends."""
    made = Hooks(url, policy)
    await made.open()
    await made.start()
    try:
        yield made
    finally:
        await made.close()


def verifies(received: Received, secrets: Secrets) -> bool:
    """Whether a stock verifier takes the request for ours."""
    return Webhook(secret_text(secrets.hmac_secret)).verify(received.body, received.headers) is not None


def changed(order_id: str, to_state: str = "CONFIRMED", seller_id: str = "demo", **changes: Any) -> bytes:
    """`OrderStateChanged`."""
    return written(
        catalog.ORDER_STATE_CHANGED,
        {
            "seller_id": seller_id,
            "order_id": order_id,
            "version": 3,
            "from_state": "PAYMENT_PENDING",
            "to_state": to_state,
            "reason": "payment-authorized",
            "detail": "",
            "command_id": "",
            "occurred_at": 1_795_000_000_000_000,
            **changes,
        },
    )
