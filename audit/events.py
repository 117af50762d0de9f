"""Compares the journal's events with the rows that were written with them."""

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from datetime import datetime
from typing import Any, LiteralString, NamedTuple, TypeAlias

from audit import statements
from audit.arithmetic import check_credit, check_sums
from audit.dead_letters import DeadLetters
from audit.issued_invoices import IssuedInvoice, invoices_of
from audit.outcomes import RefusedRequestRow
from audit.report import AuditReport
from audit.snapshot import Snapshot, difference
from domain import credit
from domain.invoice import Priced, price
from domain.issuing import INVOICE, InvoiceIdentity
from domain.moments import micros
from domain.records import (
    CreditNoteIssued,
    CreditNoteRequest,
    DeadLetter,
    InvoiceDocumentStored,
    InvoiceIssued,
    InvoiceRequest,
    InvoiceRequestConflicted,
    InvoiceRequestRejected,
)
from schemas import catalog
from schemas.codec import DecodeError, decode, encode

_Issued: TypeAlias = InvoiceIssued | CreditNoteIssued
_RefusedEvent: TypeAlias = InvoiceRequestConflicted | InvoiceRequestRejected


class JournalEntry(NamedTuple):
    """A row of the journal, within its partition."""

    seq: int
    key: bytes | None
    payload: bytes
    occurred_at: datetime


#: Receives a partition, a row of the journal, its schema and its decoded event.
TakeEvent = Callable[[int, JournalEntry, catalog.Schema[Any], Mapping[str, object]], None]


