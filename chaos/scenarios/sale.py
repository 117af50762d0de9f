"""Sales: everybody wants the one article, of which there is not enough, while what hints at its stock is lost."""

import asyncio
import contextlib
import itertools
import shutil
import socket
from array import array
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from urllib.parse import urlsplit

from chaos.buyers import SOLD_OUT, Buyers, connections_max, put_stock
from chaos.scenario import Ground, scenario
from chaos.traffic import Traffic
from chaos.world import World
from producers.load import percentile

#: From so many seconds on a sale has its full size; before that, so many buyers a second.
_FULL_SECONDS = 60.0
_BUYERS_FULL = 50_000
_BUYERS_A_SECOND = 250
_STOCK_FULL = 500
#: Buyers at the same instant; the next comes as soon as one of them is answered.
_CONNECTIONS_FULL = 5_000
_CONNECTIONS = 500
_WAIT_S = 5
_KILL_EVERY_S = 3.0
_REDIS_KILL_EVERY_S = 1.5
#: Holds as long as in a shop: how long a payment takes is not what a sale is about.
_GROUND = Ground(environment={"GAPLESS_HOLD_SECONDS": "600"})


#: One sale after the other, each of some seconds, so that every fault falls into the middle of some.
_PIECES = 40
_WANT = 160
_WANT_A_SECOND = 60.0
#: Until Redis knows all stock again, once it is back: a look each second, and a copy.
_REBUILT_SECONDS_MAX = 30.0
_INCOMPLETE = "gapless_stock_incomplete_sellers"
_REBUILDS = "gapless_stock_rebuilds_total"


@scenario(
    8,
    "Redis FLUSHALL, failover that forgets the last second, or gone",
    "sold ≤ stock; rebuilt from Postgres; slower, not wrong",
    Ground(
        detours={"gateway": ("redis",), "stock-1": ("redis",)},
        environment=_GROUND.environment,
    ),
)
async def redis_lost(world: World) -> None:
    """Sales of a few pieces, one after the other, while Redis forgets, is gone, hangs or is slow."""
    over = asyncio.Event()
    faults = asyncio.create_task(_lose_redis(world, over))
    sales: list[Buyers] = []
    try:
        while not over.is_set():
            sale = Buyers(world, f"{world.prefix}-sale-{len(sales)}", _PIECES)
            sales.append(sale)
            await put_stock(world, (sale.sku, sale.stock))
            await sale.rush(_WANT, _WANT, wait_s=_WAIT_S, rate=_WANT_A_SECOND)
    finally:
        over.set()
        await faults
    world.heal()
    seconds = array("d")
    for sale in sales:
        seconds.extend(sale.seconds)
        await sale.until_decided()
        # All sold, whoever was first: there are more buyers than pieces, and nobody gives anything back.
        sale.check(SOLD_OUT, sold=min(_WANT, sale.stock))
    for percent in (50, 95):
        world.measured[f"p{percent} of the answers, ms"] = percentile(seconds, percent) * 1000
    await world.until(lambda: _is_rebuilt(world), "Redis knows all stock again", _REBUILT_SECONDS_MAX)
    world.measured["copies of the stock to Redis"] = world.metrics("stock-1").get(_REBUILDS, 0.0)
    await _check_the_door(world, sales[-1])


async def _lose_redis(world: World, over: asyncio.Event) -> None:
    """Every way in which Redis can be lost, in an order drawn by chance, again and again."""
    ways = [_flush, _gone, _killed, _forgetful, _frozen, _slow, _cut]
    left: list[Callable[[World], Awaitable[None]]] = []
    try:
        async for _ in world.turns(0.2, 1.5):
            left = left or world.chance.sample(ways, len(ways))
            await left.pop()(world)
    finally:
        over.set()


async def _flush(world: World) -> None:
    parts = urlsplit(world.redis_url)
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=2) as connection:
            connection.sendall(b"FLUSHALL\r\n")
            connection.recv(64)
    except OSError:
        return
    world.timeline.befell("FLUSHALL")


async def _gone(world: World) -> None:
    world.hold("redis")
    await asyncio.sleep(world.chance.uniform(0.5, 3.0))
    world.release("redis")


async def _killed(world: World) -> None:
    await world.restart("redis")


