"""The audit of credit notes: series and amounts, the invoices they correct, and the outcome of each request."""

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from audit.report import AuditReport
from schemas import catalog, codec
from tests.conftest import Services
from tests.credit_notes import credit_note_request
from tests.integration.test_audit import clone, world
from tests.integration.world import EVENTS, REQUESTS, Headers, World, append, build
from tests.records import written
from tests.unit.domain.test_invoice import line, request

__all__ = ["world"]

pytestmark = pytest.mark.usefixtures("orders_anywhere")

_Record = tuple[bytes | None, bytes | None]
#: Three pieces at 0.335: credited one by one they are 0.34, 0.33 and 0.34.
_LINES = [line(quantity="3", unit_price="0.335"), line(quantity="2", vat_rate="5.50")]
_CREDIT_NOTES = "series demo.credit_note.p00"


def invoice(order_id: str) -> _Record:
    body = request(order_id=order_id, lines=_LINES)
    return order_id.encode(), written(catalog.INVOICE_REQUEST, body)


def refund(
    order_id: str, refund_id: str, now: dict[int, int], before: dict[int, int] | None = None, **changes: object
) -> _Record:
    order = request(order_id=order_id, lines=_LINES)
    body = credit_note_request(order, refund_id, now, before) | changes
    return order_id.encode(), written(catalog.CREDIT_NOTE_REQUEST, body)


def requests() -> list[list[_Record]]:
    """Requests of partition 0 with each outcome of a credit note, and a single invoice in partition 1."""
    return [
        [
            invoice("A"),
            refund("A", "R-1", {0: 1}),
            refund("A", "R-2", {0: 1}, {0: 1}),
            refund("A", "R-1", {0: 1}),  # A repeat.
            refund("A", "R-1", {1: 1}),  # Other content: a conflict.
            refund("B", "R-1", {0: 1}),  # Its invoice comes later.
            invoice("B"),
            refund("B", "R-1", {0: 1}),
            refund("B", "R-3", {0: 1}, reason="x", currency="XXX"),  # Breaks a rule.
            refund("B", "R\0", {0: 1}),  # Can't be stored.
            refund("A", "R-4", {0: 1, 1: 2}, {0: 2}),
        ],
        [invoice("C")],
    ]


