"""Reads the topics: each event once, in order, resumed where the effects say. Needs the extra `consumer`."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

from confluent_kafka import OFFSET_BEGINNING, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka import Consumer as KafkaConsumer

from gapless_client.errors import GaplessError
from gapless_client.events import Decoder, Event
from gapless_client.positions import Move, Position, Positions
from gapless_client.sequence import HoleError, fresh

R = TypeVar("R", bound=Mapping[str, Any])
Handler = Callable[[Event[Any]], object]

_log = logging.getLogger(__name__)
_NAMESPACE = "gapless."
#: Records that one transaction takes at most.
_RECORDS_MAX = 500
_POLL_SECONDS = 0.5
#: Errors that librdkafka gets over by itself.
_PASSING = frozenset({KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._PARTITION_EOF})


class NoSeqError(GaplessError):
    """A record without a seq is none of the relay's: let the brokers' ACLs permit only the relay to write there."""


@dataclass(frozen=True, slots=True)
class Batch:
    """New events of one partition, in order."""

    events: Sequence[Event[Any]]
    move: Move


class Consumer:
    """Hands the events of some topics to handlers, each event once; see `Positions` for what that rests on.

        consumer = Consumer(["order-events"], positions, {"bootstrap.servers": "…", "group.id": "warehouse"})

        @consumer.on(records.OrderPlaced)
        def placed(event: Event[records.OrderPlaced]) -> None: ...

        consumer.run()

    Processes with the same `group.id` share the partitions. An event without a handler is passed over.
    """

    def __init__(
        self, topics: Sequence[str], positions: Positions, kafka: Mapping[str, Any], decoder: Decoder | None = None
    ) -> None:
        """`kafka` is configuration of librdkafka. The group's own offsets are not used."""
        self._positions = positions
        self._decoder = decoder or Decoder()
        self._handlers: dict[str, Handler] = {}
        self._read: dict[tuple[str, int], Position | None] = {}
        #: Partitions that were read again from their beginning because a seq seemed to be missing.
        self._reread: set[tuple[str, int]] = set()
        self._is_stopping = False
        self._kafka = KafkaConsumer(
            {
                **kafka,
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "earliest",
                "isolation.level": "read_committed",
            }
        )
        self._kafka.subscribe(list(topics), on_assign=self._assigned, on_revoke=self._revoked)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave the group."""
        self._kafka.close()

    def on(self, record: type[R]) -> Callable[[Callable[[Event[R]], object]], Callable[[Event[R]], object]]:
        """Let the decorated function handle the events of a record, such as `records.OrderPlaced`."""

        def attach(handler: Callable[[Event[R]], object]) -> Callable[[Event[R]], object]:
            self._handlers[_NAMESPACE + record.__name__] = handler
            return handler

        return attach

    def stop(self) -> None:
        """Let `run` return after the batch in hand; for signal handlers and other threads."""
        self._is_stopping = True

    def run(self) -> None:
        """Handle events until `stop`. What a handler raises ends it, with nothing of its batch processed.

        Raises `HoleError`, `NoSeqError`, `DecodeError`, `TakenOverError` and `KafkaException` too: start again, and it
        goes on where the position is.
        """
        for batch in self.batches():
            with self._positions.moving(batch.move):
                for event in batch.events:
                    handler = self._handlers.get(event.type)
                    if handler is not None:
                        handler(event)

    def batches(self) -> Iterator[Batch]:
        """Batches of one partition each until `stop`, for those who process them on their own.

        Each batch is for `with positions.moving(batch.move)`, before the next is asked for.
        """
        while not self._is_stopping:
            by_partition: dict[tuple[str, int], list[Message]] = {}
            for message in self._kafka.consume(_RECORDS_MAX, _POLL_SECONDS):
                error = message.error()
                if error is not None:
                    if error.fatal() or error.code() not in _PASSING:
                        raise KafkaException(error)
                    continue
                by_partition.setdefault((str(message.topic()), message.partition() or 0), []).append(message)
            for place, messages in by_partition.items():
                batch = self._batch(place, messages)
                if batch is not None:
                    yield batch
                    self._read[place] = batch.move.after

    def _batch(self, place: tuple[str, int], messages: Sequence[Message]) -> Batch | None:
        # Taken away since they were fetched: whoever has the partition now reads them again.
        if place not in self._read:
            return None
        (topic, partition), before = place, self._read[place]
        events = [self._event(message) for message in messages]
        try:
            new, after = fresh(events, before)
        except HoleError:
            # A topic that was rebuilt has the same events at other offsets: only its beginning tells.
            if place in self._reread:
                raise
            _log.warning("%s/%d: a seq is missing: reading from the beginning", topic, partition)
            self._reread.add(place)
            self._kafka.seek(TopicPartition(topic, partition, OFFSET_BEGINNING))
            return None
        if not new or after is None:
            return None
        if after.next_offset <= events[-1].offset:
            # What is behind a hole comes again, by itself.
            self._kafka.seek(TopicPartition(topic, partition, after.next_offset))
        return Batch(new, Move(topic, partition, before, after))

    def _event(self, message: Message) -> Event[Any]:
        given: Any = message.headers() or []
        headers = {name: value for name, value in given if isinstance(value, bytes)}
        seq, value, key = headers.get("seq", b""), message.value(), message.key()
        where = f"{message.topic()}/{message.partition()} offset {message.offset()}"
        if not seq.isdigit() or not isinstance(value, bytes):
            raise NoSeqError(f"{where} has no seq")
        name, record = self._decoder.decode(value)
        return Event(
            topic=str(message.topic()),
            partition=message.partition() or 0,
            offset=message.offset() or 0,
            seq=int(seq),
            type=name,
            key=key if isinstance(key, bytes) else None,
            value=record,
            headers=headers,
        )

    def _assigned(self, consumer: KafkaConsumer, partitions: list[TopicPartition]) -> None:
        """Begin where the positions say, not where the group's offsets do."""
        for each in partitions:
            position = self._positions.load(each.topic, each.partition)
            self._read[each.topic, each.partition] = position
            each.offset = OFFSET_BEGINNING if position is None else position.next_offset
        consumer.assign(partitions)

    def _revoked(self, _: KafkaConsumer, partitions: list[TopicPartition]) -> None:
        for each in partitions:
            self._read.pop((each.topic, each.partition), None)
            self._reread.discard((each.topic, each.partition))
