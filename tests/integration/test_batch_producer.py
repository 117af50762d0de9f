"""The producer that packs partitions, with a real broker."""

import asyncio
import os
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer
from confluent_kafka import Consumer, Message, TopicPartition

from runtime.batch_producer import BatchProducer, Record, RefusedError
from runtime.kafka import TopicSpec, end_offsets, ensure_topics
from tests.conftest import Services

PARTITIONS = 8


@pytest.fixture
def topic(services: Services) -> str:
    """A topic of the test's own."""
    name = f"b-{uuid4().hex}"
    ensure_topics(services.kafka_bootstrap, [TopicSpec(name, PARTITIONS, {"max.message.bytes": "1000000"})], 1)
    end_offsets(services.kafka_bootstrap, [(name, partition) for partition in range(PARTITIONS)])
    return name


@pytest.fixture(params=[False, True], ids=["plain", "gzip"])
async def producer(services: Services, request: pytest.FixtureRequest) -> AsyncIterator[BatchProducer]:
    made = BatchProducer(services.kafka_bootstrap, is_compressed=request.param)
    yield made
    await made.close()


def read(services: Services, topic: str, count: int) -> list[Message]:
    """The first `count` records of partition 0."""
    consumer = Consumer({"bootstrap.servers": services.kafka_bootstrap, "group.id": "reader"})
    consumer.assign([TopicPartition(topic, 0, 0)])
    found: list[Message] = []
    while len(found) < count:
        found += consumer.consume(count - len(found), 10)
    consumer.close()
    return found


async def test_records_arrive_in_order_whatever_batches_they_take(
    producer: BatchProducer, services: Services, topic: str
) -> None:
    """One record more than a batch may hold, and one that is larger than a batch, among them."""
    sizes = [10] * 50 + [300_000] + [5_000] * 80
    values = [b"%06d" % number + bytes(size) for number, size in enumerate(sizes)]
    records = [Record(b"k%d" % number, value, [("seq", b"%d" % number)]) for number, value in enumerate(values)]
    assert await producer.send(topic, 0, records) == 0
    found = await asyncio.to_thread(read, services, topic, len(values))
    assert [message.value() for message in found] == values
    assert [message.key() for message in found] == [record.key for record in records]
    assert [message.headers() for message in found] == [record.headers for record in records]
    assert await producer.send(topic, 0, [Record(None, b"one more")]) == len(values)


async def test_partitions_that_are_due_together_share_a_request(
    services: Services, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it is for: a request costs a broker more than the records in it."""
    producer = BatchProducer(services.kafka_bootstrap)
    requests = []
    try:
        await producer.send(topic, 0, [Record(b"k", b"first: it connects")])
        made = producer._producer
        assert isinstance(made, AIOKafkaProducer)
        send = made.client.send

        async def counted(node: int, request: object, **options: object) -> object:
            requests.append(request)
            return await send(node, request, **options)

        monkeypatch.setattr(made.client, "send", counted)
        await asyncio.gather(*(producer.send(topic, each, [Record(b"k", b"v")]) for each in range(PARTITIONS)))
    finally:
        await producer.close()
    ends = await asyncio.to_thread(end_offsets, services.kafka_bootstrap, [(topic, each) for each in range(PARTITIONS)])
    assert sum(ends.values()) == PARTITIONS + 1
    assert len(requests) <= 2


async def test_what_the_topic_does_not_take_is_refused(producer: BatchProducer, topic: str) -> None:
    with pytest.raises(RefusedError, match="MessageSizeTooLarge"):
        await producer.send(topic, 0, [Record(b"k", os.urandom(2_000_000))])


async def test_it_waits_for_a_topic_that_is_made_later(producer: BatchProducer, services: Services) -> None:
    name = f"later-{uuid4().hex}"
    sending = asyncio.create_task(producer.send(name, 0, [Record(b"k", b"v")]))
    done, _ = await asyncio.wait({sending}, timeout=1.0)
    assert not done
    await asyncio.to_thread(ensure_topics, services.kafka_bootstrap, [TopicSpec(name, 1, {})], 1)
    assert await sending == 0


async def test_without_a_broker_it_waits_and_can_be_ended() -> None:
    producer = BatchProducer("127.0.0.1:1")
    sending = asyncio.create_task(producer.send("t", 0, [Record(b"k", b"v")]))
    done, _ = await asyncio.wait({sending}, timeout=0.7)
    assert not done
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    await producer.close()
