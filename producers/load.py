"""Load: a stream of requests, as fast as they go or at a given rate, some of them sent again."""

import asyncio
import math
import random
import time
from array import array
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

from producers.client import GaplessClient, GatewayAnswer, UnavailableError

#: How far back a repeat may reach: bounds memory, while both the immediate and the late repeat occur.
_REPEAT_WINDOW = 1_000
#: Connections that keep a gateway busy at full speed; more only queue.
WORKERS = 256
#: In an open loop a slow answer holds its worker: so many may be slow before the rate drops.
WORKERS_OPEN_LOOP = 256
#: Unanswered requests that the report names.
_FAILURES_MAX = 20


@dataclass(slots=True)
class LoadReport:
    """What came of a load. Latencies in seconds; at a given rate they count from when a request was due, so that a
    stall is not hidden by the requests that were not sent meanwhile."""

    statuses: Counter[int] = field(default_factory=Counter)
    latencies_s: "array[float]" = field(default_factory=lambda: array("d"))
    by_status: "dict[int, array[float]]" = field(default_factory=dict)
    retried: int = 0
    failed: int = 0
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def take(self, answer: GatewayAnswer, latency_s: float) -> None:
        """Count an answer."""
        self.statuses[answer.status] += 1
        self.retried += answer.attempts - 1
        self.latencies_s.append(latency_s)
        self.by_status.setdefault(answer.status, array("d")).append(latency_s)

    @property
    def answered(self) -> int:
        """Requests that have their answer, whatever its status."""
        return sum(self.statuses.values())

    @property
    def per_second(self) -> float:
        """Answers a second."""
        return self.answered / self.seconds if self.seconds else 0.0

    def percentile_s(self, percent: float) -> float:
        """The latency that `percent` of the answers did not exceed (nearest rank); NaN without answers."""
        return percentile(self.latencies_s, percent)


def percentile(values: Iterable[float], percent: float) -> float:
    """The value that `percent` of `values` don't exceed, by nearest rank; NaN of nothing."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)] if ordered else math.nan


def with_repeats(payloads: Iterable[bytes], share: float, *, seed: int) -> Iterator[bytes]:
    """The payloads, with `share` (0 up to, not including, 1) of the whole being repeats of earlier ones.

    4,500 payloads at 0.1 make 5,000. Which are repeated, and when, follows from the seed.
    """
    if not 0 <= share < 1:
        raise ValueError(f"the share of repeats must be at least 0 and below 1, not {share}")
    chance = random.Random(seed)  # noqa: S311 - chosen to be repeatable, guards nothing.
    window: list[bytes] = []
    repeats = 0
    for distinct, payload in enumerate(payloads, 1):
        if len(window) < _REPEAT_WINDOW:
            window.append(payload)
        else:
            window[chance.randrange(_REPEAT_WINDOW)] = payload
        yield payload
        # Rounded up by a hair: 9 payloads at 0.1 are due 1 repeat, though 9 * 0.1 / 0.9 comes out below 1.
        while repeats < math.floor(distinct * share / (1 - share) + 1e-9):
            repeats += 1
            yield chance.choice(window)


async def run(
    client: GaplessClient,
    payloads: Iterable[bytes],
    *,
    rate: float | None = None,
    workers: int | None = None,
    count_max: int | None = None,
    wait_s: int | None = None,
    on_answer: Callable[[bytes, GatewayAnswer], None] | None = None,
    post: Callable[[bytes, int | None], Awaitable[GatewayAnswer]] | None = None,
) -> LoadReport:
    """Send the payloads and return when each was answered or given up.

    `rate` requests a second, else as fast as `workers` of them at a time go. A fixed number of workers, not a task a
    request: memory stays the same however many are sent. `post` sends one with its wait, `client.post_invoice` unless
    given.
    """
    report = LoadReport()
    send = post or client.post_invoice
    source = enumerate(islice(payloads, count_max))
    start = time.perf_counter()

    async def work() -> None:
        for index, payload in source:
            due = time.perf_counter()
            if rate is not None:
                due = start + index / rate
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
            try:
                answer = await send(payload, wait_s)
            except UnavailableError as error:
                report.failed += 1
                if len(report.failures) < _FAILURES_MAX:
                    report.failures.append(str(error))
                continue
            report.take(answer, time.perf_counter() - due)
            if on_answer is not None:
                on_answer(payload, answer)

    size = workers or (WORKERS if rate is None else WORKERS_OPEN_LOOP)
    async with asyncio.TaskGroup() as group:
        for _ in range(size):
            group.create_task(work())
    report.seconds = time.perf_counter() - start
    return report
