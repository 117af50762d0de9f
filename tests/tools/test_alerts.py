"""A real Prometheus on a live stack: what panels and alerts ask for is there, and faults raise their alerts.

One stack for all, in the order of the file: first all is well, then each fault is made, and ended again.
"""

import asyncio
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import aiohttp
import pytest
import redis
import yaml
from confluent_kafka import Producer

from local.layout import free_port
from local.stack import Stack
from ops.metrics import PROCESSES, declared_metrics
from ops.prometheus.alerts import Alert, alerts, render
from ops.prometheus.configuration import configuration
from producers.client import UnavailableError
from producers.generate import bodies, checkouts
from runtime.settings import ENV_PREFIX
from tests.e2e.running import Running, wait_for
from tests.integration.hooks_world import Receiver, receiver
from tests.tools.test_promtool import promtool

ROOT = Path(__file__).parents[2]
#: So much shorter are all times of the rules: a minute is 2 s.
FASTER = 30.0
SCRAPE_SECONDS = 1.0
#: An alert comes within its own time, that of its measurement, and what a busy machine takes.
FIRES_S_MAX = 120.0
#: The machine's own disks, which no test fills or empties.
OF_THE_MACHINE = {"DiskFilling"}
_KEPT_LOGS = Path("test-logs") / "tools"

#: Counters have no series until what they count has happened once. These count faults.
FAULTS = {
    "gapless_outage_retries_total",
    "gapless_log_holes_total",
    "gapless_payment_attempts_foreign_total",
    "gapless_webhook_endpoints_disabled_total",
}
#: What has no value while all is well.
SILENT = {*FAULTS, "gapless_open_dead_letters"}


class Watched:
    """A stack, and the Prometheus that scrapes it."""

    def __init__(self, stack: Stack, prometheus_url: str, ports: dict[str, int], auditor_pid: int) -> None:
        self.stack = stack
        self.running = Running(stack)
        #: Process → its metrics port.
        self.ports = ports
        self.auditor_pid = auditor_pid
        self._url = prometheus_url
        self._numbers = itertools.count(1)

    def ask(self, expr: str) -> list[dict[str, Any]]:
        """The series that an expression returns now."""
        with urlopen(f"{self._url}/api/v1/query?{urlencode({'query': expr})}", timeout=60) as answer:
            found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        return found

    def firing(self) -> dict[str, list[dict[str, str]]]:
        """Alert → the labels with which it fires."""
        found: dict[str, list[dict[str, str]]] = {}
        for each in self.ask('ALERTS{alertstate="firing"}'):
            found.setdefault(each["metric"]["alertname"], []).append(each["metric"])
        return {name: labels for name, labels in found.items() if name not in OF_THE_MACHINE}

    def wait_for_alert(self, name: str, **labels: str) -> None:
        """It fires, with these labels."""
        self._wait(lambda firing: any(labels.items() <= each.items() for each in firing.get(name, [])), FIRES_S_MAX)

    def wait_until_silent(self, *besides: str) -> None:
        """No alert fires but these."""
        self._wait(lambda firing: firing.keys() <= {*besides}, 2 * FIRES_S_MAX)

    def _wait(self, holds: Callable[[dict[str, list[dict[str, str]]]], bool], seconds_max: float) -> None:
        give_up_at = time.monotonic() + seconds_max
        while not holds(firing := self.firing()):
            assert time.monotonic() < give_up_at, f"not within {seconds_max:g} s; what fires is {firing}"
            time.sleep(0.2)

    def metrics(self, process: str) -> str:
        """What a process serves."""
        with urlopen(f"http://127.0.0.1:{self.ports[process]}/metrics", timeout=60) as answer:
            text: str = answer.read().decode()
        return text

    def invoice(self) -> dict[str, Any]:
        """A new request for one."""
        [body] = bodies(1, seed=1, prefix=f"I{next(self._numbers)}")
        return body

    def buy(self, count: int, **tokens: float) -> list[bytes]:
        """New checkouts, paid with these tokens by weight."""
        prefix = f"C{next(self._numbers)}"
        return list(checkouts(count, seed=1, skus=["MUG"], customers=count, tokens=tokens, prefix=prefix))


