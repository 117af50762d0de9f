"""Processes refuse to run if Postgres and Kafka don't belong together, or the tables don't fit the release."""

import contextlib
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import aiohttp
import psycopg
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from audit.run import run_audit
from gateway import agreement
from gateway.app import Gateway
from runtime.exits import StartRefusedError
from runtime.kafka import TopicError, TopicSpec, end_offsets, ensure_topics
from runtime.settings import load
from runtime.topics import describe_topics
from schemas import catalog
from sinks.agreement import require_agreement
from sinks.postgres.migrate import migration_files
from tests.conftest import PARTITIONS, Services
from tests.integration import gateways
from tests.records import written
from tests.unit.domain.test_invoice import request

Query = Callable[..., list[tuple[Any, ...]]]
pytestmark = pytest.mark.usefixtures("empty_outputs")
REQUESTS, EVENTS = catalog.INVOICE_REQUESTS.name, catalog.INVOICE_EVENTS.name
DEADLINE_S = 120.0


@pytest.fixture
def older_url(services: Services, ledger_url: str) -> Iterator[str]:
    """The database that `copy_as_older` writes to."""
    yield urlunsplit(urlsplit(ledger_url)._replace(path=urlsplit(ledger_url).path + "_older"))
    with psycopg.connect(services.postgres_url, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {_name(ledger_url)}_older WITH (FORCE)".encode())


def copy_as_older(services: Services, ledger_url: str) -> None:
    """A backup of the ledger as it is now."""
    with psycopg.connect(services.postgres_url, autocommit=True) as connection:
        _close_others(connection, ledger_url)
        connection.execute(f"CREATE DATABASE {_name(ledger_url)}_older TEMPLATE {_name(ledger_url)}".encode())


def _close_others(connection: psycopg.Connection[Any], url: str) -> None:
    connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (_name(url),))
    while connection.execute("SELECT 1 FROM pg_stat_activity WHERE datname = %s", (_name(url),)).fetchone():
        threading.Event().wait(0.05)


def _name(url: str) -> str:
    return urlsplit(url).path[1:]


@contextmanager
def process(services: Services, url: str, folder: Path, *command: str) -> Iterator[subprocess.Popen[str]]:
    environment = {
        **os.environ,
        "GAPLESS_KAFKA_BOOTSTRAP": services.kafka_bootstrap,
        "GAPLESS_POSTGRES_URL": url,
        "GAPLESS_WORKER_DATA": str(folder),
        "GAPLESS_WORKER_SLOT": folder.name[-20:],
    }
    arguments = [sys.executable, "-m", "gapless", *command]
    with subprocess.Popen(arguments, env=environment, stderr=subprocess.PIPE, text=True) as running:
        try:
            yield running
        finally:
            running.kill()


def end_of(services: Services, url: str, folder: Path, *command: str) -> tuple[int, str]:
    """The exit status and the output of a process that must not start."""
    with process(services, url, folder, *command) as running:
        _, log = running.communicate(timeout=DEADLINE_S)
    return running.returncode, log


def one(url: str, sql: str) -> Any:
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(sql.encode()).fetchone()
    return None if row is None else row[0]


def ask_for_invoices(services: Services, prefix: str, count: int, **changes: str) -> None:
    producer = Producer({"bootstrap.servers": services.kafka_bootstrap, "partitioner": "murmur2_random"})
    for number in range(count):
        order_id = f"{prefix}-{number}"[-60:]
        value = written(catalog.INVOICE_REQUEST, request(order_id=order_id, **changes))
        producer.produce(REQUESTS, value, order_id.encode())
    assert producer.flush(DEADLINE_S) == 0


