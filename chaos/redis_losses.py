"""How Redis can fail: it loses data, is down, hangs, or is slow. The ground must have the detours of `LOSABLE`."""

import asyncio
import shutil
import socket
from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import urlsplit

from chaos.world import World

Loss = Callable[[World], Awaitable[None]]


async def in_turns(world: World, losses: Sequence[Loss]) -> None:
    """Cause each of these in random order, repeatedly, while faults last."""
    left: list[Loss] = []
    async for _ in world.turns(0.2, 1.5):
        left = left or world.chance.sample(losses, len(losses))
        await left.pop()(world)


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
    """Restart Redis with its data of a second ago, like the failover to a replica that lagged."""
    data = world.stack.data / "redis"
    former = data.with_name("redis-former")
    shutil.rmtree(former, ignore_errors=True)
    shutil.copytree(data, former)
    await asyncio.sleep(world.chance.uniform(1.0, 2.0))
    world.hold("redis")
    await world.until(lambda: world.stack.process_pid("redis") is None, "redis is down", 5.0)
    shutil.rmtree(data)
    former.rename(data)
    world.timeline.befell("redis loses the last second")
    world.release("redis")


async def _frozen(world: World) -> None:
    name = world.chance.choice(list(world.proxies("redis")))
    world.timeline.befell(f"the connection from {name} to redis is frozen")
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


LOSSES: tuple[Loss, ...] = (_flush, _gone, _killed, _forgetful, _frozen, _slow, _cut)
