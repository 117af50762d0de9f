"""Read by gateways with an order or an invoice: the refused requests under its order id, and the id's owner."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString, NamedTuple

from domain.order import OrderIdentity
from sinks.postgres.order_ids import READ_KINDS
from sinks.postgres.session import Connection

#: Refusals read per order, the latest.
_REFUSALS_MAX = 20


class RefusedRequest(NamedTuple):
    """A request that became no order and got no number. `occurred_at` is in UTC."""

    outcome: str
    reason: str
    detail: str
    occurred_at: datetime
    log_offset: int


@dataclass(frozen=True, slots=True)
class RefusedRequests:
    """By order: the refused requests, latest first, and the kind that owns the id (see `order_ids`)."""

    refused: dict[tuple[str, str], tuple[RefusedRequest, ...]]
    owners: dict[tuple[str, str], str]


_READ_REFUSED: LiteralString = """
    SELECT wanted.seller_id, wanted.order_id, r.outcome, r.reason, r.detail, r.occurred_at, r.log_offset
    FROM unnest(%(seller_ids)b::text[], %(order_ids)b::text[]) AS wanted (seller_id, order_id)
    CROSS JOIN LATERAL (
        SELECT outcome, reason, detail, occurred_at, log_offset FROM refused_requests
        WHERE seller_id = wanted.seller_id AND order_id = wanted.order_id AND kind = %(kind)s AND refund_id = ''
        ORDER BY occurred_at DESC, log_offset DESC LIMIT %(refusals_max)s
    ) r
"""


async def read_refusals(connection: Connection, kind: str, orders: Sequence[OrderIdentity]) -> RefusedRequests:
    """The refusals of requests of `kind`, without credit notes; in a pipeline, it costs no further round trip."""
    parameters = {
        "seller_ids": [order.seller_id for order in orders],
        "order_ids": [order.order_id for order in orders],
        "kind": kind,
        "refusals_max": _REFUSALS_MAX,
    }
    refused = await connection.execute(_READ_REFUSED, parameters, binary=True)
    kinds = await connection.execute(READ_KINDS, parameters, binary=True)
    found: dict[tuple[str, str], list[RefusedRequest]] = {}
    for seller_id, order_id, *columns in await refused.fetchall():
        found.setdefault((seller_id, order_id), []).append(RefusedRequest(*columns))
    owners = {(seller_id, order_id): kind for seller_id, order_id, kind in await kinds.fetchall()}
    return RefusedRequests({order: tuple(each) for order, each in found.items()}, owners)
