"""What a release before has written, in topics and in rows, at work in a release that has gained fields.

Bytes of every version stay for ever in request topics, in the journal, in `orders.invoice_request` and in
`refunds.credit_note_request`. Agents, the gateway and the audit meet them on real Postgres, Kafka and Redis.
"""

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from domain.records import CheckoutRequest, DeadLetter
from runtime.publisher import Publisher
from runtime.roles import READERS
from schemas import catalog, codec
from streams.engine import work as work_module
from streams.rendering import Renderer
from tests import records
from tests.conftest import Services
from tests.contract.test_schemas import GOLDEN
from tests.integration.agents_bench import READ, Bench, Good, Query
from tests.integration.gateways import kept, make_topics, order, running, until
from tests.integration.shop import checkout_body
from tests.integration.test_audit import clone, found
from tests.integration.test_gateway import issued_event
from tests.integration.test_invoices_work import FatalError
from tests.integration.town import Town
from tests.tomorrow import LATER, tomorrow, written

pytestmark = pytest.mark.usefixtures("orders_anywhere")

_TODAY = nullcontext
by_agent = pytest.mark.parametrize(("agent", "topic"), READ, ids=[f"{agent}-{topic.name}" for agent, topic in READ])

#: Ids of the versions in which today's release writes.
ASKED, CREDITED, ISSUED, STORED, NOTED = (
    schema.ids[-1]
    for schema in (
        catalog.INVOICE_REQUEST,
        catalog.CREDIT_NOTE_REQUEST,
        catalog.INVOICE_ISSUED,
        catalog.INVOICE_DOCUMENT_STORED,
        catalog.CREDIT_NOTE_ISSUED,
    )
)
#: What becomes of the records below GOLDEN in a ledger that knows nothing of their orders, by agent and record.
_ERRORS = {
    ("documents", "invoice_issued"): "foreign: the journal has no such event",
    ("documents", "credit_note_issued"): "foreign: the journal has no such event",
    ("orders", "payment_attempt_finished"): "foreign: no attempt of an order in this partition has come to this",
    ("payments", "order_placed"): "foreign: no order of ours owes this",
    ("payments", "payment_requested"): "foreign: no order of ours owes this",
    ("payments", "payment_notice"): "foreign: the provider tells of a refund of an order that does not exist here",
    **{
        ("analytics", schema.record): "foreign: the journal has no such event"
        for topic in READERS["analytics"]
        for schema in topic.schemas
    },
}


@pytest.fixture(scope="module")
def renderer() -> Iterator[Renderer]:
    made = Renderer(1)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _fatal(monkeypatch: pytest.MonkeyPatch) -> None:
    def fatal(message: str, error: BaseException | None = None) -> None:
        raise FatalError(message) from error

    monkeypatch.setattr(work_module, "fatal", fatal)


def letters(query: Query) -> list[DeadLetter]:
    rows = query("SELECT payload FROM journal WHERE topic = %s ORDER BY seq", catalog.DEAD_LETTERS.name)
    return [
        codec.decode(payload, catalog.DEAD_LETTER, bytes_max=catalog.DEAD_LETTERS.value_bytes_max)[1]
        for (payload,) in rows
    ]


@by_agent
def test_what_the_release_before_wrote_takes_effect(
    agent: str, topic: catalog.Topic, services: Services, ledger_url: str, query: Query, tmp_path: Path,
    renderer: Renderer,
) -> None:  # fmt: skip
    """In flight while a release is rolled out: decoded by what it was written in, and worked on like any other."""
    with asyncio.Runner() as loop:
        bench = loop.run(
            Bench.opened(
                services, ledger_url, query, tmp_path, renderer, seller_id=f"old-{os.getpid()}-{topic.name}"[:40]
            )
        )
        good = Good(bench, agent, topic)
        before, same = loop.run(good.make("G-1")), loop.run(good.make("G-2"))
        with tomorrow():
            after = loop.run(good.make("G-3"))
            assert codec.schema_of(after) is codec.schema_of(before)
            assert after[:5] != before[:5] == same[:5]
            loop.run(bench.run(agent, topic, [(b"G-1", before), (b"G-3", after), (b"G-2", same)]))
            assert [good.took_effect(name) for name in ("G-1", "G-2", "G-3")] == [True] * 3
            assert letters(query) == []
        loop.run(bench.close())


