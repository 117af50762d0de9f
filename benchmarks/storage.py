"""Bytes that an order leaves behind, in Postgres, in its WAL, on Kafka and as a document, on however slow a machine."""

import subprocess
import sys
import time
from pathlib import Path

import psycopg

from audit.backlog import is_drained
from benchmarks.result import Result
from benchmarks.stacks import stack
from local.stack import Stack

ORDERS = 3_000
WARM_UP_ORDERS = 300
_DEADLINE_S = 300.0


def run() -> list[Result]:
    """Checkouts of one line, each with its payment, invoice and document."""
    with stack({}) as made:
        _buy(made, "SIZE-WARM", WARM_UP_ORDERS)
        before = _sizes(made)
        _buy(made, "SIZE", ORDERS)
        after = _sizes(made)
    note = f"{ORDERS:,} checkouts of one line, each with payment, invoice and document"
    return [Result(f"{name}, an order", (after[name] - before[name]) / ORDERS, "bytes", note=note) for name in before]


def _buy(made: Stack, prefix: str, count: int) -> None:
    command = [sys.executable, "-m", "gapless", "load", "checkouts", "--count", str(count), "--skus", "100"]
    command += ["--stock", "1000000", "--prefix", prefix, "--data", str(made.data)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=_DEADLINE_S)
    bootstrap = made.settings().kafka_bootstrap
    give_up_at = time.monotonic() + _DEADLINE_S
    with psycopg.connect(made.endpoints()["postgres"], autocommit=True) as ledger:
        while not is_drained(ledger, bootstrap):
            if time.monotonic() > give_up_at:
                raise TimeoutError(f"still on the way after {_DEADLINE_S:g} s")
            time.sleep(0.2)


def _sizes(made: Stack) -> dict[str, float]:
    with psycopg.connect(made.endpoints()["postgres"], autocommit=True) as ledger:
        # What is dead is no part of an order's size.
        ledger.execute("VACUUM")
        ledger.execute("CHECKPOINT")
        time.sleep(0.5)
        row = ledger.execute(
            "SELECT pg_database_size(current_database()), pg_current_wal_lsn() - '0/0'::pg_lsn"
        ).fetchone()
    tables, wal = (0, 0) if row is None else row
    return {
        "Postgres: rows and indexes": float(tables),
        "Postgres: WAL": float(wal),
        "Kafka: one replica of all topics": float(_bytes_of(made.data / "kafka", "*.log")),
        "documents": float(_bytes_of(made.data / "objects", "*.pdf")),
    }


def _bytes_of(folder: Path, pattern: str) -> int:
    return sum(path.stat().st_size for path in folder.rglob(pattern))
