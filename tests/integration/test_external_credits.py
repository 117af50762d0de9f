"""Credit notes of invoices that were issued elsewhere, in the invoices agent's batches, and their audit."""

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from domain.external import credit_external
from domain.refusals import Refusal
from schemas import catalog
from tests.conftest import Services
from tests.integration.test_audit import clone, world
from tests.integration.test_invoice_credits import agent, asked
from tests.integration.test_invoices_work import Agent, Sent, events, sent
from tests.integration.world import World, build
from tests.property.test_credit import NO_DETAILS
from tests.records import written
from tests.unit.domain.test_invoice import line, request

__all__ = ["agent", "world"]

Query = Callable[..., list[tuple[Any, ...]]]
NAMED = {"number": "2025-00417", "issue_date": "2025-12-01"}


def external(
    offset: int, credit_note_id: str = "CR-1", order_id: str = "OLD-1", quantity: str = "1", **changes: Any
) -> Sent:
    details = {**NO_DETAILS, "preceding_invoices": [NAMED]}
    made = credit_external(
        request(order_id=order_id, lines=[line(quantity=quantity)], details=details), credit_note_id, "one was cold"
    )
    assert not isinstance(made, Refusal), made
    return Sent(offset, written(catalog.CREDIT_NOTE_REQUEST, {**made[0], **changes}), order_id.encode())


def naming(*named: dict[str, str]) -> dict[str, Any]:
    return {"details": {**NO_DETAILS, "preceding_invoices": list(named)}}


def issued(query: Query) -> list[tuple[Any, ...]]:
    return query("SELECT order_id, refund_id, invoice_number FROM invoices ORDER BY event_seq")


def refused(query: Query) -> list[tuple[Any, ...]]:
    return query("SELECT log_offset, outcome, reason FROM refused_requests ORDER BY 1")


def owners(query: Query) -> list[tuple[Any, ...]]:
    return query("SELECT order_id, kind FROM order_ids ORDER BY 1")


async def test_each_has_a_number_of_the_sellers_series_and_names_the_invoice(agent: Agent, query: Query) -> None:
    """Beside credit notes of invoices that were issued here; the series of invoices goes on as if there were none."""
    await agent.run(external(0), sent(1, "A"), asked(2, "CN-1"), external(3, "CR-2", quantity="0.5"))
    await agent.run(external(4, order_id="OLD-2"), sent(5, "B"))
    assert issued(query) == [
        ("OLD-1", "CR-1", "CN-00-00000001"),
        ("A", "", "INV-00-00000001"),
        ("A", "CN-1", "CN-00-00000002"),
        ("OLD-1", "CR-2", "CN-00-00000003"),
        ("OLD-2", "CR-1", "CN-00-00000004"),
        ("B", "", "INV-00-00000002"),
    ]
    assert owners(query) == [("A", "invoice"), ("B", "invoice"), ("OLD-1", "credit_note"), ("OLD-2", "credit_note")]
    first = next(event for name, event in events(query) if name == "CreditNoteIssued")
    assert (first["preceding_invoice_number"], first["preceding_issue_date"]) == ("2025-00417", "2025-12-01")
    # It is not known whether any money has moved.
    assert (first["paid_on"], first["reason"], first["totals"]["gross_minor"]) == ("", "one was cold", 2399)


async def test_a_repeat_has_its_number_and_other_content_is_a_conflict(agent: Agent, query: Query) -> None:
    """In one batch and in later ones, whatever the table remembers."""
    await agent.run(external(0), external(1), external(2, quantity="2"))
    agent.table.numbers.clear()
    await agent.run(external(3), external(4, reason="another"), external(5, **naming({**NAMED, "number": "X"})))
    assert issued(query) == [("OLD-1", "CR-1", "CN-00-00000001")]
    assert refused(query) == [(offset, "conflict", "conflict") for offset in (2, 4, 5)]