@by_agent
@pytest.mark.parametrize("release", [_TODAY, tomorrow], ids=["today", "tomorrow"])
def test_no_agent_takes_the_bytes_of_any_version_for_garbage(
    release: Callable[[], AbstractContextManager[None]], agent: str, topic: catalog.Topic, services: Services,
    ledger_url: str, query: Query, tmp_path: Path, renderer: Renderer,
) -> None:  # fmt: skip
    """A dead letter only says that the ledger of this test is not the one they come from."""
    golden = [
        (schema.record, (GOLDEN / schema.record / f"v{version.number}.bin").read_bytes())
        for schema in topic.schemas
        for version in schema.versions
    ]
    with release(), asyncio.Runner() as loop:
        bench = loop.run(Bench.opened(services, ledger_url, query, tmp_path, renderer))
        batch = loop.run(bench.run(agent, topic, [(b"key", payload) for _, payload in golden]))
        errors = {
            (agent, golden[letter["source_offset"] - batch.first_offset][0]): letter["error"]
            for letter in letters(query)
        }
        assert errors.keys() == {key for key in _ERRORS if key in {(agent, record) for record, _ in golden}}
        assert all(error.startswith(_ERRORS[key]) for key, error in errors.items())
        loop.run(bench.close())


@pytest.mark.parametrize("release", [_TODAY, tomorrow], ids=["today", "tomorrow"])
def test_the_request_of_the_first_release_is_invoiced_and_repeated(
    release: Callable[[], AbstractContextManager[None]], services: Services, ledger_url: str, query: Query,
    tmp_path: Path, renderer: Renderer,
) -> None:  # fmt: skip
    """Its digest is the one that the first release has written; with a field that it lacked it is another request."""
    payload = (GOLDEN / "invoice_request" / "v1.bin").read_bytes()
    topic = catalog.INVOICE_REQUESTS
    with release(), asyncio.Runner() as loop:
        bench = loop.run(Bench.opened(services, ledger_url, query, tmp_path, renderer))
        loop.run(bench.run("invoices", topic, [(b"G-INV", payload)] * 2))
        stored = query("SELECT order_id, encode(content_sha256, 'hex') FROM invoices")
        assert stored == [("G-INV", "1ab4c0e75289a100b693dc99ed6bac53e55a87b60021a7b2ae39045457555c30")]
        _, asked = codec.decode(payload, catalog.INVOICE_REQUEST, bytes_max=topic.value_bytes_max)
        again = [records.written(catalog.INVOICE_REQUEST, each) for each in (asked, {**asked, LATER: "PO-7"})]
        loop.run(bench.run("invoices", topic, [(b"G-INV", each) for each in again]))
        refused = query("SELECT log_offset, outcome FROM refused_requests")
        # Today nobody can say it.
        assert refused == ([] if release is _TODAY else [(3, "conflict")])
        assert query("SELECT count(*) FROM invoices") == [(1,)]
        loop.run(bench.close())


@pytest.mark.parametrize("again", [_TODAY, tomorrow], ids=["today", "tomorrow"])
def test_a_document_is_the_same_in_any_release(
    again: Callable[[], AbstractContextManager[None]], services: Services, ledger_url: str, query: Query,
    tmp_path: Path, renderer: Renderer,
) -> None:  # fmt: skip
    """Byte for byte: its event names the template that prints it."""
    with asyncio.Runner() as loop:
        bench = loop.run(Bench.opened(services, ledger_url, query, tmp_path, renderer))
        good = Good(bench, "documents", catalog.INVOICE_EVENTS)
        event = loop.run(good.make("G-1"))
        loop.run(bench.run("documents", catalog.INVOICE_EVENTS, [(b"G-1", event)]))
        [(first,)] = query("SELECT sha256 FROM documents")
        query("DELETE FROM documents")
        with again():
            loop.run(bench.run("documents", catalog.INVOICE_EVENTS, [(b"G-1", event)]))
        assert query("SELECT sha256 FROM documents") == [(first,)]
        loop.run(bench.close())


