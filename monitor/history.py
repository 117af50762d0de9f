"""What follows from two looks at a partition, or more: rates, time to drain, stalls. Pure: time is an argument."""

import math
from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from monitor.figures import Rates, StageState

_SHORT_SECONDS = 10.0
_LONG_SECONDS = 60.0
#: Records that wait for less are on their way.
BEHIND_SECONDS = 5.0
#: A partition in which records wait and nothing was done for so long is stalled. Above the time that a worker takes for
#: its largest batch, and low enough to be seen within five seconds.
STALLED_SECONDS = 3.0
#: One point of a trend each; 180 make 15 minutes.
TREND_STEP_SECONDS = 5.0
_TREND_POINTS = 180
#: What a record that needs no document costs the documents stage, which only reads it, as a share of what a document
#: costs. Measured as less. It matters only for the last records, once all documents are made.
_PASSED_OVER = 0.05


class Look(NamedTuple):
    """What was seen of a partition at one moment."""

    #: In seconds, by a clock that only goes forward.
    at: float
    position: int
    end: int


class PartitionHistory:
    """The looks of the last minute at one partition."""

    def __init__(self) -> None:
        self._looks: deque[Look] = deque()
        self._moved_at: float | None = None

    @property
    def position(self) -> int | None:
        """Where it stood at the last look; None before the first."""
        return self._looks[-1].position if self._looks else None

    @property
    def moved_at(self) -> float | None:
        """The look at which the position had moved last; None if it never has."""
        return self._moved_at

    def add(self, look: Look) -> None:
        """Look again. A position that goes back, as after a restore, begins a new history."""
        if self._looks and (look.position < self._looks[-1].position or look.end < self._looks[-1].end):
            self._looks.clear()
        if self._looks and look.position > self._looks[-1].position:
            self._moved_at = look.at
        self._looks.append(look)
        # One look beyond the minute stays: rates are over the whole of it.
        while len(self._looks) > 2 and self._looks[1].at <= look.at - _LONG_SECONDS:
            self._looks.popleft()

    def rates(self) -> Rates:
        """As far back as there are looks; 0 before the second."""
        in_10s, out_10s = self._rates_over(_SHORT_SECONDS)
        in_1m, out_1m = self._rates_over(_LONG_SECONDS)
        return Rates(in_10s, out_10s, in_1m, out_1m)

    def idle_seconds(self) -> float:
        """For how long the position has stood where it stands, as far as the looks go back."""
        if not self._looks:
            return 0.0
        last = self._looks[-1]
        since = last.at
        for look in reversed(self._looks):
            if look.position != last.position:
                break
            since = look.at
        return last.at - since

    def _rates_over(self, seconds: float) -> tuple[float, float]:
        last = self._looks[-1]
        first = next((look for look in reversed(self._looks) if look.at <= last.at - seconds), self._looks[0])
        if first.at == last.at:
            return 0.0, 0.0
        passed = last.at - first.at
        return (last.end - first.end) / passed, (last.position - first.position) / passed


class DocumentsHistory:
    """The documents of a partition that are still to be made, and how fast they are asked for and made.

    The documents stage announces each document in the topic that it reads, so its lag doesn't say what it has to do:
    while it works off a backlog of invoices, as many records come as go.
    """

    def __init__(self) -> None:
        self._events: int | None = None
        self._numbers = self._stored = 0
        self._history = PartitionHistory()
        #: Numbers whose document is not stored.
        self.left = 0

    def add(self, at: float, events: int, numbers: int, refusals: int, waiting: int) -> None:
        """Look again, at a moment in seconds by a clock that only goes forward.

        `events` is how many the partition has been given, and `numbers` and `refusals` are how many of those since the
        last look told of one: the others tell of a stored document. `waiting` is how many the stage has before it,
        those that are not published yet included. At the first look, each of these may be a number.
        """
        if self._events is None:
            self.left = waiting
        else:
            stored = events - self._events - numbers - refusals
            self._numbers += numbers
            self._stored += stored
            self.left = min(max(0, self.left + numbers - stored), waiting)
        self._events = events
        self._history.add(Look(at, self._stored, self._numbers))

    def rates(self) -> Rates:
        """Numbers given, as what comes in, and documents stored, as what goes out."""
        return self._history.rates()


class Trend:
    """A figure over the last 15 minutes; of each step its highest value, so that no peak is missed."""

    def __init__(self) -> None:
        self._points: deque[float] = deque(maxlen=_TREND_POINTS)
        self._step = -1

    def add(self, at: float, value: float) -> None:
        """The figure's value at a moment, in seconds by a clock that only goes forward."""
        step = int(at / TREND_STEP_SECONDS)
        if step == self._step:
            self._points[-1] = max(self._points[-1], value)
        else:
            self._points.append(value)
            self._step = step

    def points(self) -> tuple[float, ...]:
        """Oldest first."""
        return tuple(self._points)


def seconds_to_drain(lag_records: int, rates: Rates) -> float | None:
    """How long until nothing waits, at the rates of the last ten seconds; None if never at these."""
    if lag_records == 0:
        return 0.0
    gain = rates.out_10s - rates.in_10s
    return lag_records / gain if gain > 0 else None


def seconds_to_drain_documents(lag_records: int, rates: Rates, left: int, made: Rates) -> float | None:
    """The same of the documents stage: of what waits for it, the documents that are `left` to be made take the time."""
    if lag_records == 0:
        return 0.0
    work = left + _PASSED_OVER * lag_records
    gain = made.out_10s - made.in_10s + _PASSED_OVER * (rates.out_10s - rates.in_10s)
    return work / gain if gain > 0 else None


def slowest(times_to_drain: Iterable[float | None]) -> float | None:
    """The longest of them, for nobody has drained before the last has; None, never, is longer than any."""
    times = list(times_to_drain)
    return None if any(each is None for each in times) else max((each for each in times if each is not None), default=0)


def state_of(lag_records: int, lag_seconds: float, idle_seconds: float) -> StageState:
    """How a partition is."""
    if lag_records and min(lag_seconds, idle_seconds) >= STALLED_SECONDS:
        return StageState.STALLED
    return StageState.BEHIND if lag_seconds >= BEHIND_SECONDS else StageState.OK


def worst(states: Iterable[StageState]) -> StageState:
    """Of a stage's partitions: one that is stalled is not averaged away."""
    order = list(StageState)
    return max(states, key=order.index, default=StageState.OK)


def total(rates: Sequence[Rates]) -> Rates:
    """Of several partitions."""
    return Rates(
        sum(each.in_10s for each in rates),
        sum(each.out_10s for each in rates),
        sum(each.in_1m for each in rates),
        sum(each.out_1m for each in rates),
    )


def quantile(values: Sequence[float], share: float) -> float | None:
    """The least value that at least `share` of the values don't exceed (nearest rank); None of none."""
    if not values:
        return None
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]
