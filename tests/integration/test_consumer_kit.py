"""The consumer kit on a real Kafka and a real Postgres: each event has its effect once, whatever happens."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from confluent_kafka import Producer
from gapless_client import records
from gapless_client.consumer import Consumer, NoSeqError
from gapless_client.events import DecodeError, Decoder, Event
from gapless_client.positions import FilePositions, Move, Position, PostgresPositions, TakenOverError
from gapless_client.sequence import HoleError

from runtime.kafka import TopicSpec, ensure_topics
from schemas import catalog
from tests.conftest import Services

GOLDEN = Path(__file__).parents[1] / "contract" / "golden"
PLACED = (GOLDEN / "order_placed" / "v1.bin").read_bytes()
REFUSED = (GOLDEN / "order_refused" / "v1.bin").read_bytes()
_S_MAX = 90.0


class Log:
    """A topic of the test's own, with one partition, as a relay writes it."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self.name = f"kit-{time.time_ns()}"
        ensure_topics(bootstrap, [TopicSpec(self.name, 1, {})], 1)
        self._producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 0})

    def write(self, *seqs: int, value: bytes = PLACED) -> None:
        """Records with these seqs; one without a seq for 0."""
        for seq in seqs:
            headers: list[tuple[str, str | bytes | None]] = [("seq", str(seq).encode())] if seq else []
            self._producer.produce(self.name, value, b"A-1", headers=headers)
        assert self._producer.flush(_S_MAX) == 0

    def consumer(self, positions: Any, group: str = "kit") -> Consumer:
        """Made by `with`."""
        kafka = {"bootstrap.servers": self.bootstrap, "group.id": f"{self.name}-{group}", "session.timeout.ms": 6_000}
        return Consumer([self.name], positions, kafka)


@pytest.fixture
def log(services: Services) -> Log:
    return Log(services.kafka_bootstrap)


@pytest.fixture
def connection(services: Services) -> Iterator[psycopg.Connection[Any]]:
    """With the consumer's own table, and that of the positions."""
    with psycopg.connect(services.postgres_url, autocommit=True) as made:
        schema = f"kit_{time.time_ns()}"
        made.execute(f"CREATE SCHEMA {schema}".encode())
        made.execute(f"SET search_path TO {schema}".encode())
        made.execute("CREATE TABLE effects (id text, n serial)")
        [create] = [part for part in str(PostgresPositions.__doc__).split("\n\n") if "CREATE TABLE" in part]
        made.execute(create.encode())
        yield made
        made.execute(f"DROP SCHEMA {schema} CASCADE".encode())


def effects(connection: psycopg.Connection[Any]) -> list[str]:
    return [row[0].rpartition("-")[2] for row in connection.execute("SELECT id FROM effects ORDER BY n").fetchall()]


def run(consumer: Consumer, until: Callable[[], bool]) -> None:
    """Run it until the condition holds; what it raises is raised here."""
    give_up_at = time.monotonic() + _S_MAX
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.02) and time.monotonic() < give_up_at and not until():
            pass
        consumer.stop()

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with consumer:
            consumer.run()
    finally:
        done.set()
        watcher.join()
    assert until(), "it did not come to it"


def writing(consumer: Consumer, connection: psycopg.Connection[Any]) -> Consumer:
    """A consumer whose effect is a row."""

    @consumer.on(records.OrderPlaced)
    def placed(event: Event[records.OrderPlaced]) -> None:
        assert event.value["order_id"] == "G-CO"
        connection.execute("INSERT INTO effects (id) VALUES (%s)", (event.id,))

    return consumer


def test_each_event_has_its_effect_once_through_repeats_and_restarts(
    log: Log, connection: psycopg.Connection[Any]
) -> None:
    positions = PostgresPositions(connection, "test")
    log.write(1, 2, 3, 2, 3, 4)
    run(writing(log.consumer(positions), connection), lambda: len(effects(connection)) >= 4)
    log.write(3, 4, 5, 6)
    run(writing(log.consumer(positions), connection), lambda: len(effects(connection)) >= 6)
    assert effects(connection) == ["1", "2", "3", "4", "5", "6"]
    assert positions.load(log.name, 0) == Position(6, 10)
    # Another consumer of the same database stands for itself.
    assert PostgresPositions(connection, "another").load(log.name, 0) is None


def test_what_a_handler_did_before_it_failed_is_undone_and_done_again(
    log: Log, connection: psycopg.Connection[Any]
) -> None:
    """As a crash undoes it: the position stands in the same transaction."""
    positions = PostgresPositions(connection, "test")
    consumer = log.consumer(positions)

    @consumer.on(records.OrderPlaced)
    def failing(event: Event[records.OrderPlaced]) -> None:
        connection.execute("INSERT INTO effects (id) VALUES (%s)", (event.id,))
        if event.seq == 2:
            raise RuntimeError("no")

    log.write(1, 2, 3)
    with pytest.raises(RuntimeError):
        run(consumer, lambda: False)
    assert (effects(connection) or ["1"]) == ["1"]
    run(writing(log.consumer(positions), connection), lambda: len(effects(connection)) >= 3)
    assert effects(connection) == ["1", "2", "3"]


def test_a_process_that_was_taken_for_dead_changes_nothing(log: Log, connection: psycopg.Connection[Any]) -> None:
    """Whoever has taken its partition has moved the position."""
    positions = PostgresPositions(connection, "test")
    for before, stale in [(None, None), (Position(4, 4), Position(1, 1))]:
        with positions.moving(Move(log.name, 0, before, Position((before or Position(0, 0)).seq + 4, 4))):
            pass
        with (
            pytest.raises(TakenOverError, match="another process is past"),
            positions.moving(Move(log.name, 0, stale, Position(2, 2))),
        ):
            connection.execute("INSERT INTO effects (id) VALUES ('x')")
    assert (effects(connection), positions.load(log.name, 0)) == ([], Position(8, 4))


