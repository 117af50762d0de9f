"""Redrive and discard: what is sent and recorded, and that neither a crash nor a second run has a second effect."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import psycopg
import pytest
from confluent_kafka import KafkaError, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from audit import follow
from runtime.publisher import NotAcknowledgedError
from sinks.postgres import dead_letters as store
from sinks.postgres.dead_letters import DeadLetterFilter, note_new
from sinks.postgres.positions import read_positions
from sinks.postgres.session import Session
from sinks.redrive import Redriven, Resend, Unredrivable, make_producer, plan_all, redrive
from streams.engine.batch import Batch
from streams.engine.work import Worker
from streams.invoices import InvoicesWork
from tests.conftest import PARTITIONS, Services
from tests.integration.letters import REQUESTS, add_letter, asked, home_of, run
from tests.integration.test_audit import found
from tests.integration.test_invoices_work import NOW, FakeTable
from tests.integration.test_places import in_partition
from tests.integration.world import EVENTS, Sent, World, build, make_topics, relay

Query = Callable[..., list[tuple[Any, ...]]]
MISPLACED = "wrong-partition: the key belongs elsewhere"
ALL = DeadLetterFilter(topic=REQUESTS)


@pytest.fixture
def shop(services: Services, ledger_url: str, tmp_path: Path) -> World:
    """Empty topics of the test's own."""
    return World(services.kafka_bootstrap, make_topics(services.kafka_bootstrap), ledger_url, tmp_path)


@pytest.fixture
def configured(services: Services, ledger_url: str, empty_outputs: None, monkeypatch: pytest.MonkeyPatch) -> World:
    """The environment of the test's ledger, and the catalogue's topics, which may have records of other tests."""
    monkeypatch.setenv("GAPLESS_POSTGRES_URL", ledger_url)
    monkeypatch.setenv("GAPLESS_KAFKA_BOOTSTRAP", services.kafka_bootstrap)
    return World(services.kafka_bootstrap, "", ledger_url, Path())


class OneAtATime(Producer):
    """Fails if a record is sent before the previous one with its key is acknowledged."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        self.under_way: set[bytes] = set()

    def produce(self, *arguments: Any, on_delivery: Any, **names: Any) -> None:  # type: ignore[override]
        key = arguments[2]
        assert key not in self.under_way, "the one before is not acknowledged yet"
        self.under_way.add(key)

        def delivered(error: Any, message: Message) -> None:
            self.under_way.discard(key)
            on_delivery(error, message)

        super().produce(*arguments, **{**names, "on_delivery": delivered})


class GivesUp(Producer):
    """Sends five records; the following ones are not acknowledged."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        self.left = 5

    def produce(self, *arguments: Any, on_delivery: Any, **names: Any) -> None:  # type: ignore[override]
        self.left -= 1
        if self.left < 0:
            on_delivery(KafkaError(KafkaError._MSG_TIMED_OUT), None)
        else:
            super().produce(*arguments, **{**names, "on_delivery": on_delivery})


def records(world: World, topic: str = REQUESTS) -> list[list[Message]]:
    return [world.records(topic, partition) for partition in range(PARTITIONS)]


def connected(world: World) -> psycopg.Connection[Any]:
    connection = psycopg.connect(world.postgres_url, autocommit=True)
    note_new(connection)
    return connection


def send_all(
    world: World, wanted: DeadLetterFilter = ALL, rate_max: float | None = None, producer: Producer | None = None
) -> list[Redriven]:
    with connected(world) as connection:
        planned = plan_all(connection, world.kafka, wanted, PARTITIONS, world.prefix)
        sent = redrive(
            connection,
            producer or make_producer(world.kafka),
            planned,
            by="me",
            why="tried",
            rate_max=rate_max,
            topic_prefix=world.prefix,
        )
        return list(sent)


