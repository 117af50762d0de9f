"""What events count as, and the steps of series: in zones whose days are not all as long."""

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from domain.analytics import (
    POINTS_MAX,
    Counted,
    OrderAmount,
    Range,
    Step,
    count_payment,
    count_step,
    counted_as,
    cover_days,
    cut,
    minute_of,
    quarter_of,
    share,
    sold_pieces,
)
from domain.order import TABLE, WALKS, OrderState, Trigger
from domain.refusals import Refusal


def steps(since: str, until: str, step: Step, zone: str) -> Range:
    found = cut(datetime.fromisoformat(since), datetime.fromisoformat(until), step, ZoneInfo(zone))
    assert isinstance(found, Range)
    return found


def hours(found: Range) -> list[float]:
    minutes = found.minutes
    return [(after - before) / 60 for before, after in itertools.pairwise(minutes)]


@pytest.mark.parametrize(
    ("zone", "since", "until", "lengths"),
    [
        ("Europe/Paris", "2026-03-28T12:00Z", "2026-03-30T12:00Z", [24, 23, 24]),
        ("Europe/Paris", "2026-10-24T12:00Z", "2026-10-26T12:00Z", [24, 25, 24]),
        ("America/New_York", "2026-11-01T12:00Z", "2026-11-01T13:00Z", [25]),
        # At midnight the clock goes to 1 o'clock: the day begins there.
        ("America/Santiago", "2026-09-05T12:00Z", "2026-09-06T12:00Z", [24, 23]),
        # Half an hour of summer time.
        ("Australia/Lord_Howe", "2026-10-03T12:00Z", "2026-10-04T12:00Z", [24, 23.5]),
        ("Asia/Kathmandu", "2026-10-03T12:00Z", "2026-10-03T19:00Z", [24, 24]),
        ("UTC", "2026-10-03T00:00Z", "2026-10-05T00:00Z", [24, 24]),
    ],
)
def test_days_are_as_long_as_they_are_in_their_zone(zone: str, since: str, until: str, lengths: list[float]) -> None:
    found = steps(since, until, Step.DAY, zone)
    assert hours(found) == lengths
    assert found.since <= datetime.fromisoformat(since) and found.until >= datetime.fromisoformat(until)


def test_the_hour_that_comes_twice_is_two_hours() -> None:
    found = steps("2026-10-25T00:00Z", "2026-10-25T03:00Z", Step.HOUR, "Europe/Paris")
    assert [each.isoformat() for each in found.bounds] == [
        "2026-10-25T02:00:00+02:00",
        "2026-10-25T02:00:00+01:00",
        "2026-10-25T03:00:00+01:00",
        "2026-10-25T04:00:00+01:00",
    ]
    assert hours(found) == [1, 1, 1]


def test_hours_are_whole_on_the_zones_own_clock() -> None:
    found = steps("2026-11-30T09:10Z", "2026-11-30T10:10Z", Step.HOUR, "Asia/Kolkata")
    assert [each.isoformat() for each in found.bounds] == [
        "2026-11-30T14:00:00+05:30",
        "2026-11-30T15:00:00+05:30",
        "2026-11-30T16:00:00+05:30",
    ]


@pytest.mark.parametrize("step", Step)
def test_every_minute_is_in_one_step(step: Step) -> None:
    """Bounds rise, and stand at whole quarters but for minutes, so that folded counts are on the right side."""
    found = steps("2026-10-24T21:59:59Z", "2026-10-25T05:00:01Z", step, "Australia/Lord_Howe")
    minutes = found.minutes
    assert minutes == sorted(set(minutes))
    if step is not Step.MINUTE:
        assert [quarter_of(each) for each in minutes] == minutes


def test_a_series_has_an_end() -> None:
    at = datetime(2026, 11, 30, tzinfo=UTC)
    longest = cut(at, at + timedelta(minutes=POINTS_MAX), Step.MINUTE, UTC)
    assert isinstance(longest, Range)
    assert len(longest.bounds) == POINTS_MAX + 1
    too_long = cut(at, at + timedelta(minutes=POINTS_MAX, seconds=1), Step.MINUTE, UTC)
    assert isinstance(too_long, Refusal)
    assert too_long.field == "step"
    empty = cut(at, at, Step.DAY, UTC)
    assert isinstance(empty, Refusal)
    assert empty.field == "until"


