"""Publishing, and creating and checking topics, with a real broker."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from runtime import kafka
from runtime.kafka import TopicError, TopicSpec, check_topics, end_offsets, ensure_topics, start_offsets
from runtime.kafka_writable import Writability
from runtime.publisher import Delivered, NotAcknowledgedError, OverloadedError, Publisher
from schemas import catalog
from tests.conftest import PARTITIONS, Services


@pytest.fixture
def topic(services: Services) -> str:
    """A topic of the test's own, with 4 partitions."""
    name = f"k-{uuid4().hex}"
    ensure_topics(services.kafka_bootstrap, [TopicSpec(name, 4, {"max.message.bytes": "1000000"})], 1)
    end_offsets(services.kafka_bootstrap, [(name, partition) for partition in range(4)])
    return name


@pytest.fixture
async def publisher(services: Services) -> AsyncIterator[Publisher]:
    """A publisher that a busy broker keeps waiting."""
    made = Publisher(services.kafka_bootstrap, timeout_seconds=60, queued_messages_max=2_000)
    yield made
    await made.close()


def read(services: Services, topic: str, count: int) -> list[Message]:
    """The first `count` records."""
    consumer = Consumer({"bootstrap.servers": services.kafka_bootstrap, "group.id": "reader"})
    consumer.assign([TopicPartition(topic, partition, 0) for partition in range(4)])
    found: list[Message] = []
    while len(found) < count:
        found += consumer.consume(count - len(found), 10)
    consumer.close()
    return found


async def test_the_answer_says_where_the_message_stands(publisher: Publisher, services: Services, topic: str) -> None:
    """Key, value and headers are unchanged."""
    delivered = await publisher.publish(topic, b"key", b"value", headers=[("seq", b"7")])
    (message,) = await asyncio.to_thread(read, services, topic, 1)
    assert delivered == Delivered(message.partition() or 0, message.offset() or 0)
    assert (message.key(), message.value(), message.headers()) == (b"key", b"value", [("seq", b"7")])
    assert await publisher.publish(topic, b"key", b"value", partition=3) == (3, 0 + (delivered.partition == 3))


async def test_keys_are_spread_as_java_clients_do_it(publisher: Publisher, topic: str) -> None:
    """Kafka's own murmur2 of these keys, modulo 4: another client may join at any time."""
    keys = {b"A-1001": None, b"": None, b"foobar": None, "日本".encode(): None}
    for key in keys:
        delivered = await publisher.publish(topic, key, b"")
        assert delivered.partition == (_murmur2(key) & 0x7FFFFFFF) % 4


async def test_messages_of_a_partition_arrive_in_the_order_of_the_calls(
    publisher: Publisher, services: Services, topic: str
) -> None:
    """Even if the caller does not wait in between."""
    futures = [publisher.publish(topic, b"k", b"%d" % number, partition=0) for number in range(1_000)]
    assert [delivered.offset for delivered in await asyncio.gather(*futures)] == list(range(1_000))
    await publisher.drain()
    assert publisher.in_flight == 0
    found = await asyncio.to_thread(read, services, topic, 1_000)
    assert [message.value() for message in found] == [b"%d" % number for number in range(1_000)]


async def test_a_full_queue_refuses_and_takes_again_when_it_has_room(publisher: Publisher, topic: str) -> None:
    """Memory is bounded, and no accepted message is lost."""
    futures = [publisher.publish(topic, b"k", b"v") for _ in range(2_000)]
    with pytest.raises(OverloadedError):
        publisher.publish(topic, b"k", b"v")
    assert len(set(await asyncio.gather(*futures))) == 2_000
    await publisher.publish(topic, b"k", b"v")


async def test_what_no_topic_takes_is_refused(publisher: Publisher, topic: str) -> None:
    """At once if the library knows the limit, by the broker if the topic has it."""
    with pytest.raises(ValueError, match="too large"):
        publisher.publish(topic, b"k", bytes(6 * 1024 * 1024))
    with pytest.raises(NotAcknowledgedError, match="SIZE_TOO_LARGE"):
        await publisher.publish(topic, b"k", bytes(1_100_000))


