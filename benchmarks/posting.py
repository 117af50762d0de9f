"""Orders at full speed from this process: 256 clients, each with one order after the other."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence

import msgspec
import psycopg
import uvloop

from benchmarks.rate import counted, per_second
from gapless import load_checkouts
from gapless.demo_steps import Target
from producers import load
from producers.generate import bodies, checkouts

#: Of each SKU: more than anybody buys.
PLENTY = 100_000_000
_WAIT_S = 30
_POLL_S = 0.05
#: An invoice is there already, or accepted.
_TAKEN = {200, 202}
_CONFIRMED = {201}


async def post_invoices(target: Target, orders: int, prefix: str) -> None:
    """Return when each is accepted. Raises `RuntimeError` if one is not."""
    async with target.client(load.WORKERS) as client:
        report = await load.run(client, map(msgspec.json.encode, bodies(orders, seed=1, prefix=prefix)))
    _require(report, _TAKEN)


async def post_checkouts(target: Target, orders: int, prefix: str, skus: Sequence[str]) -> None:
    """One piece each, of the SKUs in turn; return when each is confirmed. Raises `RuntimeError` if one is not."""
    tokens = {"tok_ok": 1.0}
    async with target.client(load.WORKERS) as client:
        payloads = checkouts(orders, seed=1, skus=skus, customers=orders, tokens=tokens, prefix=prefix)
        report = await load.run(client, payloads, wait_s=_WAIT_S, post=client.post_checkout)
    _require(report, _CONFIRMED)


async def put_stock(target: Target, skus: Sequence[str]) -> None:
    """Enough of each. Raises `click.ClickException` if it is refused."""
    async with target.client(load.WORKERS) as client:
        await load_checkouts.put_stock(client, skus, PLENTY)


def invoices_rate(target: Target, orders: int, prefix: str) -> float:
    """Invoices numbered a second. The series say how many there are: to count rows takes seconds of ten million."""
    with psycopg.connect(target.postgres_url, autocommit=True) as ledger:

        def numbered() -> int:
            return counted(ledger, "SELECT coalesce(sum(next_number - 1), 0) FROM series")

        start = numbered()
        return rate_of(post_invoices(target, orders, prefix), lambda: numbered() - start, orders, poll_s=_POLL_S)


def rate_of(posting: Coroutine[None, None, None], count: Callable[[], int], orders: int, *, poll_s: float) -> float:
    """How many of the orders that are posted are done a second: see `per_second`."""

    async def both() -> float:
        under_way = asyncio.create_task(posting)

        def done() -> int:
            if under_way.done():
                # Raises what ended it: the rest of the orders won't come.
                under_way.result()
            return count()

        per_s = await asyncio.to_thread(per_second, done, orders, poll_s=poll_s)
        await under_way
        return per_s

    return uvloop.run(both())


def _require(report: load.LoadReport, statuses: set[int]) -> None:
    if report.failed or not set(report.statuses) <= statuses:
        raise RuntimeError(f"answered {dict(report.statuses)}, without an answer {report.failures}")