@pytest.mark.parametrize("together", [True, False])
async def test_an_order_id_is_of_an_invoice_or_of_external_credit_notes(
    agent: Agent, query: Query, together: bool
) -> None:
    """Whichever was asked for first, in one batch or in several. Otherwise a credit might exceed what was invoiced."""
    records = [
        sent(0, "A"),
        external(1, order_id="A"),
        external(2),
        sent(3, "OLD-1"),
        asked(4, "CN-1", order_id="OLD-1"),
    ]
    for batch in [records] if together else [[each] for each in records]:
        await agent.run(*batch)
    assert [each[:2] for each in issued(query)] == [("A", ""), ("OLD-1", "CR-1")]
    assert refused(query) == [
        (1, "rejected", "already-invoiced"),
        (3, "rejected", "already-invoiced"),
        (4, "rejected", "not-invoiced"),
    ]
    assert owners(query) == [("A", "invoice"), ("OLD-1", "credit_note")]


async def test_a_checkouts_order_id_is_no_external_invoices(agent: Agent, query: Query) -> None:
    query("INSERT INTO order_ids (seller_id, order_id, kind) VALUES ('demo', 'A', 'checkout')")
    await agent.run(external(0, order_id="A"))
    assert (issued(query), refused(query)) == ([], [(0, "rejected", "already-ordered")])


async def test_what_names_no_one_invoice_takes_neither_a_number_nor_the_order_id(agent: Agent, query: Query) -> None:
    undated = {**NAMED, "issue_date": ""}
    await agent.run(external(0, **naming(undated)), external(1, **naming(NAMED, NAMED)), external(2, **naming()))
    assert refused(query) == [
        (0, "rejected", "invalid-field"),
        (1, "rejected", "invalid-field"),
        (2, "rejected", "not-invoiced"),
    ]
    assert (issued(query), owners(query)) == ([], [])


@pytest.fixture(scope="module")
def clean(services: Services, template_database: str, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Built once; tests change clones of it."""
    records = [
        sent(0, "A"),
        external(1),
        external(2),  # A repeat.
        external(3, quantity="2"),  # A conflict.
        external(4, "CR-2", quantity="3"),
        external(5, order_id="A"),  # An invoice's.
        sent(6, "OLD-1"),  # Taken.
        external(7, "CR-3", **naming(NAMED, NAMED)),  # Breaks a rule.
    ]
    url = clone(services.postgres_url, template_database)
    requests = [[(each.key, each.value) for each in records]]
    return build(services.kafka_bootstrap, url, tmp_path_factory.mktemp("objects"), requests)


@pytest.mark.usefixtures("orders_anywhere")
def test_the_audit_finds_nothing_wrong_with_them(world: World) -> None:
    report = world.audit(complete=True)
    assert [f"{each.check} {each.where}: {each.what}" for each in report.shown()] == []
    assert report.outcomes == {"issued": 3, "repeat": 1, "conflict": 1, "rejected": 3}
    assert (report.counts["invoices"], report.counts["credit notes"], report.counts["documents"]) == (1, 2, 3)


@pytest.mark.usefixtures("orders_anywhere")
@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (
            "UPDATE order_ids SET kind = 'invoice' WHERE order_id = 'OLD-1'",
            "has an id that stands as invoice's, and there is neither an order nor an invoice",
        ),
        (
            "UPDATE order_ids SET kind = 'credit_note' WHERE order_id = 'A'",
            "has an id that stands as credit_note's, and there is an invoice",
        ),
        (
            "UPDATE order_ids SET kind = 'invoice' WHERE order_id = 'OLD-1'",
            "was rejected as already-invoiced, but its order id is invoice's",
        ),
        (
            "UPDATE order_ids SET order_id = 'A-2' WHERE order_id = 'OLD-1'",
            "has a credit note CR-1, but no such refund",
        ),
    ],
)
def test_what_is_amiss_is_found(world: World, damage: str, said: str) -> None:
    with psycopg.connect(world.postgres_url, autocommit=True) as connection:
        connection.execute(damage.encode())
    found = [f"{each.check} {each.where}: {each.what}" for each in world.audit(complete=True).shown()]
    assert any(said in each for each in found), found
