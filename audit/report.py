"""What an audit found: violations by check, how much was looked at, and what is still on its way."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from schemas.catalog import PAYMENT_NOTICES

#: Each check, and what it holds when nothing is found. The order is that of the table people see.
CHECKS = {
    "gap": "every series runs 1, 2, 3 … n, and its next number is n + 1",
    "repeat": "one invoice per order, one credit note per refund, each with a number and a printed number of its own",
    "date": "dates do not run backwards along the numbers",
    "journal": "the journal runs 1, 2, 3 … n in each partition, as its head says",
    "topic": "each topic is its journal, byte for byte; repeats are of equal bytes",
    "event": "each invoice, credit note, document and refusal says what its event says",
    "money": "lines, rates and totals add up",
    "outcome": "each request in the log has exactly one outcome",
    "dead letter": "each record that was redriven is in its topic again, with the same bytes",
    "document": "each document is in the store, with its size and digest",
    "answer": "each command is answered once, and what its answer calls applied was done",
    "order": "each order's history is a walk of the table, and its events say the same, once",
    "stock": "never oversold; reserved is the sum of open claims; each SKU's changes run 1, 2, 3 … n",
    "payment": "each confirmed order has one authorisation and one invoice; what is kept is what is invoiced",
    "provider": "the provider has charged each order once at most, and as much as we say",
    "position": "no agent stands beyond the end of the log",
    "complete": "nothing is still on its way",
}
#: Violations of a check that are shown; all are counted.
SAMPLES_MAX = 10


class AuditError(Exception):
    """The audit can't be made: a service can't be reached or has no tables; the message is one line."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that is wrong."""

    check: str
    #: Such as `series demo.invoice.p00 number 17` or `invoice-events/2 offset 501`.
    where: str
    what: str


@dataclass(slots=True)
class AuditReport:
    """Collects what the checks find, in bounded memory."""

    #: With `--complete`: what is still on its way counts as a violation.
    complete: bool = False
    counts: Counter[str] = field(default_factory=Counter)
    samples: dict[str, list[Violation]] = field(default_factory=lambda: {check: [] for check in CHECKS})
    violations: Counter[str] = field(default_factory=Counter)
    #: Requests by what became of them.
    outcomes: Counter[str] = field(default_factory=Counter)
    #: `agent topic` → records not yet handled.
    lag: Counter[str] = field(default_factory=Counter)
    #: `agent topic` → offsets behind a producer's open transaction, which nobody is given until it ends.
    held_back: Counter[str] = field(default_factory=Counter)
    #: Checkouts by what became of them.
    checkouts: Counter[str] = field(default_factory=Counter)
    #: What orders still wait for: nothing is wrong with them, as long as somebody is at it.
    pending: Counter[str] = field(default_factory=Counter)
    pending_documents: int = 0
    unpublished: int = 0
    seconds: float = 0.0

    @property
    def clean(self) -> bool:
        """Whether nothing is wrong."""
        return not self.violations.total()

    def add(self, check: str, where: str, what: str, times: int = 1) -> None:
        """Record a violation; `times` for those that were only counted."""
        self.violations[check] += times
        if len(self.samples[check]) < SAMPLES_MAX:
            self.samples[check].append(Violation(check, where, what))

    def shown(self) -> Iterator[Violation]:
        """The violations kept, check by check."""
        for check in CHECKS:
            yield from self.samples[check]

    def judge_completeness(self) -> None:
        """Turn what is still on its way into violations, if asked to."""
        if not self.complete:
            return
        for consumer, records in sorted(self.lag.items()):
            # The provider sends notices whenever it likes, and nothing that was accepted depends on one.
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
        """For machines."""
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
