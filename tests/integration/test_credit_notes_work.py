"""Credit notes in the invoices agent's batches: a series of their own, one for each refund, after its invoice."""

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from schemas import catalog
from sinks.postgres.positions import read_positions
from tests.credit_notes import credit_note_request
from tests.integration.conftest import add_seller
from tests.integration.test_invoices_work import TOPIC, Agent, Sent, events, sent
from tests.records import written
from tests.unit.domain.test_invoice import line, request

Query = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
async def agent(ledger_url: str) -> AsyncIterator[Agent]:
    made = Agent(ledger_url)
    async with made.session.connection() as connection:
        await read_positions(connection, "invoices", TOPIC, [0, 1, 2, 3])
    yield made
    await made.session.close()


def refund(
    offset: int,
    order_id: str,
    refund_id: str = "R-1",
    pieces: int = 1,
    before: int = 0,
    *,
    order: dict[str, Any] | None = None,
    **changes: Any,
) -> Sent:
    """A request for the credit note of `pieces` of the order's first line, after `before` of them."""
    body = credit_note_request(request(order_id=order_id, **(order or {})), refund_id, {0: pieces}, {0: before})
    return Sent(offset, written(catalog.CREDIT_NOTE_REQUEST, body | changes), order_id.encode())


def credit_notes(query: Query) -> list[tuple[Any, ...]]:
    return query(
        "SELECT series_id, number, order_id, refund_id, invoice_number FROM invoices WHERE kind = 'credit_note'"
        " ORDER BY series_id, number"
    )


def refused(query: Query) -> list[tuple[Any, ...]]:
    return query(
        "SELECT log_offset, order_id, kind, refund_id, outcome, reason, detail FROM refused_requests ORDER BY 1"
    )


async def test_a_refund_gets_a_credit_note_in_a_series_of_its_own(agent: Agent, query: Query) -> None:
    """The invoices' series goes on as if there were none."""
    await agent.run(sent(0, "A"), sent(1, "B"))
    await agent.run(refund(2, "B"), refund(3, "A", "R-9"), sent(4, "C"))
    assert credit_notes(query) == [
        ("demo.credit_note.p00", 1, "B", "R-1", "CN-00-00000001"),
        ("demo.credit_note.p00", 2, "A", "R-9", "CN-00-00000002"),
    ]
    assert query("SELECT number FROM invoices WHERE series_id = 'demo.invoice.p00' ORDER BY 1") == [(1,), (2,), (3,)]
    assert query("SELECT series_id, next_number FROM series ORDER BY 1") == [
        ("demo.credit_note.p00", 3),
        ("demo.invoice.p00", 4),
    ]


async def test_the_event_says_what_is_credited_and_of_which_invoice(agent: Agent, query: Query) -> None:
    """The invoice may have been issued before, or earlier in the same batch."""
    await agent.run(sent(0, "A"))
    await agent.run(sent(1, "B"), refund(2, "B"), refund(3, "A"))
    issued = [event for name, event in events(query) if name == "CreditNoteIssued"]
    dates = {event["order_id"]: event["issue_date"] for name, event in events(query) if name == "InvoiceIssued"}
    assert {event["order_id"]: event["preceding_issue_date"] for event in issued} == dates
    assert all(event["paid_on"] == event["issue_date"] for event in issued)
    assert [(event["order_id"], event["preceding_invoice_number"]) for event in issued] == [
        ("B", "INV-00-00000002"),
        ("A", "INV-00-00000001"),
    ]
    event = issued[0]
    assert (event["kind"], event["refund_id"], event["reason"]) == ("credit_note", "R-1", "arrived broken")
    assert (event["series_id"], event["number"], event["invoice_number"]) == (
        "demo.credit_note.p00",
        1,
        "CN-00-00000001",
    )
    assert event["issue_date"] == "2026-11-21"
    assert event["lines"][0]["net_minor"] == 1999
    assert event["totals"]["gross_minor"] == 1999 + 400
    [row] = query("SELECT net_minor, tax_minor, gross_minor, event_seq FROM invoices WHERE refund_id <> '' LIMIT 1")
    assert row == (1999, 400, 2399, 3)


async def test_refunds_of_one_order_have_a_credit_note_each_and_add_up_to_the_invoice(
    agent: Agent, query: Query
) -> None:
    """Three pieces at 0.335 and 20%: 1.01 and 0.20; single credit notes by themselves would be 3 x 0.34."""
    order = {"lines": [line(quantity="3", unit_price="0.335")]}
    await agent.run(sent(0, "A", **order), *(refund(n + 1, "A", f"R-{n}", 1, n, order=order) for n in range(3)))
    nets = "SELECT sum(net_minor), sum(tax_minor), sum(gross_minor) FROM invoices WHERE kind = %s"
    assert query(nets, "credit_note") == query(nets, "invoice")
    assert len(credit_notes(query)) == 3


async def test_a_repeated_refund_keeps_its_number(agent: Agent, query: Query) -> None:
    """In the same batch, in a later one, and where the dedupe table has forgotten it."""
    await agent.run(sent(0, "A"), refund(1, "A"), refund(2, "A"))
    await agent.run(refund(3, "A"))
    agent.table.numbers.clear()
    await agent.run(refund(4, "A"), refund(5, "A", "R-2", before=1))
    assert [row[1:4] for row in credit_notes(query)] == [(1, "A", "R-1"), (2, "A", "R-2")]
    assert query("SELECT next_number FROM series WHERE series_id = 'demo.credit_note.p00'") == [(3,)]
    assert refused(query) == []


