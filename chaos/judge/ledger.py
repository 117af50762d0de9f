"""Reads Postgres with the judge's own statements, all in one snapshot."""

import hashlib
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, LiteralString, NamedTuple, TypeVar

import psycopg
from psycopg.rows import args_row

Connection = psycopg.Connection[tuple[Any, ...]]
_Row = TypeVar("_Row")

#: (seller, order).
OrderKey = tuple[str, str]
#: (topic, partition, seq).
Place = tuple[str, int, int]


class Invoice(NamedTuple):
    """An invoice or a credit note, with its document if there is one."""

    series_id: str
    number: int
    seller_id: str
    order_id: str
    kind: str
    refund_id: str
    invoice_number: str
    issued_at_us: int
    currency: str
    net_minor: int
    tax_minor: int
    gross_minor: int
    source_partition: int
    event_seq: int
    document_sha256: str | None
    document_size: int | None

    @property
    def order(self) -> OrderKey:
        """The order it belongs to."""
        return self.seller_id, self.order_id

    @property
    def name(self) -> str:
        """Its name in violations."""
        return f"{self.series_id}/{self.number}"


class Series(NamedTuple):
    """A series, and the number format of its seller."""

    series_id: str
    seller_id: str
    next_number: int
    number_format: str


class Step(NamedTuple):
    """One step of an order's history."""

    version: int
    before: str | None
    after: str
    reason: str


class Order(NamedTuple):
    """An order with its lines and history."""

    seller_id: str
    order_id: str
    partition: int
    customer: str
    state: str
    version: int
    history: tuple[Step, ...]
    currency: str
    net_minor: int
    tax_minor: int
    gross_minor: int
    #: (sku, pieces) of each line, in order.
    lines: tuple[tuple[str, int], ...]

    @property
    def key(self) -> OrderKey:
        """Seller and order id."""
        return self.seller_id, self.order_id

    def was(self, state: str) -> bool:
        """Whether the order was in this state at any time."""
        return any(step.after == state for step in self.history)


class Refused(NamedTuple):
    """A refused request: a conflict or a rejection."""

    topic: str
    partition: int
    log_offset: int
    seller_id: str
    order_id: str
    kind: str
    outcome: str


class Refund(NamedTuple):
    """A refund."""

    seller_id: str
    order_id: str
    refund_id: str
    amount_minor: int
    state: str


class Attempt(NamedTuple):
    """A payment attempt."""

    seller_id: str
    order_id: str
    request_id: str
    action: str
    amount_minor: int
    currency: str
    provider_key: str
    state: str


class Level(NamedTuple):
    """A row of stock."""

    seller_id: str
    sku: str
    on_hand: int
    reserved: int
    version: int


class Head(NamedTuple):
    """The last seq of a journal partition, written and published."""

    topic: str
    partition: int
    next_seq: int
    published_seq: int


@dataclass(slots=True)
class Ledger:
    """All rows that the rules need, in memory."""

    #: The seller of the API key.
    seller_id: str
    invoices: list[Invoice]
    series: list[Series]
    orders: dict[OrderKey, Order]
    refused: list[Refused]
    refunds: list[Refund]
    attempts: list[Attempt]
    stock: dict[tuple[str, str], Level]
    heads: list[Head]
    #: Logo files by their names, which must be their digests.
    logos: dict[str, bytes]
    #: The states of the dead letters of each (topic, partition, offset): `open`, `redriven` or `discarded`.
    letters: dict[tuple[str, int, int], list[str]]
    #: Digest of key and payload of each journal row; several if a seq exists more than once.
    journal: dict[Place, list[bytes]] = field(default_factory=dict)