class EventCheck:
    """Compares each row of the journal with the ledger; then `finish` reports rows of the ledger without an event."""

    def __init__(
        self,
        snapshot: Snapshot,
        report: AuditReport,
        dead_letters: Mapping[tuple[str, str], DeadLetters],
        dates: MutableMapping[tuple[str, int], tuple[int, str]],
        take: TakeEvent = lambda *_: None,
    ) -> None:
        """`dead_letters` is filled for each agent and topic that it contains.

        `dates` has the last number seen and its date, by series and partition; `take` receives each event.
        """
        self._snapshot = snapshot
        self._report = report
        self._dead_letters = dead_letters
        self._dates = dates
        self._take = take
        self._refused = 0
        self._documents = 0

    def check(self, topic: str, partition: int, entries: Sequence[JournalEntry]) -> None:
        """Compare rows of one journal partition."""
        issued: list[tuple[JournalEntry, _Issued]] = []
        stored: list[tuple[JournalEntry, InvoiceDocumentStored]] = []
        refused: list[tuple[JournalEntry, _RefusedEvent]] = []
        conflicted, rejected = catalog.INVOICE_REQUEST_CONFLICTED, catalog.INVOICE_REQUEST_REJECTED
        its_topic = catalog.TOPICS.get(topic)
        for entry in entries:
            try:
                if its_topic is None:
                    raise DecodeError("the topic is not in the catalogue")
                schema, event = decode(entry.payload, *its_topic.schemas, bytes_max=its_topic.value_bytes_max)
            except DecodeError as error:
                self._report.add("journal", f"{topic}/{partition} seq {entry.seq}", f"can't be decoded: {error}")
                continue
            self._take(partition, entry, schema, event)
            if catalog.DEAD_LETTER.describes(event, schema):
                self._take_dead_letter(event)
                continue
            if entry.key != str(event["order_id"]).encode():
                self._report.add("event", f"{topic}/{partition} seq {entry.seq}", "its key is not its order id")
            if catalog.is_issued(event, schema):
                issued.append((entry, event))
            elif catalog.INVOICE_DOCUMENT_STORED.describes(event, schema):
                stored.append((entry, event))
            elif conflicted.describes(event, schema) or rejected.describes(event, schema):
                refused.append((entry, event))
        self._check_issued(partition, issued)
        self._check_stored(partition, stored)
        self._check_refused(partition, refused)

    def finish(self) -> None:
        """Compare counts: each refusal and each document has exactly one event."""
        rows = self._snapshot.count(statements.COUNT_REFUSED_ALL, topic=catalog.INVOICE_REQUESTS.name)
        if rows != self._refused:
            self._report.add("event", "refused requests", f"{rows} rows, but {self._refused} events that agree")
        documents = self._snapshot.count("SELECT count(*) FROM documents")
        if documents != self._documents:
            self._report.add("event", "documents", f"{documents} rows, but {self._documents} events that agree")

    def _take_dead_letter(self, event: DeadLetter) -> None:
        self._report.counts[f"dead letters of {event['agent']}"] += 1
        letters = self._dead_letters.get((event["agent"], event["source_topic"]))
        if letters is not None:
            letters.add(event["source_partition"], event["source_offset"], event["key"], event["value"])

    def _check_issued(self, partition: int, issued: Sequence[tuple[JournalEntry, _Issued]]) -> None:
        rows = self._by_number(
            statements.INVOICES_BY_NUMBER, [(event["series_id"], event["number"]) for _, event in issued]
        )
        credit_notes = [event for _, event in issued if "refund_id" in event]
        preceding = invoices_of(
            self._snapshot, [InvoiceIdentity(each["seller_id"], each["order_id"], INVOICE) for each in credit_notes]
        )
        for entry, event in issued:
            where = f"series {event['series_id']} number {event['number']}"
            self._check_date(partition, event, where)
            for what in check_credit(event) if "refund_id" in event else check_sums(event):
                self._report.add("money", where, what)
            row = rows.get((event["series_id"], event["number"]))
            if row is None:
                self._report.add("gap", where, f"has an event at seq {entry.seq}, but no row")
                continue
            asked = _asked(event)
            priced = credit.check(asked) if "refund_id" in asked else price(asked)
            expected = {
                "seller_id": event["seller_id"],
                "order_id": event["order_id"],
                "kind": event["kind"],
                "invoice_number": event["invoice_number"],
                "currency": event["currency"],
                "refund_id": event.get("refund_id", ""),
                "event_seq": entry.seq,
                "source_partition": partition,
                "issued_at": entry.occurred_at,
                # The digest of the order in the event must equal that of the request.
                "content_sha256": priced.content_sha256 if isinstance(priced, Priced) else b"",
            }
            totals = event["totals"]
            sums = {
                "net_minor": totals["net_minor"],
                "tax_minor": totals["tax_minor"],
                "gross_minor": totals["gross_minor"],
            }
            if wrong := difference(expected, row):
                self._report.add("event", where, f"the row differs from event seq {entry.seq}: {wrong}")
            if wrong := difference(sums, row):
                self._report.add("money", where, f"the row differs from event seq {entry.seq}: {wrong}")
            if event["issued_at"] != micros(entry.occurred_at):
                self._report.add("event", where, f"event seq {entry.seq} occurred at another time than it says")
            if "refund_id" in event:
                invoice = preceding.get(InvoiceIdentity(event["seller_id"], event["order_id"], INVOICE))
                if wrong := _preceding_wrong(event, row, invoice):
                    self._report.add("event", where, wrong)

    def _check_date(self, partition: int, event: _Issued, where: str) -> None:
        series = (event["series_id"], partition)
        number, date = self._dates.get(series, (0, ""))
        if event["number"] > number:
            if event["issue_date"] < date:
                self._report.add("date", where, f"is dated {event['issue_date']}, number {number} {date}")
            self._dates[series] = (event["number"], event["issue_date"])

    def _check_stored(self, partition: int, stored: Sequence[tuple[JournalEntry, InvoiceDocumentStored]]) -> None:
        rows = self._by_number(
            statements.DOCUMENTS_BY_NUMBER, [(event["series_id"], event["number"]) for _, event in stored]
        )
        for entry, event in stored:
            row = rows.get((event["series_id"], event["number"]))
            where = f"document of series {event['series_id']} number {event['number']}"
            if row is None:
                self._report.add("event", where, f"has an event at partition {partition} seq {entry.seq}, but no row")
                continue
            self._documents += 1
            expected = {
                "key": event["key"],
                "sha256": event["sha256"],
                "size_bytes": event["size_bytes"],
                "template_version": event["template_version"],
            }
            if wrong := difference(expected, row):
                self._report.add("event", where, f"the row differs from event seq {entry.seq}: {wrong}")

    def _check_refused(self, partition: int, refused: Sequence[tuple[JournalEntry, _RefusedEvent]]) -> None:
        by_source: dict[tuple[str, int], list[int]] = {}
        for _, event in refused:
            by_source.setdefault((event["source_topic"], event["source_partition"]), []).append(event["source_offset"])
        rows: dict[tuple[str, int, int], RefusedRequestRow] = {}
        for (topic, source_partition), offsets in by_source.items():
            found = self._snapshot.rows(
                statements.REFUSED_BY_OFFSET, topic=topic, partition=source_partition, offsets=offsets
            )
            rows |= {(topic, source_partition, row.log_offset): row for row in map(RefusedRequestRow._make, found)}
        for entry, event in refused:
            outcome = "conflict" if "content_sha256" in event else "rejected"
            source = (event["source_topic"], event["source_partition"], event["source_offset"])
            where = f"request {source[0]}/{source[1]} offset {source[2]}"
            if source not in rows:
                self._report.add("event", where, f"was {outcome} by event seq {entry.seq}, but has no row")
                continue
            self._refused += 1
            expected: dict[str, object] = {
                "seller_id": event["seller_id"],
                "order_id": event["order_id"],
                "kind": event["kind"],
                "outcome": outcome,
            }
            if "content_sha256" in event:
                expected["content_sha256"] = bytes.fromhex(event["content_sha256"])
            else:
                expected |= {"reason": event["reason"], "detail": event["detail"]}
            if wrong := difference(expected, rows[source]._asdict()):
                self._report.add("event", where, f"the row differs from event seq {entry.seq}: {wrong}")

    def _by_number(
        self, statement: LiteralString, numbers: Sequence[tuple[str, int]]
    ) -> dict[tuple[str, int], dict[str, Any]]:
        if not numbers:
            return {}
        rows = self._snapshot.dicts(
            statement, series_ids=[series_id for series_id, _ in numbers], numbers=[number for _, number in numbers]
        )
        return {(row["series_id"], row["number"]): row for row in rows}


