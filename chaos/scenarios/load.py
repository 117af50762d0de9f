"""Many clients at the same instant, and a client that exceeds its rate limit."""

import asyncio
import os
import subprocess
import sys
import time
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass
from urllib.request import urlopen

from chaos.once import OnceClient, OneAnswer
from chaos.record import Asked
from chaos.scenario import scenario
from chaos.traffic import PLENTY, Shop, Traffic
from chaos.world import World
from local.layout import free_port
from producers.load import percentile
from runtime.settings import ENV_PREFIX

CLIENTS = 500
#: Time limit for the slowest client. On a quiet machine it takes half a second for a number and two seconds for a sale;
#: here servers, clients and other tests share two cores. The benchmark `waiting` has the target.
SLOWEST_SECONDS_MAX = 20.0
_ROUND_EVERY_S = 3.0
_ROUNDS_MIN = 2
_WAIT_S = 30
_PAYS = "tok_ok"


@scenario(13, "500 clients at the same instant", "no error; the slowest stays within its bound")
async def at_once(world: World) -> None:
    """Rounds of 500 clients, each on a new connection: for an invoice number and for a sale, in turn."""
    shop = world.shop()
    async with world.client(8) as client:
        await Traffic(client, shop, rate=1.0).prepare()
    for number in range(max(_ROUNDS_MIN, int(world.seconds / _ROUND_EVERY_S))):
        is_sale = number % 2 == 1
        asked = [
            shop.checkout(token=_PAYS, sku=shop.articles[0], quantity=1) if is_sale else shop.invoice()
            for _ in range(CLIENTS)
        ]
        name = "sale" if is_sale else "number"
        world.timeline.note(f"{CLIENTS} clients want a {name} at once")
        seconds, statuses = await _rush(world, shop, asked)
        expected = 201 if is_sale else 200
        if statuses != {expected: CLIENTS}:
            world.found.append(f"round {number + 1}, for a {name}: not all answers are {expected}: {dict(statuses)}")
        slowest = max(seconds)
        if slowest > SLOWEST_SECONDS_MAX:
            world.found.append(f"round {number + 1}: the slowest client waited {slowest:.1f} s for a {name}")
        for what, value in (("the slowest", slowest), ("p50", percentile(seconds, 50))):
            label = f"{what} of {CLIENTS}, for a {name}, ms"
            world.measured[label] = max(world.measured.get(label, 0.0), value * 1000)


async def _rush(world: World, shop: Shop, orders: Sequence[Asked]) -> tuple["array[float]", Counter[int]]:
    """Post all at once; returns the seconds each took, and the statuses, 0 for a client without an answer."""
    seconds, statuses = array("d"), Counter[int]()
    go = asyncio.Event()
    # Without retries, which would hide errors.
    async with OnceClient(world.url, world.api_key, connections=len(orders)) as client:
        traffic = Traffic(client, shop, rate=1.0)

        async def post(asked: Asked) -> None:
            await go.wait()
            answer = await traffic.post(asked, wait_s=_WAIT_S)
            seconds.append(time.perf_counter() - began)
            statuses[answer.status if answer is not None else 0] += 1

        async with asyncio.TaskGroup() as group:
            for asked in orders:
                group.create_task(post(asked))
            await asyncio.sleep(0)
            began = time.perf_counter()
            go.set()
    return seconds, statuses


#: The rate limit of checkouts per customer and SKU: the burst, and the rate per second.
_BURST, _A_SECOND = 5, 5.0
_GATEWAYS = 3
#: Attempts a second of the client that exceeds the limit, over all gateways, and its connections to each.
_TRIED_A_SECOND = 150.0
_CONNECTIONS = 20
_OTHERS_EVERY_S = 0.5
#: Least share of the permitted checkouts that must be admitted; with fewer, the limit would be another.
_LEAST_SHARE = 0.6
_GATEWAY_READY_SECONDS_MAX = 120.0
#: Tolerance for clocks and for answers under way.
_SLACK = 1.0


