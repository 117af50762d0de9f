"""Records that no gateway would send, on every topic that an agent reads: poison, bombs and transactions."""

import asyncio
import contextlib
import struct
import time
from collections.abc import Mapping, Sequence
from typing import Any

import psutil
from confluent_kafka import Message, Producer

from chaos.memory import family_mb
from chaos.scenario import Ground, scenario
from chaos.traffic import Shop
from chaos.world import RATE, World
from producers.generate import body as invoice_body
from runtime.roles import READERS
from schemas.catalog import (
    CHECKOUT_REQUESTS,
    INVOICE_REQUEST,
    INVOICE_REQUESTS,
    ORDER_COMMANDS,
    PAYMENT_NOTICES,
    VERSIONS,
    Schema,
    Topic,
)
from schemas.codec import encode
from schemas.placement import partition_of

#: Ordinary requests continue, at this rate.
_RATE = RATE / 2
_FLUSH_S = 30.0
#: Shares of the turns: transactions, and valid requests in a wrong partition.
_TRANSACTIONS_SHARE = 0.15
_STRAYS_SHARE = 0.1
#: Share of poison with a key that is sent to the key's own partition, where only its content is wrong.
_AT_HOME_SHARE = 0.5
#: Order numbers from here on belong to aborted transactions.
_NEVER_ASKED = 10**6
_MESSAGE_BYTES_MAX = 5 * 1024 * 1024
_WRITTEN_ON = Ground(single_use=True)
#: More partitions, since wrong ones matter here and this scenario shares its stack with no other.
_SPREAD = Ground(single_use=True, partitions=16)
_TOPICS = tuple(dict.fromkeys(topic for topics in READERS.values() for topic in topics))
#: Topics that storefronts with access to Kafka may write to.
_OPEN = frozenset(topic.name for topic in (CHECKOUT_REQUESTS, ORDER_COMMANDS, INVOICE_REQUESTS, PAYMENT_NOTICES))
#: How much a process may grow under bombs: a record of 2 MiB takes about ten times as much decoded.
_GROWTH_MB_MAX = 150


@scenario(
    15,
    "poison pill, tombstone, unknown schema, truncated Avro",
    "a dead letter with its origin; only that record stops",
    _SPREAD,
)
async def poison(world: World) -> None:
    """Poison on every topic that an agent reads, between valid records of the gateway and of transactions."""
    producer = _Producer(world)
    async with world.traffic(_RATE) as traffic:
        merchant = _Merchant(world, traffic.shop)
        # Once on each topic, whatever is drawn later, and however few turns a busy machine has time for.
        for topic in _TOPICS:
            kind, value = _poison(world)
            producer.send(topic.name, value, kind)
        async for _ in world.turns(0.05, 0.3):
            if world.chance.random() < _TRANSACTIONS_SHARE:
                await merchant.transact()
                continue
            if world.chance.random() < _STRAYS_SHARE:
                producer.stray()
                continue
            topic = world.chance.choice(_TOPICS)
            kind, value = _poison(world)
            producer.send(topic.name, value, kind)
        await asyncio.to_thread(producer.flush)


@scenario(23, "Avro bomb on any topic", "refused within its size bound; the process stays alive", _WRITTEN_ON)
async def bombs(world: World) -> None:
    """Small records that claim to contain gigabytes, and records as large as the topic accepts."""
    producer = _Producer(world)
    pids = world.pids()
    before = _memory_mb(pids)
    async with world.traffic(_RATE):
        for topic in _TOPICS:
            producer.send(topic.name, _bomb(world, topic), "bomb")
        async for _ in world.turns(0.05, 0.3):
            topic = world.chance.choice(_TOPICS)
            producer.send(topic.name, _bomb(world, topic), "bomb")
        await asyncio.to_thread(producer.flush)
    world.check_alive(pids)
    for name, after in _memory_mb(pids).items():
        world.measured[f"{name} grew by MB"] = after - before[name]
        if after - before[name] > _GROWTH_MB_MAX:
            world.found.append(f"{name} grew by {after - before[name]:.0f} MB under bombs")


class _Producer:
    """Sends records that no gateway would, and records their offsets."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._producer = Producer(
            {
                "bootstrap.servers": world.settings.kafka_bootstrap,
                "acks": "all",
                "enable.idempotence": True,
                "message.max.bytes": _MESSAGE_BYTES_MAX,
                "log_level": 0,
            }
        )

    def stray(self) -> None:
        """Send a valid request to another partition than its key's."""
        order_id = f"{self._world.prefix}-STRAY-{self._world.chance.randrange(10**9)}"
        key = order_id.encode()
        partitions = self._world.partitions
        partition = (partition_of(key, partitions) + self._world.chance.randrange(1, partitions)) % partitions
        payload = invoice_request(invoice_body(order_id, self._world.chance))
        self._produce(INVOICE_REQUESTS.name, key, payload, partition, "an order in a wrong partition")

    def send(self, topic: str, value: bytes | None, kind: str) -> None:
        """Send to a random partition, or to the key's own, so that both place and content are tested."""
        key = self._world.chance.choice((b"garbage", b"", None, b"\xff\xfe"))
        partition = self._world.chance.randrange(self._world.partitions)
        if key is not None and self._world.chance.random() < _AT_HOME_SHARE:
            partition = partition_of(key, self._world.partitions)
        self._produce(topic, key, value, partition, kind)

    def _produce(self, topic: str, key: bytes | None, value: bytes | None, partition: int, kind: str) -> None:
        def delivered(error: object, message: Message) -> None:
            if error is None:
                record = self._world.record
                noted = record.garbage if topic in _OPEN else record.forged
                noted.add((topic, message.partition() or 0, message.offset() or 0))

        self._producer.produce(topic, value, key, partition, on_delivery=delivered)
        self._producer.poll(0)
        self._world.timeline.count(f"{kind} on {topic}")

    def flush(self) -> None:
        """Wait for the brokers' acknowledgements."""
        if self._producer.flush(_FLUSH_S):
            self._world.found.append("the brokers did not acknowledge the garbage")
        record = self._world.record
        self._world.timeline.note(
            f"{len(record.garbage)} invalid records, and {len(record.forged)} on topics that only the relay writes to"
        )
        if not (record.garbage and record.forged):
            self._world.found.append("no garbage was sent, so nothing was tested")


