"""The questions that are asked again and again go by an index, however much there is."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString

import psycopg
import pytest

from audit import order_statements, statements
from domain.rules import SellerFacts
from gateway.http.auth import KeyRing
from sinks.postgres import analytics_reader, invoices_reader, orders_reader, trail_rows
from sinks.postgres.session import Session
from tests.integration.gateways import until

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


async def rows_read(
    url: str, statement: LiteralString, *, enable_seqscan: str = "off", **parameters: Any
) -> tuple[str, int]:
    """The plan, and how many rows it looked at, those that its filters threw away included."""
    session = Session(url, enable_seqscan=enable_seqscan)
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


async def test_a_refresh_reads_the_sellers_that_were_asked_for(ledger_url: str, query: Query) -> None:
    """All are read once, at the start of a gateway, so that it knows them while Postgres is unavailable."""
    query(
        "INSERT INTO sellers (seller_id, legal_name, street, city, postal_code, country, number_format)"
        " SELECT 's-' || n, 'S', '1 Main St', 'Lyon', '69001', 'FR', '' FROM generate_series(1, 10000) n"
    )
    query("ANALYZE sellers")
    parameters = {"seller_ids": [f"s-{n}" for n in range(1, 31)]}
    plan, rows = await rows_read(ledger_url, invoices_reader._READ_SELLERS, enable_seqscan="on", **parameters)
    assert "Seq Scan" not in plan, plan
    assert rows == 30, plan

    reader = invoices_reader.InvoicesReader(ledger_url, topic="invoice-events", kind="invoice")
    ring = KeyRing(reader)
    await ring.refresh()
    for tax_number in ("T-1", "T-2", "T-3"):
        query("UPDATE sellers SET tax_number = %s WHERE seller_id IN ('s-7', 's-8')", tax_number)
        if tax_number == "T-1":
            assert (await _facts(ring, "s-7")).tax_number == "T-1"
        await ring.refresh()
        assert (await _facts(ring, "s-7")).tax_number == tax_number
    # Not asked for until now, and read as it is now.
    assert (await _facts(ring, "s-8")).tax_number == "T-3"
    await reader.close()

    async def rows_of_sellers() -> int:
        [(count,)] = query("SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_user_tables WHERE relname = 'sellers'")
        return int(count)

    # A session reports its counts when it ends. Here are those of all sellers, of the plan, and of five look-ups.
    assert await until(rows_of_sellers, lambda count: count >= 10_035) <= 10_090


async def _facts(ring: KeyRing, seller_id: str) -> SellerFacts:
    facts = await ring.facts_of(seller_id)
    assert facts is not None
    return facts


async def test_where_an_order_is_costs_what_it_finds(ledger_url: str, query: Query) -> None:
    """Also for who leaves it to the planner whether to read whole tables; of sellers all are read."""
    for statement in (
        "INSERT INTO sellers (seller_id, legal_name, street, city, postal_code, country, number_format)"
        " SELECT 's-' || n, 'S', '1 Main St', 'Lyon', '69001', 'FR', '' FROM generate_series(1, 10) n",
        "INSERT INTO order_ids SELECT 's-1', 'O-' || n, 'checkout', n / 2 FROM generate_series(1, 10000) n",
        "INSERT INTO orders (seller_id, order_id, partition, customer, state, version, history, currency, net_minor,"
        " tax_minor, gross_minor, content_sha256, payment_token, invoice_request, hold_expires_at, placed_at,"
        " source_offset) SELECT 's-1', 'O-' || n, n % 4, 'C', 'CONFIRMED', 1, '[]', 'EUR', 0, 0, 0, '', '', '', now(),"
        " now(), n FROM generate_series(1, 10000) n",
        "INSERT INTO invoices (series_id, number, seller_id, order_id, kind, invoice_number, issued_at, currency,"
        " net_minor, tax_minor, gross_minor, content_sha256, source_partition, source_offset, event_seq)"
        " SELECT 's-1.1', n, 's-1', 'O-' || n, 'invoice', 'I-' || n, now(), 'EUR', 0, 0, 0, '', n % 4, n, n"
        " FROM generate_series(1, 10000) n",
        "INSERT INTO documents SELECT 's-1.1', n, n::text, '', 1, 1, now() FROM generate_series(1, 10000) n",
        "INSERT INTO refused_requests SELECT 'invoice-requests', 0, n, 's-1', 'O-' || n, 'invoice', 'conflict',"
        " 'conflict', '', '', now() FROM generate_series(1, 10000) n",
        "INSERT INTO refunds (seller_id, order_id, refund_id, lines, amount_minor, reason, credit_note_request,"
        " requested_at) SELECT 's-1', 'O-' || n, 'r', '[]', 1, '', '', now() FROM generate_series(1, 10000) n",
        "INSERT INTO payment_attempts (seller_id, order_id, request_id, partition, action, amount_minor, currency,"
        " provider_key, next_try_at, created_at) SELECT 's-1', 'O-' || n, 'authorize', 0, 'authorize', 1, 'EUR',"
        " n::text, now(), now() FROM generate_series(1, 10000) n",
        "INSERT INTO journal (topic, partition, seq, key, payload, occurred_at) SELECT 'order-events', 0, n,"
        " convert_to('O-' || n / 2, 'UTF8'), '', now() FROM generate_series(1, 10000) n",
        "ANALYZE",
    ):
        query(statement.replace("%", "%%"))
    one: dict[str, Any] = {"seller_ids": ["s-1"], "order_ids": ["O-77"], "rows_max": 200}
    events: dict[str, Any] = {"order_ids": ["O-77"], "events_max": 500, "bytes_max": 10**6}
    cases: list[tuple[LiteralString, dict[str, Any]]] = [
        *((trail_rows._FIND, {"wanted": wanted, "seller_ids": None, "limit": 20}) for wanted in ("O-77", "I-77")),
        (trail_rows._FIND_OF_BUYER, {"buyer_key": 77, "seller_id": None, "buyer_orders_max": 1_000, "limit": 20}),
        *((statement, one) for statement in trail_rows._OF_ORDERS),
        (trail_rows._EVENTS, events),
    ]
    for statement, parameters in cases:
        plan, rows = await rows_read(ledger_url, statement, enable_seqscan="on", **parameters)
        read = {name for name in re.findall(r"Seq Scan on (\w+)", plan) if query(f"SELECT FROM {name} LIMIT 1")}
        assert read <= {"sellers"}, plan
        assert 1 <= rows <= 60, f"{rows} rows for {statement}\n{plan}"


async def test_the_amounts_of_skus_are_read_once_for_all_of_them(ledger_url: str, query: Query) -> None:
    """Not once for each that is shown: a month of a busy shop would take longer than anybody waits."""
    query(
        "INSERT INTO analytics_skus SELECT 'demo', n * 15, 'S-' || s, 0, kind, 1, 1"
        " FROM generate_series(0, 99) n, generate_series(1, 30) s, (VALUES (''), ('EUR')) AS kinds (kind)"
    )
    query("ANALYZE analytics_skus")
    asked: dict[str, Any] = {"first": 0, "last": 1_500, "since": 0, "now": 1_500, "by_cover": False, "limit": 30}
    plan, _ = await rows_read(ledger_url, analytics_reader._SKUS, seller_id="demo", **asked)
    loops = re.findall(r"on analytics_skus.* loops=(\d+)", plan)
    assert (len(loops) >= 3, set(loops)) == (True, {"1"}), plan