@pytest.fixture(scope="module")
def watched(request: pytest.FixtureRequest) -> Iterator[Watched]:
    """Everything, with the auditor, a node exporter and Prometheus; after the first orders of every kind."""
    data = Path(tempfile.mkdtemp(prefix="gapless-tools-"))
    stack = Stack(data, bound=True)
    with ExitStack() as ending:
        ending.callback(stack.remove)
        stack.start()
        ports = {
            each["role"]: int(stack.environment(each["name"])[f"{ENV_PREFIX}METRICS_PORT"])
            for each in stack.status()["processes"]
            if each["role"] in PROCESSES
        }
        ports["audit"] = free_port()
        audit = [sys.executable, "-m", "gapless", "audit", "--follow", "--every", "1"]
        settings = {**stack.environment(), f"{ENV_PREFIX}METRICS_PORT": str(ports["audit"])}
        auditor = ending.enter_context(_process(data, "audit", audit, settings))
        # Instead of the stack's, which has no probe.
        ports["monitor"] = free_port()
        probe = {
            **stack.environment("monitor"),
            f"{ENV_PREFIX}METRICS_PORT": str(ports["monitor"]),
            f"{ENV_PREFIX}PROBE_URL": stack.endpoints()["gateway"],
            f"{ENV_PREFIX}PROBE_API_KEY": "gpl_of_the_probe_of_the_tests_of_the_tools",
        }
        ensure = [sys.executable, "-m", "gapless", "sellers", "ensure-probe"]
        subprocess.run(ensure, env={**os.environ, **probe}, check=True, capture_output=True)
        ending.enter_context(_process(data, "monitor", [sys.executable, "-m", "gapless", "monitor"], probe))
        node_port, prometheus_port = free_port(), free_port()
        node = ["prometheus-node-exporter", f"--web.listen-address=127.0.0.1:{node_port}"]
        ending.enter_context(_process(data, "node", node))
        addresses = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
        made = configuration(addresses, [f"127.0.0.1:{node_port}"], rules="alerts.yml", seconds=SCRAPE_SECONDS)
        (data / "prometheus.yml").write_text(yaml.safe_dump(made))
        (data / "alerts.yml").write_text(render(FASTER))
        prometheus = [
            "prometheus",
            f"--config.file={data / 'prometheus.yml'}",
            f"--storage.tsdb.path={data / 'prometheus'}",
            f"--web.listen-address=127.0.0.1:{prometheus_port}",
        ]
        ending.enter_context(_process(data, "prometheus", prometheus))
        watched = Watched(stack, f"http://127.0.0.1:{prometheus_port}", ports, auditor.pid)
        wait_for(lambda: _answers(watched), "Prometheus answers", 120)
        asyncio.run(_first_orders(watched))
        yield watched
        if request.session.testsfailed:
            shutil.copytree(data / "logs", _KEPT_LOGS, dirs_exist_ok=True)
            print(f"\nthe logs are in {_KEPT_LOGS.absolute()}")


