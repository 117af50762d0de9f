"""Reads the output topics from the beginning, and decodes them with the schemas that the gateway serves.

Only the fields that the rules need are stored. A record is decoded only if it is equal to its journal row: others may
have any writer, and decoding them is not safe.
"""

import io
import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import fastavro
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Message, TopicPartition

from chaos.judge import amounts
from chaos.judge.amounts import Totals
from chaos.judge.ledger import OrderKey, Place, digest
from chaos.judge.web import UnreachableError, Web

#: (topic, partition, offset).
Origin = tuple[str, int, int]

#: Topics that the relay writes. Gateways also write to invoice-requests, without a seq.
INVOICE_EVENTS, ORDER_EVENTS, INVENTORY_EVENTS = "invoice-events", "order-events", "inventory-events"
PAYMENT_EVENTS, DEAD_LETTERS, INVOICE_REQUESTS = "payment-events", "dead-letters", "invoice-requests"
CATALOGUE_EVENTS = "catalogue-events"
OUTPUTS = (
    *(INVOICE_EVENTS, ORDER_EVENTS, INVENTORY_EVENTS, PAYMENT_EVENTS, CATALOGUE_EVENTS, DEAD_LETTERS),
    INVOICE_REQUESTS,
)
#: Topics that only the relay writes to.
RELAYS_OWN = frozenset(OUTPUTS) - {INVOICE_REQUESTS}

_TIMEOUT_S = 10.0
#: How long to wait for a record or an end of a partition.
_SILENCE_S_MAX = 30.0
_FETCHED_MAX = 1_000
_FRAME_BYTES = 5


class Published(NamedTuple):
    """One record of an output topic."""

    offset: int
    #: None without the header, or if it is not a number.
    seq: int | None
    digest: bytes


class Issued(NamedTuple):
    """An `InvoiceIssued` or a `CreditNoteIssued`; `refund_id` is empty for the former."""

    place: Place
    order: OrderKey
    refund_id: str
    series_id: str
    number: int
    invoice_number: str
    issued_at_us: int
    currency: str
    totals: Totals
    #: The totals of its own lines.
    computed: Totals
    content: bytes
    buyer: str
    #: The name of the logo that its document must show.
    logo_sha256: str | None


class Stored(NamedTuple):
    """An `InvoiceDocumentStored`."""

    place: Place
    order: OrderKey
    series_id: str
    number: int
    sha256: str
    size_bytes: int


class Stepped(NamedTuple):
    """An order's event: the first ones `OrderPlaced` and `OrderRefused`, and each `OrderStateChanged`."""

    place: Place
    before: str
    after: str
    version: int
    reason: str
    #: Only of `OrderPlaced`.
    gross_minor: int | None = None


class Moved(NamedTuple):
    """The change of one SKU in a `StockChanged`."""

    place: Place
    order_id: str
    cause: str
    quantity: int
    on_hand: int
    reserved: int
    version: int


class ProductSaid(NamedTuple):
    """A `ProductChanged`; the price is that of the first variant."""

    place: Place
    version: int
    price: str


@dataclass(slots=True)
class Topics:
    """Each event once, in the order of its partition."""

    published: dict[tuple[str, int], list[Published]] = field(default_factory=dict)
    #: The first offset that the topic still has.
    begins: dict[tuple[str, int], int] = field(default_factory=dict)
    issued: list[Issued] = field(default_factory=list)
    stored: list[Stored] = field(default_factory=list)
    steps: dict[OrderKey, list[Stepped]] = field(default_factory=lambda: defaultdict(list))
    stock: dict[tuple[str, str], list[Moved]] = field(default_factory=lambda: defaultdict(list))
    #: By seller and product.
    products: dict[tuple[str, str], list[ProductSaid]] = field(default_factory=lambda: defaultdict(list))
    #: (order, request id, outcome, amount) of each finished attempt.
    finished: Counter[tuple[OrderKey, str, str, int]] = field(default_factory=Counter)
    #: (order, request id) of each requested payment.
    asked: Counter[tuple[OrderKey, str]] = field(default_factory=Counter)
    #: (order, command id, outcome).
    answered: Counter[tuple[OrderKey, str, str]] = field(default_factory=Counter)
    #: (order, kind, outcome, topic, partition, offset) of each refused request.
    refused: Counter[tuple[OrderKey, str, str, str, int, int]] = field(default_factory=Counter)
    #: (order, refund id) of each credit note that an order requested, and of each invoice with an empty refund id.
    requested: Counter[tuple[OrderKey, str]] = field(default_factory=Counter)
    #: (topic, partition, offset) → its dead letters: the agent, and the digest of the key and value in the letter.
    dead: dict[Origin, list[tuple[str, bytes]]] = field(default_factory=lambda: defaultdict(list))
    #: Digests of the records at the garbage's offsets.
    garbage: dict[Origin, bytes] = field(default_factory=dict)
    #: Number of records by schema name.
    counts: Counter[str] = field(default_factory=Counter)
    #: Partitions of each topic that contain an order's events.
    partitions: dict[tuple[str, OrderKey], set[int]] = field(default_factory=lambda: defaultdict(set))


