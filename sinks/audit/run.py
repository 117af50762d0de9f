"""The audit as a whole."""

import time
from collections.abc import Callable

from schemas.catalog import (
    CHECKOUT_REQUESTS,
    INVOICE_EVENTS,
    INVOICE_REQUESTS,
    ORDER_COMMANDS,
    ORDER_EVENTS,
    PAYMENT_EVENTS,
)
from sinks.audit import statements
from sinks.audit.checkouts import CheckoutCheck
from sinks.audit.cursors import Cursors, Levels
from sinks.audit.dead_letters import DeadLetters
from sinks.audit.events import EventCheck
from sinks.audit.journal import JournalCheck
from sinks.audit.log import Log
from sinks.audit.numbers import check_numbers, check_orders
from sinks.audit.objects import ReadObject, check_documents
from sinks.audit.orders import TOPICS, OrderCheck
from sinks.audit.payments import check_payments
from sinks.audit.provider import check_provider
from sinks.audit.report import Report
from sinks.audit.requests import RequestCheck
from sinks.audit.snapshot import Snapshot
from sinks.audit.stock import check_stock

#: What is read by agents whose lag is told even before they were ever started.
_READ = (
    ("invoices", INVOICE_REQUESTS.name),
    ("documents", INVOICE_EVENTS.name),
    ("checkouts", CHECKOUT_REQUESTS.name),
    ("orders", ORDER_COMMANDS.name),
    ("orders", PAYMENT_EVENTS.name),
    ("payments", ORDER_EVENTS.name),
)
#: Where a request's one outcome is looked for.
NUMBERING = ("invoices", INVOICE_REQUESTS.name)
CHECKOUTS = ("checkouts", CHECKOUT_REQUESTS.name)


def run_audit(
    postgres_url: str,
    kafka_bootstrap: str,
    read_object: ReadObject,
    *,
    topic_prefix: str = "",
    complete: bool = False,
    provider_url: str | None = None,
    on_step: Callable[[str], None] = lambda step: None,
    cursors: Cursors | None = None,
) -> Report:
    """Check everything against everything, also while the system runs: Postgres is read as of one moment.

    Memory stays bounded but for 16 bytes per dead letter, a row per series, and a level per SKU; `provider_url`
    is a provider whose own ledger is compared, too. Empty `cursors` say afterwards how far this has come.
    Raises `AuditError` if a service can't be read.
    """
    cursors = Cursors() if cursors is None else cursors
    report = Report(complete=complete)
    began = time.monotonic()
    # Postgres first: what Kafka has then is at least what the snapshot says it has.
    snapshot = Snapshot(postgres_url)
    try:
        log = Log(kafka_bootstrap, topic_prefix)
        try:
            on_step("numbers and orders")
            check_numbers(snapshot, report, cursors)
            check_orders(snapshot, report)
            positions = check_positions(snapshot, log, report)
            cursors.positions.update(positions)
            on_step("journal, topics and events")
            dead_letters = {NUMBERING: DeadLetters(), CHECKOUTS: DeadLetters()}
            events = EventCheck(snapshot, report, dead_letters, cursors.dates)
            orders = OrderCheck(snapshot, report)
            takers = {topic.name: orders.take for topic in TOPICS}
            JournalCheck(snapshot, log, report, cursors, takers, events.check).check()
            events.finish()
            on_step("orders, stock and payments")
            orders.finish()
            levels = Levels(cursors.levels)
            check_stock(snapshot, report, levels)
            levels.keep()
            cursors.pending = check_payments(snapshot, report)
            if provider_url is not None:
                check_provider(snapshot, report, provider_url)
            on_step("requests and their outcomes")
            for letters in dead_letters.values():
                letters.sort()
            requests = RequestCheck(snapshot, log, report, dead_letters[NUMBERING])
            checkouts = CheckoutCheck(snapshot, log, report, dead_letters[CHECKOUTS])
            for partition in range(log.partitions(INVOICE_REQUESTS.name)):
                requests.check(partition, positions.get((*NUMBERING, partition), 0))
            for partition in range(log.partitions(CHECKOUT_REQUESTS.name)):
                checkouts.check(partition, positions.get((*CHECKOUTS, partition), 0))
            on_step("documents")
            cursors.documents = check_documents(snapshot, report, read_object)
        finally:
            log.close()
    finally:
        snapshot.close()
    report.judge_completeness()
    report.seconds = time.monotonic() - began
    return report


def check_positions(snapshot: Snapshot, log: Log, report: Report) -> dict[tuple[str, str, int], int]:
    """No position beyond its log's end; the rest of the log is the lag."""
    positions = {(agent, topic, partition): 0 for agent, topic in _READ for partition in range(log.partitions(topic))}
    for agent, topic, partition, next_offset in snapshot.rows(statements.POSITIONS):
        positions[agent, topic, partition] = next_offset
    for (agent, topic, partition), next_offset in positions.items():
        first, end = log.bounds(topic, partition)
        if next_offset > end:
            report.add(
                "position", f"{agent} in {topic}/{partition}", f"stands at {next_offset}, but the log ends at {end}"
            )
        else:
            report.lag[f"{agent} {topic}"] += end - max(next_offset, first)
    return positions
