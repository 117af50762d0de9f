"""Databases and topics of a test's own, on the session's services."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import count
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import psycopg
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from runtime.kafka import TopicSpec, end_offsets, ensure_topics
from runtime.topics import describe_topics
from schemas import catalog, placement
from sinks.agreement import RELAYED_TOPICS
from sinks.postgres.migrate import migrate
from streams.engine.work import Worker
from tests.conftest import PARTITIONS, Services
from tests.integration.gateways import Client, Topics, add_keys, make_topics, running

_NUMBERS = count(1)
#: Replaces the function by which a worker's clock is believed; the rule follows.
BELIEVED = "CREATE OR REPLACE FUNCTION believed(worker_clock timestamptz) RETURNS timestamptz LANGUAGE sql STABLE"


@pytest.fixture(scope="session")
def template_database(services: Services) -> str:
    """A migrated database with the sellers `demo` and `other`, to be cloned: cloning takes some 30 ms."""
    name = "gapless_template"
    with psycopg.connect(services.postgres_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    url = _with_database(services.postgres_url, name)
    asyncio.run(migrate(url))
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("INSERT INTO deployment (partitions) VALUES (%s)", (PARTITIONS,))
        for seller_id in ("demo", "other"):
            add_seller(connection, seller_id)
        # Tests say what time it is.
        connection.execute("ALTER FUNCTION believed RENAME TO believed_in_earnest")
        connection.execute(f"{BELIEVED} RETURN worker_clock")
    return name


@pytest.fixture
def ledger_url(services: Services, template_database: str) -> Iterator[str]:
    """The URL of a fresh database that is migrated and has its sellers."""
    name = f"gapless_test_{next(_NUMBERS)}"
    with psycopg.connect(services.postgres_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template_database}")
        yield _with_database(services.postgres_url, name)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def empty_outputs(services: Services) -> None:
    """The catalogue's topics, without what other tests' journals left in those of the relay.

    A process that finds them ahead of its own journal refuses to run.
    """
    specs = [TopicSpec(each.name, PARTITIONS, each.config) for each in catalog.TOPICS.values()]
    if ensure_topics(services.kafka_bootstrap, specs, 1):
        # Made and not yet known to the broker that is asked: for it there are no such topics.
        deadline = time.monotonic() + 60
        while describe_topics(services.kafka_bootstrap, catalog.TOPICS).keys() < catalog.TOPICS.keys():
            assert time.monotonic() < deadline, "the broker does not know the topics that were made"
            time.sleep(0.05)
    outputs = [(topic.name, partition) for topic in RELAYED_TOPICS for partition in range(PARTITIONS)]
    ends = end_offsets(services.kafka_bootstrap, outputs)
    admin = AdminClient({"bootstrap.servers": services.kafka_bootstrap})
    for deleted in admin.delete_records([TopicPartition(*each, end) for each, end in ends.items()]).values():
        deleted.result(60)


@pytest.fixture
def query(ledger_url: str) -> Iterator[Callable[..., list[tuple[object, ...]]]]:
    """`query(sql, *parameters)` on the test's ledger: all rows, none where the statement gives none."""
    with psycopg.connect(ledger_url, autocommit=True) as connection:

        def run(sql: str, *parameters: object) -> list[tuple[object, ...]]:
            cursor = connection.execute(sql.encode(), parameters)
            return cursor.fetchall() if cursor.description else []

        yield run


@pytest.fixture
async def topics(services: Services) -> Topics:
    """The test's own."""
    return make_topics(services.kafka_bootstrap)


@pytest.fixture
async def ledger(ledger_url: str) -> str:
    """The test's ledger, with a key for each seller."""
    await add_keys(ledger_url)
    return ledger_url


@pytest.fixture(scope="module")
def orders_anywhere() -> Iterator[None]:
    """The audit looks at no record's place: worlds made by hand put orders into the partitions that their tests name.

    `test_places` and the tests of the whole way look at places with the real rule.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(placement, "misplaced", lambda *_: None)
        yield


def add_seller(connection: psycopg.Connection[tuple[object, ...]], seller_id: str, **changes: str) -> None:
    """Insert a seller; `changes` replaces its policy and format."""
    policy = changes.get("numbering_policy", "partitioned")
    number_format = changes.get("number_format", "INV-{partition:02d}-{number:08d}")
    connection.execute(
        "INSERT INTO sellers (seller_id, legal_name, street, city, postal_code, country, vat_id,"
        " time_zone, numbering_policy, number_format)"
        " VALUES (%s, %s, '1 Main St', 'Lyon', '69001', 'FR', 'FR40303265045', %s, %s, %s)",
        (seller_id, seller_id.title(), changes.get("time_zone", "UTC"), policy, number_format),
    )


def _with_database(url: str, name: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def lose_an_answer(monkeypatch: pytest.MonkeyPatch, worker: Worker) -> None:
    """The worker's next COMMIT is done, and its answer lost."""
    commit = worker._commit
    losses = iter([True, False])

    async def commit_and_lose(*arguments: Any) -> bool:
        outcome = await commit(*arguments)
        if next(losses, False):
            raise psycopg.OperationalError("the server closed the connection unexpectedly")
        return outcome

    monkeypatch.setattr(worker, "_commit", commit_and_lose)


@pytest.fixture
async def client(services: Services, ledger: str, topics: Topics) -> AsyncIterator[Client]:
    """A client of the seller `demo`."""
    async with running(services, ledger, topics) as made:
        yield made


@pytest.fixture
def sku(query: Callable[..., list[tuple[Any, ...]]]) -> str:
    """A SKU that no other test uses, of which there are 10: Redis outlives a test."""
    name = f"S-{uuid4().hex[:12]}"
    query("INSERT INTO stock (seller_id, sku, on_hand, version) VALUES ('demo', %s, 10, 1)", name)
    return name
