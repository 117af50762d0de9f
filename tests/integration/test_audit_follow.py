"""The following audit: it finds what is wrong with new data in the next round, and reads nothing else."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from confluent_kafka import Producer

from audit.follow import OUTAGES
from audit.report import AuditReport
from audit.waiting import HELD_BACK, UNHANDLED
from local.layout import free_port
from tests import conftest
from tests.integration.test_audit import clone, found
from tests.integration.town import Town
from tests.integration.world import EVENTS, REQUESTS

pytestmark = pytest.mark.usefixtures("orders_anywhere")

_SKU = "MUG"


@pytest.fixture
def new_town(services: conftest.Services, template_database: str, tmp_path: Path) -> Iterator[Town]:
    """A town of the test's own."""
    yield from _town(services, template_database, tmp_path)


@pytest.fixture(scope="module")
def old_town(
    services: conftest.Services, template_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Town]:
    """A town with some history, shared by tests that add to it and repair what they damage."""
    for town in _town(services, template_database, tmp_path_factory.mktemp("objects")):
        # Without the constraints that would prevent damage.
        town.world.execute("ALTER TABLE stock DROP CONSTRAINT stock_not_oversold, DROP CONSTRAINT stock_reserved_check")
        town.grow(3)
        town.begin()
        yield town


