"""The metrics port: its three paths, and the error if it is in use."""

import asyncio
import json
import logging
import socket
import struct
import threading
import time
import urllib.error
import urllib.request

import pytest

from local.layout import free_port
from runtime import health, metrics
from runtime.health import ProcessHealth
from runtime.outages import Outage
from runtime.settings import SettingsError


@pytest.fixture(autouse=True)
def all_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outages that other tests have caused must not count here."""
    monkeypatch.setattr(health, "KAFKA", Outage("Kafka"))
    monkeypatch.setattr(health, "POSTGRES", Outage("Postgres"))


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_a_taken_port_is_refused_with_the_setting_and_the_fix() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(SettingsError) as refused:
        metrics.serve("127.0.0.1", taken.getsockname()[1], ProcessHealth())
    assert "GAPLESS_METRICS_PORT: cannot listen at 127.0.0.1:" in str(refused.value)
    assert "name a free port" in str(refused.value)


def test_there_are_three_paths() -> None:
    port = free_port()
    made = ProcessHealth()
    metrics.serve("127.0.0.1", port, made)
    assert "process_cpu_seconds_total" in get(port, "/metrics")[1]
    assert get(port, "/healthz") == (200, '{"status": "alive"}')
    assert [get(port, path)[0] for path in ("/", "/health", "/readyz/")] == [404] * 3


def test_it_is_ready_when_it_has_reached_what_it_needs_and_says_what_is_missing() -> None:
    port = free_port()
    made = ProcessHealth()
    made.checks["partitions"] = lambda: "not assigned yet"
    metrics.serve("127.0.0.1", port, made)
    status, body = get(port, "/readyz")
    assert (status, json.loads(body)) == (
        503,
        {
            "status": "not ready",
            "kafka": "never reached",
            "postgres": "never reached",
            "partitions": "not assigned yet",
        },
    )
    made.reached("Kafka")
    made.reached("Postgres")
    assert get(port, "/readyz")[0] == 503
    made.checks["partitions"] = lambda: "ok"
    assert get(port, "/readyz")[0] == 200


def test_a_loop_that_doesnt_turn_doesnt_live(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_TURN_SECONDS_MAX", 0.2)
    loop = asyncio.new_event_loop()
    made = ProcessHealth()
    made.watch(loop)
    assert made.alive()[0] is False
    turning = threading.Thread(target=loop.run_forever)
    turning.start()
    monkeypatch.setattr(health, "_TURN_SECONDS_MAX", 60.0)
    assert made.alive()[0] is True
    loop.call_soon_threadsafe(loop.stop)
    turning.join()
    loop.close()


def test_a_process_learns_when_its_metrics_were_read() -> None:
    port = free_port()
    metrics.serve("127.0.0.1", port)
    get(port, "/metrics")
    scraped = metrics.next_scrape()
    assert not scraped.is_set()
    get(port, "/metrics")
    assert scraped.wait(60)


def test_a_client_that_resets_its_connection_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    """Load balancers do so after the response, and standard error is for JSON lines only."""
    caplog.set_level(logging.DEBUG, "runtime.metrics")
    port = free_port()
    metrics.serve("127.0.0.1", port, ProcessHealth())
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"GET /readyz")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    deadline = time.monotonic() + 60
    while not caplog.records:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert [record.levelname for record in caplog.records] == ["DEBUG"]
