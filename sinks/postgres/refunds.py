"""Refunds and their credit note requests. Every call belongs to the caller's transaction."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec

from domain.order import OrderIdentity
from domain.records import RefundedLine
from sinks.postgres.session import SQL, Connection

REQUESTED, DONE, FAILED = "requested", "done", "failed"


class RefundRow(NamedTuple):
    """A row of `refunds`."""

    order: OrderIdentity
    refund_id: str
    #: Pieces by line.
    lines: Mapping[int, int]
    amount_minor: int
    state: str
    reason: str
    #: The encoded CreditNoteRequest.
    credit_note_request: bytes
    #: Whether it was requested without lines; None for refunds older than this column.
    for_all_left: bool | None


async def read_refunds(
    connection: Connection, ids: Collection[OrderIdentity]
) -> dict[OrderIdentity, dict[str, RefundRow]]:
    """All refunds of these orders, by refund id."""
    if not ids:
        return {}
    asked = sorted(ids)
    cursor = await connection.execute(
        SQL["read_refunds"],
        {"seller_ids": [each.seller_id for each in asked], "order_ids": [each.order_id for each in asked]},
    )
    found: dict[OrderIdentity, dict[str, RefundRow]] = {}
    for seller_id, order_id, refund_id, lines, *rest in await cursor.fetchall():
        order = OrderIdentity(seller_id, order_id)
        pieces = {each["line"]: each["quantity"] for each in lines}
        found.setdefault(order, {})[refund_id] = RefundRow(order, refund_id, pieces, *rest)
    return found


async def insert_refunds(connection: Connection, refunds: Sequence[RefundRow], now: datetime) -> None:
    """Insert new refunds."""
    if refunds:
        await connection.execute(
            SQL["insert_refunds"],
            {
                **_ids(refunds),
                "lines": [lines_text(each.lines) for each in refunds],
                "amounts": [each.amount_minor for each in refunds],
                "states": [each.state for each in refunds],
                "reasons": [each.reason for each in refunds],
                "requests": [each.credit_note_request for each in refunds],
                "for_all_left": [each.for_all_left for each in refunds],
                "now": now,
            },
        )


async def write_refund_states(connection: Connection, refunds: Sequence[RefundRow]) -> None:
    """Write the states of existing refunds."""
    if refunds:
        await connection.execute(
            SQL["write_refund_states"], {**_ids(refunds), "states": [each.state for each in refunds]}
        )


async def write_refunded(connection: Connection, refunded: Mapping[OrderIdentity, Mapping[int, int]]) -> None:
    """Write the number of refunded pieces of each line."""
    rows = [
        (order, line, pieces) for order, lines in sorted(refunded.items()) for line, pieces in sorted(lines.items())
    ]
    if rows:
        await connection.execute(
            SQL["write_refunded"],
            {
                "seller_ids": [order.seller_id for order, _, _ in rows],
                "order_ids": [order.order_id for order, _, _ in rows],
                "lines": [line for _, line, _ in rows],
                "refundeds": [pieces for _, _, pieces in rows],
            },
        )


def lines_text(lines: Mapping[int, int]) -> str:
    """Pieces by line as the JSON in `refunds.lines`."""
    rows: list[RefundedLine] = [{"line": line, "quantity": quantity} for line, quantity in sorted(lines.items())]
    return msgspec.json.encode(rows).decode()


def _ids(refunds: Sequence[RefundRow]) -> dict[str, list[str]]:
    return {
        "seller_ids": [each.order.seller_id for each in refunds],
        "order_ids": [each.order.order_id for each in refunds],
        "refund_ids": [each.refund_id for each in refunds],
    }
