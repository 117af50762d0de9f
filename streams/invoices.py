"""The invoices agent: a batch of requests in, each order's one invoice and each refund's one credit note out."""

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from zoneinfo import ZoneInfo

from prometheus_client import Counter

from domain import credit, invoice, numbering
from domain.buyer import buyer_key
from domain.dead_letter import DeadLetterReason
from domain.issuing import CREDIT_NOTE, INVOICE, NOT_INVOICED, Conflict, Content, Decision, InvoiceIdentity, decide
from domain.order import OrderIdentity
from domain.records import CreditNoteRequest, InvoiceRequest
from domain.refusals import ALREADY_ORDERED, UNKNOWN_SELLER, Refusal
from domain.rules import check_rules
from runtime.logs import tell_decisions
from runtime.metrics import REGISTRY
from runtime.settings import Settings
from schemas import catalog
from schemas.codec import DecodeError, decode, decode_field
from sinks.postgres import invoices as ledger
from sinks.postgres import journal, order_ids
from sinks.postgres.journal import JournalRow
from sinks.postgres.sellers import SellerRow
from sinks.postgres.session import Connection, believed
from streams.engine.app import Wired, run_agent
from streams.engine.batch import Batch
from streams.engine.dead_letters import dated, dead_letter
from streams.engine.dedupe_table import DedupeTable, add_dedupe_table, digest, must_look_up
from streams.engine.transport import BatchApp
from streams.invoice_events import PricedRequest, conflicted, issued, rejected

_log = logging.getLogger(__name__)

AGENT = "invoices"
#: Some 4 s of pricing at the worst; an ordinary batch of 1,000 has a tenth of it.
BATCH_BYTES_MAX = 4 * 1024 * 1024
#: Somebody may be waiting for the number, and it is the only transaction on its way.
_PACE_S = (0.1, 0.1)

OUTCOMES = Counter("gapless_invoice_requests_total", "Invoice requests by outcome.", ["outcome"], registry=REGISTRY)


@dataclass(slots=True)
class PreparedInvoices:
    """A batch decoded and checked, and what the table says of it."""

    requests: dict[int, PricedRequest] = field(default_factory=dict)
    rejected: list[tuple[Content, Refusal]] = field(default_factory=list)
    dead: list[JournalRow] = field(default_factory=list)
    digests: dict[InvoiceIdentity, bytes] = field(default_factory=dict)
    #: Of invoices alone.
    buyer_keys: dict[InvoiceIdentity, int] = field(default_factory=dict)
    #: Orders and refunds that must be looked up in Postgres before they count as new.
    look_up: list[InvoiceIdentity] = field(default_factory=list)
    #: The invoices that the batch's credit notes correct, by their orders.
    preceding: dict[InvoiceIdentity, None] = field(default_factory=dict)
    #: Offsets of the requests for invoices that are confirmed orders' own.
    of_orders: set[int] = field(default_factory=set)
    numbers: dict[InvoiceIdentity, int] = field(default_factory=dict)
    outcomes: dict[str, int] = field(default_factory=dict)
    #: What became of each request that was decided, for the log.
    issued: list[Mapping[str, object]] = field(default_factory=list)
    refused: list[Mapping[str, object]] = field(default_factory=list)


@dataclass(slots=True)
class _Out:
    """Rows of one transaction, gathered before they are numbered by the journal."""

    events: list[tuple[int, JournalRow]] = field(default_factory=list)
    refused: list[ledger.RefusedRow] = field(default_factory=list)


def run(settings: Settings) -> None:
    """Run an invoices worker until SIGTERM."""

    def wire(app: BatchApp) -> Wired:
        table = add_dedupe_table(app, "issued")
        if table.changelog_topic_name != catalog.INVOICES_CHANGELOG.name:
            raise ValueError(f"the catalogue does not know the changelog {table.changelog_topic_name}")
        work = InvoicesWork(table, lambda: datetime.now(UTC))
        return Wired(lambda _: work, BATCH_BYTES_MAX, pace_s=_PACE_S)

    run_agent(AGENT, settings, wire)


