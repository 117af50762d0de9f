"""The result of an audit: violations by check, what was examined, and what is still in progress."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from schemas.catalog import PAYMENT_NOTICES

#: Each check, and what is true if it finds nothing. Reports show them in this order.
CHECKS = {
    "gap": "every series runs 1, 2, 3 … n, and its next number is n + 1",
    "repeat": "one invoice per order, one credit note per refund, each with a number and a printed number of its own",
    "date": "dates do not run backwards along the numbers",
    "journal": "the journal runs 1, 2, 3 … n in each partition, as its head says",
    "topic": "each topic is its journal, byte for byte; repeats are of equal bytes",
    "event": "each invoice, credit note, document and refusal says what its event says",
    "money": "lines, rates and totals add up",
    "outcome": "each request in the log has exactly one outcome",
    "dead letter": "each redriven record is in its topic again, with the same bytes",
    "document": "each document is in the object store, with its size and digest",
    "answer": "each command is answered once, and a command answered as applied was carried out",
    "order": "each order's history follows the transition table, and its events say the same, once",
    "stock": "never oversold; reserved is the sum of open claims; each SKU's changes run 1, 2, 3 … n",
    "product": "each product, and each seller's synonyms, is what its last event says; versions run 1, 2, 3 … n",
    "review": "each review is what its last event says; ratings are what the published reviews come to",
    "payment": "each confirmed order has one authorisation and one invoice; money received equals money invoiced",
    "provider": "the provider has charged each order at most once, with the recorded amounts",
    "analytics": "what is counted for sellers is what orders, payments and invoices come to",
    "position": "no position is beyond the end of the log",
    "complete": "nothing is in progress",
}
#: Violations per check that are shown; all are counted.
SAMPLES_MAX = 10


class AuditError(Exception):
    """The audit can't be made: a service can't be reached or has no tables. The message is one line."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One violation."""

    check: str
    #: Such as `series demo.invoice.p00 number 17` or `invoice-events/2 offset 501`.
    where: str
    what: str


@dataclass(slots=True)
class AuditReport:
    """Collects the findings of the checks, in bounded memory."""

    #: With `--complete`: what is still in progress counts as a violation.
    complete: bool = False
    counts: Counter[str] = field(default_factory=Counter)
    samples: dict[str, list[Violation]] = field(default_factory=lambda: {check: [] for check in CHECKS})
    violations: Counter[str] = field(default_factory=Counter)
    #: Requests by outcome.
    outcomes: Counter[str] = field(default_factory=Counter)
    #: `agent topic` → records not yet handled.
    lag: Counter[str] = field(default_factory=Counter)
    #: `agent topic` → offsets behind an open transaction, which consumers don't get until it ends.
    held_back: Counter[str] = field(default_factory=Counter)
    #: Checkouts by outcome.
    checkouts: Counter[str] = field(default_factory=Counter)
    #: Orders by what they wait for, which is no violation.
    pending: Counter[str] = field(default_factory=Counter)
    pending_documents: int = 0
    unpublished: int = 0
    seconds: float = 0.0

    @property
    def clean(self) -> bool:
        """Whether there are no violations."""
        return not self.violations.total()

    def add(self, check: str, where: str, what: str, times: int = 1) -> None:
        """Record a violation; `times` is above 1 for violations that are only counted."""
        self.violations[check] += times
        if len(self.samples[check]) < SAMPLES_MAX:
            self.samples[check].append(Violation(check, where, what))

    def shown(self) -> Iterator[Violation]:
        """The violations to show, check by check."""
        for check in CHECKS:
            yield from self.samples[check]

    def judge_completeness(self) -> None:
        """With `--complete`, report what is still in progress as violations."""
        if not self.complete:
            return
        for consumer, records in sorted(self.lag.items()):
            # Notices are excluded: the provider sends them at any time, and nothing accepted depends on one.
            if records and not consumer.endswith(f" {PAYMENT_NOTICES.name}"):
                self.add("complete", consumer, f"{records} records not yet handled")
        for consumer, offsets in sorted(self.held_back.items()):
            if offsets:
                self.add("complete", consumer, f"{offsets} offsets are held back by a producer's open transaction")
        if self.unpublished:
            self.add("complete", "journal", f"{self.unpublished} rows not yet published")
        if self.pending_documents:
            self.add("complete", "documents", f"{self.pending_documents} not yet made")
        for what, orders in sorted(self.pending.items()):
            self.add("complete", "orders", f"{orders} {what}")

    def as_json(self) -> dict[str, Any]:
        """The report as JSON types."""
        return {
            "clean": self.clean,
            "violations": {
                check: {
                    "count": self.violations[check],
                    "samples": [{"where": each.where, "what": each.what} for each in self.samples[check]],
                }
                for check in CHECKS
                if self.violations[check]
            },
            "counts": dict(sorted(self.counts.items())),
            "outcomes": dict(sorted(self.outcomes.items())),
            "checkouts": dict(sorted(self.checkouts.items())),
            "pending": dict(sorted(self.pending.items())),
            "lag": dict(sorted(self.lag.items())),
            "held_back": dict(sorted(self.held_back.items())),
            "pending_documents": self.pending_documents,
            "unpublished": self.unpublished,
            "seconds": round(self.seconds, 3),
        }
