"""What readers of committed records still have before them; control records and aborted ones are not among it."""

import logging
import time
from collections.abc import Mapping
from contextlib import closing
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from runtime.kafka import TopicError, end_offsets, stable_offsets

#: Without an answer for so long the brokers are taken to be gone.
_SILENCE_S_MAX = 30.0
_POLL_S = 0.5
#: Of each partition only the first record is wanted.
_FETCHED_BYTES_MAX = 64 * 1024
_CONFIG: dict[str, Any] = {
    # The library wants a name; no group is joined and nothing is stored under it.
    "group.id": "gapless-unread",
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "enable.partition.eof": True,
    "isolation.level": "read_committed",
    # Retention may have taken what stood there.
    "auto.offset.reset": "earliest",
    "fetch.message.max.bytes": _FETCHED_BYTES_MAX,
    "queued.max.messages.kbytes": 1_024,
}


class Unread(NamedTuple):
    """What is left in a partition for a reader, in offsets."""

    #: From the first committed record to `stable`: at most so many records, and 0 only if there is none.
    readable: int
    #: Where readers of committed records can come: the oldest open transaction, or the end.
    stable: int
    #: The log's end.
    end: int

    @property
    def held_back(self) -> int:
        """Behind the oldest open transaction: nobody is given any of it until that transaction ends."""
        return self.end - self.stable


class FirstRecord(NamedTuple):
    """A committed record, and when the brokers took it."""

    offset: int
    #: Milliseconds since 1970, UTC, by the broker's clock.
    timestamp_ms: int


def unread(bootstrap: str, positions: Mapping[tuple[str, int], int]) -> dict[tuple[str, int], Unread]:
    """By (topic, partition), for a reader whose next offset is given. Blocks. Raises `TopicError`."""
    # Stable first: what is committed in between counts as held back, not as nothing.
    stable = stable_offsets(bootstrap, positions)
    ends = end_offsets(bootstrap, positions)
    with closing(FirstRecords(bootstrap)) as records:
        found = records.find({at: offset for at, offset in positions.items() if offset < stable[at]})
    # What was committed since is not before this reader's end.
    firsts = {at: first.offset for at, first in found.items() if first.offset < stable[at]}
    return {at: Unread(stable[at] - firsts.get(at, stable[at]), stable[at], ends[at]) for at in positions}


class FirstRecords:
    """Finds the first committed record at or after an offset. Keeps its connections for the next question."""

    def __init__(self, bootstrap: str, silence_seconds_max: float = _SILENCE_S_MAX) -> None:
        """Connects when first asked. `silence_seconds_max` is how long the brokers may say nothing."""
        self._config = _CONFIG | {"bootstrap.servers": bootstrap, "logger": logging.getLogger("librdkafka")}
        self._silence_seconds_max = silence_seconds_max
        self._consumer: Consumer | None = None

    def find(self, positions: Mapping[tuple[str, int], int]) -> dict[tuple[str, int], FirstRecord]:
        """By (topic, partition), where there is one. Blocks. Raises `TopicError`."""
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
                        raise TopicError(f"Kafka can't be asked: it fell silent in {sorted(left)}")
                    continue
                heard_at = time.monotonic()
                at = (message.topic() or "", message.partition() or 0)
                error = message.error()
                if error is not None and error.code() != KafkaError._PARTITION_EOF:
                    raise TopicError(f"Kafka can't be asked: {error.str()}")
                if at in left:
                    left.remove(at)
                    consumer.incremental_unassign([TopicPartition(*at)])
                    if error is None:
                        found[at] = FirstRecord(message.offset() or 0, message.timestamp()[1])
        except BaseException as error:
            # What it was amid would come with the next answers.
            self.close()
            if isinstance(error, KafkaException):
                raise TopicError(f"Kafka can't be asked: {error.args[0].str()}") from None
            raise
        return found

    def close(self) -> None:
        """Let the connections go."""
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None
