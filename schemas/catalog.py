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
CHECKOUT_REQUEST = Schema(7, "checkout_request")
ORDER_COMMAND = Schema(8, "order_command")
ORDER_PLACED = Schema(9, "order_placed")
ORDER_REFUSED = Schema(10, "order_refused")
ORDER_CONFLICTED = Schema(11, "order_conflicted")
ORDER_REJECTED = Schema(12, "order_rejected")
ORDER_STATE_CHANGED = Schema(13, "order_state_changed")
ORDER_COMMAND_ANSWERED = Schema(14, "order_command_answered")
PAYMENT_REQUESTED = Schema(15, "payment_requested")
PAYMENT_ATTEMPT_FINISHED = Schema(16, "payment_attempt_finished")
STOCK_CHANGED = Schema(17, "stock_changed")
PAYMENT_NOTICE = Schema(18, "payment_notice")
CREDIT_NOTE_REQUEST = Schema(19, "credit_note_request")
CREDIT_NOTE_ISSUED = Schema(20, "credit_note_issued")

SCHEMAS: dict[int, Schema] = {
    schema.schema_id: schema
    for schema in (
        INVOICE_REQUEST,
        INVOICE_ISSUED,
        INVOICE_DOCUMENT_STORED,
        INVOICE_REQUEST_CONFLICTED,
        INVOICE_REQUEST_REJECTED,
        DEAD_LETTER,
        CHECKOUT_REQUEST,
        ORDER_COMMAND,
        ORDER_PLACED,
        ORDER_REFUSED,
        ORDER_CONFLICTED,
        ORDER_REJECTED,
        ORDER_STATE_CHANGED,
        ORDER_COMMAND_ANSWERED,
        PAYMENT_REQUESTED,
        PAYMENT_ATTEMPT_FINISHED,
        STOCK_CHANGED,
        PAYMENT_NOTICE,
        CREDIT_NOTE_REQUEST,
        CREDIT_NOTE_ISSUED,
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
            # By the brokers' clocks. By their own, senders who are an hour ahead would be refused, and would say how
            # long their records are kept.
            "message.timestamp.type": "LogAppendTime",
            "retention.ms": str(-1 if self.retention_ms is None else self.retention_ms),
            # The record's key, headers and framing come on top of the value.
            "max.message.bytes": str(self.value_bytes_max + 64 * 1024),
        }


#: Kept for ever: what was asked can be shown next to what was done.
CHECKOUT_REQUESTS = Topic("checkout-requests", (CHECKOUT_REQUEST,), None, 2 * _MIB)
ORDER_COMMANDS = Topic("order-commands", (ORDER_COMMAND,), None, 256 * 1024)
#: Filled by the gateways, and by the relay with what confirmed and refunded orders ask for.
INVOICE_REQUESTS = Topic("invoice-requests", (INVOICE_REQUEST, CREDIT_NOTE_REQUEST), None, 2 * _MIB)
#: Only says that there is something to ask the provider about.
PAYMENT_NOTICES = Topic("payment-notices", (PAYMENT_NOTICE,), 3 * _DAY_MS, 64 * 1024)
#: Orders' states stand in Postgres; these are for those who follow along.
ORDER_EVENTS = Topic(
    "order-events",
    (
        ORDER_PLACED,
        ORDER_REFUSED,
        ORDER_CONFLICTED,
        ORDER_REJECTED,
        ORDER_STATE_CHANGED,
        ORDER_COMMAND_ANSWERED,
        PAYMENT_REQUESTED,
    ),
    7 * _DAY_MS,
    3 * _MIB,
)
INVENTORY_EVENTS = Topic("inventory-events", (STOCK_CHANGED,), 3 * _DAY_MS, 1 * _MIB)
PAYMENT_EVENTS = Topic("payment-events", (PAYMENT_ATTEMPT_FINISHED,), 7 * _DAY_MS, 64 * 1024)
#: Kept for ever, and can be rebuilt from the journal.
INVOICE_EVENTS = Topic(
    "invoice-events",
    (
        INVOICE_ISSUED,
        INVOICE_DOCUMENT_STORED,
        INVOICE_REQUEST_CONFLICTED,
        INVOICE_REQUEST_REJECTED,
        CREDIT_NOTE_ISSUED,
    ),
    None,
    3 * _MIB,
)
#: A dead letter carries the whole record it is about, and so may be larger than any.
DEAD_LETTERS = Topic("dead-letters", (DEAD_LETTER,), None, 4 * _MIB)
#: Changelogs of the dedupe tables; hints. A worker that has lost its folder and more than this looks orders up in
#: Postgres again, and is slower for it, not wrong.
INVOICES_CHANGELOG = Topic("gapless-invoices-issued-changelog", (), 30 * _DAY_MS, 1 * _MIB)
CHECKOUTS_CHANGELOG = Topic("gapless-checkouts-placed-changelog", (), 30 * _DAY_MS, 1 * _MIB)

TOPICS: dict[str, Topic] = {
    topic.name: topic
    for topic in (
        CHECKOUT_REQUESTS,
        ORDER_COMMANDS,
        INVOICE_REQUESTS,
        PAYMENT_NOTICES,
        ORDER_EVENTS,
        INVENTORY_EVENTS,
        PAYMENT_EVENTS,
        INVOICE_EVENTS,
        DEAD_LETTERS,
        INVOICES_CHANGELOG,
        CHECKOUTS_CHANGELOG,
    )
}

#: Topics that the relay fills from the journal. Into invoice requests gateways write too, without a seq. New ones go
#: to the end: a relay of the former release knows each by its place here.
OUTPUT_TOPICS = (INVOICE_EVENTS, DEAD_LETTERS, ORDER_EVENTS, INVENTORY_EVENTS, PAYMENT_EVENTS, INVOICE_REQUESTS)

#: What each agent reads: its consumer group's topics, and those of its positions.
READERS: dict[str, tuple[Topic, ...]] = {
    "checkouts": (CHECKOUT_REQUESTS,),
    "payments": (ORDER_EVENTS, PAYMENT_NOTICES),
    "orders": (PAYMENT_EVENTS, ORDER_COMMANDS),
    "stock": (INVENTORY_EVENTS, ORDER_EVENTS),
    "invoices": (INVOICE_REQUESTS,),
    "documents": (INVOICE_EVENTS,),
}

#: Record header that carries the journal's sequence number, in decimal digits.
SEQ_HEADER = "seq"


def subjects() -> dict[str, Schema]:
    """Schema registry subjects, by the TopicRecordName strategy: a topic may carry several records."""
    return {f"{topic.name}-{schema.name}": schema for topic in TOPICS.values() for schema in topic.schemas}
