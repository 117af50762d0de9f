"""A small real shop with orders of every kind, drained, for the judge; and ways to damage it."""

import asyncio
import copy
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from confluent_kafka import Message, Producer

from chaos.drain import Drain
from chaos.judge import ledger
from chaos.judge.evidence import Evidence, connect, gather
from chaos.judge.judge import weigh
from chaos.judge.verdict import Access, Verdict
from chaos.record import Commanded, Record
from chaos.run import standing
from chaos.scenario import Ground
from chaos.shelf import selling
from chaos.traffic import Traffic
from chaos.world import World
from producers.client import GaplessClient, GatewayAnswer

DRAIN_SECONDS_MAX = 180.0
_WAIT_S = 20
#: Enough orders of every kind for rules about counts.
_RATE = 25.0
_LOAD_S = 2.0


@dataclass(frozen=True)
class Shop:
    """What was sold, what customers were told, and the evidence after draining."""

    access: Access
    record: Record
    evidence: Evidence
    #: Order ids, by what became of them.
    orders: dict[str, str]

    def damaged(self, *statements: str) -> Verdict:
        """The judge's verdict after the statements have changed the ledger, which is then rolled back.

        `{confirmed}` and the like in a statement is replaced by the id of such an order.
        """
        with connect(self.access) as connection:
            connection.read_only = False
            # Without foreign keys and triggers, which would prevent the damage.
            connection.execute("SET LOCAL session_replication_role = replica")
            for statement in statements:
                changed = connection.execute(statement.format(**self.orders).encode()).rowcount
                assert changed > 0, f"changes nothing: {statement}"
            damaged = ledger.read(connection, self.access.api_key)
            connection.rollback()
        return weigh(replace(self.evidence, ledger=damaged, verdict=Verdict()))

    def otherwise(self, change: Callable[[Evidence], None]) -> Verdict:
        """The judge's verdict on a copy of the evidence that `change` has changed."""
        evidence = copy.deepcopy(self.evidence)
        change(evidence)
        return weigh(evidence)

    def produce(self, topic: str, value: bytes, **headers: bytes) -> tuple[str, int, int]:
        """Write a record as another producer could; returns its topic, partition and offset."""
        return produce(self.access.kafka_bootstrap, topic, value, **headers)


@contextmanager
def shop() -> Iterator[Shop]:
    """A shop on a stack of its own, which runs until the end of the tests."""
    with standing(Ground(workers={})) as made:
        world = World(made, "judged", 1, _LOAD_S, lambda _: None)
        orders = asyncio.run(_sell(world))
        drain = Drain(world.postgres_url, world.settings.kafka_bootstrap, world.partitions)
        assert asyncio.run(world.until(drain.done, "everything is drained", DRAIN_SECONDS_MAX)), drain.left
        settings = world.settings
        provider_url = settings.provider_url or ""
        access = Access(world.url, world.api_key, settings.kafka_bootstrap, world.postgres_url, provider_url)
        with connect(access) as connection:
            evidence = gather(access, world.record, connection)
        yield Shop(access, world.record, evidence, orders)


def produce(bootstrap: str, topic: str, value: bytes, **headers: bytes) -> tuple[str, int, int]:
    """Write a record as another producer could; returns its topic, partition and offset."""
    places: list[tuple[str, int, int]] = []

    def keep(error: object, message: Message) -> None:
        assert error is None, error
        places.append((message.topic() or "", message.partition() or 0, message.offset() or 0))

    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all"})
    producer.produce(topic, value, headers=list(headers.items()), on_delivery=keep)
    assert producer.flush(60) == 0
    return places[0]


async def _sell(world: World) -> dict[str, str]:
    """Sell some of everything, and one order with each fate; returns the ids of the latter."""
    async with world.traffic(_RATE) as traffic:
        fates = {"confirmed": "tok_ok", "declined": "tok_decline", "shipped": "tok_ok", "refunded": "tok_ok"}
        fates |= {"cancelled": "tok_ok"}
        bought = await asyncio.gather(*(_buy(traffic, token) for token in fates.values()))
        orders = dict(zip(fates, bought, strict=True))
        invoice = traffic.shop.invoice()
        orders["invoiced"] = invoice.order_id
        await traffic.post(invoice, wait_s=_WAIT_S)
        await traffic.post(invoice, traffic.shop.conflict(invoice))
        # Amounts with cents: a drawn currency may have none.
        credited = traffic.shop.invoice(currency="EUR")
        orders["credited"] = credited.order_id
        await traffic.post(credited, wait_s=_WAIT_S)
        for credit_note_id, amount, status in (("CR-1", "0.50", 200), ("CR-2", None, 200), ("CR-3", "0.01", 409)):
            answer = await traffic.credit(credited.order_id, credit_note_id, amount)
            assert answer is not None
            assert answer.status == status, answer
        async with selling(world):
            await asyncio.sleep(_LOAD_S)
        await _command(traffic, orders["shipped"], "shipments", lambda client, order_id: client.ship(order_id))
        await _command(traffic, orders["refunded"], "shipments", lambda client, order_id: client.ship(order_id))
        await _command(traffic, orders["refunded"], "refunds", lambda client, order_id: client.refund(order_id, "R-1"))
        await _command(traffic, orders["cancelled"], "cancellations", lambda client, order_id: client.cancel(order_id))
        await asyncio.sleep(_LOAD_S)
    world.record.garbage.add(produce(world.settings.kafka_bootstrap, "checkout-requests", b"no checkout"))
    return orders


async def _buy(traffic: Traffic, token: str) -> str:
    asked = traffic.shop.checkout(token=token, sku=traffic.shop.articles[0])
    answer = await traffic.post(asked, wait_s=_WAIT_S)
    assert answer is not None
    assert answer.status == (402 if token == "tok_decline" else 201), answer
    return asked.order_id


async def _command(
    traffic: Traffic, order_id: str, what: str, send: Callable[[GaplessClient, str], Awaitable[GatewayAnswer]]
) -> None:
    commanded = Commanded(order_id, what, {"refund_id": "R-1"} if what == "refunds" else {})
    traffic.shop.record.commanded.append(commanded)
    answer = await traffic.noted(commanded, lambda: send(traffic.client, order_id))
    assert answer is not None
    assert answer.status in (200, 202), answer