@scenario(25, "a client uses many connections or gateways against its rate limit", "the limit holds across gateways")
async def around_the_limit(world: World) -> None:
    """One customer wants one article over many connections to three gateways; another one buys at a normal rate."""
    shop = world.shop()
    sku = f"{world.prefix}-WANTED"
    async with world.client(4) as client:
        await Traffic(client, shop, rate=1.0).stock(sku, PLENTY)
    with more_gateways(world, _GATEWAYS - 1) as more:
        urls = [world.url, *more]
        world.timeline.note(f"one customer tries {_TRIED_A_SECOND:g} checkouts a second at {len(urls)} gateways")
        greedy, modest = await asyncio.gather(
            _try(world, shop, urls, sku, "greedy", _TRIED_A_SECOND), _try(world, shop, urls, sku, "modest", 2.0)
        )
    statuses = Counter(each.status for each in greedy)
    taken = [each for each in greedy if each.status in (201, 202)]
    world.measured["checkouts admitted of the greedy customer, per second"] = len(taken) / world.seconds
    if set(statuses) - {201, 202, 429}:
        world.found.append(f"the greedy customer was answered {dict(statuses)}")
    if silent := sum(each.status == 429 and not (each.retry_after or "").isdigit() for each in greedy):
        world.found.append(f"{silent} answers 429 without Retry-After")
    if len(taken) < _LEAST_SHARE * _A_SECOND * world.seconds:
        world.found.append(f"only {len(taken)} checkouts in {world.seconds:g} s were admitted")
    if {each.status for each in modest} - {201, 202}:
        world.found.append(f"the modest customer was answered {dict(Counter(each.status for each in modest))}")
    if broken := _above_the_limit(taken):
        world.found.append(broken)


@dataclass(frozen=True, slots=True)
class _Try:
    """One checkout, sent once."""

    sent_at: float
    answered_at: float
    status: int
    retry_after: str | None


async def _try(world: World, shop: Shop, urls: Sequence[str], sku: str, customer: str, rate: float) -> list[_Try]:
    """A customer's checkouts of one piece each, at `rate` per second, sent to the gateways in turn."""
    tries: list[_Try] = []
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        clients = [
            await stack.enter_async_context(OnceClient(url, world.api_key, connections=_CONNECTIONS)) for url in urls
        ]

        async def post(client: OnceClient, asked: Asked) -> None:
            sent_at = time.monotonic()
            answer = await Traffic(client, shop, rate=1.0).post(asked)
            retry_after = answer.retry_after if isinstance(answer, OneAnswer) else None
            tries.append(_Try(sent_at, time.monotonic(), answer.status if answer else 0, retry_after))

        began = time.monotonic()
        for number in range(int(world.seconds * rate)):
            await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
            order_id = f"{world.prefix}-{customer}-{number}"
            asked = shop.checkout(
                token=_PAYS, sku=sku, quantity=1, order_id=order_id, customer=f"{world.prefix}-{customer}"
            )
            group.create_task(post(clients[number % len(clients)], asked))
    return tries


def _above_the_limit(taken: Sequence[_Try]) -> str:
    """An interval in which more checkouts were admitted than the limit permits; empty if there is none.

    A checkout counts if it was sent and answered within the interval.
    """
    for begin in taken:
        ends = sorted(each.answered_at for each in taken if each.sent_at >= begin.sent_at)
        for count, end in enumerate(ends, 1):
            seconds = end - begin.sent_at
            if count > _BURST + _A_SECOND * seconds + _SLACK:
                return f"{count} checkouts were admitted within {seconds:.2f} s"
    return ""


@contextmanager
def more_gateways(world: World, count: int) -> Iterator[list[str]]:
    """Run more gateways for the same services, and return their URLs."""
    with ExitStack() as stack:
        urls: list[str] = []
        for number in range(2, 2 + count):
            port = free_port()
            # The metrics port belongs to the stack's own gateway.
            own = {f"{ENV_PREFIX}GATEWAY_PORT": str(port), f"{ENV_PREFIX}METRICS_PORT": "0"}
            environment = {**os.environ, **world.stack.environment("gateway"), **own}
            log = stack.enter_context((world.stack.data / "logs" / f"gateway-{number}.log").open("ab"))
            command = [sys.executable, "-m", "gapless", "gateway"]
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)  # noqa: S603
            stack.callback(_end, process)
            urls.append(f"http://127.0.0.1:{port}")
        for url in urls:
            _until_ready(url)
        world.timeline.note(f"{count} more gateways")
        yield urls


def _until_ready(url: str) -> None:
    give_up_at = time.monotonic() + _GATEWAY_READY_SECONDS_MAX
    while True:
        try:
            with urlopen(f"{url}/readyz", timeout=2):  # noqa: S310 - our own process.
                return
        except OSError:
            if time.monotonic() > give_up_at:
                raise
        time.sleep(0.1)


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(_GATEWAY_READY_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
