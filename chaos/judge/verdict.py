"""The judge's input and result."""

from collections import Counter
from dataclasses import dataclass, field

#: Violations per rule that are shown; further ones are only counted.
SHOWN_MAX = 10


@dataclass(frozen=True, slots=True)
class Access:
    """Where a customer can read."""

    gateway_url: str
    api_key: str
    kafka_bootstrap: str
    postgres_url: str
    #: The URL of the local payment provider, which serves its ledger.
    provider_url: str


@dataclass(slots=True)
class Verdict:
    """The violations, and how much was examined: without that, a clean verdict would mean nothing."""

    counts: Counter[str] = field(default_factory=Counter)
    violations: Counter[str] = field(default_factory=Counter)
    shown: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Whether there are no violations."""
        return not self.violations

    def add(self, rule: str, where: str, what: str) -> None:
        """Add a violation of a rule."""
        self.violations[rule] += 1
        if self.violations[rule] <= SHOWN_MAX:
            self.shown.append(f"{rule}: {where}: {what}")
