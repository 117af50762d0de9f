"""Orders, their lines and the stock they claim, in batches. Every call belongs to the caller's transaction."""

import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple, NotRequired, TypedDict

import msgspec

from domain.order import OrderIdentity, StepTaken
from domain.records import Parcel
from domain.reservation import Level, Sku
from domain.rules import SellerFacts
from sinks.postgres.session import SQL, Connection


class OrderRow(NamedTuple):
    """A row of `orders`, in the order of its columns there, less what is the same for a transaction."""

    seller_id: str
    order_id: str
    partition: int
    customer: str
    state: str
    history: str
    currency: str
    net_minor: int
    tax_minor: int
    gross_minor: int
    content_sha256: bytes
    payment_token: str
    invoice_request: bytes
    #: The shortage as JSON; None for a placed order.
    short: str | None
    source_offset: int


class LineRow(NamedTuple):
    """A row of `order_lines`; `sku` is empty for a line that claims no stock, such as shipping."""

    seller_id: str
    order_id: str
    line: int
    sku: str
    quantity: int


class LockedOrder(NamedTuple):
    """An order's row, locked."""

    partition: int
    state: str
    version: int
    #: Reason of the last step.
    reason: str
    currency: str
    gross_minor: int
    invoice_request: bytes
    #: Whether its history has a step to DELIVERED.
    was_delivered: bool


#: A step in the form of `orders.history`; `at` in microseconds since 1970, UTC.
HistoryStep = TypedDict(
    "HistoryStep",
    {
        "version": int,
        "from": str | None,
        "to": str,
        "reason": str,
        "detail": str,
        "at": int,
        "parcel": NotRequired[Parcel],
    },
)


async def read_known(
    connection: Connection, seller_ids: Iterable[str], look_up: Sequence[OrderIdentity]
) -> tuple[dict[str, SellerFacts], dict[OrderIdentity, bytes]]:
    """What the rules of tax ask of the sellers; of `look_up` the orders that stand, with their digests."""
    sellers = await connection.execute(SQL["read_seller_facts"], {"seller_ids": sorted(set(seller_ids))})
    orders = await connection.execute(SQL["read_order_digests"], _ids(look_up)) if look_up else None
    known_sellers = {row[0]: SellerFacts(*row[1:]) for row in await sellers.fetchall()}
    standing = {OrderIdentity(row[0], row[1]): row[2] for row in await orders.fetchall()} if orders else {}
    return known_sellers, standing


async def lock_stock(connection: Connection, skus: Collection[Sku]) -> dict[Sku, Level]:
    """The levels of `skus`. Their rows are locked in the order of their names until the transaction ends.

    A SKU without a row is left out.
    """
    if not skus:
        return {}
    seller_ids, names = zip(*sorted(skus), strict=True)
    cursor = await connection.execute(SQL["lock_stock"], {"seller_ids": list(seller_ids), "skus": list(names)})
    return {Sku(row[0], row[1]): Level(row[2], row[3], row[4]) for row in await cursor.fetchall()}


async def write_stock(connection: Connection, levels: Mapping[Sku, Level], changed: Collection[Sku]) -> None:
    """Write the levels of `changed`, whose rows are locked."""
    if not changed:
        return
    skus = sorted(changed)
    await connection.execute(
        SQL["write_stock"],
        {
            "seller_ids": [sku.seller_id for sku in skus],
            "skus": [sku.sku for sku in skus],
            "on_hands": [levels[sku].on_hand for sku in skus],
            "reserveds": [levels[sku].reserved for sku in skus],
            "versions": [levels[sku].version for sku in skus],
        },
    )


