"""Tracks what is legitimately in progress, since when, and whether that is too long."""

from collections.abc import Collection, Hashable, Iterator
from typing import NamedTuple

from audit.payments import CREDIT_NOTE, INVOICE
from audit.report import AuditReport

DOCUMENT, UNPUBLISHED, UNHANDLED = "documents not yet made", "not yet published", "not yet handled"
#: Offsets behind a transaction that its producer does not end.
HELD_BACK = "held back by an open transaction"
#: All kinds of waits, as named in reports.
WAITS = (INVOICE, CREDIT_NOTE, DOCUMENT, UNPUBLISHED, UNHANDLED, HELD_BACK)


class PendingItem(NamedTuple):
    """One thing that is waited for."""

    what: str
    #: Such as `order demo/A-1`.
    where: str


class Waiting:
    """The waits and their durations, by a clock that is stopped during outages. Memory: one row per wait."""

    def __init__(self, seconds_max: float) -> None:
        """`seconds_max` is how long a wait may last."""
        self._seconds_max = seconds_max
        #: Ordered by their beginning.
        self._since: dict[PendingItem, float] = {}
        self._of: dict[Hashable, set[PendingItem]] = {}
        self._awaited: dict[tuple[str, str], int] = {}
        self._seconds = 0.0

    def pass_time(self, seconds: float) -> None:
        """Advance the clock."""
        self._seconds += seconds

    def note(self, thing: Hashable, waits: Collection[PendingItem]) -> None:
        """Set what `thing` waits for. Waits that go on keep their beginning, others of the thing end."""
        before = self._of.pop(thing, set())
        for each in before - set(waits):
            del self._since[each]
        for each in waits:
            self._since.setdefault(each, self._seconds)
        if waits:
            self._of[thing] = set(waits)

    def note_behind(self, what: str, where: str, done: int, end: int) -> None:
        """Wait until `done` reaches the `end` of the first call; after that, until it reaches the present `end`."""
        awaited = self._awaited.get((what, where), 0)
        if done >= awaited:
            self._awaited[what, where] = awaited = end
            self.note((what, where), [])
        self.note((what, where), [PendingItem(what, f"{where}, up to {awaited}")] if awaited > done else [])

    def ages(self) -> dict[str, tuple[int, float]]:
        """By kind of wait: the number of waits, and the duration of the oldest in seconds."""
        found: dict[str, tuple[int, float]] = {}
        for each, since in self._since.items():
            count, age = found.get(each.what, (0, 0.0))
            found[each.what] = count + 1, max(age, self._seconds - since)
        return found

    def judge(self, report: AuditReport) -> None:
        """Report waits that last too long."""
        for each, seconds in self._late():
            report.add("complete", each.where, f"{each.what}, for {seconds:.0f} s")

    def _late(self) -> Iterator[tuple[PendingItem, float]]:
        for each, since in self._since.items():
            if self._seconds - since <= self._seconds_max:
                return
            yield each, self._seconds - since
