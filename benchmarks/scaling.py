"""Invoices from POST to published, by the number of partitions and of workers: what another of either brings."""

from benchmarks.result import Result
from benchmarks.stacks import stack
from benchmarks.whole_way import measure

PARTITIONS = (1, 2, 4, 8, 32)
WORKERS = (1, 2)
ORDERS = 6_000
WARM_UP_ORDERS = 3_000


def run() -> list[Result]:
    """A stack for each."""
    results = []
    for partitions in PARTITIONS:
        for workers in WORKERS:
            with stack({"invoices": workers, "documents": 0}, partitions=partitions) as made:
                measure(made, f"SCALE-WARM-{partitions}-{workers}", WARM_UP_ORDERS)
                rate = measure(made, f"SCALE-{partitions}-{workers}", ORDERS)
            results.append(Result(f"{partitions} partitions, {workers} invoices workers", rate, "orders/s"))
    return results
