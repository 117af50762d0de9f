"""Bytes that an order leaves in Postgres, in its WAL, in Kafka and in the object store."""

from pathlib import Path

import psycopg
import uvloop

from benchmarks.posting import post_checkouts, put_stock
from benchmarks.rate import counted
from benchmarks.result import Result
from benchmarks.stacks import stack, target_of
from gapless.demo_steps import Target, wait_until_drained
from local.stack import Stack

ORDERS = 3_000
WARM_UP_ORDERS = 300
_SKUS = [f"SIZE-{number}" for number in range(100)]


def run() -> list[Result]:
    """Checkouts of one line, each with its payment, its invoice and the document."""
    with stack({}) as made:
        target, kafka = target_of(made), made.endpoints()["kafka"]
        uvloop.run(_buy(target, kafka, WARM_UP_ORDERS, "SIZE-WARM"))
        before = _sizes(made)
        uvloop.run(_buy(target, kafka, ORDERS, "SIZE"))
        after = _sizes(made)
    note = f"{ORDERS:,} checkouts of one line, each with payment, invoice and document"
    return [
        Result(f"{name}, an order", (after[name] - before[name]) / ORDERS, "bytes", less_is_better=True, note=note)
        for name in before
    ]


async def _buy(target: Target, kafka_bootstrap: str, orders: int, prefix: str) -> None:
    await put_stock(target, _SKUS)
    await post_checkouts(target, orders, prefix, _SKUS)
    await wait_until_drained(target, kafka_bootstrap)


def _sizes(made: Stack) -> dict[str, int]:
    with psycopg.connect(made.endpoints()["postgres"], autocommit=True) as ledger:
        wal = counted(ledger, "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint")
        # Dead rows are no part of an order's size.
        ledger.execute("VACUUM")
        rows = counted(ledger, "SELECT pg_database_size(current_database())")
    return {
        "Postgres, rows and indexes": rows,
        "Postgres, WAL": wal,
        "Kafka, one replica": _bytes_of(made.data / "kafka", "*.log"),
        "documents": _bytes_of(made.data / "objects", "*.pdf"),
    }


def _bytes_of(folder: Path, pattern: str) -> int:
    return sum(path.stat().st_size for path in folder.rglob(pattern))
