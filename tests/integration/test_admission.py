"""Admission with a real Valkey: never more than the stock, in the order of arrival, and open after a loss of data."""

import asyncio
import random
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from time import monotonic

import pytest
import redis.asyncio

from admission import admission_call
from admission.admission import CALL_SECONDS_MAX, Admission, Admitted, Asked, SoldOut
from admission.admission_rate import BURST, TOKEN_SECONDS
from admission.mirror import conflicted, placed, refused, stock_changed, undecided
from domain.breaker import Breaker
from domain.reservation import Level, Short
from tests.conftest import Services
from tests.integration.admission_world import (
    PATIENT_SECONDS,
    OwnValkey,
    World,
    change,
    held,
    until_limited,
    world,
)
from tests.integration.gateways import until

HELD, OPEN = Admitted(held=True), Admitted(held=False)


def sold_out(sku: str = "S", wanted: int = 1, free: int = 0) -> SoldOut:
    return SoldOut((Short(sku, wanted, free),))


@pytest.fixture
async def shop(services: Services) -> AsyncIterator[World]:
    async with world(services.redis_url, gateways=2) as made:
        yield made


@pytest.fixture
async def own(tmp_path: Path) -> AsyncIterator[OwnValkey]:
    made = OwnValkey(tmp_path / "valkey")
    await made.start()
    yield made
    made.kill()


async def test_an_order_takes_all_its_lines_or_none(shop: World) -> None:
    await shop.stock(A=5, B=1)
    assert await shop.admit("1", A=2, B=2) == sold_out("B", 2, 1)
    assert (await shop.known("A")).available == 5
    assert await shop.admit("2", A=2, B=1) == HELD
    assert ((await shop.known("A")).available, (await shop.known("B")).available) == (3, 0)
    assert await shop.admit("3", A=4, B=1) == SoldOut((Short("A", 4, 3), Short("B", 1, 0)))


async def test_a_repeat_holds_nothing_more(shop: World) -> None:
    await shop.stock(S=3)
    verdicts = await asyncio.gather(*(gateway.admit(shop.asked("1", S=2)) for gateway in shop.gateways * 10))
    assert set(verdicts) == {HELD}
    assert (await shop.known()).available == 1


async def test_a_repeat_of_a_decided_order_holds_nothing(shop: World) -> None:
    await shop.stock(S=3)
    await shop.admit("1", S=2)
    await shop.apply(stock_changed("1", [change(-2, 1, 2)]))
    assert await shop.admit("1", S=2) == OPEN
    assert ((await shop.known()).held, (await shop.known()).available) == (0, 1)


async def test_a_hold_ends_with_its_time(services: Services) -> None:
    async with world(services.redis_url, hold_seconds=3) as shop:
        await shop.stock(S=1)
        began = monotonic()
        assert await shop.admit("1", S=1) == HELD
        assert await shop.admit("2", S=1) == sold_out()
        await until(lambda: shop.admit("3", f"C{monotonic()}", S=1), lambda verdict: verdict == HELD)
        assert monotonic() - began > 2.9


async def test_what_is_released_is_free_again_and_only_once(shop: World) -> None:
    await shop.stock(S=1)
    await shop.admit("1", S=1)
    for _ in range(2):
        await shop.gateway.release(shop.asked("1", S=1))
    assert (await shop.known()).available == 1
    assert await shop.admit("2", S=1) == HELD
    assert await shop.admit("3", S=1) == sold_out()


async def test_an_unknown_sku_is_for_the_database_to_decide(shop: World) -> None:
    await shop.stock(S=1)
    assert await shop.admit("1", S=1, X=1) == OPEN
    assert (await shop.known()).available == 1
    assert await shop.admit("2", S=2, X=1) == sold_out("S", 2, 1)


async def test_the_rate_holds_across_gateways(shop: World) -> None:
    await shop.stock(S=1_000)
    verdicts, limited = await until_limited(lambda n: shop.gateways[n % 2].admit(shop.asked(str(n), "C", S=1)))
    assert set(verdicts) == {HELD}
    assert (await shop.known()).available == 1_000 - len(verdicts)
    assert await shop.admit("other customer", S=1) == HELD
    await asyncio.sleep(limited.retry_after_seconds + 0.01)
    assert await shop.admit("later", "C", S=1) == HELD
    await until_limited(lambda n: shop.admit(f"too soon {n}", "C", S=1), least=0)


