"""When a service that doesn't answer is left alone: that of the payment provider, of Redis, of Postgres."""

from domain.breaker import Breaker, Gate


def payments() -> Breaker:
    return Breaker(failures_max=5, open_seconds=30, trials_max=3)


def redis() -> Breaker:
    return Breaker(failures_max=2, open_seconds=1, counts_overlapping=False)


def test_the_breaker_opens_after_five_failures_in_a_row() -> None:
    breaker = payments()
    for _ in range(4):
        assert not breaker.failed(100, began_at=100)
    breaker.succeeded(100)
    for _ in range(4):
        assert not breaker.failed(100, began_at=100)
    assert breaker.gate(100) is Gate.CLOSED
    assert breaker.failed(100, began_at=100)
    assert breaker.gate(100) is breaker.gate(129.9) is Gate.OPEN


def test_after_its_time_the_breaker_opens_again_when_three_have_failed() -> None:
    """The first may be one that always fails; the others would wait for its sake."""
    breaker = payments()
    for _ in range(5):
        breaker.failed(100, began_at=100)
    for at in (130, 132, 134):
        assert breaker.gate(at) is Gate.HALF_OPEN
        assert not breaker.failed(at + 1, began_at=at)
    assert breaker.gate(135) is breaker.gate(164.9) is Gate.OPEN
    assert breaker.gate(165) is Gate.HALF_OPEN


def test_one_answer_closes_the_breaker_and_all_begins_anew() -> None:
    breaker = payments()
    for _ in range(5):
        breaker.failed(100, began_at=100)
    for at in (130, 131):
        breaker.failed(at, began_at=at)
    breaker.succeeded(132)
    assert breaker.gate(132) is Gate.CLOSED
    assert [breaker.failed(133, began_at=133) for _ in range(5)] == [False] * 4 + [True]


def test_calls_that_began_before_it_opened_do_not_keep_the_breaker_open() -> None:
    breaker = Breaker(failures_max=1, open_seconds=30)
    breaker.failed(100, began_at=100)
    breaker.failed(108, began_at=100)
    assert breaker.gate(130) is Gate.HALF_OPEN


def test_silence_about_one_call_is_no_news_where_another_was_answered_since() -> None:
    """A tenth of a hundred calls at once: cut, or never answered, while the others are."""
    breaker = payments()
    breaker.succeeded(100.05)
    for _ in range(10):
        assert not breaker.failed(100.06, began_at=100)
        assert not breaker.failed(108, began_at=100)
    assert breaker.gate(108) is Gate.CLOSED
    assert [breaker.failed(109, began_at=101) for _ in range(5)] == [False] * 4 + [True]


def test_an_answer_closes_the_breaker_whenever_it_comes() -> None:
    breaker = Breaker(failures_max=1, open_seconds=30)
    breaker.failed(100, began_at=100)
    breaker.succeeded(101)
    assert breaker.gate(101) is Gate.CLOSED


def test_calls_that_were_late_together_are_late_for_one_reason() -> None:
    """However many there are: the process itself may have been busy."""
    breaker = redis()
    for _ in range(8):
        assert not breaker.failed(100.1, began_at=100.0)
    assert breaker.gate(100.1) is Gate.CLOSED
    assert breaker.failed(100.3, began_at=100.2)
    assert breaker.gate(100.3) is Gate.OPEN


def test_a_refused_connection_opens_the_breaker_at_once_whatever_was_answered_meanwhile() -> None:
    breaker = redis()
    breaker.succeeded(100.05)
    assert breaker.failed(100.1, began_at=100.0, is_certain=True)
    assert breaker.gate(101.0) is Gate.OPEN
    assert breaker.gate(101.1) is Gate.HALF_OPEN


def test_one_late_call_of_a_trial_opens_the_breaker_again() -> None:
    breaker = redis()
    breaker.failed(100, began_at=100, is_certain=True)
    assert not breaker.failed(101.2, began_at=101.1)
    assert breaker.gate(102.1) is Gate.OPEN
    breaker.succeeded(102.3)
    assert not breaker.failed(102.5, began_at=102.4)
    assert breaker.gate(102.5) is Gate.CLOSED
