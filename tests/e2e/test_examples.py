"""The programs of `examples/`, on a real stack: what a stranger copies works."""

import asyncio
import base64
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import httpx
import psycopg
import pytest
from gapless_client.client import AsyncClient, Client
from psycopg.rows import tuple_row
from standardwebhooks import Webhook

from producers.generate import checkouts
from tests.e2e.running import Running, wait_for

EXAMPLES = Path(__file__).parents[2] / "examples"
CLIENT = Path(__file__).parents[2] / "producers" / "gapless_client" / "src"
WEBHOOK_KEY = "whsec_" + base64.b64encode(b"x" * 32).decode()
_S_MAX = 120.0


def carts(count: int, sku: str) -> list[dict[str, Any]]:
    """As a shop's pages send them; each customer buys one piece at most."""
    bodies = checkouts(count, seed=7, skus=[sku], customers=count, tokens={"tok_ok": 1.0}, prefix=uuid4().hex[:8])
    made: list[dict[str, Any]] = [json.loads(each) for each in bodies]
    return [{**each, "cart_id": each["order_id"]} for each in made]


def environment(running: Running, **more: str) -> dict[str, str]:
    return {
        "GAPLESS_URL": running.url,
        "GAPLESS_KEY": running.api_key,
        "KAFKA": running.settings.kafka_bootstrap,
        "WEBHOOK_KEYS": WEBHOOK_KEY,
        **more,
    }