async def test_the_rate_is_five_a_second_whoever_asks_how_often(shop: World) -> None:
    await shop.stock(S=1_000)
    began = monotonic()
    verdicts: list[object] = []
    while monotonic() - began < 1.5:
        verdicts += await asyncio.gather(
            *(gateway.admit(shop.asked(f"{len(verdicts)}-{n}", "C", S=1)) for n, gateway in enumerate(shop.gateways))
        )
        await asyncio.sleep(0.005)
    # On a busy machine it is asked less often, and the last time is later.
    earned = (monotonic() - began) / TOKEN_SECONDS
    assert min(len(verdicts), BURST + 5) <= verdicts.count(HELD) <= BURST + earned + 1


async def test_a_repeat_of_an_order_that_holds_costs_no_token(shop: World) -> None:
    await shop.stock(S=100)
    assert {await shop.admit("1", "C", S=1) for _ in range(3 * BURST)} == {HELD}
    assert {await shop.admit(f"then {n}", "C", S=1) for n in range(BURST - 1)} == {HELD}


async def test_a_clock_set_back_locks_nobody_out(shop: World) -> None:
    await shop.stock(S=100)
    bucket = f"stock:{{{shop.seller_id}}}:rate:1:S:C"
    await shop.mirror._calls._redis.set(bucket, int((time.time() + 3600) * 1_000_000))
    verdicts, _ = await until_limited(lambda n: shop.admit(str(n), "C", S=1))
    assert set(verdicts) == {HELD}


async def test_the_rate_holds_also_where_redis_knows_nothing_else(shop: World) -> None:
    verdicts, _ = await until_limited(lambda n: shop.admit(str(n), "C", S=1))
    assert set(verdicts) == {OPEN}


@pytest.mark.parametrize("shards", [1, 8])
async def test_five_thousand_at_once_get_five_hundred_pieces(services: Services, shards: int) -> None:
    """However long a busy machine takes: timeouts are tested elsewhere."""
    async with world(services.redis_url, gateways=3, call_seconds=60) as shop:
        await shop.stock(shards, S=500)
        orders = [shop.asked(f"O-{n}", S=1) for n in range(5_000)]
        verdicts = await asyncio.gather(*(shop.gateways[n % 3].admit(order) for n, order in enumerate(orders)))
        assert held(verdicts) == 500
        assert sum(verdict == sold_out() for verdict in verdicts) == 4_500
        known = await shop.known()
        assert (known.held, known.held_by_holds, known.available) == (500, 500, 0)


async def test_a_stock_of_one_has_one_buyer(shop: World) -> None:
    await shop.stock(S=1)
    verdicts = await asyncio.gather(*(shop.gateways[n % 2].admit(shop.asked(str(n), S=1)) for n in range(2_000)))
    assert held(verdicts) == 1


async def test_shards_find_the_last_piece(shop: World) -> None:
    await shop.stock(7, S=10)
    assert [await shop.admit(f"O-{n}", S=1) for n in range(10)] == [HELD] * 10
    assert await shop.admit("O-10", S=1) == sold_out()
    await shop.gateway.release(shop.asked("O-3", S=1))
    assert await shop.admit("O-11", S=1) == HELD


async def test_an_order_takes_from_as_many_shards_as_it_needs(shop: World) -> None:
    await shop.stock(4, S=10)
    assert await shop.admit("1", S=11) == sold_out("S", 11, 10)
    assert await shop.admit("2", S=9) == HELD
    assert await shop.admit("3", S=2) == sold_out("S", 2, 1)
    assert await shop.admit("4", S=1) == HELD


async def test_shards_follow_what_postgres_says(shop: World) -> None:
    await shop.stock(4, S=10)
    await shop.admit("1", S=3)
    await shop.apply(stock_changed("", [change(0, 20, 2)]))
    assert (await shop.known()).available == 17
    await shop.apply(stock_changed("1", [change(-3, 17, 3)]))
    assert (await shop.known()).available == 17
    await shop.apply(stock_changed("", [change(0, 2, 4)]))
    assert (await shop.known()).available == 2
    for shards in (2, 9, 1):
        await shop.mirror.adopt(shop.seller_id, [("S", Level(2, 0, 4))], shards=shards)
        assert (await shop.known()).available == 2
    assert [await shop.admit(f"O-{n}", S=1) for n in range(3)] == [HELD, HELD, sold_out()]


