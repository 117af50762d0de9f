"""A worker as a process: where it starts, and when it refuses to."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from confluent_kafka import Producer

from runtime.exits import EXIT_BUG
from runtime.kafka import TopicSpec, end_offsets, ensure_topics
from schemas import catalog, codec
from tests.conftest import Services
from tests.unit.domain.test_invoice import request

Query = Callable[..., list[tuple[Any, ...]]]
REQUESTS = catalog.INVOICE_REQUESTS.name
DEADLINE_S = 60.0


@contextmanager
def worker(services: Services, ledger_url: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    environment = {
        **os.environ,
        "GAPLESS_KAFKA_BOOTSTRAP": services.kafka_bootstrap,
        "GAPLESS_POSTGRES_URL": ledger_url,
        "GAPLESS_WORKER_DATA": str(folder),
        "GAPLESS_WORKER_SLOT": folder.name[-20:],
    }
    command = [sys.executable, "-m", "gapless", "worker", "invoices"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def make_topics(services: Services) -> None:
    specs = [TopicSpec(each.name, each.partitions, each.config) for each in catalog.TOPICS.values()]
    ensure_topics(services.kafka_bootstrap, specs, 1)


def ends(services: Services) -> dict[int, int]:
    found = end_offsets(services.kafka_bootstrap, [(REQUESTS, number) for number in range(catalog.PARTITIONS)])
    return {partition: offset for (_, partition), offset in found.items()}


def stand_at(query: Query, offsets: dict[int, int]) -> None:
    for partition, offset in offsets.items():
        query("INSERT INTO positions VALUES ('invoices', %s, %s, %s)", REQUESTS, partition, offset)


def test_a_position_beyond_the_logs_end_stops_the_worker_with_a_reason(
    services: Services, ledger_url: str, query: Query, tmp_path: Path
) -> None:
    make_topics(services)
    stand_at(query, {**ends(services), 2: ends(services)[2] + 7})
    with worker(services, ledger_url, tmp_path) as process:
        _, log = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == EXIT_BUG
    assert f"lies beyond the log's end {ends(services)[2]}" in log


def test_a_worker_starts_at_the_position_and_not_where_the_group_stood(
    services: Services, ledger_url: str, query: Query, tmp_path: Path
) -> None:
    make_topics(services)
    start = ends(services)
    stand_at(query, start)
    producer = Producer({"bootstrap.servers": services.kafka_bootstrap})
    for number in range(20):
        order_id = f"{tmp_path.name}-{number}"[-60:]
        value = codec.encode(catalog.INVOICE_REQUEST, request(order_id=order_id))
        producer.produce(REQUESTS, value, order_id.encode(), number % catalog.PARTITIONS)
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


def test_a_worker_whose_postgres_falls_silent_while_it_takes_partitions_up_starts_again(
    services: Services, ledger_url: str, query: Query, tmp_path: Path
) -> None:
    """Faust gives a seek up after a while, and would take no partition up from then on, nor say so."""
    make_topics(services)
    stand_at(query, ends(services))
    with psycopg.connect(ledger_url) as connection:
        # Read by no other statement of the start: positions are made, and so locked, once partitions are there.
        connection.execute("LOCK TABLE positions IN SHARE ROW EXCLUSIVE MODE")
        with worker(services, ledger_url, tmp_path) as process:
            _, log = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == EXIT_BUG
    assert "partitions could not be taken up in time" in log


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come"
        time.sleep(0.1)
