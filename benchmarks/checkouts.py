"""From the storefront's POST to CONFIRMED, paid at a provider that takes 50 ms; the load tool on the same cores."""

import json
import os
import subprocess
import sys
import time
from typing import Any

import psycopg

from benchmarks.rate import counted, per_second
from benchmarks.result import Result
from benchmarks.stacks import cpu_seconds, pid_of, stack
from local.stack import Stack

ORDERS = 10_000
WARM_UP_ORDERS = 6_000
SPREAD_SKUS = 10_000
RATE_TARGET_PER_S = 1_000
#: How much slower one hot SKU may be than many cold ones.
HOT_LOSS_MAX = 0.25
STEADY_PER_S = 300
STEADY_ORDERS = 6_000
ANSWER_P95_MS_MAX = 500
_PLENTY = 100_000_000
_DEADLINE_S = 240.0
#: The count reads all orders: more often it would take much of what is measured.
_POLL_S = 0.1


def run() -> list[Result]:
    """Without the documents agent, whose rate is another benchmark."""
    with stack({"documents": 0}) as made:
        # Also sets the stock of the many.
        _load(made, "BUY-WARM", WARM_UP_ORDERS, "--skus", str(SPREAD_SKUS), "--stock", str(_PLENTY))
        drain(made)
        spread, _ = _measure(made, "BUY-SPREAD", "--skus", str(SPREAD_SKUS))
        hot, used = _measure(made, "BUY-HOT", "--sku", "HOT", "--stock", str(_PLENTY))
        steady = ("--skus", str(SPREAD_SKUS), "--rate", str(STEADY_PER_S), "--wait", "30")
        told = _load(made, "BUY-STEADY", STEADY_ORDERS, *steady)
    if set(told["statuses"]) != {"201"}:
        raise RuntimeError(f"not every checkout was confirmed: {told['statuses']}")
    note = f"{ORDERS:,} orders of one line, provider 50 ms, each with its invoice; `gapless load` on the same cores"
    shares = ", ".join(f"{name} {seconds / ORDERS * 1e6:.0f}" for name, seconds in used.items())
    latency = told["latency_ms"]
    answers = f"{STEADY_ORDERS:,} orders with Prefer: wait; p50 {latency['p50']:.0f} ms, worst {latency['max']:.0f} ms"
    return [
        Result("checkouts to CONFIRMED, over 10,000 SKUs", spread, "orders/s", RATE_TARGET_PER_S, note=note),
        Result("checkouts to CONFIRMED, all on one SKU", hot, "orders/s", RATE_TARGET_PER_S, note=note),
        Result("the hot SKU slower than the spread by", 100 * (1 - hot / spread), "%", 100 * HOT_LOSS_MAX, True),
        Result("CPU time an order", sum(used.values()) / ORDERS * 1e6, "µs", less_is_better=True, note=shares),
        Result(
            f"answer CONFIRMED at {STEADY_PER_S}/s, p95",
            latency["p95"],
            "ms",
            ANSWER_P95_MS_MAX,
            less_is_better=True,
            note=answers,
        ),
    ]


def _measure(made: Stack, prefix: str, *options: str) -> tuple[float, dict[str, float]]:
    """Orders confirmed a second; CPU seconds by process until all is quiet."""
    # Of all that runs: what only listens to orders costs as well.
    names = [each["name"] for each in made.status()["processes"]]
    before = {name: cpu_seconds(pid_of(made, name)) for name in names}
    children_before = _children_cpu_s()
    arguments = ["--count", str(ORDERS), "--prefix", prefix, *options]
    with subprocess.Popen(_command(made, arguments), stdout=subprocess.PIPE) as load:
        with psycopg.connect(made.endpoints()["postgres"], autocommit=True) as ledger:
            rate = per_second(lambda: _confirmed(ledger, prefix), ORDERS, poll_s=_POLL_S)
        output, _ = load.communicate(timeout=_DEADLINE_S)
        if load.returncode:
            raise RuntimeError(f"the load ended with {load.returncode}: {output.decode()}")
    drain(made)
    used = {name: cpu_seconds(pid_of(made, name)) - seconds for name, seconds in before.items()}
    used["load tool"] = _children_cpu_s() - children_before
    return rate, used


def _load(made: Stack, prefix: str, count: int, *options: str) -> dict[str, Any]:
    command = _command(made, ["--count", str(count), "--prefix", prefix, *options])
    done = subprocess.run(command, capture_output=True, check=False, timeout=_DEADLINE_S)
    if done.returncode:
        raise RuntimeError(f"the load ended with {done.returncode}: {done.stderr.decode()}")
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def _command(made: Stack, arguments: list[str]) -> list[str]:
    return [sys.executable, "-m", "gapless", "load", "checkouts", *arguments, "--json", "--data", str(made.data)]


def _confirmed(ledger: "psycopg.Connection[tuple[Any, ...]]", prefix: str) -> int:
    """How many orders of a prefix are confirmed."""
    statement = "SELECT count(*) FROM orders WHERE order_id >= %s AND order_id < %s AND state = 'CONFIRMED'"
    return counted(ledger, statement, f"{prefix}-", f"{prefix}.")


def drain(made: Stack) -> None:
    """Return when every confirmed order has its invoice and every event is published."""
    deadline = time.monotonic() + _DEADLINE_S
    with psycopg.connect(made.endpoints()["postgres"], autocommit=True) as ledger:
        while time.monotonic() < deadline:
            row = ledger.execute(
                "SELECT (SELECT count(*) FROM orders WHERE state = 'PAYMENT_PENDING'),"
                " (SELECT count(*) FROM orders LEFT JOIN invoices USING (seller_id, order_id)"
                " WHERE state = 'CONFIRMED' AND number IS NULL),"
                " (SELECT sum(next_seq - 1 - coalesce(published_seq, 0))"
                " FROM journal_heads LEFT JOIN journal_published USING (topic, partition))"
            ).fetchone()
            if row == (0, 0, 0):
                return
            time.sleep(0.5)
    raise TimeoutError(f"still on the way after {_DEADLINE_S:g} s: {row}")


def _children_cpu_s() -> float:
    """CPU seconds of the children that have ended: the load tool's, here."""
    times = os.times()
    return times.children_user + times.children_system
