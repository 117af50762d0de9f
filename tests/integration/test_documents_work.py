"""The documents agent's batches: real Postgres, a real folder of objects, real rendering processes."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from runtime.settings import load
from schemas import catalog, codec
from sinks.object_store.store import ObjectStore, StoreUnavailableError, open_store
from sinks.postgres.documents import Logos
from sinks.postgres.positions import read_positions
from sinks.postgres.session import Connection, Session
from streams.documents import DocumentsWork
from streams.engine.batch import Batch
from streams.engine.work import Worker
from streams.invoices import InvoicesWork
from streams.rendering import Renderer
from tests.credit_notes import credit_note_request
from tests.integration.test_invoices_work import NOW, TOPIC, FakeTable, Sent, sent
from tests.records import written
from tests.unit.documents.test_render import LOGO
from tests.unit.domain.test_invoice import request

EVENTS = catalog.INVOICE_EVENTS.name
Query = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture(scope="module")
def renderer() -> Iterator[Renderer]:
    made = Renderer(1)
    yield made
    made.close()


class Documents:
    """A documents worker of partition 0, fed with the journal's own events."""

    def __init__(self, url: str, objects: Path, renderer: Renderer) -> None:
        self.url = url
        self.objects = objects
        self.sessions = [Session(url), Session(url)]
        self.store = open_store(load(objects_url=objects.as_uri()))
        self.work = DocumentsWork(self.store, renderer, Logos(), self.sessions[0], lambda: NOW)
        # As the agent has it: one session for what is read before the transaction, and for that.
        self.worker = Worker(self.sessions[0], self._no_log)

    async def _no_log(self, topic: str, partition: int, offset: int) -> tuple[int, int]:
        raise AssertionError("no test here has a hole")

    async def start(self) -> None:
        async with self.sessions[1].connection() as connection:
            await read_positions(connection, "documents", EVENTS, [0])
            await read_positions(connection, "invoices", TOPIC, [0])

    async def issue(self, *order_ids: str, first_offset: int = 0) -> None:
        """Have the invoices agent issue these orders."""
        await self.decide(*(sent(first_offset + index, order_id) for index, order_id in enumerate(order_ids)))

    async def decide(self, *records: Sent) -> None:
        """Have the invoices agent take these requests."""
        table: Any = FakeTable()
        work = InvoicesWork(table, lambda: NOW)
        await Worker(self.sessions[1], self._no_log).run(work, Batch(TOPIC, 0, records))

    async def run(self, *records: Sent) -> None:
        await self.worker.run(self.work, Batch(EVENTS, 0, records))

    def files(self) -> list[Path]:
        return sorted(self.objects.rglob("*.pdf"))


@pytest.fixture
async def documents(ledger_url: str, tmp_path: Path, renderer: Renderer) -> AsyncIterator[Documents]:
    made = Documents(ledger_url, tmp_path / "objects", renderer)
    await made.start()
    yield made
    for session in made.sessions:
        await session.close()


def journal(query: Query, first_offset: int = 0) -> list[Sent]:
    """The journal as the topic's records: seq 1 at offset 0."""
    rows = query(
        "SELECT seq, payload, key FROM journal WHERE topic = %s AND seq > %s ORDER BY seq", EVENTS, first_offset
    )
    return [Sent(seq - 1, payload, key) for seq, payload, key in rows]


async def test_each_issued_invoice_gets_one_document_under_its_hash(documents: Documents, query: Query) -> None:
    await documents.issue("A", "B")
    await documents.run(*journal(query))
    rows = query("SELECT number, key, sha256, size_bytes FROM documents ORDER BY number")
    assert [number for number, *_ in rows] == [1, 2]
    for number, key, sha256, size_bytes in rows:
        body = (documents.objects / key).read_bytes()
        assert body.startswith(b"%PDF-")
        assert (hashlib.sha256(body).digest(), len(body)) == (sha256, size_bytes)
        assert key == f"invoices/demo/2026/INV-00-{number:08d}-{sha256.hex()[:16]}.pdf"


