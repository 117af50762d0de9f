"""Redrives of dead letters that are killed, while the workers that handle the records are killed too."""

import asyncio
import sys
from functools import partial

from confluent_kafka import Message, Producer

from chaos.record import Asked
from chaos.scenario import scenario
from chaos.scenarios.records import invoice_request
from chaos.strangers import run_gapless
from chaos.traffic import Shop
from chaos.world import RATE, World
from schemas.catalog import INVOICE_REQUESTS
from schemas.placement import partition_of

_RATE = RATE / 2
_FLUSH_S = 30.0
#: The most orders that are sent to wrong partitions at once.
_STRAYS_MAX = 8
#: Records a second; slow enough for a redrive to be killed between two records.
_RATE_OF_REDRIVE = "10"
_WHICH = ("--topic", INVOICE_REQUESTS.name, "--reason", "wrong-partition")


@scenario(
    26,
    "orders in wrong partitions are redriven, again and again; workers, relay and redrives are killed",
    "each has one effect",
)
async def redrive(world: World) -> None:
    """Each order becomes a dead letter without effect; once redriven it has exactly one effect."""
    strays = _Strays(world)
    names = world.processes("invoices", "relay")
    async with world.traffic(_RATE) as traffic:
        async for _ in world.turns(0.2, 0.6):
            await asyncio.to_thread(strays.send, traffic.shop)
            if world.chance.random() < 0.3:
                world.kill(world.chance.choice(names))
            await _redrive_and_die(world)
    # Each of the orders is now an open dead letter, or redriven.
    if not await world.drained():
        return
    for left in ("", "0 sent, 0 stay open"):
        said = await asyncio.to_thread(run_gapless, world, "dead-letters", "redrive", *_WHICH, "--why", "chaos")
        world.timeline.note(f"redrive: {said.splitlines()[-1]}")
        if not said.splitlines()[-1].endswith(left):
            world.found.append(f"a redrive after a redrive: {said}")
    strays.note_redriven()


async def _redrive_and_die(world: World) -> None:
    """Run a redrive, and kill it after a moment unless it has ended."""
    command = [sys.executable, "-m", "gapless", "dead-letters", "redrive", *_WHICH, "--rate", _RATE_OF_REDRIVE]
    command += ["--why", "chaos", "--data", str(world.stack.data)]
    running = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        await asyncio.wait_for(running.wait(), world.chance.uniform(0.5, 3.0))
        world.timeline.count("a redrive ended")
    except TimeoutError:
        running.kill()
        await running.wait()
        world.timeline.count("a redrive was killed")


class _Strays:
    """Orders of the shop, sent to other partitions than their keys'."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._sent: dict[tuple[str, int, int], Asked] = {}
        self._producer = Producer(
            {
                "bootstrap.servers": world.settings.kafka_bootstrap,
                "acks": "all",
                "enable.idempotence": True,
                "log_level": 0,
            }
        )

    def send(self, shop: Shop) -> None:
        """Send some orders; returns when the brokers have acknowledged them."""
        for _ in range(self._world.chance.randrange(1, _STRAYS_MAX)):
            asked = shop.invoice()
            key, partitions = asked.order_id.encode(), self._world.partitions
            partition = (partition_of(key, partitions) + self._world.chance.randrange(1, partitions)) % partitions
            self._producer.produce(
                INVOICE_REQUESTS.name,
                invoice_request(asked.bodies[0]),
                key,
                partition,
                on_delivery=partial(self._delivered, asked),
            )
            self._world.timeline.count("an order in a wrong partition")
        if self._producer.flush(_FLUSH_S):
            self._world.found.append("the brokers did not acknowledge orders in wrong partitions")

    def _delivered(self, asked: Asked, error: object, message: Message) -> None:
        if error is None:
            origin = (INVOICE_REQUESTS.name, message.partition() or 0, message.offset() or 0)
            self._sent[origin] = asked
            self._world.record.garbage.add(origin)

    def note_redriven(self) -> None:
        """Record each order as promised, because it was redriven."""
        for origin, asked in self._sent.items():
            self._world.record.answer(asked, 202, {})
            self._world.record.redriven[origin] = asked.order_id
        if not self._sent:
            self._world.found.append("nothing was sent again: nothing was tried")
