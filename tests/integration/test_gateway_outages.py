"""The gateway while Kafka, Postgres or Redis is unavailable, hangs, or recovers."""

import asyncio
import logging
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from confluent_kafka import KafkaException

from gateway.app import ACKNOWLEDGE_SECONDS_MAX
from gateway.http import auth, intake
from local import kafka
from local.layout import free_port
from runtime import outages
from runtime.kafka_writable import Writability
from sinks.postgres import invoices_reader, sellers
from sinks.postgres.lanes import READ_SECONDS_MAX
from sinks.postgres.session import Session
from tests.conftest import Services
from tests.integration.gateways import (
    KEYS,
    Client,
    Link,
    Topics,
    kept,
    link_to,
    make_topics,
    order,
    running,
    statuses,
    through,
    until,
)
from tests.integration.issuer import Issuer


@pytest.fixture
async def postgres(ledger: str) -> AsyncIterator[Link]:
    """What leads to Postgres."""
    link = await link_to(ledger)
    yield link
    link.thaw()
    await link.cut()


@pytest.fixture
async def redis_link(services: Services) -> AsyncIterator[Link]:
    """What leads to Redis."""
    link = await link_to(services.redis_url)
    yield link
    link.thaw()
    await link.cut()


@pytest.fixture
async def hurried(
    services: Services, ledger: str, topics: Topics, postgres: Link, redis_link: Link
) -> AsyncIterator[Client]:
    """A client whose gateway reaches Postgres and Redis through the links."""
    redis_url = through(redis_link, services.redis_url)
    async with running(services, through(postgres, ledger), topics, redis_url=redis_url) as made:
        yield made
        postgres.thaw()


@pytest.fixture
def client(hurried: Client, monkeypatch: pytest.MonkeyPatch) -> Client:
    """The same, but Redis has the time that a busy machine needs: where it is not there, that is known at once."""
    monkeypatch.setattr("admission.hints.CALL_SECONDS_MAX", 10.0)
    return hurried


def new_id() -> str:
    """An order id that no other test has used."""
    return f"O-{uuid4().hex[:12]}"


async def test_orders_are_taken_while_postgres_is_away(
    client: Client, postgres: Link, services: Services, ledger: str, topics: Topics
) -> None:
    """And issued once it is back."""
    await postgres.cut()
    order_id = new_id()
    path = f"/v1/invoices/{order_id}"
    assert (await client.post(order(order_id))).status == 202
    waited = await client.post(order(new_id()), Prefer="wait=1")
    assert waited.status == 202
    accepted = await client.get(path)
    assert (accepted.status, accepted.json["status"]) == (200, "accepted")
    for unknown in (f"/v1/invoices/{new_id()}", f"{path}/document", "/v1/series", "/v1/series/x/numbers/1"):
        answer = await client.get(unknown)
        assert (answer.status, answer.json["type"]) == (503, "/problems/unavailable"), unknown
        assert int(answer.headers["Retry-After"]) <= 5
        assert answer.seconds < 20
    ready = await until(lambda: client.get("/readyz"), lambda answer: answer.json["postgres"] == "unavailable")
    assert (ready.status, ready.json["status"]) == (200, "degraded")
    await postgres.open()
    async with Issuer(services, ledger, topics):
        await until(lambda: client.get(path), lambda answer: answer.status == 200 and answer.json["status"] == "issued")


async def test_orders_are_taken_while_postgres_hangs(client: Client, postgres: Link) -> None:
    """Nobody waits for it longer than a moment, and it is asked again when it goes on."""
    postgres.freeze()
    assert min([(await client.post(order(new_id()))).seconds for _ in range(3)]) < READ_SECONDS_MAX
    answers = await asyncio.gather(*(client.get(f"/v1/invoices/{new_id()}") for _ in range(50)))
    assert statuses(answers) == {503: 50}
    # At the same time, and not one after the other.
    assert max(answer.seconds for answer in answers) < 10 * READ_SECONDS_MAX
    # Now and then one asks whether it goes on, and the others are answered at once.
    asked = [await client.get("/v1/series") for _ in range(8)]
    assert statuses(asked) == {503: 8}
    assert min(answer.seconds for answer in asked) < READ_SECONDS_MAX / 2
    postgres.thaw()
    await until(lambda: client.get("/v1/series"), lambda answer: answer.status == 200)
    await until(lambda: client.get(f"/v1/invoices/{new_id()}"), lambda answer: answer.status == 404)


