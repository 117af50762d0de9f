"""The same orders by others, in one run with ours: how many a second, and whose CPU time an order costs.

- a synchronous service: aiohttp, psycopg, numbers from a counter's row, PDFs by ReportLab's Platypus;
- the same checkout as a DBOS workflow;
- Faust as its manual shows it, which only numbers.

`benchmarks/README.md` says what they do not do.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import psycopg
import uvloop
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from benchmarks.checkouts import drain
from benchmarks.peers.faust_manual import TOPIC
from benchmarks.peers.serving import READY
from benchmarks.peers.shop import TABLES
from benchmarks.posting import post_checkouts, post_invoices, put_stock, rate_of
from benchmarks.rate import counted, per_second
from benchmarks.result import Result
from benchmarks.stacks import cpu_seconds, pid_of, servers, settings_of, stack, target_of, wait_until_answered
from gapless.demo_steps import Target
from local.layout import free_port
from local.stack import Stack
from producers.generate import bodies

ORDERS = 5_000
#: Of each measurement: Kafka and the planner's statistics are new, and so is each process.
WARM_UP_ORDERS = 5_000
SKUS = 200
#: Of each service, which then can use both cores.
PROCESSES = 2
#: How many times the synchronous service's rate is asked of ours.
TIMES_MIN = 3.3
PROVIDER_MS = 50
_POLL_S = 0.1
_ENDS_WITHIN_S = 20.0
_INVOICES, _DOCUMENTED, _CHECKOUTS = "invoices", "invoices with their PDFs", "checkouts"
_OURS, _SYNCHRONOUS = "gapless", "synchronous service"
_NUMBERED = "SELECT count(*) FROM invoices"
_STORED = "SELECT count(*) FROM documents"


@dataclass(frozen=True, slots=True)
class Service:
    """One that takes orders."""

    name: str
    target: Target
    #: By name, the processes whose CPU time counts.
    pids: Mapping[str, int]
    #: Ours, of which some is done after the answer.
    made: Stack | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """What a service did of one kind."""

    kind: str
    name: str
    per_s: float
    #: CPU µs an order, by process.
    used_us: Mapping[str, float]


def run() -> list[Result]:
    """The others one after the other on servers of their own, then ours on a stack of the same settings."""
    measured: list[Measured] = []
    with servers() as made, _provider() as provider:
        with _service(made, provider, _SYNCHRONOUS, "synchronous") as service:
            measured += [_measure(service, _INVOICES), _measure(service, _CHECKOUTS)]
        with (
            tempfile.TemporaryDirectory(dir=made.data) as folder,
            _service(made, provider, _SYNCHRONOUS, "synchronous", "--documents", folder) as service,
        ):
            measured.append(_measure(service, _DOCUMENTED))
            _require_documents(Path(folder))
        with _service(made, provider, "DBOS workflow", "durable_workflow") as service:
            measured.append(_measure(service, _CHECKOUTS))
        measured.append(_faust(made))
    with stack({"documents": 1}) as made:
        measured.append(_measure(_ours(made), _DOCUMENTED))
        _stop(made, "documents-1")
        measured += [_measure(_ours(made), _INVOICES), _measure(_ours(made), _CHECKOUTS)]
        made.release("documents-1")
    return [*_figures(measured), *_ratios(measured)]


def _figures(measured: list[Measured]) -> Iterator[Result]:
    for each in sorted(measured, key=lambda one: one.kind):
        total = sum(each.used_us.values())
        shares = ", ".join(f"{name} {us:,.0f}" for name, us in each.used_us.items() if us > total / 100)
        yield Result(f"{each.kind}, {each.name}", each.per_s, "orders/s", note=f"{ORDERS:,} orders")
        yield Result(f"{each.kind}, {each.name}: CPU time an order", total, "µs", less_is_better=True, note=shares)


def _ratios(measured: list[Measured]) -> Iterator[Result]:
    rates = {(each.kind, each.name): each.per_s for each in measured}
    for kind in (_INVOICES, _DOCUMENTED, _CHECKOUTS):
        times = rates[kind, _OURS] / rates[kind, _SYNCHRONOUS]
        # A checkout waits for the provider, whoever handles it.
        least = None if kind == _CHECKOUTS else TIMES_MIN
        yield Result(f"{kind}, gapless to the {_SYNCHRONOUS}", times, "times", least)


def _measure(service: Service, kind: str) -> Measured:
    """Orders a second from the first that is done to the last; CPU time until nothing is under way any more."""
    prefix = f"{service.name}-{kind}".upper().replace(" ", "-")
    _post(service, kind, f"{prefix}-WARM", WARM_UP_ORDERS)
    before = {name: cpu_seconds(pid) for name, pid in service.pids.items()}
    own_before = time.process_time()
    per_s = _post(service, kind, prefix, ORDERS)
    used_s = {name: cpu_seconds(pid) - before[name] for name, pid in service.pids.items()}
    used_s["load tool"] = time.process_time() - own_before
    return Measured(kind, service.name, per_s, {name: seconds / ORDERS * 1e6 for name, seconds in used_s.items()})


def _post(service: Service, kind: str, prefix: str, orders: int) -> float:
    target, skus = service.target, [f"PEER-{number}" for number in range(SKUS)]
    statement = _STORED if service.made is not None and kind == _DOCUMENTED else _NUMBERED
    if kind == _CHECKOUTS:
        uvloop.run(put_stock(target, skus))
        posting = post_checkouts(target, orders, prefix, skus)
    else:
        posting = post_invoices(target, orders, prefix)
    with psycopg.connect(target.postgres_url, autocommit=True) as ledger:
        start = counted(ledger, statement)
        per_s = rate_of(posting, lambda: counted(ledger, statement) - start, orders, poll_s=_POLL_S)
    if service.made is not None:
        drain(service.made)
    return per_s


def _ours(made: Stack) -> Service:
    """Every process of the stack that runs counts."""
    pids = {each["name"]: each["pid"] for each in made.status()["processes"] if each["pid"] is not None}
    return Service(_OURS, target_of(made), pids, made)


def _stop(made: Stack, name: str) -> None:
    made.hold(name)
    while made.process_pid(name) is not None:
        time.sleep(_POLL_S)


@contextmanager
def _service(made: Stack, provider: tuple[str, int], name: str, module: str, *options: str) -> Iterator[Service]:
    """A peer of `benchmarks.peers` with a database of its own."""
    provider_url, provider_pid = provider
    with _database(made, module) as postgres_url, ExitStack() as running:
        port = free_port()
        command = [sys.executable, "-m", f"benchmarks.peers.{module}", "--port", str(port), *options]
        command += ["--provider", provider_url]
        environment = {**os.environ, "PEER_POSTGRES": postgres_url}
        log = running.enter_context((made.data / f"{module}.log").open("wb"))
        pids = {"postgres": pid_of(made, "postgres"), "provider": provider_pid}
        # One after the other: the first creates the tables.
        for number in range(PROCESSES):
            process = running.enter_context(
                subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log)
            )
            running.callback(_end, process)
            if process.stdout is None or process.stdout.readline().decode().strip() != READY:
                raise RuntimeError(f"{module} does not listen: {Path(log.name).read_text()[-500:]}")
            pids[f"service-{number + 1}"] = process.pid
        yield Service(name, Target(f"http://127.0.0.1:{port}", "none", postgres_url), pids)


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(_ENDS_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()


@contextmanager
def _database(made: Stack, name: str) -> Iterator[str]:
    url = made.endpoints()["postgres"]
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
        try:
            yield f"{url.rpartition('/')[0]}/{name}"
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@contextmanager
def _provider() -> Iterator[tuple[str, int]]:
    """A payment provider as the stack's: its URL and its pid."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "log").open("wb") as log:
        command = [sys.executable, "-m", "local.provider", "--port", str(port), "--data", folder]
        command += ["--delay-ms", str(PROVIDER_MS)]
        with subprocess.Popen(command, stderr=log) as process:
            try:
                wait_until_answered(f"{url}/readyz", Path(log.name))
                yield url, process.pid
            finally:
                _end(process)


