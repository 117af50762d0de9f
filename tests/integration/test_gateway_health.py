"""The gateway's second door: its metrics port answers from threads, however busy the loop is."""

import asyncio
import json
import urllib.error
import urllib.request

import pytest

import gateway.health
import runtime.health
from local.layout import free_port
from tests.conftest import Services
from tests.integration.gateways import Topics, order, running, until


def ask(port: int, path: str) -> tuple[int, str]:
    """In the loop's own thread: until the answer is there, the loop stands still."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


async def test_readiness_is_told_while_the_loop_stands_still(services: Services, ledger: str, topics: Topics) -> None:
    """The same as at the gateway's own port."""
    port = free_port()
    async with running(services, ledger, topics, metrics_port=port) as client:
        own = await until(lambda: client.get("/readyz"), lambda answer: answer.json["status"] == "ready")
        status, body = ask(port, "/readyz")
        assert (status, json.loads(body)) == (200, own.json)


async def test_a_loop_that_does_not_turn_is_neither_alive_nor_ready(
    services: Services, ledger: str, topics: Topics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody who sent an order would be answered."""
    port = free_port()
    monkeypatch.setattr(runtime.health, "_TURN_SECONDS_MAX", 1.0)
    monkeypatch.setattr(gateway.health, "_TURN_SECONDS_MAX", 0.9)
    async with running(services, ledger, topics, metrics_port=port) as client:
        status, body = ask(port, "/healthz")
        assert (status, json.loads(body)) == (503, {"status": "stuck", "loop": "has not turned for 1 s"})
        status, body = ask(port, "/readyz")
        report = json.loads(body)
        assert (status, report["status"], report["kafka"]) == (503, "not ready", "ok")
        assert report["loop"].startswith("has not turned for ")
        await until(lambda: client.get("/readyz"), lambda answer: answer.status == 200)


async def test_the_metrics_port_alone_serves_metrics(services: Services, ledger: str, topics: Topics) -> None:
    """They are for operators, not for the public; here who waits for an outcome that nobody decides."""
    port = free_port()
    async with running(services, ledger, topics, metrics_port=port) as client:
        waiting = asyncio.create_task(client.post(order("O-waits"), Prefer="wait=20"))
        one = "gapless_gateway_waiters 1.0"
        text = await until(lambda: asyncio.to_thread(lambda: ask(port, "/metrics")[1]), lambda text: one in text)
        waiting.cancel()
        assert (await client.get("/metrics")).status == 404
    assert one in text
    assert "gapless_gateway_hints_available 1.0" in text
