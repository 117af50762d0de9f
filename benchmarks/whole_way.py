"""From the storefront's POST to the published event, with the load tool on the same machine; and who needs how much."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec
import psycopg

from benchmarks.result import Result
from benchmarks.stacks import memory_mb, pid_of, stack
from producers.generate import bodies
from runtime.local.stack import Stack
from sinks.audit.backlog import Progress, read_progress

ORDERS = 18_000
REPEAT_SHARE = 0.1
_DEADLINE_S = 180.0
_POLL_S = 0.05


def run() -> list[Result]:
    """Without the documents agent, whose rate is another benchmark, and with it."""
    with stack({"invoices": 1, "documents": 0}) as made:
        published = _measure(made, "ALONE")
    with stack({"invoices": 1, "documents": 1}) as made:
        beside = _measure(made, "BESIDE")
        memory = _memory(made)
    note = f"{ORDERS:,} orders, {REPEAT_SHARE:.0%} of the requests repeats; `gapless load` on the same cores"
    return [
        Result("whole way: accepted, numbered, committed, published", published, "orders/s", 2_000, note=note),
        Result("whole way, documents being made beside it", beside, "orders/s", note=note),
        *memory,
    ]


def _measure(made: Stack, prefix: str) -> float:
    """Orders a second from the first that is seen published to the last."""
    with tempfile.NamedTemporaryFile("wb", suffix=".jsonl") as file:
        for body in bodies(ORDERS, seed=1, prefix=prefix):
            file.write(msgspec.json.encode(body) + b"\n")
        file.flush()
        command = [sys.executable, "-m", "gapless", "load", file.name, "--repeat", str(REPEAT_SHARE), "--json"]
        with subprocess.Popen([*command, "--data", str(made.data)], stdout=subprocess.PIPE) as load:
            rate = _watch(made.endpoints()["postgres"])
            output, _ = load.communicate(timeout=_DEADLINE_S)
            if load.returncode:
                raise RuntimeError(f"the load ended with {load.returncode}: {output.decode()}")
    return rate


def _watch(postgres_url: str) -> float:
    deadline = time.monotonic() + _DEADLINE_S
    first: tuple[float, int] | None = None
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        while time.monotonic() < deadline:
            progress = read_progress(connection)
            now = time.monotonic()
            if progress.invoices and first is None:
                first = (now, progress.invoices)
            if first is not None and _is_published(progress):
                return (progress.invoices - first[1]) / (now - first[0])
            time.sleep(_POLL_S)
    raise TimeoutError(f"not published within {_DEADLINE_S:g} s: {progress}")


def _is_published(progress: Progress) -> bool:
    # The documents agent's events go through the same journal all the time: some are always about to be published.
    return progress.invoices >= ORDERS and progress.unpublished <= progress.documents / 10


def _memory(made: Stack) -> list[Result]:
    results = []
    for name, role in (("invoices-1", "invoices worker"), ("documents-1", "documents worker"), ("relay", "relay")):
        pss, rss = memory_mb(pid_of(made, name))
        note = f"with its children, shared pages once; {rss:.0f} MB resident by itself"
        results.append(Result(f"{role}, memory under load", pss, "MB", 250, less_is_better=True, note=note))
    folder = Path(made.data) / "workers" / "invoices-1"
    if not folder.is_dir():
        raise LookupError(f"{folder}: the invoices worker kept no table, so this measured something else")
    return results