async def test_other_content_under_the_same_refund_id_is_a_conflict_and_the_first_stands(
    agent: Agent, query: Query
) -> None:
    """Other pieces, and another reason too: it stands on the document."""
    await agent.run(sent(0, "A"), refund(1, "A"), refund(2, "A", pieces=2), refund(3, "A", reason="changed my mind"))
    assert [row[1:4] for row in credit_notes(query)] == [(1, "A", "R-1")]
    detail = "refund R-1: the refund id was used before with other content; the first stands"
    assert refused(query) == [(offset, "A", "credit_note", "R-1", "conflict", "conflict", detail) for offset in (2, 3)]
    conflicts = [event for name, event in events(query) if name == "InvoiceRequestConflicted"]
    assert [(event["kind"], event["source_offset"]) for event in conflicts] == [("credit_note", 2), ("credit_note", 3)]


async def test_a_credit_note_without_an_invoice_before_it_is_rejected(agent: Agent, query: Query) -> None:
    """Also where the invoice comes later in the same batch; asked for again after it, it is issued."""
    await agent.run(refund(0, "A"), sent(1, "A"), refund(2, "A"), refund(3, "other"))
    assert [row[1:4] for row in credit_notes(query)] == [(1, "A", "R-1")]
    assert [row[:6] for row in refused(query)] == [
        (0, "A", "credit_note", "R-1", "rejected", "not-invoiced"),
        (3, "other", "credit_note", "R-1", "rejected", "not-invoiced"),
    ]
    assert [name for name, _ in events(query)] == [
        "InvoiceRequestRejected",
        "InvoiceIssued",
        "CreditNoteIssued",
        "InvoiceRequestRejected",
    ]
    [event, _] = [event for name, event in events(query) if name == "InvoiceRequestRejected"]
    assert (event["kind"], event["reason"]) == ("credit_note", "not-invoiced")
    assert event["detail"].startswith("refund R-1: order_id: the order has no invoice before this request")


async def test_another_sellers_invoice_is_no_invoice_of_the_order(agent: Agent, query: Query) -> None:
    """Order ids belong to their sellers."""
    await agent.run(sent(0, "A", seller_id="other"), refund(1, "A"))
    assert credit_notes(query) == []


async def test_amounts_that_do_not_add_up_are_rejected_and_take_no_number(agent: Agent, query: Query) -> None:
    """They are the request's own, and go onto a document of tax law."""
    totals = {"net_minor": 1999, "tax_minor": 400, "gross_minor": 2400, "per_rate": []}
    await agent.run(sent(0, "A"), refund(1, "A", totals=totals), refund(2, "A", "R-2"))
    assert [row[1:4] for row in credit_notes(query)] == [(1, "A", "R-2")]
    [row] = refused(query)
    assert row[:6] == (1, "A", "credit_note", "R-1", "rejected", "totals-disagree")


async def test_a_storefront_cannot_ask_for_a_credit_note(agent: Agent, query: Query) -> None:
    """A request in the form of an invoice's is one for an invoice, or a dead letter."""
    await agent.run(sent(0, "A"), sent(1, "A", kind="credit_note"))
    assert credit_notes(query) == []
    assert query("SELECT count(*) FROM journal WHERE topic = 'dead-letters'") == [(1,)]


@pytest.mark.parametrize("refund_id", ["", "x" * 41, "a\0b", "a\nb"])
async def test_a_refund_id_that_cannot_be_stored_is_a_dead_letter(agent: Agent, query: Query, refund_id: str) -> None:
    """It could not be shown under its id."""
    await agent.run(sent(0, "A"), refund(1, "A", refund_id), refund(2, "A"))
    assert [row[1:4] for row in credit_notes(query)] == [(1, "A", "R-1")]
    assert query("SELECT count(*) FROM journal WHERE topic = 'dead-letters'") == [(1,)]


async def test_a_continuous_series_of_credit_notes_is_the_sellers_years(
    agent: Agent, ledger_url: str, query: Query
) -> None:
    """By the year in which the credit note is issued, not that of its invoice."""
    with psycopg.connect(ledger_url, autocommit=True) as connection:
        add_seller(
            connection,
            "paris",
            numbering_policy="continuous",
            number_format="F{year}-{number:06d}",
            time_zone="Europe/Paris",
        )
    order = {"seller_id": "paris"}
    await agent.run(sent(0, "A", **order), refund(1, "A", order=order), partition=0)
    await agent.run(sent(0, "B", **order), refund(1, "B", order=order), partition=1)
    # Half an hour before midnight in UTC it is next year in Paris.
    agent.now = datetime(2026, 12, 31, 23, 30, tzinfo=UTC)
    await agent.run(refund(2, "A", "R-2", before=1, order=order), partition=0)
    assert credit_notes(query) == [
        ("paris.credit_note.2026", 1, "A", "R-1", "CN-F2026-000001"),
        ("paris.credit_note.2026", 2, "B", "R-1", "CN-F2026-000002"),
        ("paris.credit_note.2027", 1, "A", "R-2", "CN-F2027-000001"),
    ]
