"""Open-model load: each request is sent at a time fixed beforehand, however slow the answers to the others are.

Buyers don't wait for each other. Clients that send their next request after their last answer send fewer requests
while the service is slow, and the wait of those that they did not send is not counted. Here it is: a wait begins when
its request is due.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence

from hdrh.histogram import HdrHistogram

from producers.client import GatewayAnswer

#: Longer waits are recorded as this long; no client waits so long.
_WAIT_US_MAX = 600_000_000
_DIGITS = 3


def due_times(per_s: float, seconds: float, *, seed: int) -> list[float]:
    """When each request is due, in seconds from the start: a Poisson process with `per_s` of them a second."""
    chance = random.Random(seed)
    times: list[float] = []
    due = chance.expovariate(per_s)
    while due < seconds:
        times.append(due)
        due += chance.expovariate(per_s)
    return times


async def send(
    payloads: Sequence[bytes],
    due_s: Sequence[float],
    post: Callable[[bytes], Awaitable[GatewayAnswer]],
    take: Callable[[bytes, GatewayAnswer, float], None],
) -> None:
    """Post each payload when it is due, and return when all are answered.

    `take` gets each payload, its answer, and the seconds from when it was due. What `post` raises ends the load.
    """
    began = time.perf_counter()

    async def send_one(payload: bytes, due_at: float) -> None:
        answer = await post(payload)
        take(payload, answer, time.perf_counter() - due_at)

    async with asyncio.TaskGroup() as tasks:
        for payload, due in zip(payloads, due_s, strict=True):
            await asyncio.sleep(max(0.0, began + due - time.perf_counter()))
            tasks.create_task(send_one(payload, began + due))


class Waits:
    """Waits in an HdrHistogram: every percentile to three digits, in memory that does not grow with their number."""

    def __init__(self) -> None:
        self._us = HdrHistogram(1, _WAIT_US_MAX, _DIGITS)

    def add(self, seconds: float) -> None:
        """Record one."""
        self._us.record_value(min(max(round(seconds * 1e6), 1), _WAIT_US_MAX))

    def ms(self, percent: float) -> float:
        """The wait that `percent` of them did not exceed; 100 for the longest."""
        return float(self._us.get_value_at_percentile(percent)) / 1e3

    def __len__(self) -> int:
        return int(self._us.get_total_count())
