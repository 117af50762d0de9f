"""Deliveries of webhooks and mails: each row is committed before the first call, and open until it arrived or is dead.

Lock order: `delivery_sequences` by destination and order id, then `deliveries`. A transaction that adds or ends a
delivery holds the row of its order in `delivery_sequences`, so that exactly the first open delivery of an order is due.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from domain.delivery import Channel, DeliveryState
from sinks.postgres.session import SQL, Connection

#: Days after which finished deliveries and their attempts are deleted.
KEPT_DAYS = 30
#: Days without a delivery after which an order's sequence is deleted; the next one begins with 1 again.
SEQUENCES_KEPT_DAYS = 400
#: Rows deleted in one transaction.
_PURGED_MAX = 1_000
#: Hex digits of an id: for the milliseconds since 1970, and for random bytes.
_TIME_DIGITS, _CHANCE_DIGITS = 12, 20
CHANCE_BYTES = _CHANCE_DIGITS // 2

#: (destination, order id), by which deliveries have a sequence.
OfOrder = tuple[str, str]


class NewDelivery(NamedTuple):
    """A row to insert."""

    delivery_id: str
    destination: str
    seller_id: str
    order_id: str
    sequence: int
    type: str
    payload: bytes


class Taken(NamedTuple):
    """A delivery leased to this worker."""

    delivery_id: str
    destination: str
    seller_id: str
    order_id: str
    sequence: int
    type: str
    payload: bytes
    #: Including this one.
    tries: int
    created_at: datetime
    url: str
    #: The endpoint's version.
    version: int
    #: Recent deliveries to the endpoint have failed.
    is_failing: bool


class Outcome(NamedTuple):
    """The result of a try; `after_seconds` is the time to the next one, if the delivery stays open."""

    taken: Taken
    state: DeliveryState
    after_seconds: float
    #: Otherwise its destination could not be asked, and it is as if this had been no try.
    is_counted: bool
    #: The receiver wants no further deliveries (410).
    is_gone: bool
    tried_at: datetime
    seconds: float
    status: int | None
    error: str
    answer: str


class Disabled(NamedTuple):
    """An endpoint that was disabled, and why: `gone` or `failing`."""

    endpoint_id: str
    reason: str


def delivery_id(now: datetime, chance: bytes) -> str:
    """The id of a new delivery, its `webhook-id`; `chance` has `CHANCE_BYTES` random bytes."""
    return f"msg_{int(now.timestamp() * 1000):0{_TIME_DIGITS}x}{chance.hex()}"


async def take_sequences(connection: Connection, orders: Sequence[OfOrder]) -> dict[OfOrder, int]:
    """Take a sequence number for each of `orders`, which may repeat a pair; return each pair's last number.

    Call it in the caller's transaction, which then holds the pairs' rows until it ends.
    """
    counts = Counter(orders)
    cursor = await connection.execute(
        SQL["take_sequences"],
        {
            "destinations": [destination for destination, _ in counts],
            "order_ids": [order_id for _, order_id in counts],
            "counts": list(counts.values()),
        },
    )
    return {(destination, order_id): last for destination, order_id, last in await cursor.fetchall()}


async def insert_deliveries(connection: Connection, rows: Sequence[NewDelivery], now: datetime) -> None:
    """Insert rows whose sequences were taken in this transaction, and wake the senders at its commit."""
    columns = dict(
        zip(
            ("delivery_ids", "destinations", "seller_ids", "order_ids", "sequences", "types", "payloads"),
            map(list, zip(*rows, strict=True)),
            strict=True,
        )
    )
    await connection.execute(SQL["insert_deliveries"], {**columns, "now": now})
    await schedule(connection, [(row.destination, row.order_id) for row in rows])
    await connection.execute(SQL["wake_senders"])


async def lock_sequences(connection: Connection, orders: Sequence[OfOrder]) -> None:
    """Lock the rows of these pairs until the caller's transaction ends."""
    await connection.execute(SQL["lock_sequences"], _pairs(orders))


async def schedule(connection: Connection, orders: Sequence[OfOrder]) -> None:
    """Make the first open delivery of each pair due, if it is not yet; the caller must hold the pairs' rows."""
    await connection.execute(SQL["schedule_deliveries"], _pairs(orders))


