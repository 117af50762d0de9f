"""Waitlists with a real Valkey: orders wait only while stock may still become available for them."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

import pytest

from admission import admission
from admission.admission import Admitted, Asked, SoldOut
from admission.mirror import stock_changed, undecided
from admission.unavailable import RedisUnavailableError
from domain.reservation import Level, Short
from tests.conftest import Services
from tests.integration.admission_world import OwnValkey, World, change, world

HELD = Admitted(held=True)
#: Less than anybody here would wait.
AT_ONCE_SECONDS = 8.0
_Result = TypeVar("_Result")


def sold_out(wanted: int = 1, free: int = 0) -> SoldOut:
    return SoldOut((Short("S", wanted, free),))


@pytest.fixture
async def shop(services: Services) -> AsyncIterator[World]:
    async with world(services.redis_url, gateways=2) as made:
        yield made


async def told_at_once(waiting: Awaitable[_Result]) -> _Result:
    async with asyncio.timeout(AT_ONCE_SECONDS):
        return await waiting


async def limit(shop: World, pieces: int, version: int) -> None:
    """Report how many pieces Postgres says can still be obtained."""
    await shop.mirror.limit_waitlists(shop.seller_id, [("S", pieces, version)])


async def test_a_line_is_no_longer_than_what_there_is(shop: World) -> None:
    await shop.stock(S=5)
    await shop.admit("1", S=5)
    waiting = [await shop.lined_up("a", S=2), await shop.lined_up("b", S=2)]
    assert await told_at_once(shop.wait("c", S=2)) == sold_out(2)
    waiting.append(await shop.lined_up("d", S=1))
    assert await told_at_once(shop.wait("e", S=1)) == sold_out()
    # A place that was given up may be taken by another.
    waiting[0].cancel()
    await shop.until_line("a", lambda places: places == [None])
    waiting.append(await shop.lined_up("f", S=2))
    await shop.gateway.release(shop.asked("1", S=5))
    assert await asyncio.gather(*waiting[1:]) == [HELD] * 3


async def test_of_thousands_at_once_no_more_join_the_waitlist_than_there_are_pieces(services: Services) -> None:
    async with world(services.redis_url, gateways=3) as shop:
        await shop.stock(S=50)
        await shop.admit("1", S=50)
        orders = [shop.asked(f"O-{n}", S=1) for n in range(3_000)]
        began = monotonic()
        lines = [asyncio.create_task(shop.gateways[n % 3].join_waitlist(each, 30)) for n, each in enumerate(orders)]
        while sum(line.done() for line in lines) < 2_950:
            assert monotonic() - began < 25
            await asyncio.sleep(0.05)
        assert {line.result() for line in lines if line.done()} == {sold_out()}
        await shop.gateway.release(shop.asked("1", S=50))
        verdicts = await asyncio.gather(*lines)
        assert (verdicts.count(HELD), verdicts.count(sold_out())) == (50, 2_950)


async def test_when_nothing_can_come_free_everybody_is_told_at_once(shop: World) -> None:
    await shop.stock(S=3)
    for order_id in "123":
        await shop.admit(order_id, S=1)
    waiting = [await shop.lined_up(order_id, 30, S=1) for order_id in "abc"]
    await shop.apply(*(stock_changed(n, [change(-1, 3 - int(n), int(n) + 1, on_hand=3)]) for n in "123"))
    # Claimed with unknown payments: each may become available.
    await limit(shop, 3, 4)
    await asyncio.sleep(0.3)
    assert not any(line.done() for line in waiting)
    await limit(shop, 0, 4)
    assert await told_at_once(asyncio.gather(*waiting)) == [sold_out()] * 3
    assert await told_at_once(shop.wait("d", 30, S=1)) == sold_out()
    assert await shop.line(*"abcd") == [None] * 4


async def test_a_line_loses_its_end_first(shop: World) -> None:
    await shop.stock(S=4)
    await shop.admit("1", S=4)
    waiting = {each: await shop.lined_up(each, 30, S=1) for each in "abcd"}
    await limit(shop, 2, 1)
    assert await told_at_once(asyncio.gather(*(waiting[each] for each in "cd"))) == [sold_out()] * 2
    assert await shop.line(*"abcd") == [1, 2, None, None]
    assert await told_at_once(shop.wait("e", 30, S=1)) == sold_out()
    await shop.gateway.release(shop.asked("1", S=4))
    assert await asyncio.gather(*(waiting[each] for each in "ab")) == [HELD] * 2


async def test_who_can_never_be_served_no_longer_stands_before_who_can(shop: World) -> None:
    await shop.stock(S=1, claimed=4)
    head = await shop.lined_up("head", 30, S=3)
    behind = await shop.lined_up("behind", 30, S=1)
    await limit(shop, 1, 1)
    assert await told_at_once(head) == sold_out(3)
    assert await told_at_once(behind) == HELD


async def test_a_line_that_has_ended_begins_anew_when_something_comes_back(shop: World) -> None:
    await shop.stock(S=0, claimed=5)
    await limit(shop, 0, 1)
    assert await told_at_once(shop.wait("a", 30, S=1)) == sold_out()
    # A confirmed order was cancelled.
    await shop.apply(stock_changed("x", [change(1, 1, 2, on_hand=5)]))
    assert await shop.admit("b", S=1) == HELD
    waiting = await shop.lined_up("c", 30, S=1)
    assert await told_at_once(shop.wait("d", 30, S=1)) == sold_out()
    await shop.gateway.release(shop.asked("b", S=1))
    assert await waiting == HELD
    # The seller has added three pieces.
    await shop.apply(stock_changed("", [change(3, 4, 3, on_hand=8)]))
    assert [await shop.admit(each, S=1) for each in "efg"] == [HELD] * 3


async def test_what_postgres_said_before_a_change_is_not_believed_after_it(shop: World) -> None:
    await shop.stock(S=1, claimed=4)
    await shop.admit("1", S=1)
    await shop.apply(stock_changed("x", [change(1, 2, 2, on_hand=5)]))
    await shop.admit("2", S=1)
    waiting = await shop.lined_up("a", 30, S=1)
    await limit(shop, 0, 1)
    await limit(shop, 2, 2)
    # Read by another worker before that.
    await limit(shop, 3, 2)
    await limit(shop, 0, 1)
    second = await shop.lined_up("b", 30, S=1)
    assert await told_at_once(shop.wait("c", 30, S=1)) == sold_out()
    for order_id in "12":
        await shop.gateway.release(shop.asked(order_id, S=1))
    assert [await waiting, await second] == [HELD, HELD]


async def test_what_postgres_said_counts_the_changes_still_on_their_way(shop: World) -> None:
    await shop.stock(S=0, claimed=5)
    await limit(shop, 1, 3)
    await shop.apply(
        stock_changed("x", [change(1, 1, 2, on_hand=5)]), stock_changed("y", [change(-1, 0, 3, on_hand=5)])
    )
    waiting = await shop.lined_up("a", 30, S=1)
    assert await told_at_once(shop.wait("b", 30, S=1)) == sold_out()
    waiting.cancel()


async def test_a_copy_from_postgres_begins_without_a_limit(shop: World) -> None:
    await shop.stock(S=0, claimed=2)
    await limit(shop, 0, 1)
    await shop.mirror.adopt(shop.seller_id, [("S", Level(2, 2, 5))])
    waiting = [await shop.lined_up(order_id, S=1) for order_id in "ab"]
    assert await told_at_once(shop.wait("c", S=1)) == sold_out()
    for line in waiting:
        line.cancel()


async def test_a_look_names_the_skus_that_have_a_line(shop: World) -> None:
    await shop.stock(S=1, T=1)
    await shop.admit("1", S=1)
    waiting = await shop.lined_up("a", S=1)
    assert (await shop.mirror.tick(shop.seller_id)).waitlisted == ["S"]
    waiting.cancel()
    await shop.until_line("a", lambda places: places == [None])
    assert (await shop.mirror.tick(shop.seller_id)).waitlisted == []
    assert await shop.mirror._calls._redis.exists(f"stock:{{{shop.seller_id}}}:queued") == 0


class Lossy:
    """A gateway's calls of Redis, where one command is executed but its answer is late by `seconds` or lost."""

    def __init__(self, shop: World, command: str, seconds: float | None) -> None:
        self._run: Callable[..., Awaitable[Any]] = shop.gateway._calls.run
        self._command = command
        self._seconds = seconds
        self.asked = asyncio.Event()

    async def __call__(self, seller_id: str, command: str, argument: Any) -> Any:
        answer = await self._run(seller_id, command, argument)
        if command == self._command:
            self.asked.set()
            if self._seconds is None:
                raise RedisUnavailableError("late")
            await asyncio.sleep(self._seconds)
        return answer


