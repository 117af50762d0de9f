"""A gateway in the test's own process, on the session's services or through links that can be cut."""

import asyncio
import contextlib
import functools
import io
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import aiohttp
import psycopg
import pytest
import redis.asyncio
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]
from multidict import CIMultiDict

from admission.product_cache import ProductCache
from gateway import app
from gateway.app import Gateway
from runtime.kafka import end_offsets
from runtime.settings import load
from schemas.catalog import (
    CHECKOUT_REQUESTS,
    INVOICE_EVENTS,
    INVOICE_REQUESTS,
    ORDER_COMMANDS,
    ORDER_EVENTS,
    PAYMENT_NOTICES,
    Topic,
)
from sinks.postgres import sellers
from tests.conformance import Conformance
from tests.conftest import PARTITIONS, Services

KEYS = {"demo": "key-of-demo-" + "x" * 32, "other": "key-of-other-" + "x" * 32}


class Link:
    """A TCP connection to a service that can be cut, and frozen: bytes are taken and go nowhere."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._writers: set[asyncio.StreamWriter] = set()
        self._flows = asyncio.Event()
        self._flows.set()
        self._server: asyncio.Server | None = None
        self.port = 0

    async def open(self) -> None:
        """Listen, on the same port each time."""
        self._flows.set()
        self._server = await asyncio.start_server(self._join, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """Drop every connection and refuse new ones."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._writers):
            writer.transport.abort()
        await asyncio.sleep(0.05)

    def freeze(self) -> None:
        """Connections stay, nothing passes."""
        self._flows.clear()

    def thaw(self) -> None:
        """What was held back passes."""
        self._flows.set()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            there_reader, there_writer = await asyncio.open_connection(*self._target)
            self._writers.add(there_writer)
            await asyncio.gather(self._pump(reader, there_writer), self._pump(there_reader, writer))
        except OSError:
            writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(64 * 1024):
                await self._flows.wait()
                writer.write(data)
                await writer.drain()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        self._writers.discard(writer)


@dataclass(frozen=True)
class Client:
    """Speaks to a gateway for one seller."""

    session: aiohttp.ClientSession
    url: str
    key: str | None
    #: What the gateway says of its answers; every one is held against it.
    contract: Conformance | None = None

    def as_(self, key: str | None) -> "Client":
        """The same gateway, another key."""
        return replace(self, key=key)

    async def post(self, body: Any, **headers: str) -> "Answer":
        """POST /v1/invoices; `body` is bytes, or becomes JSON."""
        content = {"data": io.BytesIO(body)} if isinstance(body, bytes) else {"json": body}
        return await self.call("POST", "/v1/invoices", headers, **content)

    async def get(self, path: str, **headers: str) -> "Answer":
        """GET."""
        return await self.call("GET", path, headers)

    async def call(self, method: str, path: str, headers: Mapping[str, str] | None = None, **content: Any) -> "Answer":
        """Any request; underscores in header names are hyphens. Each item of a multi-dict is a line of its own."""
        named = CIMultiDict((name.replace("_", "-"), value) for name, value in (headers or {}).items())
        if self.key is not None:
            named["Authorization"] = f"Bearer {self.key}"
        began = time.monotonic()
        async with self.session.request(method, self.url + path, headers=named, **content) as response:
            body = await response.read()
            if self.contract is not None:
                wrong = list(self.contract.answer_errors(method, path, response.status, response.headers, body))
                assert not wrong, f"{method} {path} is not answered as /openapi.json says: {wrong}"
            return Answer(response.status, response.headers, body, time.monotonic() - began)


@dataclass(frozen=True)
class Answer:
    """What came back, and after how long."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    seconds: float

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Topics:
    """A test's own topics."""

    requests: Topic
    events: Topic
    checkouts: Topic
    commands: Topic
    order_events: Topic
    notices: Topic

    @property
    def of_gateway(self) -> app.Topics:
        """As a gateway knows them."""
        return app.Topics(
            self.requests,
            self.events,
            self.checkouts,
            self.commands,
            self.order_events,
            self.notices,
            relayed=(self.events, self.order_events),
        )


def make_topics(bootstrap: str, replicas: int = 1) -> Topics:
    """Fresh topics, made now; a request is acknowledged by all their replicas."""
    prefix = f"gw{time.time_ns()}-"
    of_catalogue = (
        *(INVOICE_REQUESTS, INVOICE_EVENTS, CHECKOUT_REQUESTS, ORDER_COMMANDS, ORDER_EVENTS),
        # A gateway that takes notices is ready only where it could keep them.
        PAYMENT_NOTICES,
    )
    own = [replace(topic, name=prefix + topic.name) for topic in of_catalogue]
    insync = {"min.insync.replicas": str(replicas)}
    new = [NewTopic(topic.name, PARTITIONS, replicas, config={**topic.config, **insync}) for topic in own]
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for made in admin.create_topics(new).values():
        made.result(60)
    # Made is not yet led: the first requests would fail.
    end_offsets(bootstrap, [(topic.name, partition) for topic in own for partition in range(PARTITIONS)])
    return Topics(*own)