async def test_a_line_is_served_in_the_order_of_arrival(shop: World) -> None:
    await shop.stock(S=2, claimed=1)
    for order_id in "12":
        await shop.admit(order_id, S=1)
    waiting = [await shop.lined_up(order_id, S=1) for order_id in "abc"]
    assert await shop.line(*"abc") == [1, 2, 3]
    for place, order_id in enumerate("12"):
        await shop.gateway.release(shop.asked(order_id, S=1))
        assert await waiting[place] == HELD
        assert not waiting[place + 1].done()
    assert await shop.line(*"abc") == [None, None, 1]
    # The log says that the payment of one of them failed.
    await shop.apply(
        stock_changed("a", [change(-1, 1, 2)]),
        stock_changed("b", [change(-1, 0, 3)]),
        stock_changed("a", [change(1, 1, 4)]),
    )
    assert await waiting[2] == HELD


async def test_nobody_overtakes_those_on_the_waitlist(shop: World) -> None:
    await shop.stock(S=3)
    await shop.admit("1", S=3)
    first = await shop.lined_up("first", S=2)
    second = await shop.lined_up("second", S=1)
    await shop.apply(stock_changed("x", [change(-2, 1, 2)]), undecided("1"))
    # One piece is available: too few for the first order, and reserved for it.
    assert await shop.admit("other", S=1) == sold_out()
    assert await shop.line("first", "second") == [1, 2]
    await shop.apply(stock_changed("y", [change(2, 3, 3)]))
    assert [await first, await second] == [HELD, HELD]
    assert await shop.admit("other again", S=1) == sold_out()


async def test_nobody_overtakes_while_pieces_come_free_under_load(services: Services) -> None:
    async with world(services.redis_url, gateways=3) as shop:
        await shop.stock(S=20)
        for n in range(20):
            await shop.admit(f"holder {n}", S=1)
        waiting = [await shop.lined_up(f"w{n}", S=1) for n in range(20)]
        others: list[object] = []

        async def push_in(number: int) -> None:
            orders = [shop.asked(f"other {number} {n}", S=1) for n in range(100)]
            others.extend([await shop.gateways[number].admit(order) for order in orders])

        async def free() -> None:
            for n in range(20):
                await shop.gateways[0].release(shop.asked(f"holder {n}", S=1))

        await asyncio.gather(push_in(1), push_in(2), free())
        assert await asyncio.gather(*waiting) == [HELD] * 20
        assert set(others) == {sold_out()}


async def test_an_expired_hold_serves_the_line(services: Services) -> None:
    async with world(services.redis_url, hold_seconds=1) as shop:
        await shop.stock(S=1)
        began = monotonic()
        await shop.admit("1", S=1)
        assert await shop.wait("a", 30, S=1) == HELD
        assert 0.9 < monotonic() - began < 25


async def test_who_waits_in_vain_is_told_what_was_short_and_loses_the_place(shop: World) -> None:
    await shop.stock(S=1)
    await shop.admit("1", S=1)
    began = monotonic()
    assert await shop.wait("a", 0.4, S=1) == sold_out()
    assert 0.35 < monotonic() - began < 20
    assert await shop.line("a") == [None]


async def test_who_gives_up_loses_the_place_and_those_behind_move_up(shop: World) -> None:
    await shop.stock(S=1, claimed=2)
    await shop.admit("1", S=1)
    waiting = [await shop.lined_up(order_id, S=1) for order_id in "abc"]
    waiting[0].cancel()
    await shop.until_line("abc", lambda places: places == [None, 1, 2])
    await shop.gateway.release(shop.asked("1", S=1))
    assert await waiting[1] == HELD


async def test_what_was_granted_to_who_gives_up_goes_to_the_next(shop: World) -> None:
    await shop.stock(S=1, claimed=2)
    await shop.admit("1", S=1)
    waiting = [await shop.lined_up(order_id, S=1) for order_id in "ab"]
    # Granted in Redis, and cancelled before the gateway has fetched it.
    await shop.mirror.apply(shop.seller_id, [undecided("1")])
    waiting[0].cancel()
    assert await waiting[1] == HELD


def silence(gateway: Admission) -> None:
    """Stop the gateway's calls of Redis."""
    gateway._calls._breaker = Breaker(failures_max=1, open_seconds=60)
    gateway._calls._breaker.failed(monotonic(), began_at=monotonic())


