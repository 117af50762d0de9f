"""The access log: what a request leaves in it, and what it doesn't."""

import asyncio
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from gateway.http import telemetry
from runtime import logs
from tests.integration.gateways import order
from tests.unit.gateway.edge import talk

#: Whoever finds one of these in a log has found a person, or a key.
PRIVATE = ("zoe@example.com", "O'Neil", "Lyon", "Bearer", "gpl_secret")


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """The root logger as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    logs.LineWriter.process = {}
    telemetry._write._second = -1
    structlog.reset_defaults()


async def send(port: int, method: str, path: str, body: bytes = b"", more: str = "") -> None:
    """One request."""
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nIdempotency-Key: A-1\r\n{more}"
    await talk(port, f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """Those of the access log; nothing private stands in any line."""
    text = capsys.readouterr().err
    assert not any(each in text for each in PRIVATE)
    return [each for each in map(json.loads, text.splitlines()) if each["event"] == "request"]


async def test_a_write_request_is_one_line(port: int, capsys: pytest.CaptureFixture[str]) -> None:
    """With its order, seller, size and time; there is no broker here, so that it ends in a bug."""
    logs.configure("INFO", {"process": "gateway"})
    body = json.dumps(order(None)).encode()
    await send(port, "POST", "/v1/invoices", body)
    await send(port, "POST", "/v1/invoices", b"{}")
    failed, refused = lines(capsys)
    assert failed.pop("ms") >= 0
    assert failed.pop("timestamp").endswith("Z")
    assert failed == {
        "process": "gateway",
        "logger": "gateway.access",
        "level": "warning",
        "event": "request",
        "method": "POST",
        "route": "/v1/invoices",
        "status": 500,
        "seller_id": "demo",
        "order_id": "A-1",
        "request_bytes": len(body),
    }
    assert (refused["status"], refused["level"], refused["request_bytes"]) == (400, "info", 2)


async def test_a_line_has_the_trace_of_its_request(port: int, capsys: pytest.CaptureFixture[str]) -> None:
    """And so has the line about the bug that it ends in, which names the order too."""
    logs.configure("INFO")
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    body = json.dumps(order(None)).encode()
    await send(port, "POST", "/v1/invoices", body, more=f"traceparent: 00-{trace_id}-00f067aa0ba902b7-01\r\n")
    failed, line = map(json.loads, capsys.readouterr().err.splitlines())
    assert failed["event"] == "a request to POST /v1/invoices failed"
    for each in (failed, line):
        assert (each["seller_id"], each["order_id"], each["trace_id"]) == ("demo", "A-1", trace_id)


async def test_what_changes_nothing_leaves_no_line_unless_it_fails(
    port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not even while the gateway is not ready, which is what it is asked for; at DEBUG all is logged."""
    logs.configure("INFO")
    for path in ("/healthz", "/readyz", "/openapi.json", "/v1/invoices/A/nothing"):
        await send(port, "GET", path)
    assert lines(capsys) == []
    await send(port, "GET", "/v1/series")
    assert [(each["route"], each["status"]) for each in lines(capsys)] == [("/v1/series", 500)]
    logs.configure("DEBUG")
    await send(port, "GET", "/healthz")
    assert [each["level"] for each in lines(capsys)] == ["debug"]


async def test_a_line_has_the_shape_of_all_other_lines(port: int, capsys: pytest.CaptureFixture[str]) -> None:
    """It is written without the machinery of the others."""
    logs.configure("INFO", {"process": "gateway"})
    await send(port, "POST", "/v1/invoices", b"{}")
    await asyncio.sleep(0)
    logging.getLogger("gateway.access").info("request", extra={"status": 400})
    fast, usual = map(json.loads, capsys.readouterr().err.splitlines())
    assert set(usual) <= set(fast)
    assert len(fast["timestamp"]) == len(usual["timestamp"])
    assert fast["level"] == usual["level"]
