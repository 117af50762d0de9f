"""Fixtures that every test can use."""

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from local.stack import Stack
from sinks.deployment import PARTITIONS_DEFAULT

#: Of each topic on the tests' servers.
PARTITIONS = PARTITIONS_DEFAULT

# No test measures time: a busy machine may take long to draw an example.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@dataclass(frozen=True)
class Services:
    """Where the tests' own Kafka, Postgres and Valkey listen, and a folder for objects."""

    kafka_bootstrap: str
    postgres_url: str
    redis_url: str
    objects: Path
    logs: Path


@pytest.fixture(scope="session")
def services() -> Iterator[Services]:
    """Real Kafka, Postgres and Valkey on free ports, for the whole session. They end with it, however it ends."""
    data = Path(tempfile.mkdtemp(prefix="gapless-test-"))
    stack = Stack(data, servers_only=True, bound=True)
    try:
        stack.start()
    except BaseException:
        kept = Path("test-logs").absolute()
        shutil.copytree(data / "logs", kept, dirs_exist_ok=True)
        stack.remove()
        print(f"the services' logs are in {kept}")
        raise
    endpoints = stack.endpoints()
    print(f"the services' logs are in {data / 'logs'}")
    yield Services(
        kafka_bootstrap=endpoints["kafka"],
        postgres_url=endpoints["postgres"],
        redis_url=endpoints["redis"],
        objects=data / "objects",
        logs=data / "logs",
    )
    stack.remove()