async def test_a_gateway_that_dies_leaves_no_place_for_longer_than_its_time(services: Services) -> None:
    async with world(services.redis_url, gateways=2) as shop:
        await shop.stock(S=1, claimed=2)
        await shop.admit("1", S=1)
        dying = shop.gateways[1]
        lost = asyncio.create_task(dying.join_waitlist(shop.asked("lost", S=1), 5))
        await shop.until_line(["lost"], lambda places: places == [1])
        behind = await shop.lined_up("behind", S=1)
        # It sends nothing more, not even that it leaves.
        await dying._calls.close()
        silence(dying)
        lost.cancel()
        assert await shop.line("lost", "behind") == [1, 2]
        await shop.until_line(["lost", "behind"], lambda places: places == [None, 1])
        await shop.gateway.release(shop.asked("1", S=1))
        assert await behind == HELD


async def test_what_was_granted_to_a_dead_gateway_comes_back(services: Services) -> None:
    async with world(services.redis_url, gateways=2) as shop:
        await shop.stock(S=1)
        await shop.admit("1", S=1)
        dying = shop.gateways[1]
        lost = asyncio.create_task(dying.join_waitlist(shop.asked("lost", S=1), 5))
        await shop.until_line(["lost"], lambda places: places == [1])
        silence(dying)
        lost.cancel()
        await shop.gateway.release(shop.asked("1", S=1))
        assert (await shop.known()).available == 0
        assert await shop.wait("next", S=1) == HELD


async def test_an_order_on_the_waitlist_takes_all_its_lines_or_none(shop: World) -> None:
    await shop.stock(A=1, B=1)
    await shop.admit("1", A=1)
    await shop.admit("2", B=1)
    both = await shop.lined_up("both", A=1, B=1)
    await shop.gateway.release(shop.asked("1", A=1))
    await asyncio.sleep(0.3)
    assert not both.done()
    assert (await shop.known("A")).available == 1
    await shop.gateway.release(shop.asked("2", B=1))
    assert await both == HELD
    assert ((await shop.known("A")).available, (await shop.known("B")).available) == (0, 0)


async def test_who_lacks_another_sku_keeps_nobody_behind_it_waiting(shop: World) -> None:
    await shop.stock(A=1, B=1, claimed=1)
    await shop.admit("1", A=1)
    await shop.admit("2", B=1)
    both = await shop.lined_up("both", A=1, B=1)
    only = await shop.lined_up("only", A=1)
    await shop.gateway.release(shop.asked("1", A=1))
    assert await only == HELD
    # It has moved to the other SKU's waitlist, ahead of all that joined later.
    late = await shop.lined_up("late", B=1)
    assert await shop.line("both", "late") == [1, 2]
    await shop.gateway.release(shop.asked("only", A=1))
    await shop.gateway.release(shop.asked("2", B=1))
    assert await both == HELD
    late.cancel()


async def test_who_wants_more_than_there_is_does_not_stand_in_the_way(shop: World) -> None:
    await shop.stock(S=2)
    await shop.admit("1", S=2)
    began = monotonic()
    assert await shop.wait("greedy", 30, S=3) == sold_out("S", 3, 0)
    assert monotonic() - began < 25


async def test_a_sku_with_stock_makes_nobody_wait(shop: World) -> None:
    await shop.stock(S=1)
    assert await shop.wait("1", S=1) == HELD


async def test_joining_the_waitlist_twice_is_one_place(shop: World) -> None:
    await shop.stock(S=2)
    await shop.admit("1", S=2)
    waiting = [await shop.lined_up("a", S=1), await shop.lined_up("a", S=1), await shop.lined_up("b", S=1)]
    await asyncio.sleep(0.2)
    assert await shop.line("a", "b") == [1, 2]
    await shop.gateway.release(shop.asked("1", S=2))
    assert await asyncio.gather(*waiting) == [HELD] * 3
    assert (await shop.known()).held == 2