async def test_without_a_broker_the_wait_ends_in_time() -> None:
    """Whatever the library does."""
    publisher = Publisher("127.0.0.1:1", timeout_seconds=3)
    began = time.monotonic()
    answers = await asyncio.gather(*(publisher.publish("t", b"k", b"v") for _ in range(10)), return_exceptions=True)
    assert {type(answer) for answer in answers} == {NotAcknowledgedError}
    assert time.monotonic() - began < 10
    assert await asyncio.to_thread(Writability("127.0.0.1:1", ["t"], timeout_seconds=0.5).problem) is not None
    await publisher.close()


async def test_after_a_fatal_error_it_goes_on_with_another_producer(
    publisher: Publisher, topic: str, caplog: pytest.LogCaptureFixture
) -> None:
    """librdkafka itself would refuse every message for ever."""
    await publisher.publish(topic, b"k", b"v")
    with caplog.at_level(logging.WARNING):
        publisher._on_error(KafkaError(KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, "made up", True))
        answers = await asyncio.gather(
            *(publisher.publish(topic, b"k", b"v") for _ in range(5)), return_exceptions=True
        )
    assert all(isinstance(answer, Delivered | NotAcknowledgedError) for answer in answers)
    assert "failed fatally" in caplog.text
    await publisher.publish(topic, b"k", b"v")


async def test_a_caller_that_has_gone_disturbs_nobody(publisher: Publisher, topic: str) -> None:
    """Its delivery report arrives nevertheless."""
    gone = publisher.publish(topic, b"k", b"v")
    gone.cancel()
    await publisher.publish(topic, b"k", b"v")
    await publisher.drain()
    assert publisher.in_flight == 0


def test_topics_are_made_once_and_checked_from_then_on(services: Services) -> None:
    """Existing topics are not changed."""
    spec = TopicSpec(f"t-{uuid4().hex}", 2, {"retention.ms": "-1"})
    assert ensure_topics(services.kafka_bootstrap, [spec], 1) == [spec.name]
    assert ensure_topics(services.kafka_bootstrap, [spec], 1) == []
    other = TopicSpec(spec.name, 3, {"retention.ms": "5"})
    expected = [f"{spec.name}: 2 partitions, 3 required", f"{spec.name}: retention.ms is -1, 5 required"]
    assert check_topics(services.kafka_bootstrap, [other], 1) == expected
    with pytest.raises(TopicError, match="3 required"):
        ensure_topics(services.kafka_bootstrap, [other], 1)
    missing = TopicSpec("no-such-topic", 1, {})
    assert check_topics(services.kafka_bootstrap, [missing], 1) == ["no-such-topic: missing"]


def test_topics_that_would_lose_acknowledged_orders_with_a_broker_are_told(services: Services) -> None:
    """However the topics were created: 202 promises more than one broker's disk if there are several replicas."""
    spec = TopicSpec(f"t-{uuid4().hex}", 2, {"unclean.leader.election.enable": "false"})
    admin = AdminClient({"bootstrap.servers": services.kafka_bootstrap})
    config = {"unclean.leader.election.enable": "true"}
    admin.create_topics([NewTopic(spec.name, 2, 1, config=config)])[spec.name].result(60)
    unclean = f"{spec.name}: unclean.leader.election.enable is true, false required"
    with pytest.raises(TopicError) as told:
        ensure_topics(services.kafka_bootstrap, [spec], 3)
    assert str(told.value).splitlines() == [
        unclean,
        f"{spec.name}: replication.factor is 1, at least 3 required for 3 replicas",
        f"{spec.name}: min.insync.replicas is 1, at least 2 required for 3 replicas",
    ]
    assert check_topics(services.kafka_bootstrap, [spec], 1) == [unclean]


def test_a_broker_that_can_not_do_it_says_why(services: Services) -> None:
    """Three replicas on one broker."""
    with pytest.raises(TopicError, match="cannot be created"):
        ensure_topics(services.kafka_bootstrap, [TopicSpec(f"t-{uuid4().hex}", 1, {})], 3)


