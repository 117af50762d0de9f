"""Reads single Kafka records: those at known offsets, and those with a given key from an offset on."""

import logging
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from time import monotonic
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from runtime import traces
from runtime.kafka import TopicError, unasked

#: Records taken from the library at once.
_BATCH = 500
_CONFIG: dict[str, Any] = {
    # The library requires a group id; this consumer joins no group and stores no offsets.
    "group.id": "gapless-records",
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "enable.partition.eof": True,
    "isolation.level": "read_committed",
    # Retention may have deleted the record at the wanted offset.
    "auto.offset.reset": "earliest",
    # A caller waits for the answer, and a partition without further records must not delay others of its broker.
    "fetch.wait.max.ms": 10,
    "fetch.message.max.bytes": 256 * 1024,
    "queued.max.messages.kbytes": 16_384,
    "reconnect.backoff.max.ms": 1_000,
}

#: (topic, partition).
Partition = tuple[str, int]


class RecordPlace(NamedTuple):
    """The position of a record."""

    topic: str
    partition: int
    offset: int


class KafkaRecord(NamedTuple):
    """A record and its broker timestamp."""

    place: RecordPlace
    #: Milliseconds since 1970, UTC, by the broker's clock.
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    #: From the header of this name, if it is valid.
    traceparent: str | None


class KeySearch(NamedTuple):
    """The result of a search."""

    records: list[KafkaRecord]
    #: The first offset that was not read, for partitions that were not read to their end.
    unread: dict[Partition, int]


class RecordReader:
    """Reads records without a trace at the brokers. Every method blocks, and raises `TopicError`."""

    def __init__(self, bootstrap: str, *, seconds_max: float, records_max: int) -> None:
        """`seconds_max` bounds the wait for an answer; a search reads `records_max` records per partition."""
        self._seconds_max = seconds_max
        self._records_max = records_max
        self._knows_leaders = False
        self._consumer = Consumer(_CONFIG | {"bootstrap.servers": bootstrap, "logger": logging.getLogger("librdkafka")})

    def close(self) -> None:
        """Close the connections."""
        self._consumer.close()

    def read(self, places: Collection[RecordPlace]) -> dict[RecordPlace, KafkaRecord]:
        """The records at these places; those that no longer exist are absent."""
        found: dict[RecordPlace, KafkaRecord] = {}
        left: dict[Partition, list[int]] = {}
        for topic, partition, offset in sorted(set(places), reverse=True):
            left.setdefault((topic, partition), []).append(offset)
        with self._assigned({at: offsets[-1] for at, offsets in left.items()}):
            deadline = monotonic() + self._seconds_max
            while left:
                messages = self._next(deadline, records_max=1)
                if not messages:
                    raise self._silence()
                for message in messages:
                    at, offset = _place(message), message.offset() or 0
                    if at not in left:
                        continue
                    # The first record from there on is either the wanted one, or shows that it no longer exists.
                    wanted = left[at].pop()
                    if message.error() is None and offset == wanted:
                        found[RecordPlace(*at, offset)] = _record(message)
                    if left[at]:
                        self._consumer.seek(TopicPartition(*at, left[at][-1]))
                    else:
                        del left[at]
                        self._consumer.incremental_unassign([TopicPartition(*at)])
        return found

    def search(self, starts: Mapping[Partition, int], keys: Collection[bytes]) -> KeySearch:
        """The records with these keys, among the first `records_max` of each partition from the given offset on."""
        records: list[KafkaRecord] = []
        unread = dict(starts)
        left = dict.fromkeys(starts, self._records_max)
        with self._assigned(starts):
            deadline = monotonic() + self._seconds_max
            is_silent = True
            while left:
                messages = self._next(deadline, _BATCH)
                if not messages and is_silent:
                    raise self._silence()
                if not messages:
                    break
                is_silent = False
                for message in messages:
                    at = _place(message)
                    if at not in left:
                        continue
                    if message.error() is not None:
                        del left[at], unread[at]
                    elif left[at] == 0:
                        del left[at]
                        self._consumer.incremental_unassign([TopicPartition(*at)])
                    else:
                        left[at] -= 1
                        unread[at] = (message.offset() or 0) + 1
                        if message.key() in keys:
                            records.append(_record(message))
        return KeySearch(records, unread)

    @contextmanager
    def _assigned(self, starts: Mapping[Partition, int]) -> Iterator[None]:
        if not starts:
            yield
            return
        try:
            if not self._knows_leaders:
                # Otherwise the library requests the partitions' leaders itself, half of the time a second later.
                self._consumer.list_topics(timeout=self._seconds_max)
                self._knows_leaders = True
            self._consumer.assign([TopicPartition(*at, offset) for at, offset in starts.items()])
            yield
        except KafkaException as error:
            raise unasked(error) from None
        finally:
            self._consumer.unassign()

    def _next(self, deadline: float, records_max: int) -> list[Message]:
        """Records and partition ends; empty if none arrived before the deadline."""
        first = self._consumer.poll(max(0.0, deadline - monotonic()))
        if first is None:
            return []
        # `consume` waits until it has as many as requested: so wait for one, then take what is buffered.
        messages = [first, *(self._consumer.consume(records_max - 1, 0.0) if records_max > 1 else [])]
        for message in messages:
            error = message.error()
            if error is not None and error.code() != KafkaError._PARTITION_EOF:
                raise KafkaException(error)
        return messages

    def _silence(self) -> TopicError:
        return TopicError(f"cannot query Kafka: no answer within {self._seconds_max:g} s")


def _place(message: Message) -> Partition:
    return message.topic() or "", message.partition() or 0


def _record(message: Message) -> KafkaRecord:
    headers = dict(message.headers() or [])
    return KafkaRecord(
        RecordPlace(*_place(message), message.offset() or 0),
        message.timestamp()[1],
        message.key(),
        message.value(),
        traces.parse(headers.get(traces.TRACEPARENT)),
    )
