"""Follows the topics from the index's own positions, in a thread."""

import logging
import threading
from collections.abc import Callable
from contextlib import closing
from time import monotonic, time
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from prometheus_client import Counter, Gauge

from runtime.exits import start_thread
from runtime.kafka import OffsetReader, TopicError, log_client_error
from runtime.metrics import REGISTRY
from runtime.outages import KAFKA
from schemas.codec import DecodeError
from search.changes import Changes, apply
from search.index import CatalogueIndex

_log = logging.getLogger(__name__)

#: The index is committed this often at most, while there is news: it bounds how old a price or stock is in results.
COMMIT_SECONDS = 0.5
#: Documents of a commit, about: bounds its time and memory.
_CHANGES_MAX = 5_000
_RECORDS_AT_ONCE = 1_000
_POLL_SECONDS = 0.1
_MEASURE_SECONDS = 1.0
#: How long the brokers are asked where the topics end.
_ANSWER_SECONDS_MAX = 5.0

DOCUMENTS = Gauge(
    "gapless_search_documents", "Documents of the search index: products, SKUs and positions.", registry=REGISTRY
)
LAG_RECORDS = Gauge(
    "gapless_search_lag_records", "Records of the topics that the search index does not have yet.", registry=REGISTRY
)
LAG_SECONDS = Gauge(
    "gapless_search_lag_seconds",
    "Time since the search index had all records of the topics, or since its process began; grows in outages of Kafka.",
    registry=REGISTRY,
)
UNDECODABLE = Counter(
    "gapless_search_undecodable_total", "Records that say nothing that the search index can have.", registry=REGISTRY
)


class LostRecordsError(Exception):
    """Records that the index lacks are deleted: it has to be rebuilt."""


class Follower:
    """Keeps an index equal to the topics."""

    def __init__(
        self, bootstrap: str, index: CatalogueIndex, on_commit: Callable[[set[str]], None], complete_at: float
    ) -> None:
        """`on_commit` is told whose products a commit has changed, after the commit.

        `complete_at` is when the index was last known to have all records, in seconds since 1970.
        """
        self._bootstrap = bootstrap
        self._index = index
        self._on_commit = on_commit
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._topic_ids: dict[str, str] = {}
        #: (topic, partition) → the first offset that the index does not have.
        self._next_offsets: dict[tuple[str, int], int] = {}
        self._complete_at = complete_at

    def start(self) -> None:
        """Follow from the index's positions. What is no outage ends the process, and its next one goes on."""
        positions = self._index.positions()
        self._topic_ids = {each.topic: each.topic_id for each in positions}
        self._next_offsets = {(each.topic, each.partition): each.next_offset for each in positions}
        DOCUMENTS.set(self._index.searcher.num_docs)
        LAG_SECONDS.set_function(lambda: time() - self._complete_at)
        self._threads = [start_thread("follow", self._follow), start_thread("measure", self._measure)]

    def stop(self) -> None:
        """End the threads. What was not committed is read again by the next process. Blocks for a moment."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        self._index.close()

    def is_at(self, ends: dict[tuple[str, int], int]) -> bool:
        """Whether the index has everything before these ends."""
        return all(self._next_offsets[place] >= end for place, end in ends.items())

    def _follow(self) -> None:
        consumer = Consumer(self._config())
        try:
            consumer.assign([TopicPartition(*place, offset) for place, offset in self._next_offsets.items()])
            self._read(consumer)
        finally:
            consumer.close()

    def _config(self) -> dict[str, Any]:
        return {
            "bootstrap.servers": self._bootstrap,
            # The library requires a name; nothing joins a group or commits under it.
            "group.id": "gapless-search",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            # The end of a partition may lie behind records that are none, such as a transaction's end.
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            # Never elsewhere than at the index's position: what it lacks would be missing for ever.
            "auto.offset.reset": "error",
            "fetch.wait.max.ms": 500,
            "fetch.error.backoff.ms": 100,
            "reconnect.backoff.max.ms": 1_000,
            "queued.max.messages.kbytes": 32 * 1024,
            "logger": logging.getLogger("librdkafka"),
            "error_cb": log_client_error,
        }

    def _read(self, consumer: Consumer) -> None:
        changes, committed_at = Changes(), float("-inf")
        while not self._stopping.is_set():
            # `consume` alone would wait for a full batch; `poll` returns with the first, and the rest is there by then.
            first = consumer.poll(_POLL_SECONDS)
            for message in () if first is None else (first, *consumer.consume(_RECORDS_AT_ONCE - 1, 0)):
                self._take(changes, message)
            is_due = monotonic() - committed_at >= COMMIT_SECONDS or changes.size >= _CHANGES_MAX
            if changes.next_offsets and is_due:
                self._commit(changes)
                changes, committed_at = Changes(), monotonic()

    def _take(self, changes: Changes, message: Message) -> None:
        error = message.error()
        if error is None:
            try:
                changes.read(message)
            except DecodeError as undecodable:
                # No dead letter: each worker would write one. Of products and stock the stock agent does.
                UNDECODABLE.inc()
                _log.warning(
                    "%s/%s/%s is not indexed: %s", message.topic(), message.partition(), message.offset(), undecodable
                )
        elif error.code() == KafkaError._PARTITION_EOF:
            place = message.topic() or "", message.partition() or 0
            if (message.offset() or 0) > self._next_offsets[place]:
                changes.next_offsets[place] = message.offset() or 0
        elif error.code() == KafkaError._AUTO_OFFSET_RESET:
            raise LostRecordsError(f"{message.topic()}/{message.partition()}: {error.str()}")
        else:
            log_client_error(error)

    def _commit(self, changes: Changes) -> None:
        changed = apply(self._index, changes, self._topic_ids)
        self._next_offsets |= changes.next_offsets
        DOCUMENTS.set(self._index.searcher.num_docs)
        # After the commit can be seen: what is remembered under the new version must not be of the old one.
        self._on_commit(changed)
        KAFKA.look_for_silence()

    def _measure(self) -> None:
        """Compare with where the topics end, from outside: a stalled consumer can't report its own lag."""
        with closing(OffsetReader(self._bootstrap, "read_committed", _ANSWER_SECONDS_MAX)) as reader:
            while not self._stopping.wait(_MEASURE_SECONDS):
                asked_at = time()
                try:
                    ends = reader.ends(self._next_offsets.keys())
                except (TopicError, KafkaException):
                    continue
                KAFKA.look_for_silence()
                lag = sum(max(0, end - self._next_offsets[place]) for place, end in ends.items())
                LAG_RECORDS.set(lag)
                if not lag:
                    self._complete_at = asked_at