async def _forgetful(world: World) -> None:
    """It comes back with what it knew a second ago, as a replica does that was behind."""
    data = world.stack.data / "redis"
    former = data.with_name("redis-former")
    shutil.rmtree(former, ignore_errors=True)
    shutil.copytree(data, former)
    await asyncio.sleep(world.chance.uniform(1.0, 2.0))
    world.hold("redis")
    await world.until(lambda: world.stack.process_pid("redis") is None, "redis is down", 5.0)
    shutil.rmtree(data)
    former.rename(data)
    world.timeline.befell("redis forgets the last second")
    world.release("redis")


async def _frozen(world: World) -> None:
    name = world.chance.choice(list(world.proxies("redis")))
    world.timeline.befell(f"the way from {name} to redis is frozen")
    world.proxy(name, "redis").freeze()
    await asyncio.sleep(world.chance.uniform(0.5, 2.5))
    world.proxy(name, "redis").heal()


async def _slow(world: World) -> None:
    delay_s = world.chance.choice((0.02, 0.1, 0.3))
    world.timeline.befell(f"redis is slow by {delay_s:g} s")
    for proxy in world.proxies("redis").values():
        proxy.delay(delay_s)
    await asyncio.sleep(world.chance.uniform(0.5, 2.0))
    for proxy in world.proxies("redis").values():
        proxy.heal()


async def _cut(world: World) -> None:
    count = sum(proxy.cut() for proxy in world.proxies("redis").values())
    world.timeline.befell(f"{count} connections to redis are cut")


def _is_rebuilt(world: World) -> bool:
    told = world.metrics("stock-1")
    return told.get(_INCOMPLETE) == 0.0


async def _check_the_door(world: World, sale: Buyers) -> None:
    """What is sold out is said at the door again, without asking the database: the order was never kept."""
    shop = world.shop()
    async with world.client(1) as client:
        asked = shop.checkout(sku=sale.sku, quantity=1, order_id=f"{sale.sku}-late")
        answer = await Traffic(client, shop, rate=1.0).post(asked)
        if answer is None or answer.status != 409:
            world.found.append(f"{sale.sku} is sold out, and {asked.order_id} was told {answer and answer.status}")


@scenario(
    9,
    "50,000 buyers, one SKU, stock of 1 and of 500",
    "sold = stock exactly; each buyer has an answer",
    _GROUND,
)
async def sales(world: World) -> None:
    """Of 500 pieces, then of 1; meanwhile Redis, or the checkouts workers, are killed again and again, or nobody is."""
    full = world.seconds >= _FULL_SECONDS
    buyers = _BUYERS_FULL if full else int(world.seconds * _BUYERS_A_SECOND)
    stock = max(2, _STOCK_FULL * buyers // _BUYERS_FULL)
    connections = connections_max(_CONNECTIONS_FULL if full else _CONNECTIONS)
    # In turn: a worker that is killed as soon as it is there would show nothing but that.
    workers = itertools.cycle(world.processes("checkouts"))
    faults: dict[str, Callable[[], AbstractAsyncContextManager[None]]] = {
        "nobody is killed": contextlib.nullcontext,
        "Redis is killed": lambda: _again_and_again(_REDIS_KILL_EVERY_S, lambda: world.restart("redis")),
        "checkouts workers are killed": lambda: _again_and_again(_KILL_EVERY_S, lambda: world.restart(next(workers))),
    }
    for pieces, what in zip((stock, 1), world.chance.sample(list(faults), 2), strict=True):
        sale = Buyers(world, f"{world.prefix}-{pieces}", pieces)
        await put_stock(world, (sale.sku, pieces))
        world.timeline.note(f"{buyers:,} buyers want {pieces:,}, while {what}")
        async with faults[what]():
            await sale.rush(buyers, connections, wait_s=_WAIT_S)
            await sale.until_decided()
        sale.check(SOLD_OUT, sold=pieces)
        sale.measure(f"{pieces:,} for sale")


@asynccontextmanager
async def _again_and_again(every_s: float, do: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Do it at once and then now and again, until the block ends."""

    async def repeat() -> None:
        while True:
            await do()
            await asyncio.sleep(every_s)

    repeating = asyncio.create_task(repeat())
    try:
        yield
    finally:
        repeating.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await repeating
