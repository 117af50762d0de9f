"""What the peers share with each other, and none of it with the product: a plain checkout, as a small shop writes it.

Each peer answers `PUT /v1/stock/{sku}` and `POST /v1/checkouts` as the product does where that matters to the load: 201
once the order is paid, numbered and its PDF is on the disk; 402 where the payment is declined.
"""

import io
import os
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, LiteralString

from psycopg import AsyncConnection
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import getSampleStyleSheet
from reportlab.platypus import Paragraph, SimpleDocTemplate, Spacer, Table

#: Postgres' own durability: a commit that was answered survives the machine's power cut.
OPTIONS = "-c synchronous_commit=on"
#: The provider takes 50 ms; a request that it has charged without an answer takes as long as the caller waits.
PROVIDER_SECONDS_MAX = 5.0

TABLES: LiteralString = """
CREATE TABLE IF NOT EXISTS stock (sku text PRIMARY KEY, on_hand bigint NOT NULL, reserved bigint NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS orders (
    order_id text PRIMARY KEY, state text NOT NULL, body jsonb NOT NULL, gross_minor bigint NOT NULL,
    number bigint UNIQUE, document text, placed_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE IF NOT EXISTS counters (name text PRIMARY KEY, next_number bigint NOT NULL);
INSERT INTO counters VALUES ('invoices', 1) ON CONFLICT DO NOTHING;
"""
PUT_STOCK: LiteralString = """
INSERT INTO stock (sku, on_hand) VALUES (%(sku)s, %(on_hand)s)
ON CONFLICT (sku) DO UPDATE SET on_hand = excluded.on_hand
"""
_RESERVE: LiteralString = """
UPDATE stock SET reserved = reserved + %(quantity)s WHERE sku = %(sku)s AND on_hand - reserved >= %(quantity)s
"""
_RELEASE: LiteralString = "UPDATE stock SET reserved = reserved - %(quantity)s WHERE sku = %(sku)s"


class OutOfStockError(Exception):
    """Fewer pieces are free than wanted."""


def gross_minor(body: Mapping[str, Any]) -> int:
    """What the buyer pays, in minor units."""
    lines = body["lines"]
    amounts = (
        Decimal(each["quantity"]) * Decimal(each["unit_price"]) * (1 + Decimal(each["vat_rate"]) / 100)
        for each in lines
    )
    total = sum(amounts, Decimal())
    return int((total * 100).quantize(Decimal(1)))


async def reserve(connection: AsyncConnection[Any], body: Mapping[str, Any]) -> None:
    """All lines or none, in the caller's transaction. Raises `OutOfStockError`."""
    for line in sorted(body["lines"], key=lambda each: each["sku"]):
        cursor = await connection.execute(_RESERVE, {"sku": line["sku"], "quantity": int(line["quantity"])})
        if cursor.rowcount != 1:
            raise OutOfStockError(line["sku"])


async def release(connection: AsyncConnection[Any], body: Mapping[str, Any]) -> None:
    """Give back what was reserved, in the caller's transaction."""
    for line in sorted(body["lines"], key=lambda each: each["sku"]):
        await connection.execute(_RELEASE, {"sku": line["sku"], "quantity": int(line["quantity"])})


async def take_number(connection: AsyncConnection[Any]) -> int:
    """The next number, without a gap: the counter's row stays locked until the caller commits."""
    cursor = await connection.execute("SELECT next_number FROM counters WHERE name = 'invoices' FOR UPDATE")
    row = await cursor.fetchone()
    if row is None:
        raise LookupError("there is no counter")
    await connection.execute("UPDATE counters SET next_number = next_number + 1 WHERE name = 'invoices'")
    return int(row[0])


def render(body: Mapping[str, Any], number: int) -> bytes:
    """The invoice as ReportLab's manual lays one out: Platypus, a table, the standard fonts."""
    styles = getSampleStyleSheet()
    buyer = body["buyer"]
    rows = [["Article", "Quantity", "Price"]]
    rows += [[each["description"], each["quantity"], each["unit_price"]] for each in body["lines"]]
    out = io.BytesIO()
    document = SimpleDocTemplate(out, pagesize=A4, title=f"Invoice {number}")
    document.build(
        [
            Paragraph(f"Invoice {number}", styles["Title"]),
            Paragraph(f"Order {body['order_id']}", styles["Normal"]),
            Paragraph(f"{buyer['name']}, {buyer['address']['street']}, {buyer['address']['city']}", styles["Normal"]),
            Spacer(1, 12),
            Table(rows),
            Spacer(1, 12),
            Paragraph(f"Total {gross_minor(body) / 100:.2f} {body['currency']}", styles["Normal"]),
        ]
    )
    return out.getvalue()


def store(folder: Path, body: Mapping[str, Any], number: int) -> str:
    """Render and write the PDF so that it survives a power cut; return its name."""
    name = f"{number:08d}.pdf"
    descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(descriptor, render(body, number))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    directory = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    return name
