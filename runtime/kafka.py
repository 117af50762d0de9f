"""Asks Kafka: makes, checks and measures topics; what its clients' errors mean."""

import logging
from collections.abc import Iterable, Mapping, Sequence
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
#: Timestamps that stand for a log's end and its start, by Kafka's protocol (ListOffsets).
_LATEST, _EARLIEST = -1, -2

#: What befell the connection to one broker. The client goes on with the others, and says so when none is left.
_ONE_BROKER_DOWN = (KafkaError._TRANSPORT, KafkaError._RESOLVE, KafkaError._TIMED_OUT)


class TopicError(Exception):
    """Topics are missing or not as the catalogue wants them, one line each; or the brokers can't be asked."""


class TopicSpec(NamedTuple):
    """A topic as it must be. `config` holds the broker's names for topic settings, such as `retention.ms`."""

    name: str
    partitions: int
    config: Mapping[str, str]


def log_client_error(error: KafkaError) -> None:
    """Log what a client's `error_cb` is told: an outage where no broker is left, other causes by themselves.

    That none is left is told once. While each of them goes on failing, the outage goes on.
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
    """Make the topics that are missing, check those that are there; return the names of those made. Blocks.

    Raises `TopicError` with every difference: nothing that exists is changed, since a partition count that grows moves
    orders, and a retention that shrinks deletes them.
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
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:  # Another `gapless topics` was faster.
                    problems.append(f"{name}: cannot be made: {reason_of(error.args[0])}")
    problems += check_topics(bootstrap, [topic for topic in wanted if topic not in missing], replication_factor)
    if problems:
        raise TopicError("\n".join(problems))
    return [topic.name for topic in missing]


def _insync_min(replication_factor: int) -> int:
    """`acks=all` waits for the replicas in sync, which may be one: then an acknowledged order dies with one broker."""
    return max(1, min(2, replication_factor - 1))


def check_topics(bootstrap: str, topics: Iterable[TopicSpec], replication_factor: int) -> list[str]:
    """What differs between the topics and the specifications, one line each; empty if nothing does. Blocks.

    More replicas than wanted, and more of them in sync, are no difference.
    Raises `TopicError` if the brokers can't be asked.
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
            problems.append(f"{topic.name}: {len(replicas)} partitions, {topic.partitions} wanted")
        problems += [
            f"{topic.name}: {setting} is {config.get(setting)}, {value} wanted"
            for setting, value in topic.config.items()
            if config.get(setting) != value
        ]
        problems += [
            f"{topic.name}: {setting} is {found}, at least {least} wanted for {replication_factor} replicas"
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
    """Where each (topic, partition) ends for readers of committed records. Blocks. Raises `TopicError`.

    It is the oldest open transaction's first offset, or, without one, the same as `end_offsets`.
    """
    with closing(OffsetReader(bootstrap, "read_committed")) as reader:
        return reader.ends(partitions)


def start_offsets(bootstrap: str, partitions: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]:
    """The offset of the oldest record kept in each (topic, partition). Blocks. Raises `TopicError`."""
    with closing(OffsetReader(bootstrap, "read_uncommitted")) as reader:
        return reader.starts(partitions)


class OffsetReader:
    """Asks where partitions begin and end. Keeps its connections for the next question."""

    def __init__(
        self,
        bootstrap: str,
        isolation_level: Literal["read_committed", "read_uncommitted"],
        seconds_max: float = _ADMIN_SECONDS_MAX,
    ) -> None:
        """Connects when first asked. `seconds_max` is how long an answer may take."""
        self._bootstrap = bootstrap
        self._seconds_max = seconds_max
        # Not `AdminClient.list_offsets`: with librdkafka 2 about one call in thirty takes 3 s, and the others 10 ms.
        # `offsets_for_times` sends the brokers the same request, and takes 1 ms.
        self._consumer = Consumer(
            {
                **_client_config(bootstrap),
                # The library wants a name; no group is joined and no offset is stored under it.
                "group.id": "gapless-offsets",
                "enable.auto.commit": False,
                "isolation.level": isolation_level,
            }
        )

    def ends(self, partitions: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """As `end_offsets`, or as `stable_offsets` for readers of committed records. Raises `TopicError`."""
        return self._ask(partitions, _LATEST)

    def starts(self, partitions: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """As `start_offsets`. Raises `TopicError`."""
        return self._ask(partitions, _EARLIEST)

    def close(self) -> None:
        """Let the connections go."""
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
    """Whether it passes: a partition just made, or whose broker just died, has no leader for a moment."""
    code = error.args[0].code()
    if code in _UNKNOWN:
        # What librdkafka says of a partition without a leader, and of one that there is not at all.
        there = _existing(admin_client(bootstrap))
        return all(at.partition < len(there.get(at.topic, ())) for at in wanted)
    return code in _LEADERLESS


def admin_client(bootstrap: str) -> AdminClient:
    """A client that asks brokers, and says nothing on standard error. Connects when first asked."""
    return AdminClient(_client_config(bootstrap))


def _client_config(bootstrap: str) -> dict[str, Any]:
    # With a logger the library says nothing on standard error; what matters comes back as an error.
    logger = logging.getLogger("librdkafka")
    return {"bootstrap.servers": bootstrap, "logger": logger, "reconnect.backoff.max.ms": 1_000}


def _existing(admin: AdminClient) -> dict[str, list[int]]:
    """Of each topic the number of replicas of each partition."""
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
    """What to raise where the brokers did not answer."""
    cause = error.args[0] if error.args else error
    return TopicError(f"Kafka can't be asked: {reason_of(cause) if isinstance(cause, KafkaError) else cause}")
