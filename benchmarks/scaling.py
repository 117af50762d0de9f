"""Invoices a second by the number of partitions and of invoices workers: what more of either brings."""

from benchmarks.posting import invoices_rate
from benchmarks.result import Result
from benchmarks.stacks import stack, target_of

PARTITIONS = (1, 2, 4, 8, 32)
WORKERS = (1, 2)
ORDERS = 6_000
WARM_UP_ORDERS = 6_000


def run() -> list[Result]:
    """A stack for each."""
    results = []
    for partitions in PARTITIONS:
        for workers in WORKERS:
            with stack({"invoices": workers, "documents": 0}, partitions=partitions) as made:
                target = target_of(made)
                invoices_rate(target, WARM_UP_ORDERS, f"SCALE-WARM-{partitions}-{workers}")
                rate = invoices_rate(target, ORDERS, f"SCALE-{partitions}-{workers}")
            results.append(Result(f"partitions: {partitions}, invoices workers: {workers}", rate, "orders/s"))
    return results
