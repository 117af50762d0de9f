"""A worker's log: a line for each decision, and for each outage one at its begin and one at its end."""

import asyncio
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from local import postgres
from local.layout import free_port, postgres_url
from sinks.deployment import make_topics
from sinks.postgres.migrate import migrate
from tests.conftest import Services
from tests.integration.conftest import add_seller
from tests.integration.test_worker_process import ends, produce, stand_at, wait_for

pytestmark = pytest.mark.usefixtures("empty_outputs")

#: Over four partitions, each 0.05 to 1 s apart: an outage with this many retries lasts some seconds.
RETRIES = 40


class Postgres:
    """A Postgres server of the test's own, which can be stopped."""

    def __init__(self, folder: Path) -> None:
        self._port = free_port()
        self._server = postgres.prepare(
            folder / "postgres", self._port, folder / "postgres_password", secrets.token_hex(8)
        )
        self._process: subprocess.Popen[bytes] | None = None
        self.url = postgres_url(folder, self._port)

    def start(self) -> None:
        server = self._server
        self._process = subprocess.Popen(
            server.argv, user=server.user, group=server.group, extra_groups=None if server.user is None else [],
            cwd=server.folder, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        wait_for(self._answers, "Postgres")

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(60)
            self._process = None

    def query(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(sql.encode(), parameters)
            return cursor.fetchall() if cursor.description else []

    def _answers(self) -> bool:
        try:
            self.query("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True


@pytest.fixture
def own(services: Services) -> Iterator[Postgres]:
    folder = Path(tempfile.mkdtemp(prefix="gapless-test-"))
    # Accessible to all: if the tests run as root, Postgres runs as another user.
    folder.chmod(0o755)
    made = Postgres(folder)
    made.start()
    asyncio.run(migrate(made.url))
    make_topics(made.url, services.kafka_bootstrap, 1, None)
    with psycopg.connect(made.url, autocommit=True) as connection:
        add_seller(connection, "demo")
    yield made
    made.stop()
    shutil.rmtree(folder)


class Running:
    """A worker, its log, and its port."""

    def __init__(self, log: Path, port: int) -> None:
        self._log = log
        self._port = port

    def lines(self) -> list[dict[str, Any]]:
        """The lines of its log, each a JSON object."""
        return [json.loads(line) for line in self._log.read_text().splitlines()]

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}{path}", timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except urllib.error.URLError:
            # Not listening yet.
            return 0, ""

    def retries(self) -> float:
        found = re.search(r'^gapless_outage_retries_total\{agent="invoices"\} (\S+)', self.get("/metrics")[1], re.M)
        return float(found[1]) if found else 0.0


@contextmanager
def worker(services: Services, url: str, folder: Path) -> Iterator[Running]:
    port = free_port()
    environment = {
        **os.environ,
        "GAPLESS_KAFKA_BOOTSTRAP": services.kafka_bootstrap,
        "GAPLESS_POSTGRES_URL": url,
        # The folders above it don't exist.
        "GAPLESS_WORKER_DATA": str(folder / "not" / "made" / "yet"),
        "GAPLESS_WORKER_SLOT": folder.name[-20:],
        "GAPLESS_METRICS_PORT": str(port),
    }
    log = folder / "log"
    with log.open("wb") as file:
        command = [sys.executable, "-m", "gapless", "worker", "invoices"]
        process = subprocess.Popen(command, env=environment, stderr=file)
    running = Running(log, port)
    try:
        yield running
    except AssertionError:
        print(f"/readyz: {running.get('/readyz')}\n{log.read_text()}")
        raise
    finally:
        process.kill()
        process.wait()


def test_an_outage_is_told_at_its_begin_and_its_end_and_each_decision_once(
    services: Services, own: Postgres, tmp_path: Path
) -> None:
    """However many partitions are affected, and however often they retry."""
    stand_at(services, own.query, ends(services))
    with worker(services, own.url, tmp_path) as running:
        produce(services, f"{tmp_path.name}-before", 8)
        wait_for(lambda: own.query("SELECT count(*) FROM invoices") == [(8,)], "the first invoices")
        wait_for(lambda: running.get("/readyz")[0] == 200, "readiness")
        before = len(running.lines())

        own.stop()
        produce(services, f"{tmp_path.name}-meanwhile", 8)
        wait_for(lambda: running.retries() >= RETRIES, "an outage of some seconds")
        status, body = running.get("/readyz")
        assert (status, json.loads(body)["status"]) == (503, "not ready")
        assert json.loads(body)["postgres"].startswith("unavailable: ")
        assert running.get("/healthz") == (200, '{"status": "alive"}')
        meanwhile = running.lines()[before:]
        own.start()
        wait_for(lambda: own.query("SELECT count(*) FROM invoices") == [(16,)], "the others")
        wait_for(lambda: running.get("/readyz")[0] == 200, "readiness")
        after = running.lines()[before + len(meanwhile) :]

    assert meanwhile[0]["event"].startswith("Postgres is unavailable: ")
    assert len(meanwhile) == 1
    told = [line for line in after if line["logger"] == "runtime.outages"]
    assert [line["event"][:30] for line in told] == ["Postgres is available again af"]
    assert told[0]["outage_seconds"] > 1
    issued = {line["order_id"]: line for line in running.lines() if line["event"] == "issued"}
    assert len(issued) == 16
    numbers = own.query("SELECT order_id, invoice_number FROM invoices")
    assert {order_id: line["number"] for order_id, line in issued.items()} == dict(numbers)
    assert {line["seller_id"] for line in issued.values()} == {"demo"}


def test_the_metrics_port_serves_three_paths_and_says_why_it_is_not_ready(
    services: Services, own: Postgres, tmp_path: Path
) -> None:
    own.stop()
    with worker(services, own.url, tmp_path) as running:
        wait_for(lambda: running.get("/healthz")[0] == 200, "the port")
        wait_for(lambda: '"postgres": "unavailable: OperationalError' in running.get("/readyz")[1], "the reason")
        status, body = running.get("/readyz")
        report = json.loads(body)
        assert (status, report["status"]) == (503, "not ready")
        assert (report["kafka"], report["partitions"]) == ("never reached", "not assigned yet")
        assert [running.get(path)[0] for path in ("/", "/health", "/metrics/x", "/readyz/")] == [404] * 4
        own.start()
        wait_for(lambda: running.get("/readyz")[0] == 200, "readiness")
        warnings = [line["event"] for line in running.lines() if line["level"] == "warning"]
    # Reported once, although several parts of the worker are affected.
    assert [each[:28] for each in warnings] == ["Postgres is unavailable: Ope", "Postgres is available again "]
