"""Asks the log itself what it holds, past everything that a worker has buffered."""

import asyncio
from collections.abc import Awaitable, Callable

# Not librdkafka: it waits until moments of the wall clock, and one that is set back an hour holds it for an hour.
from aiokafka import AIOKafkaConsumer, TopicPartition

_TIMEOUT_S = 30.0


def make_log_probe(bootstrap: str) -> Callable[[str, int, int], Awaitable[tuple[int, int]]]:
    """`probe(topic, partition, offset) -> (offset of the first committed record at or after it, the log's start)`.

    Control records and what was aborted are holes of the log's own; an open transaction is none, for nothing behind it
    is committed. Raises `aiokafka.errors.KafkaError`, or `TimeoutError` where the log has nothing at or after `offset`.
    """

    async def probe(topic: str, partition: int, offset: int) -> tuple[int, int]:
        at = TopicPartition(topic, partition)
        # In no group, so that nothing is committed: partitions are assigned.
        consumer = AIOKafkaConsumer(
            bootstrap_servers=bootstrap,
            group_id=None,
            auto_offset_reset="none",
            isolation_level="read_committed",
        )
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                await consumer.start()
                consumer.assign([at])
                start = (await consumer.beginning_offsets([at]))[at]
                consumer.seek(at, max(offset, start))
                record = await consumer.getone(at)
        finally:
            await consumer.stop()
        return record.offset, start

    return probe


async def log_end(bootstrap: str, topic: str, partition: int) -> int:
    """The offset that the next record will have, open transactions included.

    Raises `aiokafka.errors.KafkaError` or `TimeoutError`.
    """
    at = TopicPartition(topic, partition)
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, group_id=None, isolation_level="read_uncommitted")
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            await consumer.start()
            return int((await consumer.end_offsets([at]))[at])
    finally:
        await consumer.stop()