def issue(services: Services, url: str, folder: Path, prefix: str) -> None:
    """Issue 20 more invoices, with their events on the topic."""
    before = one(url, "SELECT count(*) FROM invoices")
    with process(services, url, folder, "worker", "invoices"), process(services, url, folder, "relay"):
        ask_for_invoices(services, prefix, 20)
        wait_for(lambda: one(url, "SELECT count(*) FROM invoices") == before + 20, "20 invoices")
        unpublished = (
            "SELECT count(*) FROM journal_heads h LEFT JOIN journal_published p USING (topic, partition)"
            " WHERE h.next_seq - 1 > coalesce(p.published_seq, 0)"
        )
        wait_for(lambda: one(url, unpublished) == 0, "their events")


def request_ends(services: Services) -> dict[tuple[str, int], int]:
    return end_offsets(services.kafka_bootstrap, [(REQUESTS, number) for number in range(4)])


def run_runbook(url: str, section: str, **values: object) -> None:
    """Execute what docs/recovery.md tells an operator to do in Postgres."""
    text = (
        (Path(__file__).parents[2] / "docs" / "recovery.md").read_text().split(f"## {section}\n")[1].split("\n## ")[0]
    )
    statements = [each for each in re.findall(r"```sql\n(.*?)```", text, re.DOTALL) if "UPDATE" in each]
    assert len(statements) == 1
    for name, value in values.items():
        statements[0] = statements[0].replace(f":'{name}'", f"'{value}'")
    assert ":'" not in statements[0]
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statements[0].encode())


def stand_at_the_ends(services: Services, url: str) -> None:
    """Skip the requests of earlier tests."""
    ends = request_ends(services)
    with psycopg.connect(url, autocommit=True) as connection:
        for (topic, partition), offset in ends.items():
            connection.execute("INSERT INTO positions VALUES ('invoices', %s, %s, %s)", (topic, partition, offset))


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come"
        time.sleep(0.1)


async def test_an_older_postgres_is_refused_by_every_process_and_told_by_the_audit(
    services: Services, ledger_url: str, older_url: str, tmp_path: Path
) -> None:
    """As after a backup was restored, or a standby without the last commits took over, while Kafka ran on."""
    stand_at_the_ends(services, ledger_url)
    issue(services, ledger_url, tmp_path, "before")
    copy_as_older(services, ledger_url)
    issue(services, ledger_url, tmp_path, "after")
    last = one(ledger_url, f"SELECT next_seq - 1 FROM journal_heads WHERE (topic, partition) = ('{EVENTS}', 0)")
    older = one(older_url, f"SELECT next_seq - 1 FROM journal_heads WHERE (topic, partition) = ('{EVENTS}', 0)")
    assert older < last

    expected = f"Postgres is older than {EVENTS}/0: the topic has seq {last} (offset "
    for command in (("worker", "invoices"), ("worker", "orders"), ("relay",), ("deliveries",)):
        status, log = end_of(services, older_url, tmp_path, *command)
        assert status == 1
        assert expected in log
        assert f"and the journal ends with seq {older}" in log
        assert "docs/recovery.md" in log
    assert one(older_url, "SELECT count(*) FROM invoices") == 20
    await gateways.add_keys(older_url)
    async with serving(services, older_url) as client:
        answer = await gateways.until(
            lambda: client.get("/readyz"), lambda each: each.json["agreement"] == agreement.REFUSED
        )
        assert answer.status == 503
        assert answer.json["status"] == "not ready"
        answer = await client.post(gateways.order("A-1"))
        assert (answer.status, answer.json["type"]) == (503, "/problems/servers-disagree")
        assert answer.headers["Retry-After"] == "30"
    report = run_audit(older_url, services.kafka_bootstrap, lambda key: [])
    told = report.samples["topic"][0]
    assert told.where == f"{EVENTS}/0"
    assert f"ends with seq {last} (offset " in told.what
    assert f"and the journal with seq {older}: Postgres is older than the topic" in told.what

    # The newer one continues.
    issue(services, ledger_url, tmp_path, "on")


