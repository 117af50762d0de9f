"""The invoices agent: a batch of requests in, each order's one invoice and number out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from prometheus_client import Counter

from domain import invoice, numbering
from domain.issuing import Conflict, Content, OrderKey, decide
from domain.refusals import UNKNOWN_SELLER, Refusal
from runtime.metrics import REGISTRY
from runtime.settings import Settings
from schemas import catalog
from schemas.codec import DecodeError, decode, encode
from sinks.postgres import invoices as ledger
from sinks.postgres import journal
from sinks.postgres.journal import JournalRow
from sinks.postgres.session import Connection
from streams.app import Wired, run_agent
from streams.batch import Batch
from streams.dead_letters import dead_letter, micros
from streams.dedupe_table import DedupeTable, add_dedupe_table, digest
from streams.transport import BatchApp

AGENT = "invoices"
#: The template that documents of new invoices are made with.
TEMPLATE_VERSION = 1

#: Some 4 s of pricing at the worst; an ordinary batch of 1,000 has a tenth of it.
BATCH_BYTES_MAX = 4 * 1024 * 1024

OUTCOMES = Counter(
    "gapless_invoice_requests_total", "Invoice requests by what became of them.", ["outcome"], registry=REGISTRY
)


@dataclass(frozen=True, slots=True)
class Request:
    """A decoded and priced request, and where it stands."""

    content: Content
    body: dict[str, Any]
    priced: invoice.Priced


@dataclass(slots=True)
class Prepared:
    """A batch decoded and checked, and what the table says of it."""

    requests: dict[int, Request] = field(default_factory=dict)
    rejected: list[tuple[Content, Refusal]] = field(default_factory=list)
    dead: list[JournalRow] = field(default_factory=list)
    digests: dict[OrderKey, bytes] = field(default_factory=dict)
    #: Orders that must be looked up in Postgres before they count as new.
    look_up: list[OrderKey] = field(default_factory=list)
    numbers: dict[OrderKey, int] = field(default_factory=dict)
    outcomes: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Out:
    """Rows of one transaction, gathered before they are numbered by the journal."""

    events: list[tuple[int, JournalRow]] = field(default_factory=list)
    refused: list[ledger.RefusedRow] = field(default_factory=list)


def run(settings: Settings) -> None:
    """Run an invoices worker until SIGTERM."""

    def wire(app: BatchApp) -> Wired:
        table = add_dedupe_table(app, "issued", catalog.PARTITIONS)
        if table.changelog_topic_name != catalog.INVOICES_CHANGELOG.name:
            raise ValueError(f"the catalogue does not know the changelog {table.changelog_topic_name}")
        return Wired((catalog.INVOICE_REQUESTS,), InvoicesWork(table, lambda: datetime.now(UTC)), BATCH_BYTES_MAX)

    run_agent(AGENT, settings, wire)


class InvoicesWork:
    """Numbers what is new, once, in the transaction that writes it."""

    agent = AGENT
    outages: tuple[type[Exception], ...] = ()

    def __init__(self, table: DedupeTable, now: Callable[[], datetime]) -> None:
        self._table = table
        self._now = now

    async def prepare(self, batch: Batch) -> Prepared:
        """Decode, price, and ask the table which orders may be old."""
        prepared = Prepared()
        now = self._now()
        for record in batch.records:
            try:
                _, body = decode(
                    record.value, catalog.INVOICE_REQUEST, bytes_max=catalog.INVOICE_REQUESTS.value_bytes_max
                )
            except DecodeError as error:
                prepared.dead.append(dead_letter(AGENT, batch, record, str(error), now))
                continue
            key = OrderKey(body["seller_id"], body["order_id"], body["kind"])
            refusal = _refuse_identity(key)
            if refusal is not None:
                # Its identity can't be stored, so it can't be shown under it either.
                prepared.dead.append(dead_letter(AGENT, batch, record, str(refusal), now))
                continue
            priced = invoice.price(body)
            if isinstance(priced, Refusal):
                prepared.rejected.append((Content(record.offset, key, b""), priced))
                continue
            prepared.requests[record.offset] = Request(Content(record.offset, key, priced.content_sha256), body, priced)
            if key not in prepared.digests:
                prepared.digests[key] = digest(key)
        keys = list(prepared.digests)
        if self._table.covers(batch.partition, batch.first_offset):
            known = self._table.known(batch.partition, list(prepared.digests.values()))
            prepared.look_up = [key for key, is_known in zip(keys, known, strict=True) if is_known]
        else:
            prepared.look_up = keys
        return prepared

    def distrust(self, prepared: Prepared) -> bool:
        """Look every order up, if the table had spared us some."""
        if len(prepared.look_up) == len(prepared.digests):
            return False
        prepared.look_up = list(prepared.digests)
        return True

    async def apply(self, connection: Connection, batch: Batch, prepared: Prepared) -> None:
        """Number the fresh orders in offset order and write everything."""
        now = self._now()
        sellers, issued = await ledger.read_sellers_and_issued(
            connection, (key.seller_id for key in prepared.digests), prepared.look_up
        )
        out = _Out()
        known: list[Content] = []
        unknown: list[Content] = []
        for request in prepared.requests.values():
            (known if request.content.key.seller_id in sellers else unknown).append(request.content)
        decision = decide(known, issued)
        for content, refusal in prepared.rejected:
            self._reject(out, batch, content, refusal, now)
        for content in unknown:
            detail = "no such seller: create it with `gapless sellers add`"
            self._reject(out, batch, content, Refusal(UNKNOWN_SELLER, "seller_id", detail), now)
        for conflict in decision.conflicts:
            self._record_conflict(out, batch, conflict, now)
        rows = await self._issue(connection, batch, prepared, decision.fresh, sellers, now, out)
        await self._write(connection, batch, prepared, rows, out, now)
        prepared.outcomes = {
            "issued": len(decision.fresh),
            "repeat": decision.repeats,
            "conflict": len(decision.conflicts),
            "rejected": len(prepared.rejected) + len(unknown),
            "dead letter": len(prepared.dead),
        }

    async def committed(self, batch: Batch, prepared: Prepared) -> None:
        """Mark the table. Not before: a mark without its commit would be believed by nobody, but cost a look-up."""
        pairs = [(prepared.digests[key], number) for key, number in prepared.numbers.items()]
        self._table.mark(batch.partition, batch.first_offset, batch.next_offset, pairs)
        for outcome, count in prepared.outcomes.items():
            OUTCOMES.labels(outcome).inc(count)

    async def _issue(
        self,
        connection: Connection,
        batch: Batch,
        prepared: Prepared,
        fresh: list[Content],
        sellers: Mapping[str, Mapping[str, Any]],
        now: datetime,
        out: _Out,
    ) -> list[ledger.InvoiceRow]:
        """Take exactly as many numbers as there are fresh orders, and make their rows and events."""
        series_of, wanted = _series_of(fresh, sellers, batch.partition, now)
        taken = await ledger.take_numbers(connection, wanted, now)
        numbers = numbering.assign(series_of, [each.taken for each in taken.values()])
        prepared.numbers = {content.key: number for content, number in zip(fresh, numbers, strict=True)}
        dates: dict[str, tuple[str, int]] = {}
        rows = []
        for content, series_id, number in zip(fresh, series_of, numbers, strict=True):
            request = prepared.requests[content.offset]
            seller = sellers[content.key.seller_id]
            issued_at = taken[series_id].issued_at
            if series_id not in dates:
                local = issued_at.astimezone(ZoneInfo(seller["time_zone"]))
                dates[series_id] = (local.date().isoformat(), micros(issued_at))
            issue_date, issued_at_micros = dates[series_id]
            printed = numbering.print_number(
                seller["number_format"], partition=batch.partition, year=int(issue_date[:4]), number=number
            )
            event = _issued_event(request, seller, series_id, number, printed, issued_at_micros, issue_date)
            payload = encode(catalog.INVOICE_ISSUED, event)
            out.events.append((content.offset, JournalRow(content.key.order_id.encode(), payload, issued_at)))
            priced = request.priced
            rows.append(
                ledger.InvoiceRow(
                    series_id,
                    number,
                    *content.key,
                    printed,
                    issued_at,
                    request.body["currency"],
                    priced.net_minor,
                    priced.tax_minor,
                    priced.gross_minor,
                    content.content_sha256,
                    content.offset,
                    0,  # The event's seq: known once all events of the batch are.
                )
            )
        return rows

    async def _write(
        self,
        connection: Connection,
        batch: Batch,
        prepared: Prepared,
        rows: list[ledger.InvoiceRow],
        out: _Out,
        now: datetime,
    ) -> None:
        # Locks are taken in the order of the topics' names here as everywhere: two agents can't wait for each other.
        dead_seq = event_seq = 0
        if prepared.dead:
            dead_seq = await journal.take_seqs(
                connection, catalog.DEAD_LETTERS.name, batch.partition, len(prepared.dead)
            )
        if out.events:
            out.events.sort(key=lambda event: event[0])
            event_seq = await journal.take_seqs(
                connection, catalog.INVOICE_EVENTS.name, batch.partition, len(out.events)
            )
            seq_of = {offset: event_seq + index for index, (offset, _) in enumerate(out.events)}
            rows = [row._replace(event_seq=seq_of[row.source_offset]) for row in rows]
        if rows:
            await ledger.insert_invoices(connection, batch.partition, rows)
        if out.refused:
            await ledger.insert_refused(connection, batch.topic, batch.partition, out.refused, now)
        if prepared.dead:
            await journal.append(connection, catalog.DEAD_LETTERS.name, batch.partition, dead_seq, prepared.dead)
        if out.events:
            await journal.append(
                connection, catalog.INVOICE_EVENTS.name, batch.partition, event_seq, [row for _, row in out.events]
            )

    def _reject(self, out: _Out, batch: Batch, content: Content, refusal: Refusal, now: datetime) -> None:
        value = {
            **content.key._asdict(),
            **_source(batch, content),
            "reason": refusal.reason,
            "detail": str(refusal),
            "occurred_at": micros(now),
        }
        out.refused.append(
            ledger.RefusedRow(content.offset, *content.key, "rejected", refusal.reason, str(refusal), None)
        )
        payload = encode(catalog.INVOICE_REQUEST_REJECTED, value)
        out.events.append((content.offset, JournalRow(content.key.order_id.encode(), payload, now)))

    def _record_conflict(self, out: _Out, batch: Batch, conflict: Conflict, now: datetime) -> None:
        content = conflict.content
        value = {
            **content.key._asdict(),
            **_source(batch, content),
            "content_sha256": content.content_sha256.hex(),
            "first_content_sha256": conflict.first_content_sha256.hex(),
            "occurred_at": micros(now),
        }
        detail = "the order id was used before with other content; the first stands"
        out.refused.append(
            ledger.RefusedRow(content.offset, *content.key, "conflict", "conflict", detail, content.content_sha256)
        )
        payload = encode(catalog.INVOICE_REQUEST_CONFLICTED, value)
        out.events.append((content.offset, JournalRow(content.key.order_id.encode(), payload, now)))


def _refuse_identity(key: OrderKey) -> Refusal | None:
    if key.kind not in invoice.KINDS:
        return Refusal("invalid-field", "kind", f"must be one of {', '.join(invoice.KINDS)}")
    if not numbering.SELLER_ID.fullmatch(key.seller_id):
        return Refusal("invalid-field", "seller_id", "must be 1 to 40 of a-z, 0-9 and -")
    return invoice.check_order_id(key.order_id)


def _series_of(
    fresh: list[Content], sellers: Mapping[str, Mapping[str, Any]], partition: int, now: datetime
) -> tuple[list[str], dict[str, tuple[str, str, int]]]:
    """The series of each fresh order, and how many numbers of each series that takes."""
    names: dict[tuple[str, str], str] = {}
    wanted: dict[str, tuple[str, str, int]] = {}
    series_of = []
    for content in fresh:
        owner = (content.key.seller_id, content.key.kind)
        if owner not in names:
            seller = sellers[owner[0]]
            year = now.astimezone(ZoneInfo(seller["time_zone"])).year
            policy = seller["numbering_policy"]
            names[owner] = numbering.series_id(*owner, policy, partition=partition, year=year)
            wanted[names[owner]] = (owner[0], policy, 0)
        series_id = names[owner]
        seller_id, policy, count = wanted[series_id]
        wanted[series_id] = (seller_id, policy, count + 1)
        series_of.append(series_id)
    return series_of, wanted


def _source(batch: Batch, content: Content) -> dict[str, Any]:
    return {
        "source_topic": batch.topic,
        "source_partition": batch.partition,
        "source_offset": content.offset,
    }


def _issued_event(
    request: Request,
    seller: Mapping[str, Any],
    series_id: str,
    number: int,
    printed: str,
    issued_at_micros: int,
    issue_date: str,
) -> dict[str, Any]:
    body, priced = request.body, request.priced
    return {
        "seller_id": body["seller_id"],
        "order_id": body["order_id"],
        "kind": body["kind"],
        "series_id": series_id,
        "number": number,
        "invoice_number": printed,
        "issued_at": issued_at_micros,
        "issue_date": issue_date,
        "currency": body["currency"],
        "note": body["note"],
        "buyer": body["buyer"],
        "seller": {
            "legal_name": seller["legal_name"],
            "vat_id": seller["vat_id"],
            "address": {name: seller[name] for name in ("street", "city", "postal_code", "country")},
            "logo_sha256": seller["logo_sha256"],
        },
        "lines": [{**line, "net_minor": net} for line, net in zip(body["lines"], priced.nets_minor, strict=True)],
        "totals": {
            "net_minor": priced.net_minor,
            "tax_minor": priced.tax_minor,
            "gross_minor": priced.gross_minor,
            "per_rate": [
                {
                    "vat_category": total.vat_category,
                    "vat_rate": total.vat_rate,
                    "taxable_minor": total.taxable_minor,
                    "tax_minor": total.tax_minor,
                }
                for total in priced.per_rate
            ],
        },
        "template_version": TEMPLATE_VERSION,
    }
