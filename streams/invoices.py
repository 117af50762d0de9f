"""The invoices agent: a batch of requests in, each order's one invoice and each refund's one credit note out."""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from typing import TypeAlias
from zoneinfo import ZoneInfo

from prometheus_client import Counter

from domain import credit, invoice, numbering
from domain.buyer import buyer_key
from domain.crediting import check_credit
from domain.dead_letter import DeadLetterReason
from domain.external import check_external, external_invoice
from domain.issuing import CREDIT_NOTE, INVOICE, NOT_INVOICED, Conflict, Content, Decision, InvoiceIdentity, decide
from domain.order import OrderIdentity
from domain.records import CreditNoteRequest, CreditRequest, InvoiceRequest
from domain.refusals import ALREADY_INVOICED, ALREADY_ORDERED, UNKNOWN_SELLER, Refusal
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
from streams.credit_book import AskedCredit, CreditBook
from streams.engine.app import Wired, run_agent
from streams.engine.batch import Batch
from streams.engine.dead_letters import dated, dead_letter
from streams.engine.dedupe_table import DedupeTable, add_dedupe_table, digest, must_look_up
from streams.engine.transport import BatchApp
from streams.engine.work import Part
from streams.invoice_events import PricedRequest, conflicted, issued, rejected

_log = logging.getLogger(__name__)
_Body: TypeAlias = InvoiceRequest | CreditNoteRequest | CreditRequest

AGENT = "invoices"
#: Some 4 s of pricing at the worst; an ordinary batch of 1,000 has a tenth of it.
BATCH_BYTES_MAX = 4 * 1024 * 1024
OUTCOMES = Counter("gapless_invoice_requests_total", "Invoice requests by outcome.", ["outcome"], registry=REGISTRY)


@dataclass(slots=True)
class PreparedInvoices:
    """A batch decoded and checked, and what the table says of it."""

    requests: dict[int, PricedRequest] = field(default_factory=dict)
    #: Requests to credit invoices that were asked for directly.
    credits: dict[int, AskedCredit] = field(default_factory=dict)
    rejected: list[tuple[Content, Refusal]] = field(default_factory=list)
    dead: list[JournalRow] = field(default_factory=list)
    digests: dict[InvoiceIdentity, bytes] = field(default_factory=dict)
    #: What order ids are wanted for: for the first that asks.
    claims: dict[OrderIdentity, order_ids.Claim] = field(default_factory=dict)
    #: Orders and refunds that must be looked up in Postgres before they count as new.
    look_up: list[InvoiceIdentity] = field(default_factory=list)
    #: The invoices of our own that the batch's credit notes correct, by their orders.
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
    """What a batch comes to: rows of the transaction, gathered before they are numbered by the journal."""

    batch: Batch
    prepared: PreparedInvoices
    decision: Decision = field(default_factory=Decision.nothing)
    #: The credit notes that were decided, by the offsets of their requests.
    credited: dict[int, PricedRequest] = field(default_factory=dict)
    rows: list[ledger.InvoiceRow] = field(default_factory=list)
    events: list[tuple[int, JournalRow]] = field(default_factory=list)
    refused: list[ledger.RefusedRow] = field(default_factory=list)


