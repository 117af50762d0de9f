"""A catalogue of 100,000 products: written in bulk, then read at a steady rate while prices change."""

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence

import aiohttp
import msgspec
import uvloop

from benchmarks.arrivals import Waits, due_times, send
from benchmarks.result import Result
from benchmarks.stacks import cpu_seconds, pid_of, stack, target_of
from gapless.demo_steps import Target
from producers.client import GaplessClient, GatewayAnswer

PRODUCTS = 100_000
BULK_SECONDS_MAX = 60.0
LINES = 500
#: Requests under way: the next one is read while the last is written.
BULK_AT_ONCE = 2
READS_PER_S = 2_000
SECONDS = 20.0
READ_MS_MAX = 50.0
#: Four of five reads are of a fifth of the products.
_HOT = 0.2
_HOT_READS = 0.8
CHANGES_PER_S = 5
CART_PUTS_PER_S = 500
CART_PUT_MS_MAX = 30.0
_CARTS = 10_000
SEEN_MS_MAX = 1_000.0
_CONNECTIONS = 256
_SEED = 1
_SELLER = "demo"


def run() -> list[Result]:
    """One gateway, all workers beside it, and the load tool on the same cores."""
    with stack({"documents": 0}) as made:
        target = target_of(made)
        bulk_s = uvloop.run(write(target, _requests()))
        pid = pid_of(made, "gateway")
        uvloop.run(_read(target, READS_PER_S, SECONDS / 2))
        before = cpu_seconds(pid)
        waits, seen = uvloop.run(_read(target, READS_PER_S, SECONDS))
        cpu_us = (cpu_seconds(pid) - before) / len(waits) * 1e6
        puts = uvloop.run(_fill_carts(target))
    percentiles = ", ".join(f"p{percent:g} {waits.ms(percent):.1f}" for percent in (50, 95, 99.9))
    return [
        Result(
            f"{PRODUCTS:,} products put in bulk",
            bulk_s,
            "s",
            BULK_SECONDS_MAX,
            less_is_better=True,
            note=f"{PRODUCTS / bulk_s:,.0f}/s, {LINES} lines a request, {BULK_AT_ONCE} at a time",
        ),
        Result(
            f"GET of a product at {READS_PER_S:,}/s, p99",
            waits.ms(99),
            "ms",
            READ_MS_MAX,
            less_is_better=True,
            note=f"{len(waits):,} reads; {percentiles}, longest {waits.ms(100):.0f} ms",
        ),
        Result("gateway, CPU time per read", cpu_us, "µs"),
        Result(
            "price changed → seen, longest",
            seen.ms(100),
            "ms",
            SEEN_MS_MAX,
            less_is_better=True,
            note=f"{len(seen)} changes under this load, from the PUT; p50 {seen.ms(50):.0f} ms",
        ),
        Result(
            f"PUT of a cart's line at {CART_PUTS_PER_S}/s, p99",
            puts.ms(99),
            "ms",
            CART_PUT_MS_MAX,
            less_is_better=True,
            note=f"{len(puts):,} in {_CARTS:,} carts; p50 {puts.ms(50):.1f}, longest {puts.ms(100):.0f} ms",
        ),
    ]


async def write(target: Target, bodies: Iterable[bytes]) -> float:
    """How many seconds it takes to put new products, in bulk. Raises `RuntimeError` for one that is refused."""
    requests = iter(list(bodies))
    async with target.client(BULK_AT_ONCE) as client:

        async def post() -> None:
            for body in requests:
                answer = await client.put_products(body)
                lines = answer.payload.splitlines()
                refused = [line for line in lines if b'"status":201' not in line]
                if answer.status != 200 or refused:
                    raise RuntimeError(f"answered {answer.status}: {(refused or lines)[0]!r}")

        began = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(BULK_AT_ONCE):
                tasks.create_task(post())
        return time.perf_counter() - began


def _requests() -> Iterator[bytes]:
    for first in range(0, PRODUCTS, LINES):
        yield b"\n".join(
            msgspec.json.encode({"product_id": _name(number), **_product(number)})
            for number in range(first, min(first + LINES, PRODUCTS))
        )