@pytest.fixture(scope="module")
def clean(services: Services, template_database: str, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Built once; tests change clones of it."""
    url = clone(services.postgres_url, template_database)
    return build(services.kafka_bootstrap, url, tmp_path_factory.mktemp("objects"), requests())


def found(report: AuditReport) -> str:
    """The violations, one per line, except that credit notes have no refunds, since this world has no orders."""
    shown = [each for each in report.shown() if each.check not in ("order", "payment")]
    return "\n".join(f"{each.check} {each.where}: {each.what}" for each in shown)


def test_a_clean_ledger_with_credit_notes_has_nothing_wrong(world: World) -> None:
    """The requests have every outcome, so each check has something to examine."""
    report = world.audit(complete=True)
    assert found(report) == ""
    assert report.outcomes == {"issued": 7, "repeat": 1, "conflict": 1, "rejected": 2, "dead letter": 1}
    assert (report.counts["invoices"], report.counts["credit notes"], report.counts["documents"]) == (3, 4, 7)


#: Damage to the ledger, and a part of what the audit must report.
_LEDGER_DAMAGE = {
    "a credit note's row is deleted": (
        "DELETE FROM documents WHERE series_id = 'demo.credit_note.p00' AND number = 2;"
        "DELETE FROM invoices WHERE series_id = 'demo.credit_note.p00' AND number = 2",
        [
            f"gap {_CREDIT_NOTES}: has no number 2",
            "offset 2 (order demo/A refund R-2): its refund has no credit note",
        ],
    ),
    "the series forgets a number": (
        "UPDATE series SET next_number = 9 WHERE series_id = 'demo.credit_note.p00'",
        [f"gap {_CREDIT_NOTES}: ends with 4, but the next number is 9"],
    ),
    "a refund has two credit notes": (
        "ALTER TABLE invoices DROP CONSTRAINT invoices_order_key;"
        "UPDATE invoices SET refund_id = 'R-1' WHERE refund_id = 'R-2'",
        ["repeat order demo/A (credit_note R-1): has 2 invoices", "refund_id R-1, not R-2"],
    ),
    "a credit note prints its invoice's number": (
        "DROP INDEX invoices_printed_number;"
        "UPDATE invoices SET invoice_number = 'INV-00-00000001' WHERE refund_id = 'R-2'",
        ["repeat demo's INV-00-00000001: is printed on 2 invoices"],
    ),
    "more is credited than was invoiced": (
        "UPDATE invoices SET gross_minor = gross_minor + 1 WHERE refund_id = 'R-2'",
        ["money order demo/A: has credit notes of", f"money {_CREDIT_NOTES} number 2: the row differs"],
    ),
    "a credit note is of another currency": (
        "UPDATE invoices SET currency = 'USD' WHERE refund_id = 'R-2'",
        ["money order demo/A: has credit notes of", "or of another currency"],
    ),
    "the corrected invoice has another number": (
        "UPDATE invoices SET invoice_number = 'INV-00-00000077' WHERE order_id = 'A' AND kind = 'invoice'",
        [f"event {_CREDIT_NOTES} number 1: corrects INV-00-00000001, but its order's invoice is INV-00-00000077"],
    ),
    "the corrected invoice is gone": (
        "DELETE FROM documents WHERE series_id = 'demo.invoice.p00' AND number = 1;"
        "DELETE FROM invoices WHERE series_id = 'demo.invoice.p00' AND number = 1",
        [f"event {_CREDIT_NOTES} number 1: is a credit note, but its order has no invoice"],
    ),
    "the corrected invoice is a later one": (
        "UPDATE invoices SET source_offset = 100 WHERE order_id = 'A' AND kind = 'invoice'",
        [f"event {_CREDIT_NOTES} number 1: was asked for before its order's invoice"],
    ),
    "a credit note's content is another": (
        "UPDATE invoices SET content_sha256 = sha256('x') WHERE refund_id = 'R-2'",
        [f"event {_CREDIT_NOTES} number 2: the row differs", "its credit note was made from other content"],
    ),
    "a conflict is forgotten": (
        "DELETE FROM refused_requests WHERE outcome = 'conflict'",
        ["offset 4 (order demo/A refund R-1): has other content than its refund's credit note"],
    ),
    "a rejection is forgotten": (
        "DELETE FROM refused_requests WHERE reason = 'not-invoiced'",
        ["offset 5 (order demo/B refund R-1): its refund's credit note was made from the later offset 7"],
    ),
    "a credit note was rejected though its invoice was there": (
        "UPDATE invoices SET source_offset = 3 WHERE order_id = 'B' AND kind = 'invoice'",
        ["offset 5 (order demo/B refund R-1): was rejected as not-invoiced, but its order's invoice is of offset 3"],
    ),
    "a refusal is another refund's": (
        "UPDATE refused_requests SET refund_id = 'R-9' WHERE outcome = 'conflict'",
        ["offset 4 (order demo/A refund R-1): its refusal is another order's: demo/A refund R-9"],
    ),
    "a rejection gives another reason": (
        "UPDATE refused_requests SET detail = 'because' WHERE reason = 'not-invoiced'",
        ["offset 5: the row differs from event seq", "detail because, not refund R-1: order_id"],
    ),
}


@pytest.mark.parametrize("damage", _LEDGER_DAMAGE)
def test_damage_to_credit_notes_is_reported(world: World, damage: str) -> None:
    """Damage that constraints would prevent is made without them."""
    sql, expected = _LEDGER_DAMAGE[damage]
    for statement in sql.split(";"):
        world.execute(statement)
    report = world.audit()
    for text in expected:
        assert text in found(report)


def _change_event(world: World, change: Callable[[Any], None]) -> None:
    """Statements for the credit note R-2, at seq 3."""
    with psycopg.connect(world.postgres_url, autocommit=True) as connection:
        where = f"topic = '{EVENTS}' AND partition = 0 AND seq = 3"
        row = connection.execute(f"SELECT payload FROM journal WHERE {where}".encode()).fetchone()
        assert row is not None
        _, event = codec.decode(row[0], catalog.CREDIT_NOTE_ISSUED, bytes_max=10**6)
        change(event)
        payload = codec.encode(catalog.CREDIT_NOTE_ISSUED, event)
        connection.execute(f"UPDATE journal SET payload = %s WHERE {where}".encode(), (payload,))


_EVENT_DAMAGE: dict[str, tuple[Callable[[Any], None], str]] = {
    "a line's net, two cents away": (
        lambda event: event["lines"][0].update(net_minor=35),
        f"money {_CREDIT_NOTES} number 2: line 0: 1 x 0.335 can't be 35",
    ),
    "a rate's taxable": (
        lambda event: event["totals"]["per_rate"][0].update(taxable_minor=1),
        f"money {_CREDIT_NOTES} number 2: rate S 20.00: taxable 1, but its lines amount to 33",
    ),
    "a rate's tax": (
        lambda event: event["totals"]["per_rate"][0].update(tax_minor=8),
        f"money {_CREDIT_NOTES} number 2: rate S 20.00: tax on 33 can't be 8",
    ),
    "a rate left out": (
        lambda event: event["totals"]["per_rate"].pop(),
        "is in the lines, but not in the totals",
    ),
    "the gross": (lambda event: event["totals"].update(gross_minor=1), "total gross is 1, but the lines amount to 39"),
    "the reason": (
        lambda event: event.update(reason="other"),
        f"event {_CREDIT_NOTES} number 2: the row differs from event seq 3: content_sha256",
    ),
    "the refund": (lambda event: event.update(refund_id="R-7"), "refund_id R-2, not R-7"),
    "the invoice": (
        lambda event: event.update(preceding_invoice_number="INV-00-00000002"),
        f"event {_CREDIT_NOTES} number 2: corrects INV-00-00000002, but its order's invoice is INV-00-00000001",
    ),
    "the date": (
        lambda event: event.update(issue_date="2026-11-30"),
        f"date {_CREDIT_NOTES} number 3: is dated",
    ),
}


@pytest.mark.parametrize("damage", _EVENT_DAMAGE)
def test_an_event_that_says_something_else_is_reported(world: World, damage: str) -> None:
    change, expected = _EVENT_DAMAGE[damage]
    _change_event(world, change)
    assert expected in found(world.audit())


def test_a_credit_note_that_was_passed_over_is_lost(world: World) -> None:
    own = world.with_topics_of_its_own()
    own.produce(REQUESTS, 1, *refund("C", "R-1", {0: 1}))
    own.execute("UPDATE positions SET next_offset = 2 WHERE agent = 'invoices' AND partition = 1")
    assert found(own.audit()) == (
        f"outcome {REQUESTS}/1 offset 1 (order demo/C refund R-1): its refund has no credit note"
    )


@pytest.fixture
def shared(world: World) -> World:
    """The relay's records 1 and 2 are in a partition of the requests, with a gateway's before and between them."""
    own = world.with_topics_of_its_own()
    with psycopg.connect(own.postgres_url) as connection:
        for order_id in ("E", "F"):
            append(connection, REQUESTS, 3, order_id.encode(), catalog.INVOICE_REQUEST, request(order_id=order_id))
        connection.execute(
            "INSERT INTO journal_published VALUES (%s, 3, 2) ON CONFLICT (topic, partition)"
            " DO UPDATE SET published_seq = excluded.published_seq",
            (REQUESTS,),
        )
    records: list[tuple[str, Headers]] = [
        ("D", []),
        ("E", [("seq", b"1")]),
        ("G", [("trace", b"1")]),
        ("F", [("seq", b"2")]),
    ]
    for order_id, headers in records:
        own.produce(REQUESTS, 3, *_relayed(order_id), headers)
    return own


def _relayed(order_id: str) -> _Record:
    return order_id.encode(), written(catalog.INVOICE_REQUEST, request(order_id=order_id))


def topic_violations(world: World) -> list[str]:
    """The violations about topics and the journal."""
    shown = [each for each in world.audit().shown() if each.check in ("topic", "journal")]
    return [f"{each.where}: {each.what}" for each in shown]


def test_the_gateways_records_among_the_relays_are_no_error(shared: World) -> None:
    """Nor are the relay's repeats."""
    assert topic_violations(shared) == []
    shared.produce(REQUESTS, 3, *_relayed("E"), [("seq", b"1")])
    shared.produce(REQUESTS, 3, *_relayed("H"))
    assert topic_violations(shared) == []


@pytest.mark.parametrize(
    ("order_id", "headers"),
    [
        ("X", [("seq", b"2")]),
        ("X", [("seq", b"3")]),
        ("X", [("seq", b"999999999999999999")]),
        ("X", [("seq", b"three")]),
        ("X", [("seq", b"1"), ("seq", b"1")]),
        ("F", [("seq", b"1")]),
    ],
)
def test_a_foreign_record_with_a_header_of_the_relays_is_a_request_like_any_other(
    shared: World, order_id: str, headers: Headers
) -> None:
    """Any writer can copy headers: only the journal shows whose a record is."""
    shared.produce(REQUESTS, 3, *_relayed(order_id), headers)
    assert topic_violations(shared) == []
    # The relay continues as if the record did not exist.
    with psycopg.connect(shared.postgres_url) as connection:
        append(connection, REQUESTS, 3, b"H", catalog.INVOICE_REQUEST, request(order_id="H"))
        connection.execute("UPDATE journal_published SET published_seq = 3 WHERE topic = %s", (REQUESTS,))
    shared.produce(REQUESTS, 3, *_relayed("H"), [("seq", b"3")])
    assert topic_violations(shared) == []


def test_a_record_of_the_relay_that_was_changed_is_missing(shared: World) -> None:
    """A record that differs from the journal's row is not the relay's."""
    with psycopg.connect(shared.postgres_url) as connection:
        append(connection, REQUESTS, 3, b"H", catalog.INVOICE_REQUEST, request(order_id="H"))
        connection.execute("UPDATE journal_published SET published_seq = 3 WHERE topic = %s", (REQUESTS,))
    shared.produce(REQUESTS, 3, *_relayed("I"), [("seq", b"3")])
    assert topic_violations(shared) == [f"{REQUESTS}/3: seq 3 is marked as published, but is not there"]


def test_a_record_of_the_relay_that_is_missing_is_reported(shared: World) -> None:
    """A gateway's record does not count as it."""
    with psycopg.connect(shared.postgres_url) as connection:
        append(connection, REQUESTS, 3, b"H", catalog.INVOICE_REQUEST, request(order_id="H"))
        connection.execute(
            "INSERT INTO journal_published VALUES (%s, 3, 3) ON CONFLICT (topic, partition)"
            " DO UPDATE SET published_seq = excluded.published_seq",
            (REQUESTS,),
        )
    shared.produce(REQUESTS, 3, *_relayed("H"))
    assert topic_violations(shared) == [f"{REQUESTS}/3: seq 3 is marked as published, but is not there"]