def run(settings: Settings) -> None:
    """Run an invoices worker until SIGTERM."""

    def wire(app: BatchApp) -> Wired:
        table = add_dedupe_table(app, "issued")
        if table.changelog_topic_name != catalog.INVOICES_CHANGELOG.name:
            raise ValueError(f"the catalogue does not know the changelog {table.changelog_topic_name}")
        work = InvoicesWork(table, lambda: datetime.now(UTC))
        return Wired(lambda _: work, BATCH_BYTES_MAX)

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
            refusal = _check(prepared, record.offset, key, body)
            if refusal is not None:
                prepared.rejected.append((Content(record.offset, key, b""), refusal))
                continue
            if key not in prepared.digests:
                prepared.digests[key] = _digest(key)
            _note_order(prepared, key, body)
        prepared.look_up = must_look_up(self._table, batch, prepared.digests)
        return prepared

    def distrust(self, prepared: PreparedInvoices) -> bool:
        """Look every order up, if the table had spared us some."""
        if len(prepared.look_up) == len(prepared.digests):
            return False
        prepared.look_up = list(prepared.digests)
        return True

    async def apply(self, connection: Connection, parts: Sequence[Part[PreparedInvoices]]) -> None:
        """Number the fresh requests of each batch in offset order and write everything."""
        now = await believed(connection, self._now())
        batches = [part.prepared for part in parts]
        sellers, issued_before = await ledger.read_sellers_and_issued(
            connection,
            (key.seller_id for each in batches for key in each.digests),
            [key for each in batches for key in each.look_up],
        )
        preceding = await ledger.read_preceding(connection, [key for each in batches for key in each.preceding])
        book = CreditBook(preceding, now)
        credits = [asked for each in batches for asked in each.credits.values()]
        await book.load(connection, {OrderIdentity(*asked.content.key[:2]) for asked in credits})
        issued_before = issued_before | {key: each.content_sha256 for key, each in preceding.items()} | book.asked
        owners = await _find_owners(connection, batches, sellers)
        outs = [_decide(part, sellers, owners, issued_before, book, now) for part in parts]
        invoice_numbers = {key: (each.invoice_number, _issue_date(each.event)) for key, each in preceding.items()}
        await self._issue(connection, outs, sellers, invoice_numbers, now)
        await self._write(connection, outs, now)
        await book.write(connection)
        for out in outs:
            _tell(out)

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
        outs: Sequence[_Out],
        sellers: Mapping[str, SellerRow],
        invoice_numbers: dict[InvoiceIdentity, tuple[str, str]],
        now: datetime,
    ) -> None:
        """Take exactly as many numbers as there are fresh requests, and make their rows and events.

        `invoice_numbers` has the invoices issued before that the batches' credit notes correct, as printed; those of
        the batches themselves are added.
        """
        fresh = [(out, content) for out in outs for content in out.decision.fresh]
        begun = await ledger.begun_series(connection, _next_years([content for _, content in fresh], sellers, now))
        placed = [(content, out.batch.partition) for out, content in fresh]
        series_of, wanted = _series_of(placed, sellers, now, begun)
        taken = await ledger.take_numbers(connection, wanted, now)
        numbers = numbering.assign(series_of, [each.taken for each in taken.values()])
        for (out, content), series_id, number in zip(fresh, series_of, numbers, strict=True):
            prepared, batch = out.prepared, out.batch
            prepared.numbers[content.key] = number
            request = out.credited.get(content.offset) or prepared.requests[content.offset]
            key, priced = content.key, request.priced
            seller, its = sellers[key.seller_id], taken[series_id]
            number_format = seller.number_format
            if key.kind == CREDIT_NOTE:
                number_format = numbering.credit_note_format(number_format)
            printed = numbering.print_number(
                number_format, partition=batch.partition, year=its.issue_date.year, number=number
            )
            preceding = None
            external = external_invoice(request.body) if "refund_id" in request.body else None
            if external is not None:
                preceding = external["number"], external["issue_date"]
            elif key.refund_id:
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
                priced.content_sha256,
                batch.partition,
                content.offset,
                0,  # The event's seq: known once all events of the batch are.
            )
            out.rows.append(row)
            is_refund = bool(key.refund_id) and content.offset not in prepared.credits and external is None
            is_paid = is_refund or content.offset in prepared.of_orders
            event = issued(request, seller, row, its.issue_date, preceding, is_paid=is_paid)
            traceparent = batch.traces.follow(content.offset)
            out.events.append((content.offset, JournalRow(key.order_id.encode(), event, its.issued_at, traceparent)))

    async def _write(self, connection: Connection, outs: Sequence[_Out], now: datetime) -> None:
        output: dict[journal.OutputKey, list[JournalRow]] = {}
        for out in outs:
            out.events.sort(key=lambda event: event[0])
            output[catalog.DEAD_LETTERS.name, out.batch.partition] = dated(out.prepared.dead, now)
            output[catalog.INVOICE_EVENTS.name, out.batch.partition] = [row for _, row in out.events]
        firsts = await journal.append_numbered(connection, output)
        for out in outs:
            if out.rows:
                first = firsts[catalog.INVOICE_EVENTS.name, out.batch.partition]
                seq_of = {offset: first + index for index, (offset, _) in enumerate(out.events)}
                out.rows = [row._replace(event_seq=seq_of[row.source_offset]) for row in out.rows]
        rows = [row for out in outs for row in out.rows]
        if rows:
            await ledger.insert_invoices(connection, rows)
        refused = [row for out in outs for row in out.refused]
        if refused:
            await ledger.insert_refused(connection, catalog.INVOICE_REQUESTS.name, refused, now)