async def test_changes_in_any_order_and_again_end_in_the_same(shop: World) -> None:
    """Fifty histories of a SKU, with each change delivered up to three times."""
    for seed in range(50):
        chance = random.Random(seed)
        sku = f"S{seed}"
        await shop.mirror.adopt(shop.seller_id, [(sku, Level(50, 0, 1))], shards=chance.choice((1, 3)))
        await shop.believe()
        free, on_hand, events = 50, 50, []
        for version in range(2, 14):
            cause = chance.choice(("reserved", "released", "set"))
            by = chance.randint(-5, 5) if cause != "set" else 0
            free = free + by if cause != "set" else chance.randint(0, 60)
            events.append(stock_changed(f"{seed}-{version}", [change(by, free, version, sku=sku, on_hand=on_hand)]))
        for event in events[::2]:
            await shop.gateway.admit(Asked(shop.seller_id, event.order_id, event.order_id, ((sku, 1),)))
        again = [event for event in events for _ in range(chance.randint(1, 3))]
        chance.shuffle(again)
        await shop.apply(*again)
        known = await shop.known(sku)
        assert (known.version, known.free, known.held, known.available) == (13, free, 0, free), f"seed {seed}"


async def test_changes_that_overtake_each_other_never_hide_a_piece(shop: World) -> None:
    """Two orders of one SKU in two partitions, with the later one's change first."""
    await shop.stock(S=3)
    await shop.admit("1", S=1)
    await shop.admit("2", S=1)
    await shop.apply(stock_changed("2", [change(-1, 1, 3)]))
    assert (await shop.known()).available == 1
    await shop.apply(stock_changed("1", [change(-1, 2, 2)]))
    known = await shop.known()
    assert (known.available, known.free, known.version) == (1, 1, 3)


async def test_a_change_ahead_of_those_before_it_counts_once(shop: World) -> None:
    await shop.stock(S=10)
    for _ in range(3):
        await shop.apply(stock_changed("2", [change(-2, 7, 3)]))
    known = await shop.known()
    assert (known.available, known.version, known.newest_version) == (8, 1, 3)


async def test_what_the_database_refused_is_free_again(shop: World) -> None:
    await shop.stock(S=2)
    await shop.admit("1", S=1)
    await shop.admit("2", S=1)
    await shop.apply(refused("1"), undecided("2"))
    assert (await shop.known()).available == 2
    # A refusal is final for the id, a rejection is not.
    assert await shop.admit("1", S=1) == OPEN
    assert await shop.admit("2", S=1) == HELD


async def test_a_conflict_leaves_its_first_orders_hold_alone(shop: World) -> None:
    await shop.stock(S=2)
    await shop.admit("1", S=1)
    await shop.apply(placed("1"), conflicted("1"))
    assert (await shop.known()).held == 1
    await shop.apply(stock_changed("1", [change(-1, 1, 2)]))
    assert ((await shop.known()).held, (await shop.known()).available) == (0, 1)


async def test_a_conflict_with_an_order_decided_long_ago_frees_what_it_held(shop: World) -> None:
    await shop.stock(S=2)
    await shop.admit("1", S=1)
    await shop.apply(conflicted("1"))
    assert (await shop.known()).available == 2
    assert await shop.admit("1", S=1) == OPEN


async def test_an_order_that_is_placed_is_not_released_by_its_gateway(shop: World) -> None:
    await shop.stock(S=2)
    await shop.admit("1", S=1)
    await shop.apply(placed("1"))
    await shop.gateway.release(shop.asked("1", S=1))
    assert (await shop.known()).held == 1


async def test_large_stocks_are_counted_exactly(shop: World) -> None:
    many = 2**53 - 10
    await shop.mirror.adopt(shop.seller_id, [("S", Level(many, 0, 1))])
    await shop.believe()
    await shop.admit("1", S=many - 1)
    assert [await shop.admit(order, S=1) for order in "23"] == [HELD, sold_out()]


@pytest.mark.parametrize("name", ["", "a:b", "{x}", "ä €", "1:S", "*", "'\"\\"])
async def test_any_name_may_be_a_sku_a_customer_and_an_order(shop: World, name: str) -> None:
    await shop.stock(**{name: 1, "S": 1})
    first, second = (Asked(shop.seller_id, order_id, name, ((name, 1),)) for order_id in (name, name + "2"))
    assert await shop.gateway.admit(first) == HELD
    assert await shop.gateway.admit(second) == sold_out(name)
    assert await shop.admit("3", S=1) == HELD


async def test_sellers_know_nothing_of_each_other(services: Services) -> None:
    async with world(services.redis_url) as one, world(services.redis_url) as other:
        await one.stock(S=1)
        await other.stock(S=1)
        assert [await each.admit("1", "C", S=1) for each in (one, other)] == [HELD, HELD]
        mixed = await asyncio.gather(
            *(one.gateway.admit(each.asked(str(n), S=1)) for n in range(2, 40) for each in (one, other))
        )
        assert set(mixed) == {sold_out()}


