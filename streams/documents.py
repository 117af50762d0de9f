"""The documents agent: the PDF of each invoice and credit note, rendered, stored for good, and only then recorded."""

import hashlib
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from prometheus_client import Counter

from documents.render import DocumentEvent
from domain.dead_letter import DeadLetterReason
from domain.documents import document_key
from domain.moments import micros
from domain.records import InvoiceDocumentStored
from runtime.logs import tell_decisions
from runtime.metrics import REGISTRY
from runtime.settings import Settings
from schemas import catalog
from schemas.codec import DecodeError, decode, encode
from sinks.object_store.store import STORE_OUTAGES, ObjectStore, open_store
from sinks.postgres import documents as ledger
from sinks.postgres import journal
from sinks.postgres.journal import JournalRow
from sinks.postgres.session import Connection, Session, believed
from streams.engine.app import Wired, run_agent
from streams.engine.batch import Batch, Record
from streams.engine.dead_letters import dated, dead_letter
from streams.engine.work import Part
from streams.rendering import Renderer, RenderError

_log = logging.getLogger(__name__)

AGENT = "documents"
#: Events in a batch: what a crash renders again, and how long a document waits for its batch's commit.
BATCH_RECORDS_MAX = 100

#: A megabyte of lines written to be slow to print takes 9 s, and the brokers expect to hear of us within 120.
BATCH_BYTES_MAX = 512 * 1024

STORED = Counter("gapless_documents_stored_total", "Documents stored and recorded.", registry=REGISTRY)


@dataclass(frozen=True, slots=True)
class _Stored:
    """A document that is in the object store."""

    event: DocumentEvent
    record: Record
    key: str
    digest: bytes
    size_bytes: int


@dataclass(slots=True)
class PreparedDocuments:
    """What a batch has brought into the object store, and what could not be."""

    stored: list[_Stored] = field(default_factory=list)
    dead: list[JournalRow] = field(default_factory=list)
    #: What was stored, for the log.
    told: list[Mapping[str, object]] = field(default_factory=list)


def run(settings: Settings) -> None:
    """Run a documents worker until SIGTERM."""
    # On a machine that it shares, a heap of documents must not slow the numbers. The rendering processes inherit it.
    os.nice(10)
    renderer = Renderer(settings.render_processes)
    store, logos = open_store(settings), ledger.Logos()

    def work(reads: Session) -> DocumentsWork:
        return DocumentsWork(store, renderer, logos, reads, lambda: datetime.now(UTC))

    wired = Wired(work, BATCH_BYTES_MAX, close=renderer.close)
    run_agent(AGENT, settings, lambda _: wired, batch_records_max=BATCH_RECORDS_MAX)


