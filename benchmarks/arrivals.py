"""Open-model load: checkouts that are posted at times fixed beforehand, however slow the answers are.

`python -m benchmarks.arrivals --url URL --api-key-file FILE --rate 300 --seconds 20`

Buyers don't wait for each other: arrivals are a Poisson process drawn from a seed, and a request that is due is sent
though thousands are unanswered. A latency counts from when its request was due, so waiting for a turn is counted too.
They are recorded in an HdrHistogram; the one printed as base64 can be merged with others.
"""

import argparse
import asyncio
import json
import random
import sys
import time
from collections import Counter
from pathlib import Path

import aiohttp
import uvloop
from hdrh.histogram import HdrHistogram

from producers.generate import checkouts

#: One piece of each in turn; many, so that no SKU is hot.
SKUS = 200
#: What buyers pay with: one in a hundred is declined, one is charged without an answer.
TOKENS = {"tok_ok": 0.98, "tok_decline": 0.01, "tok_timeout_charged": 0.01}
_PIECES = 100_000_000
_LATENCY_US_MAX = 600_000_000
_DIGITS = 3
_ANSWER_SECONDS_MAX = 120.0
_PERCENTILES = (50.0, 95.0, 99.0, 99.9)


def due_times(rate: float, seconds: float, *, seed: int) -> list[float]:
    """When each request is due, in seconds from the start: `rate` a second on average, at random."""
    chance = random.Random(seed)
    times: list[float] = []
    at = chance.expovariate(rate)
    while at < seconds:
        times.append(at)
        at += chance.expovariate(rate)
    return times


class Arrivals:
    """Posts checkouts when they are due, and records how long each takes from then on."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url.rstrip("/")
        self.histogram = HdrHistogram(1, _LATENCY_US_MAX, _DIGITS)
        self.statuses: Counter[str] = Counter()

    async def put_stock(self, skus: list[str]) -> None:
        """More of each than anybody buys."""
        for sku in skus:
            async with self._session.put(f"{self._url}/v1/stock/{sku}", json={"on_hand": _PIECES}) as answer:
                answer.raise_for_status()

    async def run(self, payloads: list[bytes], due: list[float]) -> None:
        """Return once all are answered, or have failed."""
        began = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            for payload, at in zip(payloads, due, strict=True):
                await asyncio.sleep(max(0.0, began + at - time.monotonic()))
                tasks.create_task(self._post(payload, began + at))

    async def _post(self, payload: bytes, due_at: float) -> None:
        try:
            async with self._session.post(f"{self._url}/v1/checkouts", data=payload) as answer:
                await answer.read()
                status = str(answer.status)
        except (aiohttp.ClientError, TimeoutError) as error:
            status = type(error).__name__
        self.statuses[status] += 1
        self.histogram.record_value(max(1, round((time.monotonic() - due_at) * 1e6)))

    def report(self) -> dict[str, object]:
        """Latencies in milliseconds."""
        latency = {f"p{each:g}": self.histogram.get_value_at_percentile(each) / 1e3 for each in _PERCENTILES}
        return {
            "requests": self.histogram.get_total_count(),
            "statuses": dict(self.statuses),
            "latency_ms": {**latency, "max": self.histogram.get_max_value() / 1e3},
            "histogram": self.histogram.encode().decode(),
        }


async def load(url: str, api_key: str, rate: float, seconds: float, *, seed: int, prefix: str) -> dict[str, object]:
    """Put stock, then post."""
    skus = [f"ART-{number}" for number in range(SKUS)]
    due = due_times(rate, seconds, seed=seed)
    payloads = list(checkouts(len(due), seed=seed, skus=skus, customers=len(due), tokens=TOKENS, prefix=prefix))
    headers = {"Authorization": f"Bearer {api_key}", "Content-Type": "application/json", "Prefer": "wait=60"}
    timeout = aiohttp.ClientTimeout(total=_ANSWER_SECONDS_MAX)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(headers=headers, timeout=timeout, connector=connector) as session:
        arrivals = Arrivals(session, url)
        await arrivals.put_stock(skus)
        await arrivals.run(payloads, due)
        return arrivals.report()


def main() -> None:
    """Print the report as JSON."""
    parser = argparse.ArgumentParser(description="Post checkouts at times fixed beforehand.")
    parser.add_argument("--url", required=True)
    parser.add_argument("--api-key-file", type=Path, required=True)
    parser.add_argument("--rate", type=float, default=100.0, help="so many a second on average")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--prefix", default="OPEN", help="of the order ids")
    given = parser.parse_args()
    key = given.api_key_file.read_text().strip()
    told = uvloop.run(load(given.url, key, given.rate, given.seconds, seed=given.seed, prefix=given.prefix))
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
