"""The invoices agent's batches against a real Postgres: one effect and one number, whatever arrives how often."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from domain.issuing import InvoiceIdentity
from schemas import catalog, codec
from sinks.postgres.positions import read_positions
from sinks.postgres.session import Session
from streams.engine import work as work_module
from streams.engine.batch import Batch
from streams.engine.dedupe_table import digest
from streams.engine.work import Worker
from streams.invoices import InvoicesWork
from tests.integration.conftest import add_seller, lose_an_answer
from tests.records import written
from tests.unit.domain.test_invoice import line, request

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
TOPIC = catalog.INVOICE_REQUESTS.name
Query = Callable[..., list[tuple[Any, ...]]]


@dataclass(frozen=True)
class Sent:
    """A record as the consumer hands it over."""

    offset: int
    value: bytes | None
    key: bytes | None = None
    headers: tuple[tuple[str, bytes], ...] = ()


class FakeTable:
    """The dedupe table's contract on a dict; the real one is tried in the tests of the whole way."""

    def __init__(self) -> None:
        self.numbers: dict[bytes, int] = {}
        self.covered = (0, 0)

    def known(self, partition: int, digests: Sequence[bytes]) -> list[bool]:
        return [each in self.numbers for each in digests]

    def covers(self, partition: int, offset: int) -> bool:
        return self.covered == (0, offset)

    def mark(self, partition: int, first_offset: int, next_offset: int, pairs: Sequence[tuple[bytes, int]]) -> None:
        self.numbers.update(pairs)
        self.covered = (self.covered[0], next_offset)


class FatalError(Exception):
    """Stands for the end of the process."""


class Agent:
    """A worker of the invoices agent in partition 0, and what a test needs to look into it."""

    def __init__(self, url: str, table: FakeTable | None = None, log: Sequence[int] = ()) -> None:
        self.table = table or FakeTable()
        self.session = Session(url)
        self.now = NOW
        self.log = log
        self.work = InvoicesWork(self.table, lambda: self.now)  # type: ignore[arg-type]
        self.worker = Worker(self.session, self._probe)

    async def _probe(self, topic: str, partition: int, offset: int) -> tuple[int, int]:
        return next(each for each in self.log if each >= offset), self.log[0]

    async def run(self, *records: Sent, partition: int = 0) -> None:
        await self.worker.run(self.work, Batch(TOPIC, partition, records))

    async def run_together(self, *batches: Sequence[Sent]) -> None:
        """A batch of each partition."""
        await self.worker.run(
            self.work, *(Batch(TOPIC, partition, records) for partition, records in enumerate(batches))
        )


def sent(offset: int, order_id: str, **changes: Any) -> Sent:
    body = request(order_id=order_id, **changes)
    return Sent(offset, written(catalog.INVOICE_REQUEST, body), order_id.encode())


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


def numbers(query: Query) -> list[tuple[Any, ...]]:
    return query("SELECT order_id, number FROM invoices ORDER BY series_id, number")


def position(query: Query) -> int:
    return int(query("SELECT next_offset FROM positions WHERE agent = 'invoices' AND partition = 0")[0][0])


async def test_fresh_orders_are_numbered_from_one_in_offset_order(agent: Agent, query: Query) -> None:
    await agent.run(sent(0, "A"), sent(1, "B"), sent(2, "C"))
    assert numbers(query) == [("A", 1), ("B", 2), ("C", 3)]
    assert position(query) == 3


async def test_a_repeated_order_keeps_its_number(agent: Agent, query: Query) -> None:
    await agent.run(sent(0, "A"), sent(1, "B"), sent(2, "A"))
    await agent.run(sent(3, "B"), sent(4, "C"))
    assert numbers(query) == [("A", 1), ("B", 2), ("C", 3)]


async def test_a_batch_delivered_again_changes_nothing(agent: Agent, query: Query) -> None:
    batch = (sent(0, "A"), sent(1, "B"))
    await agent.run(*batch)
    before = query("SELECT * FROM journal ORDER BY seq")
    await agent.run(*batch)
    assert numbers(query) == [("A", 1), ("B", 2)]
    assert query("SELECT * FROM journal ORDER BY seq") == before