@contextmanager
def _process(
    data: Path, name: str, command: list[str], settings: dict[str, str] | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    environment = {**os.environ, **(settings or {})}
    with (data / "logs" / f"{name}.log").open("wb") as log:
        running = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            yield running
        finally:
            running.terminate()
            running.wait(60)


def _answers(watched: Watched) -> bool:
    try:
        return len(watched.ask("up == 1")) == len(watched.ports) + 1
    except OSError:
        return False


async def _first_orders(watched: Watched) -> None:
    """Of each kind, so that each counter has counted once, twice: rates need a difference."""
    async with watched.running.client() as client, _webhooks(watched.running) as received:
        for round_ in range(2):
            assert (await client.put_stock("MUG", 100)).status == 200
            [paid] = watched.buy(1, tok_ok=1)
            bought = await client.post_checkout(paid, wait_s=30)
            assert bought.status == 201, bought
            await client.post_checkout(paid)
            [declined] = watched.buy(1, tok_decline=1)
            assert (await client.post_checkout(declined, wait_s=30)).status == 402
            assert (await client.ship(bought.json()["order_id"], wait_s=30)).status == 200
            issued = await client.post_invoice(watched.invoice(), wait_s=30)
            assert issued.status == 200, issued
            await received.until(5 * (round_ + 1))
            if round_ == 0:
                await asyncio.sleep(2 * SCRAPE_SECONDS)
    await asyncio.to_thread(watched.running.wait_until_drained)


@asynccontextmanager
async def _webhooks(running: Running) -> AsyncIterator[Receiver]:
    """A receiver of the seller's events, whose endpoint is deleted at the end: nothing is sent to it later."""
    authorization = {"Authorization": f"Bearer {running.api_key}"}
    async with receiver() as made, aiohttp.ClientSession(running.url, headers=authorization) as seller:
        async with seller.post("/v1/webhooks", json={"url": made.url}) as answer:
            assert answer.status == 201, await answer.text()
            endpoint = (await answer.json())["id"]
        yield made
        async with seller.delete(f"/v1/webhooks/{endpoint}") as answer:
            assert answer.status == 204, await answer.text()


def shown() -> list[str]:
    """The expressions of all panels, with an interval for Grafana's own."""
    dashboards = [json.loads(path.read_text()) for path in (ROOT / "ops/grafana/dashboards").glob("*.json")]
    exprs = {target["expr"] for each in dashboards for panel in each["panels"] for target in panel.get("targets", [])}
    return sorted(expr.replace("$__rate_interval", "5m") for expr in exprs)


@pytest.mark.parametrize("process", PROCESSES)
def test_what_a_process_serves_keeps_prometheus_conventions_and_is_in_the_table(watched: Watched, process: str) -> None:
    served = watched.metrics(process)
    assert promtool("check", "metrics", given=served) == ""
    names = set(re.findall(r"^# TYPE (gapless_\w+)", served, re.MULTILINE))
    declared = {each.name for each in declared_metrics()} | {
        # When a counter or a histogram began, as the client library adds it.
        re.sub("_total$", "", each.name) + "_created"
        for each in declared_metrics()
    }
    assert names
    assert names <= declared


@pytest.mark.parametrize("expr", shown())
def test_every_panel_has_data(watched: Watched, expr: str) -> None:
    """At once, or within some scrapes; counters of faults that nobody has made have none."""
    if set(re.findall(r"gapless_\w+", expr)) & SILENT:
        watched.ask(expr)
        return
    wait_for(lambda: bool(watched.ask(expr)), f"data for {expr}", 120)


@pytest.mark.parametrize("alert", alerts(FASTER), ids=lambda alert: alert.name)
def test_every_alert_looks_at_something(watched: Watched, alert: Alert) -> None:
    """Without its comparison it returns something: it is silent because all is well, not because it sees nothing."""
    seen = re.sub(r" (>|<|==) [\d.]+( \* 86400)?", "", alert.expr.replace(" unless max(", " or max("))
    if set(re.findall(r"gapless_\w+", seen)) & SILENT:
        watched.ask(seen)
        return
    wait_for(lambda: bool(watched.ask(seen)), f"data for {seen}", 120)


def test_no_alert_fires_while_all_is_well(watched: Watched) -> None:
    watched.wait_until_silent()


def test_a_worker_that_hangs(watched: Watched) -> None:
    """Its stage is late, it does not answer, and nothing is numbered, in this order."""
    with _stopped(_pid(watched, "invoices-1")), _posting(watched):
        watched.wait_for_alert("OrdersLate", stage="invoices")
        watched.wait_for_alert("ProcessDown", role="invoices")
        watched.wait_for_alert("ProcessNotReady", process="invoices-1")
        watched.wait_for_alert("NothingNumbered")
        watched.wait_for_alert("ProbeSlow", step="number")
    watched.wait_until_silent()


def test_a_provider_that_does_not_answer(watched: Watched) -> None:
    """No worker reaches it, and an order that waits for its payment is stuck before long."""
    with _held(watched, "provider"), watched.running.ledger() as ledger:
        asyncio.run(_post_checkouts(watched, watched.buy(8, tok_ok=1)))
        watched.wait_for_alert("ProviderUnavailable")
        # Half an hour later, were the clock to be believed.
        ledger.execute("UPDATE orders SET placed_at = placed_at - interval '1 hour' WHERE state = 'PAYMENT_PENDING'")
        watched.wait_for_alert("OrderStuck")
        ledger.execute("UPDATE orders SET placed_at = placed_at + interval '1 hour' WHERE state = 'PAYMENT_PENDING'")
    watched.wait_until_silent()


def test_a_redis_into_which_somebody_else_writes(watched: Watched) -> None:
    """The next comparison counts what it puts right, and the alert is pending: it fires where that goes on."""
    with redis.Redis.from_url(watched.stack.endpoints()["redis"]) as kept:
        [level] = kept.scan_iter(match="*:level:MUG")
        kept.delete(level)
    wait_for(
        lambda: bool(watched.ask('ALERTS{alertname="RedisDrift",alertstate="pending"}')), "it is pending", FIRES_S_MAX
    )
    watched.wait_until_silent()


def test_a_dead_letter(watched: Watched) -> None:
    """Until it is redriven or discarded, as its runbook says."""
    producer = Producer({"bootstrap.servers": watched.running.settings.kafka_bootstrap})
    producer.produce("checkout-requests", key=b"nobody", value=b"no Avro", partition=0)
    assert producer.flush(60) == 0
    watched.wait_for_alert("DeadLetters", topic="checkout-requests")
    ended = asyncio.run(
        watched.running.gapless("dead-letters", "discard", "--topic", "checkout-requests", "--why", "a test")
    )
    assert ended.code == 0, ended.error
    watched.wait_until_silent()


def test_a_journal_that_nobody_made_months_for(watched: Watched) -> None:
    """Until `gapless migrate` was run, as its runbook says."""
    with watched.running.ledger() as ledger:
        months = ledger.execute(
            "SELECT relname::text FROM pg_class JOIN pg_inherits ON inhrelid = oid"
            " WHERE inhparent = 'journal'::regclass AND relname ~ '^journal_[0-9]' ORDER BY relname"
        ).fetchall()
        # The last month's, this one and the next.
        for (name,) in months[3:]:
            ledger.execute(f"DROP TABLE {name}".encode())
    _end(watched, "relay")
    watched.wait_for_alert("JournalEndsSoon")
    ended = asyncio.run(watched.running.gapless("migrate"))
    assert ended.code == 0, ended.error
    _end(watched, "relay")
    watched.wait_until_silent()


def test_brokers_and_a_database_that_are_down(watched: Watched) -> None:
    """Requests fail, processes are not ready, and the monitor says that it is blind."""
    with _held(watched, "kafka"), _held(watched, "postgres"), _posting(watched):
        watched.wait_for_alert("RequestsFail")
        watched.wait_for_alert("ProcessNotReady", process="gateway")
        watched.wait_for_alert("MonitorSilent")
    watched.running.wait_until_ready()
    watched.wait_until_silent()


def test_an_auditor_that_hangs(watched: Watched) -> None:
    with _stopped(watched.auditor_pid):
        watched.wait_for_alert("AuditorSilent")
    watched.wait_until_silent()


def test_a_row_that_was_changed_in_postgres(watched: Watched) -> None:
    """The auditor ends with it, and yet the alert stays."""
    with watched.running.ledger() as ledger:
        ledger.execute("UPDATE series SET next_number = next_number + 1")
    watched.wait_for_alert("AuditViolation")
    watched.wait_for_alert("ProcessDown", role="audit")
    assert "AuditViolation" in watched.firing()


def _pid(watched: Watched, process: str) -> int:
    pid = watched.stack.process_pid(process)
    assert pid is not None
    return pid


@contextmanager
def _stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def _held(watched: Watched, process: str) -> Iterator[None]:
    watched.stack.hold(process)
    try:
        yield
    finally:
        watched.stack.release(process)


def _end(watched: Watched, process: str) -> None:
    """Its supervisor starts it again."""
    before = _pid(watched, process)
    os.kill(before, signal.SIGTERM)
    wait_for(lambda: watched.stack.process_pid(process) not in (before, None), f"{process} is started again", 120)


@contextmanager
def _posting(watched: Watched) -> Iterator[None]:
    """Storefronts go on posting invoices meanwhile, whatever becomes of them."""
    is_over = threading.Event()

    async def post() -> None:
        async with watched.running.client(give_up_after_s=0.1) as client:
            while not is_over.is_set():
                with suppress(UnavailableError):
                    await client.post_invoice(watched.invoice())
                await asyncio.sleep(0.5)

    async def all_post() -> None:
        await asyncio.gather(*(post() for _ in range(4)))

    storefronts = threading.Thread(target=lambda: asyncio.run(all_post()))
    storefronts.start()
    try:
        yield
    finally:
        is_over.set()
        storefronts.join()


async def _post_checkouts(watched: Watched, payloads: list[bytes]) -> None:
    async with watched.running.client() as client:
        for each in payloads:
            assert (await client.post_checkout(each)).status == 202
