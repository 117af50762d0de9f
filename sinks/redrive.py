"""Redrives dead letters: sends the record of each again, to where it belongs, and records that.

What is sent depends on the topic:

- A topic with several writers gets a new record: the same value, with the order id as key, in that key's partition. So
  a record in a wrong place is moved to the right one, and a record that an older release could not decode is read by
  this one.
- A topic that only the relay writes to gets a repeat, as after a crash of the relay: the same bytes in the same
  partition with the same `seq`. Consumers ignore it. Agents find in their tables that the event is not applied, and
  apply it.

Records that would become dead letters again are not sent.

A record is sent and acknowledged before it is recorded as redriven. After a crash between the two it is sent again,
which has no second effect: an order id, a refund id, an order's state and an event's row each permit only one. In the
reverse order the record could be lost.
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

#: Header of new records that names the dead letter of which they are the redrive.
DEAD_LETTER_HEADER = "dead-letter"
#: Time limit for the brokers to acknowledge a record.
_ACKNOWLEDGED_SECONDS_MAX = 30
#: Dead letters that are read, sent and recorded at once; a crash repeats at most this many.
_BATCH = 100
#: Above every topic's `max.message.bytes`, so that the broker, which knows the topic, rejects what is too large.
_MESSAGE_BYTES_MAX = 5 * 1024 * 1024
_SEQ_DIGITS_MAX = 18
#: An arbitrary constant. The lock is needed because concurrent redrives could send the records of a key out of order.
_LOCK_ID = 0x6761_706C_6573_75
_INPUTS = frozenset(topic.name for topic in INPUT_TOPICS)


@dataclass(frozen=True, slots=True)
class Resend:
    """A record to send."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class Unredrivable:
    """Why sending the record again would not help."""

    why: str


Plan = Resend | Unredrivable


@dataclass(frozen=True, slots=True)
class Redriven:
    """The result for one dead letter; `delivered` is its record's new position, None if it was not sent."""

    letter: DeadLetterRow
    plan: Plan
    delivered: Delivered | None


def make_producer(bootstrap: str) -> Producer:
    """A producer that preserves the order per partition, and fails records that are not acknowledged in time."""
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
    """Hold the exclusive right to close dead letters. Raises `DeadLetterError` if another process has it.

    The lock ends with the connection.
    """
    cursor = connection.execute("SELECT pg_try_advisory_lock(%s)", (_LOCK_ID,))
    if cursor.fetchone() != (True,):
        raise DeadLetterError("another process is redriving or discarding dead letters: run this again later")
    try:
        yield
    finally:
        if not connection.closed:
            connection.execute("SELECT pg_advisory_unlock(%s)", (_LOCK_ID,))


def plan_all(
    connection: Connection, bootstrap: str, wanted: DeadLetterFilter, partitions: int, topic_prefix: str = ""
) -> Iterator[tuple[DeadLetterRow, Plan]]:
    """What a redrive does with each dead letter that is open now, in the order of their records in each partition.

    `partitions` is the number of each topic's partitions. Raises `runtime.kafka.TopicError` and `psycopg.Error`.
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
    """What to send of a record from a topic with several writers."""
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
    """Send the planned records, at most `rate_max` a second, and record them; yields each dead letter once recorded.

    Call it within `closing`. Records of one key are sent in order, each after the brokers have acknowledged the one
    before. Raises `NotAcknowledgedError`, after which sent records are recorded, and the other dead letters are open.
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
    """What to send of an event, which must be the relay's, because only the relay's events may be repeated."""
    topic = TOPICS.get(letter.source_topic)
    if topic is None:
        return Unredrivable(f"this release knows no topic {letter.source_topic}")
    try:
        decode(carried.value, *topic.schemas, bytes_max=topic.value_bytes_max)
    except DecodeError as error:
        return Unredrivable(f"this release can't decode it: {error}")
    if source is None:
        return Unredrivable("its topic no longer has the record, which contains its seq")
    headers = _relays_headers(source)
    seq = int(headers[0][1]) if headers else 0
    names: dict[str, Any] = {"topics": [topic.name], "partitions": [letter.source_partition], "seqs": [seq]}
    rows = [tuple(row[2:]) for row in connection.execute(SQL["read_journal_rows"], names).fetchall()]
    bytes_of_it = carried.key, carried.value
    if not headers or (source.key(), source.value()) != bytes_of_it or rows != [bytes_of_it]:
        return Unredrivable("the journal has no such event: the relay did not write it")
    return Resend(topic.name, letter.source_partition, carried.key, carried.value, headers)


def _relays_headers(message: Message) -> tuple[tuple[str, bytes], ...]:
    """The headers that the relay gives a record, its seq first; empty without a seq."""
    found: Any = message.headers() or ()
    headers = {name: value for name, value in found if isinstance(value, bytes)}
    seq = headers.get(SEQ_HEADER, b"")
    if not seq.isdigit() or len(seq) > _SEQ_DIGITS_MAX:
        return ()
    return tuple((name, headers[name]) for name in (SEQ_HEADER, TRACEPARENT) if name in headers)
