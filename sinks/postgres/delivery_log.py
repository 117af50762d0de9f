"""The log of deliveries of an endpoint, and replays."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString

from domain.delivery import DeliveryState
from domain.refusals import INVALID_FIELD, Refusal
from sinks.postgres import deliveries
from sinks.postgres.deliveries import CHANCE_BYTES
from sinks.postgres.session import SQL, Connection, fetch_dicts

#: Limit of deliveries that a replay sends.
REPLAYED_MAX = 10_000


@dataclass(frozen=True, slots=True)
class DeliverySummary:
    """A delivery in the log, with the result of its last try, if it was tried."""

    delivery_id: str
    order_id: str
    sequence: int
    type: str
    state: str
    created_at: datetime
    finished_at: datetime | None
    next_try_at: datetime | None
    attempts: int
    status: int | None
    error: str | None
    #: When a mail came back, if it did, and why.
    bounced_at: datetime | None
    bounce: str


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """One try of a delivery."""

    tried_at: datetime
    url: str
    seconds: float
    status: int | None
    error: str
    answer: str


@dataclass(frozen=True, slots=True)
class DeliveryDetails:
    """A delivery with its payload and its tries, oldest first."""

    summary: DeliverySummary
    payload: bytes
    attempts: list[AttemptRow]


@dataclass(frozen=True, slots=True)
class LogFilter:
    """Selects deliveries of an endpoint; None and empty mean all."""

    delivery_ids: tuple[str, ...] = ()
    order_id: str | None = None
    state: str | None = None
    #: Created at this time or later, and before `until`.
    since: datetime | None = None
    until: datetime | None = None


_LOG: LiteralString = """
    SELECT d.delivery_id, d.order_id, d.sequence, d.type, d.state, d.created_at, d.finished_at, d.next_try_at,
           (SELECT count(*) FROM delivery_attempts a WHERE a.delivery_id = d.delivery_id) AS attempts,
           last.status, last.error, d.bounced_at, d.bounce
    FROM deliveries d
    JOIN webhook_endpoints e ON e.endpoint_id = d.destination AND e.seller_id = %(seller_id)s
    LEFT JOIN LATERAL (
        SELECT status, error FROM delivery_attempts a WHERE a.delivery_id = d.delivery_id
        ORDER BY tried_at DESC LIMIT 1
    ) AS last ON true
    WHERE d.destination = %(endpoint)s
"""
_FINISHED: LiteralString = """
    SELECT d.delivery_id, d.order_id FROM deliveries d
    JOIN webhook_endpoints e ON e.endpoint_id = d.destination AND e.seller_id = %(seller_id)s
    WHERE d.destination = %(endpoint)s AND d.state <> 'open'
"""
_CONDITIONS: LiteralString = """
      AND (%(delivery_ids)s::text[] IS NULL OR d.delivery_id = ANY(%(delivery_ids)s::text[]))
      AND (%(order_id)s::text IS NULL OR d.order_id = %(order_id)s)
      AND (%(state)s::text IS NULL OR d.state = %(state)s)
      AND (%(since)s::text IS NULL OR d.delivery_id >= %(since)s)
      AND (%(until)s::text IS NULL OR d.delivery_id < %(until)s)
"""


def _conditions(wanted: LogFilter) -> dict[str, Any]:
    def first_id(moment: datetime | None) -> str | None:
        return None if moment is None else deliveries.delivery_id(moment, bytes(CHANCE_BYTES))

    return {
        "delivery_ids": list(wanted.delivery_ids) or None,
        "order_id": wanted.order_id,
        "state": wanted.state,
        "since": first_id(wanted.since),
        "until": first_id(wanted.until),
    }


async def read_log(
    connection: Connection, seller_id: str, endpoint: str, wanted: LogFilter, before: str | None, limit: int
) -> list[DeliverySummary]:
    """Deliveries of the seller's endpoint, newest first; `before` is the last id of the previous page."""
    cursor = await connection.execute(
        _LOG + _CONDITIONS + " AND (%(before)s::text IS NULL OR d.delivery_id < %(before)s)"
        " ORDER BY d.delivery_id DESC LIMIT %(limit)s",
        {"seller_id": seller_id, "endpoint": endpoint, "before": before, "limit": limit, **_conditions(wanted)},
    )
    return [DeliverySummary(**row) for row in await fetch_dicts(cursor)]


async def read_delivery(connection: Connection, seller_id: str, endpoint: str, delivery: str) -> DeliveryDetails | None:
    """One delivery, with all tries that are not deleted yet."""
    found = await read_log(connection, seller_id, endpoint, LogFilter(delivery_ids=(delivery,)), None, 1)
    if not found:
        return None
    cursor = await connection.execute("SELECT payload FROM deliveries WHERE delivery_id = %s", (delivery,))
    row = await cursor.fetchone()
    if row is None:
        return None
    cursor = await connection.execute(
        "SELECT tried_at, url, seconds::float8, status, error, answer FROM delivery_attempts"
        " WHERE delivery_id = %s ORDER BY tried_at",
        (delivery,),
    )
    return DeliveryDetails(found[0], bytes(row[0]), [AttemptRow(*each) for each in await cursor.fetchall()])


async def replay(
    connection: Connection, seller_id: str, endpoint: str, wanted: LogFilter, *, dry_run: bool
) -> int | Refusal:
    """Send finished deliveries again, with their ids; returns how many, with `dry_run` without sending. Commits.

    Deliveries of one order are sent in order, independently of those under way.
    """
    if wanted.state == DeliveryState.OPEN:
        return Refusal(INVALID_FIELD, "state", "must not be open: what is open is sent anyway")
    conditions = {"seller_id": seller_id, "endpoint": endpoint, "limit": REPLAYED_MAX + 1, **_conditions(wanted)}
    async with connection.transaction():
        cursor = await connection.execute(_FINISHED + _CONDITIONS + " LIMIT %(limit)s", conditions)
        found = await cursor.fetchall()
        if len(found) > REPLAYED_MAX:
            detail = f"more than {REPLAYED_MAX:,} deliveries: replay a part of the time at once"
            return Refusal(INVALID_FIELD, "since", detail)
        if dry_run or not found:
            return len(found)
        orders = sorted({(endpoint, order_id) for _, order_id in found})
        await deliveries.lock_sequences(connection, orders)
        opened = await connection.execute(
            "UPDATE deliveries SET state = 'open', tries = 0, finished_at = NULL, bounced_at = NULL, bounce = ''"
            " WHERE delivery_id = ANY(%s) AND state <> 'open'",
            ([delivery for delivery, _ in found],),
        )
        await deliveries.schedule(connection, orders)
        await connection.execute(SQL["wake_senders"])
    return opened.rowcount
