"""The relay between a real journal and a real Kafka: in order, numbered, nothing missing, whoever publishes."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition

from runtime.kafka import TopicSpec, end_offsets, ensure_topics
from schemas import catalog
from streams.relay import Relay, make_producer
from tests.conftest import Services

EVENTS = catalog.INVOICE_EVENTS.name
Query = Callable[..., list[tuple[Any, ...]]]
DEADLINE_S = 30.0


class Topic:
    """Partition 0 of `invoice-events` from where it ended when the test began."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._start = end_offsets(bootstrap, [(EVENTS, 0)])[(EVENTS, 0)]

    def read_until(self, seq: int) -> list[tuple[int, bytes | None, bytes | None]]:
        """(seq, key, value) of each record, up to the first with `seq`."""
        consumer = Consumer({"bootstrap.servers": self._bootstrap, "group.id": "test", "enable.auto.commit": False})
        consumer.assign([TopicPartition(EVENTS, 0, self._start)])
        found: list[tuple[int, bytes | None, bytes | None]] = []
        deadline = time.monotonic() + DEADLINE_S
        try:
            while not found or found[-1][0] != seq:
                assert time.monotonic() < deadline, f"seq {seq} did not come; last of {len(found)}: {found[-1:]}"
                message = consumer.poll(1.0)
                if message is None:
                    continue
                assert message.error() is None
                headers = dict(message.headers() or [])
                value = headers[catalog.SEQ_HEADER]
                assert isinstance(value, bytes)
                found.append((int(value.decode("ascii")), message.key(), message.value()))
        finally:
            consumer.close()
        return found


@pytest.fixture
def topic(services: Services) -> Topic:
    specs = [TopicSpec(each.name, each.partitions, each.config) for each in catalog.TOPICS.values()]
    ensure_topics(services.kafka_bootstrap, specs, 1)
    return Topic(services.kafka_bootstrap)


@contextmanager
def running(services: Services, url: str) -> Iterator[Relay]:
    stop = threading.Event()
    relay = Relay(url, make_producer(services.kafka_bootstrap), stop)
    thread = threading.Thread(target=relay.run)
    thread.start()
    try:
        yield relay
    finally:
        stop.set()
        thread.join(DEADLINE_S)
        assert not thread.is_alive()


def append(query: Query, first: int, last: int) -> None:
    query(
        "INSERT INTO journal (topic, partition, seq, key, payload, occurred_at)"
        " SELECT %s, 0, seq, ('k' || seq)::bytea, ('payload ' || seq)::bytea, now()"
        " FROM generate_series(%s::bigint, %s::bigint) AS seq",
        EVENTS,
        first,
        last,
    )
    query(
        "INSERT INTO journal_heads (topic, partition, next_seq) VALUES (%s, 0, %s)"
        " ON CONFLICT (topic, partition) DO UPDATE SET next_seq = excluded.next_seq",
        EVENTS,
        last + 1,
    )


def published(query: Query) -> int:
    [(seq,)] = query("SELECT coalesce(max(published_seq), 0) FROM journal_published WHERE topic = %s", EVENTS)
    return int(seq)


def wait_for(condition: Callable[[], bool], what: str, deadline_s: float = DEADLINE_S) -> None:
    deadline = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < deadline, what
        threading.Event().wait(0.05)


def test_rows_come_out_in_order_with_their_seq_and_are_marked(
    services: Services, ledger_url: str, query: Query, topic: Topic
) -> None:
    append(query, 1, 5_000)
    with running(services, ledger_url):
        records = topic.read_until(5_000)
        assert [seq for seq, _, _ in records] == list(range(1, 5_001))
        assert records[41] == (42, b"k42", b"payload 42")
        wait_for(lambda: published(query) == 5_000, "published_seq was not moved")


@pytest.mark.parametrize("published_before", [32_760, 2**31 - 5])
def test_a_journal_grows_past_every_smaller_integer(
    services: Services, ledger_url: str, query: Query, topic: Topic, published_before: int
) -> None:
    append(query, published_before + 1, published_before + 10)
    query("INSERT INTO journal_published VALUES (%s, 0, %s)", EVENTS, published_before)
    with running(services, ledger_url):
        records = topic.read_until(published_before + 10)
    assert [seq for seq, _, _ in records] == list(range(published_before + 1, published_before + 11))


def test_what_was_sent_but_not_marked_is_sent_again(
    services: Services, ledger_url: str, query: Query, topic: Topic
) -> None:
    append(query, 1, 10)
    with running(services, ledger_url):
        wait_for(lambda: published(query) == 10, "the rows were not published")
    query("UPDATE journal_published SET published_seq = 7 WHERE topic = %s", EVENTS)
    append(query, 11, 12)
    with running(services, ledger_url):
        records = topic.read_until(12)
    assert [seq for seq, _, _ in records] == [*range(1, 11), 8, 9, 10, 11, 12]
    assert len({(seq, value) for seq, _, value in records}) == 12


def test_rows_of_earlier_months_are_published_too(
    services: Services, ledger_url: str, query: Query, topic: Topic
) -> None:
    append(query, 1, 2)
    with running(services, ledger_url):
        wait_for(lambda: published(query) == 2, "the rows were not published")
        append(query, 3, 4)
        query("UPDATE journal SET occurred_at = occurred_at - interval '90 days' WHERE seq = 3")
        wait_for(lambda: published(query) == 4, "a row with an old date holds up the others")
    assert [seq for seq, _, _ in topic.read_until(4)] == [1, 2, 3, 4]


def test_a_silent_relay_loses_its_partitions_within_ten_seconds(
    services: Services, ledger_url: str, query: Query, topic: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    asleep = threading.Event()
    wake = threading.Event()
    with running(services, ledger_url) as first:
        append(query, 1, 3)
        wait_for(lambda: published(query) == 3, "the first relay did not publish")
        serve_round = first._round

        def stopped_round(connection: Any) -> bool:
            asleep.set()
            wake.wait(DEADLINE_S)
            return serve_round(connection)

        monkeypatch.setattr(first, "_round", stopped_round)
        assert asleep.wait(DEADLINE_S)
        began = time.monotonic()
        with running(services, ledger_url):
            append(query, 4, 6)
            wait_for(lambda: published(query) == 6, "the second relay did not take over")
            assert time.monotonic() - began < 10
            wake.set()
            append(query, 7, 9)
            wait_for(lambda: published(query) == 9, "publishing stopped when the first relay woke")
    highest = 0
    for seq, _, _ in topic.read_until(9):
        assert seq <= highest + 1, "a hole"
        highest = max(highest, seq)