def test_each_step_that_an_order_may_take_counts_as_what_it_is() -> None:
    """Those of the transition table, all of them: confirmed, declined, cancelled or voided, or nothing."""
    c, d, x, v = Counted.CONFIRMED, Counted.DECLINED, Counted.CANCELLED, Counted.VOIDED
    counting = {
        (before, after, reason): counted_as(before or "", after, reason)
        for before, after, reason in WALKS
        if counted_as(before or "", after, reason)
    }
    s, t = OrderState, Trigger
    assert counting == {
        (s.PAYMENT_PENDING, s.CONFIRMED, t.PAYMENT_AUTHORIZED.value): [c],
        (s.CANCELLED, s.CONFIRMED, t.PAYMENT_AUTHORIZED.value): [c],
        (s.PAYMENT_PENDING, s.CANCELLED, t.PAYMENT_DECLINED.value): [d],
        (s.PAYMENT_PENDING, s.CANCELLED, t.PAYMENT_FAILED.value): [d],
        (s.PAYMENT_PENDING, s.CANCELLED, t.HOLD_EXPIRED.value): [x],
        (s.PAYMENT_PENDING, s.CANCELLED, t.CANCEL.value): [x],
        (s.CONFIRMED, s.CANCELLED, t.CANCEL.value): [x, v],
    }
    assert TABLE


def test_a_step_has_the_amount_of_its_order() -> None:
    event: Any = {
        "seller_id": "demo", "from_state": "PAYMENT_PENDING", "to_state": "CONFIRMED", "reason": "payment-authorized",
        "occurred_at": 119_999_999,
    }  # fmt: skip
    assert count_step(event, OrderAmount("EUR", 1999)) == [("demo", 1, "EUR", Counted.CONFIRMED, 1999)]


@pytest.mark.parametrize(
    ("action", "outcome", "counted"),
    [
        ("capture", "succeeded", Counted.CAPTURED), ("refund", "succeeded", Counted.REFUNDED),
        ("capture", "failed", None), ("refund", "failed", None), ("authorize", "succeeded", None),
        ("void", "succeeded", None),
    ],
)  # fmt: skip
def test_only_money_that_has_moved_is_counted(action: str, outcome: str, counted: Counted | None) -> None:
    event: Any = {
        "seller_id": "demo", "currency": "EUR", "amount_minor": 5, "action": action, "outcome": outcome,
        "occurred_at": 0,
    }  # fmt: skip
    assert [each.what for each in count_payment(event)] == ([] if counted is None else [counted])


def test_what_is_given_back_is_not_sold() -> None:
    def pieces(cause: str) -> list[int]:
        event: Any = {
            "seller_id": "demo", "cause": cause, "changes": [{"sku": "MUG", "quantity": 3}], "occurred_at": 0
        }  # fmt: skip
        return [each.pieces for each in sold_pieces(event)]

    assert [pieces(cause) for cause in ("reserved", "retaken", "released")] == [[3], [3], [-3]]
    assert [pieces(cause) for cause in ("shipped", "adjusted", "set")] == [[], [], []]


def test_shares_and_cover_are_rounded_decimals() -> None:
    assert [share(1, 3), share(2, 3), share(0, 5), share(5, 5), share(1, 0)] == [
        "0.3333",
        "0.6667",
        "0.0000",
        "1.0000",
        None,
    ]
    assert [
        cover_days(10, 7, 7),
        cover_days(1, 3, 7),
        cover_days(0, 1, 7),
        cover_days(5, 0, 7),
        cover_days(5, -1, 7),
    ] == ["10.0", "2.3", "0.0", None, None]


def test_minutes_and_quarters_begin_before_the_moment() -> None:
    assert [minute_of(59_999_999), minute_of(60_000_000), quarter_of(14), quarter_of(15), quarter_of(29)] == [
        0,
        1,
        0,
        15,
        15,
    ]