async def insert_orders(
    connection: Connection,
    rows: Sequence[OrderRow],
    lines: Sequence[LineRow],
    *,
    placed_at: datetime,
    hold_expires_at: datetime,
) -> None:
    """Insert; raises `psycopg.errors.UniqueViolation` if an order exists already."""
    names = (
        "seller_ids order_ids partitions customers states histories currencies nets taxes grosses digests tokens"
        " requests shorts offsets"
    ).split()
    columns = {name: list(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
    times = {"placed_at": placed_at, "hold_expires_at": hold_expires_at}
    await connection.execute(SQL["insert_orders"], {**times, **columns})
    if lines:
        names = ["seller_ids", "order_ids", "lines", "skus", "quantities"]
        columns = {name: list(column) for name, column in zip(names, zip(*lines, strict=True), strict=True)}
        await connection.execute(SQL["insert_order_lines"], columns)


async def lock_orders(connection: Connection, ids: Collection[OrderIdentity]) -> dict[OrderIdentity, LockedOrder]:
    """The orders of `ids` that exist. Their rows are locked in the order of their ids."""
    if not ids:
        return {}
    cursor = await connection.execute(SQL["lock_orders"], _ids(sorted(ids)))
    return {OrderIdentity(row[0], row[1]): LockedOrder(*row[2:]) for row in await cursor.fetchall()}


async def read_lines(
    connection: Connection, ids: Collection[OrderIdentity]
) -> dict[OrderIdentity, list[tuple[str, int, int]]]:
    """`(sku, quantity, refunded)` of each line, in the order of the lines."""
    if not ids:
        return {}
    cursor = await connection.execute(SQL["read_order_lines"], _ids(sorted(ids)))
    found: dict[OrderIdentity, list[tuple[str, int, int]]] = {}
    for seller_id, order_id, sku, quantity, refunded in await cursor.fetchall():
        found.setdefault(OrderIdentity(seller_id, order_id), []).append((sku, quantity, refunded))
    return found


async def write_states(connection: Connection, steps: Mapping[OrderIdentity, Sequence[StepTaken]]) -> None:
    """Append the steps to their orders' histories, and set state and version to the last one's."""
    taken = [(order, list(each)) for order, each in sorted(steps.items()) if each]
    if not taken:
        return
    await connection.execute(
        SQL["write_order_states"],
        {
            **_ids([order for order, _ in taken]),
            "states": [each[-1].to_state.value for _, each in taken],
            "versions": [each[-1].version for _, each in taken],
            "histories": [history_text(each) for _, each in taken],
        },
    )


async def read_expired(connection: Connection, now: datetime, limit: int) -> list[OrderIdentity]:
    """Orders whose hold has expired before their payment was known; oldest first, not locked."""
    cursor = await connection.execute(SQL["read_expired_holds"], {"now": now, "limit": limit})
    return [OrderIdentity(*row) for row in await cursor.fetchall()]


async def read_attempts(
    connection: Connection, attempts: Iterable[tuple[OrderIdentity, str]]
) -> dict[tuple[OrderIdentity, str], str]:
    """The states of the payment attempts `(order, request id)`; those that don't exist are absent."""
    asked = list(attempts)
    cursor = await connection.execute(
        SQL["read_attempt_states"],
        {**_ids([order for order, _ in asked]), "request_ids": [request_id for _, request_id in asked]},
    )
    return {(OrderIdentity(row[0], row[1]), row[2]): row[3] for row in await cursor.fetchall()}


def history_text(steps: Iterable[StepTaken]) -> str:
    """Steps as the JSON in `orders.history`."""
    return msgspec.json.encode([_history_step(each) for each in steps]).decode()


def _history_step(step: StepTaken) -> HistoryStep:
    entry: HistoryStep = {
        "version": step.version,
        "from": None if step.from_state is None else step.from_state.value,
        "to": step.to_state.value,
        "reason": step.reason,
        "detail": step.detail,
        "at": step.at,
    }
    if step.parcel is not None:
        entry["parcel"] = step.parcel
    return entry


def _ids(orders: Iterable[OrderIdentity]) -> dict[str, list[str]]:
    for_sellers, for_orders = itertools.tee(orders)
    return {
        "seller_ids": [order.seller_id for order in for_sellers],
        "order_ids": [order.order_id for order in for_orders],
    }
