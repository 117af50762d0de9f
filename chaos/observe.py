"""Observations from outside during faults: positions, metrics, topics, and the answers to single requests."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
import psycopg
from confluent_kafka import Consumer, KafkaException, TopicPartition

from chaos.record import Asked
from chaos.traffic import Shop
from chaos.world import World
from schemas.catalog import OUTPUT_TOPICS, SEQ_HEADER

_TIMEOUT_S = 10.0
_POLL_S = 0.05
#: When a probe's client gives up; longer than the gateway takes to refuse.
_PATIENCE_S = 15.0


def positions(world: World, agent: str) -> dict[tuple[str, int], int]:
    """An agent's positions, by topic and partition; empty while Postgres is unavailable. Blocks."""
    try:
        with psycopg.connect(world.postgres_url, connect_timeout=2) as connection:
            rows = connection.execute(
                "SELECT topic, partition, next_offset FROM positions WHERE agent = %s", (agent,)
            ).fetchall()
    except psycopg.OperationalError:
        return {}
    return {(topic, partition): offset for topic, partition, offset in rows}


def numbers(world: World) -> dict[str, int]:
    """The next number of each series; empty while Postgres is unavailable. Blocks."""
    try:
        with psycopg.connect(world.postgres_url, connect_timeout=2) as connection:
            return dict(connection.execute("SELECT series_id, next_number FROM series").fetchall())
    except psycopg.OperationalError:
        return {}


def all_moved(
    before: Mapping[tuple[str, int], int], after: Mapping[tuple[str, int], int], topic: str, partitions: int
) -> bool:
    """Whether the position of each of a topic's partitions has moved between `before` and `after`."""
    return all(after.get((topic, each), 0) > before.get((topic, each), 0) for each in range(partitions))


def batches(world: World, name: str, standing: str) -> int:
    """The batches of a worker with this standing since it started; 0 while it is unavailable. Blocks."""
    told = world.metrics(name)
    return int(sum(value for metric, value in told.items() if _counts(metric, standing)))


def _counts(metric: str, standing: str) -> bool:
    return metric.startswith("gapless_batches_total{") and f'standing="{standing}"' in metric


def ends(world: World) -> dict[tuple[str, int], int]:
    """The end of every partition of the relay's topics. Blocks; raises `KafkaException`."""
    consumer = _consumer(world)
    try:
        return {
            (topic.name, partition): consumer.get_watermark_offsets(TopicPartition(topic.name, partition), _TIMEOUT_S)[
                1
            ]
            for topic in OUTPUT_TOPICS
            for partition in range(world.partitions)
        }
    finally:
        consumer.close()


def repeats(world: World, since: Mapping[tuple[str, int], int]) -> int:
    """The number of records that the relay has repeated since those ends. Blocks."""
    until = ends(world)
    consumer = _consumer(world)
    count = 0
    try:
        for (topic, partition), first in since.items():
            end = until[topic, partition]
            if end <= first:
                continue
            consumer.assign([TopicPartition(topic, partition, first)])
            last_seq = 0
            offset = first - 1
            give_up_at = time.monotonic() + _TIMEOUT_S
            while offset < end - 1 and time.monotonic() < give_up_at:
                message = consumer.poll(1.0)
                if message is None or message.error() is not None:
                    continue
                offset = message.offset() or 0
                seq = int(dict(message.headers() or [])[SEQ_HEADER] or 0) if message.headers() else 0
                # Records without a seq are not the relay's.
                count += 0 < seq <= last_seq
                last_seq = max(last_seq, seq)
    finally:
        consumer.close()
    return count


def _consumer(world: World) -> Consumer:
    config = {"bootstrap.servers": world.settings.kafka_bootstrap, "group.id": "gapless-chaos", "log_level": 0}
    return Consumer({**config, "enable.auto.commit": False, "isolation.level": "read_committed"})


@dataclass(frozen=True, slots=True)
class Seen:
    """The answer to a request that was sent once."""

    at: float
    seconds: float
    status: int
    retry_after: str | None


class Probe:
    """Posts new invoices at a rate, each once, and records how clients that do not retry are answered, and when."""

    def __init__(self, world: World, rate: float) -> None:
        self._world = world
        self._rate = rate
        self._shop = Shop(random.Random(f"{world.seed}/probe"), world.record, f"{world.prefix}-P")
        self._running: set[asyncio.Task[None]] = set()
        self.seen: list[Seen] = []

    def since(self, moment: float, until: float | None = None) -> list[Seen]:
        """Answers to requests that were made between two moments of the monotonic clock."""
        return [each for each in self.seen if moment <= each.at - each.seconds and (until is None or each.at <= until)]

    async def run(self, session: aiohttp.ClientSession) -> None:
        """Post until cancelled."""
        while True:
            task = asyncio.create_task(self._one(session, self._shop.invoice()))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
            await asyncio.sleep(1 / self._rate)

    async def finish(self) -> None:
        """Return when each request has an answer or was given up."""
        await asyncio.gather(*self._running)

    async def _one(self, session: aiohttp.ClientSession, asked: Asked) -> None:
        began = time.monotonic()
        headers = {"Authorization": f"Bearer {self._world.api_key}"}
        try:
            async with session.post(
                f"{self._world.url}/v1/invoices", json=asked.bodies[0], headers=headers
            ) as response:
                body = await response.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError):
            self._world.record.unanswered += 1
            return
        now = time.monotonic()
        self._world.record.answer(asked, response.status, body)
        self.seen.append(Seen(now, now - began, response.status, response.headers.get("Retry-After")))


@asynccontextmanager
async def probing(world: World, rate: float = 10.0) -> AsyncIterator[Probe]:
    """Run a probe while the block runs. Reports refusals without `Retry-After`."""
    probe = Probe(world, rate)
    timeout = aiohttp.ClientTimeout(total=_PATIENCE_S)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        asking = asyncio.create_task(probe.run(session))
        try:
            yield probe
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            await probe.finish()
    if silent := [each for each in probe.seen if each.status in (429, 503) and not (each.retry_after or "").isdigit()]:
        world.found.append(f"{len(silent)} answers were 429 or 503 without Retry-After")
    if odd := sorted({each.status for each in probe.seen} - {200, 202, 429, 503}):
        world.found.append(f"new invoices were answered with {odd}")


async def settled_ends(world: World) -> dict[tuple[str, int], int]:
    """`ends`, retried until the broker answers."""
    while True:
        try:
            return await asyncio.to_thread(ends, world)
        except KafkaException:
            await asyncio.sleep(0.2)


async def comes(condition: Callable[[], bool], seconds_max: float) -> bool:
    """Wait for `condition`; returns whether it held in time. Neither result is a violation."""
    give_up_at = time.monotonic() + seconds_max
    while not await asyncio.to_thread(condition):
        if time.monotonic() > give_up_at:
            return False
        await asyncio.sleep(_POLL_S)
    return True
