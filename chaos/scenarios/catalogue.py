"""Faults of the catalogue: its cache, its database and all who keep the two equal, while sellers change products."""

import asyncio

from chaos.grounds import LOSABLE
from chaos.redis_losses import LOSSES, in_turns
from chaos.scenario import scenario
from chaos.shelf import selling
from chaos.world import World

#: Requests a second beside it.
_RATE = 10.0


@scenario(
    28,
    "products change while Redis fails, Postgres is away, and gateway, relay and stock agent are killed",
    "every product reads as it was last put; buyers were shown no version that never was, and no failure of ours",
    LOSABLE,
)
async def change_products(world: World) -> None:
    """Each kind of loss of Redis, and between them what loses the marks that say that a copy is old."""
    names = world.processes("gateway", "relay", "stock")

    async def kill(world: World) -> None:
        await world.restart(world.chance.choice(names))

    async def part_from_postgres(world: World) -> None:
        way = world.proxy("gateway", "postgres")
        way.refuse()
        world.timeline.befell("the gateway can't reach Postgres")
        await asyncio.sleep(world.chance.uniform(0.5, 2.0))
        way.heal()

    async with selling(world) as shelf, world.traffic(_RATE):
        await in_turns(world, (*LOSSES, kill, kill, part_from_postgres))
        world.heal()
        await world.until_ready()
    world.measured["puts"] = sum(len(each.prices) for each in shelf.offered)
    world.measured["looks"] = sum(shelf.statuses.values())
    world.measured["looks answered with 503"] = shelf.statuses.get(503, 0)