async def take_deliveries(
    connection: Connection, channel: Channel, rooms: Mapping[str, int], room: int, limit: int, lease_seconds: float
) -> list[Taken]:
    """Lease up to `limit` due deliveries of a channel to the caller for `lease_seconds`. Commits.

    Of each destination at most as many as `rooms` has for it, or otherwise `room`.
    """
    cursor = await connection.execute(
        SQL["take_deliveries"],
        {
            "channel": channel.value,
            "destinations": list(rooms),
            "rooms": list(rooms.values()),
            "room": room,
            "limit": limit,
            "lease": lease_seconds,
        },
        binary=True,
    )
    return [Taken(*row) for row in await cursor.fetchall()]


async def read_next_due(connection: Connection, channel: Channel, full: Sequence[str]) -> float | None:
    """Seconds until a delivery is due at a destination not in `full`, negative if one is; None if there is none."""
    cursor = await connection.execute(SQL["read_next_due"], {"channel": channel.value, "full": list(full)})
    row = await cursor.fetchone()
    return None if row is None or row[0] is None else float(row[0])


async def release_deliveries(connection: Connection, taken: Sequence[Taken]) -> None:
    """Make leased deliveries that were not called due again. Commits."""
    await connection.execute(
        SQL["release_deliveries"],
        {"delivery_ids": [each.delivery_id for each in taken], "tries": [each.tries for each in taken]},
    )


async def finish_deliveries(
    connection: Connection, outcomes: Sequence[Outcome], failing_seconds_max: float
) -> list[Disabled]:
    """Write the results of tries, in the caller's transaction; return the endpoints that are thereby disabled.

    An endpoint without a success for `failing_seconds_max` is disabled.
    """
    orders = sorted({(each.taken.destination, each.taken.order_id) for each in outcomes})
    await lock_sequences(connection, orders)
    ids = [each.taken.delivery_id for each in outcomes]
    await connection.execute(
        SQL["finish_deliveries"],
        {
            "delivery_ids": ids,
            "states": [str(each.state) for each in outcomes],
            "afters": [each.after_seconds for each in outcomes],
            "tries": [each.taken.tries for each in outcomes],
            "are_counted": [each.is_counted for each in outcomes],
        },
    )
    await connection.execute(
        SQL["write_attempts"],
        {
            "delivery_ids": ids,
            "tried_ats": [each.tried_at for each in outcomes],
            "urls": [each.taken.url for each in outcomes],
            "seconds": [each.seconds for each in outcomes],
            "statuses": [each.status for each in outcomes],
            "errors": [each.error for each in outcomes],
            "answers": [each.answer for each in outcomes],
        },
    )
    await schedule(connection, orders)
    return await _note_endpoints(connection, outcomes, failing_seconds_max)


async def _note_endpoints(
    connection: Connection, outcomes: Sequence[Outcome], failing_seconds_max: float
) -> list[Disabled]:
    well: dict[str, bool] = {}
    for each in outcomes:
        arrived = each.state is DeliveryState.DELIVERED
        if not arrived or each.taken.is_failing:
            well.setdefault(each.taken.destination, False)
    for each in outcomes:
        if each.taken.destination in well and each.state is DeliveryState.DELIVERED:
            well[each.taken.destination] = True
    if not well:
        return []
    gone = {each.taken.destination for each in outcomes if each.is_gone}
    names = sorted(well)
    cursor = await connection.execute(
        SQL["note_endpoints"],
        {
            "endpoint_ids": names,
            "are_well": [well[name] for name in names],
            "are_gone": [name in gone for name in names],
            "failing_max": failing_seconds_max,
        },
    )
    return [Disabled(endpoint, reason) for endpoint, state, reason in await cursor.fetchall() if state == "disabled"]


async def count_due(connection: Connection, channel: Channel) -> tuple[int, float]:
    """The number of orders with a delivery under way, and the age of the oldest such delivery in seconds."""
    cursor = await connection.execute(SQL["count_due_deliveries"], {"channel": channel.value})
    row = await cursor.fetchone()
    return (int(row[0]), float(row[1])) if row is not None else (0, 0.0)


async def purge(connection: Connection, before: datetime) -> bool:
    """Delete some finished rows older than `before`; returns whether there may be more. Commits."""
    before_id = delivery_id(before, bytes(CHANCE_BYTES))
    deleted = await connection.execute(SQL["purge_deliveries"], {"before_id": before_id, "limit": _PURGED_MAX})
    forgotten = await connection.execute(SQL["purge_sequences"], {"days": SEQUENCES_KEPT_DAYS, "limit": _PURGED_MAX})
    return max(deleted.rowcount, forgotten.rowcount) >= _PURGED_MAX


def _pairs(orders: Sequence[OfOrder]) -> dict[str, list[str]]:
    return {
        "destinations": [destination for destination, _ in orders],
        "order_ids": [order_id for _, order_id in orders],
    }
