"""The audit finds each kind of damage and its place, and finds nothing in an undamaged ledger."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from audit.report import AuditError, AuditReport
from audit.snapshot import Snapshot
from schemas import catalog, codec
from tests.conftest import Services
from tests.integration.world import DEAD, EVENTS, REQUESTS, Headers, World, append, build
from tests.records import written
from tests.unit.domain.test_invoice import request

pytestmark = pytest.mark.usefixtures("orders_anywhere")

_CLONES = iter(range(10_000))


@pytest.fixture(scope="module")
def clean(services: Services, template_database: str, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Built once; tests change clones of it."""
    url = clone(services.postgres_url, template_database)
    return build(services.kafka_bootstrap, url, tmp_path_factory.mktemp("objects"))


@pytest.fixture
def world(clean: World, services: Services, tmp_path: Path) -> Iterator[World]:
    """An undamaged world with a ledger and objects of the test's own; topics are shared and must not be changed.

    For every module with a `clean` of its own.
    """
    url = clone(services.postgres_url, urlsplit(clean.postgres_url).path[1:])
    yield replace(clean, postgres_url=url, objects=shutil.copytree(clean.objects, tmp_path / "objects"))
    with psycopg.connect(services.postgres_url, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {urlsplit(url).path[1:]} WITH (FORCE)".encode())


def clone(server: str, template: str) -> str:
    """A copy of the database; returns its URL."""
    name = f"gapless_audit_{next(_CLONES)}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}".encode())
    return urlunsplit(urlsplit(server)._replace(path=f"/{name}"))


def found(report: AuditReport) -> str:
    """All violations, one per line."""
    return "\n".join(f"{each.check} {each.where}: {each.what}" for each in report.shown())


def test_tables_of_the_release_before_are_refused_with_the_fix(ledger_url: str) -> None:
    with psycopg.connect(ledger_url) as connection:
        connection.execute("DELETE FROM schema_migrations WHERE name = (SELECT max(name) FROM schema_migrations)")
    with pytest.raises(AuditError, match="run `gapless migrate`"):
        Snapshot(ledger_url)


def test_a_clean_ledger_has_nothing_wrong(world: World) -> None:
    """The requests have every outcome, so each check has something to examine."""
    report = world.audit(complete=True)
    assert found(report) == ""
    assert report.clean
    assert report.outcomes == {
        "issued": 10, "repeat": 1, "conflict": 1, "rejected": 2, "dead letter": 2
    }  # fmt: skip
    assert report.counts["invoices"] == report.counts["documents"] == 10


def test_an_empty_ledger_is_clean(services: Services, ledger_url: str, tmp_path: Path) -> None:
    assert World(services.kafka_bootstrap, "nothing-", ledger_url, tmp_path).audit(complete=True).clean


