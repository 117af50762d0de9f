"""Kafka administration: creates, checks and measures topics, and interprets client errors."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from time import monotonic, sleep
from typing import Any, Literal, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic  # type: ignore[attr-defined]

from runtime.outages import KAFKA

_log = logging.getLogger(__name__)

_ADMIN_SECONDS_MAX = 15.0
_LEADERLESS_PAUSE_SECONDS = 0.1
_LEADERLESS = (
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.FENCED_LEADER_EPOCH,
)
_UNKNOWN = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION)
#: Timestamps that mean a log's end and its start in Kafka's protocol (ListOffsets).
_LATEST, _EARLIEST = -1, -2

#: Errors of the connection to one broker. The client continues with the others, and reports when none is left.
_ONE_BROKER_DOWN = (KafkaError._TRANSPORT, KafkaError._RESOLVE, KafkaError._TIMED_OUT)


class TopicError(Exception):
    """Topics are missing or differ from the catalogue, one line each; or Kafka cannot be queried."""


class TopicSpec(NamedTuple):
    """A topic as declared. `config` maps the broker's names of topic settings, such as `retention.ms`, to values."""

    name: str
    partitions: int
    config: Mapping[str, str]


def log_client_error(error: KafkaError) -> None:
    """Log an error that a client passes to its `error_cb`: as an outage if no broker is left, otherwise as it is.

    The client reports once that no broker is left. Later failures of single brokers prolong that outage.
    """
    goes_on = KAFKA.reason is not None and error.code() in _ONE_BROKER_DOWN
    if goes_on or error.code() == KafkaError._ALL_BROKERS_DOWN:
        KAFKA.failed(reason_of(error))
    else:
        level = logging.DEBUG if error.code() in _ONE_BROKER_DOWN else logging.WARNING
        _log.log(level, "kafka: %s", reason_of(error))


def reason_of(error: KafkaError) -> str:
    """The error's name and text."""
    return f"{error.name()}: {error.str()}"


def ensure_topics(bootstrap: str, topics: Iterable[TopicSpec], replication_factor: int) -> list[str]:
    """Create missing topics and check existing ones; return the names of those created. Blocks.

    Raises `TopicError` with every difference. Existing topics are never changed: more partitions would move orders to
    other partitions, and a shorter retention would delete them.
    """
    wanted = list(topics)
    admin = admin_client(bootstrap)
    there = _existing(admin)
    missing = [topic for topic in wanted if topic.name not in there]
    new = [
        NewTopic(
            topic.name,
            num_partitions=topic.partitions,
            replication_factor=replication_factor,
            config={"min.insync.replicas": str(_insync_min(replication_factor)), **topic.config},
        )
        for topic in missing
    ]
    problems = []
    if new:
        for name, made in admin.create_topics(new, operation_timeout=_ADMIN_SECONDS_MAX).items():
            try:
                made.result(_ADMIN_SECONDS_MAX)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:  # A concurrent `gapless topics` created it.
                    problems.append(f"{name}: cannot be created: {reason_of(error.args[0])}")
    problems += check_topics(bootstrap, [topic for topic in wanted if topic not in missing], replication_factor)
    if problems:
        raise TopicError("\n".join(problems))
    return [topic.name for topic in missing]


def _insync_min(replication_factor: int) -> int:
    """`min.insync.replicas`: 2 for three or more replicas; otherwise 1, with which a broker's loss may lose orders."""
    return max(1, min(2, replication_factor - 1))


def check_topics(bootstrap: str, topics: Iterable[TopicSpec], replication_factor: int) -> list[str]:
    """The differences between topics and specifications, one line each; empty if there are none. Blocks.

    More replicas, or a higher `min.insync.replicas`, than required is no difference. Raises `TopicError` if Kafka
    cannot be queried.
    """
    wanted = list(topics)
    if not wanted:
        return []
    admin = admin_client(bootstrap)
    there = _existing(admin)
    problems = [f"{topic.name}: missing" for topic in wanted if topic.name not in there]
    present = [topic for topic in wanted if topic.name in there]
    configs = _configs(admin, [topic.name for topic in present])
    for topic in present:
        replicas, config = there[topic.name], configs[topic.name]
        if len(replicas) != topic.partitions:
            problems.append(f"{topic.name}: {len(replicas)} partitions, {topic.partitions} required")
        problems += [
            f"{topic.name}: {setting} is {config.get(setting)}, {value} required"
            for setting, value in topic.config.items()
            if config.get(setting) != value
        ]
        problems += [
            f"{topic.name}: {setting} is {found}, at least {least} required for {replication_factor} replicas"
            for setting, found, least in (
                ("replication.factor", min(replicas), replication_factor),
                ("min.insync.replicas", int(config.get("min.insync.replicas") or 1), _insync_min(replication_factor)),
            )
            if found < least
        ]
    return problems


