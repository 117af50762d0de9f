"""The benchmarks' open-model load: requests are sent when they are due, and waits count from then."""

import asyncio
from itertools import pairwise

import pytest

from benchmarks.arrivals import Waits, due_times, send
from producers.client import GatewayAnswer, UnavailableError

_ANSWER = GatewayAnswer(200, b"{}", 1)


def test_requests_are_due_at_random_as_often_as_asked_for_and_alike_for_a_seed() -> None:
    due_s = due_times(200, 20, seed=3)
    assert due_s == due_times(200, 20, seed=3)
    assert due_s != due_times(200, 20, seed=4)
    assert len(due_s) == pytest.approx(4_000, rel=0.1)
    assert due_s[0] > 0
    assert due_s[-1] < 20
    gaps = [later - earlier for earlier, later in pairwise(due_s)]
    # Of a Poisson process, 63 of 100 gaps are below the mean.
    assert sum(gap < 1 / 200 for gap in gaps) / len(gaps) == pytest.approx(0.63, abs=0.05)


async def test_an_open_request_delays_no_other() -> None:
    """None of ten is answered before all of them are open."""
    under_way = asyncio.Barrier(10)
    answered: list[bytes] = []

    async def post(payload: bytes) -> GatewayAnswer:
        await under_way.wait()
        return _ANSWER

    payloads = [b"%d" % number for number in range(10)]
    async with asyncio.timeout(60):
        await send(payloads, [0.0] * 10, post, lambda payload, *_: answered.append(payload))
    assert sorted(answered) == payloads


async def test_no_request_is_sent_before_it_is_due() -> None:
    sent_at: list[float] = []
    clock = asyncio.get_running_loop().time

    async def post(_: bytes) -> GatewayAnswer:
        sent_at.append(clock())
        return _ANSWER

    began = clock()
    await send([b"", b""], [0.0, 0.2], post, lambda *_: None)
    assert sent_at[0] - began < sent_at[1] - began
    assert sent_at[1] - began >= 0.2


async def test_a_request_that_is_sent_late_has_waited_since_it_was_due() -> None:
    """As after a stall of the load tool itself."""
    waits_s: list[float] = []

    async def post(_: bytes) -> GatewayAnswer:
        return _ANSWER

    await send([b""], [-2.0], post, lambda _, __, wait_s: waits_s.append(wait_s))
    assert len(waits_s) == 1
    assert waits_s[0] >= 2.0


async def test_a_request_without_an_answer_ends_the_load() -> None:
    async def post(_: bytes) -> GatewayAnswer:
        raise UnavailableError("no answer")

    with pytest.raises(ExceptionGroup) as failed:
        await send([b""], [0.0], post, lambda *_: None)
    assert failed.group_contains(UnavailableError)


def test_waits_have_every_percentile_to_three_digits() -> None:
    waits = Waits()
    for milliseconds in range(1, 1_001):
        waits.add(milliseconds / 1e3)
    assert len(waits) == 1_000
    for percent, milliseconds in ((50, 500), (99, 990), (99.9, 999), (100, 1_000)):
        assert waits.ms(percent) == pytest.approx(milliseconds, rel=1e-3)


def test_no_wait_is_too_short_or_too_long_to_be_recorded() -> None:
    waits = Waits()
    waits.add(0.0)
    waits.add(3_600.0)
    assert len(waits) == 2
    assert waits.ms(100) == pytest.approx(600_000, rel=1e-3)