def issue_all(world: World) -> None:
    """Have the invoices agent handle the requests after its positions."""

    async def issue() -> None:
        session = Session(world.postgres_url)
        worker = Worker(session, _no_holes)
        work = InvoicesWork(FakeTable(), lambda: NOW)  # type: ignore[arg-type]
        async with session.connection() as connection:
            positions = await read_positions(connection, "invoices", REQUESTS, range(PARTITIONS))
        for partition, messages in enumerate(records(world)):
            if left := messages[positions[partition] :]:
                sent = [Sent(message.offset() or 0, message.key(), message.value()) for message in left]
                await worker.run(work, Batch(REQUESTS, partition, sent))
        await session.close()

    asyncio.run(issue())


async def _no_holes(_: str, __: int, offset: int) -> tuple[int, int]:
    return offset, 0


def test_a_dry_run_says_how_many_and_which_and_changes_nothing(configured: World) -> None:
    before = [len(each) for each in records(configured)]
    add_letter(configured.postgres_url, MISPLACED, 0, b"A-1", asked("A-1"))
    add_letter(configured.postgres_url, "undecodable: magic byte", 1, b"A-2", b"hello")
    add_letter(configured.postgres_url, "wrong-key: none", 2, None, asked("A-3"))
    shown = run("redrive", "--topic", REQUESTS, "--dry-run")
    assert shown.exception is None, shown.exception
    lines = shown.stdout.splitlines()
    assert [line.split()[:2] for line in lines[:3]] == [["0-1", "A-1"], ["0-2", "A-2"], ["0-3", "A-3"]]
    assert f"{REQUESTS}/{home_of('A-3')}" in lines[2]
    assert "stays open: this release can't decode it: magic byte 104" in lines[1]
    assert lines[3:] == ["2 would be sent, 1 would stay open"]
    assert [len(each) for each in records(configured)] == before
    assert run("list").stdout.splitlines()[-1] == "3 open"


def test_a_redrive_sends_each_once_and_records_who_when_and_why(configured: World, query: Query) -> None:
    before = [len(each) for each in records(configured)]
    add_letter(configured.postgres_url, MISPLACED, 0, b"A-1", asked("A-1"))
    add_letter(configured.postgres_url, "undecodable: magic byte", 1, b"A-2", b"hello")
    shown = run("redrive", "--topic", REQUESTS, "--why", "partitioner repaired", "--by", "zoe")
    assert shown.exception is None, shown.exception
    assert shown.stdout.splitlines()[-1] == "1 sent, 1 stay open"
    home = home_of("A-1")
    [sent] = records(configured)[home][before[home] :]
    assert (sent.key(), sent.value(), sent.headers()) == (b"A-1", asked("A-1"), [("dead-letter", b"0-1")])
    columns = "state, closed_by, closed_why, redriven_partition, redriven_offset, closed_at > now() - interval '1 min'"
    assert query(f"SELECT {columns} FROM dead_letters WHERE seq = 1") == [
        ("redriven", "zoe", "partitioner repaired", home, sent.offset(), True)
    ]
    again = run("redrive", "--topic", REQUESTS, "--why", "again")
    assert again.stdout.splitlines()[-1] == "0 sent, 1 stay open"
    by_id = run("redrive", "0-1", "--why", "again").stdout.splitlines()
    assert by_id[0].startswith(f"0-1        redriven to {REQUESTS}/{home} offset {sent.offset()} by zoe at ")
    assert by_id[1:] == ["0 sent, 0 stay open"]
    assert sum(map(len, records(configured))) == sum(before) + 1
    # It failed again, which is another dead letter.
    add_letter(configured.postgres_url, "undecodable: x", sent.offset() or 0, b"A-1", asked("A-1"))
    assert run("redrive", "--topic", REQUESTS, "--why", "again").stdout.splitlines()[-1] == "1 sent, 1 stay open"


