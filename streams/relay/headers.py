"""The headers of the relay's records: what tells consumers of an event without decoding its value.

The names of CloudEvents are those of its Kafka protocol binding 1.0.2, in binary mode.
"""

from datetime import UTC
from functools import lru_cache

from runtime.traces import TRACEPARENT
from schemas.catalog import SEQ_HEADER
from schemas.codec import DecodeError, schema_of
from streams.relay.steps import Produce

Headers = list[tuple[str, bytes]]

#: Magic byte and schema id, which tell the record.
_WIRE_HEADER_BYTES = 5
_ALWAYS: Headers = [("ce_specversion", b"1.0"), ("ce_source", b"/gapless")]


def event_headers(step: Produce) -> Headers:
    """The headers of a row of the journal. They depend on the row alone: a repeat after a crash is the same record."""
    topic, partition = step.output.topic, step.output.partition
    headers: Headers = [(SEQ_HEADER, b"%d" % step.seq), *_types(step.payload[:_WIRE_HEADER_BYTES]), *_ALWAYS]
    headers.append(("ce_id", f"{topic}-{partition}-{step.seq}".encode()))
    headers.append(("ce_time", step.occurred_at.astimezone(UTC).isoformat(timespec="microseconds").encode()))
    if step.traceparent is not None:
        headers.append((TRACEPARENT, step.traceparent.encode()))
    return headers


@lru_cache(256)
def _types(wire_header: bytes) -> tuple[tuple[str, bytes], ...]:
    """The record's name, under both names."""
    try:
        name = schema_of(wire_header).name.encode()
    except DecodeError:
        # The journal's row is published as it is, whatever it is.
        return ()
    return ("type", name), ("ce_type", name)