def _asked(event: _Issued) -> InvoiceRequest | CreditNoteRequest:
    """The request that the event says was made: the event without the fields that only events have."""
    schema: catalog.Schema[Any] = catalog.CREDIT_NOTE_REQUEST if "refund_id" in event else catalog.INVOICE_REQUEST
    payload = encode(schema, {**event, "received_at": 0})
    asked: InvoiceRequest | CreditNoteRequest = decode(payload, schema, bytes_max=len(payload))[1]
    return asked


def _preceding_wrong(event: CreditNoteIssued, row: dict[str, Any], invoice: IssuedInvoice | None) -> str:
    """What is wrong with the invoice that a credit note corrects; empty if nothing."""
    details = event.get("details")
    for external in [] if details is None else details["preceding_invoices"]:
        if invoice is not None:
            return f"corrects {external['number']}, which was issued elsewhere, but its order has an invoice"
        said = event["preceding_invoice_number"], event.get("preceding_issue_date")
        if said != (external["number"], external["issue_date"]):
            return (
                f"corrects {said[0]} of {said[1]}, but {external['number']} of {external['issue_date']} was asked for"
            )
        return ""
    if invoice is None:
        return "is a credit note, but its order has no invoice"
    if event["preceding_invoice_number"] != invoice.invoice_number:
        return f"corrects {event['preceding_invoice_number']}, but its order's invoice is {invoice.invoice_number}"
    if invoice.partition == row["source_partition"] and invoice.offset > row["source_offset"]:
        return f"was asked for before its order's invoice, which was made from the later offset {invoice.offset}"
    return ""