def _town(services: conftest.Services, template: str, objects: Path) -> Iterator[Town]:
    url = clone(services.postgres_url, template)
    town = Town(services, url, objects)
    yield town
    town.close()
    with psycopg.connect(services.postgres_url, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {url.rpartition('/')[2]} WITH (FORCE)".encode())


def test_a_ledger_that_grows_stays_clean_round_by_round(old_town: Town) -> None:
    """Each stage of an order's life is in a round of its own, and a few rounds have all of them at once."""
    town = old_town
    assert town.check() == ""
    orders = town.place(3)
    assert town.check() == ""
    town.pay(orders)
    assert town.check() == ""
    assert town.follower.waiting.ages()["confirmed, not yet invoiced"][0] == 3
    town.invoice()
    town.relay()
    assert town.check() == ""
    assert set(town.follower.waiting.ages()) == {"documents not yet made"}
    town.store()
    assert town.check() == ""
    town.relay()
    assert town.check() == ""
    assert town.follower.waiting.ages() == {}
    town.command(orders[0], "ship")
    town.capture(orders[0])
    assert town.check() == ""
    town.command(orders[1], "cancel", reason="too late")
    assert town.check() == ""
    town.command(orders[0], "deliver")
    town.grow(2)
    assert town.check() == ""
    assert town.world.audit().clean


Break = Callable[[Town, list[str]], str]


def _sql(statement: str, says: str) -> Break:
    """Damage by statements, with the placeholders `{order}` and `{number}`; and what must be reported."""

    def damage(town: Town, orders: list[str]) -> str:
        number = town.one("SELECT number FROM invoices WHERE order_id = %s", orders[-1])
        names = {"order": orders[-1], "number": number, "other": orders[0]}
        for each in statement.split(";"):
            town.world.execute("SET session_replication_role = replica;" + each.format(**names))
        return says.format(**names)

    return damage


_JOURNAL = "UPDATE journal SET {} WHERE topic = '{}' AND seq = (SELECT max(seq) FROM journal WHERE topic = '{}')"
_EVENTS = "invoice-events"

#: Damage to new data, and a part of what the next round must report.
_DAMAGE: dict[str, Break] = {
    "an invoice's row is deleted": _sql(
        "DELETE FROM documents WHERE number = {number}; DELETE FROM invoices WHERE number = {number}",
        "gap series demo.invoice.p00 number {number}: has an event",
    ),
    "a number is left out": _sql(
        "UPDATE series SET next_number = next_number + 1",
        "gap series demo.invoice.p00: ends with {number}, but the next number is",
    ),
    "a number is taken twice": _sql(
        "UPDATE invoices SET number = number + 5 WHERE number = {number}",
        "gap series demo.invoice.p00: has no number {number} to",
    ),
    "a date runs backwards": _sql(
        "UPDATE invoices SET issued_at = issued_at - interval '1 day' WHERE number = {number}",
        "date series demo.invoice.p00 number {number}: was issued at",
    ),
    "totals are altered": _sql(
        "UPDATE invoices SET gross_minor = gross_minor + 1 WHERE number = {number}",
        "money series demo.invoice.p00 number {number}: the row differs from event",
    ),
    "a number is printed twice": _sql(
        "DROP INDEX invoices_printed_number;"
        "UPDATE invoices SET invoice_number = (SELECT invoice_number FROM invoices WHERE order_id = '{other}')"
        " WHERE number = {number}",
        "is printed on 2 invoices",
    ),
    "a journal row is lost": _sql(
        "DELETE FROM journal WHERE topic = 'payment-events' AND seq = (SELECT max(seq) - 1 FROM journal"
        " WHERE topic = 'payment-events')",
        "journal payment-events/0: has no seq",
    ),
    "the journal's last row is lost": _sql(
        "DELETE FROM journal WHERE topic = 'payment-events' AND seq = (SELECT max(seq) FROM journal"
        " WHERE topic = 'payment-events')",
        "but its head says",
    ),
    "a row beyond the head": _sql(
        "INSERT INTO journal SELECT topic, partition, seq + 7, key, payload, occurred_at FROM journal"
        " WHERE topic = 'payment-events' AND seq = (SELECT max(seq) FROM journal WHERE topic = 'payment-events')",
        "journal payment-events/0: has no seq",
    ),
    "a journal row differs from its record": _sql(
        _JOURNAL.format("payload = payload || '\\x00'", _EVENTS, _EVENTS), "topic invoice-events/0 offset"
    ),
    "a step that the table forbids": _sql(
        "UPDATE orders SET history = jsonb_set(history, '{{2,to}}', '\"DELIVERED\"') WHERE order_id = '{order}'",
        "order order demo/{order}: its history is no walk of the table",
    ),
    "a step that no event tells": _sql(
        "UPDATE orders SET history = jsonb_set(history, '{{2,detail}}', '\"words\"') WHERE order_id = '{order}'",
        "order order demo/{order}: has a row and no event that says: 0: step 3",
    ),
    "an order's row is lost": _sql(
        "DELETE FROM orders WHERE order_id = '{order}'",
        "order order demo/{order}: has no row and an event that says: 0: placed by",
    ),
    "an order's id stands as an invoice's": _sql(
        "UPDATE order_ids SET kind = 'invoice' WHERE order_id = '{order}'",
        "order order demo/{order}: has an id that stands as invoice's, and there is an order",
    ),
    "an id without its order": _sql(
        "DELETE FROM invoices WHERE order_id = '{order}'; DELETE FROM orders WHERE order_id = '{order}'",
        "order order demo/{order}: has an id that stands as checkout's, and there is neither an order nor an invoice",
    ),
    "a confirmed order that nobody paid": _sql(
        "UPDATE payment_attempts SET state = 'declined' WHERE order_id = '{order}'",
        "payment order demo/{order}: was confirmed with 0 successful authorisations",
    ),
    "an invoice of another order": _sql(
        "UPDATE invoices SET order_id = 'nobody' WHERE number = {number}",
        "event series demo.invoice.p00 number {number}: the row differs",
    ),
    "more reserved than orders claim": _sql(
        "UPDATE stock SET reserved = reserved + 1", "are reserved, but open orders claim"
    ),
    "more reserved than there is": _sql("UPDATE stock SET reserved = 100001", "stock stock demo/MUG: 100001 of"),
    "a line's pieces are altered": _sql(
        "UPDATE order_lines SET quantity = 5 WHERE order_id = '{order}' AND line = 0",
        "are reserved, but open orders claim",
    ),
    "a document's row is another's": _sql(
        "UPDATE documents SET sha256 = sha256('x') WHERE number = {number}",
        "document series demo.invoice.p00 number {number}: its key does not carry",
    ),
    "a checkout was passed over": _sql(
        "DELETE FROM orders WHERE order_id = '{order}'", "(order demo/{order}): there is no such order"
    ),
    "an order that no checkout asked for": _sql(
        "UPDATE orders SET source_offset = 100000 WHERE order_id = '{order}'",
        "outcome checkout-requests/0: the ledger holds 2 decided, the log 1",
    ),
    "a position went back": _sql(
        "UPDATE positions SET next_offset = 0 WHERE agent = 'checkouts'",
        "position checkouts in checkout-requests/0: stands at 0, but has stood at",
    ),
    "a mark before its record": _sql(
        "UPDATE journal_heads SET next_seq = next_seq + 1 WHERE topic = 'order-events';"
        "UPDATE journal_published SET published_seq = published_seq + 1 WHERE topic = 'order-events'",
        "is marked as published, but is not there",
    ),
}
_TABLES = (
    "invoices", "documents", "series", "journal", "journal_heads", "journal_published", "orders", "order_ids",
    "order_lines", "payment_attempts", "stock", "positions",
)  # fmt: skip


@pytest.fixture
def mended(old_town: Town) -> Iterator[Callable[[], None]]:
    """Undo the damage. Call it once the ledger is correct again."""

    def note() -> None:
        for table in _TABLES:
            old_town.world.execute(f"CREATE TABLE whole.{table} AS TABLE public.{table}")

    old_town.world.execute("CREATE SCHEMA whole")
    yield note
    with psycopg.connect(old_town.world.postgres_url) as connection:
        connection.execute("SET session_replication_role = replica")
        for table in _TABLES:
            connection.execute(f"DELETE FROM public.{table}".encode())
            connection.execute(f"INSERT INTO public.{table} SELECT * FROM whole.{table}".encode())
        connection.execute("DROP SCHEMA whole CASCADE")


@pytest.mark.parametrize("damage", _DAMAGE)
def test_damage_to_what_is_new_is_found_in_the_next_round(
    old_town: Town, mended: Callable[[], None], damage: str
) -> None:
    """It is found again until it is repaired, because a round with violations does not advance."""
    assert old_town.check() == ""
    orders = old_town.grow(2)
    mended()
    expected = _DAMAGE[damage](old_town, orders)
    assert expected in old_town.check()
    assert expected in old_town.check()


def test_after_all_that_damage_the_mended_ledger_is_clean(old_town: Town) -> None:
    assert old_town.check() == ""
    assert old_town.world.audit().clean


def test_a_document_that_is_not_in_the_store_is_found_however_many_there_are(old_town: Town) -> None:
    """Of most documents only the size is checked."""
    orders = old_town.grow(30)
    key = old_town.one(
        "SELECT key FROM documents JOIN invoices USING (series_id, number) WHERE order_id = %s", orders[-1]
    )
    body = (old_town.world.objects / key).read_bytes()
    (old_town.world.objects / key).write_bytes(body[:-1])
    assert f"{key} has {len(body) - 1} bytes, not {len(body)}" in old_town.check()
    (old_town.world.objects / key).unlink()
    assert f"{key} is not in the store" in old_town.check()
    (old_town.world.objects / key).write_bytes(body)
    assert old_town.check() == ""


def test_a_header_of_the_relays_on_a_foreign_request_is_no_error(new_town: Town) -> None:
    """It does not matter what the record contains, nor that it precedes the relay's own."""
    town = new_town
    town.begin()
    for seq in (b"1", b"999999", b"x"):
        town.world.produce(REQUESTS, 3, b"k", b"v", [("seq", seq)])
        assert town.check() == ""
    assert town.follower.waiting.ages()[UNHANDLED][0] == 1


def test_what_an_aborted_transaction_leaves_is_waited_for_by_nobody(new_town: Town) -> None:
    """While the transaction is open, held back offsets are reported as such, and not as unhandled."""
    town = new_town
    town.begin()
    config = {"bootstrap.servers": town.world.kafka, "transactional.id": town.world.prefix}
    producer = Producer(config)
    producer.init_transactions(60)
    producer.begin_transaction()
    producer.produce(town.world.prefix + REQUESTS, b"v", b"k", 3)
    assert producer.flush(60) == 0
    assert town.check() == ""
    assert set(town.follower.waiting.ages()) == {HELD_BACK}
    producer.abort_transaction(60)
    for _ in range(20):
        assert town.check() == ""
    assert town.follower.waiting.ages() == {}


def test_records_that_are_not_the_journals_are_found(new_town: Town) -> None:
    """An equal repeat is no violation: the relay repeats after a crash."""
    town = new_town
    town.grow(2)
    town.begin()
    first = town.world.records(EVENTS, 0)[0]
    town.world.produce(EVENTS, 0, first.key(), first.value(), [("seq", b"1")])
    assert town.check() == ""
    town.world.produce(EVENTS, 0, first.key(), b"other", [("seq", b"1")])
    town.world.produce(EVENTS, 1, b"k", b"v", [("seq", b"3")])
    town.world.produce(EVENTS, 2, b"k", b"v")
    said = town.check()
    assert "differs from journal seq 1" in said
    assert f"topic {EVENTS}/1 offset 0: goes from seq 0 to 3" in said
    assert f"topic {EVENTS}/1 offset 0: seq 3 is not in the journal" in said
    assert f"topic {EVENTS}/2 offset 0: carries no header seq" in said


def test_what_waits_for_too_long_is_reported(new_town: Town) -> None:
    """Time without rounds doesn't count, because services were unavailable for agents too."""
    town = new_town
    town.begin()
    town.pay(town.place(1))
    town.relay()
    assert town.check() == ""
    town.now += 3600.0
    assert town.check() == ""
    for _ in range(5):
        assert town.check() == ""
    said = [line for _ in range(3) if (line := town.check())]
    assert said[0].startswith("complete order demo/g0: confirmed, not yet invoiced, for 6")
    town.invoice()
    assert town.check() == ""


def test_an_outage_is_an_error_and_nothing_is_missed(new_town: Town, services: conftest.Services) -> None:
    town = new_town
    town.begin()
    assert town.check() == ""
    orders = town.grow(2)
    with psycopg.connect(services.postgres_url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND state = 'idle'",
            (town.world.postgres_url.rpartition("/")[2],),
        )
    with pytest.raises(OUTAGES):
        town.check()
    town.world.execute("UPDATE orders SET version = 9 WHERE order_id = %s", orders[0])
    assert f"order order demo/{orders[0]}: has version 9" in town.check()


def reads(town: Town) -> int:
    """Rows that Postgres has read so far in this ledger, through indexes or not, for any reason."""
    with psycopg.connect(town.world.postgres_url, autocommit=True) as connection:
        row = connection.execute(
            "SELECT (SELECT sum(seq_tup_read) FROM pg_stat_user_tables)"
            " + (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes)"
        ).fetchone()
    assert row is not None
    return int(row[0])


def cost(town: Town) -> tuple[int, int]:
    """The cost of a clean round: rows read by Postgres, and rows returned."""
    before = settled(town)
    town.now += 5.0
    report: AuditReport = town.follower.check()
    assert found(report) == ""
    # A session reports its counts when it ends.
    town.follower.close()
    return settled(town) - before, report.counts["rows"]


def settled(town: Town) -> int:
    """The count once all sessions have reported; an idle one does within a second."""
    deadline, last = time.monotonic() + 60, -1
    while time.monotonic() < deadline:
        now = reads(town)
        if now == last:
            return now
        last = now
        time.sleep(0.3)
    raise AssertionError("the counts don't settle")


def test_a_round_costs_what_is_new_and_not_what_there_is(new_town: Town) -> None:
    """Ten orders cost as much after 2,000 as after none, and no change costs nothing, for the follower and Postgres."""
    town = new_town
    town.grow(1)
    town.begin()
    town.grow(10)
    ten_then = cost(town)
    nothing_then = cost(town)
    town.grow(2000)
    many = cost(town)
    assert many[1] > 20_000
    nothing_now = cost(town)
    town.grow(10)
    ten_now = cost(town)
    assert nothing_now[1] <= nothing_then[1] + 5 < 100
    assert nothing_now[0] <= nothing_then[0] + 20 < 200
    assert ten_now[1] <= ten_then[1] + 10
    assert ten_now[0] <= 1.2 * ten_then[0] + 50
    assert ten_now[0] < many[0] / 20


@pytest.fixture
def process(
    services: conftest.Services, ledger_url: str, tmp_path: Path
) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """`gapless audit --follow` on an empty ledger, and the port of its metrics."""
    port = free_port()
    environment = {
        **os.environ,
        "GAPLESS_KAFKA_BOOTSTRAP": services.kafka_bootstrap,
        "GAPLESS_POSTGRES_URL": ledger_url,
        "GAPLESS_OBJECTS_URL": tmp_path.as_uri(),
        "GAPLESS_METRICS_PORT": str(port),
    }
    command = [sys.executable, "-m", "gapless", "audit", "--follow", "--every", "0.2", "--json"]
    with subprocess.Popen(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as running:
        yield running, port
        running.kill()


def metrics_of(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
        lines = answer.read().decode().splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[:1] != "#")}


def test_the_process_waits_out_an_outage_and_ends_with_1_and_a_line_for_what_is_wrong(
    process: tuple["subprocess.Popen[str]", int],
    services: conftest.Services,
    ledger_url: str,
) -> None:
    running, port = process
    assert running.stdout is not None
    assert running.stderr is not None
    rounds = [json.loads(running.stdout.readline()) for _ in range(3)]
    assert all(each["clean"] for each in rounds)
    seen = metrics_of(port)
    assert seen["gapless_audit_rounds_total"] >= 1
    assert seen['gapless_audit_violations{check="gap"}'] == 0
    assert seen["gapless_audit_unchecked_seconds"] < 60
    assert abs(time.time() - seen["gapless_audit_clean_timestamp_seconds"]) < 60
    database = ledger_url.rpartition("/")[2]
    with psycopg.connect(services.postgres_url, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {database} ALLOW_CONNECTIONS false".encode())
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (database,))
        waits = json.loads(running.stderr.readline())
        while "the audit waits" not in waits["event"]:
            waits = json.loads(running.stderr.readline())
        connection.execute(f"ALTER DATABASE {database} ALLOW_CONNECTIONS true".encode())
    with psycopg.connect(ledger_url, autocommit=True) as connection:
        connection.execute("INSERT INTO journal VALUES ('dead-letters', 1, 1, NULL, '\\x00', now())")
    lines: list[dict[str, Any]] = []
    while not lines or "violations and ends" not in lines[-1]["event"]:
        lines.append(json.loads(running.stderr.readline()))
    # It waits for this scrape, without which Prometheus would never see the violations.
    assert running.poll() is None
    assert metrics_of(port)['gapless_audit_violations{check="journal"}'] > 0
    assert running.wait(60) == 1
    wrong = [line for line in lines if line["event"] == "violation"]
    assert {(line["process"], line["check"]) for line in wrong} == {("audit", "journal")}, lines
    assert ("dead-letters/1", "ends with seq 1, but its head says 0") in [
        (each["where"], each["what"]) for each in wrong
    ]
    assert json.loads(running.stdout.read().splitlines()[-1])["clean"] is False


def test_sigterm_ends_the_process_with_0(process: tuple["subprocess.Popen[str]", int]) -> None:
    running, _ = process
    assert running.stdout is not None
    assert json.loads(running.stdout.readline())["clean"]
    running.send_signal(signal.SIGTERM)
    assert running.wait(60) == 0
