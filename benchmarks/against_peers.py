"""The same checkouts by others, in one run on the same Postgres, Kafka and provider: rates, and who needs how much CPU.

- a synchronous service: aiohttp, a counter's row FOR UPDATE, no documents;
- the same as a DBOS workflow;
- ours, with all that the others leave out: events on Kafka, admission, the journal;
- Faust as its manual shows it, which only numbers orders that are in the log already.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import psycopg
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from benchmarks.peers.faust_manual_topic import TOPIC
from benchmarks.rate import per_second
from benchmarks.result import Result
from benchmarks.stacks import cpu_seconds, pid_of, stack
from local.layout import free_port
from local.stack import Stack

ORDERS = 3_000
WARM_UP_ORDERS = 1_000
FAUST_ORDERS = 10_000
SKUS = 200
_PLENTY = 100_000_000
_READY_S_MAX = 60.0
_DEADLINE_S = 240.0
_OURS = ("gateway", "relay", "checkouts-1", "payments-1", "orders-1", "stock-1", "invoices-1")
_SERVERS = ("kafka", "postgres", "redis", "provider")
_PEERS = {
    "synchronous service": "benchmarks.peers.synchronous",
    "DBOS workflow": "benchmarks.peers.durable_workflow",
}


def run() -> list[Result]:
    """Without documents: their rate is another benchmark, and Platypus' is in its notes."""
    with stack({"documents": 0}) as made:
        results = []
        for name, module in _PEERS.items():
            with _database(made, module.rpartition(".")[2]) as url, _peer(made, module, url) as (where, pid):
                results += _measure(made, name, where, {"peer": partial(cpu_seconds, pid)})
        ours = {name: partial(_cpu_seconds_of, made, name) for name in _OURS}
        results += _measure(made, "gapless", made.endpoints()["gateway"], ours)
        results.append(_faust(made))
    return results


def _measure(made: Stack, name: str, url: str, processes: Mapping[str, Callable[[], float]]) -> list[Result]:
    """Checkouts a second from POST to the answer that they are paid and numbered, or paid and kept for that."""
    prefix = f"PEER-{name.partition(' ')[0].upper()}"
    _load(made, url, f"{prefix}-WARM", WARM_UP_ORDERS)
    looks = {each: partial(_cpu_seconds_of, made, each) for each in _SERVERS} | dict(processes)
    before = {each: look() for each, look in looks.items()}
    told = _load(made, url, prefix, ORDERS)
    used = {each: look() - before[each] for each, look in looks.items()}
    latency = told["latency_ms"]
    note = f"{ORDERS:,} orders by 256 buyers; p50 {latency['p50']:.0f} ms, p95 {latency['p95']:.0f} ms"
    shares = ", ".join(f"{each} {seconds / ORDERS * 1e6:.0f}" for each, seconds in used.items() if seconds)
    return [
        Result(f"{name}: checkouts answered CONFIRMED", told["per_second"], "orders/s", note=note),
        Result(f"{name}: CPU time", sum(used.values()) / ORDERS * 1e6, "µs", less_is_better=True, note=shares),
    ]


def _cpu_seconds_of(made: Stack, name: str) -> float:
    return cpu_seconds(pid_of(made, name))


def _load(made: Stack, url: str, prefix: str, count: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "gapless", "load", "checkouts", "--count", str(count), "--skus", str(SKUS)]
    command += ["--stock", str(_PLENTY), "--wait", "30", "--prefix", prefix, "--json"]
    command += ["--url", url, "--api-key-file", str(made.data / "api_key")]
    done = subprocess.run(command, capture_output=True, check=False, timeout=_DEADLINE_S)
    told: dict[str, Any] = json.loads(done.stdout or b"{}")
    if done.returncode or set(told.get("statuses", {})) != {"201"}:
        raise RuntimeError(f"{url}: not every checkout was confirmed: {told or done.stderr.decode()}")
    return told


@contextmanager
def _database(made: Stack, name: str) -> Iterator[str]:
    """One of the peer's own, on the same server."""
    url = made.endpoints()["postgres"]
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
        try:
            yield f"{url.rpartition('/')[0]}/{name}"
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@contextmanager
def _peer(made: Stack, module: str, postgres: str) -> Iterator[tuple[str, int]]:
    port = free_port()
    command = [sys.executable, "-m", module, "--port", str(port), "--postgres", postgres]
    command += ["--provider", made.endpoints()["provider"], "--provider-key-file", str(made.data / "provider_api_key")]
    with (made.data / f"{module}.log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as running:
        try:
            _wait_for(lambda: _listens(port), f"{module} listens")
            yield f"http://127.0.0.1:{port}", running.pid
        finally:
            running.terminate()


def _listens(port: int) -> bool:
    try:
        urlopen(f"http://127.0.0.1:{port}/", timeout=1).close()
    except URLError as error:
        # It has no such page, but it has said so.
        return hasattr(error, "code")
    return True


def _wait_for(holds: Callable[[], bool], what: str) -> None:
    give_up_at = time.monotonic() + _READY_S_MAX
    while not holds():
        if time.monotonic() > give_up_at:
            raise TimeoutError(f"not within {_READY_S_MAX:g} s: {what}")
        time.sleep(0.1)


def _faust(made: Stack) -> Result:
    """Orders in the log, numbered one at a time by one worker."""
    kafka = made.endpoints()["kafka"]
    for created in AdminClient({"bootstrap.servers": kafka}).create_topics([NewTopic(TOPIC, 4, 1)]).values():
        created.result(20)
    producer = Producer({"bootstrap.servers": kafka, "partitioner": "murmur2_random"})
    for number in range(FAUST_ORDERS):
        producer.produce(TOPIC, json.dumps({"order_id": f"F-{number}", "currency": "EUR"}), f"F-{number}")
        producer.poll(0)
    producer.flush(_READY_S_MAX)
    with _database(made, "faust_manual") as url, psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE numbered (order_id text PRIMARY KEY, number bigint NOT NULL)")
        folder = made.data / "faust_manual"
        command = [sys.executable, "-m", "benchmarks.peers.faust_manual", "--datadir", str(folder), "worker"]
        environment = {**os.environ, "PEER_BROKER": kafka, "PEER_POSTGRES": url}
        with (
            (made.data / "faust_manual.log").open("wb") as log,
            subprocess.Popen([*command, "--without-web"], env=environment, stdout=log, stderr=log) as running,
        ):
            try:

                def numbered() -> int:
                    row = connection.execute("SELECT count(*) FROM numbered").fetchone()
                    return int((row or (0,))[0])

                rate = per_second(numbered, FAUST_ORDERS, poll_s=0.1)
                spent = cpu_seconds(running.pid)
            finally:
                running.terminate()
    note = f"{FAUST_ORDERS:,} orders in the log; the worker's CPU {spent / FAUST_ORDERS * 1e6:.0f} µs each; not exact"
    return Result("Faust as its manual shows it: numbered", rate, "orders/s", note=note)