def test_without_a_broker_it_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error comes after a bounded wait."""
    monkeypatch.setattr(kafka, "_ADMIN_SECONDS_MAX", 0.5)
    with pytest.raises(TopicError, match="cannot query Kafka"):
        ensure_topics("127.0.0.1:1", [TopicSpec("t", 1, {})], 1)


async def test_offsets_are_those_of_the_log(publisher: Publisher, services: Services, topic: str) -> None:
    """The end is the offset of the next record."""
    await asyncio.gather(*(publisher.publish(topic, None, b"v", partition=1) for _ in range(5)))
    asked = [(topic, 0), (topic, 1)]
    assert end_offsets(services.kafka_bootstrap, asked) == {(topic, 0): 0, (topic, 1): 5}
    assert start_offsets(services.kafka_bootstrap, asked) == {(topic, 0): 0, (topic, 1): 0}
    assert end_offsets(services.kafka_bootstrap, []) == {}


def test_offsets_are_waited_for_while_no_partition_has_a_leader(
    services: Services, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a new topic: librdkafka's error is made the first answer here, since its real timing varies."""
    codes = (KafkaError.LEADER_NOT_AVAILABLE, KafkaError._UNKNOWN_PARTITION)
    first = [KafkaException(KafkaError(code)) for code in codes]

    class NewHere(Consumer):
        def offsets_for_times(self, *args: Any, **kwargs: Any) -> Any:
            if first:
                raise first.pop()
            return super().offsets_for_times(*args, **kwargs)

    monkeypatch.setattr(kafka, "Consumer", NewHere)
    assert end_offsets(services.kafka_bootstrap, [(topic, 3)]) == {(topic, 3): 0}
    assert not first


def test_offsets_of_a_partition_that_there_is_not_are_refused_at_once(
    services: Services, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even together with an existing one."""
    monkeypatch.setattr(kafka, "_LEADERLESS_PAUSE_SECONDS", float("nan"))  # No such pause is possible.
    with pytest.raises(TopicError, match="_UNKNOWN_PARTITION"):
        end_offsets(services.kafka_bootstrap, [(topic, 0), (topic, 4)])


def test_offsets_of_a_topic_that_was_never_made_are_refused_at_once(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka, "_LEADERLESS_PAUSE_SECONDS", float("nan"))  # No such pause is possible.
    with pytest.raises(TopicError, match="_UNKNOWN_PARTITION"):
        end_offsets(services.kafka_bootstrap, [(f"never-made-{uuid4().hex}", 0)])


def _murmur2(data: bytes) -> int:
    """`org.apache.kafka.common.utils.Utils.murmur2`, from its description: 32-bit MurmurHash2 with Kafka's seed."""
    m, mask = 0x5BD1E995, 0xFFFFFFFF
    h = 0x9747B28C ^ len(data)
    whole = len(data) & ~3
    for at in range(0, whole, 4):
        k = int.from_bytes(data[at : at + 4], "little") * m & mask
        h = (h * m & mask) ^ ((k ^ (k >> 24)) * m & mask)
    if rest := data[whole:]:
        h = (h ^ int.from_bytes(rest, "little")) * m & mask
    h = (h ^ (h >> 13)) * m & mask
    return h ^ (h >> 15)


async def test_a_sender_whose_clock_is_hours_ahead_is_heard_all_the_same(services: Services) -> None:
    """Brokers refuse records of the future if the topic uses its senders' timestamps."""
    topic = catalog.INVOICE_EVENTS
    ensure_topics(services.kafka_bootstrap, [TopicSpec(topic.name, PARTITIONS, topic.config)], 1)
    producer = Producer({"bootstrap.servers": services.kafka_bootstrap})
    errors: list[object] = []
    in_two_hours_ms = int((time.time() + 2 * 3600) * 1000)
    producer.produce(
        topic.name, b"", timestamp=in_two_hours_ms, on_delivery=lambda error, message: errors.append(error)
    )
    assert producer.flush(60) == 0
    assert errors == [None]
