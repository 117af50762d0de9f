"""Reads Kafka partitions from their start to their present end."""

import logging
import time
from collections.abc import Iterator, Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from audit.report import AuditError
from runtime.kafka import TopicError
from runtime.unread import Unread, unread

_ANSWER_S_MAX = 10.0
#: After this long without a record the broker counts as unavailable.
_SILENCE_S_MAX = 30.0
_BATCH = 500


class Log:
    """Reads partitions without joining a group or storing offsets.

    Topics have the catalogue's names; `prefix` is prepended to the name at the brokers, if several users share them.
    """

    def __init__(self, bootstrap: str, prefix: str = "") -> None:
        self._bootstrap = bootstrap
        self._prefix = prefix
        self._consumer = self._make_consumer()
        self._partitions: dict[str, int] = {}
        self.look_again()

    def look_again(self) -> None:
        """Refresh the list of topics."""
        try:
            metadata = self._consumer.list_topics(timeout=_ANSWER_S_MAX)
        except KafkaException as error:
            raise _unreachable(self._bootstrap, error) from None
        self._partitions = {name: len(topic.partitions) for name, topic in metadata.topics.items()}

    def close(self) -> None:
        """Close the connections."""
        self._consumer.close()

    def partitions(self, topic: str) -> int:
        """The number of a topic's partitions; 0 if it does not exist."""
        return self._partitions.get(self._prefix + topic, 0)

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        """Offsets of the first record, and after the last one committed before any open transaction.

        (0, 0) for a partition that does not exist.
        """
        if partition >= self.partitions(topic):
            return 0, 0
        try:
            first, end = self._consumer.get_watermark_offsets(
                TopicPartition(self._prefix + topic, partition), timeout=_ANSWER_S_MAX
            )
        except KafkaException as error:
            raise _unreachable(self._bootstrap, error) from None
        return first, end

    def unread(self, positions: Mapping[tuple[str, int], int]) -> dict[tuple[str, int], Unread]:
        """What is unread after these positions; nothing in partitions that don't exist."""
        there = {(topic, its): at for (topic, its), at in positions.items() if its < self.partitions(topic)}
        try:
            found = unread(self._bootstrap, {(self._prefix + topic, its): at for (topic, its), at in there.items()})
        except TopicError as error:
            raise AuditError(str(error)) from None
        return {(topic, its): found.get((self._prefix + topic, its), Unread(0, 0, 0)) for topic, its in positions}

    def read(self, topic: str, partition: int, end: int) -> Iterator[list[Message]]:
        """The records before offset `end`, in order, some hundred at a time."""
        first, high = self.bounds(topic, partition)
        end = min(end, high)
        if first >= end:
            return
        consumer = self._make_consumer()
        try:
            consumer.assign([TopicPartition(self._prefix + topic, partition, first)])
            yield from _records(consumer, topic, partition, end)
        except KafkaException as error:
            raise _unreachable(self._bootstrap, error) from None
        finally:
            consumer.close()

    def read_on(
        self, spans: Mapping[tuple[str, int], tuple[int, int]]
    ) -> Iterator[tuple[tuple[str, int], list[Message]]]:
        """The records of several partitions, each from one offset to before another, with their partition.

        Uses one consumer that stays connected, for repeated calls.
        """
        ends = {(self._prefix + topic, partition): end for (topic, partition), (_, end) in spans.items()}
        if not ends:
            return
        at = [
            TopicPartition(self._prefix + topic, partition, first) for (topic, partition), (first, _) in spans.items()
        ]
        try:
            self._consumer.assign(at)
            for (topic, partition), messages in _records_on(self._consumer, ends):
                yield (topic.removeprefix(self._prefix), partition), messages
        except KafkaException as error:
            raise _unreachable(self._bootstrap, error) from None
        finally:
            self._consumer.unassign()

    def _make_consumer(self) -> Consumer:
        config: dict[str, Any] = {
            "bootstrap.servers": self._bootstrap,
            # The library requires a group id; no offset is stored under it.
            "group.id": "gapless-audit",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
            "isolation.level": "read_committed",
            # Reads end at known offsets, but the broker holds the fetch after them for this long, and answers nothing
            # else on the connection until then.
            "fetch.wait.max.ms": 10,
            # Bounds the memory for records fetched ahead.
            "queued.max.messages.kbytes": 16_384,
            "fetch.message.max.bytes": 4 * 1024 * 1024,
            "logger": logging.getLogger("librdkafka"),
        }
        return Consumer(config)


def _records(consumer: Consumer, topic: str, partition: int, end: int) -> Iterator[list[Message]]:
    heard_at = time.monotonic()
    while True:
        # `consume` waits until it has as many as requested: so wait for one, then take what is buffered.
        heard = consumer.poll(1.0)
        messages = [] if heard is None else [heard, *consumer.consume(_BATCH, timeout=0.0)]
        records = []
        ended = False
        for message in messages:
            error = message.error()
            if error is None:
                offset = message.offset()
                if offset is None or offset >= end:
                    ended = True
                    break
                records.append(message)
                # Offsets after it without records (such as a transaction's end) never arrive.
                ended = offset + 1 >= end
            # The end of the partition at the fetch; only control records can lie between it and `end`.
            elif error.code() == KafkaError._PARTITION_EOF:
                ended = ended or (message.offset() or 0) >= end
            else:
                raise KafkaException(error)
        if messages:
            heard_at = time.monotonic()
        elif time.monotonic() - heard_at > _SILENCE_S_MAX:
            raise AuditError(f"Kafka returned no records of {topic}/{partition} for {_SILENCE_S_MAX:g} s")
        if records:
            yield records
        if ended:
            return


def _records_on(
    consumer: Consumer, ends: dict[tuple[str, int], int]
) -> Iterator[tuple[tuple[str, int], list[Message]]]:
    heard_at = time.monotonic()
    while ends:
        heard = consumer.poll(1.0)
        messages = [] if heard is None else [heard, *consumer.consume(_BATCH, timeout=0.0)]
        if messages:
            heard_at = time.monotonic()
        elif time.monotonic() - heard_at > _SILENCE_S_MAX:
            names = " and ".join(f"{topic}/{number}" for topic, number in ends)
            raise AuditError(f"Kafka returned no records of {names} for {_SILENCE_S_MAX:g} s")
        records: dict[tuple[str, int], list[Message]] = {}
        for message in messages:
            its = message.topic() or "", message.partition() or 0
            error, offset = message.error(), message.offset() or 0
            if error is not None and error.code() != KafkaError._PARTITION_EOF:
                raise KafkaException(error)
            if its not in ends:
                continue
            if error is None and offset < ends[its]:
                records.setdefault(its, []).append(message)
            # As above, a partition is read when its last record or its end has arrived.
            if offset + (error is None) >= ends[its]:
                del ends[its]
        yield from records.items()


def _unreachable(bootstrap: str, error: KafkaException) -> AuditError:
    return AuditError(f"Kafka at {bootstrap} can't be read: {error.args[0].str()}")
