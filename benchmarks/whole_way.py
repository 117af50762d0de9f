"""From the storefront's POST to the published event, with the load tool on the same machine; and who needs how much."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec
import psycopg

from audit.backlog import read_progress
from benchmarks.rate import per_second
from benchmarks.result import Result
from benchmarks.stacks import cpu_seconds, memory_mb, pid_of, stack, wait_until_ready
from local.stack import Stack
from producers.generate import bodies

ORDERS = 18_000
#: A broker just started compiles itself for its first ten thousand requests; that is not what is measured.
WARM_UP_ORDERS = 9_000
REPEAT_SHARE = 0.1
TARGET_PER_S = 2_000
MEMORY_MB_MAX = 250
_PROCESSES = ("kafka", "postgres", "redis", "gateway", "relay", "invoices-1")
_DEADLINE_S = 240.0
_POLL_S = 0.05


def run() -> list[Result]:
    """Without the documents agent, whose rate is another benchmark, and with it."""
    with stack({"invoices": 1, "documents": 1}) as made:
        made.hold("documents-1")
        _measure(made, "WAY-WARM", WARM_UP_ORDERS)
        before = {name: cpu_seconds(pid_of(made, name)) for name in _PROCESSES}
        load_before = _children_cpu_s()
        alone = _measure(made, "WAY-ALONE", ORDERS)
        used = {name: cpu_seconds(pid_of(made, name)) - seconds for name, seconds in before.items()}
        used["load tool"] = _children_cpu_s() - load_before
        # All that was issued until now waits for it, so it is busy to the end.
        made.release("documents-1")
        wait_until_ready(made)
        beside = _measure(made, "WAY-BESIDE", ORDERS)
        memory = _memory(made)
    note = f"{ORDERS:,} orders, {REPEAT_SHARE:.0%} of the requests repeats; `gapless load` on the same cores"
    shares = ", ".join(f"{name} {seconds / ORDERS * 1e6:.0f}" for name, seconds in used.items())
    return [
        Result("whole way: accepted, numbered, committed, published", alone, "orders/s", TARGET_PER_S, note=note),
        Result("whole way, documents being made beside it", beside, "orders/s"),
        # Says what the rate would be on cores that nobody else uses.
        Result("CPU time an order", sum(used.values()) / ORDERS * 1e6, "µs", less_is_better=True, note=shares),
        *memory,
    ]


def _measure(made: Stack, prefix: str, orders: int) -> float:
    """Send `orders` with repeats, and return how many a second are published."""
    with (
        psycopg.connect(made.endpoints()["postgres"], autocommit=True) as ledger,
        tempfile.NamedTemporaryFile("wb", suffix=".jsonl") as file,
    ):
        start = read_progress(ledger).invoices

        def published() -> int:
            progress = read_progress(ledger)
            # The documents agent's events go through the same journal: with it some are always about to be published.
            unpublished = max(0, progress.unpublished - progress.documents // 10)
            return max(0, progress.invoices - start - unpublished)

        for body in bodies(orders, seed=1, prefix=prefix):
            file.write(msgspec.json.encode(body) + b"\n")
        file.flush()
        command = [sys.executable, "-m", "gapless", "load", file.name, "--repeat", str(REPEAT_SHARE), "--json"]
        # With `--data` it would refuse a stack of which a part is held.
        command += ["--url", made.endpoints()["gateway"], "--api-key-file", str(made.data / "api_key")]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as load:
            rate = per_second(published, orders, poll_s=_POLL_S)
            output, _ = load.communicate(timeout=_DEADLINE_S)
            if load.returncode:
                raise RuntimeError(f"the load ended with {load.returncode}: {output.decode()}")
    return rate


def _children_cpu_s() -> float:
    """CPU seconds of the children that have ended: the load tool's, here."""
    times = os.times()
    return times.children_user + times.children_system


def _memory(made: Stack) -> list[Result]:
    results = []
    for name, role in (("invoices-1", "invoices worker"), ("documents-1", "documents worker"), ("relay", "relay")):
        pss, rss = memory_mb(pid_of(made, name))
        note = f"with its children, shared pages once; {rss:.0f} MB resident by itself"
        results.append(Result(f"{role}, memory under load", pss, "MB", MEMORY_MB_MAX, less_is_better=True, note=note))
    folder = Path(made.data) / "workers" / "invoices-1"
    if not folder.is_dir():
        raise LookupError(f"{folder}: the invoices worker kept no table, so this measured something else")
    return results
