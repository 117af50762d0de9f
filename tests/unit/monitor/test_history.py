"""Rates, time to drain and stalls follow from looks at a partition, and from nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.figures import Rates, StageState
from monitor.history import (
    TREND_STEP_SECONDS,
    DocumentsHistory,
    Look,
    PartitionHistory,
    Trend,
    quantile,
    seconds_to_drain,
    seconds_to_drain_documents,
    slowest,
    state_of,
    worst,
)


def looked(*looks: tuple[float, int, int]) -> PartitionHistory:
    """A history of these looks: at, position, end."""
    history = PartitionHistory()
    for look in looks:
        history.add(Look(*look))
    return history


def test_rates_are_over_ten_seconds_and_over_a_minute() -> None:
    """100 a second came for a minute, and 50 were done; in the last ten seconds 200, and 300."""
    looks = [(float(at), 50 * at, 100 * at) for at in range(61)]
    looks += [(60.0 + at, 3_000 + 300 * at, 6_000 + 200 * at) for at in range(1, 11)]
    rates = looked(*looks).rates()
    assert rates.in_10s == 200
    assert rates.out_10s == 300
    assert rates.in_1m == pytest.approx((50 * 100 + 10 * 200) / 60)
    assert rates.out_1m == pytest.approx((50 * 50 + 10 * 300) / 60)


def test_a_first_look_tells_no_rate() -> None:
    assert looked((5.0, 10, 20)).rates() == Rates(0.0, 0.0, 0.0, 0.0)


def test_a_short_history_tells_the_rate_of_what_there_is() -> None:
    assert looked((5.0, 10, 20), (7.0, 30, 40)).rates() == Rates(10.0, 10.0, 10.0, 10.0)


def test_a_position_that_goes_back_begins_anew() -> None:
    """After a restore, say: otherwise rates below nothing would be shown for a minute."""
    rates = looked((1.0, 100, 100), (2.0, 50, 60), (3.0, 55, 62)).rates()
    assert (rates.in_10s, rates.out_10s) == (2.0, 5.0)


def test_memory_is_bounded() -> None:
    history = looked(*((at / 10, at, at) for at in range(10_000)))
    assert len(history._looks) < 700


def test_idle_since_the_position_last_moved() -> None:
    history = looked((0.0, 1, 5), (1.0, 2, 5), (2.0, 2, 6), (3.5, 2, 9))
    assert history.idle_seconds() == 2.5
    assert history.moved_at == 1.0
    assert history.position == 2


def test_a_partition_in_which_nothing_is_done_is_stalled_and_one_that_is_worked_on_is_behind() -> None:
    assert state_of(lag_records=9, lag_seconds=60.0, idle_seconds=60.0) is StageState.STALLED
    assert state_of(lag_records=9, lag_seconds=60.0, idle_seconds=1.0) is StageState.BEHIND
    assert state_of(lag_records=9, lag_seconds=1.0, idle_seconds=60.0) is StageState.OK
    assert state_of(lag_records=0, lag_seconds=0.0, idle_seconds=3_600.0) is StageState.OK


def test_one_stalled_partition_of_many_is_not_averaged_away() -> None:
    assert worst([StageState.OK] * 31 + [StageState.STALLED]) is StageState.STALLED
    assert worst([]) is StageState.OK


@pytest.mark.parametrize(
    ("records", "in_10s", "out_10s", "seconds"),
    [(0, 50.0, 0.0, 0.0), (100, 10.0, 30.0, 5.0), (100, 10.0, 10.0, None), (100, 30.0, 10.0, None)],
)
def test_time_to_drain_is_what_waits_over_what_is_gained(
    records: int, in_10s: float, out_10s: float, seconds: float | None
) -> None:
    assert seconds_to_drain(records, Rates(in_10s, out_10s, 0.0, 0.0)) == seconds


class DocumentsStage:
    """One partition of the documents stage, and the looks that the monitor takes at it, one a second."""

    def __init__(self) -> None:
        self.at = 0.0
        #: What the topic holds, oldest first; whether each record is a number's.
        self.topic: list[bool] = []
        self.position = 0
        self.unpublished = 0
        self.partition = PartitionHistory()
        self.documents = DocumentsHistory()
        self._told = 0, 0

    def take(self, numbers: int, refusals: int = 0) -> None:
        """These are published."""
        self.topic += [True] * numbers + [False] * refusals
        self._told = self._told[0] + numbers, self._told[1] + refusals

    def work(self, records: int) -> None:
        """The oldest so many are handled; each number's document is announced behind all others."""
        done = self.topic[self.position : self.position + records]
        self.position += len(done)
        self.topic += [False] * sum(done)

    def look(self) -> float | None:
        """The time to drain, a second later."""
        self.at += 1.0
        self.partition.add(Look(self.at, self.position, len(self.topic)))
        self.documents.add(self.at, len(self.topic), *self._told, self.lag + self.unpublished)
        self._told = 0, 0
        return seconds_to_drain_documents(self.lag, self.partition.rates(), self.documents.left, self.documents.rates())

    @property
    def lag(self) -> int:
        """Records that wait."""
        return len(self.topic) - self.position

    @property
    def to_make(self) -> int:
        """Numbers among them."""
        return sum(self.topic[self.position :])


