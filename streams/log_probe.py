"""Asks the log itself what it holds, past everything that a worker has buffered."""

import asyncio
from collections.abc import Awaitable, Callable

from confluent_kafka import Consumer, KafkaException, TopicPartition

_TIMEOUT_S = 30.0


def make_log_probe(bootstrap: str) -> Callable[[str, int, int], Awaitable[tuple[int, int]]]:
    """`probe(topic, partition, offset) -> (offset of the first record at or after it, the log's start)`."""

    async def probe(topic: str, partition: int, offset: int) -> tuple[int, int]:
        return await asyncio.to_thread(_probe, bootstrap, topic, partition, offset)

    return probe


def _probe(bootstrap: str, topic: str, partition: int, offset: int) -> tuple[int, int]:
    """Raises `KafkaException`, or `TimeoutError` where the log has nothing at or after `offset`."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            # Required by the client, joined by nobody: partitions are assigned, nothing is committed.
            "group.id": "gapless-log-probe",
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
        }
    )
    try:
        start, _ = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=_TIMEOUT_S)
        consumer.assign([TopicPartition(topic, partition, max(offset, start))])
        message = consumer.poll(_TIMEOUT_S)
        if message is None:
            raise TimeoutError(f"{topic}/{partition} gave no record from {offset} on within {_TIMEOUT_S} s")
        error = message.error()
        if error is not None:
            raise KafkaException(error)
        found = message.offset()
        if found is None:
            raise TimeoutError(f"{topic}/{partition} gave a record without an offset")
        return found, start
    finally:
        consumer.close()
