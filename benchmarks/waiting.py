"""500 clients at the same instant: how long until the last of them has its number."""

from statistics import median

import uvloop

from benchmarks.result import Result
from benchmarks.stacks import stack, target_of
from gapless.demo_steps import rush, warm_up
from producers.load import percentile

CLIENTS = 500
ROUNDS = 7
TARGET_MS = 500.0


def run() -> list[Result]:
    """Several rounds on one stack, each client over a new connection of its own."""
    with stack({"invoices": 1, "documents": 1}) as made:
        target = target_of(made)
        uvloop.run(warm_up(target))
        rounds = [uvloop.run(rush(target, CLIENTS, prefix=f"RUSH{number}")) for number in range(ROUNDS)]
    slowest = [max(waits) * 1000 for waits in rounds]
    medians = [percentile(waits, 50) * 1000 for waits in rounds]
    note = f"median of {ROUNDS} rounds; worst {max(slowest):.0f} ms; documents being made beside it"
    return [
        Result(f"slowest of {CLIENTS} at once", median(slowest), "ms", TARGET_MS, less_is_better=True, note=note),
        Result(f"median of {CLIENTS} at once", median(medians), "ms", less_is_better=True),
    ]