@pytest.mark.parametrize("went_on", [False, True], ids=["older", "gone another way"])
def test_a_relay_looks_again_when_another_server_has_taken_over(
    services: Services, ledger_url: str, older_url: str, tmp_path: Path, went_on: bool
) -> None:
    """Of a failover that lost commits, the relay sees only that its session ends."""
    append(ledger_url, 1, 2, "as it was")
    copy_as_older(services, ledger_url)
    with process(services, ledger_url, tmp_path, "relay") as relay:
        append(ledger_url, 3, 3, "lost")
        wait_for(lambda: one(ledger_url, "SELECT max(published_seq) FROM journal_published") == 3, "3 records")
        if went_on:
            append(older_url, 3, 5, "decided anew")
        take_over(services, ledger_url)
        _, log = relay.communicate(timeout=DEADLINE_S)
    assert relay.returncode == 1
    if went_on:
        assert f"{EVENTS}/0 has at seq 3 (offset " in log
        assert "other bytes than Postgres's journal" in log
    else:
        assert f"Postgres is older than {EVENTS}/0: the topic has seq 3 (offset " in log


def test_records_of_strangers_neither_cause_nor_hide_it(services: Services, ledger_url: str, query: Query) -> None:
    """Invoice requests have other writers, with any headers, and someone may write to the relay's topics by mistake."""

    def agrees() -> None:
        require_agreement(ledger_url, services.kafka_bootstrap)

    append(ledger_url, 1, 2, "here")
    stranger = Producer({"bootstrap.servers": services.kafka_bootstrap})
    for partition in range(4):
        stranger.produce(REQUESTS, b"x", b"k", partition, headers=[("seq", b"999999999")])
    for number in range(1_000):
        headers: Any = [[], [("seq", b"x")], [("seq", b"3"), ("seq", b"4")]][number % 3]
        stranger.produce(EVENTS, b"x", b"k", 0, headers=headers)
    stranger.flush()
    agrees()
    for seq in (1, 2, 3):
        stranger.produce(EVENTS, f"here {seq}".encode(), b"k", 0, headers=[("seq", str(seq).encode())])
    for _ in range(1_000):
        stranger.produce(EVENTS, b"x", b"k", 0)
    stranger.flush()
    writer = Producer({"bootstrap.servers": services.kafka_bootstrap, "transactional.id": "stranger"})
    writer.init_transactions(60)
    writer.begin_transaction()
    writer.produce(EVENTS, b"x", b"k", 0)
    writer.flush()
    try:
        with pytest.raises(StartRefusedError, match=f"{EVENTS}/0: the topic has seq 3 "):
            agrees()
    finally:
        writer.abort_transaction(60)
    with pytest.raises(StartRefusedError, match=f"{EVENTS}/0: the topic has seq 3 "):
        agrees()
    append(ledger_url, 3, 3, "here")
    agrees()


