"""Redrives dead letters: sends the record of each again, where it belongs, and records that.

What is sent depends on the topic:

- A topic that anybody may write to gets a new record: the same value, under its order id as key, in that key's
  partition. So a record in a wrong place comes to the right one, and one that an older release could not decode is read
  by this one.
- A topic that only the relay writes to gets a repeat, as after a crash of the relay: the same bytes in the same
  partition with the same `seq`. Consumers ignore it, and the agents, which know by their tables what is done, do what
  is not.

What would become a dead letter again is not sent.

A record is sent, acknowledged, and only then recorded as redriven. After a crash between the two it is sent again, and
has no second effect: an order id, a refund id, an order's state and an event's row each permit one. Recorded first, it
could be lost.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic, sleep
from typing import Any

from confluent_kafka import KafkaError, Message, Producer

from domain.invoice import check_order_id
from domain.numbering import SELLER_ID
from runtime.kafka import log_client_error, reason_of
from runtime.publisher import Delivered, NotAcknowledgedError
from runtime.topics import read_records
from runtime.traces import TRACEPARENT
from schemas.catalog import INPUT_TOPICS, SEQ_HEADER, TOPICS
from schemas.codec import DecodeError, decode
from schemas.placement import partition_of
from sinks.postgres import dead_letters
from sinks.postgres.dead_letters import CarriedBytes, Connection, DeadLetterError, DeadLetterFilter, DeadLetterRow
from sinks.postgres.session import SQL

#: Record header that names the dead letter of which this record is the redrive; of new records alone.
DEAD_LETTER_HEADER = "dead-letter"
#: How long the brokers may take to acknowledge a record.
_ACKNOWLEDGED_SECONDS_MAX = 30
#: Dead letters that are read at once, sent at once, and recorded in one transaction: what a crash sends again.
_BATCH = 100
#: Above every topic's `max.message.bytes`: the broker, which knows the topic, says what is too large.
_MESSAGE_BYTES_MAX = 5 * 1024 * 1024
_SEQ_DIGITS_MAX = 18
#: Any constant of our own: two who close dead letters at once could send the records of a key out of order.
_LOCK_ID = 0x6761_706C_6573_75
_INPUTS = frozenset(topic.name for topic in INPUT_TOPICS)


@dataclass(frozen=True, slots=True)
class Resend:
    """A record to be sent."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class Unredrivable:
    """Why sending a record again can't help."""

    why: str


Plan = Resend | Unredrivable


@dataclass(frozen=True, slots=True)
class Redriven:
    """What became of one dead letter; `delivered` is where its record stands now, None where it was not sent."""

    letter: DeadLetterRow
    plan: Plan
    delivered: Delivered | None


def make_producer(bootstrap: str) -> Producer:
    """A producer that keeps the order of a partition, and gives a record up that is not acknowledged in time."""
    return Producer(
        {
            "bootstrap.servers": bootstrap,
            "client.id": "gapless-redrive",
            "acks": "all",
            "enable.idempotence": True,
            "linger.ms": 1,
            "message.timeout.ms": _ACKNOWLEDGED_SECONDS_MAX * 1_000,
            "message.max.bytes": _MESSAGE_BYTES_MAX,
            "logger": logging.getLogger("librdkafka"),
            "error_cb": log_client_error,
        }
    )


@contextmanager
def closing(connection: Connection) -> Iterator[None]:
    """Dead letters are closed by this connection alone for the block. Raises `DeadLetterError` where another one does.

    The lock goes with the connection.
    """
    cursor = connection.execute("SELECT pg_try_advisory_lock(%s)", (_LOCK_ID,))
    if cursor.fetchone() != (True,):
        raise DeadLetterError("somebody else is redriving or discarding dead letters: run this again when that is over")
    try:
        yield
    finally:
        if not connection.closed:
            connection.execute("SELECT pg_advisory_unlock(%s)", (_LOCK_ID,))


def plan_all(
    connection: Connection, bootstrap: str, wanted: DeadLetterFilter, partitions: int, topic_prefix: str = ""
) -> Iterator[tuple[DeadLetterRow, Plan]]:
    """What a redrive does with each dead letter that is open now, in the order of their records in each partition.

    `partitions` is how many each topic has. Raises `runtime.kafka.TopicError` and `psycopg.Error`.
    """
    for letters in dead_letters.read_in_order(connection, wanted, _BATCH):
        events = [letter for letter in letters if letter.source_topic not in _INPUTS and letter.source_topic in TOPICS]
        places = [(topic_prefix + each.source_topic, each.source_partition, each.source_offset) for each in events]
        sources = read_records(bootstrap, places) if places else {}
        for letter in letters:
            try:
                carried = dead_letters.read_bytes(connection, letter)
            except DeadLetterError as error:
                yield letter, Unredrivable(str(error))
                continue
            if letter.source_topic in _INPUTS:
                yield letter, plan_request(letter, carried, partitions)
            else:
                place = (topic_prefix + letter.source_topic, letter.source_partition, letter.source_offset)
                yield letter, _plan_event(connection, letter, carried, sources.get(place))