class _Registry:
    """Schemas by id, fetched once from the gateway."""

    def __init__(self, web: Web) -> None:
        self._web = web
        self._schemas: dict[int, tuple[str, Any]] = {}

    def decode(self, value: bytes) -> tuple[str, dict[str, Any]]:
        """The name and fields of a record in the Confluent wire format."""
        schema_id = int.from_bytes(value[1:_FRAME_BYTES], "big")
        if schema_id not in self._schemas:
            text = self._web.get(f"/schemas/ids/{schema_id}").json().get("schema")
            if text is None:
                raise UnreachableError(f"the registry has no schema {schema_id}")
            schema = _timeless(json.loads(text))
            self._schemas[schema_id] = (schema["name"], fastavro.parse_schema(schema))
        name, schema = self._schemas[schema_id]
        record = fastavro.schemaless_reader(io.BytesIO(value[_FRAME_BYTES:]), schema, None)
        if not isinstance(record, dict):
            raise UnreachableError(f"the schema {schema_id} is not a record's")
        return name, record


def read(bootstrap: str, web: Web, journal: Mapping[Place, list[bytes]], garbage: Set[Origin]) -> Topics:
    """Read the output topics up to their present ends, and the records at the garbage's offsets.

    Raises `UnreachableError` and `KafkaException`.
    """
    topics = Topics()
    registry = _Registry(web)
    last: dict[tuple[str, int], int] = {}
    for message in _messages(bootstrap, {*OUTPUTS, *(origin[0] for origin in garbage)}, topics):
        topic, partition, offset = message.topic() or "", message.partition() or 0, message.offset() or 0
        value = message.value() or b""
        if (topic, partition, offset) in garbage:
            topics.garbage[topic, partition, offset] = digest(message.key(), value)
            continue
        if topic not in OUTPUTS:
            continue
        published = Published(offset, _seq(message), digest(message.key(), value))
        topics.published.setdefault((topic, partition), []).append(published)
        if published.seq is None or published.seq <= last.get((topic, partition), 0):
            continue
        if topic not in RELAYS_OWN and published.digest not in journal.get((topic, partition, published.seq), ()):
            # The topic has other writers, with any headers.
            continue
        last[topic, partition] = published.seq
        place = (topic, partition, published.seq)
        if published.digest in journal.get(place, ()):
            name, record = registry.decode(value)
            topics.counts[name] += 1
            topics.partitions[topic, (record.get("seller_id", ""), record.get("order_id", ""))].add(partition)
            _NOTES[name](topics, place, record)
    return topics


def _messages(bootstrap: str, names: Set[str], topics: Topics) -> Iterator[Message]:
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "gapless-chaos-judge",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
            "isolation.level": "read_committed",
            # Records of up to 4 MB are permitted, and a fetch must be able to hold one.
            "fetch.message.max.bytes": 8 * 1024 * 1024,
            "log_level": 0,
        }
    )
    try:
        known = consumer.list_topics(timeout=_TIMEOUT_S).topics
        left = {(topic, partition) for topic in names if topic in known for partition in known[topic].partitions}
        for topic, partition in left:
            begin, _ = consumer.get_watermark_offsets(TopicPartition(topic, partition), _TIMEOUT_S)
            topics.begins[topic, partition] = begin
        consumer.assign([TopicPartition(*each, OFFSET_BEGINNING) for each in left])
        heard_at = time.monotonic()
        while left:
            for message in consumer.consume(_FETCHED_MAX, timeout=0.5):
                heard_at = time.monotonic()
                error = message.error()
                if error is None:
                    yield message
                elif error.code() == KafkaError._PARTITION_EOF:
                    left.discard((message.topic() or "", message.partition() or 0))
                else:
                    raise UnreachableError(f"{message.topic()}/{message.partition()}: {error.str()}")
            if time.monotonic() - heard_at > _SILENCE_S_MAX:
                raise UnreachableError(f"the ends of {sorted(left)} are not reached")
    finally:
        consumer.close()


def _seq(message: Message) -> int | None:
    headers: Any = message.headers() or ()
    values = [value for name, value in headers if name == "seq"]
    if len(values) != 1 or not isinstance(values[0], bytes):
        return None
    return int(values[0]) if values[0].isdigit() and len(values[0]) < 19 else None


