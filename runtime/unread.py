"""What a `read_committed` consumer still has to read, without control records and aborted records."""

import logging
import time
from collections.abc import Mapping
from contextlib import closing
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from runtime.kafka import TopicError, end_offsets, stable_offsets

#: After this long without an answer the brokers count as unavailable.
_SILENCE_S_MAX = 30.0
_POLL_S = 0.5
#: Only the first record of each partition is wanted, so fetches are small.
_FETCHED_BYTES_MAX = 64 * 1024
_CONFIG: dict[str, Any] = {
    # The library requires a group id; this consumer joins no group and stores no offsets.
    "group.id": "gapless-unread",
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "enable.partition.eof": True,
    "isolation.level": "read_committed",
    # Retention may have deleted the record at the position.
    "auto.offset.reset": "earliest",
    "fetch.message.max.bytes": _FETCHED_BYTES_MAX,
    "queued.max.messages.kbytes": 1_024,
}


class Unread(NamedTuple):
    """What a consumer still has to read of a partition, in offsets."""

    #: Offsets from the first committed record to `stable`: an upper bound of records, 0 only if there are none.
    readable: int
    #: Where `read_committed` consumers stop: the oldest open transaction, or the log's end.
    stable: int
    #: The log's end.
    end: int

    @property
    def held_back(self) -> int:
        """Offsets behind the oldest open transaction, not returned to consumers until it ends."""
        return self.end - self.stable


class FirstRecord(NamedTuple):
    """A committed record and its broker timestamp."""

    offset: int
    #: Milliseconds since 1970, UTC, by the broker's clock.
    timestamp_ms: int


def unread(bootstrap: str, positions: Mapping[tuple[str, int], int]) -> dict[tuple[str, int], Unread]:
    """What is unread by (topic, partition), given each next offset. Blocks. Raises `TopicError`."""
    # Stable ends first: a transaction that commits in between counts as held back instead of being missed.
    stable = stable_offsets(bootstrap, positions)
    ends = end_offsets(bootstrap, positions)
    with closing(FirstRecords(bootstrap)) as records:
        found = records.find({at: offset for at, offset in positions.items() if offset < stable[at]})
    # Ignore records committed since, which are beyond the stable end read above.
    firsts = {at: first.offset for at, first in found.items() if first.offset < stable[at]}
    return {at: Unread(stable[at] - firsts.get(at, stable[at]), stable[at], ends[at]) for at in positions}


class FirstRecords:
    """Finds the first committed record at or after an offset. Reuses its connections."""

    def __init__(self, bootstrap: str, silence_seconds_max: float = _SILENCE_S_MAX) -> None:
        """Connects on first use. `silence_seconds_max` bounds the time without an answer."""
        self._config = _CONFIG | {"bootstrap.servers": bootstrap, "logger": logging.getLogger("librdkafka")}
        self._silence_seconds_max = silence_seconds_max
        self._consumer: Consumer | None = None

    def find(self, positions: Mapping[tuple[str, int], int]) -> dict[tuple[str, int], FirstRecord]:
        """The first records by (topic, partition); absent where there is none. Blocks. Raises `TopicError`."""
        found: dict[tuple[str, int], FirstRecord] = {}
        left = set(positions)
        if not left:
            return found
        if self._consumer is None:
            self._consumer = Consumer(self._config)
        consumer = self._consumer
        try:
            consumer.assign([TopicPartition(*at, offset) for at, offset in positions.items()])
            heard_at = time.monotonic()
            while left:
                message = consumer.poll(_POLL_S)
                if message is None:
                    if time.monotonic() - heard_at > self._silence_seconds_max:
                        raise TopicError(f"cannot query Kafka: no answer for {sorted(left)}")
                    continue
                heard_at = time.monotonic()
                at = (message.topic() or "", message.partition() or 0)
                error = message.error()
                if error is not None and error.code() != KafkaError._PARTITION_EOF:
                    raise TopicError(f"cannot query Kafka: {error.str()}")
                if at in left:
                    left.remove(at)
                    consumer.incremental_unassign([TopicPartition(*at)])
                    if error is None:
                        found[at] = FirstRecord(message.offset() or 0, message.timestamp()[1])
        except BaseException as error:
            # The consumer would return records of this search with the next one.
            self.close()
            if isinstance(error, KafkaException):
                raise TopicError(f"cannot query Kafka: {error.args[0].str()}") from None
            raise
        return found

    def close(self) -> None:
        """Close the connections."""
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None
