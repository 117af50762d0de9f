"""Invoices, credit notes and their numbers, a batch at a time. Every call belongs to the caller's transaction."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from domain.issuing import INVOICE, OrderKey
from domain.numbering import Taken
from sinks.postgres.session import Connection, fetch_dicts
from sinks.postgres.sql import SQL


class InvoiceRow(NamedTuple):
    """A row of `invoices`, less the source partition: of an invoice or a credit note."""

    series_id: str
    number: int
    seller_id: str
    order_id: str
    kind: str
    refund_id: str
    invoice_number: str
    issued_at: datetime
    currency: str
    net_minor: int
    tax_minor: int
    gross_minor: int
    content_sha256: bytes
    source_offset: int
    event_seq: int


class RefusedRow(NamedTuple):
    """A request that got no number: a row of `refused_requests`, less topic, partition and time."""

    log_offset: int
    seller_id: str
    order_id: str
    kind: str
    refund_id: str
    outcome: str
    reason: str
    detail: str
    content_sha256: bytes | None


@dataclass(frozen=True, slots=True)
class TakenAt:
    """Numbers taken of a series, and the time they are issued at: never before that of an earlier number."""

    taken: Taken
    issued_at: datetime


async def read_sellers_and_issued(
    connection: Connection, seller_ids: Iterable[str], keys: Sequence[OrderKey]
) -> tuple[dict[str, dict[str, Any]], dict[OrderKey, bytes]]:
    """The sellers by id, and of `keys` those that were issued, with the digest of the content that stands."""
    sellers = await connection.execute(SQL["read_sellers"], {"seller_ids": sorted(set(seller_ids))})
    issued = None
    if keys:
        names = ("seller_ids", "order_ids", "kinds", "refund_ids")
        columns = {name: list(column) for name, column in zip(names, zip(*keys, strict=True), strict=True)}
        issued = await connection.execute(SQL["read_issued"], columns)
    by_id = {row["seller_id"]: row for row in await fetch_dicts(sellers)}
    rows = await issued.fetchall() if issued is not None else []
    return by_id, {OrderKey(*key): digest for *key, digest in rows}


class Preceding(NamedTuple):
    """The invoice that a credit note corrects."""

    content_sha256: bytes
    invoice_number: str


async def read_preceding(connection: Connection, keys: Sequence[OrderKey]) -> dict[OrderKey, Preceding]:
    """The invoices of `keys`, which are keys of invoices; those that were not issued are absent."""
    if not keys:
        return {}
    columns = {"seller_ids": [key.seller_id for key in keys], "order_ids": [key.order_id for key in keys]}
    cursor = await connection.execute(SQL["read_preceding"], columns)
    return {OrderKey(seller, order, INVOICE): Preceding(*found) for seller, order, *found in await cursor.fetchall()}


async def take_numbers(
    connection: Connection, wanted: Mapping[str, tuple[str, str, int]], now: datetime
) -> dict[str, TakenAt]:
    """Take `count` numbers of each series; `wanted` maps series id to (seller id, policy, count).

    Series are locked in the order of their ids, so two batches can't wait for each other.
    """
    cursors = [
        (
            series_id,
            count,
            await connection.execute(
                SQL["take_numbers"],
                {"series_id": series_id, "seller_id": seller_id, "policy": policy, "count": count, "issued_at": now},
            ),
        )
        for series_id, (seller_id, policy, count) in sorted(wanted.items())
    ]
    taken = {}
    for series_id, count, cursor in cursors:
        row = await cursor.fetchone()
        if row is None:
            raise LookupError(f"series {series_id} gave no numbers")
        taken[series_id] = TakenAt(Taken(series_id, row[0], count), row[1])
    return taken


async def insert_invoices(connection: Connection, partition: int, rows: Sequence[InvoiceRow]) -> None:
    """Insert; raises `psycopg.errors.UniqueViolation` where an order or a number is already there."""
    names = (
        "series_ids numbers seller_ids order_ids kinds refund_ids invoice_numbers issued_ats currencies"
        " nets taxes grosses digests offsets event_seqs"
    ).split()
    columns = {name: list(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
    await connection.execute(SQL["insert_invoices"], {"partition": partition, **columns})


async def insert_refused(
    connection: Connection, topic: str, partition: int, rows: Sequence[RefusedRow], now: datetime
) -> None:
    """Record conflicts and rejections."""
    names = ["offsets", "seller_ids", "order_ids", "kinds", "refund_ids", "outcomes", "reasons", "details", "digests"]
    columns = {name: list(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
    await connection.execute(
        SQL["insert_refused_requests"], {"topic": topic, "partition": partition, "occurred_at": now, **columns}
    )
