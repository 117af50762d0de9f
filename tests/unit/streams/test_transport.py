"""What is shared out in a group of workers."""

from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
from faust.types import TP
from mode import Service

from streams.engine import transport
from streams.engine.dedupe_table import DedupeTable
from streams.engine.transport import BatchConsumer, CompleteAssignor

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


async def test_a_partition_beyond_the_recorded_number_ends_the_worker() -> None:
    """Somebody has added partitions to the topic: nothing of theirs may be decided."""
    asked: list[int] = []

    async def read(topic: str, partitions: list[int]) -> dict[int, int]:
        asked.extend(partitions)
        return {}

    # Made without its parts: a whole one wants a broker.
    consumer: Any = BatchConsumer.__new__(BatchConsumer)
    consumer.app = SimpleNamespace(
        partitions=16, read_positions=read, tables=SimpleNamespace(changelog_topics=frozenset())
    )
    consumer.assignment = lambda: {TP("invoice-requests", 15)}
    assert await consumer.seek_to_committed() == {}
    assert asked == [15]
    consumer.assignment = lambda: {TP("invoice-requests", 16)}
    with pytest.raises(EndedError, match="invoice-requests has a partition 16, and Postgres has recorded 16 for each"):
        await consumer.seek_to_committed()


def test_what_faust_does_in_our_classes_is_logged_as_faust_does() -> None:
    """Or its progress would stand among our lines, under the names of our modules."""
    found: list[type[Service]] = [Service]
    for each in found:
        found += [sub for sub in each.__subclasses__() if sub not in found]
    ours = {each for each in found if each.__module__.startswith("streams.")}
    assert ours >= {transport.BatchApp, transport.BatchConsumer, transport.LoudTables, DedupeTable}
    assert {each.logger for each in ours} == {transport.FAUST_LOG}


def test_fetches_are_apart_and_everything_else_is_not_delayed_but_by_them() -> None:
    """The first after a silence is at once; one that follows waits, and so do the partitions without a fetch."""
    clock = [100.0]
    wanted: list[Any] = ["fetch"]
    paced = transport.apart(lambda _: (wanted, {}, 0.2, True, []), 0.03, lambda: clock[0])
    assert paced(None) == (["fetch"], {}, 0.2, True, [])
    clock[0] += 0.01
    fetches, resets, wait_s, *_ = paced(None)
    assert (fetches, resets) == ([], {})
    assert wait_s == pytest.approx(0.02)
    clock[0] += 0.02
    assert paced(None)[0] == ["fetch"]
    wanted.clear()
    clock[0] += 0.03
    paced(None)
    wanted.append("later")
    clock[0] += 0.001
    assert paced(None)[0] == ["later"], "what fetched nothing delays nothing"


def test_fetches_do_not_wait_long_while_partitions_are_taken_up() -> None:
    """A broker answers in order: the next question would wait behind the fetch."""
    state = ""
    app: Any = SimpleNamespace(partitions_state=lambda: state, gather_s=0.0)
    fetcher: Any = SimpleNamespace(_fetch_max_wait_ms=1500)
    fetcher._get_actions_per_node = lambda _: ([fetcher._fetch_max_wait_ms], {}, 0.2, True, [])
    transport.pace(fetcher, app)
    waits = []
    for state in ("not assigned yet", "ok", "being taken up", "ok"):  # noqa: B007 - `partitions_state` returns it.
        waits += fetcher._get_actions_per_node(None)[0]
    assert waits == [10, 1500, 10, 1500]


async def test_a_consumer_is_paced_from_its_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the first fetch: it would be as long as any."""

    async def start(thread: Any) -> None:
        thread._consumer = SimpleNamespace(_fetcher=fetcher)

    fetcher: Any = SimpleNamespace(_fetch_max_wait_ms=1500)
    fetcher._get_actions_per_node = lambda _: ([fetcher._fetch_max_wait_ms], {}, 0.2, True, [])
    monkeypatch.setattr("faust.transport.drivers.aiokafka.AIOKafkaConsumerThread.on_start", start)
    # Made without its parts: a whole one wants a broker.
    thread: Any = transport.CommittedThread.__new__(transport.CommittedThread)
    thread.consumer = SimpleNamespace(app=SimpleNamespace(partitions_state=lambda: "being taken up", gather_s=0.0))
    await thread.on_start()
    assert fetcher._get_actions_per_node(None)[0] == [10]