async def add_keys(postgres_url: str) -> None:
    """A key for each seller of the ledger."""
    async with await psycopg.AsyncConnection.connect(postgres_url, autocommit=True) as connection:
        for seller_id, key in KEYS.items():
            await sellers.add_key(connection, seller_id, "test", key)


@contextlib.asynccontextmanager
async def running(
    services: Services,
    postgres_url: str,
    topics: Topics,
    *,
    kafka: str | None = None,
    redis_url: str | None = None,
    objects_url: str | None = None,
    metrics_port: int = 0,
    **more: Any,
) -> AsyncIterator[Client]:
    """A gateway, ready to take orders, whose Redis has lost no notes, whatever tests before have done to it.

    It waits for Redis as long as a busy machine takes. Where `redis_url` is given, only as long as the product does.
    `more` are further settings.
    """
    async with redis.asyncio.Redis.from_url(services.redis_url) as server:
        await server.set("accepted-since", 1)
    settings = load(
        kafka_bootstrap=kafka or services.kafka_bootstrap,
        postgres_url=postgres_url,
        redis_url=redis_url or services.redis_url,
        objects_url=objects_url or services.objects.as_uri(),
        gateway_port=0,
        gateway_drain_seconds=0,
        metrics_port=metrics_port,
        **more,
    )
    with pytest.MonkeyPatch.context() as patched:
        if redis_url is None:
            for part in ("hints", "admission", "carts"):
                patched.setattr(f"admission.{part}.CALL_SECONDS_MAX", 10.0)
            patched.setattr(app, "ProductCache", functools.partial(ProductCache, call_seconds_max=10.0))
        gateway = Gateway(settings, topics.of_gateway)
        await gateway.start()
        async with _client(gateway) as client:
            yield client


@contextlib.asynccontextmanager
async def _client(gateway: Gateway) -> AsyncIterator[Client]:
    """A client of a gateway that has been started; at the end it is stopped."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        client = Client(session, gateway.url, KEYS["demo"])
        try:
            await until(lambda: client.get("/readyz"), lambda answer: answer.status == 200)
            document = (await client.get("/openapi.json")).json
            yield replace(client, contract=Conformance(document))
        finally:
            await gateway.stop()


async def until(ask: Callable[[], Any], holds: Callable[[Any], bool], seconds: float = 60.0) -> Any:
    """Ask until the answer is as wanted; the answer."""
    deadline = time.monotonic() + seconds
    while True:
        answer = await ask()
        if holds(answer):
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"still {answer!r}")
        await asyncio.sleep(0.05)


def through(link: Link, url: str) -> str:
    """The URL of the same service, through the link."""
    parts = urlsplit(url)
    credentials = parts.netloc.rpartition("@")[0]
    netloc = f"{credentials}@127.0.0.1:{link.port}" if credentials else f"127.0.0.1:{link.port}"
    return urlunsplit(parts._replace(netloc=netloc))


async def link_to(url: str) -> Link:
    """An open link to a service."""
    parts = urlsplit(url)
    link = Link(parts.hostname or "127.0.0.1", parts.port or 0)
    await link.open()
    return link


def order(order_id: str | None, **changes: Any) -> dict[str, Any]:
    """A request body."""
    body: dict[str, Any] = {
        "currency": "EUR",
        "buyer": {
            "name": "Zoë O'Neil",
            "email": "zoe@example.com",
            "address": {"street": "1 Main St", "city": "Lyon", "postal_code": "69001", "country": "FR"},
        },
        "lines": [line()],
        **changes,
    }
    return body if order_id is None else {"order_id": order_id, **body}


def line(**changes: str) -> dict[str, str]:
    """A line of a request."""
    return {
        "sku": "S-1",
        "description": "Café crème",
        "quantity": "2",
        "unit_price": "19.99",
        "vat_rate": "20.00",
        "vat_category": "S",
        **changes,
    }


def statuses(answers: Sequence[Answer]) -> dict[int, int]:
    """How many answers of each status."""
    return {status: sum(each.status == status for each in answers) for status in {each.status for each in answers}}


def kept(services: Services, topics: Topics) -> int:
    """How many requests are in the log."""
    partitions = [(topics.requests.name, partition) for partition in range(PARTITIONS)]
    return sum(end_offsets(services.kafka_bootstrap, partitions).values())