class _Merchant:
    """A storefront that writes to Kafka directly, with several orders in one transaction."""

    def __init__(self, world: World, shop: Shop) -> None:
        self._world = world
        self._shop = shop
        self._aborted = 0
        self._producer = Producer(
            {
                "bootstrap.servers": world.settings.kafka_bootstrap,
                "transactional.id": f"{world.prefix}-merchant",
                "partitioner": "murmur2_random",
                "log_level": 0,
            }
        )
        self._producer.init_transactions(_FLUSH_S)

    async def transact(self) -> None:
        """Commit some orders in a transaction, or abort it: then none of them was requested."""
        count = self._world.chance.randrange(1, 6)
        if self._world.chance.random() < 0.5:
            asked = [self._shop.invoice() for _ in range(count)]
            await asyncio.to_thread(self._send, [each.bodies[0] for each in asked], commits=True)
            for each in asked:
                self._shop.record.answer(each, 202, {})
            self._world.timeline.count("a transaction committed")
            return
        # Unused ids of this run: if one of them got an invoice, the judge would find that it was never requested.
        self._aborted += count
        first = _NEVER_ASKED + self._aborted
        bodies = [
            invoice_body(f"{self._shop.prefix}-I-{number}", self._world.chance)
            for number in range(first, first + count)
        ]
        await asyncio.to_thread(self._send, bodies, commits=False)
        self._world.timeline.count("a transaction aborted")

    def _send(self, bodies: Sequence[Mapping[str, Any]], *, commits: bool) -> None:
        self._producer.begin_transaction()
        for body in bodies:
            self._producer.produce(INVOICE_REQUESTS.name, invoice_request(body), body["order_id"].encode())
        # Written before the abort; otherwise the test would test nothing.
        if self._producer.flush(_FLUSH_S):
            raise RuntimeError("the brokers did not acknowledge the records of a transaction")
        if commits:
            self._producer.commit_transaction(_FLUSH_S)
        else:
            self._producer.abort_transaction(_FLUSH_S)


def invoice_request(body: Mapping[str, Any]) -> bytes:
    """A body of `POST /v1/invoices`, encoded as the gateway does for the local stack's seller."""
    buyer = {"vat_id": None, "email": None, **body["buyer"]}
    fields = {"received_at": time.time_ns() // 1000, "seller_id": "demo", "kind": "invoice", "note": None}
    # Unchecked: the agent must find what is wrong with it.
    schema: Schema[Any] = INVOICE_REQUEST
    return encode(schema, {**fields, **body, "buyer": buyer})


def _poison(world: World) -> tuple[str, bytes | None]:
    chance = world.chance
    known = chance.choice(list(VERSIONS))
    return chance.choice(
        (
            ("tombstone", None),
            ("random bytes", chance.randbytes(chance.randrange(0, 300))),
            ("unknown schema", struct.pack(">bI", 0, 999_999) + chance.randbytes(40)),
            ("a known schema's id, then noise", struct.pack(">bI", 0, known) + b"\xff" * chance.randrange(1, 60)),
            ("truncated", struct.pack(">bI", 0, known) + b"\x06abc"),
            ("another magic", b"\x01" + chance.randbytes(20)),
            ("JSON", b'{"order_id": "A-1"}'),
        )
    )


def _bomb(world: World, topic: Topic) -> bytes:
    """A record that claims far more than it contains: whichever field is first is too long, or the last is missing."""
    chance = world.chance
    head = struct.pack(">bI", 0, chance.choice(topic.schemas).newest.schema_id)
    most = topic.value_bytes_max - 100
    size = min(chance.choice((16, 1_000, 30_000, 200_000, most)), most)
    huge = chance.choice((2**31 - 1, 2**40, 2**62))
    filling = chance.choice(
        (
            _varint(huge),
            # Short strings, and then an array of a hundred million elements.
            b"\x02a" * chance.randrange(1, 12) + _varint(100_000_000),
            _varint(-huge) + _varint(huge),
            b"\x00" * size,
            b"\x02" * size,
            b"\x02a" * (size // 2),
        )
    )
    return (head + filling)[:size] + b"\xff" * 3


def _varint(value: int) -> bytes:
    zigzag = (value << 1) ^ (value >> 63)
    zigzag &= 2**64 - 1
    out = bytearray()
    while zigzag > 0x7F:
        out.append(zigzag & 0x7F | 0x80)
        zigzag >>= 7
    out.append(zigzag)
    return bytes(out)


def _memory_mb(pids: Mapping[str, int | None]) -> dict[str, float]:
    sizes = {}
    for name, pid in pids.items():
        # A process that has died is reported by `check_alive`.
        with contextlib.suppress(psutil.Error, OSError):
            sizes[name] = family_mb(pid) if pid is not None else 0.0
    return sizes