_INVOICES: LiteralString = """
    SELECT i.series_id, i.number, i.seller_id, i.order_id, i.kind, i.refund_id, i.invoice_number,
           (extract(epoch FROM i.issued_at) * 1000000)::bigint, i.currency, i.net_minor, i.tax_minor, i.gross_minor,
           i.source_partition, i.event_seq, encode(d.sha256, 'hex'), d.size_bytes
    FROM invoices i LEFT JOIN documents d USING (series_id, number)
    ORDER BY i.series_id, i.number
"""
_SERIES: LiteralString = """
    SELECT series_id, seller_id, next_number, number_format FROM series JOIN sellers USING (seller_id)
"""
_ORDERS: LiteralString = """
    SELECT o.seller_id, o.order_id, o.partition, o.customer, o.state, o.version, o.history, o.currency, o.net_minor,
           o.tax_minor, o.gross_minor
    FROM orders o
"""
_LINES: LiteralString = """
    SELECT seller_id, order_id, sku, quantity FROM order_lines ORDER BY seller_id, order_id, line
"""
_REFUSED: LiteralString = """
    SELECT topic, partition, log_offset, seller_id, order_id, kind, outcome FROM refused_requests
"""
_REFUNDS: LiteralString = "SELECT seller_id, order_id, refund_id, amount_minor, state FROM refunds"
_ATTEMPTS: LiteralString = """
    SELECT seller_id, order_id, request_id, action, amount_minor, currency, provider_key, state FROM payment_attempts
"""
_STOCK: LiteralString = "SELECT seller_id, sku, on_hand, reserved, version FROM stock"
_HEADS: LiteralString = """
    SELECT topic, partition, next_seq, coalesce(published_seq, 0)
    FROM journal_heads LEFT JOIN journal_published USING (topic, partition)
"""
_LOGOS: LiteralString = "SELECT encode(sha256, 'hex'), body FROM logos"
_LETTERS: LiteralString = "SELECT source_topic, source_partition, source_offset, state FROM dead_letters"
# Digests only, to save memory: the topics' records are hashed for comparison.
_JOURNAL: LiteralString = """
    SELECT topic, partition, seq, sha256(int4send(coalesce(length(key), -1)) || coalesce(key, '') || payload)
    FROM journal
"""


def digest(key: bytes | None, payload: bytes) -> bytes:
    """The digest of a record, computed as `_JOURNAL` does for a row."""
    length = -1 if key is None else len(key)
    return hashlib.sha256(length.to_bytes(4, "big", signed=True) + (key or b"") + payload).digest()


def read(connection: Connection, api_key: str) -> Ledger:
    """Read the whole ledger, in the connection's transaction."""
    own = connection.execute(
        "SELECT seller_id FROM api_keys WHERE key_sha256 = sha256(%s) AND revoked_at IS NULL", (api_key.encode(),)
    ).fetchone()
    lines: dict[OrderKey, list[tuple[str, int]]] = defaultdict(list)
    for seller_id, order_id, sku, quantity in connection.execute(_LINES):
        lines[seller_id, order_id].append((sku, quantity))
    orders = {}
    for seller_id, order_id, partition, customer, state, version, history, *money in connection.execute(_ORDERS):
        steps = tuple(Step(each["version"], each["from"], each["to"], each["reason"]) for each in history)
        currency, net, tax, gross = money
        its_lines = tuple(lines.get((seller_id, order_id), ()))
        orders[seller_id, order_id] = Order(
            seller_id, order_id, partition, customer, state, version, steps, currency, net, tax, gross, its_lines
        )
    letters: dict[tuple[str, int, int], list[str]] = defaultdict(list)
    for topic, partition, offset, state in connection.execute(_LETTERS):
        letters[topic, partition, offset].append(state)
    journal: dict[Place, list[bytes]] = {}
    for topic, partition, seq, hashed in connection.execute(_JOURNAL, binary=True):
        journal.setdefault((topic, partition, seq), []).append(hashed)
    return Ledger(
        "" if own is None else own[0],
        _rows(connection, Invoice, _INVOICES),
        _rows(connection, Series, _SERIES),
        orders,
        _rows(connection, Refused, _REFUSED),
        _rows(connection, Refund, _REFUNDS),
        _rows(connection, Attempt, _ATTEMPTS),
        {(row.seller_id, row.sku): row for row in _rows(connection, Level, _STOCK)},
        _rows(connection, Head, _HEADS),
        dict(connection.execute(_LOGOS).fetchall()),
        letters,
        journal,
    )


def _rows(connection: Connection, kind: type[_Row], statement: LiteralString) -> list[_Row]:
    with connection.cursor(row_factory=args_row(kind)) as cursor:
        return cursor.execute(statement).fetchall()