#: Damage to the ledger, and a part of what the audit must report.
_LEDGER_DAMAGE = {
    "an invoice's row is deleted": (
        "DELETE FROM documents WHERE series_id = 'demo.invoice.p00' AND number = 3;"
        "DELETE FROM invoices WHERE series_id = 'demo.invoice.p00' AND number = 3",
        ["gap series demo.invoice.p00: has no number 3", "(order demo/A-2): its order has no invoice"],
    ),
    "the last invoice's row is deleted": (
        "DELETE FROM documents WHERE series_id = 'demo.invoice.p01' AND number = 4;"
        "DELETE FROM invoices WHERE series_id = 'demo.invoice.p01' AND number = 4",
        ["gap series demo.invoice.p01: ends with 3, but the next number is 5"],
    ),
    "a number is changed": (
        "ALTER TABLE documents DROP CONSTRAINT documents_series_id_number_fkey;"
        "UPDATE invoices SET number = 99 WHERE series_id = 'demo.invoice.p00' AND number = 6",
        ["gap series demo.invoice.p00: has no number 6 to 98", "gap series demo.invoice.p00 number 6: has an event"],
    ),
    "the series forgets a number": (
        "UPDATE series SET next_number = next_number - 1 WHERE series_id = 'demo.invoice.p00'",
        ["gap series demo.invoice.p00: ends with 6, but the next number is 6"],
    ),
    "a series is deleted": (
        "DELETE FROM series WHERE series_id = 'demo.invoice.p01'",
        ["gap series demo.invoice.p01: has invoices, but no row"],
    ),
    "an order has two invoices": (
        "ALTER TABLE invoices DROP CONSTRAINT invoices_order_key;"
        "UPDATE invoices SET order_id = 'A-0' WHERE order_id = 'A-1'",
        ["repeat order demo/A-0 (invoice): has 2 invoices", "order_id A-0, not A-1"],
    ),
    "two invoices print the same number": (
        "DROP INDEX invoices_printed_number;"
        "UPDATE invoices SET invoice_number = 'INV-00-00000001' WHERE order_id = 'A-1'",
        ["repeat demo's INV-00-00000001: is printed on 2 invoices"],
    ),
    "a date runs backwards": (
        "UPDATE invoices SET issued_at = issued_at - interval '1 day' WHERE order_id = 'A-4'",
        ["date series demo.invoice.p00 number 5: was issued at 2026-11-20", "event series demo.invoice.p00 number 5"],
    ),
    "a journal row is deleted": (
        f"DELETE FROM journal WHERE topic = '{EVENTS}' AND partition = 0 AND seq = 2",
        [
            f"journal {EVENTS}/0: has no seq 2 to 2",
            f"topic {EVENTS}/0 offset 1: seq 2 is not in the journal",
            f"event series demo.invoice.p00 number 2: has no event at {EVENTS}/0 seq 2",
        ],
    ),
    "the journal's last row is deleted": (
        f"DELETE FROM journal WHERE topic = '{DEAD}' AND partition = 0 AND seq = 2",
        [f"journal {DEAD}/0: ends with seq 1, but its head says 2", "can't be decoded, and has no dead letter"],
    ),
    "a journal row is changed": (
        f"UPDATE journal SET payload = payload || '\\x00' WHERE topic = '{EVENTS}' AND partition = 1 AND seq = 1",
        [f"topic {EVENTS}/1 offset 0: differs from journal seq 1", f"journal {EVENTS}/1 seq 1: can't be decoded"],
    ),
    "a journal head is lost": (
        f"DELETE FROM journal_heads WHERE topic = '{EVENTS}' AND partition = 1",
        [f"journal {EVENTS}/1: has 8 rows, but no head", f"journal {EVENTS}/1: ends with seq 8, but its head says 0"],
    ),
    "totals are altered": (
        "UPDATE invoices SET gross_minor = gross_minor + 1 WHERE order_id = 'A-3'",
        ["money series demo.invoice.p00 number 4: the row differs from event seq 4: gross_minor"],
    ),
    "an invoice's content is another": (
        "UPDATE invoices SET content_sha256 = sha256('x') WHERE order_id = 'A-1'",
        [
            "event series demo.invoice.p00 number 2: the row differs",
            "offset 1 (order demo/A-1): its invoice was made from other content",
            "offset 6 (order demo/A-1): has other content than its order's invoice",
        ],
    ),
    "a conflict is forgotten": (
        "DELETE FROM refused_requests WHERE outcome = 'conflict'",
        ["offset 7 (order demo/A-2): has other content", "offset 7: was conflict by event seq"],
    ),
    "a rejection is forgotten": (
        "DELETE FROM refused_requests WHERE order_id = 'A-9'",
        ["offset 8 (order demo/A-9): breaks a rule"],
    ),
    "a refusal too many": (
        "UPDATE refused_requests SET log_offset = 0 WHERE order_id = 'A-9'",
        ["offset 0 (order demo/A-0): has more than one outcome: a refusal (rejected), an invoice"],
    ),
    "a refusal for a request that was never made": (
        f"INSERT INTO refused_requests VALUES ('{REQUESTS}', 0, 500, 'demo', 'Q', 'invoice', 'rejected', 'r', 'd',"
        " NULL, now())",
        ["the ledger holds 4 refused, the log 3", "event refused requests: 4 rows, but 3 events"],
    ),
    "a position is beyond the log": (
        "UPDATE positions SET next_offset = 1000 WHERE agent = 'invoices' AND partition = 0",
        [f"position invoices in {REQUESTS}/0: stands at 1000, but the log ends at 12"],
    ),
    "a document's row is another's": (
        "UPDATE documents SET sha256 = sha256('x') WHERE series_id = 'demo.invoice.p00' AND number = 1",
        ["document series demo.invoice.p00 number 1: its key does not carry its seller and digest", "sha256"],
    ),
    "an event is marked as published and is not": (
        f"UPDATE journal_heads SET next_seq = 10 WHERE topic = '{EVENTS}' AND partition = 1;"
        f"UPDATE journal_published SET published_seq = 9 WHERE topic = '{EVENTS}' AND partition = 1;"
        f"INSERT INTO journal SELECT topic, partition, 9, key, payload, occurred_at FROM journal"
        f" WHERE topic = '{EVENTS}' AND partition = 1 AND seq = 1",
        [f"topic {EVENTS}/1: seq 9 is marked as published, but is not there", "event_seq 1, not 9"],
    ),
}