async def _find_owners(
    connection: Connection, batches: Sequence[PreparedInvoices], sellers: Collection[str]
) -> dict[OrderIdentity, order_ids.Owner]:
    """Claim the order ids of what is asked for; those that are another kind's, with their owners."""
    ids = {order: claim for each in batches for order, claim in each.claims.items() if order.seller_id in sellers}
    return await order_ids.claim(connection, ids)


def _decide(
    part: Part[PreparedInvoices],
    sellers: Mapping[str, SellerRow],
    owners: Mapping[OrderIdentity, order_ids.Owner],
    issued_before: Mapping[InvoiceIdentity, bytes],
    book: CreditBook,
    now: datetime,
) -> _Out:
    """Which of a batch's requests are numbered, and what is said of the others."""
    batch, prepared = part.batch, part.prepared
    refused = list(prepared.rejected)
    known: list[Content] = []
    values = {record.offset: record.value or b"" for record in batch.records} if owners else {}
    prepared.of_orders = set()
    for content in _contents(prepared):
        order = OrderIdentity(*content.key[:2])
        owner = owners.get(order) if content.key.kind == INVOICE or content.is_external else None
        kind = owner.kind if owner is not None else prepared.claims[order].kind if order in prepared.claims else ""
        # The order's own request for its invoice equals the one in its row.
        is_own = owner is not None and owner.asks_by(sha256(values[content.offset]).digest())
        if is_own:
            prepared.of_orders.add(content.offset)
        if content.key.seller_id not in sellers:
            detail = "no such seller: create it with `gapless sellers add`"
            refused.append((content, Refusal(UNKNOWN_SELLER, "seller_id", detail)))
        elif kind and not is_own and (taken := _refuse_taken(content, kind)) is not None:
            refused.append((content, taken))
        elif content.offset in prepared.credits and OrderIdentity(*content.key[:2]) in book.checkouts:
            detail = "this invoice is a checkout's: refund its order, and the refund has its credit note"
            refused.append((content, Refusal(ALREADY_ORDERED, "order_id", detail)))
        else:
            known.append(content)
    allowed, broken = _obey_rules(prepared, known, issued_before, sellers)
    refused += broken
    out = _Out(batch, prepared)

    def accept(content: Content) -> Refusal | None:
        asked = prepared.credits.get(content.offset)
        if asked is None:
            body = prepared.requests[content.offset].body
            if prepared.credits and "kind" in body:
                book.add_invoice(content.key, body)
            return None
        note = book.decide(asked)
        if isinstance(note, Refusal):
            return note
        out.credited[content.offset] = note
        return None

    out.decision = decide(allowed, issued_before, accept)
    refused += out.decision.refused
    for content in out.decision.not_invoiced:
        detail = "the order has no invoice before this request, so there is nothing to credit"
        refused.append((content, Refusal(NOT_INVOICED, "order_id", detail)))
    for content, refusal in refused:
        _reject(out, content, refusal, now)
    for conflict in out.decision.conflicts:
        _record_conflict(out, conflict, now)
    return out


def _refuse_taken(content: Content, kind: str) -> Refusal | None:
    """What is wrong with asking for this under an order id that is of this kind."""
    if content.is_external:
        if kind == order_ids.INVOICE:
            detail = "this order_id has an invoice that was issued here: credit that, or use another one"
            return Refusal(ALREADY_INVOICED, "order_id", detail)
        if kind == order_ids.CHECKOUT:
            detail = "this order_id belongs to a checkout: refund its order, or use another one"
            return Refusal(ALREADY_ORDERED, "order_id", detail)
    elif content.key.kind == INVOICE:
        if kind == order_ids.CREDIT_NOTE:
            detail = "this order_id has a credit note of an invoice that was issued elsewhere: use another one"
            return Refusal(ALREADY_INVOICED, "order_id", detail)
        if kind == order_ids.CHECKOUT:
            detail = "this order_id belongs to a checkout, which has an invoice of its own: use another one"
            return Refusal(ALREADY_ORDERED, "order_id", detail)
    return None


