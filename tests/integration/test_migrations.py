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
    """A ledger whose printed numbers nothing keeps unique yet, with one invoice."""
    query("DROP INDEX invoices_printed_number")
    query("DELETE FROM schema_migrations WHERE name = %s", _FILE)
    query(_INVOICE, 1, "A", "INV-1")
    return ledger_url


def is_valid(query: Query) -> list[tuple[Any, ...]]:
    return query("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('invoices_printed_number')")


async def test_an_index_on_a_large_table_keeps_no_writer_waiting(older_url: str, query: Query) -> None:
    """A batch under way is waited for; those that come meanwhile are not held up, nor is a second migration."""
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
    """Where some do already, the migration names them, and can be run again."""
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
