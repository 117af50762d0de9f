"""The provider's webhooks: taken if they are the provider's, and of no effect but haste."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
from aiohttp import web

from domain.signature import sign
from gateway.app import make_app
from gateway.http.auth import KeyRing
from gateway.http.intake import Intake
from gateway.http.server import BoundedRunner
from gateway.notices import NoticeIntake
from local.layout import free_port
from runtime.publisher import Delivered
from runtime.settings import load
from schemas import catalog, codec
from tests.integration.payments_world import (
    NOTICES,
    QUICK,
    SECRET,
    Payments,
    Query,
    add_orders,
    placed,
    simulator,
    until_finished,
)


@dataclass
class Log:
    """Stands for Kafka: keeps what is published."""

    records: list[tuple[str, bytes | None, bytes | None]] = field(default_factory=list)

    def publish(
        self, topic: str, key: bytes | None, value: bytes | None, headers: object = None
    ) -> asyncio.Future[Delivered]:
        self.records.append((topic, key, value))
        future: asyncio.Future[Delivered] = asyncio.get_running_loop().create_future()
        future.set_result(Delivered(0, len(self.records)))
        return future


class Door:
    """A gateway with nothing but this route."""

    def __init__(self, **settings: Any) -> None:
        self.log = Log()
        self.url = f"http://127.0.0.1:{free_port()}"
        notices = NoticeIntake(Intake(self.log), load(**settings))  # type: ignore[arg-type]
        self._runner = BoundedRunner(
            make_app(notices.routes(), KeyRing(cast(Any, None))), access_log=None, seller_of=lambda _: None
        )

    async def __aenter__(self) -> "Door":
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", int(self.url.rpartition(":")[2])).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def post(self, body: bytes, header: str, provider: str = "local", name: str = "Provider-Signature") -> int:
        """Its status; a body that says more than it should fails."""
        url = f"{self.url}/v1/providers/{provider}/notices"
        async with aiohttp.ClientSession() as session, session.post(url, data=body, headers={name: header}) as response:
            text = await response.text()
            assert SECRET not in text
            if response.status >= 400:
                assert response.content_type == "application/problem+json"
            return response.status


def notice(**metadata: object) -> bytes:
    data = {"object": {"id": "pay_1", "metadata": metadata}}
    return json.dumps({"id": "evt_1", "type": "payment.authorized", "created": 1, "data": data}).encode()


A = notice(seller_id="demo", order_id="A")


def signed(body: bytes, at: float | None = None, secret: str = SECRET) -> str:
    return sign(secret, body, int(time.time() if at is None else at))


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    async with Door(provider_webhook_secret=SECRET) as made:
        yield made


async def test_a_signed_notice_is_kept_under_its_orders_key(door: Door) -> None:
    assert await door.post(A, signed(A)) == 202
    [(topic, key, value)] = door.log.records
    assert (topic, key) == (NOTICES, b"A")
    _, event = codec.decode(value, catalog.PAYMENT_NOTICE, bytes_max=1000)
    assert (event["seller_id"], event["order_id"], event["provider"], event["event_id"]) == (
        "demo",
        "A",
        "local",
        "evt_1",
    )


# Signed when the test runs, not when it is collected: a signature is too old after five minutes.
@pytest.mark.parametrize(
    ("body", "header", "status"),
    [
        (A, lambda body: "", 401),
        (A, lambda body: "t=1,v1=0", 401),
        (A, lambda body: signed(body, secret="whsec_of_somebody_else"), 401),
        (A + b" ", lambda body: signed(A), 401),
        (A, lambda body: signed(body, at=time.time() - 4000), 401),
        (A, lambda body: signed(body, at=time.time() + 4000), 401),
        (b"{", signed, 400),
        (b"[]", signed, 400),
        (b"\xff", signed, 400),
        (b"[" * 60_000, signed, 400),
        (b" " * 70_000, signed, 413),
        (notice(), signed, 202),
        (notice(seller_id=7, order_id=None), signed, 202),
        (notice(seller_id="demo", order_id="a\0b"), signed, 202),
        # What a provider says of things that are none of ours: anything but a 202 has it said again for days.
        (b'{"id": "evt_1", "data": {"object": {"metadata": null}}}', signed, 202),
        (b'{"id": "evt_1", "data": {"object": {"metadata": []}}}', signed, 202),
        (b'{"id": "evt_1", "data": {"object": {"metadata": "A"}}}', signed, 202),
        (b'{"id": "evt_1", "data": {"object": {}}}', signed, 202),
        (b'{"id": "evt_1", "data": {"object": null}}', signed, 202),
        (b'{"id": "evt_1", "data": {"object": "pay_1"}}', signed, 202),
        (b'{"id": "evt_1", "data": {}}', signed, 202),
        (b'{"id": "evt_1", "data": null}', signed, 202),
        (b'{"id": "evt_1", "data": []}', signed, 202),
        (b'{"id": "evt_1"}', signed, 202),
        (b"{}", signed, 202),
    ],
)
async def test_what_is_not_the_providers_or_not_about_an_order_is_not_kept(
    body: bytes, header: Callable[[bytes], str], status: int, door: Door
) -> None:
    assert await door.post(body, header(body)) == status
    assert door.log.records == []


async def test_without_a_secret_and_for_other_providers_there_is_no_such_place(door: Door) -> None:
    assert await door.post(A, signed(A), provider="stripe") == 404
    async with Door() as closed:
        assert await closed.post(A, signed(A)) == 404
        assert await closed.post(A, signed(A, secret="")) == 404


async def test_stripes_notices_are_checked_by_stripes_own_package() -> None:
    async with Door(provider="stripe", provider_webhook_secret=SECRET) as door:
        send = {"provider": "stripe", "name": "Stripe-Signature"}
        assert await door.post(A, signed(A), **send) == 202
        assert await door.post(A, signed(A, at=time.time() - 4000), **send) == 401
        assert await door.post(A, signed(A, secret="x"), **send) == 401
        assert await door.post(A, "nonsense", **send) == 401
        assert await door.post(b"\xff", signed(b"\xff"), **send) == 401
    assert len(door.log.records) == 1


async def test_early_repeated_and_late_notices_end_in_the_same_state(
    tmp_path: Path, ledger_url: str, query: Query, door: Door
) -> None:
    webhook_url = f"{door.url}/v1/providers/local/notices"
    with simulator(tmp_path / "provider", "--notices", "1.0", webhook_url=webhook_url) as provider:
        payments = Payments(ledger_url, provider.url)
        await payments.start()
        tokens = ["tok_duplicate", "tok_ok", "tok_timeout_charged", "tok_cut"]
        orders = [(f"O-{number}", tokens[number % 4]) for number in range(80)]
        add_orders(ledger_url, orders)
        feeding = asyncio.create_task(_feed(door.log, payments))
        await payments.run(*[placed(order_id) for order_id, _ in orders])
        found = await until_finished(query, 80)
        # Twice for those that were sent twice.
        async with asyncio.timeout(60):
            while len(door.log.records) < 100:  # noqa: ASYNC110 - it tells nobody.
                await asyncio.sleep(0.02)
        await asyncio.sleep(1)
        feeding.cancel()
        await asyncio.wait({feeding})
        assert len(door.log.records) == 100
        await payments.stop()
        assert set(found.values()) == {("succeeded", "")}
        assert {charge["acted"] for charge in await provider.ledger()} == {1}


async def test_a_notice_that_comes_before_the_answer_brings_the_outcome_sooner(
    tmp_path: Path, ledger_url: str, query: Query, door: Door
) -> None:
    """The answer itself never comes; without the notice, the call's time would have to run out first."""
    webhook_url = f"{door.url}/v1/providers/local/notices"
    with simulator(tmp_path / "provider", webhook_url=webhook_url) as provider:
        payments = Payments(ledger_url, provider.url, replace(QUICK, timeout_seconds=60, lease_seconds=180))
        await payments.start()
        add_orders(ledger_url, [("A", "tok_timeout_charged")])
        feeding = asyncio.create_task(_feed(door.log, payments))
        await payments.run(placed("A"))
        found = await until_finished(query, 1, seconds=45)
        feeding.cancel()
        await asyncio.wait({feeding})
        await payments.stop()
        assert found == {("A", "authorize"): ("succeeded", "")}


async def _feed(log: Log, payments: Payments) -> None:
    done = 0
    while True:
        values = [value for _, _, value in log.records[done:]]
        if values:
            done += len(values)
            await payments.run(*values, topic=NOTICES)
        await asyncio.sleep(0.02)