@pytest.mark.parametrize("damage", _LEDGER_DAMAGE)
def test_damage_to_the_ledger_is_reported(world: World, damage: str) -> None:
    """Damage that constraints would prevent is made without them."""
    sql, expected = _LEDGER_DAMAGE[damage]
    for statement in sql.split(";"):
        world.execute(statement)
    report = world.audit()
    assert not report.clean
    for text in expected:
        assert text in found(report)


def a_pdf(world: World) -> Path:
    return min(world.objects.rglob("*.pdf"))


def test_a_flipped_byte_of_a_document_is_reported(world: World) -> None:
    body = bytearray(a_pdf(world).read_bytes())
    body[10] ^= 1
    a_pdf(world).write_bytes(body)
    assert "document series demo.invoice.p00 number 1: invoices/demo/2026/INV-00-00000001-" in found(world.audit())


def test_a_truncated_document_is_reported(world: World) -> None:
    a_pdf(world).write_bytes(a_pdf(world).read_bytes()[:-1])
    assert "bytes, not" in found(world.audit())


def test_a_missing_document_is_reported(world: World) -> None:
    a_pdf(world).unlink()
    report = world.audit()
    assert "is not in the store" in found(report)
    assert report.violations.total() == 1


def test_a_document_not_yet_made_is_pending_and_a_violation_only_of_completeness(world: World) -> None:
    """The documents agent is behind the ledger, and the audit may run meanwhile."""
    world.execute("DELETE FROM documents WHERE series_id = 'demo.invoice.p01' AND number = 4")
    # Its event is the partition's last, and is deleted too, so that only the topic still has it.
    world.execute(f"DELETE FROM journal WHERE topic = '{EVENTS}' AND partition = 1 AND seq = 8")
    world.execute(
        f"UPDATE journal_heads SET next_seq = 8 WHERE topic = '{EVENTS}' AND partition = 1;"
        f"UPDATE journal_published SET published_seq = 7 WHERE topic = '{EVENTS}' AND partition = 1"
    )
    report = world.audit()
    assert report.pending_documents == 1
    # Published after the snapshot: found although the snapshot does not contain it.
    assert found(report).splitlines() == [
        f"topic {EVENTS}/1: ends with seq 8 (offset 7), and the journal with seq 7: Postgres is older than the topic,"
        " see docs/recovery.md",
        f"topic {EVENTS}/1 offset 7: seq 8 is not in the journal",
    ]
    assert "complete documents: 1 not yet made" in found(world.audit(complete=True))


def test_records_not_yet_handled_are_lag(world: World) -> None:
    own = world.with_topics_of_its_own()
    body = written(catalog.INVOICE_REQUEST, request(order_id="new"))
    own.produce(REQUESTS, 3, b"new", body)
    report = own.audit()
    assert report.clean
    assert report.lag[f"invoices {REQUESTS}"] == 1
    assert f"complete invoices {REQUESTS}: 1 records not yet handled" in found(own.audit(complete=True))


def test_a_request_that_was_passed_over_is_lost(world: World) -> None:
    own = world.with_topics_of_its_own()
    own.produce(REQUESTS, 3, b"new", written(catalog.INVOICE_REQUEST, request(order_id="new")))
    own.produce(REQUESTS, 3, b"x", b"garbage")
    own.execute("UPDATE positions SET next_offset = 2 WHERE agent = 'invoices' AND partition = 3")
    text = found(own.audit())
    assert f"outcome {REQUESTS}/3 offset 0 (order demo/new): its order has no invoice" in text
    assert f"outcome {REQUESTS}/3 offset 1: can't be decoded, and has no dead letter" in text


def test_a_repeat_of_equal_bytes_is_counted_and_one_of_others_reported(world: World) -> None:
    """The relay may repeat after a crash; consumers skip a repeat by its seq."""
    own = world.with_topics_of_its_own()
    first = own.records(EVENTS, 0)[0]
    own.produce(EVENTS, 0, first.key(), first.value(), [("seq", b"1")])
    report = own.audit()
    assert report.clean
    assert report.counts["topic repeats"] == 1
    own.produce(EVENTS, 0, first.key(), b"other", [("seq", b"1")])
    assert f"topic {EVENTS}/0 offset 16: differs from journal seq 1" in found(own.audit())


@pytest.mark.parametrize("headers", [[], [("seq", b"x")], [("seq", b"1"), ("seq", b"1")]])
def test_a_record_that_is_not_the_relays_is_reported(world: World, headers: Headers) -> None:
    own = world.with_topics_of_its_own()
    own.produce(EVENTS, 2, b"k", b"v", headers)
    assert f"topic {EVENTS}/2 offset 0: carries no header seq" in found(own.audit())


