"""Fixtures that every test can use."""

import os
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

#: How many examples `make fuzz` draws for each of a test's, to find what nobody has found yet.
_TIMES = int(os.environ.get("FUZZ_EXAMPLES", "1"))

# No test measures time: a busy machine may take long to draw an example. And a test draws the same examples each time:
# otherwise a fault that was always there is found in the next change, whatever it changes.
settings.register_profile(
    "repeatable",
    deadline=None,
    derandomize=_TIMES == 1,
    max_examples=100 * _TIMES,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("repeatable")


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
