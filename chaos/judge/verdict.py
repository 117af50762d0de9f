"""What the judge is given, and what it says."""

from collections import Counter
from dataclasses import dataclass, field

#: Violations of one kind that are told one by one; the others are only counted.
SHOWN_MAX = 10


@dataclass(frozen=True, slots=True)
class Access:
    """Where a customer could look."""

    gateway_url: str
    api_key: str
    kafka_bootstrap: str
    postgres_url: str
    #: Where the local payment provider shows its ledger.
    provider_url: str


@dataclass(slots=True)
class Verdict:
    """What is wrong, if anything, and how much was looked at: a verdict on nothing is worth nothing."""

    counts: Counter[str] = field(default_factory=Counter)
    violations: Counter[str] = field(default_factory=Counter)
    shown: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Nothing is wrong."""
        return not self.violations

    def add(self, rule: str, where: str, what: str) -> None:
        """Note a violation of a rule."""
        self.violations[rule] += 1
        if self.violations[rule] <= SHOWN_MAX:
            self.shown.append(f"{rule}: {where}: {what}")
