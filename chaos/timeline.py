"""The faults of a run and when they happened: reported as they happen, and counted for the verdict."""

import time
from collections import Counter
from collections.abc import Callable


class Timeline:
    """Reports events with the seconds since it was created."""

    def __init__(self, say: Callable[[str], None]) -> None:
        #: How often each fault happened.
        self.faults: Counter[str] = Counter()
        self._say = say
        self._began = time.monotonic()

    def befell(self, what: str) -> None:
        """Report and count a fault."""
        self.faults[what] += 1
        self.note(what)

    def count(self, what: str) -> None:
        """Count a fault without reporting it, if there are many."""
        self.faults[what] += 1

    def note(self, what: str) -> None:
        """Report an event that is not a fault."""
        self._say(f"{time.monotonic() - self._began:7.1f} s  {what}")
