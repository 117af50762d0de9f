"""What a consumer sees of an event without decoding it."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from schemas import catalog
from streams.relay.headers import event_headers
from streams.relay.steps import Output, Produce

AT = datetime(2026, 11, 29, 9, 30, 1, 5, UTC)


def headers(payload: bytes, **changed: Any) -> dict[str, Any]:
    step = Produce(Output("order-events", 2), 17, b"A-1", payload, AT)._replace(**changed)
    made = event_headers(step)
    assert len(dict(made)) == len(made)
    return dict(made)


def wire(schema_id: int) -> bytes:
    return b"\0" + schema_id.to_bytes(4) + b"body"


def test_a_record_is_a_cloud_event_in_binary_mode() -> None:
    assert headers(wire(catalog.ORDER_PLACED.ids[0]), traceparent="00-1-2-01") == {
        "seq": b"17",
        "type": b"gapless.OrderPlaced",
        "ce_type": b"gapless.OrderPlaced",
        "ce_specversion": b"1.0",
        "ce_source": b"/gapless",
        "ce_id": b"order-events-2-17",
        "ce_time": b"2026-11-29T09:30:01.000005+00:00",
        "traceparent": b"00-1-2-01",
    }


def test_every_version_of_a_record_has_its_type() -> None:
    for schema_id, (schema, _) in catalog.VERSIONS.items():
        assert headers(wire(schema_id))["type"] == schema.name.encode()


def test_the_time_is_in_utc_whatever_the_session_has() -> None:
    there = AT.astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert headers(b"", occurred_at=there) == headers(b"")


def test_a_row_that_is_no_record_is_published_without_a_type() -> None:
    assert headers(b"payload").keys() == {"seq", "ce_specversion", "ce_source", "ce_id", "ce_time"}
