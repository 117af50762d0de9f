"""500 clients at the same instant: how long until the last of them has its number."""

from array import array
from statistics import median

import uvloop

from benchmarks.result import Result
from benchmarks.stacks import stack, target_of
from gapless.demo_steps import Target, rush, wait_until_drained, warm_up
from producers.load import percentile

CLIENTS = 500
ROUNDS = 7
TARGET_MS = 500.0


def run() -> list[Result]:
    """Several rounds on one stack, each client over a new connection of its own."""
    with stack({"invoices": 1, "documents": 1}) as made:
        target = target_of(made)
        uvloop.run(warm_up(target))
        rounds = [uvloop.run(_round(target, made.endpoints()["kafka"], number)) for number in range(ROUNDS)]
    slowest = [max(waits) * 1000 for waits in rounds]
    medians = [percentile(waits, 50) * 1000 for waits in rounds]
    note = f"median of {ROUNDS} rounds; worst {max(slowest):.0f} ms; documents being made beside it"
    return [
        Result(f"slowest of {CLIENTS} at once", median(slowest), "ms", TARGET_MS, less_is_better=True, note=note),
        Result(f"median of {CLIENTS} at once", median(medians), "ms", less_is_better=True),
    ]


async def _round(target: Target, kafka_bootstrap: str, number: int) -> "array[float]":
    """One instant, in quiet before; the documents of this round are made beside it."""
    await wait_until_drained(target, kafka_bootstrap)
    return await rush(target, CLIENTS, prefix=f"RUSH{number}")