def plan_request(letter: DeadLetterRow, carried: CarriedBytes, partitions: int) -> Plan:
    """What to send of a record of a topic that anybody may write to."""
    topic = TOPICS[letter.source_topic]
    try:
        _, body = decode(carried.value, *topic.schemas, bytes_max=topic.value_bytes_max)
    except DecodeError as error:
        return Unredrivable(f"this release can't decode it: {error}")
    if not SELLER_ID.fullmatch(str(body["seller_id"])):
        return Unredrivable("its seller_id can't be stored")
    order_id = str(body["order_id"])
    refusal = check_order_id(order_id)
    if refusal is not None:
        return Unredrivable(f"its order_id can't be stored: it {refusal.detail}")
    key = order_id.encode()
    headers = [(DEAD_LETTER_HEADER, str(letter.id).encode())]
    if carried.traceparent is not None:
        headers.append((TRACEPARENT, carried.traceparent.encode()))
    return Resend(topic.name, partition_of(key, partitions), key, carried.value, tuple(headers))


def redrive(
    connection: Connection,
    producer: Producer,
    planned: Iterator[tuple[DeadLetterRow, Plan]],
    *,
    by: str,
    why: str,
    rate_max: float | None = None,
    topic_prefix: str = "",
) -> Iterator[Redriven]:
    """Send what is planned, `rate_max` a second at most, and record it; each dead letter is yielded once recorded.

    Call it within `closing`. Records of one key are sent in their order: each only after the brokers have acknowledged
    the one before. Raises `NotAcknowledgedError`, after which what was sent is recorded, and the rest is still open.
    """
    size = _BATCH if rate_max is None else max(1, min(_BATCH, int(rate_max)))
    began, sent = monotonic(), 0
    batch: list[tuple[DeadLetterRow, Resend]] = []
    for letter, plan in planned:
        if isinstance(plan, Unredrivable):
            yield Redriven(letter, plan, None)
            continue
        same_key = any((plan.topic, plan.key) == (other.topic, other.key) for _, other in batch)
        if same_key or len(batch) == size:
            yield from _send(connection, producer, batch, by, why, topic_prefix)
            sent += len(batch)
            batch = []
            if rate_max is not None:
                sleep(max(0.0, began + sent / rate_max - monotonic()))
        batch.append((letter, plan))
    yield from _send(connection, producer, batch, by, why, topic_prefix)


def _send(
    connection: Connection,
    producer: Producer,
    batch: Sequence[tuple[DeadLetterRow, Resend]],
    by: str,
    why: str,
    topic_prefix: str,
) -> list[Redriven]:
    if not batch:
        return []
    answers: list[Delivered | KafkaError | None] = [None] * len(batch)
    for index, (_, plan) in enumerate(batch):

        def note(error: KafkaError | None, message: Message, index: int = index) -> None:
            if error is not None:
                answers[index] = error
            else:
                answers[index] = Delivered(message.partition() or 0, message.offset() or 0)

        producer.produce(
            topic_prefix + plan.topic,
            plan.value,
            plan.key,
            plan.partition,
            on_delivery=note,
            headers=list(plan.headers),
        )
    producer.flush(_ACKNOWLEDGED_SECONDS_MAX + 1)
    done = [
        Redriven(letter, plan, answer)
        for (letter, plan), answer in zip(batch, answers, strict=True)
        if isinstance(answer, Delivered)
    ]
    places = [(each.letter.id, each.delivered) for each in done if each.delivered is not None]
    dead_letters.close_redriven(connection, places, by=by, why=why)
    if len(done) < len(batch):
        causes = [reason_of(answer) for answer in answers if isinstance(answer, KafkaError)]
        raise NotAcknowledgedError(next(iter(causes), "no answer in time"))
    return done


def _plan_event(connection: Connection, letter: DeadLetterRow, carried: CarriedBytes, source: Message | None) -> Plan:
    """What to send of an event, which must be the relay's: only that may be in its topic twice."""
    topic = TOPICS.get(letter.source_topic)
    if topic is None:
        return Unredrivable(f"this release knows no topic {letter.source_topic}")
    try:
        decode(carried.value, *topic.schemas, bytes_max=topic.value_bytes_max)
    except DecodeError as error:
        return Unredrivable(f"this release can't decode it: {error}")
    if source is None:
        return Unredrivable("its topic does not have the record any more, which says its seq")
    headers = _relays_headers(source)
    seq = int(headers[0][1]) if headers else 0
    names: dict[str, Any] = {"topics": [topic.name], "partitions": [letter.source_partition], "seqs": [seq]}
    rows = [tuple(row[2:]) for row in connection.execute(SQL["read_journal_rows"], names).fetchall()]
    bytes_of_it = carried.key, carried.value
    if not headers or (source.key(), source.value()) != bytes_of_it or rows != [bytes_of_it]:
        return Unredrivable("the journal has no such event: the relay did not write it")
    return Resend(topic.name, letter.source_partition, carried.key, carried.value, headers)


def _relays_headers(message: Message) -> tuple[tuple[str, bytes], ...]:
    """The headers that the relay gives a record, its seq first; none without a seq."""
    found: Any = message.headers() or ()
    headers = {name: value for name, value in found if isinstance(value, bytes)}
    seq = headers.get(SEQ_HEADER, b"")
    if not seq.isdigit() or len(seq) > _SEQ_DIGITS_MAX:
        return ()
    return tuple((name, headers[name]) for name in (SEQ_HEADER, TRACEPARENT) if name in headers)