def load(name: str, running: Running) -> ModuleType:
    """The example as a module, with this stack's settings."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in environment(running).items():
            patch.setenv(variable, value)
        spec.loader.exec_module(module)
    return module


@contextmanager
def started(name: str, *arguments: str, running: Running, **more: str) -> Iterator[subprocess.Popen[str]]:
    """The example as a process."""
    process = subprocess.Popen(
        [sys.executable, EXAMPLES / f"{name}.py", *arguments],
        env={**os.environ, "PYTHONPATH": str(CLIENT), **environment(running, **more)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


async def test_a_shop_with_flask_sells_a_cart_once(running: Running) -> None:
    def shop() -> None:
        module = load("storefront_flask", running)
        with module.gapless, module.app.test_client() as browser:
            module.gapless.put_stock("FLASK-1", {"on_hand": 1_000})
            [cart] = carts(1, "FLASK-1")
            for _ in range(2):
                bought = browser.post("/buy", json=cart)
                assert (bought.status_code, bought.json["state"]) == (201, "CONFIRMED"), bought.json
            assert browser.get(f"/orders/{cart['cart_id']}").json["state"] == "CONFIRMED"
            [cart] = carts(1, "FLASK-NONE")
            refused = browser.post("/buy", json=cart)
            assert (refused.status_code, refused.json["type"]) == (409, "/problems/out-of-stock"), refused.json
            assert browser.get("/orders/nobody").status_code == 404

    await asyncio.to_thread(shop)


async def test_a_shop_with_flask_takes_webhooks_that_are_signed(running: Running) -> None:
    module = load("storefront_flask", running)
    body = json.dumps({"type": "order.confirmed", "timestamp": "2026-11-29T09:00:00Z", "data": {"order_id": "A-1"}})
    now = datetime.now(UTC)
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(WEBHOOK_KEY).sign("msg_1", now, body),
    }
    with module.gapless, module.app.test_client() as sender:
        for _ in range(2):
            assert sender.post("/webhooks", data=body, headers=headers).status_code == 204
        assert sender.post("/webhooks", data=body + " ", headers=headers).status_code == 400
        assert module.handled == {"msg_1"}


async def test_a_shop_with_fastapi_sells_a_cart_once(running: Running) -> None:
    async with AsyncClient(running.url, running.api_key) as warehouse:
        await warehouse.put_stock("FAST-1", {"on_hand": 1_000})
    module = load("storefront_fastapi", running)
    transport = httpx.ASGITransport(module.app)
    async with (
        module.gapless,
        httpx.AsyncClient(transport=transport, base_url="http://shop", timeout=_S_MAX) as browser,
    ):
        [cart] = carts(1, "FAST-1")
        for _ in range(2):
            bought = await browser.post("/buy", json=cart)
            assert (bought.status_code, bought.json()["state"]) == (201, "CONFIRMED"), bought.json()
        [cart] = carts(1, "FAST-NONE")
        refused = await browser.post("/buy", json=cart)
        assert (refused.status_code, refused.json()["type"]) == (409, "/problems/out-of-stock")


async def test_what_the_readme_shows_sells_a_mug(running: Running, tmp_path: Path) -> None:
    [program] = re.findall(r"```python\n(.*?)```", (EXAMPLES.parent / "README.md").read_text(), re.DOTALL)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        program,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(CLIENT), **environment(running)},
        stdout=subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert (process.returncode, output) == (0, b"CONFIRMED\n")
    assert (tmp_path / "C-1001.pdf").read_bytes().startswith(b"%PDF")


async def test_a_warehouse_ships_each_order_once_through_a_crash(running: Running) -> None:
    await asyncio.to_thread(_pack, running)
    await asyncio.to_thread(running.assert_clean)


def _pack(running: Running) -> None:
    name = f"warehouse_{uuid4().hex[:8]}"
    url = urlunsplit(urlsplit(running.postgres_url)._replace(path=f"/{name}"))
    with psycopg.connect(running.postgres_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    try:
        with psycopg.connect(url, autocommit=True, row_factory=tuple_row) as database:
            bodies = carts(20, "PACK-1")
            shipped = {each["cart_id"]: "sent" for each in bodies}

            def parcels() -> dict[str, str]:
                if database.execute("SELECT to_regclass('parcels')").fetchone() == (None,):
                    return {}
                rows = database.execute("SELECT order_id, state FROM parcels").fetchall()
                return {order_id: state for order_id, state in rows if order_id in shipped}

            with started("warehouse", running=running, DATABASE=url, SELLER="demo") as process:
                buy(running, bodies[:10])
                wait_for(lambda: "sent" in parcels().values(), "a parcel", _S_MAX)
                process.send_signal(signal.SIGKILL)
            buy(running, bodies[10:])
            with started("warehouse", running=running, DATABASE=url, SELLER="demo") as process:
                wait_for(lambda: parcels() == shipped, "every parcel", _S_MAX)
                process.send_signal(signal.SIGTERM)
                assert process.wait(_S_MAX) == 0
        with Client(running.url, running.api_key) as shop:
            for order_id in shipped:
                taken = [step["to"] for step in shop.get_order(order_id)["history"]]  # type: ignore[typeddict-item]
                assert taken.count("SHIPPED") == 1, taken
    finally:
        with psycopg.connect(running.postgres_url, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def buy(running: Running, bodies: list[dict[str, Any]]) -> None:
    """All of them, until they are confirmed."""
    with Client(running.url, running.api_key) as shop:
        shop.put_stock("PACK-1", {"on_hand": 1_000})
        for body in bodies:
            order: Any = {name: value for name, value in body.items() if name != "cart_id"}
            assert shop.check_out(order)["order_id"] == body["cart_id"]
        for body in bodies:
            assert shop.wait_for_order(body["cart_id"])["state"] == "CONFIRMED"


async def test_a_consumer_without_our_library_reads_every_event(running: Running) -> None:
    await asyncio.to_thread(_read, running)


def _read(running: Running) -> None:
    [body] = carts(1, "PACK-1")
    buy(running, [body])
    wanted = {"gapless.OrderPlaced", "gapless.OrderStateChanged", "gapless.InvoiceIssued"}
    with started("consumer", "order-events", "invoice-events", running=running) as process:
        assert process.stdout is not None
        events = _until(
            process.stdout, lambda found: {each["type"] for each in found} == wanted, body["cart_id"], wanted
        )
    assert len({each["id"] for each in events}) == len(events)
    [placed] = [each for each in events if each["type"] == "gapless.OrderPlaced"]
    assert placed["value"]["customer"] == body["customer"]


def _until(lines: Any, holds: Callable[[list[Any]], bool], order_id: str, wanted: set[str]) -> list[Any]:
    """The order's events of the wanted types, until the condition holds for them."""
    found: list[Any] = []
    while not holds(found):
        event = json.loads(next(lines))
        if event["value"].get("order_id") == order_id and event["type"] in wanted:
            found.append(event)
    return found
