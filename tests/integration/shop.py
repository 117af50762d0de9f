"""The checkouts and orders agents on a ledger of the test's own, without Kafka: records in, rows and events out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from domain.records import CheckoutRequest
from schemas import catalog, codec
from sinks.postgres.positions import read_positions
from sinks.postgres.session import Session
from streams.checkouts import CheckoutsWork
from streams.engine import work as work_module
from streams.engine.batch import Batch
from streams.engine.work import Worker
from streams.orders import OrdersWork, expire_once
from tests.integration.test_invoices_work import FakeTable, FatalError, Sent
from tests.records import written
from tests.unit.domain.test_invoice import line, request

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
HOLD = timedelta(minutes=10)
Query = Callable[..., list[tuple[Any, ...]]]


@dataclass
class Shop:
    """Both agents in one partition, and what a test needs to look into them."""

    url: str
    query: Query
    partition: int = 0
    now: datetime = NOW
    table: FakeTable = field(default_factory=FakeTable)
    offsets: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.session = Session(self.url)
        self.worker = Worker(self.session, self._probe)
        self.checkouts = CheckoutsWork(self.table, lambda: self.now, HOLD)  # type: ignore[arg-type]
        self.orders = OrdersWork(lambda: self.now)

    async def open(self) -> None:
        """Make the agents' positions."""
        async with self.session.connection() as connection:
            for agent, topic in (
                ("checkouts", catalog.CHECKOUT_REQUESTS),
                ("orders", catalog.ORDER_COMMANDS),
                ("orders", catalog.PAYMENT_EVENTS),
            ):
                await read_positions(connection, agent, topic.name, [0, 1, 2, 3])

    async def close(self) -> None:
        await self.session.close()

    def stock(self, sku: str, on_hand: int) -> None:
        self.query("INSERT INTO stock (seller_id, sku, on_hand) VALUES ('demo', %s, %s)", sku, on_hand)

    def level(self, sku: str) -> tuple[int, int, int]:
        [(on_hand, reserved, version)] = self.query("SELECT on_hand, reserved, version FROM stock WHERE sku = %s", sku)
        return on_hand, reserved, version

    async def checkout(self, *bodies: CheckoutRequest | bytes | None) -> None:
        """A batch of checkout requests."""
        values = [b if b is None or isinstance(b, bytes) else written(catalog.CHECKOUT_REQUEST, b) for b in bodies]
        await self.worker.run(self.checkouts, self.batch(catalog.CHECKOUT_REQUESTS.name, values))

    async def pay(self, order_id: str, outcome: str = "succeeded", action: str = "authorize", **changes: Any) -> None:
        """What a payment came to, as the payments agent writes it."""
        request_id = changes.pop("request_id", action)
        self.query(
            "INSERT INTO payment_attempts (seller_id, order_id, request_id, partition, action, amount_minor, currency,"
            " provider_key, state, next_try_at, created_at) VALUES ('demo', %s, %s, 0, %s, 0, 'EUR', %s, %s, now(),"
            " now()) ON CONFLICT (seller_id, order_id, request_id) DO UPDATE SET state = excluded.state",
            order_id, request_id, action, f"{order_id}:{request_id}", outcome,
        )  # fmt: skip
        await self.worker.run(self.orders, self.batch(catalog.PAYMENT_EVENTS.name, [
            paid(order_id, outcome, action, request_id, **changes)
        ]))  # fmt: skip

    async def command(self, order_id: str, action: str, **changes: Any) -> dict[str, Any]:
        """A command, and its answer."""
        await self.worker.run(
            self.orders, self.batch(catalog.ORDER_COMMANDS.name, [command(order_id, action, **changes)])
        )
        return [event for name, event in self.events(catalog.ORDER_EVENTS) if name == "OrderCommandAnswered"][-1]

    async def expire(self) -> int:
        return await expire_once(self.session, self.now)

    def state(self, order_id: str) -> str:
        [(state,)] = self.query("SELECT state FROM orders WHERE order_id = %s", order_id)
        return str(state)

    def history(self, order_id: str) -> list[tuple[str, str]]:
        [(history,)] = self.query("SELECT history FROM orders WHERE order_id = %s", order_id)
        return [(step["to"], step["reason"]) for step in history]

    def events(self, topic: catalog.Topic) -> list[tuple[str, dict[str, Any]]]:
        """Name and content of what the journal has for a topic."""
        found = []
        for (payload,) in self.query(
            "SELECT payload FROM journal WHERE topic = %s ORDER BY partition, seq", topic.name
        ):
            schema, event = codec.decode(payload, *topic.schemas, bytes_max=topic.value_bytes_max)
            found.append((schema.name.removeprefix("gapless."), dict(event)))
        return found

    def names(self, topic: catalog.Topic) -> list[str]:
        return [name for name, _ in self.events(topic)]

    def batch(self, topic: str, values: Sequence[bytes | None]) -> Batch:
        first = self.offsets.get(topic, 0)
        self.offsets[topic] = first + len(values)
        return Batch(topic, self.partition, [Sent(first + n, value, b"key") for n, value in enumerate(values)])

    async def _probe(self, topic: str, partition: int, offset: int) -> tuple[int, int]:
        raise AssertionError("the test's log has no holes")


def checkout_body(order_id: str, *lines: tuple[str, int], **changes: Any) -> CheckoutRequest:
    """A request for `(sku, pieces)` lines, at 10.00 each and 20% VAT."""
    body = request(order_id=order_id)
    made: CheckoutRequest = {
        "received_at": body["received_at"],
        "seller_id": body["seller_id"],
        "order_id": order_id,
        "customer": "C-17",
        "payment_token": "tok_ok",
        "currency": body["currency"],
        "note": body["note"],
        "buyer": body["buyer"],
        "lines": [line(sku=sku, quantity=str(pieces), unit_price="10.00") for sku, pieces in lines or (("S-1", 1),)],
    }
    return cast(CheckoutRequest, {**made, **changes})


def paid(order_id: str, outcome: str, action: str, request_id: str, **changes: Any) -> bytes:
    return written(catalog.PAYMENT_ATTEMPT_FINISHED, {
        "seller_id": "demo", "order_id": order_id, "request_id": request_id, "action": action, "outcome": outcome,
        "amount_minor": 0, "currency": "EUR", "provider": "local", "reference": "r", "reason": "", "tries": 1,
        "occurred_at": 0, **changes,
    })  # fmt: skip


def command(order_id: str, action: str, **changes: Any) -> bytes:
    refund_id = changes.get("refund_id", "")
    command_id = f"refund:{refund_id}" if action == "refund" else action
    return written(catalog.ORDER_COMMAND, {
        "received_at": 0, "seller_id": "demo", "order_id": order_id, "command_id": command_id, "action": action,
        "reason": "", "refund_id": "", "lines": [], **changes,
    })  # fmt: skip


@pytest.fixture
async def shop(ledger_url: str, query: Query, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Both agents on a fresh ledger; the end of a process is an error of the test."""

    def fatal(message: str, error: BaseException | None = None) -> None:
        raise FatalError(message) from error

    monkeypatch.setattr(work_module, "fatal", fatal)
    made = Shop(ledger_url, query)
    await made.open()
    yield made
    await made.close()