def _obey_rules(
    prepared: PreparedInvoices,
    known: Sequence[Content],
    issued_before: Mapping[InvoiceIdentity, bytes],
    sellers: Mapping[str, SellerRow],
) -> tuple[list[Content], list[tuple[Content, Refusal]]]:
    """The requests that may be decided, and those that break a rule of tax.

    The rules are for what is new: not for what has its number, nor for an order's own invoice, whose checkout was held
    to them, nor for a credit note.
    """
    allowed, broken = [], []
    for content in known:
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


def _reject(out: _Out, content: Content, refusal: Refusal, now: datetime) -> None:
    key, batch = content.key, out.batch
    detail = _with_refund(out, content, str(refusal))
    row = ledger.RefusedRow(batch.partition, content.offset, *key, "rejected", refusal.reason, detail, None)
    out.refused.append(row)
    payload = rejected(batch, content, refusal.reason, detail, now)
    traceparent = batch.traces.follow(content.offset)
    out.events.append((content.offset, JournalRow(key.order_id.encode(), payload, now, traceparent)))


def _record_conflict(out: _Out, conflict: Conflict, now: datetime) -> None:
    content, batch = conflict.content, out.batch
    key = content.key
    what = _what(out, content) if key.refund_id else "order"
    detail = _with_refund(out, content, f"the {what} id was used before with other content; the first stands")
    row = ledger.RefusedRow(
        batch.partition, content.offset, *key, "conflict", "conflict", detail, content.content_sha256
    )
    out.refused.append(row)
    payload = conflicted(batch, conflict, now)
    traceparent = batch.traces.follow(content.offset)
    out.events.append((content.offset, JournalRow(key.order_id.encode(), payload, now, traceparent)))


def _tell(out: _Out) -> None:
    """Note what became of the batch, for the log and the metrics."""
    prepared, decision, logged = out.prepared, out.decision, out.batch.traces.decision
    prepared.issued = [
        logged(
            row.source_offset,
            {"seller_id": row.seller_id, "order_id": row.order_id, "kind": row.kind, "number": row.invoice_number},
        )
        for row in out.rows
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
        "rejected": len(out.refused) - len(decision.conflicts),
        "dead letter": len(prepared.dead),
    }


def _with_refund(out: _Out, content: Content, detail: str) -> str:
    # The events' schemas have no place for it.
    refund_id = content.key.refund_id
    return f"{_what(out, content)} {refund_id}: {detail}" if refund_id else detail


def _what(out: _Out, content: Content) -> str:
    return "credit note" if content.is_external or content.offset in out.prepared.credits else "refund"


def _contents(prepared: PreparedInvoices) -> list[Content]:
    """All that is asked for, in offset order."""
    contents = [each.content for each in prepared.requests.values()]
    if prepared.credits:
        contents += [each.content for each in prepared.credits.values()]
        contents.sort(key=lambda content: content.offset)
    return contents


def _check(prepared: PreparedInvoices, offset: int, key: InvoiceIdentity, body: _Body) -> Refusal | None:
    """Keep what may be issued; return what is wrong with it otherwise."""
    if "credit_note_id" in body:
        checked = check_credit(body)
        if isinstance(checked, Refusal):
            return checked
        prepared.credits[offset] = AskedCredit(Content(offset, key, checked.content_sha256), body, checked)
        return None
    is_external = False
    if "refund_id" in body:
        priced = credit.check(body)
        is_external = external_invoice(body) is not None
        refusal = check_external(body) if is_external else None
        if refusal is not None:
            return refusal
    else:
        priced = invoice.price(body)
    if isinstance(priced, Refusal):
        return priced
    prepared.requests[offset] = PricedRequest(Content(offset, key, priced.content_sha256, is_external), body, priced)
    return None


