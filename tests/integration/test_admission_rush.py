"""A rush: thousands of requests at once on too few CPUs. A late call must not admit orders unchecked."""

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from admission.admission import Admitted, SoldOut
from admission.admission_call import StockCalls
from admission.patience import within
from admission.unavailable import RedisUnavailableError
from domain.reservation import Short
from tests.conftest import Services
from tests.integration.admission_world import OwnValkey, held, world

#: What a call may take here: much more than a busy machine takes for one, whoever else uses it.
CALL_SECONDS = 1.5
OPEN = Admitted(held=False)
SOLD_OUT = SoldOut((Short("S", 1, 0),))


@pytest.fixture
async def own(tmp_path: Path) -> AsyncIterator[OwnValkey]:
    made = OwnValkey(tmp_path / "valkey")
    await made.start()
    yield made
    made.kill()


@pytest.fixture
def busy() -> Iterator[None]:
    """Have other processes use all CPUs, for 20 s at most."""
    spin = "import time\nend = time.monotonic() + 20\nwhile time.monotonic() < end: pass"
    others = [subprocess.Popen([sys.executable, "-c", spin]) for _ in range(4)]
    yield
    for other in others:
        other.kill()
        other.wait()


async def stall(seconds: float, times: int) -> None:
    """Block this process' loop, again and again."""
    for _ in range(times):
        await asyncio.sleep(0.05)
        time.sleep(seconds)  # noqa: ASYNC251


async def test_twenty_thousand_at_once_on_a_busy_machine_get_five_hundred_pieces(
    services: Services, busy: None
) -> None:
    async with world(services.redis_url, gateways=2, call_seconds=CALL_SECONDS) as shop:
        await shop.stock(S=500)
        orders = [shop.asked(f"O-{n}", S=1) for n in range(20_000)]
        stalling = asyncio.create_task(stall(CALL_SECONDS * 1.2, 4))
        verdicts = await asyncio.gather(*(shop.gateways[n % 2].admit(order) for n, order in enumerate(orders)))
        await stalling
        assert held(verdicts) == 500
        assert verdicts.count(OPEN) == 0
        assert verdicts.count(SOLD_OUT) == 19_500


async def test_a_redis_that_is_late_once_lets_nobody_through(own: OwnValkey) -> None:
    """Two calls are under way; both are late for the same reason, and are repeated."""
    async with world(own.url, call_seconds=CALL_SECONDS) as shop:
        await shop.stock(S=500)
        admitting = asyncio.gather(*(shop.admit(f"O-{n}", S=1) for n in range(4_000)))
        await asyncio.sleep(0.05)
        own.send(signal.SIGSTOP)
        await asyncio.sleep(CALL_SECONDS * 1.4)
        own.send(signal.SIGCONT)
        verdicts = await admitting
        assert (held(verdicts), verdicts.count(OPEN)) == (500, 0)
        assert shop.gateway.available


async def test_calls_that_wait_for_their_turn_are_not_late(own: OwnValkey, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of sellers at once, one call each, over a few connections, and each turn of the loop takes a while."""
    monkeypatch.setattr("admission.admission_call.TURN_SECONDS_MAX", 120.0)
    async with world(own.url) as shop:
        client: Any = shop.mirror._calls._redis

        async def turn() -> None:
            # By the server's own time on a core.
            await client.eval("local till = os.clock() + 0.03 while os.clock() < till do end", 0)

        async def slow() -> None:
            while True:
                await turn()

        # As long as dozens of turns on this machine as it is, of which a call waits for one.
        began = monotonic()
        for _ in range(10):
            await turn()
        limit = 5 * (monotonic() - began)
        calls = StockCalls(own.url, call_seconds_max=limit)
        slowing = asyncio.create_task(slow())
        try:
            # In total more than twice the limit of a call, but less than the limit of the wait for a connection.
            began = monotonic()
            while monotonic() - began < 2 * limit:
                answers = await asyncio.gather(*(calls.run(f"s{n}", "position", ["x"]) for n in range(1_200)))
                assert answers == [[0]] * 1_200
        finally:
            slowing.cancel()
            await asyncio.gather(slowing, return_exceptions=True)
            await calls.close()


async def test_an_answer_that_came_while_the_process_did_something_else_is_heard() -> None:
    async def answer() -> str:
        await asyncio.sleep(0.05)
        await asyncio.sleep(0)
        return "here"

    asking = asyncio.create_task(within(0.3, answer()))
    await asyncio.sleep(0)
    time.sleep(0.6)  # noqa: ASYNC251
    assert await asking == "here"


async def test_no_answer_is_waited_for_no_longer_than_said() -> None:
    began = monotonic()
    with pytest.raises(TimeoutError):
        await within(0.2, asyncio.sleep(10))
    assert 0.15 < monotonic() - began < 5


async def test_who_waits_for_a_turn_behind_a_redis_that_hangs_waits_no_longer_than_it_is_tried(own: OwnValkey) -> None:
    calls = StockCalls(own.url, call_seconds_max=0.2)
    await calls.run("s", "position", ["x"])
    own.send(signal.SIGSTOP)
    began = monotonic()
    results = await asyncio.gather(*(calls.run("s", "position", ["x"]) for _ in range(500)), return_exceptions=True)
    assert {type(result) for result in results} == {RedisUnavailableError}
    # One after the other they would wait for more than a minute.
    assert monotonic() - began < 20
    own.send(signal.SIGCONT)
    await calls.close()
