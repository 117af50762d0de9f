"""Admission while Redis is unavailable or hangs: every order within the rate limit is admitted at once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic

import pytest

from admission import admission, admission_call
from admission.admission import Admission, Admitted, Asked, Limited
from admission.admission_rate import BUCKETS_MAX, BURST, TOKEN_SECONDS, Buckets

AWAY = "redis://127.0.0.1:1/0"


def asked(order_id: str, customer: str = "C", sku: str = "S") -> Asked:
    return Asked("demo", order_id, customer, ((sku, 1),))


@asynccontextmanager
async def away() -> AsyncIterator[Admission]:
    """An admission whose Redis refuses connections (port 1)."""
    made = Admission(AWAY, hold_seconds=60)
    try:
        yield made
    finally:
        await made.close()


async def test_without_redis_all_is_admitted_and_nothing_held() -> None:
    async with away() as gateway:
        verdicts = await asyncio.gather(*(gateway.admit(asked(str(n), f"C{n}")) for n in range(1_000)))
        assert set(verdicts) == {Admitted(held=False)}
        assert not gateway.available


async def test_without_redis_nobody_joins_a_waitlist_and_nobody_has_a_place() -> None:
    async with away() as gateway:
        assert await gateway.join_waitlist(asked("A"), 30) == Admitted(held=False)
        assert await gateway.position("demo", "A") is None
        await gateway.release(asked("A"))


async def test_without_redis_a_gateway_keeps_the_rate_by_itself() -> None:
    async with away() as gateway:
        began = monotonic()
        admitted = 0
        while not isinstance(verdict := await gateway.admit(asked(str(admitted))), Limited):
            assert verdict == Admitted(held=False)
            admitted += 1
            # On a busy machine tokens come back meanwhile.
            assert admitted <= BURST + (monotonic() - began) / TOKEN_SECONDS + 1
        assert admitted >= BURST
        assert 0 < verdict.retry_after_seconds <= TOKEN_SECONDS


async def test_a_redis_that_hangs_costs_a_short_wait_and_then_nothing() -> None:
    """After two timeouts the breaker opens for a while; then a single call tests Redis."""
    connections = 0

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while await reader.read(1024):
            pass
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    gateway = Admission(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0", hold_seconds=60)
    try:
        began = monotonic()
        for turn in range(admission_call.TIMEOUTS_MAX):
            verdicts = await asyncio.gather(*(gateway.admit(asked(f"{turn}-{n}", f"C{n}")) for n in range(200)))
            assert set(verdicts) == {Admitted(held=False)}
        assert admission.CALL_SECONDS_MAX < monotonic() - began < 50 * admission.CALL_SECONDS_MAX
        before, began = connections, monotonic()
        for n in range(1_000):
            assert await gateway.admit(asked(str(n), f"D{n}")) == Admitted(held=False)
            assert await gateway.join_waitlist(asked(str(n)), 30) == Admitted(held=False)
        assert connections == before
        assert monotonic() - began < admission.CALL_SECONDS_MAX * 50
        await asyncio.sleep(admission_call.PAUSE_SECONDS)
        await gateway.admit(asked("again"))
        assert connections > before
    finally:
        await gateway.close()
        server.close()
        await asyncio.sleep(0.05)


async def test_an_url_that_is_none_of_redis_is_refused_at_the_start() -> None:
    with pytest.raises(ValueError):
        Admission("http://127.0.0.1", hold_seconds=60)


def test_a_bucket_gives_its_burst_and_then_a_token_every_fifth_of_a_second() -> None:
    buckets = Buckets()
    taken = [now / 100 for now in range(1_000) if buckets.spend("demo", "C", ["S"], now / 100) == 0]
    assert len(taken) == BURST + 49
    assert taken[:BURST] == [n / 100 for n in range(BURST)]


def test_a_refused_order_takes_no_token_of_any_of_its_skus() -> None:
    buckets = Buckets()
    for _ in range(BURST):
        assert buckets.spend("demo", "C", ["S"], 0) == 0
    for _ in range(3):
        assert buckets.spend("demo", "C", ["S", "T"], 0) == pytest.approx(TOKEN_SECONDS)
    for _ in range(BURST):
        assert buckets.spend("demo", "C", ["T"], 0) == 0


def test_each_seller_customer_and_sku_has_a_bucket_of_its_own() -> None:
    buckets = Buckets()
    for _ in range(BURST):
        buckets.spend("demo", "C", ["S"], 0)
    assert buckets.spend("demo", "C", ["S"], 0) > 0
    for seller, customer, sku in (("other", "C", "S"), ("demo", "D", "S"), ("demo", "C", "T")):
        assert buckets.spend(seller, customer, [sku], 0) == 0


def test_buckets_that_are_full_again_are_forgotten_before_memory_grows() -> None:
    buckets = Buckets()
    for n in range(BUCKETS_MAX):
        buckets.spend("demo", str(n), ["S"], 0)
    for _ in range(BURST):
        buckets.spend("demo", "busy", ["S"], 1)
    for n in range(BUCKETS_MAX - 10):
        buckets.spend("demo", str(n), ["S"], 1.1)
    assert len(buckets._full_at) <= BUCKETS_MAX
    assert buckets.spend("demo", "busy", ["S"], 1.1) > 0