class InvoicesWork:
    """Numbers what is new, once, in the transaction that writes it."""

    agent = AGENT
    outages: tuple[type[Exception], ...] = ()

    def __init__(self, table: DedupeTable, now: Callable[[], datetime]) -> None:
        self._table = table
        self._now = now

    async def prepare(self, batch: Batch) -> PreparedInvoices:
        """Decode, price, and ask the table which orders may be old."""
        prepared = PreparedInvoices()
        now = self._now()
        for record in batch.records:
            try:
                body = _decode(record.value)
            except DecodeError as error:
                prepared.dead.append(dead_letter(AGENT, batch, record, DeadLetterReason.UNDECODABLE, str(error), now))
                continue
            key = _key(body)
            refusal = _refuse_key(body, key)
            if refusal is not None:
                # Its identity can't be stored, so it can't be shown under it either.
                prepared.dead.append(dead_letter(AGENT, batch, record, DeadLetterReason.UNDECODABLE, str(refusal), now))
                continue
            priced = credit.check(body) if "refund_id" in body else invoice.price(body)
            if isinstance(priced, Refusal):
                prepared.rejected.append((Content(record.offset, key, b""), priced))
                continue
            prepared.requests[record.offset] = PricedRequest(
                Content(record.offset, key, priced.content_sha256), body, priced
            )
            if key not in prepared.digests:
                prepared.digests[key] = _digest(key)
                if key.refund_id:
                    prepared.preceding[key.invoice] = None
                else:
                    prepared.buyer_keys[key] = buyer_key(body["buyer"]["email"])
        prepared.look_up = must_look_up(self._table, batch, prepared.digests)
        return prepared

    def distrust(self, prepared: PreparedInvoices) -> bool:
        """Look every order up, if the table had spared us some."""
        if len(prepared.look_up) == len(prepared.digests):
            return False
        prepared.look_up = list(prepared.digests)
        return True

    async def apply(self, connection: Connection, batch: Batch, prepared: PreparedInvoices) -> None:
        """Number the fresh requests in offset order and write everything."""
        now = await believed(connection, self._now())
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
        ordered, prepared.of_orders = await _find_ordered(connection, batch, prepared, known)
        allowed, broken = _obey_rules(prepared, known, ordered, issued_before, sellers)
        decision = decide(allowed, issued_before)
        for content, refusal in prepared.rejected:
            self._reject(out, batch, content, refusal, now)
        for content in unknown:
            detail = "no such seller: create it with `gapless sellers add`"
            self._reject(out, batch, content, Refusal(UNKNOWN_SELLER, "seller_id", detail), now)
        for content in ordered.values():
            detail = "this order_id belongs to a checkout, which has an invoice of its own: use another one"
            self._reject(out, batch, content, Refusal(ALREADY_ORDERED, "order_id", detail), now)
        for content, refusal in broken:
            self._reject(out, batch, content, refusal, now)
        for content in decision.not_invoiced:
            detail = "the order has no invoice before this request, so there is nothing to credit"
            self._reject(out, batch, content, Refusal(NOT_INVOICED, "order_id", detail), now)
        for conflict in decision.conflicts:
            self._record_conflict(out, batch, conflict, now)
        invoice_numbers = {key: (each.invoice_number, _issue_date(each.event)) for key, each in preceding.items()}
        rows = await self._issue(connection, batch, prepared, decision, sellers, invoice_numbers, now, out)
        await self._write(connection, batch, prepared, rows, out, now)
        logged = batch.traces.decision
        prepared.issued = [
            logged(
                row.source_offset,
                {"seller_id": row.seller_id, "order_id": row.order_id, "kind": row.kind, "number": row.invoice_number},
            )
            for row in rows
        ]
        prepared.refused = [
            logged(
                row.log_offset,
                {
                    "seller_id": row.seller_id,
                    "order_id": row.order_id,
                    "kind": row.kind,
                    "outcome": row.outcome,
                    "reason": row.reason,
                },
            )
            for row in out.refused
        ]
        prepared.outcomes = {
            "issued": len(decision.fresh),
            "repeat": decision.repeats,
            "conflict": len(decision.conflicts),
            "rejected": len(prepared.rejected) + len(unknown) + len(ordered) + len(broken) + len(decision.not_invoiced),
            "dead letter": len(prepared.dead),
        }

    async def committed(self, batch: Batch, prepared: PreparedInvoices) -> None:
        """Mark the table. Not before: a mark without its commit would be believed by nobody, but cost a look-up."""
        pairs = [(prepared.digests[key], number) for key, number in prepared.numbers.items()]
        self._table.mark(batch.partition, batch.first_offset, batch.next_offset, pairs)
        for outcome, count in prepared.outcomes.items():
            OUTCOMES.labels(outcome).inc(count)
        tell_decisions(_log, "issued", prepared.issued)
        tell_decisions(_log, "not issued", prepared.refused)

    async def _issue(
        self,
        connection: Connection,
        batch: Batch,
        prepared: PreparedInvoices,
        decision: Decision,
        sellers: Mapping[str, SellerRow],
        invoice_numbers: dict[InvoiceIdentity, tuple[str, str]],
        now: datetime,
        out: _Out,
    ) -> list[ledger.InvoiceRow]:
        """Take exactly as many numbers as there are fresh requests, and make their rows and events.

        `invoice_numbers` has the invoices issued before that the batch's credit notes correct, as printed; those of
        the batch itself are added.
        """
        fresh = decision.fresh
        begun = await ledger.begun_series(connection, _next_years(fresh, sellers, now))
        series_of, wanted = _series_of(fresh, sellers, batch.partition, now, begun)
        taken = await ledger.take_numbers(connection, wanted, now)
        numbers = numbering.assign(series_of, [each.taken for each in taken.values()])
        prepared.numbers = {content.key: number for content, number in zip(fresh, numbers, strict=True)}
        rows = []
        for content, series_id, number in zip(fresh, series_of, numbers, strict=True):
            request = prepared.requests[content.offset]
            key, priced = content.key, request.priced
            seller, its = sellers[key.seller_id], taken[series_id]
            number_format = seller.number_format
            if key.kind == CREDIT_NOTE:
                number_format = numbering.credit_note_format(number_format)
            printed = numbering.print_number(
                number_format, partition=batch.partition, year=its.issue_date.year, number=number
            )
            preceding = None
            if key.refund_id:
                preceding = invoice_numbers[key.invoice]
            elif prepared.preceding:
                invoice_numbers[key] = (printed, its.issue_date.isoformat())
            row = ledger.InvoiceRow(
                series_id,
                number,
                *key,
                printed,
                its.issued_at,
                request.body["currency"],
                priced.net_minor,
                priced.tax_minor,
                priced.gross_minor,
                content.content_sha256,
                content.offset,
                0,  # The event's seq: known once all events of the batch are.
            )
            rows.append(row)
            was_ordered = content.offset in prepared.of_orders
            event = issued(request, seller, row, its.issue_date, preceding, was_ordered=was_ordered)
            traceparent = batch.traces.follow(content.offset)
            out.events.append((content.offset, JournalRow(key.order_id.encode(), event, its.issued_at, traceparent)))
        return rows

    async def _write(
        self,
        connection: Connection,
        batch: Batch,
        prepared: PreparedInvoices,
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
            await journal.append(
                connection, catalog.DEAD_LETTERS.name, batch.partition, dead_seq, dated(prepared.dead, now)
            )
        if out.events:
            await journal.append(
                connection, catalog.INVOICE_EVENTS.name, batch.partition, event_seq, [row for _, row in out.events]
            )

    def _reject(self, out: _Out, batch: Batch, content: Content, refusal: Refusal, now: datetime) -> None:
        key = content.key
        detail = _with_refund(key, str(refusal))
        out.refused.append(ledger.RefusedRow(content.offset, *key, "rejected", refusal.reason, detail, None))
        payload = rejected(batch, content, refusal.reason, detail, now)
        traceparent = batch.traces.follow(content.offset)
        out.events.append((content.offset, JournalRow(key.order_id.encode(), payload, now, traceparent)))

    def _record_conflict(self, out: _Out, batch: Batch, conflict: Conflict, now: datetime) -> None:
        content, key = conflict.content, conflict.content.key
        what = "refund" if key.refund_id else "order"
        detail = _with_refund(key, f"the {what} id was used before with other content; the first stands")
        out.refused.append(
            ledger.RefusedRow(content.offset, *key, "conflict", "conflict", detail, content.content_sha256)
        )
        payload = conflicted(batch, conflict, now)
        traceparent = batch.traces.follow(content.offset)
        out.events.append((content.offset, JournalRow(key.order_id.encode(), payload, now, traceparent)))


async def _find_ordered(
    connection: Connection, batch: Batch, prepared: PreparedInvoices, known: list[Content]
) -> tuple[dict[int, Content], set[int]]:
    """The requests for invoices whose order ids are checkouts': by offset those of others, and offsets of their own."""
    wanted = [content for content in known if content.key.kind == INVOICE]
    ids = {OrderIdentity(*content.key[:2]): prepared.buyer_keys[content.key] for content in wanted}
    owners = await order_ids.claim(connection, order_ids.INVOICE, ids)
    if not owners:
        return {}, set()
    values = {record.offset: record.value or b"" for record in batch.records}
    ordered: dict[int, Content] = {}
    own: set[int] = set()
    for content in wanted:
        owner = owners.get(OrderIdentity(*content.key[:2]))
        if owner is None:
            continue
        if owner.asks_by(sha256(values[content.offset]).digest()):
            own.add(content.offset)
        else:
            ordered[content.offset] = content
    return ordered, own


def _obey_rules(
    prepared: PreparedInvoices,
    known: list[Content],
    ordered: Mapping[int, Content],
    issued_before: Mapping[InvoiceIdentity, bytes],
    sellers: Mapping[str, SellerRow],
) -> tuple[list[Content], list[tuple[Content, Refusal]]]:
    """The requests that may be decided, and those that break a rule of tax.

    The rules are for what is new: not for what has its number, nor for an order's own invoice, whose checkout was held
    to them, nor for a credit note.
    """
    allowed, broken = [], []
    for content in known:
        if content.offset in ordered:
            continue
        key = content.key
        if key.kind == INVOICE and key not in issued_before and content.offset not in prepared.of_orders:
            request = prepared.requests[content.offset]
            refusal = check_rules(request.body, request.priced, sellers[key.seller_id].facts)
            if refusal is not None:
                broken.append((content, refusal))
                continue
        allowed.append(content)
    return allowed, broken


def _issue_date(event: bytes | None) -> str:
    """The date that an invoice bears; empty if its event is gone."""
    if event is None:
        return ""
    date: str = decode_field(event, catalog.INVOICE_ISSUED, "issue_date", bytes_max=len(event))
    return date


def _with_refund(key: InvoiceIdentity, detail: str) -> str:
    # The events' schemas have no place for it.
    return f"refund {key.refund_id}: {detail}" if key.refund_id else detail


def _digest(key: InvoiceIdentity) -> bytes:
    # Of an invoice as it always was: tables that are there go on being of use.
    return digest(key if key.refund_id else key[:3])


def _decode(payload: bytes | None) -> InvoiceRequest | CreditNoteRequest:
    """Raises `DecodeError`."""
    topic = catalog.INVOICE_REQUESTS
    schema, body = decode(payload, *topic.schemas, bytes_max=topic.value_bytes_max)
    if catalog.INVOICE_REQUEST.describes(body, schema) or catalog.CREDIT_NOTE_REQUEST.describes(body, schema):
        return body
    raise LookupError(f"no way to number a {schema.name}")


def _key(body: InvoiceRequest | CreditNoteRequest) -> InvoiceIdentity:
    if "refund_id" in body:
        return InvoiceIdentity(body["seller_id"], body["order_id"], CREDIT_NOTE, body["refund_id"])
    return InvoiceIdentity(body["seller_id"], body["order_id"], body["kind"])


def _refuse_key(body: InvoiceRequest | CreditNoteRequest, key: InvoiceIdentity) -> Refusal | None:
    if "refund_id" not in body and key.kind not in invoice.KINDS:
        return Refusal("invalid-field", "kind", f"must be one of {', '.join(invoice.KINDS)}")
    if not numbering.SELLER_ID.fullmatch(key.seller_id):
        return Refusal("invalid-field", "seller_id", "must be 1 to 40 of a-z, 0-9 and -")
    refusal = invoice.check_order_id(key.order_id)
    if refusal is None and "refund_id" in body:
        refusal = credit.check_refund_id(body["refund_id"])
    return refusal


def _series_of(
    fresh: list[Content],
    sellers: Mapping[str, SellerRow],
    partition: int,
    now: datetime,
    begun: Collection[str],
) -> tuple[list[str], dict[str, ledger.Wanted]]:
    """The series of each fresh request, and how many numbers of each series that takes.

    Of the series in `begun` the next year's are gone on with: a seller who has moved back over the date line, or a
    clock that is behind, must not return to the old year's.
    """
    names: dict[tuple[str, str], str] = {}
    wanted: dict[str, ledger.Wanted] = {}
    series_of = []
    for content in fresh:
        owner = (content.key.seller_id, content.key.kind)
        if owner not in names:
            seller = sellers[owner[0]]
            today = now.astimezone(ZoneInfo(seller.time_zone)).date()
            policy = seller.numbering_policy
            its = partial(numbering.series_id, *owner, policy, partition=partition)
            next_years = its(year=today.year + 1)
            names[owner] = next_years if next_years in begun else its(year=today.year)
            wanted[names[owner]] = ledger.Wanted(owner[0], policy, today, 0)
        series_id = names[owner]
        wanted[series_id] = wanted[series_id]._replace(numbers=wanted[series_id].numbers + 1)
        series_of.append(series_id)
    return series_of, wanted


def _next_years(fresh: list[Content], sellers: Mapping[str, SellerRow], now: datetime) -> set[str]:
    """The series of the year to come, of sellers who number by the year."""
    found = set()
    for seller_id, kind in {(content.key.seller_id, content.key.kind) for content in fresh}:
        seller = sellers[seller_id]
        if seller.numbering_policy == numbering.CONTINUOUS:
            year = now.astimezone(ZoneInfo(seller.time_zone)).year + 1
            found.add(numbering.series_id(seller_id, kind, numbering.CONTINUOUS, partition=0, year=year))
    return found