def test_an_event_that_is_missing_ends_it_once_those_before_are_done(
    log: Log, connection: psycopg.Connection[Any]
) -> None:
    positions = PostgresPositions(connection, "test")
    log.write(1, 2, 4)
    for _ in range(2):
        with pytest.raises(HoleError, match="seq 4 follows 2"):
            run(writing(log.consumer(positions), connection), lambda: False)
    assert effects(connection) == ["1", "2"]


def test_a_topic_that_was_rebuilt_is_read_on_where_its_events_are_now(
    log: Log, services: Services, connection: psycopg.Connection[Any]
) -> None:
    """The journal's events, at other offsets than before."""
    positions = PostgresPositions(connection, "test")
    log.write(1, 1, 1, 2)
    run(writing(log.consumer(positions), connection), lambda: len(effects(connection)) >= 2)
    rebuilt = Log(services.kafka_bootstrap)
    rebuilt.write(1, 2, 3, 4, 5, 6)
    connection.execute("UPDATE gapless_positions SET topic = %s", (rebuilt.name,))
    run(writing(rebuilt.consumer(positions), connection), lambda: len(effects(connection)) >= 6)
    assert effects(connection) == ["1", "2", "3", "4", "5", "6"]


def test_events_are_handed_out_by_their_record(log: Log, tmp_path: Path) -> None:
    """Others are passed over, and count."""
    seen: list[tuple[str, str]] = []
    positions = FilePositions(tmp_path / "positions")
    consumer = log.consumer(positions)
    consumer.on(records.OrderRefused)(lambda event: seen.append((event.type, event.value["short"][0]["sku"])))
    log.write(1, 2)
    log.write(3, value=REFUSED)
    run(consumer, lambda: len(seen) >= 1)
    assert seen == [("gapless.OrderRefused", "S-1")]
    assert FilePositions(tmp_path / "positions").load(log.name, 0) == Position(3, 3)


def test_a_file_keeps_the_position_of_what_was_done(log: Log, tmp_path: Path) -> None:
    seen: list[int] = []
    log.write(1, 2)
    for wanted in ([1, 2], [1, 2, 3]):
        consumer = log.consumer(FilePositions(tmp_path / "positions"))
        consumer.on(records.OrderPlaced)(lambda event: seen.append(event.seq))
        run(consumer, lambda wanted=wanted: seen[-1:] == wanted[-1:])  # type: ignore[misc]
        assert seen == wanted
        log.write(2, 3)
    with (
        pytest.raises(TakenOverError),
        FilePositions(tmp_path / "positions").moving(Move(log.name, 0, None, Position(9, 9))),
    ):
        pass


def test_what_is_none_of_the_relays_ends_it(log: Log, tmp_path: Path) -> None:
    log.write(0)
    with pytest.raises(NoSeqError, match="offset 0 has no seq"):
        run(log.consumer(FilePositions(tmp_path / "positions")), lambda: False)


def test_two_processes_share_the_partitions(services: Services, connection: psycopg.Connection[Any]) -> None:
    """And each event has its effect once while partitions move from one to the other."""
    topic = f"kit-{time.time_ns()}"
    ensure_topics(services.kafka_bootstrap, [TopicSpec(topic, 4, {})], 1)
    producer = Producer({"bootstrap.servers": services.kafka_bootstrap, "linger.ms": 0})
    for seq in range(1, 51):
        for partition in range(4):
            producer.produce(topic, PLACED, b"A-1", partition, headers=[("seq", str(seq).encode())])
    assert producer.flush(_S_MAX) == 0
    schema = connection.execute("SHOW search_path").fetchone()
    kafka = {"bootstrap.servers": services.kafka_bootstrap, "group.id": topic, "session.timeout.ms": 6_000}
    failures: list[BaseException] = []
    consumers: list[Consumer] = []

    def work() -> None:
        try:
            with psycopg.connect(services.postgres_url, autocommit=True, options=f"-c search_path={schema[0]}") as own:  # type: ignore[index]
                consumer = writing(Consumer([topic], PostgresPositions(own, "test"), kafka), own)
                consumers.append(consumer)
                with consumer:
                    consumer.run()
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + _S_MAX
    while len(effects(connection)) < 200 and time.monotonic() < deadline and not failures:
        time.sleep(0.05)
    for consumer in consumers:
        consumer.stop()
    for thread in threads:
        thread.join(_S_MAX)
    assert failures == []
    rows = connection.execute("SELECT count(*), count(DISTINCT id) FROM effects").fetchone()
    assert rows == (200, 200)


@pytest.mark.parametrize("name", catalog.TOPICS)
def test_records_of_every_version_are_decoded_into_the_newest(name: str) -> None:
    """Without a registry: the library has all versions of its day."""
    for each in catalog.TOPICS[name].schemas:
        for version in each.versions:
            found, value = Decoder().decode((GOLDEN / each.record / f"v{version.number}.bin").read_bytes())
            assert (found, set(value)) == (each.name, {field["name"] for field in each.newest.parsed["fields"]})


@pytest.mark.parametrize(
    "payload", [b"", b"\0\0", b"\1" + PLACED[1:], b"\0\0\0\xff\xff" + PLACED[5:], PLACED[:-3], PLACED + b"x"]
)
def test_what_is_no_record_is_an_error(payload: bytes) -> None:
    with pytest.raises(DecodeError):
        Decoder().decode(payload)
