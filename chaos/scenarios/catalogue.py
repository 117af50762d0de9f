"""Faults of the catalogue: its cache, its index, its database and all who keep them equal, while products change."""

import asyncio
import shutil

from chaos.grounds import LOSABLE
from chaos.redis_losses import LOSSES, in_turns
from chaos.scenario import scenario
from chaos.shelf import selling
from chaos.world import World

#: Requests a second beside it.
_RATE = 10.0


@scenario(
    28,
    "products change while Redis fails, Postgres is away, the index is damaged, and who keeps the copies is killed",
    "every product reads and is found as it was last put; buyers were shown nothing that never was, and no failure",
    LOSABLE,
)
async def change_products(world: World) -> None:
    """Each kind of loss of Redis, and between them what loses the marks that say that a copy is old."""
    names = world.processes("gateway", "relay", "stock", "search")

    async def kill(world: World) -> None:
        await world.restart(world.chance.choice(names))

    async def part_from_postgres(world: World) -> None:
        way = world.proxy("gateway", "postgres")
        way.refuse()
        world.timeline.befell("the gateway can't reach Postgres")
        await asyncio.sleep(world.chance.uniform(0.5, 2.0))
        way.heal()

    async def damage_index(world: World) -> None:
        """What a disk may do to it, or somebody who tidies up."""
        world.hold("search")
        await world.until(lambda: world.stack.process_pid("search") is None, "the search worker is down", 5.0)
        index = world.stack.data / "workers" / "search" / "index"
        files = sorted(file for file in index.glob("*.*") if file.stat().st_size > 0)
        if files and world.chance.random() < 0.5:
            damaged = world.chance.choice(files)
            content = bytearray(damaged.read_bytes())
            content[world.chance.randrange(len(content))] ^= 0xFF
            damaged.write_bytes(content)
            world.timeline.befell(f"a byte of the search index is another, in {damaged.name}")
        else:
            shutil.rmtree(index, ignore_errors=True)
            world.timeline.befell("the search index is deleted")
        world.release("search")

    async with selling(world) as shelf, world.traffic(_RATE):
        await in_turns(world, (*LOSSES, kill, kill, part_from_postgres, damage_index))
        world.heal()
        await world.until_ready()
    world.measured["puts"] = sum(len(each.prices) for each in shelf.offered)
    world.measured["looks"] = sum(shelf.statuses.values())
    world.measured["looks answered with 503"] = shelf.statuses.get(503, 0)
