"""The contracts: every topic and every schema, once. Nothing else names a topic or a schema id."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from fastavro import parse_schema

from domain import records
from schemas.compiled import Decoder, Encoder, decoder, encoder, kind_of

if TYPE_CHECKING:
    from typing_extensions import TypeIs

#: The last field of every event: null until the journal numbers it.
EVENT_ID = "event_id"

R = TypeVar("R", bound=Mapping[str, object])

_DAY_MS = 24 * 3600 * 1000
_MIB = 1024 * 1024


@dataclass(frozen=True)
class SchemaVersion:
    """One version of a record's schema. Its id is in the bytes of every record written by it: neither ever changes."""

    record: str
    #: 1, 2, 3 …
    number: int
    schema_id: int

    @cached_property
    def text(self) -> str:
        """The schema as JSON text."""
        return files("schemas").joinpath("avro", self.record, f"v{self.number}.avsc").read_text(encoding="utf-8")

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

    @cached_property
    def ends_with_event_id(self) -> bool:
        """Whether the last field is `event_id`; where that is null, it is the last byte of a record."""
        return bool(self.parsed["fields"][-1]["name"] == EVENT_ID)

    @cached_property
    def encoder(self) -> Encoder:
        """Writes a record."""
        return encoder(self.parsed)

    @cached_property
    def before_order_id(self) -> tuple[str, ...] | None:
        """Kinds of the fields that stand before the order id in the bytes of a record; None without an order id."""
        fields = self.parsed["fields"]
        names = [field["name"] for field in fields]
        return (
            tuple(kind_of(field["type"]) for field in fields[: names.index("order_id")])
            if "order_id" in names
            else None
        )


@dataclass(frozen=True)
class Schema(Generic[R]):
    """The contract of one record: `avro/<record>/v1.avsc`, `v2.avsc` … and the id of each version, in that order.

    Records are written in the newest version and read from any: yesterday's bytes stay in topics and tables for ever.
    """

    #: What the record is in our code.
    type: type[R]
    ids: tuple[int, ...]

    @cached_property
    def record(self) -> str:
        """The folder of its versions, such as `invoice_request`."""
        return re.sub("(?<=[a-z])(?=[A-Z])", "_", self.type.__name__).lower()

    @cached_property
    def versions(self) -> tuple[SchemaVersion, ...]:
        """All versions, oldest first."""
        return tuple(SchemaVersion(self.record, number, schema_id) for number, schema_id in enumerate(self.ids, 1))

    @cached_property
    def newest(self) -> SchemaVersion:
        """What records are written in, and what every decoded record looks like."""
        return self.versions[-1]

    @cached_property
    def name(self) -> str:
        """The record's full name, the same in all versions."""
        return self.newest.name

    @cached_property
    def decoders(self) -> Mapping[int, Decoder]:
        """By the id of a version, what reads a record of it as one of the newest."""
        return {version.schema_id: decoder(version.parsed, self.newest.parsed) for version in self.versions}

    def describes(self, value: Mapping[str, object], schema: "Schema[Any]") -> "TypeIs[R]":
        """Whether `value`, which was decoded as a record of `schema`, is one of this record's."""
        return schema is self


INVOICE_REQUEST = Schema(records.InvoiceRequest, (1, 22))
INVOICE_ISSUED = Schema(records.InvoiceIssued, (2, 25, 46))
INVOICE_DOCUMENT_STORED = Schema(records.InvoiceDocumentStored, (3, 31))
INVOICE_REQUEST_CONFLICTED = Schema(records.InvoiceRequestConflicted, (4, 32))
INVOICE_REQUEST_REJECTED = Schema(records.InvoiceRequestRejected, (5, 33))
DEAD_LETTER = Schema(records.DeadLetter, (6, 35))
CHECKOUT_REQUEST = Schema(records.CheckoutRequest, (7, 23))
ORDER_COMMAND = Schema(records.OrderCommand, (8, 28, 45))
ORDER_PLACED = Schema(records.OrderPlaced, (9, 27, 36))
ORDER_REFUSED = Schema(records.OrderRefused, (10, 37))
ORDER_CONFLICTED = Schema(records.OrderConflicted, (11, 38))
ORDER_REJECTED = Schema(records.OrderRejected, (12, 39))
ORDER_STATE_CHANGED = Schema(records.OrderStateChanged, (13, 40))
ORDER_COMMAND_ANSWERED = Schema(records.OrderCommandAnswered, (14, 21, 41))
PAYMENT_REQUESTED = Schema(records.PaymentRequested, (15, 42))
PAYMENT_ATTEMPT_FINISHED = Schema(records.PaymentAttemptFinished, (16, 43))
STOCK_CHANGED = Schema(records.StockChanged, (17, 44))
PAYMENT_NOTICE = Schema(records.PaymentNotice, (18, 48))
CREDIT_NOTE_REQUEST = Schema(records.CreditNoteRequest, (19, 24))
CREDIT_NOTE_ISSUED = Schema(records.CreditNoteIssued, (20, 26, 34))
CREDIT_REQUEST = Schema(records.CreditRequest, (29,))
PRODUCT_CHANGED = Schema(records.ProductChanged, (30,))
REVIEW_CHANGED = Schema(records.ReviewChanged, (47,))
SYNONYMS_CHANGED = Schema(records.SynonymsChanged, (49,))


