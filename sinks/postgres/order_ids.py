"""Whose each order id is: one row decides between a checkout and an invoice that was asked for directly."""

from collections.abc import Collection, Mapping
from typing import Any, LiteralString, NamedTuple

from domain.order import OrderIdentity
from sinks.postgres.session import SQL, Connection

#: Who may have an order id.
CHECKOUT, INVOICE = "checkout", "invoice"

#: What gateways ask: the kind that has each of these ids.
READ_KINDS: LiteralString = """
    SELECT seller_id, order_id, i.kind
    FROM unnest(%(seller_ids)b::text[], %(order_ids)b::text[]) AS wanted (seller_id, order_id)
    JOIN order_ids i USING (seller_id, order_id)
"""


class Owner(NamedTuple):
    """The other kind's order that has an id."""

    #: Whether it ever was confirmed: from then on its own invoice is asked for. False of an invoice.
    confirmed: bool
    #: SHA-256 of the request for its own invoice, as it goes onto the topic; None of an invoice.
    request_sha256: bytes | None

    def asks_by(self, request_sha256: bytes) -> bool:
        """Whether a request is the order's own: what is in its row is not for writers to the topic to choose."""
        return self.confirmed and self.request_sha256 == request_sha256


async def claim(connection: Connection, kind: str, ids: Mapping[OrderIdentity, int]) -> dict[OrderIdentity, Owner]:
    """Give `kind` the ids that nobody has, each with its buyer's key; return those that the other kind has.

    Belongs to the caller's transaction, right after the position: rows are made in the order of the ids, and an id
    that another transaction is about to claim is waited for.
    """
    if not ids:
        return {}
    taken = await _execute(connection, "claim_order_ids", kind, ids, buyer_keys=list(ids.values()))
    if not taken:
        return {}
    rows = await _execute(connection, "read_order_owners", kind, [OrderIdentity(*row) for row in taken])
    return {OrderIdentity(seller_id, order_id): Owner(*owner) for seller_id, order_id, *owner in rows}


async def _execute(
    connection: Connection, name: str, kind: str, ids: Collection[OrderIdentity], **columns: list[int]
) -> list[tuple[Any, ...]]:
    seller_ids, order_ids = zip(*ids, strict=True)
    cursor = await connection.execute(
        SQL[name], {"kind": kind, "seller_ids": list(seller_ids), "order_ids": list(order_ids), **columns}
    )
    return await cursor.fetchall()