async def test_the_gateway_stops_although_postgres_hangs(services: Services, ledger: str, topics: Topics) -> None:
    """A deploy must not wait for a frozen server."""
    link = await link_to(ledger)
    async with running(services, through(link, ledger), topics) as client:
        link.freeze()
        assert (await client.get("/v1/series")).status == 503
        began = time.monotonic()
    assert time.monotonic() - began < 20
    link.thaw()
    await link.cut()


async def test_an_unknown_key_is_not_called_invalid_while_postgres_is_away(client: Client, postgres: Link) -> None:
    """A seller's new key must not be told that it is wrong."""
    await postgres.cut()
    answer = await client.as_("never-seen-" + "x" * 32).post(order(new_id()))
    assert (answer.status, answer.json["type"]) == (503, "/problems/unavailable")
    assert (await client.as_(KEYS["other"]).post(order(new_id()))).status == 202


async def test_orders_are_taken_without_redis(client: Client, redis_link: Link) -> None:
    """What it would have said is missing, and said to be missing."""
    await redis_link.cut()
    order_id = new_id()
    assert (await client.post(order(order_id))).status == 202
    answer = await client.get(f"/v1/invoices/{order_id}")
    assert answer.status == 404
    assert "Redis" in answer.json["detail"]
    assert "Retry-After" in answer.headers
    ready = await until(lambda: client.get("/readyz"), lambda answer: answer.json["redis"] == "unavailable")
    assert (ready.status, ready.json["status"]) == (200, "degraded")
    await redis_link.open()
    again = new_id()

    async def accept() -> str:
        await client.post(order(again))
        return str((await client.get(f"/v1/invoices/{again}")).json.get("status"))

    await until(accept, lambda status: status == "accepted")


