"""Databases and topics of a test's own, on the session's services."""

import asyncio
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from sinks.postgres.migrate import migrate
from streams.work import Worker
from tests.conftest import Services
from tests.integration.gateways import Topics, add_keys, make_topics

_NUMBERS = count(1)


@pytest.fixture(scope="session")
def template_database(services: Services) -> str:
    """A migrated database with the sellers `demo` and `other`, to be cloned: cloning takes some 30 ms."""
    name = "gapless_template"
    with psycopg.connect(services.postgres_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    url = _with_database(services.postgres_url, name)
    asyncio.run(migrate(url))
    with psycopg.connect(url, autocommit=True) as connection:
        for seller_id in ("demo", "other"):
            add_seller(connection, seller_id)
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


def add_seller(connection: psycopg.Connection[tuple[object, ...]], seller_id: str, **changes: str) -> None:
    """Insert a seller; `changes` replaces its policy and format."""
    policy = changes.get("numbering_policy", "partitioned")
    number_format = changes.get("number_format", "INV-{partition:02d}-{number:08d}")
    connection.execute(
        "INSERT INTO sellers (seller_id, legal_name, street, city, postal_code, country, time_zone,"
        " numbering_policy, number_format) VALUES (%s, %s, '1 Main St', 'Lyon', '69001', 'FR', %s, %s, %s)",
        (seller_id, seller_id.title(), changes.get("time_zone", "UTC"), policy, number_format),
    )


def _with_database(url: str, name: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def lose_an_answer(monkeypatch: pytest.MonkeyPatch, worker: Worker) -> None:
    """The worker's next COMMIT is done, and its answer lost."""
    commit = worker._commit
    losses = iter([True, False])

    async def commit_and_lose(*arguments: Any) -> int | None:
        outcome = await commit(*arguments)
        if next(losses):
            raise psycopg.OperationalError("the server closed the connection unexpectedly")
        return outcome

    monkeypatch.setattr(worker, "_commit", commit_and_lose)
