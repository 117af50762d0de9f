"""A payments worker in the test's own process, with a provider that is a process of its own."""

import asyncio
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import psycopg
import pytest

from domain.payment import GIVE_UP_AFTER_HOLD
from local.layout import free_port
from providers.local import LocalProvider
from providers.provider import Provider
from runtime.metrics import REGISTRY
from schemas import catalog, codec
from sinks.postgres.positions import read_positions
from sinks.postgres.session import Session
from streams.engine.batch import Batch
from streams.engine.work import Worker
from streams.payment_calls import Caller, Policy
from streams.payments import AGENT, PaymentsWork
from tests.records import written

EVENTS, NOTICES = catalog.ORDER_EVENTS.name, catalog.PAYMENT_NOTICES.name
SECRET = "whsec_of_the_tests"
API_KEY = "sk_of_the_tests"
NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
Query = Callable[..., list[tuple[Any, ...]]]

#: Quick enough for tests: everything that waits, waits a tenth or less.
QUICK = Policy(
    timeout_seconds=0.6,
    lease_seconds=2.5,
    poll_seconds=0.05,
    breaker_failures=1_000_000,
    breaker_seconds=1.0,
    backoff_first_seconds=0.05,
    backoff_longest_seconds=0.5,
)


@dataclass(frozen=True)
class Sent:
    """A record as the consumer hands it over."""

    offset: int
    value: bytes | None
    key: bytes | None = None
    headers: tuple[tuple[str, bytes], ...] = ()


class Simulator:
    """The provider as a process, to be killed and started again."""

    def __init__(self, folder: Path, *options: str, webhook_url: str | None = None) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._folder = folder
        self._options = [*options, *(["--webhook-url", webhook_url] if webhook_url else [])]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, and return when it answers."""
        command = [sys.executable, "-m", "local.provider", "--port", str(self.port)]
        environment = {
            **os.environ,
            "GAPLESS_PROVIDER_WEBHOOK_SECRET": SECRET,
            "GAPLESS_PROVIDER_API_KEY": API_KEY,
        }
        self._process = subprocess.Popen(
            [*command, "--data", str(self._folder), *self._options], env=environment, stderr=subprocess.DEVNULL
        )
        self.until_ready()

    def until_ready(self) -> None:
        """Return when it answers."""
        deadline = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(f"{self.url}/readyz", timeout=1):
                    return
            except OSError:
                if time.monotonic() > deadline:
                    raise AssertionError("the provider does not start") from None
                time.sleep(0.05)

    def kill(self) -> None:
        """kill -9."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    async def ledger(self) -> list[dict[str, Any]]:
        """What it has done."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.url}/ledger") as response:
            payments: list[dict[str, Any]] = (await response.json())["payments"]
            return payments

    async def behave(self, **changes: Any) -> None:
        """Change how it behaves."""
        async with aiohttp.ClientSession() as session, session.put(f"{self.url}/behaviour", json=changes) as response:
            assert response.status == 200


@contextmanager
def simulator(folder: Path, *options: str, webhook_url: str | None = None) -> Iterator[Simulator]:
    """A running provider."""
    made = Simulator(folder, *options, webhook_url=webhook_url)
    try:
        made.start()
        yield made
    finally:
        made.kill()


class Payments:
    """A payments worker of partition 0, fed by hand."""

    def __init__(
        self,
        url: str,
        provider: Provider | str,
        policy: Policy = QUICK,
        slot: str = "0",
        *,
        former: Provider | None = None,
        give_up_after: timedelta = GIVE_UP_AFTER_HOLD,
    ) -> None:
        self.url = url
        self.policy = policy
        self.session = Session(url)
        self.provider: Provider = LocalProvider(provider, API_KEY) if isinstance(provider, str) else provider
        self.caller = Caller(self.provider, url, policy, slot, former=former, chance=lambda: 0.5)
        self.work = PaymentsWork(self.caller, lambda: datetime.now(UTC), give_up_after)
        self.worker = Worker(self.session, self._no_log)
        self._service: asyncio.Task[None] | None = None
        self._offsets = {EVENTS: 0, NOTICES: 0}

    async def start(self) -> None:
        """Stand at the beginning, and call."""
        async with self.session.connection() as connection:
            for topic in (EVENTS, NOTICES):
                self._offsets[topic] = (await read_positions(connection, AGENT, topic, [0]))[0]
        self._service = asyncio.create_task(self.caller.run())

    async def stop(self) -> None:
        """End as a process does that is told to."""
        if self._service is not None:
            self._service.cancel()
            await asyncio.wait({self._service})
            if not self._service.cancelled():
                self._service.result()
        await self.session.close()

    async def crash(self) -> None:
        """End as a process does that is killed: nothing more is written."""
        self.caller.policy, self.caller.rows.slot = Policy(stop_seconds=0), "nobody's"
        await self.stop()

    async def run(self, *values: bytes | None, topic: str = EVENTS) -> None:
        """A batch."""
        first = self._offsets[topic]
        records = [Sent(first + index, value, b"key") for index, value in enumerate(values)]
        self._offsets[topic] += len(records)
        await self.worker.run(self.work, Batch(topic, 0, records))

    async def _no_log(self, topic: str, partition: int, offset: int) -> tuple[int, int]:
        raise AssertionError("no test here has a hole")


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[Simulator]:
    with simulator(tmp_path / "provider") as made:
        yield made


@pytest.fixture
async def payments(ledger_url: str, provider: Simulator) -> AsyncIterator[Payments]:
    made = Payments(ledger_url, provider.url)
    await made.start()
    yield made
    await made.stop()


def add_order(url: str, order_id: str, token: str = "tok_ok", gross: int = 4798, seller_id: str = "demo") -> None:
    """An order as the checkouts agent leaves it."""
    add_orders(url, [(order_id, token)], gross, seller_id)


def add_orders(url: str, orders: list[tuple[str, str]], gross: int = 4798, seller_id: str = "demo") -> None:
    """Orders with their tokens."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.cursor().executemany(
            "INSERT INTO orders (seller_id, order_id, partition, customer, state, version, history, currency,"
            " net_minor, tax_minor, gross_minor, content_sha256, payment_token, invoice_request, hold_expires_at,"
            " placed_at, source_offset) VALUES (%s, %s, 0, 'C-1', 'PAYMENT_PENDING', 2, '[]', 'EUR', %s, 0, %s, '', %s,"
            " '', now(), now(), 0)",
            [(seller_id, order_id, gross, gross, token) for order_id, token in orders],
        )


