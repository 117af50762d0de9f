"""Records that no gateway would send, on every topic that an agent reads: poison and bombs."""

import asyncio
import contextlib
import struct
from collections.abc import Mapping

import psutil
from confluent_kafka import Message, Producer

from chaos.memory import family_mb
from chaos.scenario import Ground, scenario
from chaos.world import RATE, World
from schemas.catalog import (
    CHECKOUT_REQUESTS,
    INVOICE_REQUESTS,
    ORDER_COMMANDS,
    PARTITIONS,
    PAYMENT_NOTICES,
    READERS,
    SCHEMAS,
)

#: Beside what is hostile, the shop goes on.
_RATE = RATE / 2
_FLUSH_S = 30.0
_MESSAGE_BYTES_MAX = 5 * 1024 * 1024
_WRITTEN_ON = Ground(single_use=True)
_TOPICS = tuple(dict.fromkeys(topic for topics in READERS.values() for topic in topics))
#: Storefronts that have Kafka may write there.
_OPEN = frozenset(topic.name for topic in (CHECKOUT_REQUESTS, ORDER_COMMANDS, INVOICE_REQUESTS, PAYMENT_NOTICES))
#: What a process may grow by under a shower of bombs: a record of 2 MiB decodes to some ten times as much.
_GROWTH_MB_MAX = 150


@scenario(
    15,
    "poison pill, tombstone, unknown schema, truncated Avro",
    "a dead letter with its origin; only that record stops",
    _WRITTEN_ON,
)
async def poison(world: World) -> None:
    """On every topic that an agent reads, between the shop's own records."""
    producer = _Producer(world)
    async with world.traffic(_RATE):
        async for _ in world.turns(0.05, 0.3):
            topic = world.chance.choice(_TOPICS)
            kind, value = _poison(world)
            producer.send(topic.name, value, kind)
        await asyncio.to_thread(producer.flush)


@scenario(23, "Avro bomb on any topic", "refused within its size bound; the process lives", _WRITTEN_ON)
async def bombs(world: World) -> None:
    """Few bytes that claim to be gigabytes, and as many as the topic takes."""
    producer = _Producer(world)
    pids = world.pids()
    before = _memory_mb(pids)
    async with world.traffic(_RATE):
        async for _ in world.turns(0.05, 0.3):
            topic = world.chance.choice(_TOPICS)
            schema = world.chance.choice(topic.schemas)
            size = world.chance.choice((16, 1_000, 30_000, 200_000, topic.value_bytes_max - 100))
            producer.send(topic.name, _bomb(world, schema.schema_id, min(size, topic.value_bytes_max - 100)), "bomb")
        await asyncio.to_thread(producer.flush)
    world.check_alive(pids)
    for name, after in _memory_mb(pids).items():
        world.measured[f"{name} grew by MB"] = after - before[name]
        if after - before[name] > _GROWTH_MB_MAX:
            world.found.append(f"{name} grew by {after - before[name]:.0f} MB under bombs")


class _Producer:
    """Sends what no gateway would, and notes where the brokers have it."""

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

    def send(self, topic: str, value: bytes | None, kind: str) -> None:
        """Into any partition."""

        def delivered(error: object, message: Message) -> None:
            if error is None:
                record = self._world.record
                noted = record.garbage if topic in _OPEN else record.forged
                noted.add((topic, message.partition() or 0, message.offset() or 0))

        partition = self._world.chance.randrange(PARTITIONS)
        key = self._world.chance.choice((b"garbage", b"", None, b"\xff\xfe"))
        self._producer.produce(topic, value, key, partition, on_delivery=delivered)
        self._producer.poll(0)
        self._world.timeline.count(f"{kind} on {topic}")

    def flush(self) -> None:
        """Wait for the brokers."""
        if self._producer.flush(_FLUSH_S):
            self._world.found.append("the brokers did not take what was to be garbage")
        record = self._world.record
        self._world.timeline.note(
            f"{len(record.garbage)} records that are no requests, and {len(record.forged)} where only the relay writes"
        )
        if not (record.garbage and record.forged):
            self._world.found.append("no garbage was sent: nothing was tried")


def _poison(world: World) -> tuple[str, bytes | None]:
    chance = world.chance
    known = chance.choice(list(SCHEMAS))
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


def _bomb(world: World, schema_id: int, size: int) -> bytes:
    """Claims far more than it holds; whichever field comes first, it is far too long, or the last is missing."""
    head = struct.pack(">bI", 0, schema_id)
    chance = world.chance
    huge = chance.choice((2**31 - 1, 2**40, 2**62))
    filling = chance.choice(
        (
            _varint(huge),
            # Short strings, then whatever comes is an array of a hundred million.
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
        # Who has died is found wrong by its pid.
        with contextlib.suppress(psutil.Error, OSError):
            sizes[name] = family_mb(pid) if pid is not None else 0.0
    return sizes
