"""The owners of order ids: one row decides between a checkout and a directly requested invoice."""

from collections.abc import Collection, Mapping
from typing import Any, LiteralString, NamedTuple

from domain.order import OrderIdentity
from sinks.postgres.session import SQL, Connection

#: The kinds of owners.
CHECKOUT, INVOICE = "checkout", "invoice"

#: Used by gateways: the kind that owns each of these ids.
READ_KINDS: LiteralString = """
    SELECT seller_id, order_id, i.kind
    FROM unnest(%(seller_ids)b::text[], %(order_ids)b::text[]) AS wanted (seller_id, order_id)
    JOIN order_ids i USING (seller_id, order_id)
"""


class Owner(NamedTuple):
    """The order of the other kind that owns an id."""

    #: Whether it was ever confirmed, after which its own invoice is requested. False for an invoice.
    confirmed: bool
    #: SHA-256 of the request for its own invoice, as published; None for an invoice.
    request_sha256: bytes | None

    def asks_by(self, request_sha256: bytes) -> bool:
        """Whether a request is the order's own. Other writers to the topic can't choose what is in the order's row."""
        return self.confirmed and self.request_sha256 == request_sha256


async def claim(connection: Connection, kind: str, ids: Mapping[OrderIdentity, int]) -> dict[OrderIdentity, Owner]:
    """Give `kind` the unowned ids, each with its buyer's key; return those that the other kind owns.

    Call it in the caller's transaction, directly after moving the position. Rows are inserted in the order of the ids,
    and an id that another transaction is claiming is waited for.
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
