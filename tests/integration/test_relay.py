"""The relay between a real journal and a real Kafka: in order, numbered, nothing missing, whoever publishes."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import kafka
import pytest
from confluent_kafka import Consumer, TopicPartition
from kafka import KafkaConsumer

from runtime.kafka import TopicSpec, end_offsets, ensure_topics
from runtime.metrics import REGISTRY
from schemas import catalog
from streams.relay import relay
from streams.relay.relay import Relay
from tests.conftest import PARTITIONS, Services

EVENTS = catalog.INVOICE_EVENTS.name
Query = Callable[..., list[tuple[Any, ...]]]
DEADLINE_S = 120.0


class Topic:
    """Partition 0 of `invoice-events` from where it ended when the test began."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        #: Of each record that was read, by its seq.
        self.headers: dict[int, dict[str, Any]] = {}
        self.start = end_offsets(bootstrap, [(EVENTS, 0)])[(EVENTS, 0)]

    def read_until(self, seq: int) -> list[tuple[int, bytes | None, bytes | None]]:
        """(seq, key, value) of each record, up to the first with `seq`."""
        consumer = Consumer({"bootstrap.servers": self._bootstrap, "group.id": "test", "enable.auto.commit": False})
        consumer.assign([TopicPartition(EVENTS, 0, self.start)])
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
                self.headers[int(value)] = headers
                found.append((int(value.decode("ascii")), message.key(), message.value()))
        finally:
            consumer.close()
        return found


@pytest.fixture
def topic(services: Services) -> Topic:
    specs = [TopicSpec(each.name, PARTITIONS, each.config) for each in catalog.TOPICS.values()]
    ensure_topics(services.kafka_bootstrap, specs, 1)
    return Topic(services.kafka_bootstrap)


@contextmanager
def running(services: Services, url: str) -> Iterator[Relay]:
    stop = threading.Event()
    made = Relay(url, services.kafka_bootstrap, stop, lambda: PARTITIONS)
    thread = threading.Thread(target=made.run)
    thread.start()
    try:
        yield made
    finally:
        stop.set()
        thread.join(DEADLINE_S)
        assert not thread.is_alive()


def append(query: Query, first: int, last: int, topic: str = EVENTS, partition: int = 0) -> None:
    query(
        "INSERT INTO journal (topic, partition, seq, key, payload, occurred_at)"
        " SELECT %s, %s, seq, ('k' || seq)::bytea, ('payload ' || seq)::bytea, now()"
        " FROM generate_series(%s::bigint, %s::bigint) AS seq",
        topic,
        partition,
        first,
        last,
    )
    query(
        "INSERT INTO journal_heads (topic, partition, next_seq) VALUES (%s, %s, %s)"
        " ON CONFLICT (topic, partition) DO UPDATE SET next_seq = excluded.next_seq",
        topic,
        partition,
        last + 1,
    )


def published(query: Query, topic: str = EVENTS) -> int:
    [(seq,)] = query("SELECT coalesce(max(published_seq), 0) FROM journal_published WHERE topic = %s", topic)
    return int(seq)


def owned(publisher: Relay) -> int:
    return len(publisher._owned)


def unpublished(topic: str) -> float | None:
    """As /metrics has it, of partition 0."""
    return REGISTRY.get_sample_value("gapless_relay_unpublished", {"topic": topic, "partition": "0"})


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


