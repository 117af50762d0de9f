"""The monitor asks processes whether they are ready, and says why one is not."""

import socket
import threading
from collections.abc import Iterator

import pytest
from prometheus_client import Gauge

from monitor.reports import Reports, Sample, ask, parse_processes
from runtime import metrics
from runtime.health import HealthReport
from runtime.settings import SettingsError


class Told:
    """A process's health, as a test wants it."""

    def __init__(self, report: HealthReport) -> None:
        self._report = report

    def alive(self) -> HealthReport:
        return self._report

    def ready(self) -> HealthReport:
        return self._report


@pytest.fixture
def port() -> Iterator[int]:
    """On which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number = probe.getsockname()[1]
    yield number


def test_names_and_places_are_read() -> None:
    found = parse_processes("gateway=10.0.0.1:9100, invoices-1=[::1]:9101,")
    assert found == {"gateway": ("10.0.0.1", 9100), "invoices-1": ("::1", 9101)}
    assert parse_processes("") == {}


@pytest.mark.parametrize("text", ["invoices-1", "=10.0.0.1:1", "a=b", "a=:1", "a=b:", "a=b:x", "a=b:²"])
def test_what_is_no_process_is_refused_by_name(text: str) -> None:
    with pytest.raises(SettingsError, match=r"GAPLESS_MONITOR_PROCESSES: .* is not NAME=HOST:PORT"):
        parse_processes(text)


def test_a_process_that_is_ready_says_nothing(port: int) -> None:
    metrics.serve("127.0.0.1", port, Told((True, {"status": "ready", "kafka": "ok"})))
    assert ask("127.0.0.1", port) == ""


def test_a_process_that_is_not_ready_says_why(port: int) -> None:
    health = Told((False, {"status": "not ready", "kafka": "ok", "postgres": "unavailable: refused"}))
    metrics.serve("127.0.0.1", port, health)
    assert ask("127.0.0.1", port) == "postgres unavailable: refused"


def test_a_process_that_is_down_can_not_be_reached(port: int) -> None:
    assert ask("127.0.0.1", port).startswith("can't be reached: ")


def test_a_process_that_hangs_does_not_answer() -> None:
    """Its kernel takes the connection all the same."""
    with socket.create_server(("127.0.0.1", 0)) as hung:
        assert ask("127.0.0.1", hung.getsockname()[1]) == "does not answer within 1 s"


def test_what_is_not_one_of_our_processes_says_its_status() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1_024)
                connection.sendall(b"HTTP/1.1 418 I'm a teapot\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        assert ask("127.0.0.1", server.getsockname()[1]) == "answers 418"
        thread.join()


def test_some_metrics_of_every_process_that_answers_are_read(port: int) -> None:
    metrics.serve("127.0.0.1", port, None)
    gauge = Gauge("gapless_tests_of_reports", "Of this test.", ["state"], registry=metrics.REGISTRY)
    try:
        gauge.labels("open").set(3)
        reports = Reports({"payments-1": ("127.0.0.1", port), "payments-2": ("127.0.0.1", 1)})
        found = reports.samples(["gapless_tests_of_reports", "gapless_nowhere"])
    finally:
        metrics.REGISTRY.unregister(gauge)
    assert found == [Sample("payments-1", "gapless_tests_of_reports", {"state": "open"}, 3)]


def test_without_processes_there_are_no_metrics() -> None:
    assert Reports({}).samples(["gapless_payment_breaker"]) == []