def is_issued(
    value: Mapping[str, object], schema: Schema[Any]
) -> "TypeIs[records.InvoiceIssued | records.CreditNoteIssued]":
    """Whether `value`, which was decoded as a record of `schema`, tells of a number: an invoice or a credit note."""
    return INVOICE_ISSUED.describes(value, schema) or CREDIT_NOTE_ISSUED.describes(value, schema)


@dataclass(frozen=True)
class Topic:
    """A topic as `gapless topics` makes it and checks it.

    How many partitions it has is the deployment's choice, the same for every topic: see `sinks.deployment`.
    """

    name: str
    schemas: tuple[Schema[Any], ...]
    #: None: for ever.
    retention_ms: int | None
    value_bytes_max: int

    @property
    def config(self) -> dict[str, str]:
        """The topic's configuration at the broker."""
        return {
            "cleanup.policy": "delete",
            # A replica that was behind must not lead: what the others had acknowledged would be gone.
            "unclean.leader.election.enable": "false",
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
INVOICE_REQUESTS = Topic("invoice-requests", (INVOICE_REQUEST, CREDIT_NOTE_REQUEST, CREDIT_REQUEST), None, 2 * _MIB)
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
#: Kept for ever: whoever follows later, such as a search index, has all products and synonyms.
CATALOGUE_EVENTS = Topic("catalogue-events", (PRODUCT_CHANGED, SYNONYMS_CHANGED), None, 256 * 1024)
#: Kept for ever: ratings can be computed from it anew.
REVIEW_EVENTS = Topic("review-events", (REVIEW_CHANGED,), None, 64 * 1024)
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
        CATALOGUE_EVENTS,
        REVIEW_EVENTS,
        INVOICES_CHANGELOG,
        CHECKOUTS_CHANGELOG,
    )
}

#: Topics that the relay fills from the journal. Into invoice requests gateways write too, without a seq. New ones go
#: to the end: a relay of the former release knows each by its place here.
OUTPUT_TOPICS = (
    INVOICE_EVENTS,
    DEAD_LETTERS,
    ORDER_EVENTS,
    INVENTORY_EVENTS,
    PAYMENT_EVENTS,
    INVOICE_REQUESTS,
    CATALOGUE_EVENTS,
    REVIEW_EVENTS,
)

#: Topics that anybody may write to. A record is worked on only where its order id as its key puts it; see `placement`.
INPUT_TOPICS = (CHECKOUT_REQUESTS, ORDER_COMMANDS, INVOICE_REQUESTS, PAYMENT_NOTICES)

#: Each version by its id, with the record it belongs to: what a decoder finds in the bytes.
VERSIONS: dict[int, tuple[Schema[Any], SchemaVersion]] = {
    version.schema_id: (schema, version)
    for topic in TOPICS.values()
    for schema in topic.schemas
    for version in schema.versions
}

#: Record header that carries the journal's sequence number, in decimal digits.
SEQ_HEADER = "seq"


def subjects() -> dict[str, tuple[SchemaVersion, ...]]:
    """Schema registry subjects, each with its versions, which count 1, 2, 3 …

    By the strategy TopicRecordName (`order-events-gapless.OrderPlaced`), by RecordName (`gapless.OrderPlaced`), and by
    TopicName, every client's default: `order-events-value` has the versions of all records of the topic, by their ids.
    """
    found: dict[str, tuple[SchemaVersion, ...]] = {}
    for topic in TOPICS.values():
        for schema in topic.schemas:
            found[f"{topic.name}-{schema.name}"] = found[schema.name] = schema.versions
        versions = (version for schema in topic.schemas for version in schema.versions)
        if topic.schemas:
            found[f"{topic.name}-value"] = tuple(sorted(versions, key=lambda version: version.schema_id))
    return found
