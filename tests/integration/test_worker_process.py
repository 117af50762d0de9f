"""A worker as a process: where it starts, and when it refuses to."""

import gc
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from faust.types import TP

from runtime.exits import EXIT_BUG
from runtime.kafka import end_offsets
from runtime.topics import describe_topics
from schemas import catalog
from schemas.placement import partition_of
from streams.engine.dedupe_table import add_dedupe_table
from streams.engine.transport import make_app
from tests.conftest import PARTITIONS, Services
from tests.records import written
from tests.unit.domain.test_invoice import request

Query = Callable[..., list[tuple[Any, ...]]]
pytestmark = pytest.mark.usefixtures("empty_outputs")
REQUESTS = catalog.INVOICE_REQUESTS.name
DEADLINE_S = 120.0


@contextmanager
def worker(services: Services, ledger_url: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    environment = {
        **os.environ,
        "GAPLESS_KAFKA_BOOTSTRAP": services.kafka_bootstrap,
        "GAPLESS_POSTGRES_URL": ledger_url,
        "GAPLESS_WORKER_DATA": str(folder),
        "GAPLESS_WORKER_SLOT": folder.name[-20:],
        # Nobody reads the pipe before the end: a line for each decision would fill it, and the worker wait for ever.
        "GAPLESS_LOG_LEVEL": "WARNING",
    }
    command = [sys.executable, "-m", "gapless", "worker", "invoices"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def ends(services: Services) -> dict[int, int]:
    found = end_offsets(services.kafka_bootstrap, [(REQUESTS, number) for number in range(PARTITIONS)])
    return {partition: offset for (_, partition), offset in found.items()}


def stand_at(services: Services, query: Query, offsets: dict[int, int]) -> None:
    topic_id = describe_topics(services.kafka_bootstrap, [REQUESTS])[REQUESTS].topic_id
    for partition, offset in offsets.items():
        query("INSERT INTO positions VALUES ('invoices', %s, %s, %s, %s)", REQUESTS, partition, offset, topic_id)


def test_a_position_beyond_the_logs_end_stops_the_worker_with_a_reason(
    services: Services, ledger_url: str, query: Query, tmp_path: Path
) -> None:
    stand_at(services, query, {**ends(services), 2: ends(services)[2] + 7})
    with worker(services, ledger_url, tmp_path) as process:
        _, log = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 1
    end = ends(services)[2]
    assert f"{REQUESTS}/2 has lost records: invoices is at offset {end + 7}, and the topic ends at {end}" in log


def test_a_worker_starts_at_the_position_and_not_where_the_group_stood(
    services: Services, ledger_url: str, query: Query, tmp_path: Path
) -> None:
    start = ends(services)
    stand_at(services, query, start)
    producer = Producer({"bootstrap.servers": services.kafka_bootstrap})
    names = [f"{tmp_path.name}-{number}"[-60:] for number in range(1_000)]
    for partition in range(PARTITIONS):
        its = [each for each in names if partition_of(each.encode(), PARTITIONS) == partition]
        for order_id in its[:5]:
            value = written(catalog.INVOICE_REQUEST, request(order_id=order_id))
            producer.produce(REQUESTS, value, order_id.encode(), partition)
    producer.flush(DEADLINE_S)
    with worker(services, ledger_url, tmp_path):
        wait_for(lambda: query("SELECT count(*) FROM invoices") == [(20,)], "20 invoices")
    # As after a restore of Postgres from before them: the group's offsets say done, the positions don't.
    query("DELETE FROM invoices")
    query("DELETE FROM series")
    query("UPDATE positions SET next_offset = next_offset - 5")
    with worker(services, ledger_url, tmp_path):
        wait_for(lambda: query("SELECT count(*) FROM invoices") == [(20,)], "the same 20 again")
    assert query("SELECT DISTINCT number FROM invoices ORDER BY number") == [(1,), (2,), (3,), (4,), (5,)]


def test_nothing_is_fetched_from_where_the_group_stood_while_postgres_is_slow(
    services: Services, ledger_url: str, query: Query, tmp_path: Path
) -> None:
    """What lies beyond the position would end the worker, which would start into the same."""
    start = ends(services)
    stand_at(services, query, start)
    produce(services, f"{tmp_path.name}-a", 40)
    with worker(services, ledger_url, tmp_path):
        wait_for(lambda: committed(services) == ends(services), "the group at the end")
    produce(services, f"{tmp_path.name}-b", 40)
    for partition, offset in start.items():
        query("UPDATE positions SET next_offset = %s WHERE partition = %s", offset, partition)
    query("DELETE FROM invoices")
    query("DELETE FROM series")
    # A table that is read from its changelog first has Faust's fetcher running by then.
    shutil.rmtree(tmp_path)
    waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    with psycopg.connect(ledger_url) as connection, worker(services, ledger_url, tmp_path) as process:
        connection.execute("LOCK TABLE positions IN SHARE ROW EXCLUSIVE MODE")
        wait_for(lambda: query(waits) == [(1,)], "the worker asks for its positions")
        # Several times as long as a fetch takes, and a fraction of what a seek may.
        time.sleep(3)
        connection.rollback()
        wait_for(lambda: process.poll() is not None or query("SELECT count(*) FROM invoices") == [(80,)], "all")
        assert process.poll() is None, process.communicate()[1]


def test_a_worker_whose_postgres_falls_silent_while_it_takes_partitions_up_starts_again(
    services: Services, ledger_url: str, query: Query, tmp_path: Path
) -> None:
    """Faust gives a seek up after a while, and would take no partition up from then on, nor say so."""
    stand_at(services, query, ends(services))
    with psycopg.connect(ledger_url) as connection:
        # Read by no other statement of the start: positions are made, and so locked, once partitions are there.
        connection.execute("LOCK TABLE positions IN SHARE ROW EXCLUSIVE MODE")
        with worker(services, ledger_url, tmp_path) as process:
            _, log = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == EXIT_BUG
    assert "partitions could not be taken up in time" in log


def committed(services: Services, group: str = "gapless-invoices") -> dict[int, int]:
    """Where the consumer group stands, as everybody's tools show it."""
    consumer = Consumer({"bootstrap.servers": services.kafka_bootstrap, "group.id": group})
    wanted = [TopicPartition(REQUESTS, number) for number in range(PARTITIONS)]
    found = {each.partition: max(0, each.offset) for each in consumer.committed(wanted, timeout=DEADLINE_S)}
    consumer.close()
    return found


def positions(query: Query) -> dict[int, int]:
    return dict(query("SELECT partition, next_offset FROM positions WHERE topic = %s", REQUESTS))


def produce(services: Services, prefix: str, count: int) -> None:
    """So many requests, in all partitions, on the brokers when this returns."""
    producer = Producer({"bootstrap.servers": services.kafka_bootstrap, "partitioner": "murmur2_random"})
    for number in range(count):
        order_id = f"{prefix}-{number}"[-60:]
        producer.produce(REQUESTS, written(catalog.INVOICE_REQUEST, request(order_id=order_id)), order_id.encode())
    producer.flush(DEADLINE_S)


def test_the_groups_offsets_follow_the_positions(
    services: Services, ledger_url: str, query: Query, tmp_path: Path
) -> None:
    """Tools that watch the group would show a lag that isn't there, which grew for as long as there was load."""
    stand_at(services, query, ends(services))
    with worker(services, ledger_url, tmp_path):
        wait_for(lambda: committed(services) == ends(services), "the group where nothing has come yet")
        for number in range(60):
            done = 8 * (number + 1)
            produce(services, f"{tmp_path.name}-{number}", 8)
            wait_for(lambda done=done: query("SELECT count(*) FROM invoices") == [(done,)], "the invoices")  # type: ignore[misc]
        assert positions(query) == ends(services)
        # A commit a second: of as many batches as there were, not of one.
        began = time.monotonic()
        wait_for(lambda: committed(services) == ends(services), "the group at the positions")
        assert time.monotonic() - began < 40


def test_a_table_that_remembers_more_than_its_changelog_has_is_made_anew(
    services: Services, ledger_url: str, query: Query, tmp_path: Path
) -> None:
    """As after the changelog was recreated. The table is a hint: the worker goes on."""
    stand_at(services, query, ends(services))
    remember_more_than_there_is(tmp_path)
    with worker(services, ledger_url, tmp_path) as process:
        produce(services, tmp_path.name, 8)
        wait_for(lambda: query("SELECT count(*) FROM invoices") == [(8,)], "the invoices")
        process.terminate()
        _, log = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0
    assert log.count("the table is made anew") == PARTITIONS


def remember_more_than_there_is(folder: Path) -> None:
    async def read(topic: str, partitions: list[int]) -> dict[int, int]:
        return {}

    app = make_app(
        "invoices",
        bootstrap="127.0.0.1:1",
        partitions=PARTITIONS,
        slot="1",
        datadir=str(folder),
        batch_records_max=1,
        read_positions=read,
    )
    table = add_dedupe_table(app, "issued")
    for partition in range(PARTITIONS):
        table.data.set_persisted_offset(TP(table.changelog_topic_name, partition), 10**9)
    # What has no reference any more is closed, and its lock given up.
    table._partitions._dbs.clear()
    gc.collect()


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come"
        time.sleep(0.1)