@pytest.fixture
def town(services: Services, template_database: str, tmp_path: Path) -> Iterator[Town]:
    url = clone(services.postgres_url, template_database)
    made = Town(services, url, tmp_path)
    yield made
    made.close()
    with psycopg.connect(services.postgres_url, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {url.rpartition('/')[2]} WITH (FORCE)".encode())


def test_a_ledger_with_bytes_of_two_releases_is_clean(town: Town) -> None:
    """Orders of the release before, at every stage of their lives, go on in the next; the audit reads both."""
    shipped, refunded = town.grow(2)
    confirmed, placed, open_ = town.place(3)
    for order_id in (shipped, refunded):
        town.command(order_id, "ship")
        town.settle(order_id, "capture")
    town.command(refunded, "refund", refund_id="R-1", lines=[{"line": 0, "quantity": 1}])
    town.pay([confirmed])
    town.begin()
    assert ids(town, "SELECT invoice_request FROM orders") == {ASKED}
    assert ids(town, "SELECT credit_note_request FROM refunds") == {CREDITED}
    with tomorrow():
        assert town.check() == ""
        town.settle(refunded, "refund:R-1", town.one("SELECT amount_minor FROM refunds"))
        town.command(shipped, "deliver")
        town.pay([placed])
        # One that says what could not be said before, and gives its money back.
        [said] = town.place(1, **{LATER: "PO-7"})
        town.pay([said])
        town.invoice()
        town.command(said, "cancel", reason="too late")
        town.settle(said, "void")
        town.invoice()
        town.store()
        town.relay()
        assert town.check() == ""
        # What was asked for in the release before is published as it stands in Postgres.
        assert ids(town, "SELECT payload FROM journal WHERE topic = 'invoice-requests'") == now_and_then(
            ASKED, CREDITED
        )
        told = ids(town, "SELECT payload FROM journal WHERE topic = 'invoice-events'")
        assert told == {*now_and_then(ISSUED, STORED), 1_000 + NOTED}
        assert ids(town, "SELECT invoice_request FROM orders") == now_and_then(ASKED)
        town.send(body(open_))
        assert town.refused(open_) == []
        town.send({**body(open_), LATER: "PO-7"})
        assert town.refused(open_) == ["conflict"]
        town.send(body(said), {**body(said), LATER: "PO-7"})
        assert town.refused(said) == ["conflict"]
        assert town.check() == ""
        assert found(town.world.audit()) == ""


async def test_the_gateway_shows_what_the_release_before_has_written(
    services: Services, ledger: str, query: Query, tmp_path: Path, renderer: Renderer
) -> None:
    """The same as before; and who waits is answered by an event of a worker that was not updated yet."""
    topics = make_topics(services.kafka_bootstrap)
    bench = await Bench.opened(services, ledger, query, tmp_path, renderer)
    await bench.place("G-1")
    await Good(bench, "documents", catalog.INVOICE_EVENTS).make("G-2")
    async with running(services, ledger, topics) as client:
        paths = ("/v1/orders/G-1", "/v1/orders?customer=C-17", "/v1/invoices/G-2", "/v1/series")
        before = [await client.get(path) for path in paths]
        assert [answer.status for answer in before] == [200] * len(paths)
        with tomorrow():
            assert [(await client.get(path)).json for path in paths] == [answer.json for answer in before]
            await until(lambda: client.get("/readyz"), lambda answer: answer.json["events"] == "ok")
            order_id = f"A-{uuid4().hex[:12]}"
            waiting = asyncio.create_task(client.post(order(order_id), Prefer="wait=25"))
            await until(lambda: asyncio.to_thread(kept, services, topics), bool)
            issued, version = issued_event("demo", order_id, 7), catalog.INVOICE_ISSUED.versions[0]
            publisher = Publisher(services.kafka_bootstrap)
            await publisher.publish(topics.events.name, order_id.encode(), written(version, issued))
            await publisher.close()
            answer = await waiting
            assert (answer.status, answer.json["number"]) == (200, 7)
    await bench.close()


def now_and_then(*schema_ids: int) -> set[int]:
    """The ids of versions of today, and of those that the release to come adds."""
    return {*schema_ids, *(1_000 + each for each in schema_ids)}


def body(order_id: str) -> CheckoutRequest:
    """What the town's shop was asked for."""
    return checkout_body(order_id, ("MUG", 1), ("MUG", 2))


def ids(town: Town, query: str) -> set[int]:
    """The schema ids of the records that a statement gives."""
    with psycopg.connect(town.world.postgres_url) as connection:
        return {int.from_bytes(payload[1:5]) for (payload,) in connection.execute(query.encode())}
