"""More load than the product can carry: it refuses the excess and serves the rest."""

import asyncio
import math
import random
import subprocess
import sys
import time
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import msgspec

from chaos.buyers import connections_max
from chaos.memory import Memory
from chaos.once import OnceClient, OneAnswer
from chaos.record import ACCEPTED, Asked, Kind, Record
from chaos.scenario import Ground, scenario
from chaos.traffic import PLENTY, Shop, Traffic
from chaos.world import World
from producers.client import UnavailableError
from producers.load import percentile

#: Time limit of a client for an answer.
_ANSWER_SECONDS_MAX = 45.0
_PAYS = "tok_ok"
#: Connections for measuring the peak: as many as the gateway serves concurrently. With fewer, its batches are small and
#: the measured peak is too low. And connections for the overload.
_PEAK_CONNECTIONS = 500
_OVER_CONNECTIONS = 2_000
_TIMES = 3.0
#: Share of a core that the gateway gets: on two cores, shared with all servers, clients could not offer three times
#: what a whole core carries.
_RUNS_SHARE = 0.1
#: Shares of the run's time. Each second of overload adds some hundred orders to be drained and judged.
_PEAK_SHARE, _OVER_SHARE = 0.3, 0.7
_LOAD_SECONDS_MAX = 60.0
#: In a shorter run rates vary too much to be judged; they are only reported.
_JUDGED_FROM_S = 20.0
#: The first seconds of the overload are spent on opening connections, and do not count.
_RAMP_S = 4.0
_GOODPUT_LEAST = 0.8
#: A later answer, counted from when the request was sent, is useless to a client.
_USEFUL_SECONDS_MAX = 10.0
_WARM_UP_ORDERS = 500
#: More than two cores can carry; determines how many requests are prepared.
_PEAK_A_SECOND_MAX = 2_000
#: Memory limits of processes with their children. Our processes have a target of 250 MB in the benchmarks. The gateway
#: may hold 32 MiB of bodies under way, which take ten times as much decoded. The broker has a heap of 512 MB.
_MEMORY_MB_MAX = {"kafka": 1_000.0, "postgres": 1_000.0, "redis": 300.0, "gateway": 600.0}
_MEMORY_MB_MAX_OURS = 400.0


@scenario(
    14,
    "three times the load it can carry",
    "memory bounded; 429 or 503 with Retry-After; goodput ≥ 80% of the peak",
    Ground(workers={}, environment={"GAPLESS_HOLD_SECONDS": "600"}),
)
async def too_much(world: World) -> None:
    """Measure the peak, offer three times as much whether it is answered or not, and measure the peak again."""
    source = _Source(world)
    await source.prepare()
    memory = Memory(world.stack)
    await _offer(world, source.make(_WARM_UP_ORDERS), _PEAK_CONNECTIONS)
    await world.drained()
    async with memory.watched():
        with _slowed(world, "gateway"):
            seconds = min(_PEAK_SHARE * world.seconds, _LOAD_SECONDS_MAX)
            peak = await _offer(
                world, source.make(int(_PEAK_A_SECOND_MAX * seconds)), _PEAK_CONNECTIONS, seconds=seconds
            )
            rate = _TIMES * peak.good_a_second
            seconds = min(_OVER_SHARE * world.seconds + _RAMP_S, _LOAD_SECONDS_MAX)
            orders = source.make(int(rate * seconds))
            world.timeline.note(
                f"{peak.good_a_second:,.0f} a second are accepted at full speed; now {rate:,.0f} are offered"
            )
            connections = connections_max(_OVER_CONNECTIONS)
            over = await _offer(world, orders, connections, seconds=seconds, rate=rate, ramp_s=_RAMP_S)
            world.timeline.note(f"answers: {dict(sorted(over.statuses.items()))}")
            # Measured again, because the machine's other load changes.
            seconds = min(_PEAK_SHARE * world.seconds, _LOAD_SECONDS_MAX)
            again = await _offer(
                world, source.make(int(_PEAK_A_SECOND_MAX * seconds)), _PEAK_CONNECTIONS, seconds=seconds
            )
        await world.drained()
    for line in memory.lines():
        world.timeline.note(line)
    peak_a_second = (peak.good_a_second + again.good_a_second) / 2
    world.measured["peak before, accepted a second"] = peak.good_a_second
    world.measured["peak after, accepted a second"] = again.good_a_second
    world.measured["offered a second"] = over.offered / (over.seconds + _RAMP_S)
    world.measured["answered a second"] = over.statuses.total() / (over.seconds + _RAMP_S)
    world.measured["goodput, accepted a second"] = over.good_a_second
    world.measured["p95 of useful answers, ms"] = percentile(over.useful_s, 95) * 1000
    if set(over.statuses) - {200, 201, 202, 429, 503}:
        world.found.append(f"unexpected answers: {dict(over.statuses)} {dict(over.unanswered)}")
    if over.silent:
        world.found.append(f"{over.silent} answers 429 or 503 without Retry-After")
    if world.seconds >= _JUDGED_FROM_S and over.good_a_second < _GOODPUT_LEAST * peak_a_second:
        world.found.append(f"goodput {over.good_a_second:,.0f} a second, of {peak_a_second:,.0f} at the peak")
    for name, curve in memory.curves.items():
        world.measured[f"memory of {name}, most, MB"] = max(curve)
        most = _MEMORY_MB_MAX.get(name, _MEMORY_MB_MAX_OURS)
        if max(curve) > most:
            world.found.append(f"{name} took {max(curve):,.0f} MB, more than {most:,.0f}")