def test_it_measures_when_the_last_month_of_the_journal_ends(services: Services, ledger_url: str, query: Query) -> None:
    """`gapless migrate` makes months ahead; rows beyond them would all land in one partition."""
    [(last,)] = query(
        "SELECT max(to_date(substring(relname FROM 9), 'YYYY_MM')) FROM pg_class"
        " JOIN pg_inherits ON inhrelid = oid WHERE inhparent = 'journal'::regclass AND relname <> 'journal_default'"
    )
    end = datetime(last.year + last.month // 12, last.month % 12 + 1, 1, tzinfo=UTC)
    with running(services, ledger_url):
        wait_for(
            lambda: REGISTRY.get_sample_value("gapless_journal_end_timestamp_seconds") == end.timestamp(), str(end)
        )


def test_a_row_that_follows_from_a_trace_says_so_in_its_record(
    services: Services, ledger_url: str, query: Query, topic: Topic
) -> None:
    """As the journal has it: a repeat after a crash has the same headers."""
    append(query, 1, 3)
    traceparent = f"00-{'1' * 32}-{'2' * 16}-01"
    query("UPDATE journal SET traceparent = %s WHERE seq = 2", traceparent)
    with running(services, ledger_url):
        topic.read_until(3)
    assert [headers.get("traceparent") for headers in topic.headers.values()] == [None, traceparent.encode(), None]


def test_a_client_as_it_is_installed_reads_the_records_and_their_headers(
    services: Services, ledger_url: str, query: Query, topic: Topic
) -> None:
    """kafka-python brings no codec but gzip, as kafkajs and aiokafka; a batch of many records is compressed."""
    append(query, 1, 1_000)
    query("UPDATE journal SET payload = %s || payload", b"\0" + catalog.INVOICE_ISSUED.newest.schema_id.to_bytes(4))
    with running(services, ledger_url):
        topic.read_until(1_000)
    consumer = KafkaConsumer(bootstrap_servers=services.kafka_bootstrap, enable_auto_commit=False)
    try:
        place = kafka.TopicPartition(EVENTS, 0)
        consumer.assign([place])
        consumer.seek(place, topic.start)
        records: list[Any] = []
        deadline = time.monotonic() + DEADLINE_S
        while len(records) < 1_000:
            assert time.monotonic() < deadline, f"{len(records)} records came"
            records += consumer.poll(1_000).get(place, [])
    finally:
        consumer.close()
    headers = dict(records[41].headers)
    assert (records[41].key, headers["seq"], headers["ce_id"]) == (b"k42", b"42", f"{EVENTS}-0-42".encode())
    assert headers["type"] == headers["ce_type"] == b"gapless.InvoiceIssued"


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
            # A busy machine may take longer; a lock that nobody ends lasts for ever.
            assert time.monotonic() - began < 30
            wake.set()
            append(query, 7, 9)
            wait_for(lambda: published(query) == 9, "publishing stopped when the first relay woke")
    highest = 0
    for seq, _, _ in topic.read_until(9):
        assert seq <= highest + 1, "a hole"
        highest = max(highest, seq)


def test_a_partition_that_the_brokers_do_not_take_delays_no_other(
    services: Services, ledger_url: str, query: Query, topic: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As without a leader; here because it isn't there yet. Its own rows follow when it is."""
    missing = f"relay-test-{time.time_ns()}"
    monkeypatch.setattr(relay, "OUTPUT_TOPICS", (*catalog.OUTPUT_TOPICS, catalog.Topic(missing, (), None, 1_000)))
    with running(services, ledger_url):
        append(query, 1, 5_000, missing)
        wait_for(lambda: unpublished(missing) == 5_000, "the relay has not seen the rows")
        # More than once: the first round may have been ahead of those that wait.
        for last in range(1, 6):
            append(query, last, last)
            wait_for(lambda last=last: published(query) == last, "another topic waits with it")  # type: ignore[misc]
        assert published(query, missing) == 0
        ensure_topics(services.kafka_bootstrap, [TopicSpec(missing, 1, {})], 1)
        wait_for(lambda: published(query, missing) == 5_000, "what was held up does not follow")
    assert [seq for seq, _, _ in topic.read_until(5)] == [1, 2, 3, 4, 5]


def test_rows_larger_than_what_may_be_under_way_are_published(
    services: Services, ledger_url: str, query: Query, topic: Topic
) -> None:
    """Few at a time, and one that is larger than all of it alone."""
    append(query, 1, 5)
    query("UPDATE journal SET payload = decode(repeat('ab', 1000000), 'hex') WHERE seq <> 3")
    query("UPDATE journal SET payload = decode(repeat('cd', 3000000), 'hex') WHERE seq = 3")
    with running(services, ledger_url):
        records = topic.read_until(5)
    assert [(seq, len(value or b"")) for seq, _, value in records] == [
        (seq, 3_000_000 if seq == 3 else 1_000_000) for seq in range(1, 6)
    ]


def test_relays_share_the_partitions_evenly_and_again_when_one_joins_or_ends(
    services: Services, ledger_url: str, query: Query, topic: Topic
) -> None:
    """What a relay gives up is taken by another, and published on."""
    outputs = len(catalog.OUTPUT_TOPICS) * PARTITIONS
    with running(services, ledger_url) as first:
        wait_for(lambda: owned(first) == outputs, "one alone has all of them")
        with running(services, ledger_url) as second, running(services, ledger_url) as third:
            relays = (first, second, third)
            shares = sorted((outputs + rank) // 3 for rank in range(3))
            wait_for(lambda: sorted(map(owned, relays)) == shares, "they don't share evenly")
            assert set.union(*(set(each._owned) for each in relays)) == set(first._owned | second._owned | third._owned)
            for each in catalog.OUTPUT_TOPICS:
                for partition in range(PARTITIONS):
                    append(query, 1, 5, each.name, partition)
            [(heads,)] = query("SELECT count(*) FROM journal_heads")
            everywhere = "SELECT count(*) FROM journal_published WHERE published_seq = 5"
            wait_for(lambda: query(everywhere) == [(heads,)], "nobody publishes some of them")
        wait_for(lambda: owned(first) == outputs, "nobody has what the others had")
    assert [seq for seq, _, _ in topic.read_until(5)] == [1, 2, 3, 4, 5]


def test_every_relay_says_how_much_is_unpublished_whoever_publishes_it(
    services: Services, ledger_url: str, query: Query, topic: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it is now: what another one has published is no longer reported."""
    monkeypatch.setattr(Relay, "_share", lambda *_: None)
    with running(services, ledger_url):
        append(query, 1, 209)
        wait_for(lambda: unpublished(EVENTS) == 209, "what waits is not reported")
        query("INSERT INTO journal_published VALUES (%s, 0, 209)", EVENTS)
        wait_for(lambda: unpublished(EVENTS) == 0, "what another relay has published is still reported")