def test_a_hole_in_a_topic_is_reported(world: World) -> None:
    """Both rows are in the journal, so only the topic is wrong."""
    own = world.with_topics_of_its_own()
    with psycopg.connect(own.postgres_url) as connection:
        for order_id in ("A-0", "A-1"):
            append(connection, DEAD, 2, b"k", catalog.DEAD_LETTER, _dead_letter(order_id))
    own.produce(DEAD, 2, b"k", written(catalog.DEAD_LETTER, _dead_letter("A-1")), [("seq", b"2")])
    assert f"topic {DEAD}/2: seq 1 is marked as published, but is not there" in found(own.audit())


def test_records_that_retention_took_are_no_hole(world: World) -> None:
    """A topic may have less than the journal, but from its oldest record on it must be equal."""
    own = world.with_topics_of_its_own()
    admin = AdminClient({"bootstrap.servers": own.kafka})
    for partition, offset in ((0, 3), (1, len(own.records(EVENTS, 1)))):
        deleted = admin.delete_records([TopicPartition(own.prefix + EVENTS, partition, offset)])
        for future in deleted.values():
            future.result(60)
    report = own.audit(complete=True)
    assert found(report) == ""
    where = f"topic = '{EVENTS}' AND partition = 0 AND seq = 4"
    own.execute(f"UPDATE journal SET payload = payload || '\\x00' WHERE {where}")
    assert f"topic {EVENTS}/0 offset 3: differs from journal seq 4" in found(own.audit())


def _dead_letter(order_id: str) -> dict[str, object]:
    source = {"source_topic": "elsewhere", "source_partition": 0, "source_offset": 0}
    return {"agent": "other", **source, "key": None, "value": order_id.encode(), "error": "e", "occurred_at": 0}


def _change_event(change: Callable[[Any], None]) -> Callable[[World], None]:
    def apply(world: World) -> None:
        with psycopg.connect(world.postgres_url, autocommit=True) as connection:
            where = f"topic = '{EVENTS}' AND partition = 0 AND seq = 1"
            row = connection.execute(f"SELECT payload FROM journal WHERE {where}".encode()).fetchone()
            assert row is not None
            _, event = codec.decode(row[0], catalog.INVOICE_ISSUED, bytes_max=10**6)
            change(event)
            payload = codec.encode(catalog.INVOICE_ISSUED, event)
            connection.execute(f"UPDATE journal SET payload = %s WHERE {where}".encode(), (payload,))

    return apply


_EVENT_DAMAGE: dict[str, tuple[Callable[[Any], None], str]] = {
    "a line's net": (
        lambda event: event["lines"][0].update(net_minor=1),
        "money series demo.invoice.p00 number 1: line 0",
    ),
    "a rate's tax": (
        lambda event: event["totals"]["per_rate"][0].update(tax_minor=1),
        "money series demo.invoice.p00 number 1: rate S 5.50: tax 1, not 330",
    ),
    "a rate left out": (
        lambda event: event["totals"]["per_rate"].pop(),
        "is in the lines, but not in the totals",
    ),
    "the gross": (lambda event: event["totals"].update(gross_minor=1), "total gross is 1, but the lines amount to"),
    "the buyer": (lambda event: event["buyer"].update(name="Eve"), "the row differs from event seq 1: content_sha256"),
    "the date": (
        lambda event: event.update(issue_date="2026-11-30"),
        "date series demo.invoice.p00 number 2: is dated",
    ),
}


@pytest.mark.parametrize("damage", _EVENT_DAMAGE)
def test_an_event_that_says_something_else_is_reported(world: World, damage: str) -> None:
    change, expected = _EVENT_DAMAGE[damage]
    _change_event(change)(world)
    assert expected in found(world.audit())


def test_stores_that_cannot_be_read_are_an_error_of_their_own(world: World) -> None:
    with pytest.raises(AuditError, match="Postgres can't be reached"):
        replace(world, postgres_url="postgresql://x@127.0.0.1:1/x").audit()
    with pytest.raises(AuditError, match=r"Kafka at 127\.0\.0\.1:1 can't be read"):
        replace(world, kafka="127.0.0.1:1").audit()


def test_a_database_without_tables_is_an_error_that_says_what_to_do(world: World, services: Services) -> None:
    with pytest.raises(AuditError, match="gapless migrate"):
        replace(world, postgres_url=services.postgres_url).audit()


def test_violations_are_counted_in_full_and_shown_in_part() -> None:
    report = AuditReport()
    for number in range(1000):
        report.add("gap", f"number {number}", "is missing")
    assert report.violations["gap"] == 1000
    assert len(list(report.shown())) == 10
