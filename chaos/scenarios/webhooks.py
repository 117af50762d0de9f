"""Faults of webhooks and mails: senders and their agent killed, and receivers that fail."""

from chaos.postbox import mailing
from chaos.receivers import receiving
from chaos.scenario import scenario
from chaos.world import World

#: Requests a second: each makes some five webhooks.
_RATE = 20.0


@scenario(
    27,
    "kill -9 of senders and the notifications agent, with receivers that hang, fail and answer garbage",
    "each webhook and each mail arrives at least once, under one id, and an order's webhooks in their order",
)
async def kill_the_senders(world: World) -> None:
    """Kill one of them about every second; what they had under way is sent again under the same id."""
    names = world.processes("notifications", "deliveries", "relay")
    async with mailing(world) as mails, receiving(world) as receiver:
        world.record.hooked, world.record.mailed = receiver.accepted, mails
        async with world.traffic(_RATE):
            async for _ in world.turns(0.3, 1.5):
                await world.restart(world.chance.choice(names))
        world.heal()
    world.measured["webhooks accepted"] = len(receiver.accepted)
    world.measured["mails"] = len(mails)
    world.measured["webhooks answered with a failure"] = receiver.failures
    if not receiver.failures:
        world.found.append("the receiver never failed, so nothing was tested")
