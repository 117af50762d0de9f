"""Consumers in other languages, as `examples/` has them, on a real stack: each prints every event once.

They need compilers and package registries, which Python and make don't bring: a test fails where one is missing.
"""

import asyncio
import copy
import json
import os
import queue
import shutil
import signal
import subprocess
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from local.stack import Stack
from producers.generate import bodies, checkouts
from schemas import catalog
from schemas.codec import decode, schema_of
from streams.relay.headers import event_headers
from streams.relay.steps import Output, Produce
from tests.contract.test_schemas import GOLDEN
from tests.e2e.running import Running, wait_for

EXAMPLES = Path(__file__).parents[2] / "examples"
#: Program → Debian's package that has it.
PACKAGES = {"node": "nodejs", "npm": "npm", "go": "golang", "mvn": "maven", "java": "default-jdk-headless"}
#: Enough that the relay compresses its batches; see `test_the_relay_compresses`.
ORDERS = 48
INSTALL_S_MAX = 300.0
READ_S_MAX = 120.0
#: How Java ends after SIGTERM, however well.
SIGNALLED = 128 + signal.SIGTERM
#: Everything that earlier releases may have written, and what consumers must not see.
EARLIER = "earlier-events"
TOPICS = (catalog.ORDER_EVENTS.name, catalog.INVOICE_EVENTS.name, EARLIER)
_GZIP = 1
_KEPT_LOGS = Path("test-logs") / "tools"

Line = dict[str, Any]


def line(event_id: str, value: Mapping[str, Any], type_: str) -> Line:
    """What a consumer prints of an event."""
    printed = {"id": event_id, "type": type_, "seller_id": value["seller_id"], "order_id": value["order_id"]}
    if type_ == "gapless.OrderPlaced":
        printed |= {"currency": value["currency"], "gross_minor": value["gross_minor"]}
    elif type_ == "gapless.OrderStateChanged":
        printed |= {"version": value["version"], "to_state": value["to_state"]}
    elif type_ in {"gapless.InvoiceIssued", "gapless.CreditNoteIssued"}:
        printed |= {"invoice_number": value["invoice_number"], "currency": value["currency"]}
        printed |= {"totals": {"gross_minor": value["totals"]["gross_minor"]}}
    return printed


def read(event_id: str, payload: bytes) -> Line:
    """The same, of its bytes."""
    schema = schema_of(payload)
    _, value = decode(payload, schema, bytes_max=len(payload))
    return line(event_id, value, schema.name)


class World(NamedTuple):
    """A stack, and what its consumers must find."""

    running: Running
    data: Path
    #: Order id → the gross amount in minor units, as the gateway shows it.
    invoiced: dict[str, int]
    #: What stands in the journal.
    events: list[Line]
    #: What stands in `EARLIER`.
    earlier: list[Line]


@pytest.fixture(scope="module")
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """A stack on which orders of both kinds have taken the whole way."""
    data = Path(tempfile.mkdtemp(prefix="gapless-clients-"))
    stack = Stack(data, bound=True)
    with ExitStack() as ending:
        ending.callback(stack.remove)
        stack.start()
        running = Running(stack)
        invoiced = asyncio.run(_order(running))
        with running.ledger() as ledger:
            rows: list[Any] = ledger.execute(
                "SELECT topic, partition, seq, payload FROM journal WHERE topic = ANY(%s)",
                (list(TOPICS[:2]),),
            ).fetchall()
        events = [read(f"{topic}-{partition}-{seq}", payload) for topic, partition, seq, payload in rows]
        yield World(running, data, invoiced, events, _write_earlier(running))
        if request.session.testsfailed:
            shutil.copytree(data / "logs", _KEPT_LOGS, dirs_exist_ok=True)
            print(f"\nthe logs are in {_KEPT_LOGS.absolute()}")


