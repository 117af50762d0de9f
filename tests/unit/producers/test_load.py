"""Load: repeats that can be repeated, a bounded number of requests at a time, latencies that hide nothing."""

import asyncio
import math
from array import array
from collections import Counter
from typing import Any

import pytest

from producers.client import GaplessClient, GatewayAnswer, UnavailableError
from producers.load import LoadReport, percentile, run, with_repeats


class FakeClient(GaplessClient):
    """Answers after `seconds`, 202 unless told otherwise, and counts how many wait at the same time."""

    def __init__(self, seconds: float = 0.0) -> None:
        super().__init__("http://nowhere", "key")
        self.seconds = seconds
        self.sent: list[bytes] = []
        self.at_once = self.at_once_max = 0
        self.unavailable: set[bytes] = set()

    async def post_invoice(self, body: Any, wait_s: int | None = None) -> GatewayAnswer:
        self.sent.append(body)
        self.at_once += 1
        self.at_once_max = max(self.at_once_max, self.at_once)
        await asyncio.sleep(self.seconds)
        self.at_once -= 1
        if body in self.unavailable:
            raise UnavailableError(f"{body!r}")
        return GatewayAnswer(202, b"{}", 1)


def payloads(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]


@pytest.mark.parametrize(("distinct", "share", "total"), [(4_500, 0.1, 5_000), (9, 0.1, 10), (1, 0.5, 2), (7, 0.0, 7)])
def test_the_share_of_repeats_is_that_of_the_whole(distinct: int, share: float, total: int) -> None:
    sent = list(with_repeats(payloads(distinct), share, seed=1))
    assert len(sent) == total
    assert set(sent) == set(payloads(distinct))


def test_the_same_seed_repeats_the_same_and_another_does_not() -> None:
    runs = [list(with_repeats(payloads(1_000), 0.2, seed=seed)) for seed in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]


def test_a_repeat_never_comes_before_what_it_repeats() -> None:
    seen = set()
    distinct = iter(payloads(1_000))
    expected = next(distinct)
    for payload in with_repeats(payloads(1_000), 0.3, seed=4):
        if payload not in seen:
            assert payload == expected
            expected = next(distinct, b"")
        seen.add(payload)


def test_a_share_that_leaves_nothing_to_repeat_is_refused() -> None:
    with pytest.raises(ValueError, match="below 1"):
        next(with_repeats(payloads(1), 1.0, seed=1))


async def test_each_payload_is_sent_once_by_a_bounded_number_at_a_time() -> None:
    client = FakeClient(0.001)
    report = await run(client, payloads(200), workers=8)
    assert Counter(client.sent) == Counter(payloads(200))
    assert client.at_once_max == 8
    assert (report.answered, report.statuses[202], len(report.latencies_s)) == (200, 200, 200)


async def test_what_is_sent_need_not_be_an_invoice_request() -> None:
    client = FakeClient()
    sent: list[tuple[bytes, int | None]] = []

    async def post(payload: bytes, wait_s: int | None) -> GatewayAnswer:
        sent.append((payload, wait_s))
        return GatewayAnswer(201, b"{}", 1)

    report = await run(client, payloads(3), wait_s=5, post=post)
    assert sorted(sent) == [(b"0", 5), (b"1", 5), (b"2", 5)]
    assert (report.statuses[201], client.sent) == (3, [])


async def test_count_max_stops_the_load() -> None:
    client = FakeClient()
    report = await run(client, payloads(100), count_max=10)
    assert report.answered == len(client.sent) == 10


async def test_at_a_rate_requests_leave_when_due_and_not_before() -> None:
    report = await run(FakeClient(), payloads(20), rate=200.0)
    assert report.seconds >= 19 / 200


async def test_at_a_rate_a_stall_counts_against_every_request_that_was_due_in_it() -> None:
    """One worker, 50 ms an answer, one due each 10 ms: the last was due long before it could be sent."""
    report = await run(FakeClient(0.05), payloads(10), rate=100.0, workers=1)
    assert max(report.latencies_s) > 0.35


async def test_requests_given_up_are_counted_and_named_and_the_rest_goes_on() -> None:
    client = FakeClient()
    client.unavailable = {b"3"}
    report = await run(client, payloads(10))
    assert (report.answered, report.failed) == (9, 1)
    assert report.failures == ["b'3'"]


def test_percentiles_are_by_nearest_rank() -> None:
    values = array("d", range(1, 101))
    assert [percentile(values, percent) for percent in (50, 99, 100)] == [50, 99, 100]
    assert percentile([7.0], 1) == 7.0
    assert math.isnan(LoadReport().percentile_s(50))