def test_documents_drain_when_the_documents_are_made_though_as_many_records_come_as_go() -> None:
    """3,000 documents at 100 a second take 30 s; their own events, which come behind them, take next to nothing."""
    stage = DocumentsStage()
    stage.look()
    stage.take(numbers=3_000)
    for _ in range(11):
        assert stage.look() is None
    shown = []
    while stage.to_make:
        stage.work(100)
        shown.append(stage.look())
        assert stage.lag == 3_000
        assert stage.documents.left == stage.to_make
    assert len(shown) == 30
    seconds = [each for each in shown if each is not None]
    assert seconds == sorted(seconds, reverse=True)
    for second, each in enumerate(seconds[10:], 11):
        assert each == pytest.approx(30 - second, abs=2)
    stage.work(1_000)
    last = stage.look()
    assert last is not None
    assert 0 < last < seconds[-1]
    stage.work(2_000)
    assert stage.look() == 0


def test_what_others_send_meanwhile_is_part_of_the_documents_that_take_the_time() -> None:
    """40 numbers and 60 refusals a second come to a stage that makes 100 documents: 60 a second are gained."""
    stage = DocumentsStage()
    stage.look()
    stage.take(numbers=3_000)
    stage.look()
    for _ in range(12):
        stage.work(100)
        stage.take(numbers=40, refusals=60)
        shown = stage.look()
    assert stage.documents.left == stage.to_make == 3_000 - 12 * 60
    # The records that need no document are as many as they are, and cost little.
    assert shown is not None
    assert (3_000 - 12 * 60) / 60 < shown < 2 * (3_000 - 12 * 60) / 60


def test_documents_never_drain_where_as_many_numbers_are_given_as_documents_are_made() -> None:
    """However fast the stage is: what waits stays as much."""
    stage = DocumentsStage()
    stage.look()
    stage.take(numbers=500)
    for _ in range(15):
        stage.take(numbers=100)
        stage.work(100 if stage.at < 7 else 200)
        shown = stage.look()
    assert stage.lag > 500
    assert shown is None


def test_numbers_that_are_not_published_yet_are_documents_to_be_made() -> None:
    """The relay stood still: what it publishes later was counted when it was given."""
    stage = DocumentsStage()
    stage.look()
    stage.unpublished = 50
    stage.documents.add(2.0, 50, 50, 0, waiting=50)
    assert stage.documents.left == 50
    stage.documents.add(3.0, 50, 0, 0, waiting=50)
    assert stage.documents.left == 50


def test_of_a_backlog_that_was_there_before_the_first_look_all_may_be_documents_to_be_made() -> None:
    """Never more than wait: it ends at nothing."""
    stage = DocumentsStage()
    stage.take(numbers=300, refusals=100)
    stage._told = 0, 0
    stage.look()
    assert stage.documents.left == 400
    stage.work(100)
    stage.look()
    assert (stage.documents.left, stage.to_make) == (300, 200)
    stage.work(400)
    stage.work(200)
    assert stage.look() == 0
    assert stage.documents.left == 0


def test_a_journal_that_goes_back_begins_anew() -> None:
    """After a restore."""
    documents = DocumentsHistory()
    for at, events in ((1.0, 1_000), (2.0, 400)):
        documents.add(at, events, 0, 0, waiting=30)
    assert documents.left == 30
    assert documents.rates() == Rates(0.0, 0.0, 0.0, 0.0)


def test_a_stage_has_drained_when_its_last_partition_has() -> None:
    assert slowest([1.0, 7.0, 0.0]) == 7.0
    assert slowest([1.0, None]) is None
    assert slowest([]) == 0


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=80))
def test_rates_times_time_are_what_came_and_what_was_done(steps: list[tuple[int, int]]) -> None:
    """For any history that is shorter than ten seconds."""
    position = end = 0
    history = PartitionHistory()
    for number, (done, came) in enumerate(steps):
        end += came + done
        position += done
        history.add(Look(number / 10, position, end))
    rates = history.rates()
    seconds = (len(steps) - 1) / 10
    first_done, first_came = steps[0]
    assert rates.out_10s * seconds == pytest.approx(position - first_done)
    assert rates.in_10s * seconds == pytest.approx(end - first_done - first_came)


def test_a_trend_keeps_each_steps_peak() -> None:
    trend = Trend()
    for at, value in ((0.0, 1.0), (1.0, 9.0), (2.0, 0.0), (TREND_STEP_SECONDS, 2.0), (2 * TREND_STEP_SECONDS, 3.0)):
        trend.add(at, value)
    assert trend.points() == (9.0, 2.0, 3.0)


def test_a_trend_forgets_what_is_older_than_a_quarter_of_an_hour() -> None:
    trend = Trend()
    for step in range(1_000):
        trend.add(step * TREND_STEP_SECONDS, float(step))
    assert trend.points() == tuple(float(step) for step in range(820, 1_000))


def test_quantiles_are_values_that_were_there() -> None:
    values = [float(each) for each in range(1, 101)]
    assert (quantile(values, 0.5), quantile(values, 0.99)) == (50.0, 99.0)
    assert quantile([3.0], 0.99) == 3.0
    assert quantile([], 0.5) is None