def _require_documents(folder: Path) -> None:
    stored = sum(path.stat().st_size > 0 for path in folder.glob("*.pdf"))
    if stored != WARM_UP_ORDERS + ORDERS:
        raise RuntimeError(f"{stored:,} PDFs of {WARM_UP_ORDERS + ORDERS:,} invoices")


def _faust(made: Stack) -> Measured:
    """One worker, and orders that are put into the log faster than it numbers them."""
    kafka = settings_of(made)["GAPLESS_KAFKA_BOOTSTRAP"]
    # As many partitions as Faust gives its table's topic.
    admin = AdminClient({"bootstrap.servers": kafka})
    for created in admin.create_topics([NewTopic(TOPIC, 8, 1)]).values():
        created.result(20)
    pids = {name: pid_of(made, name) for name in ("postgres", "kafka")}
    command = [sys.executable, "-m", "benchmarks.peers.faust_manual"]
    command += ["--datadir", str(made.data / "faust_manual"), "worker", "--loglevel", "warn"]
    with (
        _database(made, "faust_manual") as url,
        psycopg.connect(url, autocommit=True) as ledger,
        (made.data / "faust_manual.log").open("wb") as log,
    ):
        ledger.execute(TABLES)
        environment = {**os.environ, "PEER_BROKER": kafka, "PEER_POSTGRES": url}
        with subprocess.Popen(command, env=environment, stdout=log, stderr=log) as worker:

            def numbered() -> int:
                if worker.poll() is not None:
                    raise RuntimeError(f"Faust's worker ended: {Path(log.name).read_text()[-500:]}")
                return counted(ledger, _NUMBERED)

            try:
                pids["worker"] = worker.pid
                _produce(kafka, "FAUST-WARM", WARM_UP_ORDERS)
                per_second(numbered, WARM_UP_ORDERS, poll_s=_POLL_S)
                before = {name: cpu_seconds(pid) for name, pid in pids.items()}
                _produce(kafka, "FAUST", ORDERS)
                per_s = per_second(lambda: numbered() - WARM_UP_ORDERS, ORDERS, poll_s=_POLL_S)
                used_us = {name: (cpu_seconds(pid) - before[name]) / ORDERS * 1e6 for name, pid in pids.items()}
            finally:
                _end(worker)
    return Measured(_INVOICES, "Faust's manual", per_s, used_us)


def _produce(kafka: str, prefix: str, orders: int) -> None:
    producer = Producer({"bootstrap.servers": kafka, "queue.buffering.max.messages": orders + 1})
    for body in bodies(orders, seed=1, prefix=prefix):
        producer.produce(TOPIC, msgspec.json.encode(body), body["order_id"])
    producer.flush()
