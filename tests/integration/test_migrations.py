"""Migrations of a database that is in use."""

import asyncio
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from sinks.postgres.migrate import migrate
from tests.integration.gateways import until

Query = Callable[..., list[tuple[Any, ...]]]

_FILE = "0010_printed_numbers.sql"
_INVOICE = (
    "INSERT INTO invoices (series_id, number, seller_id, order_id, kind, invoice_number, issued_at, currency,"
    " net_minor, tax_minor, gross_minor, content_sha256, source_partition, source_offset, event_seq)"
    " VALUES ('s', %s, 'demo', %s, 'invoice', %s, now(), 'EUR', 0, 0, 0, '', 0, 0, 0)"
)
_BUILDING = (
    "SELECT 1 FROM pg_stat_activity WHERE query LIKE '%%CREATE UNIQUE INDEX CONC%%' AND wait_event_type = 'Lock'"
    " AND datname = current_database() AND pid <> pg_backend_pid()"
)


@pytest.fixture
def older_url(ledger_url: str, query: Query) -> str:
    """A ledger without the unique index on printed numbers, and with one invoice."""
    query("DROP INDEX invoices_printed_number")
    query("DELETE FROM schema_migrations WHERE name = %s", _FILE)
    query(_INVOICE, 1, "A", "INV-1")
    return ledger_url


def is_valid(query: Query) -> list[tuple[Any, ...]]:
    return query("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('invoices_printed_number')")


async def test_an_index_on_a_large_table_keeps_no_writer_waiting(older_url: str, query: Query) -> None:
    """The migration waits for a batch under way; later batches are not blocked, nor is a second migration."""
    async with await psycopg.AsyncConnection.connect(older_url) as under_way:
        await under_way.execute(_INVOICE, (2, "B", "INV-2"))
        migrations = [asyncio.create_task(migrate(older_url)) for _ in range(2)]
        await until(lambda: asyncio.to_thread(query, _BUILDING), bool)
        assert not any(each.done() for each in migrations)
        async with await psycopg.AsyncConnection.connect(older_url, autocommit=True) as later:
            await later.execute("SET lock_timeout = '5s'")
            await later.execute(_INVOICE, (3, "C", "INV-3"))
        assert is_valid(query) == [(False,)]
        await under_way.commit()
    assert sorted(map(str, await asyncio.gather(*migrations))) == sorted([f"['{_FILE}']", "[]"])
    assert is_valid(query) == [(True,)]


async def test_two_documents_of_a_seller_never_show_the_same_number(older_url: str, query: Query) -> None:
    """If there are duplicates, the migration names them, and can be repeated."""
    query(_INVOICE, 2, "B", "INV-1")
    with pytest.raises(psycopg.errors.UniqueViolation, match=r"\(demo, INV-1\)"):
        await migrate(older_url)
    query("UPDATE invoices SET invoice_number = 'INV-2' WHERE order_id = 'B'")
    assert await migrate(older_url) == [_FILE]
    assert is_valid(query) == [(True,)]
    with pytest.raises(psycopg.errors.UniqueViolation, match="invoices_printed_number"):
        query(_INVOICE, 3, "C", "INV-1")
    query(_INVOICE.replace("demo", "other"), 4, "D", "INV-1")
    assert query("SELECT count(*) FROM invoices WHERE invoice_number = 'INV-1'") == [(2,)]


async def test_an_index_of_the_journal_is_built_partition_by_partition(ledger_url: str, query: Query) -> None:
    """Writers are not blocked while a partition waits for a batch; months created later have the index as well."""
    query("DROP INDEX journal_by_key")
    query("DELETE FROM schema_migrations WHERE name = %s", "0013_trails.sql")
    row = "(topic, partition, seq, key, payload, occurred_at) VALUES ('order-events', 0, %s, 'A', '', now())"
    async with await psycopg.AsyncConnection.connect(ledger_url) as under_way:
        # On the partition itself: a lock on the whole journal would be waited for by all when the parts are attached.
        cursor = await under_way.execute("SELECT to_char(now(), 'YYYY_MM')")
        [(month,)] = await cursor.fetchall()
        await under_way.execute(f"INSERT INTO journal_{month} {row}".encode(), (1,))
        migration = asyncio.create_task(migrate(ledger_url))
        await until(lambda: asyncio.to_thread(query, _BUILDING.replace("UNIQUE ", "")), bool)
        async with await psycopg.AsyncConnection.connect(ledger_url, autocommit=True) as later:
            await later.execute("SET lock_timeout = '5s'")
            await later.execute(f"INSERT INTO journal {row}".encode(), (2,))
        await under_way.commit()
        assert await migration == ["0013_trails.sql"]
    query("SELECT make_journal_months('2040-01-01', 1)")
    partitions = query("SELECT count(*) FROM pg_inherits WHERE inhparent = 'journal'::regclass")
    assert partitions == query(
        "SELECT count(*) FILTER (WHERE indisvalid) FROM pg_inherits JOIN pg_index ON indexrelid = inhrelid"
        " WHERE inhparent = 'journal_by_key'::regclass"
    )
    assert query("SELECT indisvalid FROM pg_index WHERE indexrelid = 'journal_by_key'::regclass") == [(True,)]


def test_a_key_longer_than_any_order_id_is_no_obstacle(query: Query) -> None:
    """Another producer's record becomes a dead letter with its original key."""
    query(
        "INSERT INTO journal (topic, partition, seq, key, payload, occurred_at) SELECT 'dead-letters', 0, 1,"
        " string_agg(sha256(n::text::bytea), ''), '', now() FROM generate_series(1, 1000) n"
    )
