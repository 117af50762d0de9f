"""An outage of Kafka or Postgres as each process tells it: at /readyz by name, and in the log in two lines."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
import pytest

from local.layout import free_port
from runtime.logs import REPEAT_SECONDS_MIN
from sinks.deployment import make_topics
from sinks.postgres.migrate import migrate
from tests.conftest import Services
from tests.integration.conftest import add_seller
from tests.integration.gateways import add_keys, until
from tests.integration.test_gateway_outages import Broker
from tests.integration.test_outage_lines import Postgres, Running

PROCESSES = ("relay", "gateway")
DEADLINE_S = 180.0


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="gapless-test-"))
    # Everybody may pass through: run by root, Postgres runs as somebody else.
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture
async def own(folder: Path) -> AsyncIterator[tuple[Broker, Postgres]]:
    """Both are there, with topics, tables, a seller and its key."""
    broker, postgres = Broker(folder / "kafka"), Postgres(folder)
    await asyncio.gather(broker.start(), asyncio.to_thread(postgres.start))
    await migrate(postgres.url)
    await asyncio.to_thread(make_topics, postgres.url, broker.bootstrap, 1, None)
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        for seller_id in ("demo", "other"):
            add_seller(connection, seller_id)
    await add_keys(postgres.url)
    yield broker, postgres
    postgres.stop()
    broker.signal(signal.SIGKILL)


@contextmanager
def process(name: str, environment: dict[str, str], folder: Path) -> Iterator[Running]:
    port, log = free_port(), folder / f"{name}.log"
    environment = {**os.environ, **environment, "GAPLESS_METRICS_PORT": str(port)}
    with log.open("wb") as file:
        running = subprocess.Popen([sys.executable, "-m", "gapless", name], env=environment, stderr=file)
    try:
        yield Running(log, port)
    finally:
        running.kill()
        running.wait()


async def readiness(running: Running) -> tuple[int, dict[str, str]]:
    status, body = await asyncio.to_thread(running.get, "/readyz")
    return status, json.loads(body or "{}")


async def ready(*processes: Running) -> None:
    for each in processes:
        await until(lambda each=each: readiness(each), lambda answer: answer[0] == 200, DEADLINE_S)  # type: ignore[misc]


def told(running: Running) -> list[str]:
    """What a process has written in its log of what is not well."""
    return [line["event"] for line in running.lines() if line["level"] not in ("debug", "info")]


async def until_told(running: Running, words: str) -> list[str]:
    """What it has told when the last of it has these words."""
    events: list[str] = await until(
        lambda: asyncio.to_thread(told, running), lambda events: words in events[-1], DEADLINE_S
    )
    return events


async def test_each_process_tells_an_outage_by_name_and_in_two_lines(
    services: Services, own: tuple[Broker, Postgres], tmp_path: Path
) -> None:
    """However many clients it has. A relay is ready while it reaches both; a gateway takes orders without Postgres."""
    broker, postgres = own
    environment = {
        "GAPLESS_KAFKA_BOOTSTRAP": broker.bootstrap,
        "GAPLESS_POSTGRES_URL": postgres.url,
        "GAPLESS_REDIS_URL": services.redis_url,
        "GAPLESS_OBJECTS_URL": services.objects.as_uri(),
        "GAPLESS_GATEWAY_PORT": "0",
    }
    with ExitStack() as stack:
        processes = {name: stack.enter_context(process(name, environment, tmp_path)) for name in PROCESSES}
        await ready(*processes.values())
        # A start may meet a partition that has no leader yet.
        before = {name: len(told(running)) for name, running in processes.items()}

        postgres.stop()
        relay = processes["relay"]
        status, body = await until(lambda: readiness(relay), lambda answer: answer[0] != 200, DEADLINE_S)
        assert (status, body["status"], body["kafka"]) == (503, "not ready", "ok")
        assert body["postgres"].startswith("unavailable: ")
        gateway = processes["gateway"]
        await until(lambda: readiness(gateway), lambda answer: answer[1].get("postgres") == "unavailable", DEADLINE_S)
        postgres.start()
        for running in processes.values():
            await until_told(running, "Postgres is available again")
            await until(lambda each=running: readiness(each), lambda answer: answer[1]["status"] == "ready", DEADLINE_S)  # type: ignore[misc]

        broker.signal(signal.SIGKILL)
        for name, running in processes.items():
            status, _ = await until(
                lambda running=running: readiness(running),  # type: ignore[misc]
                lambda answer: answer[1].get("kafka", "ok") != "ok",
                DEADLINE_S,
            )
            assert status == 503, name
        assert (await readiness(relay))[1]["kafka"].startswith("unavailable: ")
        assert (await readiness(relay))[1]["postgres"] == "ok"
        # What is said once in so many seconds would be said again.
        await asyncio.sleep(2 * REPEAT_SECONDS_MIN)
        await broker.start()
        await ready(*processes.values())
        for name, running in processes.items():
            events = await until_told(running, "Kafka is available again")
            its = [event.partition(":")[0].partition(" after")[0] for event in events[before[name] :]]
            assert its == [
                "Postgres is unavailable",
                "Postgres is available again",
                "Kafka is unavailable",
                "Kafka is available again",
            ], (name, events)
