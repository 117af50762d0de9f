"""Credits of invoices that were asked for directly, in the invoices agent's batches: never more than was invoiced."""

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import pytest

from schemas import catalog
from sinks.postgres.positions import read_positions
from streams.engine import work as work_module
from tests.integration.conftest import lose_an_answer
from tests.integration.test_credit_notes_work import refund, refused
from tests.integration.test_invoices_work import TOPIC, Agent, FatalError, Sent, events, sent
from tests.records import written
from tests.unit.domain.test_invoice import line

Query = Callable[..., list[tuple[Any, ...]]]
#: 2 x 19.99 and 24.5 hours at 80.00, 20% on top.
ORDER = {"lines": [line(), line(sku="HOUR", quantity="24.5", unit_price="80.00")]}


@pytest.fixture
async def agent(ledger_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Agent]:
    def fatal(message: str, error: BaseException | None = None) -> None:
        raise FatalError(message) from error

    monkeypatch.setattr(work_module, "fatal", fatal)
    made = Agent(ledger_url)
    async with made.session.connection() as connection:
        await read_positions(connection, "invoices", TOPIC, [0, 1, 2, 3])
    yield made
    await made.session.close()


def asked(
    offset: int, credit_note_id: str = "CN-1", lines: Mapping[int, str] | None = None, amount: str = "", **more: str
) -> Sent:
    body: dict[str, Any] = {
        "received_at": 0, "seller_id": "demo", "order_id": "A", "credit_note_id": credit_note_id, "reason": "",
        "lines": [{"line": number, "quantity": quantity} for number, quantity in (lines or {}).items()],
        "amount": amount, **more,
    }  # fmt: skip
    return Sent(offset, written(catalog.CREDIT_REQUEST, body), body["order_id"].encode())


def credited(query: Query) -> list[tuple[Any, ...]]:
    return query(
        "SELECT refund_id, number, gross_minor FROM invoices WHERE kind = 'credit_note' ORDER BY issued_at, number"
    )


async def test_lines_amounts_and_the_rest_add_up_to_the_invoice(agent: Agent, query: Query) -> None:
    """Each has the next number of the series of credit notes, whatever batch it comes in."""
    await agent.run(sent(0, "A", **ORDER))
    await agent.run(asked(1, "CN-1", {1: "0.25"}), asked(2, "CN-2", amount="100"))
    await agent.run(asked(3, "CN-3", {0: "1", 1: "4.25"}), asked(4, "CN-4"))
    assert [row[:2] for row in credited(query)] == [("CN-1", 1), ("CN-2", 2), ("CN-3", 3), ("CN-4", 4)]
    assert [row[2] for row in credited(query)][:3] == [2400, 10000, 2399 + 40800]
    sums = "SELECT sum(net_minor), sum(tax_minor), sum(gross_minor) FROM invoices WHERE kind = %s"
    assert query(sums, "credit_note") == query(sums, "invoice")
    assert refused(query) == []
    issued = [event for name, event in events(query) if name == "CreditNoteIssued"]
    # It is not known whether any money has moved.
    assert {event["paid_on"] for event in issued} == {""}
    assert {event["preceding_invoice_number"] for event in issued} == {"INV-00-00000001"}
    assert [each["quantity"] for each in issued[2]["lines"]] == ["1", "4.25"]


async def test_more_than_is_left_is_rejected_and_takes_no_number(agent: Agent, query: Query) -> None:
    """Of a line, of the whole, and once nothing is left; in one batch with what is left."""
    await agent.run(sent(0, "A", **ORDER), asked(1, "CN-1", {0: "2"}), asked(2, "CN-2", {0: "0.5"}))
    await agent.run(asked(3, "CN-3", amount="2352.01"), asked(4, "CN-4", {2: "1"}), asked(5, "CN-5", amount="2352"))
    await agent.run(asked(6, "CN-6"), asked(7, "CN-7", {1: "1"}), asked(8, "CN-8", amount="0.01"))
    assert [row[:2] for row in credited(query)] == [("CN-1", 1), ("CN-5", 2)]
    assert [(row[3], row[4], row[5]) for row in refused(query)] == [
        ("CN-2", "rejected", "credit-too-large"),
        ("CN-3", "rejected", "credit-too-large"),
        ("CN-4", "rejected", "invalid-field"),
        ("CN-6", "rejected", "credit-too-large"),
        ("CN-7", "rejected", "credit-too-large"),
        ("CN-8", "rejected", "credit-too-large"),
    ]
    assert refused(query)[1][6] == "credit note CN-3: amount: 2352.00 is left, not 2352.01"
    assert query("SELECT next_number FROM series WHERE series_id = 'demo.credit_note.p00'") == [(3,)]