def placed(order_id: str, gross: int = 4798, hold_seconds: float = 600, seller_id: str = "demo") -> bytes:
    """`OrderPlaced`."""
    expires = datetime.now(UTC) + timedelta(seconds=hold_seconds)
    return written(
        catalog.ORDER_PLACED,
        {
            "seller_id": seller_id,
            "order_id": order_id,
            "customer": "C-1",
            "currency": "EUR",
            "net_minor": gross,
            "tax_minor": 0,
            "gross_minor": gross,
            "lines": [],
            "hold_expires_at": int(expires.timestamp() * 1_000_000),
            "state": "PAYMENT_PENDING",
            "version": 2,
            "placed_at": 0,
        },
    )


def requested(order_id: str, request_id: str, amount: int = 4798, **changes: Any) -> bytes:
    """`PaymentRequested`."""
    event = {
        "seller_id": "demo",
        "order_id": order_id,
        "request_id": request_id,
        "action": request_id.partition(":")[0],
        "amount_minor": amount,
        "currency": "EUR",
        "occurred_at": 0,
        **changes,
    }
    return written(catalog.PAYMENT_REQUESTED, event)


def noticed(order_id: str, kind: str | None = None) -> bytes:
    """`PaymentNotice`."""
    event = {"received_at": 0, "seller_id": "demo", "order_id": order_id, "provider": "local", "event_id": "evt_1"}
    return written(catalog.PAYMENT_NOTICE, {**event, "kind": kind})


def outcomes(query: Query) -> dict[tuple[str, str], tuple[str, str]]:
    """From the journal: (order, request) → (outcome, reason); an attempt that is announced twice fails."""
    rows = query("SELECT payload FROM journal WHERE topic = %s ORDER BY partition, seq", catalog.PAYMENT_EVENTS.name)
    found: dict[tuple[str, str], tuple[str, str]] = {}
    for (payload,) in rows:
        _, event = codec.decode(payload, catalog.PAYMENT_ATTEMPT_FINISHED, bytes_max=100_000)
        key = (event["order_id"], event["request_id"])
        assert key not in found, f"{key} is announced twice"
        found[key] = (event["outcome"], event["reason"])
    return found


async def until_taken_up(query: Query, seconds: float = 60.0) -> None:
    """Wait until every attempt is being called for."""
    deadline = time.monotonic() + seconds
    while query("SELECT 1 FROM payment_attempts HAVING min(tries) > 0") == []:
        assert time.monotonic() < deadline, "nobody takes the attempts up"
        await asyncio.sleep(0.01)


def calls_in_flight() -> float | None:
    """As the metrics say."""
    return REGISTRY.get_sample_value("gapless_payment_calls_in_flight")


async def until_called(seconds: float = 60.0) -> None:
    """Wait until a call is under way, which is later than when its attempt is taken up."""
    deadline = time.monotonic() + seconds
    while not calls_in_flight():
        assert time.monotonic() < deadline, "nobody is called"
        await asyncio.sleep(0.01)


async def until_finished(query: Query, count: int, seconds: float = 120.0) -> dict[tuple[str, str], tuple[str, str]]:
    """Wait until so many attempts are finished; their outcomes."""
    deadline = time.monotonic() + seconds
    while len(found := outcomes(query)) < count:
        if time.monotonic() > deadline:
            raise AssertionError(f"only {len(found)} of {count}: {query('SELECT * FROM payment_attempts')}")
        await asyncio.sleep(0.03)
    return found
