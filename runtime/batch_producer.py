"""Sends batches of records to Kafka, those of many partitions together in one request to each broker.

librdkafka sends each partition's records in a request of its own, which a broker takes as long over as over dozens of
records: one record for each of 48 partitions cost it six times the CPU (docs/adr/0004).
"""

import asyncio
import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.codec import gzip_encode
from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record._crecords import default_records

from runtime.outages import KAFKA

#: aiokafka compresses at level 9, which takes ten times as long as 1, to save a tenth more.
default_records.gzip_encode = functools.partial(gzip_encode, compresslevel=1)

#: Batches are smaller, so that each topic takes them; a larger record has one of its own, and must be below the topic's
#: `max.message.bytes`.
_BATCH_BYTES_MAX = 192 * 1024
#: Smaller batches gain little by compression, which costs as much for a batch of one record as for one of ten.
_COMPRESSED_BYTES_MIN = 4 * 1024
#: A broker that does not answer for so long is asked again.
_REQUEST_MS = 5_000
_CONNECT_PAUSE_S = 0.25
_NOT_COMPRESSED, _GZIP = 0, 1


class RefusedError(Exception):
    """The brokers refuse the records for good, or the producer can't go on: make another one."""


class Record(NamedTuple):
    """A record to send; `headers` are names and values."""

    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()


class BatchProducer:
    """Sends batches until all in-sync replicas have them, each once; retries for ever. Belongs to one event loop."""

    def __init__(self, bootstrap: str, *, client_id: str = "gapless", is_compressed: bool = False) -> None:
        """Connects on first use. `is_compressed` compresses with gzip what is worth it."""
        self._bootstrap = [each.strip() for each in bootstrap.split(",")]
        self._client_id = client_id
        self._codec = _GZIP if is_compressed else _NOT_COMPRESSED
        self._producer: AIOKafkaProducer | None = None
        self._connecting = asyncio.Lock()

    async def send(self, topic: str, partition: int, records: Sequence[Record]) -> int:
        """Send the records; return the first one's offset once all in-sync replicas have all of them.

        One call at a time for each partition. Raises `RefusedError`; then some of the records may be in the log.
        Records of a call that is cancelled may still be sent.
        """
        producer = self._producer or await self._connect()
        first: int | None = None
        for batch in self._batches(records):
            offset = await self._send_batch(producer, batch, topic, partition)
            first = offset if first is None else first
        if first is None:
            raise ValueError("no records")
        return first

    async def close(self) -> None:
        """End the connections. What is under way may be sent or not."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await _stop(producer)

    async def _send_batch(self, producer: AIOKafkaProducer, batch: BatchBuilder, topic: str, partition: int) -> int:
        while True:
            try:
                acknowledged = await producer.send_batch(batch, topic, partition=partition)
            except UnknownTopicOrPartitionError as error:
                # Nothing was queued: a topic that is about to be made.
                KAFKA.failed(error)
                continue
            except KafkaError as error:
                raise RefusedError(f"{type(error).__name__}: {error}") from error
            break
        try:
            sent = await acknowledged
        except KafkaError as error:
            raise RefusedError(f"{type(error).__name__}: {error}") from error
        KAFKA.answered()
        return int(sent.offset)

    def _batches(self, records: Sequence[Record]) -> list[BatchBuilder]:
        sizes = [len(record.key or b"") + len(record.value or b"") for record in records]
        codec = self._codec if sum(sizes) >= _COMPRESSED_BYTES_MIN else _NOT_COMPRESSED
        batches: list[BatchBuilder] = []
        for record in records:
            if not batches or not _append(batches[-1], record):
                batches.append(BatchBuilder(_BATCH_BYTES_MAX, codec))
                if not _append(batches[-1], record):
                    raise ValueError("a batch does not take its first record")
        return batches

    async def _connect(self) -> AIOKafkaProducer:
        async with self._connecting:
            while self._producer is None:
                producer = AIOKafkaProducer(
                    bootstrap_servers=self._bootstrap,
                    client_id=self._client_id,
                    acks="all",
                    enable_idempotence=True,
                    request_timeout_ms=_REQUEST_MS,
                )
                # For ever: given up while a later one goes through, a batch would be a hole in the topic.
                producer._message_accumulator._batch_ttl = math.inf
                try:
                    await producer.start()
                except (KafkaError, OSError) as error:
                    KAFKA.failed(error)
                    await _stop(producer)
                    await asyncio.sleep(_CONNECT_PAUSE_S)
                except BaseException:
                    await _stop(producer)
                    raise
                else:
                    self._producer = producer
            return self._producer


def _append(batch: BatchBuilder, record: Record) -> bool:
    """Whether the batch had room for it."""
    metadata: Any = batch.append(timestamp=None, key=record.key, value=record.value, headers=list(record.headers))
    return metadata is not None


async def _stop(producer: AIOKafkaProducer) -> None:
    """End it without waiting for what is under way, for which it would wait for ever."""
    producer._closed = True
    await producer._sender.close()
    await producer.client.close()