async def test_a_repeat_has_its_number_and_other_content_is_a_conflict(agent: Agent, query: Query) -> None:
    """In one batch and in later ones, also of what took all that was left; 2 and 2.0 are the same."""
    await agent.run(sent(0, "A", **ORDER), asked(1, "CN-1", {0: "1"}), asked(2, "CN-1", {0: "1.0"}))
    await agent.run(asked(3, "CN-2"), asked(4, "CN-2"))
    agent.table.numbers.clear()
    await agent.run(
        asked(5, "CN-2"), asked(6, "CN-1", {0: "1.00"}), asked(7, "CN-1", {0: "2"}), asked(8, "CN-2", amount="1")
    )
    await agent.run(asked(9, "CN-1", {0: "1"}, reason="another"))
    assert [row[:2] for row in credited(query)] == [("CN-1", 1), ("CN-2", 2)]
    assert [(row[0], row[4]) for row in refused(query)] == [(7, "conflict"), (8, "conflict"), (9, "conflict")]


async def test_what_was_refused_may_come_again_under_its_id(agent: Agent, query: Query) -> None:
    await agent.run(sent(0, "A", **ORDER), asked(1, "CN-1", {0: "3"}), asked(2, "CN-1", {0: "2"}))
    assert [row[:2] for row in credited(query)] == [("CN-1", 1)]


async def test_an_invoice_that_is_not_there_cannot_be_credited(agent: Agent, query: Query) -> None:
    """Neither in its own series nor in another's; one that comes later may be, if it is asked for again."""
    await agent.run(asked(0), sent(1, "A", **ORDER), asked(2, order_id="B"), asked(3, seller_id="nobody"))
    assert [(row[0], row[5]) for row in refused(query)] == [
        (0, "not-invoiced"),
        (2, "not-invoiced"),
        (3, "unknown-seller"),
    ]
    await agent.run(asked(4))
    assert [row[0] for row in credited(query)] == ["CN-1"]


async def test_a_checkouts_invoice_is_credited_by_its_refunds_alone(agent: Agent, query: Query) -> None:
    await agent.run(sent(0, "A"), refund(1, "A"))
    query(
        "INSERT INTO orders (seller_id, order_id, partition, customer, state, version, history, currency, net_minor,"
        " tax_minor, gross_minor, content_sha256, invoice_request, payment_token, hold_expires_at, placed_at,"
        " source_offset)"
        " VALUES ('demo', 'A', 0, 'C', 'SHIPPED', 3, '[]', 'EUR', 1, 1, 2, '', '', 't', now(), now(), 0)"
    )
    await agent.run(asked(2))
    assert [row[0] for row in credited(query)] == ["R-1"]
    assert [(row[3], row[5]) for row in refused(query)] == [("CN-1", "already-ordered")]


@pytest.mark.parametrize(
    "wrong",
    [
        {"credit_note_id": "cancellation"},
        {"credit_note_id": ".."},
        {"lines": {0: "0"}},
        {"lines": {0: "-1"}},
        {"lines": {0: "1.0000001"}},
        {"lines": {-1: "1"}},
        {"amount": "0"},
        {"amount": "1.001"},
        {"amount": "1", "lines": {0: "1"}},
        {"reason": "two\nlines"},
    ],
)
async def test_what_is_no_credit_is_rejected(agent: Agent, query: Query, wrong: dict[str, Any]) -> None:
    await agent.run(sent(0, "A", **ORDER), asked(1, **wrong))
    assert credited(query) == []
    assert [row[5] for row in refused(query)] == ["invalid-field"]


async def test_a_lost_answer_to_the_commit_credits_once(
    agent: Agent, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The transaction has happened, and the worker can't know: it asks, and does nothing twice."""
    await agent.run(sent(0, "A", **ORDER))
    lose_an_answer(monkeypatch, agent.worker)
    await agent.run(asked(1, amount="10"))
    await agent.run(asked(1, amount="10"), asked(2, amount="10"))
    assert [row[:2] for row in credited(query)] == [("CN-1", 1)]
    assert query("SELECT count(*) FROM invoice_credits") == [(1,)]


async def test_lines_that_were_taken_back_on_the_invoice_are_credited_too(agent: Agent, query: Query) -> None:
    """Alone they would take money; with what was paid for they are part of the whole."""
    returned = {"lines": [line(), line(sku="BACK", quantity="-1", unit_price="5.00")]}
    await agent.run(sent(0, "A", **returned), asked(1, "CN-1", {1: "1"}), asked(2, "CN-2", {0: "1", 1: "0.5"}))
    await agent.run(asked(3, "CN-3"))
    assert [row[:1] for row in credited(query)] == [("CN-2",), ("CN-3",)]
    sums = "SELECT sum(net_minor), sum(tax_minor), sum(gross_minor) FROM invoices WHERE kind = %s"
    assert query(sums, "credit_note") == query(sums, "invoice")
