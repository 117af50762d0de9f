"""What befell, and when: told while it happens, counted for the verdict."""

import time
from collections import Counter
from collections.abc import Callable


class Timeline:
    """Tells what happens, in seconds since it began."""

    def __init__(self, say: Callable[[str], None]) -> None:
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
        self._say(f"{time.monotonic() - self._began:7.1f} s  {what}")
