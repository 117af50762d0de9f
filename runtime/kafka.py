"""Kafka from asyncio: publish with acknowledgement, and make, check and measure topics."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from time import monotonic, sleep
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, OffsetSpec  # type: ignore[attr-defined]

_log = logging.getLogger(__name__)

#: Above every topic's `max.message.bytes`: the broker, which knows the topic, says what is too large.
_MESSAGE_BYTES_MAX = 5 * 1024 * 1024
#: How often delivery reports are fetched while some are due. It is the resolution of an acknowledgement's latency, and
#: costs 1% of a core; nothing is due, nothing runs.
_POLL_SECONDS = 0.001
#: How often errors and connections are looked after while nothing is due.
_IDLE_POLL_SECONDS = 1.0
#: librdkafka looks for timed out messages once a second, and so may be this late with its answer.
_REPORT_LATE_SECONDS_MAX = 1.0
_ADMIN_SECONDS_MAX = 15.0
_LEADERLESS_PAUSE_SECONDS = 0.1
_LEADERLESS = (
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.FENCED_LEADER_EPOCH,
)


class OverloadedError(Exception):
    """The queue of unacknowledged messages is full; nothing was sent."""


class NotAcknowledgedError(Exception):
    """The brokers did not acknowledge in time. Whether the message is kept is unknown: send it again."""


class TopicError(Exception):
    """Topics are missing or not as the catalogue wants them, one line each; or the brokers can't be asked."""


class Delivered(NamedTuple):
    """Where an acknowledged message stands."""

    partition: int
    offset: int


class TopicSpec(NamedTuple):
    """A topic as it must be. `config` holds the broker's names for topic settings, such as `retention.ms`."""

    name: str
    partitions: int
    config: Mapping[str, str]


class Publisher:
    """Publishes to Kafka; a future per message, done when all in-sync replicas have it.

    It belongs to the running event loop and is made there. Reports are fetched by the loop itself while some are due:
    with a thread for that, each report would wait for the interpreter's lock that a busy loop holds.
    """

    def __init__(
        self,
        bootstrap: str,
        *,
        client_id: str = "gapless",
        timeout_seconds: float = 30.0,
        linger_seconds: float = 0.010,
        queued_messages_max: int = 100_000,
        queued_bytes_max: int = 256 * 1024 * 1024,
    ) -> None:
        """`timeout_seconds` bounds the wait for an acknowledgement; it must be above 2.

        The queue holds what is not yet acknowledged: beyond `queued_messages_max` or `queued_bytes_max`, `publish`
        raises `OverloadedError`.
        """
        if timeout_seconds <= 2 * _REPORT_LATE_SECONDS_MAX:
            raise ValueError(f"timeout_seconds must be above {2 * _REPORT_LATE_SECONDS_MAX}")
        self._loop = asyncio.get_running_loop()
        self._timeout_seconds = timeout_seconds
        self._config: dict[str, Any] = {
            "bootstrap.servers": bootstrap,
            "client.id": client_id,
            "acks": "all",
            "enable.idempotence": True,
            "max.in.flight.requests.per.connection": 5,
            # As Java clients do it, so that any client may join; librdkafka's own default differs.
            "partitioner": "murmur2_random",
            "compression.type": "none",
            "linger.ms": linger_seconds * 1000,
            "message.timeout.ms": int((timeout_seconds - _REPORT_LATE_SECONDS_MAX) * 1000),
            "message.max.bytes": _MESSAGE_BYTES_MAX,
            "queue.buffering.max.messages": queued_messages_max,
            "queue.buffering.max.kbytes": queued_bytes_max // 1024,
            "reconnect.backoff.ms": 50,
            "reconnect.backoff.max.ms": 1000,
            "socket.keepalive.enable": True,
            "logger": logging.getLogger("librdkafka"),
            "error_cb": self._on_error,
        }
        self._producer = Producer(self._config)
        #: In the order of their deadlines, as all have the same timeout.
        self._due: deque[tuple[float, asyncio.Future[Delivered]]] = deque()
        self._broken = False
        self._closed = False
        self._timer = self._loop.call_later(_IDLE_POLL_SECONDS, self._poll)
        self._polls_fast = False

    @property
    def in_flight(self) -> int:
        """How many messages wait for their acknowledgement, or stand behind one that does."""
        return len(self._due)

    def publish(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes]] | None = None,
        partition: int | None = None,
    ) -> asyncio.Future[Delivered]:
        """Send a message; the future ends with `Delivered` or raises `NotAcknowledgedError`.

        Without `partition` the key decides. Messages of one partition arrive in the order of the calls. Raises
        `OverloadedError`, and `ValueError` for a message that no topic takes.
        """
        future: asyncio.Future[Delivered] = self._loop.create_future()
        try:
            self._producer.produce(
                topic,
                value,
                key,
                -1 if partition is None else partition,
                on_delivery=_reporter(future),
                headers=None if headers is None else list(headers),
            )
        except BufferError:
            raise OverloadedError("too many messages wait for the brokers") from None
        except KafkaException as error:
            if error.args[0].code() == KafkaError.MSG_SIZE_TOO_LARGE:
                raise ValueError(f"a message of {len(value or b'')} bytes is too large") from None
            self._broken = self._broken or error.args[0].fatal()
            future.set_exception(NotAcknowledgedError(_reason(error.args[0])))
            return future
        self._due.append((monotonic() + self._timeout_seconds, future))
        if not self._polls_fast:
            self._polls_fast = True
            self._timer.cancel()
            self._timer = self._loop.call_later(_POLL_SECONDS, self._poll)
        return future

    async def reaches(self, topic: str, timeout_seconds: float = 2.0) -> bool:
        """Whether the brokers answer, and every partition of the topic has a leader."""
        producer = self._producer

        def ask() -> bool:
            try:
                metadata = producer.list_topics(topic, timeout=timeout_seconds)
            except KafkaException:
                return False
            found = metadata.topics[topic]
            return found.error is None and all(each.leader >= 0 for each in found.partitions.values())

        return await asyncio.to_thread(ask)

    async def drain(self) -> None:
        """Wait until nothing is due: each message acknowledged, failed or timed out."""
        while self._due:
            await asyncio.wait([future for _, future in self._due])
            self._drop_done()

    async def close(self) -> None:
        """Wait for what is due, at most the timeout, then end. What was not acknowledged has failed."""
        await self.drain()
        self._closed = True
        self._timer.cancel()
        self._producer.purge()
        self._producer.poll(0)

    def _poll(self) -> None:
        self._producer.poll(0)
        self._drop_done()
        if self._broken:
            self._replace()
        if self._closed:
            return
        self._polls_fast = bool(self._due)
        wait = _POLL_SECONDS if self._polls_fast else _IDLE_POLL_SECONDS
        self._timer = self._loop.call_later(wait, self._poll)

    def _drop_done(self) -> None:
        due = self._due
        now = monotonic()
        while due:
            deadline, future = due[0]
            if not future.done():
                if deadline > now:
                    break
                future.set_exception(NotAcknowledgedError(f"no answer within {self._timeout_seconds:g} s"))
            due.popleft()

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal():
            self._broken = True
        _log.warning("kafka: %s", _reason(error))

    def _replace(self) -> None:
        """Begin anew with another producer: after a fatal error librdkafka refuses every message for ever."""
        _log.warning("kafka: the producer is beyond repair; going on with a new one")
        self._producer.purge()
        self._producer.poll(0)
        # Nobody will report on what is left of them.
        for _, future in self._due:
            if not future.done():
                future.set_exception(NotAcknowledgedError("the producer failed"))
        self._due.clear()
        self._producer = Producer(self._config)
        self._broken = False