def test_discarding_records_who_and_why_and_sends_nothing(configured: World, query: Query) -> None:
    before = sum(map(len, records(configured)))
    for offset in range(3):
        add_letter(configured.postgres_url, "undecodable: x", offset, b"A-1", b"\0")
    assert run("discard", "0-2", "--why", "a test of ours").stdout == "1 discarded\n"
    assert run("discard", "--reason", "undecodable", "--why", "not for us", "--by", "zoe").stdout == "2 discarded\n"
    assert query("SELECT seq, state, closed_why FROM dead_letters ORDER BY seq") == [
        (1, "discarded", "not for us"),
        (2, "discarded", "a test of ours"),
        (3, "discarded", "not for us"),
    ]
    assert run("redrive", "--reason", "undecodable", "--why", "x").stdout == "0 sent, 0 stay open\n"
    assert sum(map(len, records(configured))) == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["redrive", "--why", "x"], "give IDs, or at least one of --topic"),
        (["redrive", "--dry-run"], "give IDs"),
        (["discard", "--why", "x"], "give IDs"),
        (["redrive", "0-1"], "give --why"),
        (["discard", "0-1"], "give --why"),
        (["discard", "0-1", "--why", " "], "give --why"),
    ],
)
def test_what_would_touch_all_or_give_no_reason_is_refused(arguments: list[str], said: str) -> None:
    refused = run(*arguments).exception
    assert isinstance(refused, click.UsageError)
    assert said in refused.format_message()


def test_an_id_that_there_is_not_is_refused_before_anything_is_sent(configured: World) -> None:
    add_letter(configured.postgres_url, MISPLACED, 0, b"A-1", asked("A-1"))
    for command in ("redrive", "discard"):
        assert str(run(command, "0-1", "0-2", "--why", "x").exception) == "there is no dead letter 0-2"
    assert run("list").stdout.splitlines()[-1] == "1 open"


def test_two_who_close_dead_letters_at_once_don_t_mix(configured: World, query: Query) -> None:
    """Records with the same key could be sent out of order."""
    add_letter(configured.postgres_url, MISPLACED, 0, b"A-1", asked("A-1"))
    query("SELECT pg_advisory_lock(x'6761706C657375'::bigint)")
    for command in ("redrive", "discard"):
        assert "another process is redriving" in str(run(command, "0-1", "--why", "x").exception)
    query("SELECT pg_advisory_unlock(x'6761706C657375'::bigint)")
    assert run("discard", "0-1", "--why", "x").stdout == "1 discarded\n"


def test_the_records_of_a_key_are_sent_in_their_order(shop: World) -> None:
    """Each after the brokers have acknowledged the one before, however large the batches are."""
    ids = ["A-1", "A-2", "A-1", "A-1", "A-2"]
    for offset, order_id in reversed(list(enumerate(ids))):
        value = asked(order_id, note=f"number {offset}")
        add_letter(shop.postgres_url, MISPLACED, offset, order_id.encode(), value, source_partition=2)
    producer = OneAtATime({"bootstrap.servers": shop.kafka})
    assert [each.letter.source_offset for each in send_all(shop, producer=producer)] == [0, 1, 2, 3, 4]
    for order_id in ("A-1", "A-2"):
        home = records(shop)[home_of(order_id)]
        expected = [asked(order_id, note=f"number {n}") for n, each in enumerate(ids) if each == order_id]
        assert [message.value() for message in home if message.key() == order_id.encode()] == expected


