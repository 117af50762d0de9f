"""Dead letters as agents write them, and the command line that reads them."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import psycopg
from click.testing import CliRunner, Result

from gapless.dead_letters import dead_letters
from schemas import catalog
from schemas.placement import partition_of
from tests.conftest import PARTITIONS
from tests.integration.world import append
from tests.records import written
from tests.unit.domain.test_invoice import request

REQUESTS, DEAD = catalog.INVOICE_REQUESTS.name, catalog.DEAD_LETTERS.name
NOON = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)


def asked(order_id: str, **changes: Any) -> bytes:
    """The bytes of an invoice request."""
    return written(catalog.INVOICE_REQUEST, request(order_id=order_id, **changes))


def home_of(order_id: str) -> int:
    """The partition of an order id."""
    return partition_of(order_id.encode(), PARTITIONS)


def add_letter(url: str, error: str, offset: int, key: bytes | None, value: bytes | None, **changes: Any) -> str:
    """Append a dead letter of an invoice request to the journal, as agents do; its id."""
    at = changes.pop("at", NOON)
    letter: Mapping[str, Any] = {
        "agent": "invoices",
        "source_topic": REQUESTS,
        "source_partition": 0,
        "source_offset": offset,
        "key": key,
        "value": value,
        "error": error,
        "occurred_at": 0,
        **changes,
    }
    partition = letter["source_partition"]
    with psycopg.connect(url, autocommit=True) as connection:
        append(connection, DEAD, partition, key, catalog.DEAD_LETTER, letter)
        (seq,) = connection.execute(
            "SELECT next_seq - 1 FROM journal_heads WHERE topic = %s AND partition = %s", (DEAD, partition)
        ).fetchone() or (0,)
        connection.execute(
            "UPDATE journal SET occurred_at = %s WHERE topic = %s AND partition = %s AND seq = %s",
            (at, DEAD, partition, seq),
        )
    return f"{partition}-{seq}"


def run(*arguments: str) -> Result:
    """`gapless dead-letters …`, which has to end well or with an exception that it shows."""
    return CliRunner().invoke(dead_letters, arguments, standalone_mode=False)