def test_a_topic_made_again_is_refused_although_its_log_is_long_enough(
    services: Services, ledger_url: str, query: Query, tmp_path: Path
) -> None:
    """Records before the old position would be skipped."""
    stand_at_the_ends(services, ledger_url)
    issue(services, ledger_url, tmp_path, "before")
    was = describe_topics(services.kafka_bootstrap, [REQUESTS])[REQUESTS].topic_id
    assert query("SELECT DISTINCT topic_id FROM positions WHERE agent = 'invoices'") == [(was,)]
    with process(services, ledger_url, tmp_path, "worker", "invoices"):
        ask_for_invoices(services, "rejected", 40, seller_id="nobody")
        wait_for(lambda: query("SELECT count(*) FROM refused_requests") == [(40,)], "40 rejections")
    positions = [offset for (offset,) in query("SELECT next_offset FROM positions WHERE agent = 'invoices'")]

    make_again(services, catalog.INVOICE_REQUESTS)
    assert f"{REQUESTS} was recreated: invoices is at offset" in require_refusal(services, ledger_url)
    count = 0
    while min(ends := request_ends(services).values()) <= max(positions):
        ask_for_invoices(services, f"lost{count}", 200, seller_id="nobody")
        count += 200
    for command in (("worker", "invoices"), ("relay",)):
        status, log = end_of(services, ledger_url, tmp_path, *command)
        assert status == 1
        assert f"{REQUESTS} was recreated: invoices is at offset" in log
        assert f"the id {was}, and the topic that is there now has the id" in log
    told = run_audit(ledger_url, services.kafka_bootstrap, lambda key: []).samples["position"]
    assert any("the topic was recreated" in each.what for each in told)

    run_runbook(ledger_url, "A topic was recreated", topic=REQUESTS, old_id=was)
    with process(services, ledger_url, tmp_path, "worker", "invoices") as running:
        done = "SELECT sum(next_offset) FROM positions WHERE topic = %s"
        wait_for(lambda: query(done, REQUESTS) == [(sum(ends),)] or running.poll() is not None, "all of the new topic")
        assert running.poll() is None
    assert query("SELECT count(*) FROM refused_requests WHERE topic = %s", REQUESTS) == [(count,)]
    assert query("SELECT count(*) FROM invoices") == [(20,)]
    now = describe_topics(services.kafka_bootstrap, [REQUESTS])[REQUESTS].topic_id
    assert now != was
    assert query("SELECT DISTINCT topic_id FROM positions WHERE agent = 'invoices'") == [(now,)]


def test_a_topic_that_lost_records_is_refused(services: Services, ledger_url: str, query: Query) -> None:
    end = end_offsets(services.kafka_bootstrap, [(REQUESTS, 2)])[REQUESTS, 2]
    query("INSERT INTO positions VALUES ('invoices', %s, 2, %s)", REQUESTS, end + 7)
    query("INSERT INTO positions VALUES ('invoices', %s, 3, %s)", REQUESTS, request_ends(services)[REQUESTS, 3])
    refusal = require_refusal(services, ledger_url)
    assert f"{REQUESTS}/2 has lost records: invoices is at offset {end + 7}, and the topic ends at {end}" in refusal
    run_runbook(ledger_url, "A topic has lost records", topic=REQUESTS, partition=2, end=end)
    require_agreement(ledger_url, services.kafka_bootstrap)


def test_a_topic_that_the_brokers_do_not_know_is_waited_for(services: Services, ledger_url: str, query: Query) -> None:
    """A broker that has just started lists none."""
    prefix = f"t{time.time_ns()}-"
    topic = catalog.Topic(prefix + "requests", (), None, 1000)
    require_agreement(ledger_url, services.kafka_bootstrap, (), (topic,))
    query("INSERT INTO positions VALUES ('invoices', %s, 0, 1)", topic.name)
    with pytest.raises(TopicError, match=f"don't know {topic.name}"):
        require_agreement(ledger_url, services.kafka_bootstrap, (), (topic,))


def test_tables_older_than_the_release_are_refused(
    services: Services, ledger_url: str, query: Query, tmp_path: Path
) -> None:
    query("ALTER TABLE schema_migrations DROP COLUMN needs")
    *_, before, last = [file.name for file in migration_files()]
    query("DELETE FROM schema_migrations WHERE name = %s", last)
    for command in (("worker", "stock"), ("relay",)):
        status, log = end_of(services, ledger_url, tmp_path, *command)
        assert status == 1
        expected = f"{last} not applied yet (found up to {before}): run `gapless migrate` of this release"
        assert expected in log
    query("DROP TABLE schema_migrations")
    assert "run `gapless migrate`" in require_refusal(services, ledger_url)


