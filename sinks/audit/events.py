"""Events of the journal against the rows that were written with them."""

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from domain import credit
from domain.invoice import Priced, price
from domain.issuing import CREDIT_NOTE, INVOICE, OrderKey
from schemas import catalog
from schemas.codec import DecodeError, decode
from sinks.audit import statements
from sinks.audit.arithmetic import check_credit, check_sums
from sinks.audit.dead_letters import DeadLetters
from sinks.audit.report import Report
from sinks.audit.snapshot import Snapshot, difference, micros
from sinks.audit.standing import Standing, invoices_of


class JournalEntry(NamedTuple):
    """A row of the journal, in its partition."""

    seq: int
    key: bytes | None
    payload: bytes
    occurred_at: datetime


#: Takes a partition, a row of the journal, its schema and what it says.
TakeEvent = Callable[[int, JournalEntry, catalog.Schema, dict[str, Any]], None]


class EventCheck:
    """Takes the journal's rows and compares each with the ledger; then `finish` says what had no event."""

    def __init__(
        self,
        snapshot: Snapshot,
        report: Report,
        dead_letters: Mapping[tuple[str, str], DeadLetters],
        dates: MutableMapping[tuple[str, int], tuple[int, str]],
        take: TakeEvent = lambda *_: None,
    ) -> None:
        """`dead_letters` are filled: those of each agent and topic that it names.

        `dates` has the last number seen and its date, per series and partition; `take` gets each event.
        """
        self._snapshot = snapshot
        self._report = report
        self._dead_letters = dead_letters
        self._dates = dates
        self._take = take
        self._refused = 0
        self._documents = 0

    def check(self, topic: str, partition: int, entries: Sequence[JournalEntry]) -> None:
        """Compare some rows of one journal partition."""
        issued: list[tuple[JournalEntry, dict[str, Any]]] = []
        stored: list[tuple[JournalEntry, dict[str, Any]]] = []
        refused: list[tuple[JournalEntry, dict[str, Any], str]] = []
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
            if schema is catalog.DEAD_LETTER:
                self._take_dead_letter(event)
                continue
            if entry.key != event["order_id"].encode():
                self._report.add("event", f"{topic}/{partition} seq {entry.seq}", "its key is not its order id")
            if schema in (catalog.INVOICE_ISSUED, catalog.CREDIT_NOTE_ISSUED):
                issued.append((entry, event))
            elif schema is catalog.INVOICE_DOCUMENT_STORED:
                stored.append((entry, event))
            else:
                outcome = "conflict" if schema is catalog.INVOICE_REQUEST_CONFLICTED else "rejected"
                refused.append((entry, event, outcome))
        self._check_issued(partition, issued)
        self._check_stored(partition, stored)
        self._check_refused(partition, refused)

    def finish(self) -> None:
        """Compare the counts: each refusal and each document has its one event."""
        rows = self._snapshot.count(statements.COUNT_REFUSED_ALL, topic=catalog.INVOICE_REQUESTS.name)
        if rows != self._refused:
            self._report.add("event", "refused requests", f"{rows} rows, but {self._refused} events that agree")
        documents = self._snapshot.count("SELECT count(*) FROM documents")
        if documents != self._documents:
            self._report.add("event", "documents", f"{documents} rows, but {self._documents} events that agree")

    def _take_dead_letter(self, event: dict[str, Any]) -> None:
        self._report.counts[f"dead letters of {event['agent']}"] += 1
        letters = self._dead_letters.get((event["agent"], event["source_topic"]))
        if letters is not None:
            letters.add(event["source_partition"], event["source_offset"], event["key"], event["value"])

    def _check_issued(self, partition: int, issued: Sequence[tuple[JournalEntry, dict[str, Any]]]) -> None:
        rows = self._by_number(statements.INVOICES_BY_NUMBER, [event for _, event in issued])
        credit_notes = [event for _, event in issued if event["kind"] == CREDIT_NOTE]
        preceding = invoices_of(
            self._snapshot, [OrderKey(each["seller_id"], each["order_id"], INVOICE) for each in credit_notes]
        )
        for entry, event in issued:
            is_credit_note = event["kind"] == CREDIT_NOTE
            where = f"series {event['series_id']} number {event['number']}"
            self._check_date(partition, event, where)
            for what in check_credit(event) if is_credit_note else check_sums(event):
                self._report.add("money", where, what)
            row = rows.get((event["series_id"], event["number"]))
            if row is None:
                self._report.add("gap", where, f"has an event at seq {entry.seq}, but no row")
                continue
            priced = credit.check(event) if is_credit_note else price(event)
            expected = {
                **{name: event[name] for name in ("seller_id", "order_id", "kind", "invoice_number", "currency")},
                "refund_id": event.get("refund_id", ""),
                "event_seq": entry.seq,
                "source_partition": partition,
                "issued_at": entry.occurred_at,
                # The digest of what the event says was ordered is that of what the request said.
                "content_sha256": priced.content_sha256 if isinstance(priced, Priced) else b"",
            }
            sums = {name: event["totals"][name] for name in ("net_minor", "tax_minor", "gross_minor")}
            if wrong := difference(expected, row):
                self._report.add("event", where, f"the row differs from event seq {entry.seq}: {wrong}")
            if wrong := difference(sums, row):
                self._report.add("money", where, f"the row differs from event seq {entry.seq}: {wrong}")
            if event["issued_at"] != micros(entry.occurred_at):
                self._report.add("event", where, f"event seq {entry.seq} occurred at another time than it says")
            if is_credit_note:
                invoice = preceding.get(OrderKey(event["seller_id"], event["order_id"], INVOICE))
                if wrong := _preceding_wrong(event, row, invoice):
                    self._report.add("event", where, wrong)

    def _check_date(self, partition: int, event: dict[str, Any], where: str) -> None:
        series = (event["series_id"], partition)
        number, date = self._dates.get(series, (0, ""))
        if event["number"] > number:
            if event["issue_date"] < date:
                self._report.add("date", where, f"is dated {event['issue_date']}, number {number} {date}")
            self._dates[series] = (event["number"], event["issue_date"])

    def _check_stored(self, partition: int, stored: Sequence[tuple[JournalEntry, dict[str, Any]]]) -> None:
        rows = self._by_number(statements.DOCUMENTS_BY_NUMBER, [event for _, event in stored])
        for entry, event in stored:
            row = rows.get((event["series_id"], event["number"]))
            where = f"document of series {event['series_id']} number {event['number']}"
            if row is None:
                self._report.add("event", where, f"has an event at partition {partition} seq {entry.seq}, but no row")
                continue
            self._documents += 1
            expected = {name: event[name] for name in ("key", "sha256", "size_bytes", "template_version")}
            if wrong := difference(expected, row):
                self._report.add("event", where, f"the row differs from event seq {entry.seq}: {wrong}")

    def _check_refused(self, partition: int, refused: Sequence[tuple[JournalEntry, dict[str, Any], str]]) -> None:
        by_source: dict[tuple[str, int], list[int]] = {}
        for _, event, _ in refused:
            by_source.setdefault((event["source_topic"], event["source_partition"]), []).append(event["source_offset"])
        rows: dict[tuple[str, int, int], dict[str, Any]] = {}
        for (topic, source_partition), offsets in by_source.items():
            for row in self._snapshot.dicts(
                statements.REFUSED_BY_OFFSET, topic=topic, partition=source_partition, offsets=offsets
            ):
                rows[topic, source_partition, row["log_offset"]] = row
        for entry, event, outcome in refused:
            source = (event["source_topic"], event["source_partition"], event["source_offset"])
            where = f"request {source[0]}/{source[1]} offset {source[2]}"
            if source not in rows:
                self._report.add("event", where, f"was {outcome} by event seq {entry.seq}, but has no row")
                continue
            self._refused += 1
            expected = {name: event[name] for name in ("seller_id", "order_id", "kind")} | {"outcome": outcome}
            if outcome == "conflict":
                expected["content_sha256"] = bytes.fromhex(event["content_sha256"])
            else:
                expected |= {"reason": event["reason"], "detail": event["detail"]}
            if wrong := difference(expected, rows[source]):
                self._report.add("event", where, f"the row differs from event seq {entry.seq}: {wrong}")

    def _by_number(self, statement: Any, events: Sequence[dict[str, Any]]) -> dict[tuple[str, int], dict[str, Any]]:
        if not events:
            return {}
        rows = self._snapshot.dicts(
            statement,
            series_ids=[event["series_id"] for event in events],
            numbers=[event["number"] for event in events],
        )
        return {(row["series_id"], row["number"]): row for row in rows}


def _preceding_wrong(event: dict[str, Any], row: dict[str, Any], invoice: Standing | None) -> str:
    """What is wrong with the invoice that a credit note corrects; empty if nothing."""
    if invoice is None:
        return "is a credit note, but its order has no invoice"
    if event["preceding_invoice_number"] != invoice.invoice_number:
        return f"corrects {event['preceding_invoice_number']}, but its order's invoice is {invoice.invoice_number}"
    if invoice.partition == row["source_partition"] and invoice.offset > row["source_offset"]:
        return f"was asked for before its order's invoice, which was made from the later offset {invoice.offset}"
    return ""