def _reporter(future: asyncio.Future[Delivered]) -> Callable[[KafkaError | None, Message], None]:
    """The callback for one message's report; `poll` calls it on the loop's own thread."""

    def report(error: KafkaError | None, message: Message) -> None:
        if future.done():  # The caller has gone, or the deadline has passed.
            return
        if error is None:
            future.set_result(Delivered(message.partition() or 0, message.offset() or 0))
        else:
            future.set_exception(NotAcknowledgedError(_reason(error)))

    return report


def _reason(error: KafkaError) -> str:
    return f"{error.name()}: {error.str()}"


def ensure_topics(bootstrap: str, topics: Iterable[TopicSpec], replication_factor: int) -> list[str]:
    """Make the topics that are missing, check those that are there; return the names of those made. Blocks.

    Raises `TopicError` with every difference: nothing that exists is changed, since a partition count that grows moves
    orders, and a retention that shrinks deletes them.
    """
    wanted = list(topics)
    admin = _admin(bootstrap)
    there = _existing(admin)
    missing = [topic for topic in wanted if topic.name not in there]
    # acks=all waits for the replicas in sync, which may be one: then a kept order dies with one broker.
    insync = str(max(1, min(2, replication_factor - 1)))
    new = [
        NewTopic(
            topic.name,
            num_partitions=topic.partitions,
            replication_factor=replication_factor,
            config={"min.insync.replicas": insync, **topic.config},
        )
        for topic in missing
    ]
    problems = []
    if new:
        for name, made in admin.create_topics(new, operation_timeout=_ADMIN_SECONDS_MAX).items():
            try:
                made.result(_ADMIN_SECONDS_MAX)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:  # Another `gapless topics` was faster.
                    problems.append(f"{name}: cannot be made: {_reason(error.args[0])}")
    problems += check_topics(bootstrap, [topic for topic in wanted if topic not in missing])
    if problems:
        raise TopicError("\n".join(problems))
    return [topic.name for topic in missing]


