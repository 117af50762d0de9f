"""What the monitor measures, as it shows it: of each stage, of each partition, of each process."""

from dataclasses import dataclass
from enum import StrEnum


class StageState(StrEnum):
    """How a stage is, for people."""

    #: Nothing waits for longer than a few seconds.
    OK = "ok"
    #: Records wait, and the stage works on them.
    BEHIND = "behind"
    #: Records wait, and nothing has been done in some partition for seconds.
    STALLED = "stalled"


@dataclass(frozen=True, slots=True)
class Rates:
    """Records a second, over the last ten seconds and the last minute."""

    in_10s: float
    out_10s: float
    in_1m: float
    out_1m: float


@dataclass(frozen=True, slots=True)
class PartitionFigures:
    """How far a stage is in one partition of one topic."""

    topic: str
    partition: int
    #: The next record to be done: an offset in a topic, a seq in the journal.
    position: int
    #: Where the partition ends: the position of a stage that has done everything.
    end: int
    #: Records that wait: at most so many, and 0 only if there is none.
    lag_records: int
    #: The age of the oldest record that waits; 0 only if none does.
    lag_seconds: float
    rates: Rates
    #: Until nothing waits; None where it never will at this rate.
    seconds_to_drain: float | None
    state: StageState
    #: The worker that the brokers have given the partition to, or the relay that holds its lock; None where there is
    #: none, or nobody says.
    owner: str | None
    #: When the position last moved, in seconds since 1970, as far as the monitor has seen; None if never.
    moved_at: float | None
    #: Why it does not go on, as far as is known; empty while it does.
    cause: str


@dataclass(frozen=True, slots=True)
class StageFigures:
    """How far a stage is: the sum of its partitions' records and rates, the worst of their times."""

    name: str
    does: str
    state: StageState
    lag_records: int
    lag_seconds: float
    rates: Rates
    seconds_to_drain: float | None
    cause: str
    partitions: tuple[PartitionFigures, ...]
    #: Seconds behind over the last 15 minutes, oldest first, one every `TREND_STEP_SECONDS`.
    trend: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class ProcessFigures:
    """What a process says of itself at its own port."""

    name: str
    is_ready: bool
    #: Why it is not ready, and since when; empty while it is.
    says: str


@dataclass(frozen=True, slots=True)
class Headline:
    """What a person looks for first."""

    accepted_per_second: float
    numbered_per_second: float
    #: From the brokers' acknowledgement of an order to its number, of a sample of the last minute; None without any.
    numbering_seconds_p50: float | None
    numbering_seconds_p99: float | None
    #: The age of the oldest order that waits for anything; 0 if none does.
    oldest_order_seconds: float


@dataclass(frozen=True, slots=True)
class Payments:
    """What the payments stage waits for that no topic shows."""

    open_attempts: int
    oldest_attempt_seconds: float
    #: Orders whose payment is not known yet; they hold stock.
    holds: int
    oldest_hold_seconds: float


@dataclass(frozen=True, slots=True)
class DeadLetters:
    """Dead letters of a topic and reason that nobody has redriven or discarded yet."""

    topic: str
    reason: str
    count: int
    oldest_seconds: float


@dataclass(frozen=True, slots=True)
class ProbeFigures:
    """How long the monitor's own request takes, from its beginning; None as long as that is not known."""

    number_seconds: float | None
    document_seconds: float | None
    #: Why it does not come through; empty while it does.
    says: str


@dataclass(frozen=True, slots=True)
class Measurement:
    """All of it, at one moment."""

    #: When it was measured, in seconds since 1970.
    at: float
    #: Why it could not be measured since `at`; empty while it can.
    outage: str
    headline: Headline
    stages: tuple[StageFigures, ...]
    payments: Payments
    dead_letters: tuple[DeadLetters, ...]
    processes: tuple[ProcessFigures, ...]
    #: None where there is no probe.
    probe: ProbeFigures | None = None

    @property
    def stages_by_name(self) -> dict[str, StageFigures]:
        """For those who look for one."""
        return {stage.name: stage for stage in self.stages}