def end_offsets(bootstrap: str, partitions: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]:
    """The offset that the next record of each (topic, partition) will have. Blocks. Raises `TopicError`."""
    with closing(OffsetReader(bootstrap, "read_uncommitted")) as reader:
        return reader.ends(partitions)


def stable_offsets(bootstrap: str, partitions: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]:
    """The end of each (topic, partition) for `read_committed` consumers. Blocks. Raises `TopicError`.

    This is the first offset of the oldest open transaction or, without one, the same as `end_offsets`.
    """
    with closing(OffsetReader(bootstrap, "read_committed")) as reader:
        return reader.ends(partitions)


def start_offsets(bootstrap: str, partitions: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]:
    """The offset of the oldest record that each (topic, partition) still has. Blocks. Raises `TopicError`."""
    with closing(OffsetReader(bootstrap, "read_uncommitted")) as reader:
        return reader.starts(partitions)


class OffsetReader:
    """Reads where partitions begin and end. Reuses its connections."""

    def __init__(
        self,
        bootstrap: str,
        isolation_level: Literal["read_committed", "read_uncommitted"],
        seconds_max: float = _ADMIN_SECONDS_MAX,
    ) -> None:
        """Connects on first use. `seconds_max` bounds the wait for an answer."""
        self._bootstrap = bootstrap
        self._seconds_max = seconds_max
        # Not `AdminClient.list_offsets`: with librdkafka 2 about one call in thirty takes 3 s, the others 10 ms.
        # `offsets_for_times` sends the same request and takes 1 ms.
        self._consumer = Consumer(
            {
                **_client_config(bootstrap),
                # The library requires a group id; this consumer joins no group and stores no offsets.
                "group.id": "gapless-offsets",
                "enable.auto.commit": False,
                "isolation.level": isolation_level,
            }
        )

    def ends(self, partitions: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """See `end_offsets`, or `stable_offsets` for `read_committed`. Raises `TopicError`."""
        return self._ask(partitions, _LATEST)

    def starts(self, partitions: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """See `start_offsets`. Raises `TopicError`."""
        return self._ask(partitions, _EARLIEST)

    def close(self) -> None:
        """Close the connections."""
        self._consumer.close()

    def _ask(self, partitions: Iterable[tuple[str, int]], timestamp: int) -> dict[tuple[str, int], int]:
        wanted = [TopicPartition(topic, partition, timestamp) for topic, partition in partitions]
        if not wanted:
            return {}
        deadline = monotonic() + self._seconds_max
        while True:
            try:
                found = self._consumer.offsets_for_times(wanted, timeout=self._seconds_max)
                if failed := [at.error for at in found if at.error is not None]:
                    raise KafkaException(failed[0])
                return {(at.topic, at.partition): at.offset for at in found}
            except KafkaException as error:
                if not _without_leader(self._bootstrap, wanted, error) or monotonic() > deadline:
                    raise unasked(error) from None
                sleep(_LEADERLESS_PAUSE_SECONDS)


def _without_leader(bootstrap: str, wanted: Iterable[TopicPartition], error: KafkaException) -> bool:
    """Whether the error is temporary: a new partition, or one whose broker just died, has no leader for a moment."""
    code = error.args[0].code()
    if code in _UNKNOWN:
        # librdkafka reports the same code for a partition without a leader and for one that does not exist.
        there = _existing(admin_client(bootstrap))
        return all(at.partition < len(there.get(at.topic, ())) for at in wanted)
    return code in _LEADERLESS


def admin_client(bootstrap: str, on_error: Callable[[KafkaError], None] | None = None) -> AdminClient:
    """An admin client that writes nothing to standard error; its `poll` calls `on_error` for errors of connections."""
    callback = {} if on_error is None else {"error_cb": on_error}
    return AdminClient(_client_config(bootstrap) | callback)


def _client_config(bootstrap: str) -> dict[str, Any]:
    # With a logger the library writes nothing to standard error; failures are returned as errors.
    logger = logging.getLogger("librdkafka")
    return {"bootstrap.servers": bootstrap, "logger": logger, "reconnect.backoff.max.ms": 1_000}


def _existing(admin: AdminClient) -> dict[str, list[int]]:
    """The number of replicas of each partition, by topic."""
    try:
        metadata = admin.list_topics(timeout=_ADMIN_SECONDS_MAX)
    except KafkaException as error:
        raise unasked(error) from None
    return {
        name: [len(partition.replicas) for partition in topic.partitions.values()]
        for name, topic in metadata.topics.items()
    }


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
        raise unasked(error) from None


def unasked(error: BaseException) -> TopicError:
    """The `TopicError` for a query that the brokers did not answer."""
    cause = error.args[0] if error.args else error
    return TopicError(f"cannot query Kafka: {reason_of(cause) if isinstance(cause, KafkaError) else cause}")
