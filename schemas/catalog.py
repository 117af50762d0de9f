"""The contracts: every topic and every schema, once. Nothing else names a topic or a schema id."""

import json
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from typing import Any

from fastavro import parse_schema

_DAY_MS = 24 * 3600 * 1000
_MIB = 1024 * 1024

#: Keys are spread over this many; an order never leaves its partition. To change it is to move orders: don't.
#: It bounds how many workers of one agent can share the work.
PARTITIONS = 4


@dataclass(frozen=True)
class Schema:
    """An Avro schema. `schema_id` is written into every record of it and never changes."""

    schema_id: int
    file: str

    @cached_property
    def text(self) -> str:
        """The schema as JSON text."""
        return files("schemas").joinpath("avro", f"{self.file}.avsc").read_text(encoding="utf-8")

    @cached_property
    def name(self) -> str:
        """The record's full name, such as `gapless.InvoiceIssued`."""
        document = json.loads(self.text)
        return f"{document['namespace']}.{document['name']}"

    @cached_property
    def parsed(self) -> dict[str, Any]:
        """As fastavro wants it, less the logical types: our code keeps time as integers of microseconds."""
        document = json.loads(self.text, object_hook=lambda node: {k: v for k, v in node.items() if k != "logicalType"})
        return parse_schema(document)  # type: ignore[return-value]


INVOICE_REQUEST = Schema(1, "invoice_request")
INVOICE_ISSUED = Schema(2, "invoice_issued")
INVOICE_DOCUMENT_STORED = Schema(3, "invoice_document_stored")
INVOICE_REQUEST_CONFLICTED = Schema(4, "invoice_request_conflicted")
INVOICE_REQUEST_REJECTED = Schema(5, "invoice_request_rejected")
DEAD_LETTER = Schema(6, "dead_letter")

SCHEMAS: dict[int, Schema] = {
    schema.schema_id: schema
    for schema in (
        INVOICE_REQUEST,
        INVOICE_ISSUED,
        INVOICE_DOCUMENT_STORED,
        INVOICE_REQUEST_CONFLICTED,
        INVOICE_REQUEST_REJECTED,
        DEAD_LETTER,
    )
}


@dataclass(frozen=True)
class Topic:
    """A topic as `gapless topics` makes it and checks it."""

    name: str
    schemas: tuple[Schema, ...]
    #: None: for ever.
    retention_ms: int | None
    value_bytes_max: int
    partitions: int = PARTITIONS

    @property
    def config(self) -> dict[str, str]:
        """The topic's configuration at the broker."""
        return {
            "cleanup.policy": "delete",
            "retention.ms": str(-1 if self.retention_ms is None else self.retention_ms),
            # The record's key, headers and framing come on top of the value.
            "max.message.bytes": str(self.value_bytes_max + 64 * 1024),
        }


#: Kept for ever: what was asked can be shown next to what was done.
INVOICE_REQUESTS = Topic("invoice-requests", (INVOICE_REQUEST,), None, 2 * _MIB)
#: Kept for ever, and can be rebuilt from the journal.
INVOICE_EVENTS = Topic(
    "invoice-events",
    (INVOICE_ISSUED, INVOICE_DOCUMENT_STORED, INVOICE_REQUEST_CONFLICTED, INVOICE_REQUEST_REJECTED),
    None,
    3 * _MIB,
)
#: A dead letter carries the whole record it is about, and so may be larger than any.
DEAD_LETTERS = Topic("dead-letters", (DEAD_LETTER,), None, 4 * _MIB)
#: Changelog of the invoices agent's dedupe table; a hint. A worker that has lost its folder and more than this looks
#: orders up in Postgres again, and is slower for it, not wrong.
INVOICES_CHANGELOG = Topic("gapless-invoices-issued-changelog", (), 30 * _DAY_MS, 1 * _MIB)

TOPICS: dict[str, Topic] = {
    topic.name: topic for topic in (INVOICE_REQUESTS, INVOICE_EVENTS, DEAD_LETTERS, INVOICES_CHANGELOG)
}

#: Topics that the relay fills from the journal.
OUTPUT_TOPICS = (INVOICE_EVENTS, DEAD_LETTERS)

#: Record header that carries the journal's sequence number, in decimal digits.
SEQ_HEADER = "seq"


def subjects() -> dict[str, Schema]:
    """Schema registry subjects, by the TopicRecordName strategy: a topic may carry several records."""
    return {f"{topic.name}-{schema.name}": schema for topic in TOPICS.values() for schema in topic.schemas}
