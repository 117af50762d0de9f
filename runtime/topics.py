"""Reads topics from the brokers: their ids, partitions and replicas, and the last records of their partitions."""

import logging
from collections.abc import Callable, Iterable, Mapping
from time import monotonic
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicCollection, TopicPartition

from runtime.kafka import admin_client, end_offsets, stable_offsets, start_offsets, unasked

_ANSWER_S_MAX = 15.0
_POLL_S = 0.02
_BATCH = 500
#: Records read at a partition's end at first. If none has a rank, the window grows by this factor, up to the start.
_WINDOW = 64
_WINDOW_GROWTH = 8

#: The rank of a record, or None for a record to ignore.
Rank = Callable[[Message], int | None]


class TopicState(NamedTuple):
    """A topic as the brokers report it."""

    #: Given by Kafka at creation; a recreated topic has another. In the form of `kafka-topics.sh`.
    topic_id: str
    partitions: int
    #: The number of replicas of the partition that has the fewest.
    replication_factor: int


def describe_topics(bootstrap: str, names: Iterable[str]) -> dict[str, TopicState]:
    """The state of each topic that the brokers know; unknown ones are absent. Blocks. Raises `TopicError`."""
    admin = admin_client(bootstrap)
    wanted = sorted(set(names))
    if not wanted:
        return {}
    found = {}
    asked = admin.describe_topics(TopicCollection(wanted), request_timeout=_ANSWER_S_MAX)
    for name, future in asked.items():
        try:
            topic = future.result(_ANSWER_S_MAX)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise unasked(error) from None
        except TimeoutError as error:
            raise unasked(error) from None
        else:
            copies = min(len(partition.replicas) for partition in topic.partitions)
            found[name] = TopicState(str(topic.topic_id), len(topic.partitions), copies)
    return found


def highest_records(
    bootstrap: str, partitions: Iterable[tuple[str, int]], rank: Rank
) -> dict[tuple[str, int], tuple[int, Message]]:
    """The record of the highest rank near the end of each partition, with its rank. Blocks. Raises `TopicError`.

    Partitions without a ranked record are absent. Records of open and aborted transactions count too, because an open
    transaction must not hide the records behind it.
    """
    ends = end_offsets(bootstrap, partitions)
    starts = start_offsets(bootstrap, ends)
    found: dict[tuple[str, int], tuple[int, Message]] = {}
    left = {each: end for each, end in ends.items() if starts[each] < end}
    window = _WINDOW
    while left:
        spans = {each: (max(starts[each], end - window), end) for each, end in left.items()}
        found |= _highest(bootstrap, spans, rank)
        left = {each: first for each, (first, _) in spans.items() if each not in found and first > starts[each]}
        window *= _WINDOW_GROWTH
    return found


def read_records(bootstrap: str, places: Iterable[tuple[str, int, int]]) -> dict[tuple[str, int, int], Message]:
    """The committed records at these (topic, partition, offset); those that were deleted are absent. Blocks.

    Raises `TopicError` if Kafka cannot be queried. For a few records only: each costs a request of its own.
    """
    wanted = sorted(set(places))
    starts = start_offsets(bootstrap, {(topic, partition) for topic, partition, _ in wanted})
    ends = stable_offsets(bootstrap, starts)
    found = {}
    consumer = _make_consumer(bootstrap, "read_committed")
    try:
        for topic, partition, offset in wanted:
            if not starts[topic, partition] <= offset < ends[topic, partition]:
                continue
            consumer.assign([TopicPartition(topic, partition, offset)])
            message = consumer.poll(_ANSWER_S_MAX)
            if message is None:
                raise unasked(TimeoutError(f"no record of {topic}/{partition} within {_ANSWER_S_MAX:g} s"))
            error = message.error()
            if error is not None and error.code() != KafkaError._PARTITION_EOF:
                raise KafkaException(error)
            if error is None and message.offset() == offset:
                found[topic, partition, offset] = message
    except KafkaException as error:
        raise unasked(error) from None
    finally:
        consumer.close()
    return found


def _highest(
    bootstrap: str, spans: Mapping[tuple[str, int], tuple[int, int]], rank: Rank
) -> dict[tuple[str, int], tuple[int, Message]]:
    found: dict[tuple[str, int], tuple[int, Message]] = {}
    left = {each: end for each, (_, end) in spans.items()}
    consumer = _make_consumer(bootstrap, "read_uncommitted")
    heard_at = monotonic()
    try:
        consumer.assign([TopicPartition(*each, first) for each, (first, _) in spans.items()])
        while left:
            messages = consumer.consume(_BATCH, timeout=_POLL_S)
            if messages:
                heard_at = monotonic()
            elif monotonic() - heard_at > _ANSWER_S_MAX:
                raise unasked(TimeoutError(f"no records of {_names(left)} within {_ANSWER_S_MAX:g} s"))
            for message in messages:
                error, each = message.error(), (message.topic() or "", message.partition() or 0)
                if error is not None and error.code() != KafkaError._PARTITION_EOF:
                    raise KafkaException(error)
                offset = message.offset() or 0
                # Offsets without records, such as a transaction's end, never arrive; the partition's end arrives as an
                # event.
                if error is not None or offset + 1 >= spans[each][1]:
                    left.pop(each, None)
                its_rank = None if error is not None or offset >= spans[each][1] else rank(message)
                if its_rank is not None and (each not in found or its_rank > found[each][0]):
                    found[each] = its_rank, message
    except KafkaException as error:
        raise unasked(error) from None
    finally:
        consumer.close()
    return found


def _make_consumer(bootstrap: str, isolation_level: str) -> Consumer:
    config: dict[str, Any] = {
        "bootstrap.servers": bootstrap,
        # The library requires a group id; this consumer joins no group and stores no offsets.
        "group.id": "gapless-tails",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "enable.partition.eof": True,
        "auto.offset.reset": "earliest",
        "isolation.level": isolation_level,
        # A partition without new records must not delay others of its broker.
        "fetch.wait.max.ms": 10,
        "queued.max.messages.kbytes": 16_384,
        "reconnect.backoff.max.ms": 1_000,
        "logger": logging.getLogger("librdkafka"),
    }
    return Consumer(config)


def _names(partitions: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{topic}/{partition}" for topic, partition in sorted(partitions))