@dataclass(slots=True)
class _Offered:
    """The result of a load."""

    seconds: float = 0.0
    #: Including requests that found no free connection.
    offered: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    #: Reasons for missing answers.
    unanswered: Counter[str] = field(default_factory=Counter)
    #: Latency of each request that was accepted during the load.
    useful_s: "array[float]" = field(default_factory=lambda: array("d"))
    silent: int = 0

    @property
    def good_a_second(self) -> float:
        """Accepted requests per second."""
        return len(self.useful_s) / self.seconds


@contextmanager
def _slowed(world: World, name: str) -> Iterator[None]:
    """Let a process run for `_RUNS_SHARE` of the time only, by signals."""
    command = [sys.executable, "-m", "chaos.slowed", str(world.stack.process_pid(name)), str(_RUNS_SHARE)]
    slowing = subprocess.Popen(command, stdin=subprocess.PIPE)  # noqa: S603
    world.timeline.note(f"{name} runs for {_RUNS_SHARE:.0%} of the time")
    try:
        yield
    finally:
        slowing.communicate()
        if slowing.returncode:
            world.found.append(f"{name} could not be slowed: status {slowing.returncode}")


class _Source:
    """Invoices and checkouts in turn, generated before they are sent, so that sending is not slowed by it."""

    def __init__(self, world: World) -> None:
        self._world = world
        # A separate record, because prepared requests may never be sent.
        self._shop = Shop(random.Random(f"{world.prefix}/load"), Record(), world.prefix)
        self._encode = msgspec.json.Encoder().encode

    async def prepare(self) -> None:
        """Set the stock of the article."""
        async with self._world.client(1) as client:
            await Traffic(client, self._world.shop(), rate=1.0).stock(self._shop.articles[0], PLENTY)

    def make(self, count: int) -> list[tuple[Asked, bytes]]:
        """Make requests, each with its encoded body."""
        shop = self._shop
        orders = [
            shop.checkout(token=_PAYS, sku=shop.articles[0], quantity=1) if number % 2 else shop.invoice()
            for number in range(count)
        ]
        return [(asked, self._encode(asked.bodies[0])) for asked in orders]


async def _offer(
    world: World,
    orders: Sequence[tuple[Asked, bytes]],
    connections: int,
    *,
    seconds: float = math.inf,
    rate: float | None = None,
    ramp_s: float = 0.0,
) -> _Offered:
    """Post as fast as answers come, or at `rate` whatever the answers, until the time or the orders end.

    At most `connections` are used at once. A request that finds none free waits, and is not sent once the time is over.
    Requests accepted in the first `ramp_s` seconds don't count.
    """
    offered = _Offered()
    free = asyncio.Semaphore(connections)
    began = time.monotonic()
    over_at = began + seconds
    source = iter(orders)
    async with OnceClient(world.url, world.api_key, connections=connections, timeout_s=_ANSWER_SECONDS_MAX) as client:

        async def post(asked: Asked, payload: bytes) -> None:
            offered.offered += 1
            async with free:
                if time.monotonic() < over_at:
                    await send_now(asked, payload)

        async def send_now(asked: Asked, payload: bytes) -> None:
            sent_at = time.monotonic()
            world.record.asked[asked.kind, asked.order_id] = asked
            try:
                send = client.post_invoice if asked.kind is Kind.INVOICE else client.post_checkout
                answer = await send(payload)
            except UnavailableError as error:
                world.record.unanswered += 1
                offered.statuses[0] += 1
                offered.unanswered[str(error)] += 1
                return
            now = time.monotonic()
            world.record.answer(asked, answer.status, answer.json())
            offered.statuses[answer.status] += 1
            if answer.status in ACCEPTED and now - sent_at <= _USEFUL_SECONDS_MAX and began + ramp_s <= now <= over_at:
                offered.useful_s.append(now - sent_at)
            if answer.status in (429, 503) and not (
                isinstance(answer, OneAnswer) and (answer.retry_after or "").isdigit()
            ):
                offered.silent += 1

        async def work() -> None:
            for each in source:
                await post(*each)
                if time.monotonic() >= over_at:
                    return

        async with asyncio.TaskGroup() as group:
            if rate is None:
                for _ in range(connections):
                    group.create_task(work())
            else:
                for number, each in enumerate(source):
                    await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
                    if time.monotonic() >= over_at:
                        break
                    group.create_task(post(*each))
    offered.seconds = min(seconds, time.monotonic() - began) - ramp_s
    return offered