async def test_a_stored_document_is_announced_once_and_its_own_event_makes_none(
    documents: Documents, query: Query
) -> None:
    await documents.issue("A")
    await documents.run(*journal(query))
    await documents.run(*journal(query, 1))
    names = [codec.schema_of(record.value or b"").name for record in journal(query)]
    assert names == ["gapless.InvoiceIssued", "gapless.InvoiceDocumentStored"]
    assert query("SELECT next_offset FROM positions WHERE agent = 'documents'") == [(2,)]


async def test_a_credit_note_gets_its_document_beside_that_of_its_invoice(documents: Documents, query: Query) -> None:
    """Under the same rules: its printed number and its hash are its key."""
    body = written(catalog.CREDIT_NOTE_REQUEST, credit_note_request(request(order_id="A"), "R-1", {0: 1}))
    await documents.decide(sent(0, "A"), Sent(1, body, b"A"))
    await documents.run(*journal(query))
    [row] = query("SELECT number, key, sha256 FROM documents WHERE series_id = 'demo.credit_note.p00'")
    assert row[1] == f"invoices/demo/2026/CN-00-00000001-{row[2].hex()[:16]}.pdf"
    assert (documents.objects / row[1]).read_bytes().startswith(b"%PDF-")
    assert len(documents.files()) == 2
    stored = [record.value for record in journal(query, 2)]
    kinds = [codec.decode(each, catalog.INVOICE_DOCUMENT_STORED, bytes_max=10**6)[1]["kind"] for each in stored]
    assert kinds == ["invoice", "credit_note"]


async def test_a_credit_note_that_is_not_the_ledgers_makes_nothing(documents: Documents, query: Query) -> None:
    """Who can write to the topic could have one printed otherwise."""
    body = written(catalog.CREDIT_NOTE_REQUEST, credit_note_request(request(order_id="A"), "R-1", {0: 1}))
    await documents.decide(sent(0, "A"), Sent(1, body, b"A"))
    _, event = codec.decode(journal(query)[1].value, catalog.CREDIT_NOTE_ISSUED, bytes_max=10**6)
    forged = written(catalog.CREDIT_NOTE_ISSUED, {**event, "preceding_invoice_number": "INV-00-00000099"})
    await documents.run(Sent(0, forged, b"A"))
    assert documents.files() == []
    assert query("SELECT count(*) FROM journal WHERE topic = 'dead-letters'") == [(1,)]


async def test_an_event_published_twice_makes_one_document(documents: Documents, query: Query) -> None:
    await documents.issue("A")
    [event] = journal(query)
    await documents.run(event, Sent(1, event.value, event.key))
    await documents.run(Sent(2, event.value, event.key))
    assert len(documents.files()) == 1
    assert len(journal(query)) == 2


async def test_a_crash_between_put_and_record_leaves_the_same_key_and_bytes(documents: Documents, query: Query) -> None:
    await documents.issue("A")
    batch = Batch(EVENTS, 0, journal(query))
    await documents.work.prepare(batch)
    [file] = documents.files()
    before = (file.read_bytes(), file.stat().st_ino)
    assert query("SELECT * FROM documents") == []
    await documents.run(*journal(query))
    assert documents.files() == [file]
    assert (file.read_bytes(), file.stat().st_ino) == before
    assert len(query("SELECT * FROM documents")) == 1


