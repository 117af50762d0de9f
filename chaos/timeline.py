"""What befell, and when: told while it happens, kept for the verdict."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Moment:
    """Something that was done to the stack, or seen of it."""

    seconds: float
    what: str


class Timeline:
    """Moments in order, in seconds since it began."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.moments: list[Moment] = []
        #: How often each fault happened.
        self.faults: Counter[str] = Counter()
        self._say = say
        self._began = time.monotonic()

    def befell(self, what: str) -> None:
        """A fault happened now."""
        self.faults[what] += 1
        self.note(what)

    def count(self, what: str) -> None:
        """A fault happened that is one of too many to be told one by one."""
        self.faults[what] += 1

    def note(self, what: str) -> None:
        """Something was seen, or done that is no fault."""
        moment = Moment(time.monotonic() - self._began, what)
        self.moments.append(moment)
        self._say(f"{moment.seconds:7.1f} s  {what}")