class DocumentsWork:
    """Renders off the event loop, puts if absent, then records: made again, everything is the same."""

    agent = AGENT
    outages: tuple[type[Exception], ...] = STORE_OUTAGES

    def __init__(
        self,
        store: ObjectStore,
        renderer: Renderer,
        logos: ledger.Logos,
        reads: Session,
        now: Callable[[], datetime],
    ) -> None:
        """`reads` is free while a batch is prepared; `logos` may be shared."""
        self._store = store
        self._renderer = renderer
        self._reads = reads
        self._logos = logos
        self._now = now

    async def prepare(self, batch: Batch) -> PreparedDocuments:
        """Render and store. The objects are on disk, fsynced, when this returns."""
        prepared = PreparedDocuments()
        now = self._now()
        issued = list(self._decode(batch, prepared, now))
        wanted, bodies = await self._render(batch, prepared, issued, now)
        objects = []
        for (record, event), body in zip(wanted, bodies, strict=True):
            if isinstance(body, RenderError):
                prepared.dead.append(dead_letter(AGENT, batch, record, DeadLetterReason.NOT_RENDERED, str(body), now))
                continue
            sha256 = hashlib.sha256(body)
            key = document_key(event["seller_id"], event["issue_date"][:4], event["invoice_number"], sha256.hexdigest())
            prepared.stored.append(_Stored(event, record, key, sha256.digest(), len(body)))
            objects.append((key, body))
        await self._store.put_all_if_absent(objects)
        return prepared

    def distrust(self, prepared: PreparedDocuments) -> bool:
        """It trusts no hint."""
        return False

    async def apply(self, connection: Connection, parts: Sequence[Part[PreparedDocuments]]) -> None:
        """Record the documents, and announce those that were not recorded before."""
        now = await believed(connection, self._now())
        rows = [_row(stored, now) for part in parts for stored in part.prepared.stored]
        new = await ledger.insert_documents(connection, rows) if rows else set()
        output: dict[journal.OutputKey, list[JournalRow]] = {}
        for part in parts:
            batch, prepared = part.batch, part.prepared
            recorded = [each for each in prepared.stored if _number(each) in new]
            # A copy of an event in another partition is announced no second time.
            new -= {_number(each) for each in recorded}
            prepared.told = [batch.traces.decision(each.record.offset, _decision(each)) for each in recorded]
            output[catalog.DEAD_LETTERS.name, batch.partition] = dated(prepared.dead, now)
            output[catalog.INVOICE_EVENTS.name, batch.partition] = [
                _stored_event(each, now, batch.traces.follow(each.record.offset)) for each in recorded
            ]
        await journal.append(connection, output)

    async def committed(self, batch: Batch, prepared: PreparedDocuments) -> None:
        """Count."""
        STORED.inc(len(prepared.stored))
        tell_decisions(_log, "stored", prepared.told)

    def _decode(
        self, batch: Batch, prepared: PreparedDocuments, now: datetime
    ) -> Iterator[tuple[Record, DocumentEvent]]:
        for record in batch.records:
            try:
                schema, event = decode(
                    record.value, *catalog.INVOICE_EVENTS.schemas, bytes_max=catalog.INVOICE_EVENTS.value_bytes_max
                )
                if catalog.is_issued(event, schema):
                    yield record, _checked(event)
            except DecodeError as error:
                prepared.dead.append(dead_letter(AGENT, batch, record, DeadLetterReason.UNDECODABLE, str(error), now))

    async def _render(
        self, batch: Batch, prepared: PreparedDocuments, issued: list[tuple[Record, DocumentEvent]], now: datetime
    ) -> tuple[list[tuple[Record, DocumentEvent]], Sequence[bytes | RenderError]]:
        """The events whose document is wanted, and what became of each. Repeats are left out."""
        if not issued:
            return [], []
        async with self._reads.connection() as connection:
            states = await ledger.read_invoice_states(
                connection, batch.topic, [(event["series_id"], event["number"]) for _, event in issued]
            )
            named = (event["seller"]["logo_sha256"] for _, event in issued)
            logos = await self._logos.read(connection, {logo for logo in named if logo is not None})
        wanted = []
        seen: set[tuple[str, int]] = set()
        for record, event in issued:
            number = (event["series_id"], event["number"])
            state = states.get(number)
            # Who can write to the topic must not be able to make a document: the journal has the last word.
            if state is None or record.value != state.event:
                error = "the journal has no such event: it is not the relay's"
                prepared.dead.append(dead_letter(AGENT, batch, record, DeadLetterReason.FOREIGN, error, now))
            elif not state.has_document and number not in seen:
                seen.add(number)
                wanted.append((record, event))
        bodies = await self._renderer.render_many(
            [(event, logos.get(event["seller"]["logo_sha256"] or "")) for _, event in wanted]
        )
        return wanted, bodies


def _row(stored: _Stored, now: datetime) -> ledger.DocumentRow:
    version = stored.event["template_version"]
    return ledger.DocumentRow(*_number(stored), stored.key, stored.digest, stored.size_bytes, version, now)


def _number(stored: _Stored) -> tuple[str, int]:
    return stored.event["series_id"], stored.event["number"]


def _decision(stored: _Stored) -> dict[str, object]:
    """What the log says of a document."""
    event = stored.event
    return {
        "seller_id": event["seller_id"],
        "order_id": event["order_id"],
        "kind": event["kind"],
        "number": event["invoice_number"],
        "key": stored.key,
    }


def _checked(event: DocumentEvent) -> DocumentEvent:
    """The event; raises `DecodeError` for what Postgres can't look up."""
    if "\0" in event["series_id"]:
        raise DecodeError("series_id holds a NUL")
    logo = event["seller"]["logo_sha256"]
    if logo is not None and re.fullmatch("[0-9a-f]{64}", logo) is None:
        raise DecodeError("seller.logo_sha256 is no SHA-256 in hex")
    return event


def _stored_event(stored: _Stored, now: datetime, traceparent: str | None) -> JournalRow:
    event = stored.event
    value: InvoiceDocumentStored = {
        "seller_id": event["seller_id"],
        "order_id": event["order_id"],
        "kind": event["kind"],
        "series_id": event["series_id"],
        "number": event["number"],
        "invoice_number": event["invoice_number"],
        "key": stored.key,
        "sha256": stored.digest.hex(),
        "size_bytes": stored.size_bytes,
        "media_type": "application/pdf",
        "template_version": event["template_version"],
        "stored_at": micros(now),
    }
    return JournalRow(stored.record.key, encode(catalog.INVOICE_DOCUMENT_STORED, value), now, traceparent)