async def test_flushed_in_the_middle_nothing_is_believed_until_it_is_copied(own: OwnValkey) -> None:
    async with world(own.url) as shop:
        await shop.stock(S=500)
        client = redis.asyncio.Redis.from_url(own.url)
        admitting = asyncio.gather(*(shop.admit(f"O-{n}", S=1) for n in range(5_000)))
        await asyncio.sleep(0.02)
        await client.flushall()
        verdicts = await admitting
        before, after = held(verdicts), sum(verdict == OPEN for verdict in verdicts)
        assert before <= 500 and after > 0
        assert before + after + sum(verdict == sold_out() for verdict in verdicts) == 5_000
        # Some levels are back, but the copy is not marked as complete.
        await shop.mirror.adopt(shop.seller_id, [("S", Level(500, 0, 1))])
        assert await shop.admit("before", S=1) == OPEN
        await shop.believe()
        assert await shop.admit("after", S=1) == HELD
        await client.aclose()


async def test_after_a_restart_nothing_is_believed_until_it_is_copied(own: OwnValkey) -> None:
    """Its data on disk may be older than what it has admitted."""
    async with world(own.url) as shop:
        await shop.stock(S=2)
        assert await shop.admit("1", S=1) == HELD
        await asyncio.sleep(1.1)
        own.kill()
        assert await shop.admit("2", S=1) == OPEN
        await own.start()
        await asyncio.sleep(admission_call.PAUSE_SECONDS)
        assert (await shop.known()).available == 1
        assert await shop.admit("3", S=1) == OPEN
        _, run_id, *_ = await shop.mirror.tick(shop.seller_id)
        assert not await shop.mirror.complete(shop.seller_id, "another run")
        await shop.mirror.adopt(shop.seller_id, [("S", Level(2, 0, 1))])
        assert await shop.mirror.complete(shop.seller_id, run_id)
        # The hold that was on disk counts.
        assert [await shop.admit(order, S=1) for order in "45"] == [HELD, sold_out()]


async def test_killed_in_the_middle_everybody_has_an_answer_at_once(own: OwnValkey) -> None:
    async with world(own.url) as shop:
        await shop.stock(S=500)
        admitting = asyncio.gather(*(shop.admit(f"O-{n}", S=1) for n in range(5_000)))
        await asyncio.sleep(0.03)
        own.kill()
        began = monotonic()
        verdicts = await admitting
        # And not after the time that a call may take.
        assert monotonic() - began < PATIENT_SECONDS
        assert held(verdicts) <= 500
        assert OPEN in verdicts


async def test_who_waits_while_redis_dies_goes_on_to_the_database(own: OwnValkey) -> None:
    async with world(own.url) as shop:
        await shop.stock(S=1)
        await shop.admit("1", S=1)
        waiting = await shop.lined_up("a", 30, S=1)
        own.kill()
        began = monotonic()
        assert await waiting == OPEN
        assert monotonic() - began < 25


async def test_who_waits_while_redis_forgets_goes_on_to_the_database(own: OwnValkey) -> None:
    async with world(own.url) as shop:
        await shop.stock(S=1)
        await shop.admit("1", S=1)
        waiting = await shop.lined_up("a", 30, S=1)
        client = redis.asyncio.Redis.from_url(own.url)
        await client.flushall()
        assert await waiting == OPEN
        await client.aclose()


async def test_a_redis_that_stands_still_costs_a_moment_and_then_nothing(own: OwnValkey) -> None:
    async with world(own.url, call_seconds=CALL_SECONDS_MAX) as shop:
        await shop.stock(S=100)
        await shop.admit("warm", S=1)
        own.send(signal.SIGSTOP)
        try:
            for _ in range(admission_call.TIMEOUTS_MAX):
                assert await shop.admit("1", S=1) == OPEN
            began = monotonic()
            assert {await shop.admit(f"O-{n}", S=1) for n in range(1_000)} == {OPEN}
            # One after the other, each of which would else wait so long.
            assert monotonic() - began < CALL_SECONDS_MAX * 100
        finally:
            own.send(signal.SIGCONT)
        await until(lambda: shop.admit("2", S=1), lambda verdict: verdict == HELD)
