"""With millions of invoices there already: the rate of further ones, and every read, against the empty ledger."""

import time
from collections.abc import Callable
from urllib.request import Request, urlopen

import psycopg

from benchmarks.result import Result
from benchmarks.stacks import stack
from benchmarks.whole_way import measure
from local.stack import Stack
from producers.load import percentile

INVOICES = 2_000_000
ORDERS = 6_000
WARM_UP_ORDERS = 6_000
READS = 200
#: What a read may take, of what it takes of an empty ledger.
SLOWER_MAX = 1.5
RATE_LEFT_MIN = 90.0
_CHUNK = 500_000
_OLD_SERIES = "demo.invoice.old"


def run() -> list[Result]:
    """The same stack before and after."""
    with stack({"invoices": 1, "documents": 0}) as made:
        measure(made, "GROW-WARM", WARM_UP_ORDERS)
        empty = measure(made, "GROW-EMPTY", ORDERS)
        reads = {name: _read_ms(made, path) for name, path in _paths("GROW-EMPTY").items()}
        began = time.monotonic()
        fill(made, INVOICES)
        filled_s = time.monotonic() - began
        full = measure(made, "GROW-FULL", ORDERS)
        after = {name: _read_ms(made, path) for name, path in _paths("GROW-FULL").items()}
    note = f"{empty:,.0f}/s before, {full:,.0f}/s after; {INVOICES:,} rows written in {filled_s:.0f} s"
    return [
        Result(
            f"rate with {INVOICES:,} invoices, of the empty rate", 100 * full / empty, "%", RATE_LEFT_MIN, note=note
        ),
        *(
            Result(
                f"{name}, times the empty ledger's",
                after[name] / before,
                "×",
                SLOWER_MAX,
                less_is_better=True,
                note=f"median {before:.1f} ms before, {after[name]:.1f} ms after",
            )
            for name, before in reads.items()
        ),
    ]


def fill(made: Stack, count: int) -> None:
    """Invoices of earlier years, in a series of their own, with their orders' ids."""
    with psycopg.connect(made.endpoints()["postgres"], autocommit=True) as ledger:
        ledger.execute(
            "INSERT INTO series (series_id, seller_id, policy, next_number) VALUES (%s, 'demo', 'partitioned', %s)",
            (_OLD_SERIES, count + 1),
        )
        for first in range(1, count + 1, _CHUNK):
            span = (first, min(first + _CHUNK - 1, count))
            ledger.execute(
                "INSERT INTO order_ids (seller_id, order_id, kind)"
                " SELECT 'demo', 'OLD-' || n, 'invoice' FROM generate_series(%s::bigint, %s::bigint) n",
                span,
            )
            ledger.execute(
                "INSERT INTO invoices (series_id, number, seller_id, order_id, kind, invoice_number, issued_at,"
                " currency, net_minor, tax_minor, gross_minor, content_sha256, source_partition, source_offset,"
                " event_seq)"
                f" SELECT '{_OLD_SERIES}', n, 'demo', 'OLD-' || n, 'invoice', 'OLD-' || n, now() - interval '1 year',"
                " 'EUR', 1000, 200, 1200, sha256(n::text::bytea), 0, -n, -n"
                " FROM generate_series(%s::bigint, %s::bigint) n",
                span,
            )
        ledger.execute("ANALYZE")


def _paths(prefix: str) -> dict[str, Callable[[int], str]]:
    """Every read that an invoice has; the argument is the number of the look."""
    return {
        "GET /v1/invoices/{order_id}": lambda n: f"/v1/invoices/{prefix}-{n % ORDERS + 1}",
        "GET /v1/series": lambda _: "/v1/series?limit=100",
        "GET /v1/stock": lambda _: "/v1/stock?limit=20",
    }


def _read_ms(made: Stack, path: Callable[[int], str]) -> float:
    """The median of some looks, in milliseconds."""
    url = made.endpoints()["gateway"]
    headers = {"Authorization": f"Bearer {(made.data / 'api_key').read_text().strip()}"}
    took = []
    for number in range(READS):
        began = time.monotonic()
        with urlopen(Request(url + path(number), headers=headers), timeout=30) as answer:
            answer.read()
        took.append((time.monotonic() - began) * 1e3)
    return percentile(took, 50)
