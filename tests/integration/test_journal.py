"""The journal's rows as they are stored."""

from datetime import UTC, datetime

import psycopg

from schemas import catalog
from schemas.codec import decode
from sinks.postgres.journal import JournalRow, append_numbered
from streams.relay.headers import event_headers
from streams.relay.steps import Output, Produce
from tests.integration.hooks_world import Query, changed
from tests.records import written

NOW = datetime(2026, 11, 29, tzinfo=UTC)


async def test_each_event_is_stored_with_its_id(ledger_url: str, query: Query) -> None:
    """Topic, partition and seq, as the header has it; what has one, or has no place for one, stays as it is."""
    former = (catalog.ORDER_STATE_CHANGED.versions[0].schema_id).to_bytes(5) + changed("A-1")[5:-1]
    identified = written(catalog.ORDER_STATE_CHANGED, {**_value(changed("A-2")), "event_id": "order-events-0-7"})
    orders = [changed("A-1"), former, identified, b"", b"\0", changed("A-3")]
    dead = written(
        catalog.DEAD_LETTER,
        {
            "agent": "invoices", "source_topic": "invoice-requests", "source_partition": 0, "source_offset": 0,
            "key": None, "value": None, "error": "broken", "occurred_at": 0,
        },
    )  # fmt: skip
    output = {
        ("order-events", 12): [JournalRow(b"k", each, NOW) for each in orders],
        ("dead-letters", 0): [JournalRow(None, dead, NOW)],
    }
    async with await psycopg.AsyncConnection.connect(ledger_url) as connection:
        await append_numbered(connection, output)
        assert await append_numbered(connection, output) == {("order-events", 12): 7, ("dead-letters", 0): 2}
    rows = query("SELECT topic, partition, seq, payload FROM journal ORDER BY topic, seq")
    assert [(topic, seq) for topic, _, seq, _ in rows] == [
        *[("dead-letters", seq) for seq in (1, 2)], *[("order-events", seq) for seq in range(1, 13)]
    ]  # fmt: skip
    unchanged = [former, identified, b"", b"\0"]
    assert [payload for *_, payload in rows[3:7]] == [payload for *_, payload in rows[9:13]] == unchanged
    for topic, partition, seq, payload in [rows[0], rows[1], rows[2], rows[7], rows[8], rows[13]]:
        value = _value(payload)
        assert value["event_id"] == f"{topic}-{partition}-{seq}"
        headers = dict(event_headers(Produce(Output(topic, partition), seq, None, payload, NOW)))
        assert headers["ce_id"] == str(value["event_id"]).encode()


def _value(payload: bytes) -> dict[str, object]:
    schemas = (catalog.ORDER_STATE_CHANGED, catalog.DEAD_LETTER)
    return dict(decode(payload, *schemas, bytes_max=len(payload))[1])