async def _order(running: Running) -> dict[str, int]:
    """Checkouts and requests for invoices, of which the relay finds many at once."""
    asked = [each["order_id"] for each in bodies(ORDERS, seed=1)]
    bought = [f"C-{number}" for number in range(1, ORDERS + 1)]
    async with running.client() as client:
        assert (await client.put_stock("MUG", 1_000)).status == 200
        with running.stopped("relay"):
            paid = checkouts(ORDERS, seed=1, skus=["MUG"], customers=ORDERS, tokens={"tok_ok": 1.0})
            posts = [client.post_invoice(body) for body in bodies(ORDERS, seed=1)]
            posts += [client.post_checkout(payload) for payload in paid]
            assert {answer.status for answer in await asyncio.gather(*posts)} == {202}
            await asyncio.to_thread(wait_for, lambda: _count(running, "invoices") == ORDERS, "all numbers", 180)
            await asyncio.to_thread(wait_for, lambda: _count(running, "orders") == ORDERS, "all orders", 180)
        await asyncio.to_thread(running.wait_until_drained)
        shown = {order_id: (await client.get_invoice(order_id)).json() for order_id in asked + bought}
    return {order_id: int(each["totals"]["gross"].replace(".", "")) for order_id, each in shown.items()}


def _count(running: Running, table: str) -> object:
    with running.ledger() as ledger:
        [(count,)] = ledger.execute(f"SELECT count(*) FROM {table}".encode()).fetchall()
    return count


def _write_earlier(running: Running) -> list[Line]:
    """Records of every version, each repeated later on, and records that were never committed."""
    bootstrap, now = running.settings.kafka_bootstrap, datetime.now(UTC)
    admin = AdminClient({"bootstrap.servers": bootstrap})
    [made] = admin.create_topics([NewTopic(EARLIER, 1, 1)]).values()
    made.result(60)
    versions = [
        version
        for topic in (catalog.ORDER_EVENTS, catalog.INVOICE_EVENTS)
        for schema in topic.schemas
        for version in schema.versions
    ]
    records = [
        Produce(Output(EARLIER, 0), seq, b"key", (GOLDEN / each.record / f"v{each.number}.bin").read_bytes(), now)
        for seq, each in enumerate(versions, start=1)
    ]
    plain = Producer({"bootstrap.servers": bootstrap})
    undone = Producer({"bootstrap.servers": bootstrap, "transactional.id": "undone"})
    undone.init_transactions(60)
    undone.begin_transaction()
    *first, latest = records
    for producer, its in (
        (plain, first),
        (undone, [each._replace(seq=each.seq + 1_000) for each in first]),
        (plain, [*first, latest]),
    ):
        for each in its:
            producer.produce(EARLIER, each.payload, each.key, 0, headers=event_headers(each))  # type: ignore[arg-type]
        assert producer.flush(60) == 0
        if producer is undone:
            undone.abort_transaction(60)
    return [read(f"{EARLIER}-0-{each.seq}", each.payload) for each in records]


def test_what_the_consumers_must_find_is_what_was_accepted(world: World) -> None:
    """Each order has its events once, of the right amount; and everything that earlier releases wrote is there."""
    assert len(world.invoiced) == 2 * ORDERS
    issued = [each for each in world.events if each["type"] == "gapless.InvoiceIssued"]
    assert {each["order_id"]: each["totals"]["gross_minor"] for each in issued} == world.invoiced
    types = Counter(each["type"] for each in world.events)
    assert types == {
        "gapless.InvoiceIssued": 2 * ORDERS,
        "gapless.InvoiceDocumentStored": 2 * ORDERS,
        "gapless.OrderPlaced": ORDERS,
        "gapless.OrderStateChanged": ORDERS,
    }
    topics = (catalog.ORDER_EVENTS, catalog.INVOICE_EVENTS)
    assert {each["type"] for each in world.earlier} == {schema.name for topic in topics for schema in topic.schemas}


def test_the_relay_compresses(world: World) -> None:
    """With gzip: otherwise the consumers here would only show that they read what is not compressed."""
    compressions: Counter[int] = Counter()
    for segment in (world.data / "kafka").rglob("*-events-*/*.log"):
        if segment.parent.name.rpartition("-")[0] in TOPICS[:2]:
            compressions.update(_compressions(segment.read_bytes()))
    assert compressions[_GZIP] > 0
    assert compressions.keys() <= {0, _GZIP}


