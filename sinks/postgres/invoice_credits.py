"""Credits of invoices that were asked for directly. Every call belongs to the caller's transaction."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import msgspec

from domain.order import OrderIdentity
from sinks.postgres.session import SQL, Connection


class CreditRow(NamedTuple):
    """A row of `invoice_credits`."""

    order: OrderIdentity
    credit_note_id: str
    #: Quantities by line, in 10^-6.
    lines: Mapping[int, int]
    asked_sha256: bytes
    #: The encoded CreditNoteRequest.
    credit_note_request: bytes


async def read_credits(
    connection: Connection, orders: Collection[OrderIdentity]
) -> tuple[dict[OrderIdentity, list[CreditRow]], set[OrderIdentity]]:
    """The credits of these orders' invoices, and those of the orders that are checkouts."""
    asked = sorted(orders)
    parameters = {"seller_ids": [each.seller_id for each in asked], "order_ids": [each.order_id for each in asked]}
    cursor = await connection.execute(SQL["read_credits"], parameters)
    found: dict[OrderIdentity, list[CreditRow]] = {}
    for seller_id, order_id, credit_note_id, lines, *rest in await cursor.fetchall():
        order = OrderIdentity(seller_id, order_id)
        quantities = {each["line"]: each["quantity"] for each in lines}
        found.setdefault(order, []).append(CreditRow(order, credit_note_id, quantities, *rest))
    cursor = await connection.execute(SQL["read_order_digests"], parameters)
    return found, {OrderIdentity(seller_id, order_id) for seller_id, order_id, _ in await cursor.fetchall()}


async def insert_credits(connection: Connection, rows: Sequence[CreditRow]) -> None:
    """Insert; raises `psycopg.errors.UniqueViolation` where an id is already there."""
    await connection.execute(
        SQL["insert_credits"],
        {
            "seller_ids": [row.order.seller_id for row in rows],
            "order_ids": [row.order.order_id for row in rows],
            "credit_note_ids": [row.credit_note_id for row in rows],
            "lines": [_lines_text(row.lines) for row in rows],
            "digests": [row.asked_sha256 for row in rows],
            "requests": [row.credit_note_request for row in rows],
        },
    )


def _lines_text(lines: Mapping[int, int]) -> str:
    rows = [{"line": line, "quantity": quantity} for line, quantity in sorted(lines.items())]
    return msgspec.json.encode(rows).decode()