async def test_an_event_that_is_not_the_ledgers_is_a_dead_letter_and_makes_nothing(
    documents: Documents, query: Query
) -> None:
    await documents.issue("A")
    [event] = journal(query)
    forged = codec.decode(event.value, catalog.INVOICE_ISSUED, bytes_max=10**6)[1]
    unknown = written(catalog.INVOICE_ISSUED, {**forged, "number": 99})
    renamed = written(catalog.INVOICE_ISSUED, {**forged, "invoice_number": "INV-00-00000007"})
    unsafe = written(catalog.INVOICE_ISSUED, {**forged, "series_id": "nul\0"})
    undated = written(catalog.INVOICE_ISSUED, {**forged, "issue_date": "../.."})
    values = [unknown, renamed, unsafe, undated, b"junk", None, event.value]
    await documents.run(*(Sent(offset, value) for offset, value in enumerate(values)))
    letters = query("SELECT payload FROM journal WHERE topic = 'dead-letters' ORDER BY seq")
    offsets = [
        codec.decode(payload, catalog.DEAD_LETTER, bytes_max=10**6)[1]["source_offset"] for (payload,) in letters
    ]
    assert sorted(offsets) == [0, 1, 2, 3, 4, 5]
    assert len(documents.files()) == 1


async def test_a_store_that_is_away_is_waited_for(
    documents: Documents, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    await documents.issue("A")
    put = ObjectStore.put_all_if_absent
    answers = iter([False, False, True])

    async def put_or_fail(self: ObjectStore, objects: Any) -> None:
        if not next(answers):
            raise StoreUnavailableError("503")
        await put(self, objects)

    monkeypatch.setattr(ObjectStore, "put_all_if_absent", put_or_fail)
    await documents.run(*journal(query))
    assert len(query("SELECT * FROM documents")) == 1


async def test_a_logo_that_is_lost_is_told_and_no_document_made_without_it(documents: Documents, query: Query) -> None:
    query("INSERT INTO logos VALUES (sha256(%s), %s)", LOGO, LOGO)
    query("UPDATE sellers SET logo_sha256 = sha256(%s) WHERE seller_id = 'demo'", LOGO)
    await documents.issue("A")
    query("UPDATE sellers SET logo_sha256 = NULL")
    query("DELETE FROM logos")
    await documents.run(*journal(query))
    [(letter,)] = query("SELECT payload FROM journal WHERE topic = %s", catalog.DEAD_LETTERS.name)
    _, said = codec.decode(letter, catalog.DEAD_LETTER, bytes_max=len(letter))
    assert "names the logo" in said["error"]
    assert "not in the ledger" in said["error"]
    assert (query("SELECT count(*) FROM documents"), documents.files()) == ([(0,)], [])
    # Its dead letter is redriven once the logo is there again: the event is repeated.
    query("INSERT INTO logos VALUES (sha256(%s), %s)", LOGO, LOGO)
    [event] = journal(query)
    await documents.run(Sent(event.offset + 1, event.value, event.key))
    assert (query("SELECT count(*) FROM documents"), len(documents.files())) == ([(1,)], 1)


async def test_logos_are_found_whatever_other_partitions_read_meanwhile(ledger_url: str, query: Query) -> None:
    bodies = [f"logo {number}".encode() for number in range(400)]
    query("INSERT INTO logos SELECT sha256(body), body FROM unnest(%s::bytea[]) AS body", bodies)
    digests = [hashlib.sha256(body).hexdigest() for body in bodies]
    logos = Logos()
    sessions = [Session(ledger_url), Session(ledger_url)]
    second_has_read = asyncio.Event()

    async def read_second(connection: Connection) -> dict[str, bytes]:
        found = await logos.read(connection, digests[201:])
        second_has_read.set()
        return found

    async with sessions[0].connection() as first, sessions[1].connection() as second:
        await logos.read(first, digests[:200])

        class Slow:
            async def execute(self, *statement: Any) -> Any:
                cursor = await first.execute(*statement)
                await second_has_read.wait()
                return cursor

        # The second needs more room than there is left, while the first waits for what it does not have yet.
        mine, others = await asyncio.gather(logos.read(cast(Any, Slow()), digests[:201]), read_second(second))
    assert mine == dict(zip(digests[:201], bodies[:201], strict=True))
    assert others == dict(zip(digests[201:], bodies[201:], strict=True))
    for session in sessions:
        await session.close()