def _compressions(segment: bytes) -> Iterator[int]:
    """Of each batch: offset 8 has its length behind itself, offset 21 its attributes, whose lowest 3 bits say it."""
    start = 0
    while start + 61 <= len(segment) and (length := int.from_bytes(segment[start + 8 : start + 12], "big")):
        yield int.from_bytes(segment[start + 21 : start + 23], "big") & 7
        start += 12 + length


def run(*command: str | Path, folder: Path, seconds_max: float = INSTALL_S_MAX) -> str:
    """What a program says that must succeed."""
    require(str(command[0]))
    ended = subprocess.run(
        command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds_max
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def require(program: str) -> None:
    """Fail with the package that is missing."""
    name = PACKAGES.get(program)
    assert name is None or shutil.which(program), f"{program} is missing: apt install {name}"


class Consumer:
    """An example that runs, and what it has printed."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process
        self._lines: queue.Queue[bytes] = queue.Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def lines(self) -> list[Line]:
        """So far."""
        return [json.loads(each) for each in list(self._lines.queue)]

    def wait_until(self, holds: Callable[[list[Line]], bool]) -> None:
        """Of its lines, or until it ends. No error if they never do: what it printed says more, to who compares it."""
        with suppress(AssertionError):
            wait_for(lambda: holds(self.lines()) or self._process.poll() is not None, "its lines", READ_S_MAX)

    def end(self, by: signal.Signals = signal.SIGTERM) -> int:
        """Its exit code; all that it printed can be read then."""
        self._process.send_signal(by)
        code = self._process.wait(60)
        self._reader.join()
        return code

    def _read(self) -> None:
        assert self._process.stdout is not None
        for each in self._process.stdout:
            self._lines.put(each)


@contextmanager
def started(world: World, *command: str | Path, folder: Path, **more: str) -> Iterator[Consumer]:
    """A consumer on this stack."""
    settings = {"KAFKA": world.running.settings.kafka_bootstrap, "GAPLESS_URL": world.running.url, **more}
    with subprocess.Popen(command, cwd=folder, env={**os.environ, **settings}, stdout=subprocess.PIPE) as process:
        consumer = Consumer(process)
        try:
            yield consumer
        finally:
            consumer.end(signal.SIGKILL)


def printed(world: World, *command: str | Path, folder: Path) -> list[Line]:
    """The lines of a consumer that prints each event, and ends well when it is told to."""
    wanted = len(world.events + world.earlier)
    with started(world, *command, *TOPICS, folder=folder) as consumer:
        consumer.wait_until(lambda lines: len(lines) >= wanted)
        assert consumer.end() == 0
        return consumer.lines()


def assert_each_once(world: World, lines: list[Line]) -> None:
    """Each event is printed once, as it is, in the order of its partition."""
    expected = world.events + world.earlier
    assert sorted(lines, key=json.dumps) == sorted(expected, key=json.dumps)
    for place in {each["id"].rpartition("-")[0] for each in expected}:
        seqs = [int(each["id"].rpartition("-")[2]) for each in lines if each["id"].rpartition("-")[0] == place]
        assert seqs == list(range(1, len(seqs) + 1))


def test_kafkajs_with_confluents_deserializer_prints_each_event_once(world: World, tmp_path: Path) -> None:
    require("node")
    folder = shutil.copytree(EXAMPLES / "node", tmp_path / "node", ignore=shutil.ignore_patterns("node_modules"))
    run("npm", "ci", "--ignore-scripts", "--prefer-offline", "--no-audit", "--no-fund", folder=folder)
    lines = printed(world, "node", "consumer.js", folder=folder)
    assert_each_once(world, lines)


def test_franz_go_prints_each_event_once(world: World, tmp_path: Path) -> None:
    run("go", "build", "-o", tmp_path / "consumer", ".", folder=EXAMPLES / "go")
    lines = printed(world, tmp_path / "consumer", folder=tmp_path)
    assert_each_once(world, lines)


def test_kafka_streams_counts_each_invoice_once_through_a_crash(world: World, tmp_path: Path) -> None:
    require("java")
    folder = shutil.copytree(EXAMPLES / "java", tmp_path / "java", ignore=shutil.ignore_patterns("target"))
    run("mvn", "--batch-mode", "--quiet", "package", folder=folder)
    # The folder is where Kafka Streams has its files.
    command = ("java", f"-Djava.io.tmpdir={tmp_path}", "-jar", "target/revenue.jar", *TOPICS)
    with started(world, *command, folder=folder) as consumer:
        consumer.wait_until(lambda lines: len(lines) > 0)
        consumer.end(signal.SIGKILL)
        before = consumer.lines()
    sold = revenue(world.events + world.earlier)
    with started(world, *command, folder=folder) as consumer:
        consumer.wait_until(lambda lines: totals(before + lines) == sold)
        assert consumer.end() == SIGNALLED
        assert totals(before + consumer.lines()) == sold


def revenue(events: list[Line]) -> dict[tuple[str, str], Line]:
    """By seller and currency, what the program must have printed in the end."""
    found: dict[tuple[str, str], Line] = {}
    for each in events:
        if "totals" in each:
            its = found.setdefault(
                (each["seller_id"], each["currency"]), {"invoices": 0, "credit_notes": 0, "gross_minor": 0}
            )
            is_invoice = each["type"] == "gapless.InvoiceIssued"
            its["invoices" if is_invoice else "credit_notes"] += 1
            its["gross_minor"] += each["totals"]["gross_minor"] * (1 if is_invoice else -1)
    return found


def totals(lines: list[Line]) -> dict[tuple[str, str], Line]:
    """By seller and currency, what was printed last."""
    return {(each.pop("seller_id"), each.pop("currency")): each for each in copy.deepcopy(lines)}


def test_kafka_connect_writes_each_event_into_a_table_once(world: World, tmp_path: Path) -> None:
    require("java")
    for name in ("java", "connect"):
        folder = shutil.copytree(EXAMPLES / name, tmp_path / name, ignore=shutil.ignore_patterns("target"))
        run("mvn", "--batch-mode", "--quiet", "package", folder=folder)
    properties = folder / "invoice-events.properties"
    properties.write_text(properties.read_text().replace("topics=invoice-events", f"topics={','.join(TOPICS)}"))
    database = urlsplit(world.running.postgres_url)
    with psycopg.connect(world.running.postgres_url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE sink")
    with psycopg.connect(urlunsplit(database._replace(path="/sink")), autocommit=True) as table:
        table.execute((folder / "invoice_events.sql").read_bytes())
        with started(
            world,
            "java",
            "-cp",
            "target/libraries/*:../java/target/revenue.jar",
            "org.apache.kafka.connect.cli.ConnectStandalone",
            "worker.properties",
            "invoice-events.properties",
            folder=folder,
            JDBC_URL=f"jdbc:postgresql://{database.hostname}:{database.port}/sink",
            JDBC_USER=database.username or "",
            JDBC_PASSWORD=database.password or "",
        ) as worker:
            wanted = sorted(map(row, world.events + world.earlier))
            worker.wait_until(lambda _: len(rows(table)) >= len(wanted))
            assert worker.end() == SIGNALLED
        assert rows(table) == wanted


def row(event: Line) -> tuple[str, ...]:
    """What must be in the table of an event."""
    issued = (event["invoice_number"], event["currency"], event["totals"]["gross_minor"]) if "totals" in event else ()
    return tuple(map(str, (event["id"], event["type"], event["seller_id"], event["order_id"], *issued)))


def rows(table: "psycopg.Connection[tuple[Any, ...]]") -> list[tuple[str, ...]]:
    """What is in it: numbers and amounts of those events that have them."""
    found = table.execute(
        "SELECT ce_id, type, seller_id, order_id, invoice_number, currency, totals_gross_minor FROM invoice_events"
    ).fetchall()
    return sorted(tuple(map(str, each if each[-1] is not None else each[:4])) for each in found)
