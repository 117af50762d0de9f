"""Rates, time to drain and stalls follow from looks at a partition, and from nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.figures import Rates, StageState
from monitor.history import (
    TREND_STEP_SECONDS,
    Look,
    PartitionHistory,
    Trend,
    quantile,
    seconds_to_drain,
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