@pytest.mark.parametrize("moment", ["before it is recorded", "amid a batch"])
def test_after_a_crash_the_rest_is_done_and_no_order_has_a_second_number(
    moment: str, shop: World, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [f"A-{number}" for number in range(7)]
    for offset, order_id in enumerate(ids):
        add_letter(shop.postgres_url, MISPLACED, offset, order_id.encode(), asked(order_id))
    with monkeypatch.context() as crash:
        crash.setattr("sinks.redrive._BATCH", 3)
        producer = make_producer(shop.kafka)
        if moment == "amid a batch":
            producer = GivesUp({"bootstrap.servers": shop.kafka})
            expected: tuple[type[Exception], int, int] = (NotAcknowledgedError, 5, 5)
        else:
            close = store.close_redriven
            left = iter(range(1))

            def die(*arguments: Any, **names: Any) -> None:
                if next(left, None) is None:
                    raise psycopg.OperationalError("the connection was lost")
                close(*arguments, **names)

            crash.setattr(store, "close_redriven", die)
            expected = (psycopg.OperationalError, 6, 3)
        error, sent, recorded = expected
        with pytest.raises(error):
            send_all(shop, producer=producer)
    assert sum(map(len, records(shop))) == sent
    assert query("SELECT count(*) FROM dead_letters WHERE state = 'redriven'") == [(recorded,)]
    assert len(send_all(shop)) == len(ids) - recorded
    assert sum(map(len, records(shop))) == sent + len(ids) - recorded
    issue_all(shop)
    assert query("SELECT order_id FROM invoices ORDER BY order_id") == [(order_id,) for order_id in ids]
    assert query("SELECT count(*) FROM refused_requests") == [(0,)]
    assert send_all(shop) == []


def test_what_becomes_a_dead_letter_meanwhile_is_left_for_the_next_redrive(shop: World) -> None:
    """Otherwise a record that fails repeatedly would be sent for ever."""
    for offset in range(3):
        add_letter(shop.postgres_url, MISPLACED, offset, b"A-1", asked("A-1"))

    seen = []
    with connected(shop) as connection:
        for page in store.read_in_order(connection, ALL, 2):
            seen += [row.source_offset for row in page]
            assert len(seen) <= 3
            add_letter(shop.postgres_url, MISPLACED, 9, b"A-1", asked("A-1"))
            note_new(connection)
    assert seen == [0, 1, 2]


def test_no_more_are_sent_in_a_second_than_asked_for(shop: World) -> None:
    for offset in range(4):
        add_letter(shop.postgres_url, MISPLACED, offset, b"A-%d" % offset, asked(f"A-{offset}"))
    began = time.monotonic()
    assert len(send_all(shop, rate_max=4)) == 4
    unhurried = time.monotonic() - began
    for offset in range(4, 8):
        add_letter(shop.postgres_url, MISPLACED, offset, b"A-%d" % offset, asked(f"A-{offset}"))
    began = time.monotonic()
    assert len(send_all(shop, rate_max=2)) == 4
    assert time.monotonic() - began >= 1
    assert unhurried < 60


def test_an_event_of_the_relay_is_repeated_and_one_of_nobody_is_not(
    services: Services, ledger_url: str, tmp_path: Path, query: Query
) -> None:
    """As the relay repeats it: with its seq, so that consumers ignore it, and the audit finds nothing wrong."""
    world = build(services.kafka_bootstrap, ledger_url, tmp_path, [[(b"A-1", asked("A-1"))]])
    [event] = [each for each in world.records(EVENTS, 0) if each.offset() == 0]
    world.produce(EVENTS, 1, b"A-1", event.value(), [("seq", b"1")])
    traceparent = ("traceparent", b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01")
    world.produce(EVENTS, 0, b"A-1", event.value(), [("seq", b"1"), traceparent, ("other", b"x")])
    places = {"source_topic": EVENTS, "agent": "documents"}
    add_letter(ledger_url, "not-rendered: no logo", event.offset() or 0, event.key(), event.value(), **places)
    add_letter(ledger_url, "foreign: x", 0, b"A-1", event.value(), **places, source_partition=1)
    add_letter(ledger_url, "undecodable: x", 99, b"A-1", event.value(), **places, source_partition=1)
    add_letter(ledger_url, "undecodable: x", 1, b"A-1", b"\0", **places)
    repeat = len(world.records(EVENTS, 0)) - 1
    add_letter(ledger_url, "not-rendered: no logo", repeat, event.key(), event.value(), **places)
    of_events = DeadLetterFilter(topic=EVENTS)
    before = len(world.records(EVENTS, 0))
    done = send_all(world, of_events)
    plans = {str(each.letter.id): each.plan for each in done}
    assert plans["0-1"] == Resend(EVENTS, 0, event.key(), event.value(), (("seq", b"1"),))
    assert plans["0-3"] == Resend(EVENTS, 0, event.key(), event.value(), (("seq", b"1"), traceparent))
    assert plans["1-1"] == Unredrivable("the journal has no such event: the relay did not write it")
    assert plans["1-2"] == Unredrivable("its topic no longer has the record, which contains its seq")
    assert plans["0-2"] == Unredrivable(
        "this release can't decode it: shorter than the 5 bytes of the wire format's header"
    )
    assert len(world.records(EVENTS, 0)) == before + 2
    # The repeat is no violation; the foreign event was not sent by the redrive.
    assert [line for line in found(world.audit()).splitlines() if f"{EVENTS}/0" in line] == []
    admin = AdminClient({"bootstrap.servers": world.kafka})
    for deleted in admin.delete_records([TopicPartition(world.prefix + EVENTS, 0, 1)]).values():
        deleted.result(60)
    add_letter(ledger_url, "not-rendered: no logo", event.offset() or 0, event.key(), event.value(), **places)
    [after] = [each for each in send_all(world, of_events) if each.letter.seq == 4]
    assert after.plan == plans["1-2"]


def test_the_audit_accepts_a_redrive_and_misses_what_was_not_sent(
    services: Services, ledger_url: str, tmp_path: Path, query: Query
) -> None:
    """A record that this release can decode and an older one could not is replaced by the redriven one."""
    ids = in_partition(0)
    first, stopped, misplaced_id = next(ids), next(ids), next(in_partition(1))
    world = build(services.kafka_bootstrap, ledger_url, tmp_path, [[(first.encode(), asked(first))]])
    for offset, order_id in enumerate((stopped, misplaced_id), 1):
        world.produce(REQUESTS, 0, order_id.encode(), asked(order_id))
        add_letter(ledger_url, "undecodable: unknown schema id", offset, order_id.encode(), asked(order_id))
    query("UPDATE positions SET next_offset = 3 WHERE agent = 'invoices' AND partition = 0")
    own = replace(world)
    relay(own)
    where = f"{REQUESTS}/0 offset 1 (order demo/{stopped})"
    assert found(own.audit()) == f"outcome {where}: can be decoded, yet has a dead letter that is open"
    assert [each.delivered is not None for each in send_all(own)] == [True, True]
    assert found(own.audit()) == ""
    issue_all(own)
    relay(own)
    report = own.audit()
    assert found(report) == ""
    assert report.counts["dead letters redriven"] == 2
    assert report.outcomes == {"issued": 3, "dead letter": 2}
    where_read = follow.Services(
        own.postgres_url,
        own.kafka,
        lambda key: [(own.objects / key).read_bytes()],
        lambda key: (own.objects / key).stat().st_size,
        own.prefix,
    )
    follower = follow.Follower(where_read, wait_seconds_max=60.0)
    assert found(follower.begin()) == found(follower.check()) == ""
    query(
        "UPDATE dead_letters SET redriven_offset = redriven_offset + 7, closed_at = now() WHERE order_id = %s",
        misplaced_id,
    )
    missing = f"dead letter 0-2 in {REQUESTS}/1 offset 7: is recorded as redriven, but the topic has no such"
    assert missing in found(follower.check())
    follower.close()
    assert missing in found(own.audit())
    query("UPDATE dead_letters SET redriven_partition = 0, redriven_offset = 0 WHERE order_id = %s", misplaced_id)
    assert f"dead letter 0-2 in {REQUESTS}/0 offset 0: the record that was sent again is another" in found(own.audit())


def test_the_audit_accepts_what_was_discarded_but_not_a_letter_with_other_bytes(
    services: Services, ledger_url: str, tmp_path: Path, query: Query
) -> None:
    ids = in_partition(0)
    first, stopped = next(ids), next(ids)
    world = build(services.kafka_bootstrap, ledger_url, tmp_path, [[(first.encode(), asked(first))]])
    world.produce(REQUESTS, 0, stopped.encode(), asked(stopped))
    add_letter(ledger_url, "undecodable: unknown schema id", 1, stopped.encode(), asked(first))
    query("UPDATE positions SET next_offset = 2 WHERE agent = 'invoices' AND partition = 0")
    relay(world)

    with connected(world) as connection:
        assert store.discard(connection, ALL, by="me", why="sent again by the storefront") == 1
    assert "its dead letter holds other bytes" in found(world.audit())
