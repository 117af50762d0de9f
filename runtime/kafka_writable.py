"""Whether Kafka would acknowledge a message with `acks=all`, as far as this is known without sending one."""

from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, OffsetSpec  # type: ignore[attr-defined]

from runtime.kafka import admin_client

_MIN_INSYNC = "min.insync.replicas"

_Result = TypeVar("_Result")


class Writability:
    """Checks topics for writability. Reuses its connections; not for concurrent use."""

    def __init__(self, bootstrap: str, topics: Sequence[str], *, timeout_seconds: float = 2.0) -> None:
        """`timeout_seconds` bounds each request of `problem`. Connects on first use."""
        self._topics = list(topics)
        self._seconds = timeout_seconds
        self._partitions: list[TopicPartition] = []
        self._admin: AdminClient = admin_client(bootstrap)

    def problem(self) -> str | None:
        """Why a message to one of the topics would not be acknowledged; None if all would be. Blocks.

        Each partition needs a leader that answers, and at least `min.insync.replicas` in-sync replicas. The leaders are
        asked directly, because brokers without a controller still list dead replicas as in sync.
        """
        try:
            return self._replicas_missing() or self._leader_silent()
        except (KafkaException, TimeoutError) as error:
            return _words(error)

    def _replicas_missing(self) -> str | None:
        resources = [ConfigResource(ConfigResource.Type.TOPIC, topic) for topic in self._topics]
        configs = self._admin.describe_configs(resources, request_timeout=self._seconds)
        needed = {resource.name: int(self._result(future)[_MIN_INSYNC].value) for resource, future in configs.items()}
        self._partitions = []
        for topic in self._topics:
            # Any broker answers this. Describing topics would wait for the last controller, which may be dead.
            found = self._admin.list_topics(topic, timeout=self._seconds).topics[topic]
            if found.error is not None:
                return f"{topic}: {found.error.str()}"
            for partition in found.partitions.values():
                where = f"{topic}/{partition.id}"
                if partition.leader < 0:
                    return f"{where} has no leader"
                # Brokers require no more in-sync replicas than the partition has.
                least = min(needed[topic], len(partition.replicas))
                if len(partition.isrs) < least:
                    return f"{where} has {len(partition.isrs)} in-sync replicas, {least} are needed"
                self._partitions.append(TopicPartition(topic, partition.id))
        return None

    def _leader_silent(self) -> str | None:
        latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
        asked = self._admin.list_offsets(dict.fromkeys(self._partitions, latest), request_timeout=self._seconds)
        for at, future in asked.items():
            try:
                self._result(future)
            except (KafkaException, TimeoutError) as error:
                return f"the leader of {at.topic}/{at.partition} does not answer: {_words(error)}"
        return None

    def _result(self, future: "Future[_Result] | Any") -> Any:
        # Slightly longer than the request's own timeout, so that the request's error is reported and not this one.
        return future.result(self._seconds + 0.5)


def _words(error: Exception) -> str:
    if isinstance(error, KafkaException):
        return f"{error.args[0].name()}: {error.args[0].str()}"
    return "no answer in time"
