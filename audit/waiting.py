"""What is legitimately on its way, since when, and whether that is too long."""

from collections.abc import Collection, Hashable, Iterator
from typing import NamedTuple

from audit.payments import CREDIT_NOTE, INVOICE
from audit.report import AuditReport

DOCUMENT, UNPUBLISHED, UNHANDLED = "documents not yet made", "not yet published", "not yet handled"
#: A producer has begun a transaction and does not end it.
HELD_BACK = "held back by an open transaction"
#: All that is waited for, as reports name it.
WAITS = (INVOICE, CREDIT_NOTE, DOCUMENT, UNPUBLISHED, UNHANDLED, HELD_BACK)


class PendingItem(NamedTuple):
    """One thing that waits."""

    what: str
    #: `order demo/A-1`
    where: str


class Waiting:
    """Since when each thing waits, by a clock that stands still while services are away. Memory: a row a thing."""

    def __init__(self, seconds_max: float) -> None:
        """`seconds_max` is how long a thing may wait."""
        self._seconds_max = seconds_max
        #: In the order of their beginning.
        self._since: dict[PendingItem, float] = {}
        self._of: dict[Hashable, set[PendingItem]] = {}
        self._awaited: dict[tuple[str, str], int] = {}
        self._seconds = 0.0

    def pass_time(self, seconds: float) -> None:
        """Let the clock go on."""
        self._seconds += seconds

    def note(self, thing: Hashable, waits: Collection[PendingItem]) -> None:
        """All that a thing waits for from now on; what it has waited for already goes on."""
        before = self._of.pop(thing, set())
        for each in before - set(waits):
            del self._since[each]
        for each in waits:
            self._since.setdefault(each, self._seconds)
        if waits:
            self._of[thing] = set(waits)

    def note_behind(self, what: str, where: str, done: int, end: int) -> None:
        """Wait for somebody who has done all up to `done` to come up to `end`; once that is so, to what is new then."""
        awaited = self._awaited.get((what, where), 0)
        if done >= awaited:
            self._awaited[what, where] = awaited = end
            self.note((what, where), [])
        self.note((what, where), [PendingItem(what, f"{where}, up to {awaited}")] if awaited > done else [])

    def ages(self) -> dict[str, tuple[int, float]]:
        """By what they wait for: how many, and for how many seconds the oldest."""
        found: dict[str, tuple[int, float]] = {}
        for each, since in self._since.items():
            count, age = found.get(each.what, (0, 0.0))
            found[each.what] = count + 1, max(age, self._seconds - since)
        return found

    def judge(self, report: AuditReport) -> None:
        """Report what waits for too long."""
        for each, seconds in self._late():
            report.add("complete", each.where, f"{each.what}, for {seconds:.0f} s")

    def _late(self) -> Iterator[tuple[PendingItem, float]]:
        for each, since in self._since.items():
            if self._seconds - since <= self._seconds_max:
                return
            yield each, self._seconds - since
