"""Sales: all buyers want one article, of which there is not enough, while Redis fails."""

import asyncio
import contextlib
import itertools
from array import array
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from chaos.buyers import SOLD_OUT, Buyers, connections_max, put_stock
from chaos.grounds import LOSABLE
from chaos.redis_losses import LOSSES, in_turns
from chaos.scenario import Ground, scenario
from chaos.traffic import Traffic
from chaos.world import World
from producers.load import percentile

#: Runs of at least this long have a sale of full size; shorter ones have fewer buyers, by their seconds.
_FULL_SECONDS = 60.0
_BUYERS_FULL = 50_000
_BUYERS_A_SECOND = 250
_STOCK_FULL = 500
#: Concurrent buyers; each of the others follows as soon as one is answered.
_CONNECTIONS_FULL = 5_000
_CONNECTIONS = 500
_WAIT_S = 5
_KILL_EVERY_S = 3.0
_REDIS_KILL_EVERY_S = 1.5
#: Time limit for a killed worker to be ready again.
_RUNNING_SECONDS_MAX = 90.0
#: Holds as long as by default: these scenarios are not about slow payments.
_GROUND = Ground(environment=LOSABLE.environment)


#: Sales in sequence, each of some seconds, so that every fault falls into the middle of some.
_PIECES = 40
_WANT = 160
_WANT_A_SECOND = 60.0
#: Time limit for Redis to have a full copy again: it is checked each second, and then copied.
_REBUILT_SECONDS_MAX = 30.0
_INCOMPLETE = "gapless_stock_incomplete_sellers"
_REBUILDS = "gapless_stock_rebuilds_total"


@scenario(
    8,
    "Redis FLUSHALL, failover that loses the last second, or down",
    "sold ≤ stock; rebuilt from Postgres; slower, not wrong",
    LOSABLE,
)
async def redis_lost(world: World) -> None:
    """Sales of a few pieces, in sequence, while Redis loses data, is down, hangs or is slow."""
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
        # All pieces must be sold: there are more buyers than pieces, and no order is cancelled.
        sale.check(SOLD_OUT, sold=min(_WANT, sale.stock))
    for percent in (50, 95):
        world.measured[f"p{percent} of the answers, ms"] = percentile(seconds, percent) * 1000
    await world.until(lambda: _is_rebuilt(world), "Redis has a full copy of the stock again", _REBUILT_SECONDS_MAX)
    world.measured["copies of the stock to Redis"] = world.metrics("stock-1").get(_REBUILDS, 0.0)
    await _check_the_door(world, sales[-1])


async def _lose_redis(world: World, over: asyncio.Event) -> None:
    """Cause every kind of loss of Redis in random order, repeatedly."""
    try:
        await in_turns(world, LOSSES)
    finally:
        over.set()


def _is_rebuilt(world: World) -> bool:
    told = world.metrics("stock-1")
    return told.get(_INCOMPLETE) == 0.0


async def _check_the_door(world: World, sale: Buyers) -> None:
    """A sold-out article must be refused by admission again, without the database: the order is never accepted."""
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
    """Sales of 500 pieces and of 1, while Redis or the checkouts workers are killed repeatedly, or nothing is."""
    full = world.seconds >= _FULL_SECONDS
    buyers = _BUYERS_FULL if full else int(world.seconds * _BUYERS_A_SECOND)
    stock = max(2, _STOCK_FULL * buyers // _BUYERS_FULL)
    connections = connections_max(_CONNECTIONS_FULL if full else _CONNECTIONS)
    # In turn: the same worker, killed at each restart, would do no work at all.
    workers = itertools.cycle(world.processes("checkouts"))
    faults: dict[str, Callable[[], AbstractAsyncContextManager[None]]] = {
        "nothing is killed": contextlib.nullcontext,
        "Redis is killed": lambda: _again_and_again(_REDIS_KILL_EVERY_S, lambda: world.restart("redis")),
        "checkouts workers are killed": lambda: _again_and_again(_KILL_EVERY_S, lambda: _kill(world, next(workers))),
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
    """Call `do` at once and then every `every_s` seconds, or when it has returned, until the block ends."""

    async def repeat() -> None:
        while True:
            await asyncio.gather(do(), asyncio.sleep(every_s))

    repeating = asyncio.create_task(repeat())
    try:
        yield
    finally:
        repeating.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await repeating


async def _kill(world: World, name: str) -> None:
    """Kill a worker, and return when it is ready again.

    On a busy machine a start takes longer than the time between two kills: all would be killed before their first
    batch, and no order would be decided.
    """
    killed = world.stack.process_pid(name)
    await world.restart(name)
    await world.until(lambda: _runs(world, name, killed), f"{name} is ready again", _RUNNING_SECONDS_MAX)


def _runs(world: World, name: str, killed: int | None) -> bool:
    [its] = [each for each in world.stack.status()["processes"] if each["name"] == name]
    return its["state"] == "running" and its["pid"] not in (None, killed)