def check_topics(bootstrap: str, topics: Iterable[TopicSpec]) -> list[str]:
    """What differs between the topics and the specifications, one line each; empty if nothing does. Blocks.

    Raises `TopicError` if the brokers can't be asked.
    """
    wanted = list(topics)
    if not wanted:
        return []
    admin = _admin(bootstrap)
    there = _existing(admin)
    problems = [f"{topic.name}: missing" for topic in wanted if topic.name not in there]
    present = [topic for topic in wanted if topic.name in there]
    configs = _configs(admin, [topic.name for topic in present])
    for topic in present:
        if there[topic.name] != topic.partitions:
            problems.append(f"{topic.name}: {there[topic.name]} partitions, {topic.partitions} wanted")
        problems += [
            f"{topic.name}: {setting} is {configs[topic.name].get(setting)}, {value} wanted"
            for setting, value in topic.config.items()
            if configs[topic.name].get(setting) != value
        ]
    return problems


def missing_topics(bootstrap: str, names: Iterable[str]) -> list[str]:
    """Those that the brokers don't know, or not yet: one that has just started knows none. Raises `TopicError`."""
    existing = _existing(_admin(bootstrap))
    return [name for name in names if not existing.get(name)]


def end_offsets(bootstrap: str, partitions: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]:
    """The offset that the next record of each (topic, partition) will have. Blocks. Raises `TopicError`."""
    return _offsets(bootstrap, partitions, OffsetSpec.latest())  # type: ignore[no-untyped-call]


def start_offsets(bootstrap: str, partitions: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]:
    """The offset of the oldest record kept in each (topic, partition). Blocks. Raises `TopicError`."""
    return _offsets(bootstrap, partitions, OffsetSpec.earliest())  # type: ignore[no-untyped-call]


def _offsets(bootstrap: str, partitions: Iterable[tuple[str, int]], spec: OffsetSpec) -> dict[tuple[str, int], int]:
    wanted = {TopicPartition(topic, partition): spec for topic, partition in partitions}
    if not wanted:
        return {}
    admin = _admin(bootstrap)  # Held until the answers are there: they come from its own thread.
    deadline = monotonic() + _ADMIN_SECONDS_MAX
    while True:
        try:
            found = admin.list_offsets(wanted, request_timeout=_ADMIN_SECONDS_MAX)
            return {(at.topic, at.partition): future.result(_ADMIN_SECONDS_MAX).offset for at, future in found.items()}
        except (KafkaException, TimeoutError) as error:
            if not _without_leader(admin, wanted, error) or monotonic() > deadline:
                raise _unasked(error) from None
            sleep(_LEADERLESS_PAUSE_SECONDS)


def _without_leader(admin: AdminClient, wanted: Iterable[TopicPartition], error: Exception) -> bool:
    """Whether it passes: a partition just made, or whose broker just died, has no leader for a moment."""
    code = error.args[0].code() if isinstance(error, KafkaException) else None
    if code == KafkaError._NOENT:
        # librdkafka's word where none of them has a leader, and where there is no such topic at all.
        return {at.topic for at in wanted} <= _existing(admin).keys()
    return code in _LEADERLESS


def _admin(bootstrap: str) -> AdminClient:
    # With a logger the library says nothing on standard error; what matters comes back as an error.
    config: dict[str, Any] = {"bootstrap.servers": bootstrap, "logger": logging.getLogger("librdkafka")}
    return AdminClient({**config, "reconnect.backoff.max.ms": 1_000})


def _existing(admin: AdminClient) -> dict[str, int]:
    """Each topic's number of partitions."""
    try:
        metadata = admin.list_topics(timeout=_ADMIN_SECONDS_MAX)
    except KafkaException as error:
        raise _unasked(error) from None
    return {name: len(topic.partitions) for name, topic in metadata.topics.items()}


def _configs(admin: AdminClient, names: Sequence[str]) -> dict[str, dict[str, str | None]]:
    if not names:
        return {}
    asked = admin.describe_configs([ConfigResource(ConfigResource.Type.TOPIC, name) for name in names])
    try:
        return {
            resource.name: {name: entry.value for name, entry in future.result(_ADMIN_SECONDS_MAX).items()}
            for resource, future in asked.items()
        }
    except (KafkaException, TimeoutError) as error:
        raise _unasked(error) from None


def _unasked(error: BaseException) -> TopicError:
    cause = error.args[0] if error.args else error
    return TopicError(f"Kafka can't be asked: {_reason(cause) if isinstance(cause, KafkaError) else cause}")