async def test_whose_time_ends_while_redis_is_late_is_told_sold_out(
    shop: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it was granted meanwhile goes to the next order."""
    monkeypatch.setattr(admission, "POLL_SECONDS", 60)
    await shop.stock(S=1)
    await shop.admit("1", S=1)
    monkeypatch.setattr(shop.gateway._calls, "run", Lossy(shop, "leave", None))
    waiting = await shop.lined_up("a", 0.6, S=1)
    await shop.gateways[1].release(shop.asked("1", S=1))
    assert await waiting == sold_out()
    began = monotonic()
    while await shop.gateways[1].admit(shop.asked("b", f"C{monotonic()}", S=1)) != HELD:
        assert monotonic() - began < 20
        await asyncio.sleep(0.02)


async def test_a_redis_that_stands_still_at_the_end_of_a_wait_lets_nobody_through(tmp_path: Path) -> None:
    own = OwnValkey(tmp_path / "valkey")
    await own.start()
    # It stands still for longer than a call may take, and for less than two.
    async with world(own.url, call_seconds=1.5) as shop:
        await shop.stock(S=20)
        await shop.admit("1", S=20)
        waiting = [await shop.lined_up(f"w{n}", 4.5 - n / 33, S=1) for n in range(20)]
        await asyncio.sleep(2.7)
        own.send(signal.SIGSTOP)
        asyncio.get_running_loop().call_later(2.4, own.send, signal.SIGCONT)
        assert set(await asyncio.gather(*waiting)) == {sold_out()}
        assert shop.gateway.available
    own.kill()


async def test_a_full_redis_forgets_hints_and_no_levels(tmp_path: Path) -> None:
    own = OwnValkey(tmp_path / "valkey")
    await own.start()
    async with world(own.url) as shop:
        skus = [f"S{n}" for n in range(200)]
        await shop.mirror.adopt(shop.seller_id, [(sku, Level(2, 0, 1)) for sku in skus])
        await shop.believe()
        for sku in skus:
            assert await shop.gateway.admit(Asked(shop.seller_id, sku, sku, ((sku, 1),))) == HELD
        client = shop.mirror._calls._redis
        await client.config_set("maxmemory", (await client.info("memory"))["used_memory"] + 2_000_000)
        for first in range(0, 40_000, 1_000):
            async with client.pipeline(transaction=False) as pipeline:
                for n in range(first, first + 1_000):
                    pipeline.set(f"accepted:{n}", "x" * 100, ex=86_400)
                await pipeline.execute()
        assert (await client.info("stats"))["evicted_keys"] > 10_000
        known = await shop.mirror.read(shop.seller_id, skus)
        assert {(each.free, each.held, each.held_by_holds) for each in known.values()} == {(2, 1, 1)}
        assert len(known) == 200
        assert await shop.admit("more", S0=2) == SoldOut((Short("S0", 2, 1),))
    own.kill()


async def test_what_is_granted_to_who_goes_at_that_moment_goes_to_the_next(
    shop: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis has granted it, the answer is under way, and the client has disconnected."""
    await shop.stock(S=1)
    await shop.admit("1", S=1)
    waiting = await shop.lined_up("a", S=1)
    lossy = Lossy(shop, "stand", 0.3)
    monkeypatch.setattr(shop.gateway._calls, "run", lossy)
    await shop.mirror.apply(shop.seller_id, [undecided("1")])
    await lossy.asked.wait()
    waiting.cancel()
    began = monotonic()
    while await shop.gateways[1].admit(shop.asked("b", f"C{monotonic()}", S=1)) != HELD:
        assert monotonic() - began < 20
        await asyncio.sleep(0.02)
