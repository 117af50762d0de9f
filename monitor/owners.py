"""Which worker the brokers have given each partition to, and which relay publishes each output."""

import logging
import time
from collections.abc import Iterable, Mapping
from typing import Any

import psycopg
from confluent_kafka import KafkaException

from monitor import statements
from runtime.kafka import admin_client, reason_of
from runtime.roles import READERS
from schemas.catalog import OUTPUT_TOPICS

_log = logging.getLogger(__name__)

#: The brokers are asked so often: owners change seldom, and an answer costs them more than an offset does.
_ASK_EVERY_SECONDS = 3.0
_ANSWER_SECONDS_MAX = 3.0
#: What a worker's consumer group is called; the group's static members are its slots, such as `invoices-1`.
_GROUP = "gapless-{}"


class Owners:
    """Who owns what, as the brokers said last."""

    def __init__(self, bootstrap: str) -> None:
        self._admin = admin_client(bootstrap)
        self._asked_at = float("-inf")
        self._found: dict[tuple[str, tuple[str, int]], str] = {}
        self._ownerless_since: dict[str, float] = {}

    def by_partition(self) -> Mapping[tuple[str, tuple[str, int]], str]:
        """By (agent, (topic, partition)). What can't be asked is as it was last known."""
        if time.monotonic() - self._asked_at >= _ASK_EVERY_SECONDS:
            self._asked_at = time.monotonic()
            self._ask()
        return self._found

    def ownerless_since(self, agent: str) -> float | None:
        """Since when an agent has no worker, in seconds since 1970; None if it has one."""
        return self._ownerless_since.get(agent)

    def _ask(self) -> None:
        asked = self._admin.describe_consumer_groups(
            [_GROUP.format(agent) for agent in READERS], request_timeout=_ANSWER_SECONDS_MAX
        )
        for agent in READERS:
            try:
                group = asked[_GROUP.format(agent)].result(_ANSWER_SECONDS_MAX)
            except KafkaException as error:
                _log.debug("who owns the partitions of %s is not known: %s", agent, reason_of(error.args[0]))
                continue
            except TimeoutError:
                continue
            found = {
                (agent, (at.topic, at.partition)): member.group_instance_id or member.client_id
                for member in group.members
                for at in (member.assignment.topic_partitions if member.assignment else ())
            }
            self._found = {key: owner for key, owner in self._found.items() if key[0] != agent} | found
            if found:
                self._ownerless_since.pop(agent, None)
            else:
                self._ownerless_since.setdefault(agent, time.time())


class Publishers:
    """Which relay publishes each output: the session that holds its lock."""

    def __init__(self) -> None:
        self._asked_at = float("-inf")
        self._found: dict[tuple[str, int], str] = {}

    def by_output(self, connection: psycopg.Connection[Any]) -> Mapping[tuple[str, int], str]:
        """By (topic, partition), at most some seconds old."""
        if time.monotonic() - self._asked_at >= _ASK_EVERY_SECONDS:
            self._found = name_publishers(connection.execute(statements.RELAYS))
            self._asked_at = time.monotonic()
        return self._found


def name_publishers(locks: Iterable[tuple[int, int, int, str, str | None]]) -> dict[tuple[str, int], str]:
    """Names by (topic, partition); where there are several relays, with address and session, which tell them apart.

    `locks` are rows of `statements.RELAYS`: topic's number, partition, session, its name and address.
    """
    locks = [lock for lock in locks if 0 <= lock[0] < len(OUTPUT_TOPICS)]
    is_alone = len({session for _, _, session, _, _ in locks}) == 1
    return {
        (OUTPUT_TOPICS[number].name, partition): (name or "relay")
        + ("" if is_alone else f" at {address or 'the socket'}, session {session}")
        for number, partition, session, name, address in locks
    }
