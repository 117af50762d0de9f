"""Dead letters as JSON, for the command line and the dashboard."""

import base64
from datetime import UTC, datetime
from typing import Any

from sinks.postgres.dead_letters import REDRIVEN, CarriedRecord, DeadLetterRow


def letter_json(row: DeadLetterRow) -> dict[str, Any]:
    """A dead letter as JSON types, with times in ISO 8601, UTC; `closed` is null while it is open."""
    closed: dict[str, Any] | None = None
    if row.closed_at is not None:
        closed = {"by": row.closed_by, "at": moment_text(row.closed_at), "why": row.closed_why}
        if row.state == REDRIVEN:
            closed |= {"partition": row.redriven_partition, "offset": row.redriven_offset}
    return {
        "id": str(row.id),
        "state": row.state,
        "written_at": moment_text(row.occurred_at),
        "agent": row.agent,
        "topic": row.source_topic,
        "partition": row.source_partition,
        "offset": row.source_offset,
        "order_id": row.order_id,
        "reason": row.reason,
        "error": row.error,
        "closed": closed,
    }


def record_json(record: CarriedRecord) -> dict[str, Any]:
    """A dead letter's record without its secrets; a value that can't be decoded is in base64."""
    shown = record.value is not None and record.body is None
    return {
        "key": None if record.key is None else bytes_text(record.key),
        "schema": record.schema or None,
        "body": record.body,
        "decode_error": record.decode_error or None,
        "value_base64": base64.b64encode(record.value or b"").decode() if shown else None,
    }


def bytes_text(data: bytes | None) -> str:
    """A text for people: printable text unchanged, other bytes in hexadecimal, `-` for none."""
    if data is None:
        return "-"
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return f"0x{data.hex()}"
    return text if text.isprintable() else repr(text)


def moment_text(moment: datetime, timespec: str = "microseconds") -> str:
    """A time in ISO 8601, UTC."""
    return moment.astimezone(UTC).isoformat(timespec=timespec).replace("+00:00", "Z")
