"""The owners of order ids: one row decides between a checkout, a directly requested invoice, and credit notes of an
invoice that was issued elsewhere.
"""

from collections.abc import Mapping
from typing import Any, LiteralString, NamedTuple

from domain.order import OrderIdentity
from sinks.postgres.session import SQL, Connection

#: The kinds of owners. Credit notes own an id whose invoice was issued elsewhere.
CHECKOUT, INVOICE, CREDIT_NOTE = "checkout", "invoice", "credit_note"

#: Used by gateways: the kind that owns each of these ids.
READ_KINDS: LiteralString = """
    SELECT seller_id, order_id, i.kind
    FROM unnest(%(seller_ids)b::text[], %(order_ids)b::text[]) AS wanted (seller_id, order_id)
    JOIN order_ids i USING (seller_id, order_id)
"""


class Claim(NamedTuple):
    """What an id is wanted for."""

    kind: str
    buyer_key: int


class Owner(NamedTuple):
    """The owner of an id, of another kind than it was wanted for."""

    kind: str
    #: Whether it is a checkout that was ever confirmed, after which its own invoice is requested.
    confirmed: bool
    #: SHA-256 of a checkout's request for its own invoice, as published; None for the others.
    request_sha256: bytes | None

    def asks_by(self, request_sha256: bytes) -> bool:
        """Whether a request is the order's own. Other writers to the topic can't choose what is in the order's row."""
        return self.confirmed and self.request_sha256 == request_sha256


async def claim(connection: Connection, ids: Mapping[OrderIdentity, Claim]) -> dict[OrderIdentity, Owner]:
    """Give the unowned ids to the kinds that they are wanted for; return those that another kind owns.

    Call it in the caller's transaction, directly after moving the position. Rows are inserted in the order of the ids,
    and an id that another transaction is claiming is waited for.
    """
    if not ids:
        return {}
    buyer_keys = [each.buyer_key for each in ids.values()]
    rows = await _execute(connection, "claim_order_ids", ids, buyer_keys=buyer_keys)
    taken = {OrderIdentity(*row): ids[OrderIdentity(*row)] for row in rows}
    if not taken:
        return {}
    rows = await _execute(connection, "read_order_owners", taken)
    return {OrderIdentity(seller_id, order_id): Owner(*owner) for seller_id, order_id, *owner in rows}


async def _execute(
    connection: Connection, name: str, ids: Mapping[OrderIdentity, Claim], **columns: list[int]
) -> list[tuple[Any, ...]]:
    seller_ids, order_ids = zip(*ids, strict=True)
    kinds = [each.kind for each in ids.values()]
    cursor = await connection.execute(
        SQL[name], {"kinds": kinds, "seller_ids": list(seller_ids), "order_ids": list(order_ids), **columns}
    )
    return await cursor.fetchall()
