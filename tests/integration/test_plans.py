"""The questions that are asked again and again go by an index, however much there is."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString

import psycopg
import pytest

from audit import order_statements, statements
from sinks.postgres import invoices_reader, orders_reader
from sinks.postgres.session import Session

Query = Callable[..., list[tuple[Any, ...]]]

ROWS = 100_000
NOW = datetime(2026, 11, 21, 10, tzinfo=UTC)


@pytest.fixture
def full(query: Query) -> None:
    """100,000 rows of each kind, half of the orders one customer's."""
    query(
        "INSERT INTO sellers (seller_id, legal_name, street, city, postal_code, country, number_format)"
        " SELECT 's-' || n, 'S', '1 Main St', 'Lyon', '69001', 'FR', '' FROM generate_series(1, 1000) n"
    )
    query(
        "INSERT INTO series (series_id, seller_id, policy)"
        " SELECT 's-' || n %% 1000 + 1 || '.' || n, 's-' || n %% 1000 + 1, 'partitioned' FROM generate_series(1, %s) n",
        ROWS,
    )
    query(
        "INSERT INTO api_keys (key_sha256, seller_id, label, created_at) SELECT sha256(n::text::bytea), 's-1', 'k',"
        " %s::timestamptz - make_interval(secs => n) FROM generate_series(1, %s) n",
        NOW,
        ROWS,
    )
    query(
        "INSERT INTO orders (seller_id, order_id, partition, customer, state, version, history, currency, net_minor,"
        " tax_minor, gross_minor, content_sha256, payment_token, invoice_request, hold_expires_at, placed_at,"
        " source_offset) SELECT 's-1', 'O-' || n, n %% 4, 'C-' || n %% 2, 'CONFIRMED', 1, '[]', 'EUR', 0, 0, 0, '', '',"
        " '', now(), %s::timestamptz - make_interval(secs => n), n FROM generate_series(1, %s) n",
        NOW,
        ROWS,
    )
    query(
        "INSERT INTO invoices (series_id, number, seller_id, order_id, kind, invoice_number, issued_at, currency,"
        " net_minor, tax_minor, gross_minor, content_sha256, source_partition, source_offset, event_seq)"
        " SELECT 's-1.1', n, 's-1', 'O-' || n, 'invoice', n::text, now(), 'EUR', 0, 0, 0, '', n %% 4, n, n"
        " FROM generate_series(1, %s) n",
        ROWS,
    )
    query("ANALYZE")


async def rows_read(url: str, statement: LiteralString, **parameters: Any) -> tuple[str, int]:
    """The plan, and how many rows it looked at, those that its filters threw away included."""
    session = Session(url)
    try:
        async with session.connection() as connection:
            cursor = await connection.execute("EXPLAIN (ANALYZE, COSTS OFF) " + statement, parameters)
            plan = "\n".join(row[0] for row in await cursor.fetchall())
    finally:
        await session.close()
    found = [float(rows) for rows in re.findall(r"actual time=\S+ rows=([\d.]+)", plan)]
    return plan, int(max(found)) + sum(map(int, re.findall(r"Rows Removed by \w+(?: \w+)*: (\d+)", plan)))


@pytest.mark.usefixtures("full")
async def test_a_question_costs_what_it_finds(ledger_url: str) -> None:
    """With 100,000 rows there, each reads a page or what is new; the last page costs what the first does."""
    deep = (NOW - timedelta(seconds=ROWS - 100), "O")
    orders: dict[str, Any] = {"seller_id": "s-1", "customer": "C-0", "limit": 21}
    cases: list[tuple[str, LiteralString, dict[str, Any]]] = [
        ("series_by_seller", invoices_reader._LIST_SERIES, {"seller_id": "s-7", "after": "", "limit": 21}),
        ("series_by_seller", invoices_reader._LIST_SERIES, {"seller_id": "s-7", "after": "s-7.50006", "limit": 21}),
        ("api_keys_by_change", invoices_reader._READ_KEYS, {"since": NOW - timedelta(seconds=50)}),
        ("api_keys_pkey", invoices_reader._READ_KEY, {"digests": [b"unknown"] * 10}),
        ("orders_by_customer", orders_reader._LIST_ORDERS, {**orders, "placed_at": "infinity", "order_id": ""}),
        ("orders_by_customer", orders_reader._LIST_ORDERS, {**orders, "placed_at": deep[0], "order_id": deep[1]}),
        ("orders_by_source", order_statements.COUNT_ORDERS, {"partition": 1, "first": ROWS - 200}),
        ("invoices_by_source", statements.COUNT_ISSUED, {"partition": 1, "first": ROWS - 200}),
    ]
    for index, statement, parameters in cases:
        plan, rows = await rows_read(ledger_url, statement, **parameters)
        assert f"using {index} " in plan or f"on {index} " in plan, plan
        assert "Seq Scan" not in plan, plan
        assert rows <= 60, f"{rows} rows for {statement}\n{plan}"


async def test_the_keys_are_read_in_full_once(ledger_url: str) -> None:
    """At the start of a gateway, by the same statement."""
    async with await psycopg.AsyncConnection.connect(ledger_url, autocommit=True) as connection:
        await connection.execute("INSERT INTO api_keys (key_sha256, seller_id, label) VALUES ('a', 'demo', 'k')")
        cursor = await connection.execute(invoices_reader._READ_KEYS, {"since": "-infinity"})
        assert len(await cursor.fetchall()) == 1
