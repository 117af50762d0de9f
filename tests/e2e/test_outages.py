"""Parts that go away: the product waits or refuses, says so, and goes on by itself."""

import asyncio
import json
import random
import signal
import time

import aiohttp
import psycopg
import redis

from producers.generate import bodies, body
from producers.load import run, with_repeats
from tests.e2e.judge import Judge
from tests.e2e.running import Running, wait_for

REFUSAL_S_MAX = 5.0
#: Orders accepted while Postgres is down.
DURING_OUTAGE = 200


def _payloads(count: int, prefix: str) -> list[bytes]:
    return [json.dumps(order).encode() for order in bodies(count, seed=7, prefix=f"{prefix}-{time.time_ns()}")]


async def test_losing_redis_and_a_workers_table_changes_no_result(running: Running) -> None:
    """Both are hints: the repeats that follow are known from Postgres."""
    judge = Judge()
    payloads = list(with_repeats(_payloads(1_000, "HINT"), 0.3, seed=3))
    judge.know(payloads)
    half = len(payloads) // 2

    async def lose() -> None:
        with redis.Redis.from_url(running.redis_url) as hints:
            hints.flushall()
        await asyncio.to_thread(running.forget_table, "invoices-1")

    async with running.client() as client:
        first = await run(client, payloads[:half], on_answer=judge.hear)
        async with asyncio.TaskGroup() as group:
            group.create_task(lose())
            # The first half again, then the rest: orders from before the loss meet a worker that has forgotten them.
            again = group.create_task(run(client, payloads[:half] + payloads[half:], on_answer=judge.hear))
    assert first.failed == again.result().failed == 0
    assert set(judge.statuses) == {202}, judge.statuses
    await asyncio.to_thread(running.assert_clean)
    with running.ledger() as ledger:
        judge.assert_kept(ledger)


async def test_without_a_broker_orders_are_refused_within_5_s_and_taken_again_after(running: Running) -> None:
    """Frozen first, which is worse than gone: connections stand, and nothing answers."""
    order = body(f"BROKER-{time.time_ns()}", random.Random(1))
    assert running.signal("kafka", signal.SIGSTOP)
    try:
        began = time.monotonic()
        async with aiohttp.ClientSession() as session:
            headers = {"Authorization": f"Bearer {running.api_key}"}
            async with session.post(f"{running.url}/v1/invoices", json=order, headers=headers) as response:
                took = time.monotonic() - began
                assert response.status == 503, await response.text()
                assert int(response.headers["Retry-After"]) > 0
                assert response.content_type == "application/problem+json"
        assert took < REFUSAL_S_MAX
    finally:
        running.signal("kafka", signal.SIGKILL)
    async with running.client(give_up_after_s=90) as client:
        answer = await client.post_invoice(order)
        assert answer.status == 202, answer.payload
    await asyncio.to_thread(running.assert_clean)
    async with running.client() as client:
        assert (await client.get_invoice(order["order_id"])).json()["status"] == "stored"


async def test_without_postgres_orders_are_still_taken_and_issued_once_it_is_back(running: Running) -> None:
    judge = Judge()
    payloads = _payloads(DURING_OUTAGE, "LEDGER")
    judge.know(payloads)
    answered = asyncio.Event()
    # The first answer of a gateway needs Postgres, to know whose the key is.
    async with running.client() as client:
        await client.post_invoice(body(f"LEDGER-{time.time_ns()}", random.Random(2)), wait_s=30)
        down = asyncio.create_task(asyncio.to_thread(running.keep_down, "postgres", answered.is_set))
        try:
            await asyncio.to_thread(wait_for, lambda: not _answers(running), "Postgres is down", 10.0)
            report = await run(client, payloads, on_answer=judge.hear)
            assert not _answers(running)
        finally:
            answered.set()
            await down
    assert report.failed == 0, report.failures
    assert judge.statuses == {202: DURING_OUTAGE}
    await asyncio.to_thread(running.assert_clean)
    with running.ledger() as ledger:
        judge.assert_kept(ledger)


def _answers(running: Running) -> bool:
    try:
        with running.ledger() as ledger:
            ledger.execute("SELECT 1")
    except psycopg.Error:
        return False
    return True