async def test_the_part_of_a_batch_already_done_is_dropped(agent: Agent, query: Query) -> None:
    await agent.run(sent(0, "A"), sent(1, "B"))
    await agent.run(sent(1, "B"), sent(2, "C"))
    assert numbers(query) == [("A", 1), ("B", 2), ("C", 3)]
    assert position(query) == 3


async def test_records_lost_on_the_way_end_the_process_and_leave_no_trace(agent: Agent, query: Query) -> None:
    agent.log = [0, 1, 2, 3]
    with pytest.raises(FatalError) as ended:
        await agent.run(sent(2, "C"))
    assert "lost on the way" in str(ended.value.__cause__)
    assert numbers(query) == []
    assert position(query) == 0


async def test_a_hole_of_the_log_itself_is_stepped_over(agent: Agent, query: Query) -> None:
    agent.log = [0, 5]
    await agent.run(sent(0, "A"))
    await agent.run(sent(5, "B"))
    assert numbers(query) == [("A", 1), ("B", 2)]
    assert position(query) == 6


async def test_two_workers_with_the_same_batch_have_one_effect(agent: Agent, ledger_url: str, query: Query) -> None:
    zombie = Agent(ledger_url)
    batch = [sent(offset, f"O-{offset}") for offset in range(200)]
    await asyncio.gather(agent.run(*batch), zombie.run(*batch))
    await zombie.session.close()
    assert [number for _, number in numbers(query)] == list(range(1, 201))


async def test_other_content_under_the_same_id_is_recorded_and_the_first_stands(agent: Agent, query: Query) -> None:
    await agent.run(sent(0, "A"))
    await agent.run(sent(1, "A", note="other"), sent(2, "B"))
    assert numbers(query) == [("A", 1), ("B", 2)]
    assert query("SELECT log_offset, order_id, outcome FROM refused_requests") == [(1, "A", "conflict")]
    assert [name for name, _ in events(query)] == ["InvoiceIssued", "InvoiceRequestConflicted", "InvoiceIssued"]


async def test_negative_zero_is_issued_as_zero(agent: Agent, query: Query) -> None:
    """An invoice shows what it was asked for, and nobody writes -0.00."""
    free = line(unit_price="-0.00", vat_rate="-0", vat_category="Z")
    free_without_sign = line(unit_price="-0.00", vat_rate="0", vat_category="Z")
    await agent.run(sent(0, "A", lines=[free, line()]), sent(1, "A", lines=[free_without_sign, line()]))
    [(_, issued)] = events(query)
    shown = [(each["unit_price"], each["vat_rate"]) for each in issued["lines"]]
    assert shown == [("0.00", "0"), (line()["unit_price"], line()["vat_rate"])]
    assert issued["totals"]["per_rate"][-1]["vat_rate"] == "0.00"


async def test_a_broken_rule_is_a_rejection_and_takes_no_number(agent: Agent, query: Query) -> None:
    await agent.run(sent(0, "A", lines=[line(vat_category="X")]), sent(1, "B"), sent(2, "C", seller_id="nobody"))
    assert numbers(query) == [("B", 1)]
    assert query("SELECT order_id, outcome, reason FROM refused_requests ORDER BY log_offset") == [
        ("A", "rejected", "invalid-field"),
        ("C", "rejected", "unknown-seller"),
    ]


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"junk",
        written(catalog.INVOICE_REQUEST, request())[:-2],
        written(catalog.INVOICE_REQUEST, request(order_id="nul\0")),
        written(catalog.INVOICE_REQUEST, request(seller_id="../etc")),
    ],
)
async def test_bad_bytes_become_a_dead_letter_and_only_they_stop(
    agent: Agent, query: Query, value: bytes | None
) -> None:
    await agent.run(sent(0, "A"), Sent(1, value, b"k"), sent(2, "B"))
    assert numbers(query) == [("A", 1), ("B", 2)]
    [(payload,)] = query("SELECT payload FROM journal WHERE topic = 'dead-letters'")
    _, letter = codec.decode(payload, catalog.DEAD_LETTER, bytes_max=10**7)
    assert (letter["source_topic"], letter["source_partition"], letter["source_offset"]) == (TOPIC, 0, 1)
    assert (letter["key"], letter["value"]) == (b"k", value)
    assert letter["error"]