async def test_an_outage_is_two_lines_in_the_log(
    client: Client,
    postgres: Link,
    redis_link: Link,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One when it begins and one when it has ended, however often the services are asked meanwhile."""
    for outage in (outages.POSTGRES, outages.REDIS):  # The test before may have had an outage of its own.
        monkeypatch.setattr(outage, "_quiet_until", 0.0)
    caplog.clear()
    await asyncio.gather(postgres.cut(), redis_link.cut())

    async def ask() -> int:
        await asyncio.gather(*(client.get(f"/v1/invoices/{new_id()}") for _ in range(20)))
        await client.get("/readyz")
        return min(outages.POSTGRES._failures, outages.REDIS._failures)

    await until(ask, lambda failures: failures >= 4)
    await asyncio.gather(postgres.open(), redis_link.open())
    await until(lambda: client.get("/readyz"), lambda answer: answer.json["status"] == "ready")
    said = [each.getMessage() for each in caplog.records if each.levelno > logging.INFO and each.name != "librdkafka"]
    for service in ("Postgres", "Redis"):
        first, last = (line for line in said if line.startswith(service))
        assert " is unavailable: " in first
        assert " is available again after " in last
    assert len(said) == 4, said


async def test_a_redis_that_hangs_slows_nobody_down(hurried: Client, redis_link: Link) -> None:
    """A few short waits, then none: 200 requests take hardly longer than before."""

    async def seconds() -> float:
        began = time.monotonic()
        answers = await asyncio.gather(*(hurried.post(order(new_id())) for _ in range(200)))
        assert statuses(answers) == {202: 200}
        return time.monotonic() - began

    usual = await seconds()
    redis_link.freeze()
    await hurried.post(order(new_id()))
    await hurried.post(order(new_id()))
    assert await seconds() < 3 * usual + 3


async def test_a_new_key_works_at_once_and_a_revoked_one_soon_no_more(
    services: Services, ledger: str, topics: Topics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a restart."""
    monkeypatch.setattr(auth, "REFRESH_SECONDS", 0.2)
    async with running(services, ledger, topics) as client:
        key = "a-new-key-" + "y" * 32
        async with await psycopg.AsyncConnection.connect(ledger, autocommit=True) as connection:
            added = await sellers.add_key(connection, "demo", "new", key)
            assert (await client.as_(key).get("/v1/series")).status == 200
            await sellers.revoke_key(connection, "demo", added.name)
        await until(lambda: client.as_(key).get("/v1/series"), lambda answer: answer.status == 401)
        assert (await client.get("/v1/series")).status == 200


async def test_wrong_keys_are_not_looked_up_again_and_again(
    services: Services, ledger: str, topics: Topics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One look-up for many, none for what was looked up a moment ago; and a key that is added then works soon."""
    looked_up: list[int] = []
    read_key = invoices_reader._read_key

    async def counted(session: Session, digests: list[bytes]) -> list[invoices_reader.KeyChange | None]:
        looked_up.append(len(digests))
        return await read_key(session, digests)

    monkeypatch.setattr(invoices_reader, "_read_key", counted)
    monkeypatch.setattr(auth, "UNKNOWN_MAX", 100)
    monkeypatch.setattr(auth, "UNKNOWN_SECONDS", 60.0)
    async with running(services, ledger, topics) as client:
        wrong = [f"wrong-{n}" for n in range(100)]
        for _ in range(3):
            answers = await asyncio.gather(*(client.as_(key).get("/v1/series") for key in wrong))
            assert statuses(answers) == {401: 100}
        assert sum(looked_up) == 100
        assert len(looked_up) < 20
        # Bounded: the oldest is forgotten, the others are not.
        assert (await client.as_("wrong-100").get("/v1/series")).status == 401
        assert (await client.as_("wrong-100").get("/v1/series")).status == 401
        assert sum(looked_up) == 101
        monkeypatch.setattr(auth, "UNKNOWN_SECONDS", 0.2)
        key = "tried-before-it-was-added-" + "z" * 32
        assert (await client.as_(key).get("/v1/series")).status == 401
        async with await psycopg.AsyncConnection.connect(ledger, autocommit=True) as connection:
            await sellers.add_key(connection, "demo", "new", key)
        await until(lambda: client.as_(key).get("/v1/series"), lambda answer: answer.status == 200)


async def test_who_waits_is_let_go_when_the_gateway_stops(services: Services, ledger: str, topics: Topics) -> None:
    """With the answer that the order is kept."""
    async with running(services, ledger, topics) as client:
        waiting = asyncio.create_task(client.post(order(new_id()), Prefer="wait=30"))
        await until(lambda: asyncio.to_thread(kept, services, topics), bool)
        began = time.monotonic()
    answer = await waiting
    assert (answer.status, answer.json["status"]) == (202, "accepted")
    assert time.monotonic() - began < 25


def _properties(path: Path) -> dict[str, str]:
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


def _change(path: Path, changed: dict[str, str]) -> None:
    path.write_text("".join(f"{name}={value}\n" for name, value in {**_properties(path), **changed}.items()))


class Broker:
    """A Kafka of the test's own, to be stopped and killed."""

    def __init__(self, folder: Path, joins: "Broker | None" = None) -> None:
        """One that `joins` another becomes the second broker of its cluster."""
        port, controller = free_port(), free_port()
        self._folder, self._controller = folder, controller
        self._command = kafka.prepare(folder, port, controller)
        if joins is not None:
            cluster = _properties(joins._folder / "log" / "meta.properties")["cluster.id"]
            _change(folder / "log" / "meta.properties", {"cluster.id": cluster, "node.id": "2"})
            voters = f"1@127.0.0.1:{joins._controller}"
            role = {"process.roles": "broker", "node.id": "2", "controller.quorum.voters": voters}
            _change(folder / "server.properties", {**role, "listeners": f"PLAINTEXT://127.0.0.1:{port}"})
        self._port = port
        self.bootstrap = f"127.0.0.1:{port}"
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Start it, and return when it answers."""
        self._spawn()

        async def answers() -> bool:
            try:
                return await kafka.answers(self._port)
            except (OSError, EOFError):
                return False

        await until(answers, bool, 60)

    def _spawn(self) -> None:
        with (self._folder / "broker.log").open("ab") as log:
            environment = {**os.environ, **kafka.ENVIRONMENT}
            self._process = subprocess.Popen(self._command, cwd=self._folder, env=environment, stdout=log, stderr=log)

    def signal(self, number: signal.Signals) -> None:
        """SIGSTOP, SIGCONT, SIGKILL."""
        if self._process is not None:
            os.kill(self._process.pid, number)
            if number == signal.SIGKILL:
                self._process.wait()
                self._process = None


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """Not running yet."""
    made = Broker(tmp_path)
    yield made
    made.signal(signal.SIGKILL)


async def test_without_a_broker_nothing_is_called_kept_and_it_recovers_alone(
    services: Services, ledger: str, broker: Broker, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """503 within 5 s while it hangs and while it is dead; 202 again when it is back."""
    await broker.start()
    topics = make_topics(broker.bootstrap)
    async with running(services, ledger, topics, kafka=broker.bootstrap) as client:
        assert (await client.post(order(new_id()))).status == 202
        await asyncio.gather(*(client.post(order(new_id())) for _ in range(50)))

        monkeypatch.setattr(outages.KAFKA, "_quiet_until", 0.0)
        caplog.clear()
        broker.signal(signal.SIGSTOP)
        await _assert_refused(client)
        assert (await client.get("/healthz")).status == 200
        assert (await client.get("/readyz")).status == 503
        assert [each.name for each in caplog.records if each.levelno > logging.INFO].count("runtime.outages") == 1
        broker.signal(signal.SIGCONT)
        await until(lambda: client.post(order(new_id())), lambda answer: answer.status == 202)

        broker.signal(signal.SIGKILL)
        await _assert_refused(client)
        await broker.start()
        await until(lambda: client.post(order(new_id())), lambda answer: answer.status == 202)
        answers = await asyncio.gather(*(client.post(order(new_id())) for _ in range(50)))
        assert statuses(answers) == {202: 50}


async def test_a_gateway_is_ready_only_while_requests_would_be_acknowledged(
    services: Services, ledger: str, broker: Broker, tmp_path: Path
) -> None:
    """One of two brokers dies: all partitions have a leader, and no request can have its two replicas."""
    await broker.start()
    second = Broker(tmp_path / "second", joins=broker)
    try:
        await second.start()
        topics = await until(lambda: _topics_on_both(broker), lambda made: made is not None, 60)
        async with running(services, ledger, topics, kafka=f"{broker.bootstrap},{second.bootstrap}") as client:
            assert (await client.post(order(new_id()))).status == 202
            second.signal(signal.SIGKILL)
            not_ready = await until(
                lambda: client.get("/readyz"),
                lambda answer: "in-sync replicas, 2 are needed" in answer.json["kafka"],
                60,
            )
            assert (not_ready.status, not_ready.json["status"]) == (503, "not ready")
            assert (await client.get("/healthz")).status == 200
            assert (await client.post(order(new_id()))).status == 503
            await second.start()
            await until(lambda: client.get("/readyz"), lambda answer: answer.status == 200, 60)
            await until(lambda: client.post(order(new_id())), lambda answer: answer.status == 202)
    finally:
        second.signal(signal.SIGKILL)


async def _topics_on_both(broker: Broker) -> Topics | None:
    """Topics with a replica on each of two brokers; None while the second one hasn't joined."""
    try:
        return await asyncio.to_thread(make_topics, broker.bootstrap, 2)
    except KafkaException:
        return None


async def test_readiness_waits_for_no_service(hurried: Client, postgres: Link, redis_link: Link) -> None:
    """A load balancer takes a late answer for none, and the gateway out of service."""
    postgres.freeze()
    redis_link.freeze()
    # Beside answers that have nothing to wait for: a busy machine makes both late.
    answers = [(await hurried.get("/healthz"), await hurried.get("/readyz")) for _ in range(200)]
    idle, ready = (sorted(answer.seconds for answer in its)[190] for its in zip(*answers, strict=True))
    assert ready < 3 * idle + 0.05
    await until(lambda: hurried.get("/readyz"), lambda answer: answer.json["postgres"] == "unavailable")
    assert (await hurried.get("/readyz")).json["status"] == "degraded"


async def test_a_run_of_requests_without_an_acknowledgement_is_not_ready(
    services: Services, ledger: str, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever Kafka says of itself; until one is acknowledged."""
    monkeypatch.setattr(Writability, "problem", lambda _: None)
    await broker.start()
    topics = make_topics(broker.bootstrap)
    async with running(services, ledger, topics, kafka=broker.bootstrap) as client:
        await until(lambda: client.post(order(new_id())), lambda answer: answer.status == 202)
        assert (await client.get("/readyz")).status == 200
        broker.signal(signal.SIGSTOP)
        answers = await asyncio.gather(*(client.post(order(new_id())) for _ in range(intake.FAILING_RUN)))
        assert statuses(answers) == {503: intake.FAILING_RUN}
        answer = await client.get("/readyz")
        assert (answer.status, answer.json["kafka"]) == (503, "the last requests were not acknowledged")
        broker.signal(signal.SIGCONT)
        await until(lambda: client.post(order(new_id())), lambda answer: answer.status == 202)
        assert (await client.get("/readyz")).status == 200


async def _assert_refused(client: Client) -> None:
    """Each of many at once, and of some in a row, with Retry-After; a busy machine may take twice as long."""
    answers = list(await asyncio.gather(*(client.post(order(new_id())) for _ in range(100))))
    answers.append(await client.post(order(new_id()), Prefer="wait=10"))
    for answer in answers:
        assert (answer.status, answer.json["type"]) == (503, "/problems/not-acknowledged")
        assert 1 <= int(answer.headers["Retry-After"]) <= 5
        assert answer.seconds < 2 * ACKNOWLEDGE_SECONDS_MAX
