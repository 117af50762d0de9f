"""Hints while Redis is unavailable or hangs: no caller waits or gets an error."""

import asyncio
from time import monotonic

import pytest

from admission import hints
from admission.hints import UNAVAILABLE, Hints
from domain.order import OrderIdentity


async def test_a_redis_that_is_away_is_unavailable_and_not_an_error() -> None:
    """Redis at port 1 refuses connections."""
    asked = Hints("redis://127.0.0.1:1/0")
    assert await asked.known("demo", "A") is UNAVAILABLE
    assert await asked.remember("demo", "A", b"x" * 32) is False
    assert not asked.available
    assert await asked.ping() is False
    await asked.close()


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
    asked = Hints(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0")
    try:
        began = monotonic()
        for _ in range(hints.TIMEOUTS_MAX):
            answers = await asyncio.gather(*(asked.known("demo", str(n)) for n in range(200)))
            assert set(answers) == {UNAVAILABLE}
        assert hints.CALL_SECONDS_MAX < monotonic() - began < 100 * hints.CALL_SECONDS_MAX
        before = connections
        for n in range(1_000):
            assert await asked.known("demo", str(n)) is UNAVAILABLE
        assert connections == before
        await asyncio.sleep(hints.PAUSE_SECONDS)
        await asked.known("demo", "A")
        assert connections > before
    finally:
        await asked.close()
        server.close()
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("order_id", ["a:b", "*", "ä €", "\t"])
def test_no_two_orders_share_a_key(order_id: str) -> None:
    """A seller id contains no colon, so the order id may contain any character."""
    assert hints._key(OrderIdentity("s", order_id)) == f"accepted:s:{order_id}"