async def test_a_table_that_has_forgotten_changes_no_result(agent: Agent, query: Query) -> None:
    await agent.run(sent(0, "A"))
    agent.table.numbers.clear()
    agent.table.covered = (0, 0)
    await agent.run(sent(1, "A"), sent(2, "B"))
    assert numbers(query) == [("A", 1), ("B", 2)]


async def test_a_table_that_wrongly_claims_to_know_all_changes_no_result(agent: Agent, query: Query) -> None:
    await agent.run(sent(0, "A"), sent(1, "B"))
    agent.table.numbers.clear()
    await agent.run(sent(2, "A"), sent(3, "C"))
    assert numbers(query) == [("A", 1), ("B", 2), ("C", 3)]
    assert query("SELECT next_number FROM series") == [(4,)]


async def test_a_table_of_the_release_without_credit_notes_goes_on_being_of_use(agent: Agent) -> None:
    agent.table.numbers[digest(("demo", "A", "invoice"))] = 7
    prepared = await agent.work.prepare(Batch(TOPIC, 0, [sent(0, "A"), sent(1, "B")]))
    assert prepared.look_up == [InvoiceIdentity("demo", "A", "invoice")]


async def test_a_table_that_remembers_what_never_was_changes_no_result(agent: Agent, query: Query) -> None:
    agent.table.numbers[digest(("demo", "A", "invoice"))] = 7
    await agent.run(sent(0, "A"))
    assert numbers(query) == [("A", 1)]


