"""Every series counts 1, 2, 3 …, each number belongs to one invoice, and all sources show the same numbers."""

from collections import Counter, defaultdict
from itertools import pairwise

from chaos.judge.evidence import Evidence
from chaos.judge.ledger import Invoice, Series
from chaos.judge.topics import INVOICE_EVENTS, Issued
from chaos.judge.verdict import Verdict

RULE = "numbers"


def judge_numbers(evidence: Evidence) -> None:
    """Checks the series of all sellers."""
    verdict = evidence.verdict
    rows: dict[str, list[Invoice]] = defaultdict(list)
    for invoice in evidence.ledger.invoices:
        rows[invoice.series_id].append(invoice)
    series = {each.series_id: each for each in evidence.ledger.series}
    for series_id in rows.keys() - series.keys():
        verdict.add(RULE, series_id, f"{len(rows[series_id])} numbers of a series that does not exist")
    for series_id, each in series.items():
        verdict.counts["series"] += 1
        _judge_series(verdict, each, sorted(rows[series_id], key=lambda row: row.number))
    printed = Counter((each.seller_id, each.invoice_number) for each in evidence.ledger.invoices)
    for (_, number), count in printed.items():
        if count > 1:
            verdict.add(RULE, number, f"is printed on {count} documents")
    _judge_events(evidence)
    _judge_shown(evidence, series)


def _judge_series(verdict: Verdict, series: Series, rows: list[Invoice]) -> None:
    verdict.counts["numbers"] += len(rows)
    numbers = [row.number for row in rows]
    if numbers != list(range(1, len(rows) + 1)):
        missing = sorted(set(range(1, series.next_number)) - set(numbers))
        verdict.add(RULE, series.series_id, f"{len(numbers)} numbers up to {max(numbers)}, missing: {missing[:5]}")
    if series.next_number != len(rows) + 1:
        verdict.add(RULE, series.series_id, f"the next number is {series.next_number}, after {len(rows)} invoices")
    for before, after in pairwise(rows):
        if after.issued_at_us < before.issued_at_us:
            verdict.add(RULE, after.name, "is dated before the number before it")
    for row in rows:
        if row.invoice_number != (wanted := _printed(series, row)):
            verdict.add(RULE, row.name, f"is printed as {row.invoice_number}, not as {wanted}")


def _printed(series: Series, row: Invoice) -> str:
    """The printed number by docs/numbers.md: the seller's format; for a credit note with CN- before or for INV-."""
    its_format = series.number_format
    if row.kind != "invoice":
        its_format = "CN-" + its_format.removeprefix("INV-")
    last = series.series_id.rpartition(".")[2]
    year = int(last) if last.isdecimal() else 0
    return its_format.format(partition=row.source_partition, year=year, number=row.number)


def _judge_events(evidence: Evidence) -> None:
    """Each row has exactly one event with the same content, and each event has a row."""
    verdict = evidence.verdict
    events: dict[tuple[str, int], list[Issued]] = defaultdict(list)
    for event in evidence.topics.issued:
        events[event.series_id, event.number].append(event)
    for row in evidence.ledger.invoices:
        mine = events.pop((row.series_id, row.number), [])
        if len(mine) != 1:
            verdict.add("once", row.name, f"has {len(mine)} events about its issue")
        for event in mine:
            verdict.counts["issued events"] += 1
            _judge_event(verdict, row, event)
    for (series_id, number), left in events.items():
        verdict.add("once", f"{series_id}/{number}", f"has {len(left)} events, and is not in the ledger")
    orders = Counter((event.order, event.refund_id) for event in evidence.topics.issued)
    for (order, refund_id), count in orders.items():
        if count > 1:
            verdict.add("once", f"{order[1]} {refund_id}", f"has {count} events about its issue")


def _judge_event(verdict: Verdict, row: Invoice, event: Issued) -> None:
    ours = (row.order, row.refund_id, row.invoice_number, row.issued_at_us, row.currency)
    if ours != (event.order, event.refund_id, event.invoice_number, event.issued_at_us, event.currency):
        verdict.add(RULE, row.name, f"is {ours}, but its event says {event}")
    if event.place != (INVOICE_EVENTS, row.source_partition, row.event_seq):
        verdict.add(RULE, row.name, f"its row names the event seq {row.event_seq}, but the event is at {event.place}")
    if event.totals != (row.net_minor, row.tax_minor, row.gross_minor):
        verdict.add("money", row.name, f"is of {row.gross_minor}, but its event says {event.totals}")
    # A credit note is the difference of two sums, so the sum of its lines may differ by a cent.
    if row.kind == "invoice" and event.totals != event.computed:
        verdict.add("money", row.name, f"says {event.totals}, but its lines amount to {event.computed}")


def _judge_shown(evidence: Evidence, series: dict[str, Series]) -> None:
    verdict, seller_id = evidence.verdict, evidence.ledger.seller_id
    shown = {
        each["series_id"]: each["next_number"]
        for page in evidence.shown.series
        for each in page.json().get("series", ())
    }
    wanted = {each.series_id: each.next_number for each in series.values() if each.seller_id == seller_id}
    if shown != wanted:
        verdict.add(RULE, "GET /v1/series", f"shows {shown}, in the ledger are {wanted}")
    rows = {(row.series_id, row.number): row for row in evidence.ledger.invoices}
    for (series_id, number), answer in evidence.shown.numbers.items():
        verdict.counts["numbers looked at over HTTP"] += 1
        row, body = rows.get((series_id, number)), answer.json()
        if row is None or (row.order_id, row.invoice_number) != (body.get("order_id"), body.get("invoice_number")):
            verdict.add(RULE, f"{series_id}/{number}", f"is shown as {answer.status} {body}, in the ledger as {row}")
