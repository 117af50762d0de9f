"""With ten million invoices there already: the rate of further ones, and what reads take, beside the empty tables."""

import time
from collections.abc import Callable
from statistics import median
from typing import LiteralString

import aiohttp
import psycopg
import uvloop

from benchmarks.posting import invoices_rate
from benchmarks.result import Result
from benchmarks.stacks import stack, target_of
from gapless.demo_steps import Target

INVOICES = 10_000_000
ORDERS = 6_000
WARM_UP_ORDERS = 6_000
READS = 200
#: What is left of the rate, and how many times as long a read may take.
RATE_PERCENT_MIN = 90.0
TIMES_MAX = 1.5
_CHUNK = 500_000
#: By table, its columns and how they follow from the number. Their events are left out: nothing reads them again.
_ROWS: dict[LiteralString, tuple[LiteralString, LiteralString]] = {
    "order_ids": ("seller_id, order_id, kind", "'demo', 'OLD-' || n, 'invoice'"),
    "invoices": (
        "series_id, number, seller_id, order_id, kind, invoice_number, issued_at, currency, net_minor, tax_minor,"
        " gross_minor, content_sha256, source_partition, source_offset, event_seq",
        "'demo.invoice.old', n, 'demo', 'OLD-' || n, 'invoice', 'OLD-' || n, now() - interval '1 year', 'EUR', 1000,"
        " 200, 1200, sha256(n::text::bytea), 0, -n, -n",
    ),
    "documents": (
        "series_id, number, key, sha256, size_bytes, template_version, stored_at",
        "'demo.invoice.old', n, 'demo/old/' || n, sha256(n::text::bytea), 20000, 1, now() - interval '1 year'",
    ),
}


def run() -> list[Result]:
    """The same stack before and after."""
    with stack({"documents": 0}) as made:
        target = target_of(made)
        invoices_rate(target, WARM_UP_ORDERS, "GROW-WARM")
        rate = invoices_rate(target, ORDERS, "GROW-EMPTY")
        reads_ms = uvloop.run(_reads_ms(target, "GROW-EMPTY"))
        began = time.monotonic()
        _fill(target.postgres_url)
        filled_s = time.monotonic() - began
        rate_after = invoices_rate(target, ORDERS, "GROW-FULL")
        reads_after_ms = uvloop.run(_reads_ms(target, "GROW-FULL"))
    note = f"{rate:,.0f}/s before, {rate_after:,.0f}/s after; written in {filled_s:,.0f} s"
    name = f"rate beside {INVOICES:,} invoices, of that beside none"
    results = [Result(name, 100 * rate_after / rate, "%", RATE_PERCENT_MIN, note=note)]
    for path, before_ms in reads_ms.items():
        after_ms = reads_after_ms[path]
        note = f"median {before_ms:.1f} ms before, {after_ms:.1f} ms after"
        results.append(Result(f"GET {path}", after_ms / before_ms, "times", TIMES_MAX, less_is_better=True, note=note))
    return results


def _fill(postgres_url: str) -> None:
    """Invoices of a year ago with their orders' ids and documents, in a series of their own: by COPY."""
    with (
        psycopg.connect(postgres_url, autocommit=True) as reading,
        psycopg.connect(postgres_url, autocommit=True) as writing,
    ):
        writing.execute(
            "INSERT INTO series (series_id, seller_id, policy, next_number)"
            " VALUES ('demo.invoice.old', 'demo', 'partitioned', %s)",
            (INVOICES + 1,),
        )
        for first in range(1, INVOICES + 1, _CHUNK):
            numbers = f"generate_series({first}::bigint, {min(first + _CHUNK - 1, INVOICES)}::bigint) n"
            for table, (columns, values) in _ROWS.items():
                with (
                    reading.cursor().copy(f"COPY (SELECT {values} FROM {numbers}) TO STDOUT".encode()) as rows,
                    writing.cursor().copy(f"COPY {table} ({columns}) FROM STDIN".encode()) as sink,
                ):
                    for block in rows:
                        sink.write(block)
        # As autovacuum does in the course of time.
        writing.execute("VACUUM ANALYZE")


async def _reads_ms(target: Target, prefix: str) -> dict[str, float]:
    """By path, the median of some reads, one after the other."""
    headers = {"Authorization": f"Bearer {target.api_key}"}
    async with aiohttp.ClientSession(target.url, headers=headers) as session:

        async def read_ms(path: Callable[[int], str]) -> float:
            took_ms = []
            for number in range(READS):
                began = time.perf_counter()
                async with session.get(path(number)) as answer:
                    await answer.read()
                took_ms.append((time.perf_counter() - began) * 1e3)
                if answer.status != 200:
                    raise RuntimeError(f"GET {path(number)}: {answer.status}")
            return median(took_ms)

        def order(number: int) -> str:
            return f"/v1/invoices/{prefix}-{number % ORDERS + 1}"

        async with session.get(order(0)) as answer:
            series = f"/v1/series/{(await answer.json())['series_id']}/numbers"
        return {
            "/v1/invoices/{order_id}": await read_ms(order),
            "/v1/invoices/{order_id}/credit-notes": await read_ms(lambda number: f"{order(number)}/credit-notes"),
            "/v1/series": await read_ms(lambda _: "/v1/series?limit=20"),
            "/v1/series/{series_id}/numbers/{number}": await read_ms(lambda number: f"{series}/{number % 5 + 1}"),
        }
