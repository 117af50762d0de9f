"""The full audit."""

import time
from collections.abc import Callable

from audit import statements
from audit.agreement import check_agreement
from audit.analytics import check_analytics
from audit.checkouts import CheckoutCheck
from audit.cursors import Cursors, Levels
from audit.dead_letters import DeadLetters
from audit.events import EventCheck
from audit.journal import JournalCheck
from audit.log import Log
from audit.numbers import check_numbers, check_orders
from audit.objects import ReadObject, check_documents
from audit.orders import TOPICS, OrderCheck
from audit.payments import check_payments
from audit.places import PLACES, check_places
from audit.products import ProductCheck
from audit.provider import check_provider
from audit.redriven import check_redriven
from audit.report import AuditReport
from audit.requests import RequestCheck
from audit.reviews import ReviewCheck
from audit.snapshot import Snapshot
from audit.stock import check_stock
from runtime.roles import READERS
from runtime.unread import Unread
from schemas.catalog import CATALOGUE_EVENTS, CHECKOUT_REQUESTS, INVOICE_REQUESTS, REVIEW_EVENTS

#: The agents whose requests must each have exactly one outcome, with their topics.
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
) -> AuditReport:
    """Check everything against everything, also while the system runs: Postgres is read in one snapshot.

    Memory is bounded but for 16 bytes per dead letter, a row per series, a level per SKU, a number per product and
    review. With `provider_url`, that provider's ledger is compared, too. Afterwards empty `cursors` contain how far the
    audit has read. Raises `AuditError` if a service can't be read.
    """
    cursors = Cursors() if cursors is None else cursors
    report = AuditReport(complete=complete)
    began = time.monotonic()
    # Postgres first: Kafka then contains at least what the snapshot says has been published.
    snapshot = Snapshot(postgres_url)
    try:
        log = Log(kafka_bootstrap, topic_prefix)
        try:
            on_step("numbers and orders")
            check_agreement(snapshot, kafka_bootstrap, topic_prefix, report)
            check_numbers(snapshot, report, cursors)
            check_orders(snapshot, report)
            positions, _ = check_positions(snapshot, log, report)
            cursors.positions.update(positions)
            on_step("journal, topics and events")
            dead_letters = {reader: DeadLetters() for reader in (NUMBERING, CHECKOUTS, *PLACES)}
            events = EventCheck(snapshot, report, dead_letters, cursors.dates)
            orders = OrderCheck(snapshot, report)
            products = ProductCheck(snapshot, report, is_from_the_start=True)
            reviews = ReviewCheck(snapshot, report, is_from_the_start=True)
            takers = {topic.name: orders.take for topic in TOPICS}
            takers |= {CATALOGUE_EVENTS.name: products.take, REVIEW_EVENTS.name: reviews.take}
            JournalCheck(snapshot, log, report, cursors, takers, events.check).check()
            events.finish()
            products.finish()
            reviews.finish()
            on_step("orders, stock and payments")
            orders.finish()
            levels = Levels(cursors.levels)
            check_stock(snapshot, report, levels)
            levels.keep()
            cursors.pending = check_payments(snapshot, report)
            if provider_url is not None:
                check_provider(snapshot, report, provider_url)
            on_step("analytics")
            check_analytics(snapshot, report)
            on_step("requests and their outcomes")
            for letters in dead_letters.values():
                letters.sort()
            requests = RequestCheck(snapshot, log, report, dead_letters[NUMBERING])
            checkouts = CheckoutCheck(snapshot, log, report, dead_letters[CHECKOUTS])
            for partition in range(log.partitions(INVOICE_REQUESTS.name)):
                requests.check(partition, positions.get((*NUMBERING, partition), 0))
            for partition in range(log.partitions(CHECKOUT_REQUESTS.name)):
                checkouts.check(partition, positions.get((*CHECKOUTS, partition), 0))
            for reader, topic in PLACES.items():
                for partition in range(log.partitions(topic.name)):
                    records = log.read(topic.name, partition, positions.get((*reader, partition), 0))
                    check_places(report, topic, snapshot.partitions, partition, records, dead_letters[reader])
            check_redriven(snapshot, log, report, cursors)
            on_step("documents")
            cursors.documents = check_documents(snapshot, report, read_object)
        finally:
            log.close()
    finally:
        snapshot.close()
    report.judge_completeness()
    report.seconds = time.monotonic() - began
    return report


def check_positions(
    snapshot: Snapshot, log: Log, report: AuditReport
) -> tuple[dict[tuple[str, str, int], int], dict[tuple[str, str, int], Unread]]:
    """Report positions beyond the end of their log, and count the lag.

    Returns the positions by (agent, topic, partition), and what is unread after each.
    """
    # Agents that were never started are included, at position 0.
    positions = {
        (agent, topic.name, partition): 0
        for agent, topics in READERS.items()
        for topic in topics
        for partition in range(log.partitions(topic.name))
    }
    for agent, topic, partition, next_offset in snapshot.rows(statements.POSITIONS):
        positions[agent, topic, partition] = next_offset
    left: dict[tuple[str, str, int], Unread] = {}
    for reader in {agent for agent, _, _ in positions}:
        its = {(topic, partition): offset for (agent, topic, partition), offset in positions.items() if agent == reader}
        left.update({(reader, *at): each for at, each in log.unread(its).items()})
    for (agent, topic, partition), next_offset in positions.items():
        its_left = left[agent, topic, partition]
        if next_offset > its_left.end:
            what = f"stands at {next_offset}, but the log ends at {its_left.end}"
            report.add("position", f"{agent} in {topic}/{partition}", what)
        report.lag[f"{agent} {topic}"] += its_left.readable
        report.held_back[f"{agent} {topic}"] += its_left.held_back
    return positions, left
