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
    """A row of `invoices`: of an invoice or a credit note."""

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
    source_partition: int
    source_offset: int
    event_seq: int


class RefusedRow(NamedTuple):
    """A request that got no number: a row of `refused_requests`, less topic and time."""

    partition: int
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
    """Take as many numbers of each series as are wanted; `wanted` is by series id."""
    if not wanted:
        return {}
    names = ("seller_ids", "policies", "issue_dates", "numbers")
    columns = {name: list(column) for name, column in zip(names, zip(*wanted.values(), strict=True), strict=True)}
    cursor = await connection.execute(SQL["take_numbers"], {"series_ids": list(wanted), "issued_at": now, **columns})
    taken = {}
    for series_id, next_number, *issued in await cursor.fetchall():
        count = wanted[series_id].numbers
        taken[series_id] = TakenAt(NumberRange(series_id, next_number - count, count), *issued)
    return taken


async def insert_invoices(connection: Connection, rows: Sequence[InvoiceRow]) -> None:
    """Insert; raises `psycopg.errors.UniqueViolation` where an order or a number is already there."""
    names = (
        "series_ids numbers seller_ids order_ids kinds refund_ids invoice_numbers issued_ats currencies"
        " nets taxes grosses digests partitions offsets event_seqs"
    ).split()
    columns = {name: list(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
    await connection.execute(SQL["insert_invoices"], columns)


async def insert_refused(connection: Connection, topic: str, rows: Sequence[RefusedRow], now: datetime) -> None:
    """Record conflicts and rejections of requests on `topic`."""
    names = ("partitions offsets seller_ids order_ids kinds refund_ids outcomes reasons details digests").split()
    columns = {name: list(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
    await connection.execute(SQL["insert_refused_requests"], {"topic": topic, "occurred_at": now, **columns})