async def _read(target: Target, per_s: int, seconds: float) -> tuple[Waits, Waits]:
    """The waits of the reads, and how long changes of prices beside them took to be seen."""
    chance = random.Random(_SEED)
    due_s = due_times(per_s, seconds, seed=_SEED)
    hot = max(1, int(PRODUCTS * _HOT))
    wanted = [_name(chance.randrange(hot if chance.random() < _HOT_READS else PRODUCTS)).encode() for _ in due_s]
    return await ask_beside_changes(
        target, wanted, due_s, lambda client, name: client.get_product(_SELLER, name), _change
    )


async def ask_beside_changes(
    target: Target,
    wanted: Sequence[bytes],
    due_s: Sequence[float],
    ask: Callable[[GaplessClient, str], Awaitable[GatewayAnswer]],
    change: Callable[[aiohttp.ClientSession, str, Waits], Awaitable[None]],
) -> tuple[Waits, Waits]:
    """The waits for the answers, and how long the changes beside them took to be seen.

    `change` makes them until it is cancelled, with the API key; what it raises is raised here.
    """
    waits, seen = Waits(), Waits()
    async with target.client(_CONNECTIONS) as client, aiohttp.ClientSession(target.url) as session:

        def take(_: bytes, answer: GatewayAnswer, wait_s: float) -> None:
            if answer.status != 200:
                raise RuntimeError(f"answered {answer.status}: {answer.payload[:200]!r}")
            waits.add(wait_s)

        changing = asyncio.ensure_future(change(session, target.api_key, seen))
        await send(wanted, due_s, lambda each: ask(client, each.decode()), take)
        changing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await changing
    return waits, seen


async def _fill_carts(target: Target) -> Waits:
    """The waits of buyers who put a product into their carts."""
    chance = random.Random(_SEED)
    due_s = due_times(CART_PUTS_PER_S, SECONDS, seed=_SEED)
    wanted = [str(chance.randrange(PRODUCTS)).encode() for _ in due_s]
    waits = Waits()
    async with target.client(_CONNECTIONS) as client:

        async def put(number: bytes) -> GatewayAnswer:
            cart_id = f"C-{chance.randrange(_CARTS)}"
            return await client.put_cart_line(cart_id, _name(int(number)), f"SKU-{number.decode()}", 1)

        def take(_: bytes, answer: GatewayAnswer, wait_s: float) -> None:
            if answer.status != 200:
                raise RuntimeError(f"answered {answer.status}: {answer.payload[:200]!r}")
            waits.add(wait_s)

        await send(wanted, due_s, put, take)
    return waits


async def _change(session: aiohttp.ClientSession, key: str, seen: Waits) -> None:
    """Change prices until cancelled, and wait for each to be seen by a buyer."""
    chance = random.Random(_SEED)
    while True:
        number = chance.randrange(PRODUCTS)
        body = _product(number, cents=chance.randrange(100, 10_000))
        began = time.perf_counter()
        headers = {"Authorization": f"Bearer {key}"}
        async with session.put(f"/v1/products/{_name(number)}", json=body, headers=headers) as response:
            version = (await response.json())["version"]
        while True:
            async with session.get(f"/v1/catalogue/{_SELLER}/products/{_name(number)}") as response:
                if (await response.json())["version"] >= version:
                    break
        seen.add(time.perf_counter() - began)
        await asyncio.sleep(1 / CHANGES_PER_S)


def _name(number: int) -> str:
    return f"p{number:06}"


def _product(number: int, cents: int = 1_990) -> dict[str, object]:
    return {
        "texts": [
            {"language": "en", "name": f"Product {number}", "description": "As good as the next one. " * 8},
            {"language": "fr", "name": f"Produit {number}", "description": "Aussi bon que le suivant. " * 8},
        ],
        "brand": f"Brand {number % 100}",
        "categories": [f"c{number % 10}/d{number % 200}"],
        "attributes": [{"name": "colour", "value": f"colour {number % 12}"}],
        "images": [{"url": f"https://img.example/{number}.jpg", "alt": f"Product {number}"}],
        "currency": "EUR",
        "vat_category": "S",
        "vat_rate": "20.00",
        "prices_include_tax": True,
        "variants": [{"sku": f"SKU-{number}", "unit_price": f"{cents // 100}.{cents % 100:02}"}],
    }
