"""What is shared out in a group of workers."""

from typing import NoReturn

import pytest

from streams import transport
from streams.transport import CompleteAssignor

SUBSCRIPTIONS = {"invoices-1": {"invoice-requests", "changelog"}}


class EndedError(Exception):
    """The process would have ended."""


@pytest.fixture(autouse=True)
def ends(monkeypatch: pytest.MonkeyPatch) -> None:
    def end(message: str) -> NoReturn:
        raise EndedError(message)

    monkeypatch.setattr(transport, "fatal", end)


class Cluster:
    """What the leader knows of the brokers' topics."""

    def __init__(self, *topics: str) -> None:
        self._topics = topics

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        return {0, 1, 2, 3} if topic in self._topics else None


def test_a_topic_that_the_brokers_dont_know_yet_is_not_left_out_in_silence() -> None:
    """Left out, it stays unread until the group meets again; ended, the worker meets it again in seconds."""
    with pytest.raises(EndedError, match="don't know invoice-requests"):
        CompleteAssignor._get_copartitioned_groups(
            {"invoice-requests", "changelog"}, Cluster("changelog"), SUBSCRIPTIONS
        )


def test_topics_that_are_known_are_shared_out_together() -> None:
    topics = {"invoice-requests", "changelog"}
    groups = CompleteAssignor._get_copartitioned_groups(topics, Cluster(*topics), SUBSCRIPTIONS)
    assert [list(its) for its in groups.values()] == [[topics]]
