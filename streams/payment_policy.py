"""How long payments are waited for, how many at once, and how often."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Policy:
    """The bounds of calling."""

    #: Of each call.
    timeout_seconds: float = 8.0
    #: How long a row is ours; a worker that ends and doesn't start again delays its orders by this. Longer than asking
    #: and sending take together.
    lease_seconds: float = 30.0
    #: How often rows are looked for that are due; new ones of this worker don't wait for it.
    poll_seconds: float = 0.5
    in_flight_max: int = 256
    #: Attempts in memory that wait for their call; the rest waits in its rows.
    queued_max: int = 2_000
    #: Calls without an answer, one after the other, that open the breaker.
    breaker_failures: int = 5
    breaker_seconds: float = 30.0
    backoff_first_seconds: float = 0.5
    backoff_longest_seconds: float = 60.0
    #: How long after the hold's end an authorisation may still come through.
    give_up_after_hold_seconds: float = 30.0
    #: How long the calls under way may take when the worker stops.
    stop_seconds: float = 4.0

    @property
    def lease_left_seconds_min(self) -> float:
        """A lease that is shorter than this is not called under: its row might be taken up meanwhile."""
        return min(2 * self.timeout_seconds + 1, self.lease_seconds / 2)
