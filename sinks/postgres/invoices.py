"""Invoices, credit notes and their numbers, in batches. Every call belongs to the caller's transaction."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import NamedTuple

from domain.issuing import INVOICE, InvoiceIdentity
from domain.numbering import NumberRange
from sinks.postgres.sellers import SellerRow
from sinks.postgres.session import SQL, Connection, fetch_dicts


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
    """Numbers taken of a series, and their time and date, which are never before those of an earlier number."""

    taken: NumberRange
    issued_at: datetime
    issue_date: date


class Wanted(NamedTuple):
    """How many numbers of a series to take. The date is today in the seller's time zone."""

    seller_id: str
    policy: str
    issue_date: date
    numbers: int


async def read_sellers_and_issued(
    connection: Connection, seller_ids: Iterable[str], keys: Sequence[InvoiceIdentity]
) -> tuple[dict[str, SellerRow], dict[InvoiceIdentity, bytes]]:
    """The sellers by id, and those of `keys` that were issued, with the digest of their content."""
    sellers = await connection.execute(SQL["read_sellers"], {"seller_ids": sorted(set(seller_ids))})
    issued = None
    if keys:
        names = ("seller_ids", "order_ids", "kinds", "refund_ids")
        columns = {name: list(column) for name, column in zip(names, zip(*keys, strict=True), strict=True)}
        issued = await connection.execute(SQL["read_issued"], columns)
    by_id = {row["seller_id"]: SellerRow(**row) for row in await fetch_dicts(sellers)}
    rows = await issued.fetchall() if issued is not None else []
    return by_id, {InvoiceIdentity(*key): digest for *key, digest in rows}


class Preceding(NamedTuple):
    """The invoice that a credit note corrects."""

    content_sha256: bytes
    invoice_number: str
    #: Its `InvoiceIssued` record; None once an operator has dropped its month of the journal.
    event: bytes | None


async def read_preceding(connection: Connection, keys: Sequence[InvoiceIdentity]) -> dict[InvoiceIdentity, Preceding]:
    """The invoices with these identities; those that were not issued are absent."""
    if not keys:
        return {}
    columns = {"seller_ids": [key.seller_id for key in keys], "order_ids": [key.order_id for key in keys]}
    cursor = await connection.execute(SQL["read_preceding"], columns)
    return {
        InvoiceIdentity(seller, order, INVOICE): Preceding(*found) for seller, order, *found in await cursor.fetchall()
    }


async def begun_series(connection: Connection, series_ids: Collection[str]) -> set[str]:
    """Those of the series that exist."""
    if not series_ids:
        return set()
    cursor = await connection.execute(SQL["read_series"], {"series_ids": list(series_ids)})
    return {series_id for (series_id,) in await cursor.fetchall()}


async def take_numbers(connection: Connection, wanted: Mapping[str, Wanted], now: datetime) -> dict[str, TakenAt]:
    """Take as many numbers of each series as are wanted; `wanted` is by series id.

    Series are locked in the order of their ids, so two batches can't wait for each other.
    """
    cursors = [
        (
            series_id,
            each.numbers,
            await connection.execute(SQL["take_numbers"], {"series_id": series_id, **each._asdict(), "issued_at": now}),
        )
        for series_id, each in sorted(wanted.items())
    ]
    taken = {}
    for series_id, count, cursor in cursors:
        row = await cursor.fetchone()
        if row is None:
            raise LookupError(f"series {series_id} gave no numbers")
        taken[series_id] = TakenAt(NumberRange(series_id, row[0], count), *row[1:])
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
