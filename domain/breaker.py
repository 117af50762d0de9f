"""When a service that doesn't answer is left alone, and when it is tried again."""

from enum import StrEnum


class Gate(StrEnum):
    """What a breaker lets through."""

    CLOSED = "closed"
    #: Nothing.
    OPEN = "open"
    #: A call or a few, which tell how it goes on. How many at once is for the caller to bound.
    HALF_OPEN = "half-open"


class Breaker:
    """Spares a service that doesn't answer, and its callers the wait. Times are seconds of any steady clock."""

    def __init__(
        self, *, failures_max: int, open_seconds: float, trials_max: int = 1, counts_overlapping: bool = True
    ) -> None:
        """It opens at `failures_max` failures in a row, and when it was tried, at `trials_max`.

        Without `counts_overlapping`, calls that were under way together count as one: they fail for one reason.
        """
        self._failures_max = failures_max
        self._open_seconds = open_seconds
        self._trials_max = trials_max
        self._counts_overlapping = counts_overlapping
        self._failures = 0
        self._answered_at = self._counted_at = float("-inf")
        self._opened_at: float | None = None

    def gate(self, now: float) -> Gate:
        """What it lets through."""
        if self._opened_at is None:
            return Gate.CLOSED
        return Gate.OPEN if now - self._opened_at < self._open_seconds else Gate.HALF_OPEN

    def succeeded(self, now: float) -> None:
        """The service has answered, whatever it said."""
        self._failures = 0
        self._answered_at = now
        self._opened_at = None

    def failed(self, now: float, *, began_at: float, is_certain: bool = False) -> bool:
        """A call that began then had no answer; returns whether this has opened the breaker, which was closed.

        `is_certain` where the service can't be there, so that one failure says it all.
        """
        # It has answered another one since: what is wrong is wrong with this one. Of many calls at once five may well
        # fail one after the other, and all would wait for what befell a few of them.
        if began_at < self._answered_at and not is_certain:
            return False
        gate = self.gate(now)
        # Calls that began before it opened end in it, one after the other: they are no news.
        if gate is Gate.OPEN:
            return False
        if not is_certain and not self._counts_overlapping and began_at < self._counted_at:
            return False
        self._failures += 1
        self._counted_at = now
        failures_max = self._failures_max if gate is Gate.CLOSED else self._trials_max
        if self._failures < failures_max and not is_certain:
            return False
        self._opened_at = now
        self._failures = 0
        return gate is Gate.CLOSED
