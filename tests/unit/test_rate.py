"""The rate of the benchmarks, from what each look sees."""

import pytest

from benchmarks.rate import per_second


class _Looks:
    """A count that goes on from look to look, and a clock that each look and each pause moves by a second."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *seen: int) -> None:
        self._seen = iter(seen)
        self._now = 0.0
        monkeypatch.setattr("benchmarks.rate.time.monotonic", lambda: self._now)
        monkeypatch.setattr("benchmarks.rate.time.sleep", self._pass)

    def count(self) -> int:
        """What the next look sees."""
        self._pass(1.0)
        return next(self._seen)

    def _pass(self, seconds: float) -> None:
        self._now += seconds


def test_a_rate_is_from_the_first_look_that_sees_some(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = _Looks(monkeypatch, 0, 0, 100, 200, 300)
    assert per_second(looks.count, 300, poll_s=1.0) == 200 / 4


@pytest.mark.parametrize("seen", [(0, 0, 300), (300,)])
def test_what_one_look_sees_at_once_has_a_rate_too(monkeypatch: pytest.MonkeyPatch, seen: tuple[int, ...]) -> None:
    looks = _Looks(monkeypatch, *seen)
    assert per_second(looks.count, 300, poll_s=1.0) == 300 / min(len(seen), 2)


def test_what_is_never_done_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = _Looks(monkeypatch, *range(1_000))
    with pytest.raises(TimeoutError, match="of 5,000"):
        per_second(looks.count, 5_000, poll_s=1.0)