async def test_a_connection_lost_before_the_commit_is_tried_again_with_the_same_numbers(
    agent: Agent, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply = agent.work.apply
    losses = iter([True, False])

    async def apply_and_lose(connection: Any, parts: Any) -> None:
        await apply(connection, parts)
        if next(losses):
            query("SELECT pg_terminate_backend(%s)", connection.info.backend_pid)

    monkeypatch.setattr(agent.work, "apply", apply_and_lose)
    await agent.run(sent(0, "A"), sent(1, "B"))
    assert numbers(query) == [("A", 1), ("B", 2)]
    assert [seq for (seq,) in query("SELECT seq FROM journal ORDER BY seq")] == [1, 2]


async def test_a_commit_whose_answer_is_lost_is_found_out_and_not_repeated(
    agent: Agent, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose_an_answer(monkeypatch, agent.worker)
    await agent.run(sent(0, "A"), sent(1, "B"))
    assert numbers(query) == [("A", 1), ("B", 2)]
    marked = {digest(("demo", order_id, "invoice")): number for order_id, number in numbers(query)}
    assert agent.table.numbers == marked


async def test_what_somebody_else_has_done_meanwhile_is_not_taken_for_ours(
    agent: Agent, ledger_url: str, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its COMMIT never arrives, and the partition moves to another worker before it is back."""
    other = Agent(ledger_url)
    batch = [sent(0, "A"), sent(1, "B")]
    apply = agent.work.apply

    async def apply_and_lose(connection: Any, parts: Any) -> None:
        await apply(connection, parts)
        query("SELECT pg_terminate_backend(%s)", connection.info.backend_pid)

    async def sleep(_: float) -> None:
        await other.run(*batch)

    monkeypatch.setattr(agent.work, "apply", apply_and_lose)
    monkeypatch.setattr(agent.worker, "_sleep", sleep)
    await agent.run(*batch)
    await other.session.close()
    assert numbers(query) == [("A", 1), ("B", 2)]
    assert len(other.table.numbers) == 2
    assert agent.table.numbers == {}


async def test_dates_never_run_backwards_along_the_numbers(agent: Agent, query: Query) -> None:
    await agent.run(sent(0, "A"))
    agent.now = NOW - timedelta(hours=1)
    await agent.run(sent(1, "B"))
    assert [when for (when,) in query("SELECT issued_at FROM invoices ORDER BY number")] == [NOW, NOW]


async def test_a_continuous_series_is_the_sellers_years_and_shared_by_partitions(
    agent: Agent, ledger_url: str, query: Query
) -> None:
    with psycopg.connect(ledger_url, autocommit=True) as connection:
        add_seller(
            connection,
            "paris",
            numbering_policy="continuous",
            number_format="F{year}-{number:06d}",
            time_zone="Europe/Paris",
        )
    await agent.run(sent(0, "A", seller_id="paris"), partition=0)
    await agent.run(sent(0, "B", seller_id="paris"), partition=1)
    # Half an hour before midnight in UTC it is next year in Paris.
    agent.now = datetime(2026, 12, 31, 23, 30, tzinfo=UTC)
    await agent.run(sent(1, "C", seller_id="paris"), partition=0)
    assert query("SELECT series_id, number, invoice_number FROM invoices ORDER BY order_id") == [
        ("paris.invoice.2026", 1, "F2026-000001"),
        ("paris.invoice.2026", 2, "F2026-000002"),
        ("paris.invoice.2027", 1, "F2027-000001"),
    ]


async def test_the_event_says_what_the_row_says(agent: Agent, query: Query) -> None:
    await agent.run(sent(0, "A"))
    [(name, event)] = events(query)
    assert name == "InvoiceIssued"
    [row] = query("SELECT series_id, number, invoice_number, gross_minor, event_seq FROM invoices")
    assert row == (event["series_id"], event["number"], event["invoice_number"], event["totals"]["gross_minor"], 1)
    assert event["issue_date"] == "2026-11-21"
    assert event["issued_at"] == int(NOW.timestamp()) * 1_000_000
    assert event["lines"][0]["net_minor"] == 3998


def events(query: Query) -> list[tuple[str, dict[str, Any]]]:
    rows = query("SELECT payload FROM journal WHERE topic = 'invoice-events' ORDER BY partition, seq")
    decoded = [codec.decode(payload, *catalog.INVOICE_EVENTS.schemas, bytes_max=10**7) for (payload,) in rows]
    return [(schema.name.removeprefix("gapless."), dict(event)) for schema, event in decoded]


async def test_the_batches_of_several_partitions_are_one_transaction(agent: Agent, query: Query) -> None:
    await agent.run_together([sent(0, "A"), sent(1, "B")], [sent(0, "C"), Sent(1, b"?", b"key")])
    assert query("SELECT order_id, number, source_partition, event_seq FROM invoices ORDER BY order_id") == [
        ("A", 1, 0, 1),
        ("B", 2, 0, 2),
        ("C", 1, 1, 1),
    ]
    written = "SELECT DISTINCT xmin::text FROM {} WHERE partition < 2"
    [position] = query(written.format("positions"))
    assert query(written.format("journal")) == [position]
    assert query("SELECT topic, partition, seq FROM journal ORDER BY 1, 2, 3") == [
        ("dead-letters", 1, 1),
        ("invoice-events", 0, 1),
        ("invoice-events", 0, 2),
        ("invoice-events", 1, 1),
    ]


async def test_a_seller_who_numbers_in_one_run_does_so_over_the_partitions_of_a_transaction(
    agent: Agent, query: Query
) -> None:
    query("UPDATE sellers SET numbering_policy = 'continuous', number_format = '{year}-{number}'")
    await agent.run_together([sent(0, "A"), sent(1, "B")], [sent(0, "C")])
    assert numbers(query) == [("A", 1), ("B", 2), ("C", 3)]
    await agent.run_together([sent(2, "D")], [sent(1, "E")])
    assert numbers(query)[3:] == [("D", 4), ("E", 5)]


async def test_what_is_in_the_way_of_one_partition_does_not_delay_the_others(agent: Agent, query: Query) -> None:
    """The second's batch is half done, by somebody else; the third's is done."""
    await agent.run(sent(0, "B"), partition=1)
    await agent.run(sent(0, "D"), partition=2)
    await agent.run_together([sent(0, "A")], [sent(0, "B"), sent(1, "C")], [sent(0, "D")])
    assert sorted(numbers(query)) == [("A", 1), ("B", 1), ("C", 2), ("D", 1)]
    positions = query("SELECT partition, next_offset FROM positions WHERE agent = 'invoices' ORDER BY partition")
    assert positions == [(0, 1), (1, 2), (2, 1), (3, 0)]


async def test_a_lost_answer_about_several_partitions_is_found_out_and_not_repeated(
    agent: Agent, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose_an_answer(monkeypatch, agent.worker)
    await agent.run_together([sent(0, "A")], [sent(0, "B")])
    assert sorted(numbers(query)) == [("A", 1), ("B", 1)]
    assert len(agent.table.numbers) == 2