def test_tables_newer_than_the_release_are_refused_only_where_they_say_so(
    services: Services, ledger_url: str, query: Query
) -> None:
    """During a rollout or rollback, the previous release runs on the new tables."""
    query("INSERT INTO schema_migrations (name, needs) VALUES ('9998_more.sql', '0001_invoices.sql')")
    query("INSERT INTO schema_migrations (name) VALUES ('9999_yet_more.sql')")
    require_agreement(ledger_url, services.kafka_bootstrap)
    query("UPDATE schema_migrations SET needs = '9998_more.sql' WHERE name = '9999_yet_more.sql'")
    refusal = require_refusal(services, ledger_url)
    assert "9999_yet_more.sql needs a release that knows 9998_more.sql" in refusal
    assert "run a newer release" in refusal


async def test_a_gateway_takes_requests_once_the_tables_are_there(
    services: Services, ledger: str, query: Query
) -> None:
    query("ALTER TABLE schema_migrations RENAME TO hidden")
    async with serving(services, ledger) as client:
        await gateways.until(lambda: client.get("/readyz"), lambda each: each.json["agreement"] == agreement.REFUSED)
        assert (await client.post(gateways.order(f"A-{uuid4().hex[:12]}"))).status == 503
        query("ALTER TABLE hidden RENAME TO schema_migrations")
        await gateways.until(lambda: client.get("/readyz"), lambda each: each.status == 200)
        assert (await client.post(gateways.order(f"A-{uuid4().hex[:12]}"))).status == 202


def require_refusal(services: Services, url: str) -> str:
    with pytest.raises(StartRefusedError) as refusal:
        require_agreement(url, services.kafka_bootstrap)
    return str(refusal.value)


@contextlib.asynccontextmanager
async def serving(services: Services, url: str) -> AsyncIterator[gateways.Client]:
    """A gateway on the catalogue's own topics, ready or not."""
    settings = load(
        kafka_bootstrap=services.kafka_bootstrap,
        postgres_url=url,
        redis_url=services.redis_url,
        objects_url=services.objects.as_uri(),
        gateway_port=0,
    )
    gateway = Gateway(settings)
    await gateway.start()
    try:
        async with aiohttp.ClientSession() as session:
            yield gateways.Client(session, gateway.url, gateways.KEYS["demo"])
    finally:
        await gateway.stop()


def append(url: str, first: int, last: int, payload: str) -> None:
    """Append rows to the journal as an agent does."""
    with psycopg.connect(url) as connection:
        connection.execute(
            "INSERT INTO journal (topic, partition, seq, key, payload, occurred_at)"
            " SELECT %s, 0, seq, 'k', convert_to(%s || ' ' || seq, 'UTF8'), now()"
            " FROM generate_series(%s::bigint, %s::bigint) AS seq",
            (EVENTS, payload, first, last),
        )
        connection.execute(
            "INSERT INTO journal_heads (topic, partition, next_seq) VALUES (%s, 0, %s)"
            " ON CONFLICT (topic, partition) DO UPDATE SET next_seq = excluded.next_seq",
            (EVENTS, last + 1),
        )


def take_over(services: Services, ledger_url: str) -> None:
    """Make the older copy the ledger from now on."""
    name = _name(ledger_url)
    with psycopg.connect(services.postgres_url, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false".encode())
        _close_others(connection, ledger_url)
        connection.execute(f"ALTER DATABASE {name} RENAME TO {name}_lost".encode())
        _close_others(connection, f"{ledger_url}_older")
        connection.execute(f"ALTER DATABASE {name}_older RENAME TO {name}".encode())
        connection.execute(f"DROP DATABASE {name}_lost".encode())


def make_again(services: Services, topic: catalog.Topic) -> None:
    """Delete a topic and create it again, as after a loss of Kafka."""
    admin = AdminClient({"bootstrap.servers": services.kafka_bootstrap})
    for each in admin.delete_topics([topic.name]).values():
        each.result(60)
    wait_for(lambda: not describe_topics(services.kafka_bootstrap, [topic.name]), "the end of the topic")
    ensure_topics(services.kafka_bootstrap, [TopicSpec(topic.name, PARTITIONS, topic.config)], 1)
    end_offsets(services.kafka_bootstrap, [(topic.name, number) for number in range(PARTITIONS)])
