"""The invoices agent: a batch of requests in, each order's one invoice and each refund's one credit note out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from prometheus_client import Counter

from domain import credit, invoice, numbering
from domain.issuing import CREDIT_NOTE, NOT_INVOICED, Conflict, Content, Decision, OrderKey, decide
from domain.refusals import UNKNOWN_SELLER, Refusal
from runtime.metrics import REGISTRY
from runtime.settings import Settings
from schemas import catalog
from schemas.codec import DecodeError, decode
from sinks.postgres import invoices as ledger
from sinks.postgres import journal
from sinks.postgres.journal import JournalRow
from sinks.postgres.session import Connection
from streams.app import Wired, run_agent
from streams.batch import Batch
from streams.dead_letters import dead_letter, micros
from streams.dedupe_table import DedupeTable, add_dedupe_table, digest, must_look_up
from streams.invoice_events import Issue, Request, conflicted, issued, rejected
from streams.transport import BatchApp

AGENT = "invoices"
#: Some 4 s of pricing at the worst; an ordinary batch of 1,000 has a tenth of it.
BATCH_BYTES_MAX = 4 * 1024 * 1024
#: Somebody may be waiting for the number, and it is the only transaction on its way.
_PACE_S = (0.1, 0.1)

OUTCOMES = Counter(
    "gapless_invoice_requests_total", "Invoice requests by what became of them.", ["outcome"], registry=REGISTRY
)


@dataclass(slots=True)
class Prepared:
    """A batch decoded and checked, and what the table says of it."""

    requests: dict[int, Request] = field(default_factory=dict)
    rejected: list[tuple[Content, Refusal]] = field(default_factory=list)
    dead: list[JournalRow] = field(default_factory=list)
    digests: dict[OrderKey, bytes] = field(default_factory=dict)
    #: Orders and refunds that must be looked up in Postgres before they count as new.
    look_up: list[OrderKey] = field(default_factory=list)
    #: The invoices that the batch's credit notes correct, by their orders.
    preceding: dict[OrderKey, None] = field(default_factory=dict)
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
        work = InvoicesWork(table, lambda: datetime.now(UTC))
        return Wired((catalog.INVOICE_REQUESTS,), work, BATCH_BYTES_MAX, pace_s=_PACE_S)

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
                schema, body = decode(
                    record.value, *catalog.INVOICE_REQUESTS.schemas, bytes_max=catalog.INVOICE_REQUESTS.value_bytes_max
                )
            except DecodeError as error:
                prepared.dead.append(dead_letter(AGENT, batch, record, str(error), now))
                continue
            if schema is catalog.CREDIT_NOTE_REQUEST:
                body["kind"] = CREDIT_NOTE
                key = OrderKey(body["seller_id"], body["order_id"], CREDIT_NOTE, body["refund_id"])
                refusal = _refuse_identity(key) or credit.check_refund_id(key.refund_id)
            else:
                key = OrderKey(body["seller_id"], body["order_id"], body["kind"])
                refusal = _refuse_kind(key) or _refuse_identity(key)
            if refusal is not None:
                # Its identity can't be stored, so it can't be shown under it either.
                prepared.dead.append(dead_letter(AGENT, batch, record, str(refusal), now))
                continue
            priced = credit.check(body) if key.refund_id else invoice.price(body)
            if isinstance(priced, Refusal):
                prepared.rejected.append((Content(record.offset, key, b""), priced))
                continue
            prepared.requests[record.offset] = Request(Content(record.offset, key, priced.content_sha256), body, priced)
            if key not in prepared.digests:
                prepared.digests[key] = _digest(key)
                if key.refund_id:
                    prepared.preceding[key.invoice] = None
        prepared.look_up = must_look_up(self._table, batch, prepared.digests)
        return prepared

    def distrust(self, prepared: Prepared) -> bool:
        """Look every order up, if the table had spared us some."""
        if len(prepared.look_up) == len(prepared.digests):
            return False
        prepared.look_up = list(prepared.digests)
        return True

    async def apply(self, connection: Connection, batch: Batch, prepared: Prepared) -> None:
        """Number the fresh requests in offset order and write everything."""
        now = self._now()
        sellers, issued_before = await ledger.read_sellers_and_issued(
            connection, (key.seller_id for key in prepared.digests), prepared.look_up
        )
        preceding = await ledger.read_preceding(connection, list(prepared.preceding))
        issued_before = issued_before | {key: each.content_sha256 for key, each in preceding.items()}
        out = _Out()
        known: list[Content] = []
        unknown: list[Content] = []
        for request in prepared.requests.values():
            (known if request.content.key.seller_id in sellers else unknown).append(request.content)
        decision = decide(known, issued_before)
        for content, refusal in prepared.rejected:
            self._reject(out, batch, content, refusal, now)
        for content in unknown:
            detail = "no such seller: create it with `gapless sellers add`"
            self._reject(out, batch, content, Refusal(UNKNOWN_SELLER, "seller_id", detail), now)
        for content in decision.not_invoiced:
            detail = "the order has no invoice before this request, so there is nothing to credit"
            self._reject(out, batch, content, Refusal(NOT_INVOICED, "order_id", detail), now)
        for conflict in decision.conflicts:
            self._record_conflict(out, batch, conflict, now)
        invoice_numbers = {key: each.invoice_number for key, each in preceding.items()}
        rows = await self._issue(connection, batch, prepared, decision, sellers, invoice_numbers, now, out)
        await self._write(connection, batch, prepared, rows, out, now)
        prepared.outcomes = {
            "issued": len(decision.fresh),
            "repeat": decision.repeats,
            "conflict": len(decision.conflicts),
            "rejected": len(prepared.rejected) + len(unknown) + len(decision.not_invoiced),
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
        decision: Decision,
        sellers: Mapping[str, Mapping[str, Any]],
        invoice_numbers: dict[OrderKey, str],
        now: datetime,
        out: _Out,
    ) -> list[ledger.InvoiceRow]:
        """Take exactly as many numbers as there are fresh requests, and make their rows and events.

        `invoice_numbers` has the invoices issued before that the batch's credit notes correct, as printed; those of
        the batch itself are added.
        """
        fresh = decision.fresh
        series_of, wanted = _series_of(fresh, sellers, batch.partition, now)
        taken = await ledger.take_numbers(connection, wanted, now)
        numbers = numbering.assign(series_of, [each.taken for each in taken.values()])
        prepared.numbers = {content.key: number for content, number in zip(fresh, numbers, strict=True)}
        series: dict[str, _Series] = {}
        rows = []
        for content, series_id, number in zip(fresh, series_of, numbers, strict=True):
            request = prepared.requests[content.offset]
            key = content.key
            seller = sellers[key.seller_id]
            issued_at = taken[series_id].issued_at
            if series_id not in series:
                series[series_id] = _Series.of(seller, key.kind, issued_at)
            its = series[series_id]
            printed = numbering.print_number(
                its.number_format, partition=batch.partition, year=int(its.issue_date[:4]), number=number
            )
            if key.refund_id:
                preceding = invoice_numbers[key.invoice]
            else:
                preceding = None
                if prepared.preceding:
                    invoice_numbers[key] = printed
            issue = Issue(series_id, number, printed, its.issued_at_micros, its.issue_date, preceding)
            out.events.append(
                (content.offset, JournalRow(key.order_id.encode(), issued(request, seller, issue), issued_at))
            )
            priced = request.priced
            rows.append(
                ledger.InvoiceRow(
                    series_id,
                    number,
                    *key,
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
        key = content.key
        detail = _with_refund(key, str(refusal))
        out.refused.append(ledger.RefusedRow(content.offset, *key, "rejected", refusal.reason, detail, None))
        payload = rejected(batch, content, refusal.reason, detail, now)
        out.events.append((content.offset, JournalRow(key.order_id.encode(), payload, now)))

    def _record_conflict(self, out: _Out, batch: Batch, conflict: Conflict, now: datetime) -> None:
        content, key = conflict.content, conflict.content.key
        what = "refund" if key.refund_id else "order"
        detail = _with_refund(key, f"the {what} id was used before with other content; the first stands")
        out.refused.append(
            ledger.RefusedRow(content.offset, *key, "conflict", "conflict", detail, content.content_sha256)
        )
        payload = conflicted(batch, conflict, now)
        out.events.append((content.offset, JournalRow(key.order_id.encode(), payload, now)))


@dataclass(frozen=True, slots=True)
class _Series:
    """What the documents that a batch adds to a series have in common."""

    number_format: str
    issue_date: str
    issued_at_micros: int

    @classmethod
    def of(cls, seller: Mapping[str, Any], kind: str, issued_at: datetime) -> "_Series":
        number_format = seller["number_format"]
        if kind == CREDIT_NOTE:
            number_format = numbering.credit_note_format(number_format)
        local = issued_at.astimezone(ZoneInfo(seller["time_zone"]))
        return cls(number_format, local.date().isoformat(), micros(issued_at))


def _with_refund(key: OrderKey, detail: str) -> str:
    # The events' schemas have no place for it.
    return f"refund {key.refund_id}: {detail}" if key.refund_id else detail


def _digest(key: OrderKey) -> bytes:
    # Of an invoice as it always was: tables that are there go on being of use.
    return digest(key if key.refund_id else key[:3])


def _refuse_kind(key: OrderKey) -> Refusal | None:
    if key.kind not in invoice.KINDS:
        return Refusal("invalid-field", "kind", f"must be one of {', '.join(invoice.KINDS)}")
    return None


def _refuse_identity(key: OrderKey) -> Refusal | None:
    if not numbering.SELLER_ID.fullmatch(key.seller_id):
        return Refusal("invalid-field", "seller_id", "must be 1 to 40 of a-z, 0-9 and -")
    return invoice.check_order_id(key.order_id)


def _series_of(
    fresh: list[Content], sellers: Mapping[str, Mapping[str, Any]], partition: int, now: datetime
) -> tuple[list[str], dict[str, tuple[str, str, int]]]:
    """The series of each fresh request, and how many numbers of each series that takes."""
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
