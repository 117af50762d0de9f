"""A search index of 100,000 products: asked at a steady rate while prices change, then built again."""

import asyncio
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from urllib.parse import urlencode

import aiohttp
import msgspec
import uvloop

from benchmarks.arrivals import Waits, due_times
from benchmarks.catalogue import ask_beside_changes, write
from benchmarks.result import Result
from benchmarks.stacks import cpu_seconds, pid_of, stack, target_of
from gapless.demo_steps import Target
from local.stack import Stack

PRODUCTS = 100_000
LINES = 500
QUESTIONS_PER_S = 500
SECONDS = 20.0
QUESTION_MS_MAX = 100.0
CHANGES_PER_S = 5
SEEN_MS_MAX = 2_000.0
REBUILD_SECONDS_MAX = 120.0
#: How long the index may take to have all that was put.
_INDEXED_SECONDS_MAX = 240.0
_SEED = 1
_SELLER = "demo"
_SYLLABLES = ("ba", "den", "fol", "gri", "kas", "lum", "mor", "nis", "pel", "rou", "sta", "tev", "vin", "zor", "chi")
_FILTERS = ({"in_stock": "false"}, {"brand": "Brand 7"}, {"category": "c3"}, {"price_max": "50.00"}, {"sort": "price"})


def run() -> list[Result]:
    """One gateway and one search worker, all other workers beside them, and the load tool on the same cores."""
    with stack({"documents": 0}) as made:
        target = target_of(made)
        uvloop.run(write(target, _requests()))
        uvloop.run(_until_indexed(target))
        pid = pid_of(made, "search")
        uvloop.run(_ask(target, SECONDS / 4, seed=_SEED + 1))
        before = cpu_seconds(pid)
        waits, seen = uvloop.run(_ask(target, SECONDS, seed=_SEED))
        cpu_ms = (cpu_seconds(pid) - before) / len(waits) * 1e3
        rebuild_s = _rebuild(made)
    percentiles = ", ".join(f"p{percent:g} {waits.ms(percent):.1f}" for percent in (50, 95, 99.9))
    return [
        Result(
            f"search at {QUESTIONS_PER_S}/s over {PRODUCTS:,} products, p99",
            waits.ms(99),
            "ms",
            QUESTION_MS_MAX,
            less_is_better=True,
            note=f"{len(waits):,} questions; {percentiles}, longest {waits.ms(100):.0f} ms",
        ),
        Result("search worker, CPU time per question", cpu_ms, "ms", note="with the changes beside them"),
        Result(
            "price changed → found, longest",
            seen.ms(100),
            "ms",
            SEEN_MS_MAX,
            less_is_better=True,
            note=f"{len(seen)} changes under this load, from the PUT; p50 {seen.ms(50):.0f} ms",
        ),
        Result(
            f"index of {PRODUCTS:,} products built again",
            rebuild_s,
            "s",
            REBUILD_SECONDS_MAX,
            less_is_better=True,
            note="by `gapless search rebuild`, with the interpreter's start",
        ),
    ]


async def _until_indexed(target: Target) -> None:
    give_up_at = time.monotonic() + _INDEXED_SECONDS_MAX
    async with target.client(1) as client:
        while True:
            answer = await client.search(_SELLER, urlencode({"q": f"FIND-{PRODUCTS - 1}"}))
            if answer.status == 200 and msgspec.json.decode(answer.payload)["total"]:
                everything = await client.search(_SELLER, urlencode({"category": "found"}))
                if msgspec.json.decode(everything.payload)["total"] >= PRODUCTS:
                    return
            if time.monotonic() > give_up_at:
                raise RuntimeError(f"not all of {PRODUCTS} products are indexed in {_INDEXED_SECONDS_MAX:g} s")
            await asyncio.sleep(0.2)


async def _ask(target: Target, seconds: float, *, seed: int) -> tuple[Waits, Waits]:
    """The waits of the questions, and how long changes of prices beside them took to be found."""
    chance = random.Random(seed)
    due_s = due_times(QUESTIONS_PER_S, seconds, seed=seed)
    questions = [_question(chance).encode() for _ in due_s]
    return await ask_beside_changes(
        target,
        questions,
        due_s,
        lambda client, question: client.search(_SELLER, question),
        lambda session, key, seen: _change(session, key, seen, seed),
    )


async def _change(session: aiohttp.ClientSession, key: str, seen: Waits, seed: int) -> None:
    """Change prices until cancelled, and wait for each to be found by a buyer."""
    chance = random.Random(seed)
    while True:
        number = chance.randrange(PRODUCTS)
        began = time.perf_counter()
        headers = {"Authorization": f"Bearer {key}"}
        body = _product(number, cents=chance.randrange(100, 10_000))
        async with session.put(f"/v1/products/{_name(number)}", json=body, headers=headers) as response:
            version = (await response.json())["version"]
        while True:
            async with session.get(f"/v1/catalogue/{_SELLER}/search?q={_name(number)}") as response:
                hits = (await response.json())["hits"] if response.status == 200 else []
                if hits and hits[0]["version"] >= version:
                    break
            await asyncio.sleep(0.02)
        seen.add(time.perf_counter() - began)
        await asyncio.sleep(1 / CHANGES_PER_S)


def _rebuild(made: Stack) -> float:
    """How many seconds it takes to build the index again. Raises `CalledProcessError`."""
    began = time.perf_counter()
    command = (sys.executable, "-m", "gapless", "search", "rebuild", "--data", str(made.data))
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - began


def _requests() -> Iterator[bytes]:
    for first in range(0, PRODUCTS, LINES):
        yield b"\n".join(
            msgspec.json.encode({"product_id": _name(number), **_product(number)})
            for number in range(first, min(first + LINES, PRODUCTS))
        )


def _question(chance: random.Random) -> str:
    number = chance.randrange(PRODUCTS)
    words = _words(number)
    kind = chance.random()
    if kind < 0.1:
        return urlencode({"q": f"find-{number}"})
    text = " ".join(words[:2])
    if kind < 0.25:
        # A letter is missing.
        at = chance.randrange(1, len(text) - 1)
        text = text[:at] + text[at + 1 :]
    elif kind < 0.4:
        text = text[:-2]
    filters = chance.choice(_FILTERS) if kind > 0.8 else {}
    return urlencode({"q": text, **filters})


def _words(number: int) -> list[str]:
    """Three words of a product's name, out of some thousands."""
    chance = random.Random(number)
    return ["".join(chance.choices(_SYLLABLES, k=3)) for _ in range(3)]


def _name(number: int) -> str:
    return f"found-{number:06}"


def _product(number: int, cents: int = 1_990) -> dict[str, object]:
    name = " ".join(_words(number))
    return {
        "texts": [
            {"language": "en", "name": name.title(), "description": f"The {name} is as good as the next one. " * 4},
            {"language": "fr", "name": f"Le {name}", "description": "Aussi bon que le suivant. " * 4},
        ],
        "brand": f"Brand {number % 100}",
        "categories": ["found", f"c{number % 10}/d{number % 200}"],
        "attributes": [{"name": "colour", "value": f"colour {number % 12}"}],
        "images": [{"url": f"https://img.example/{number}.jpg", "alt": name}],
        "currency": "EUR",
        "vat_category": "S",
        "vat_rate": "20.00",
        "prices_include_tax": True,
        "variants": [{"sku": f"FIND-{number}", "unit_price": f"{cents // 100}.{cents % 100:02}"}],
    }
