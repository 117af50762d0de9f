"""Orders followed live: what an open stream costs the gateway, and how soon a change is there."""

import asyncio
import json
import time

import aiohttp
import uvloop

from benchmarks.result import Result
from benchmarks.stacks import cpu_seconds, memory_mb, pid_of, stack, target_of
from gapless.demo_steps import Target
from producers.client import GaplessClient
from producers.generate import checkouts
from producers.load import percentile

STREAMS = 2_000
#: So many of the followed orders are shipped, one after the other.
SHIPPED = 100
KB_MAX = 20.0
_IDLE_S = 20.0
_POLL_S = 0.5
_POSTED_AT_ONCE = 64
_SKU = "MUG"


def run() -> list[Result]:
    """Each stream is a connection of its own, and follows an order of its own."""
    with stack({"checkouts": 1, "documents": 1}) as made:
        pid = pid_of(made, "gateway")
        return uvloop.run(_follow(target_of(made), pid))


async def _follow(target: Target, gateway_pid: int) -> list[Result]:
    order_ids = await _bought(target)
    headers = {"Authorization": f"Bearer {target.api_key}"}
    connector = aiohttp.TCPConnector(limit=0)
    changed: asyncio.Queue[tuple[str, str, float]] = asyncio.Queue()
    async with aiohttp.ClientSession(target.url, headers=headers, connector=connector) as session:
        # The first streams make what all others share.
        first = [asyncio.create_task(_read(session, each, changed)) for each in order_ids[:10]]
        await _until_seen(changed, {(each, "CONFIRMED") for each in order_ids[:10]})
        before_mb = memory_mb(gateway_pid)[1]
        rest = [asyncio.create_task(_read(session, each, changed)) for each in order_ids[10:]]
        await _until_seen(changed, {(each, "CONFIRMED") for each in order_ids[10:]})
        began, busy_before = time.monotonic(), cpu_seconds(gateway_pid)
        await asyncio.sleep(min(_IDLE_S, len(order_ids) / 100))
        busy = (cpu_seconds(gateway_pid) - busy_before) / (time.monotonic() - began)
        after_mb = memory_mb(gateway_pid)[1]
        took_ms = await _ship(target, order_ids[:SHIPPED], changed)
        for task in (*first, *rest):
            task.cancel()
        await asyncio.gather(*first, *rest, return_exceptions=True)
    # Of few streams, memory that was free before may be enough.
    kb = max(0.0, after_mb - before_mb) * 1024 / len(rest)
    return [
        Result(f"memory of a stream, of {len(order_ids):,}", kb, "kB", KB_MAX, less_is_better=True),
        Result(f"CPU time of the gateway with {len(order_ids):,} idle streams", 100 * busy, "% of a core"),
        Result(
            "shipment posted → event on the order's stream, p95",
            percentile(took_ms, 95),
            "ms",
            note=f"p50 {percentile(took_ms, 50):.0f} ms",
        ),
    ]


async def _bought(target: Target) -> list[str]:
    """Confirmed orders, whose invoices are stored: nothing changes by itself any more."""
    gate = asyncio.Semaphore(_POSTED_AT_ONCE)
    bodies = list(checkouts(STREAMS, seed=1, skus=[_SKU], customers=STREAMS, tokens={"tok_ok": 1}, prefix="LIVE"))
    async with GaplessClient(target.url, target.api_key, connections=_POSTED_AT_ONCE) as client:
        await client.put_stock(_SKU, 10 * STREAMS)

        async def buy(body: bytes) -> str:
            async with gate:
                answer = await client.post_checkout(body, wait_s=30)
                order_id = str(answer.json()["order_id"])
                while not await _is_stored(client, order_id):  # noqa: ASYNC110 - it tells nobody here.
                    await asyncio.sleep(_POLL_S)
                return order_id

        return list(await asyncio.gather(*map(buy, bodies)))


async def _is_stored(client: GaplessClient, order_id: str) -> bool:
    invoice = (await client.get_order(order_id)).json().get("invoice")
    return invoice is not None and invoice["status"] == "stored"


async def _read(session: aiohttp.ClientSession, order_id: str, changed: asyncio.Queue[tuple[str, str, float]]) -> None:
    timeout = aiohttp.ClientTimeout(total=None, sock_read=60)
    async with session.get(f"/v1/orders/{order_id}/events", timeout=timeout) as response:
        async for line in response.content:
            if line.startswith(b"data: "):
                changed.put_nowait((order_id, json.loads(line[6:])["state"], time.monotonic()))


async def _until_seen(changed: asyncio.Queue[tuple[str, str, float]], wanted: set[tuple[str, str]]) -> dict[str, float]:
    """When each was seen."""
    missing, at = set(wanted), {}
    async with asyncio.timeout(60):
        while missing:
            order_id, state, seen_at = await changed.get()
            if (order_id, state) in missing:
                missing.remove((order_id, state))
                at[order_id] = seen_at
    return at


async def _ship(target: Target, order_ids: list[str], changed: asyncio.Queue[tuple[str, str, float]]) -> list[float]:
    took_ms = []
    async with GaplessClient(target.url, target.api_key) as client:
        for order_id in order_ids:
            posted_at = time.monotonic()
            answer = await client.ship(order_id, wait_s=30)
            if answer.status != 200:
                raise RuntimeError(f"shipping {order_id}: {answer}")
            seen = await _until_seen(changed, {(order_id, "SHIPPED")})
            took_ms.append((seen[order_id] - posted_at) * 1000)
    return took_ms