def _timeless(node: Any) -> Any:
    """The schema without logical types, so that times stay integers of microseconds."""
    if isinstance(node, dict):
        return {name: _timeless(each) for name, each in node.items() if name != "logicalType"}
    return [_timeless(each) for each in node] if isinstance(node, list) else node


def _order(record: Mapping[str, Any]) -> OrderKey:
    return record["seller_id"], record["order_id"]


def _note_issued(topics: Topics, place: Place, record: dict[str, Any]) -> None:
    told = record["totals"]
    topics.issued.append(
        Issued(
            place,
            _order(record),
            record.get("refund_id", ""),
            record["series_id"],
            record["number"],
            record["invoice_number"],
            record["issued_at"],
            record["currency"],
            Totals(told["net_minor"], told["tax_minor"], told["gross_minor"]),
            amounts.totals(record["lines"], record["currency"], record.get("details")),
            amounts.content(record),
            record["buyer"]["name"],
            record["seller"]["logo_sha256"],
        )
    )


def _note_stored(topics: Topics, place: Place, record: dict[str, Any]) -> None:
    named = (record["series_id"], record["number"], record["sha256"], record["size_bytes"])
    topics.stored.append(Stored(place, _order(record), *named))


def _note_placed(topics: Topics, place: Place, record: dict[str, Any]) -> None:
    stepped = Stepped(place, "", record["state"], record["version"], "placed", record["gross_minor"])
    topics.steps[_order(record)].append(stepped)


def _note_short(topics: Topics, place: Place, record: dict[str, Any]) -> None:
    topics.steps[_order(record)].append(Stepped(place, "", "REFUSED", 1, "out-of-stock"))


def _note_step(topics: Topics, place: Place, record: dict[str, Any]) -> None:
    step = (record["from_state"], record["to_state"], record["version"], record["reason"])
    topics.steps[_order(record)].append(Stepped(place, *step))


def _note_stock(topics: Topics, place: Place, record: dict[str, Any]) -> None:
    for change in record["changes"]:
        level = (change["quantity"], change["on_hand"], change["reserved"], change["version"])
        moved = Moved(place, record["order_id"], record["cause"], *level)
        topics.stock[record["seller_id"], change["sku"]].append(moved)


def _note_product(topics: Topics, place: Place, record: dict[str, Any]) -> None:
    product = record["product"]
    price = "" if product is None else product["variants"][0]["unit_price"]
    topics.products[record["seller_id"], record["product_id"]].append(ProductSaid(place, record["version"], price))


def _note_finished(topics: Topics, _: Place, record: dict[str, Any]) -> None:
    topics.finished[_order(record), record["request_id"], record["outcome"], record["amount_minor"]] += 1


def _note_asked(topics: Topics, _: Place, record: dict[str, Any]) -> None:
    topics.asked[_order(record), record["request_id"]] += 1


def _note_answered(topics: Topics, _: Place, record: dict[str, Any]) -> None:
    topics.answered[_order(record), record["command_id"], record["outcome"]] += 1


def _note_conflicted(topics: Topics, _: Place, record: dict[str, Any]) -> None:
    _note_refused(topics, record, "conflict")


def _note_rejected(topics: Topics, _: Place, record: dict[str, Any]) -> None:
    _note_refused(topics, record, "rejected")


def _note_refused(topics: Topics, record: dict[str, Any], outcome: str) -> None:
    place = (record["source_topic"], record["source_partition"], record["source_offset"])
    topics.refused[_order(record), record.get("kind", "checkout"), outcome, *place] += 1


def _note_requested(topics: Topics, _: Place, record: dict[str, Any]) -> None:
    topics.requested[_order(record), record.get("refund_id", "")] += 1


def _note_dead(topics: Topics, _: Place, record: dict[str, Any]) -> None:
    origin = (record["source_topic"], record["source_partition"], record["source_offset"])
    topics.dead[origin].append((record["agent"], digest(record["key"], record["value"] or b"")))


_NOTES = {
    "InvoiceIssued": _note_issued,
    "CreditNoteIssued": _note_issued,
    "InvoiceDocumentStored": _note_stored,
    "InvoiceRequestConflicted": _note_conflicted,
    "InvoiceRequestRejected": _note_rejected,
    "OrderPlaced": _note_placed,
    "OrderRefused": _note_short,
    "OrderStateChanged": _note_step,
    "OrderConflicted": _note_conflicted,
    "OrderRejected": _note_rejected,
    "OrderCommandAnswered": _note_answered,
    "PaymentRequested": _note_asked,
    "PaymentAttemptFinished": _note_finished,
    "StockChanged": _note_stock,
    "ProductChanged": _note_product,
    "InvoiceRequest": _note_requested,
    "CreditNoteRequest": _note_requested,
    "DeadLetter": _note_dead,
}