def _note_order(prepared: PreparedInvoices, key: InvoiceIdentity, body: _Body) -> None:
    """Note what the request wants its order id for, or which invoice of the order it corrects."""
    order = OrderIdentity(*key[:2])
    if "kind" in body:
        kind = order_ids.INVOICE
    elif "refund_id" in body and external_invoice(body) is not None:
        kind = order_ids.CREDIT_NOTE
    else:
        prepared.preceding[key.invoice] = None
        return
    if order not in prepared.claims:
        prepared.claims[order] = order_ids.Claim(kind, buyer_key(body["buyer"]["email"]))


def _digest(key: InvoiceIdentity) -> bytes:
    # Of an invoice as it always was: tables that are there go on being of use.
    return digest(key if key.refund_id else key[:3])


def _decode(payload: bytes | None) -> _Body:
    """Raises `DecodeError`."""
    topic = catalog.INVOICE_REQUESTS
    schema, body = decode(payload, *topic.schemas, bytes_max=topic.value_bytes_max)
    if catalog.INVOICE_REQUEST.describes(body, schema) or catalog.CREDIT_NOTE_REQUEST.describes(body, schema):
        return body
    if catalog.CREDIT_REQUEST.describes(body, schema):
        return body
    raise LookupError(f"no way to number a {schema.name}")


def _key(body: _Body) -> InvoiceIdentity:
    if "credit_note_id" in body:
        return InvoiceIdentity(body["seller_id"], body["order_id"], CREDIT_NOTE, body["credit_note_id"])
    if "refund_id" in body:
        return InvoiceIdentity(body["seller_id"], body["order_id"], CREDIT_NOTE, body["refund_id"])
    return InvoiceIdentity(body["seller_id"], body["order_id"], body["kind"])


def _refuse_key(body: _Body, key: InvoiceIdentity) -> Refusal | None:
    if "kind" in body and key.kind not in invoice.KINDS:
        return Refusal("invalid-field", "kind", f"must be one of {', '.join(invoice.KINDS)}")
    if not numbering.SELLER_ID.fullmatch(key.seller_id):
        return Refusal("invalid-field", "seller_id", "must be 1 to 40 of a-z, 0-9 and -")
    refusal = invoice.check_order_id(key.order_id)
    if refusal is None and key.kind == CREDIT_NOTE:
        refusal = credit.check_refund_id(key.refund_id)
    return refusal


def _series_of(
    fresh: Sequence[tuple[Content, int]],
    sellers: Mapping[str, SellerRow],
    now: datetime,
    begun: Collection[str],
) -> tuple[list[str], dict[str, ledger.Wanted]]:
    """The series of each fresh request, given with its partition, and how many numbers of each series that takes.

    Of the series in `begun` the next year's are gone on with: a seller who has moved back over the date line, or a
    clock that is behind, must not return to the old year's.
    """
    names: dict[tuple[str, str, int], str] = {}
    wanted: dict[str, ledger.Wanted] = {}
    series_of = []
    for content, partition in fresh:
        seller_id, kind = content.key.seller_id, content.key.kind
        owner = (seller_id, kind, partition)
        if owner not in names:
            seller = sellers[seller_id]
            today = now.astimezone(ZoneInfo(seller.time_zone)).date()
            policy = seller.numbering_policy
            its = partial(numbering.series_id, seller_id, kind, policy, partition=partition)
            next_years = its(year=today.year + 1)
            names[owner] = next_years if next_years in begun else its(year=today.year)
            # Of a series in one run over all partitions once.
            wanted.setdefault(names[owner], ledger.Wanted(seller_id, policy, today, 0))
        series_id = names[owner]
        wanted[series_id] = wanted[series_id]._replace(numbers=wanted[series_id].numbers + 1)
        series_of.append(series_id)
    return series_of, wanted


def _next_years(fresh: Sequence[Content], sellers: Mapping[str, SellerRow], now: datetime) -> set[str]:
    """The series of the year to come, of sellers who number by the year."""
    found = set()
    for seller_id, kind in {(content.key.seller_id, content.key.kind) for content in fresh}:
        seller = sellers[seller_id]
        if seller.numbering_policy == numbering.CONTINUOUS:
            year = now.astimezone(ZoneInfo(seller.time_zone)).year + 1
            found.add(numbering.series_id(seller_id, kind, numbering.CONTINUOUS, partition=0, year=year))
    return found
