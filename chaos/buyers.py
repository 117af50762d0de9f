"""Buyers who all want the same article: each asks until its order is decided, and its answers are recorded."""

import asyncio
import resource
import time
from array import array
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from chaos.record import Asked
from chaos.traffic import Traffic
from chaos.world import World
from producers.client import GatewayAnswer
from producers.load import percentile
from producers.wire import WireClient

CONFIRMED, SOLD_OUT, CANCELLED, DECLINED = "confirmed", "out-of-stock", "order-cancelled", "payment-declined"
ACCEPTED, UNANSWERED = "accepted", "no answer"
#: Open files that this process needs in addition to its buyers' connections.
_FILES_KEPT = 512
_WAIT_S = 10
_PAYS = "tok_ok"
#: Time limit, from the end of the rush, for undecided buyers to get an outcome.
_DECIDED_SECONDS_MAX = 120.0
#: Connections for asking again, after the rush.
_ASKING_AT_ONCE = 64
_SHOWN_MAX = 5


def connections_max(wanted: int) -> int:
    """As many connections as this process may open, at most `wanted`."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(1, min(wanted, soft - _FILES_KEPT))


class Buyers:
    """Buyers of one piece each of one SKU."""

    def __init__(self, world: World, sku: str, stock: int) -> None:
        self.sku = sku
        self.stock = stock
        #: The last answer to each buyer, by order id.
        self.told: dict[str, str] = {}
        #: Seconds until each buyer's first answer.
        self.seconds = array("d")
        self._world = world
        self._asked: dict[str, Asked] = {}

    async def rush(self, count: int, connections: int, *, wait_s: int | None = None, rate: float | None = None) -> None:
        """Post one checkout per buyer, all at once or at `rate` per second; returns when each is answered or given up.

        With `wait_s` every second buyer waits for the outcome. Set the stock first.
        """
        shop = self._world.shop()
        for number in range(count):
            asked = shop.checkout(token=_PAYS, sku=self.sku, quantity=1, order_id=f"{self.sku}-{number}")
            self._asked[asked.order_id] = asked
        began = time.perf_counter()
        async with self._client(connections) as client:
            traffic = Traffic(client, shop, rate=1.0)
            source = enumerate(self._asked.values())

            async def work() -> None:
                for number, asked in source:
                    due = time.perf_counter()
                    if rate is not None:
                        due = began + number / rate
                        await asyncio.sleep(max(0.0, due - time.perf_counter()))
                    answer = await traffic.post(asked, wait_s=wait_s if number % 2 else None)
                    self.seconds.append(time.perf_counter() - due)
                    self.told[asked.order_id] = _outcome(answer)

            await _at_once(work() for _ in range(connections))

    async def until_decided(self) -> None:
        """Ask again for each order that is accepted but undecided, until it is decided or time runs out."""
        give_up_at = time.monotonic() + _DECIDED_SECONDS_MAX
        waiting = [order_id for order_id, told in self.told.items() if told in (ACCEPTED, UNANSWERED)]
        async with self._client(_ASKING_AT_ONCE) as client:
            traffic = Traffic(client, self._world.shop(), rate=1.0)
            source = iter(waiting)

            async def work() -> None:
                for order_id in source:
                    while self.told[order_id] in (ACCEPTED, UNANSWERED) and time.monotonic() < give_up_at:
                        self.told[order_id] = _outcome(await traffic.post(self._asked[order_id], wait_s=_WAIT_S))

            await _at_once(work() for _ in range(_ASKING_AT_ONCE))

    def count(self) -> Counter[str]:
        """The number of buyers by answer."""
        return Counter(self.told.values())

    def check(self, *permitted: str, sold: int) -> None:
        """Report a violation unless `sold` buyers were confirmed and all others got one of `permitted`."""
        count = self.count()
        if count[CONFIRMED] != sold:
            self._world.found.append(
                f"{self.sku}: {count[CONFIRMED]} buyers were told that it is sold, expected {sold}: {dict(count)}"
            )
        odd = [(order_id, told) for order_id, told in self.told.items() if told not in (CONFIRMED, *permitted)]
        if odd:
            self._world.found.append(f"{self.sku}: {len(odd)} unexpected answers, such as {odd[:_SHOWN_MAX]}")

    def measure(self, name: str) -> None:
        """Report the latency of the first answers under `name`."""
        measured = self._world.measured
        for percent in (50, 95):
            measured[f"{name}: p{percent} of the answers, ms"] = percentile(self.seconds, percent) * 1000

    def _client(self, connections: int) -> WireClient:
        world = self._world
        return WireClient(world.url, world.api_key, connections=connections, give_up_after_s=_DECIDED_SECONDS_MAX)


async def put_stock(world: World, *stocks: tuple[str, int]) -> None:
    """Set the stock of articles that have no orders yet."""
    async with world.client(4) as client:
        traffic = Traffic(client, world.shop(), rate=1.0)
        for sku, pieces in stocks:
            await traffic.stock(sku, pieces)


async def _at_once(works: Iterable[Coroutine[Any, Any, None]]) -> None:
    async with asyncio.TaskGroup() as group:
        for work in works:
            group.create_task(work)


def _outcome(answer: GatewayAnswer | None) -> str:
    if answer is None:
        return UNANSWERED
    if answer.status == 201:
        return CONFIRMED
    if answer.status == 202:
        return ACCEPTED
    return str(answer.json().get("type", answer.status)).rpartition("/")[2]


async def shop_for(traffic: Traffic, seconds: float, rate: float, make: Callable[[], Asked]) -> None:
    """Post what `make` returns at `rate`, every second request waiting; returns when all are answered or given up."""
    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for number in range(max(1, int(seconds * rate))):
            await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
            group.create_task(_post(traffic, make(), _WAIT_S if number % 2 else None))


async def _post(traffic: Traffic, asked: Asked, wait_s: int | None) -> None:
    await traffic.post(asked, wait_s=wait_s)
