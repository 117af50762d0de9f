"""Analytics: what the agent counts, in its transaction; and beginning again."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import LiteralString, NamedTuple

from domain.analytics import MINUTES_KEPT, Count, OrderAmount, Sold
from domain.order import OrderIdentity
from sinks.postgres.session import SQL, Connection, believed

#: Rows that are folded in one transaction.
_FOLDED_MAX = 5_000

_RESET_POSITIONS: LiteralString = """
    UPDATE positions p SET next_offset = first.next_offset
    FROM unnest(%(topics)b::text[], %(partitions)b::int[], %(offsets)b::bigint[])
        AS first (topic, partition, next_offset)
    WHERE p.agent = %(agent)s AND p.topic = first.topic AND p.partition = first.partition
"""


class Progress(NamedTuple):
    """The events of a partition that a transaction counts."""

    topic: str
    partition: int
    first_seq: int
    last_seq: int
    #: When the first one happened.
    first_at: datetime


async def read_order_amounts(
    connection: Connection, orders: Sequence[OrderIdentity]
) -> dict[OrderIdentity, OrderAmount]:
    """What these orders come to; those that there are not are absent."""
    if not orders:
        return {}
    sellers, ids = zip(*orders, strict=True)
    cursor = await connection.execute(SQL["read_order_amounts"], {"seller_ids": list(sellers), "order_ids": list(ids)})
    return {
        OrderIdentity(seller_id, order_id): OrderAmount(currency, gross)
        for seller_id, order_id, currency, gross in await cursor.fetchall()
    }


async def read_counted_seq(connection: Connection, topic: str, partition: int) -> int:
    """The last event of a partition that was counted; 0 if none was."""
    cursor = await connection.execute(SQL["read_counted_seq"], {"topic": topic, "partition": partition})
    row = await cursor.fetchone()
    return 0 if row is None else int(row[0])


async def add(
    connection: Connection,
    counts: Mapping[int, Iterable[Count]],
    sold: Mapping[int, Iterable[Sold]],
    progress: Iterable[Progress],
) -> None:
    """Add what events of some partitions count as, and that they were counted."""
    events: Counter[tuple[int, str, int, str, str]] = Counter()
    amounts: Counter[tuple[int, str, int, str, str]] = Counter()
    for partition, its_counts in counts.items():
        for each in its_counts:
            key = (partition, each.seller_id, each.minute, each.currency, each.what.value)
            events[key] += 1
            amounts[key] += each.amount_minor
    if events:
        keys = sorted(events)
        partitions, sellers, minutes, currencies, whats = map(list, zip(*keys, strict=True))
        await connection.execute(
            SQL["add_counts"],
            {
                "partitions": partitions,
                "seller_ids": sellers,
                "minutes": minutes,
                "currencies": currencies,
                "whats": whats,
                "events": [events[key] for key in keys],
                "amounts": [amounts[key] for key in keys],
            },
        )
    await _add_sold(connection, sold)
    for place in progress:
        await connection.execute(SQL["write_counted_seq"], place._asdict())


async def _add_sold(connection: Connection, sold: Mapping[int, Iterable[Sold]]) -> None:
    pieces: Counter[tuple[int, str, int, str, str]] = Counter()
    nets: Counter[tuple[int, str, int, str, str]] = Counter()
    for partition, its_sold in sold.items():
        for each in its_sold:
            key = (partition, each.seller_id, each.minute, each.sku, each.currency)
            pieces[key] += each.pieces
            nets[key] += each.net_minor
    if not pieces:
        return
    keys = sorted(pieces)
    partitions, sellers, minutes, skus, currencies = map(list, zip(*keys, strict=True))
    await connection.execute(
        SQL["add_sold"],
        {
            "partitions": partitions,
            "seller_ids": sellers,
            "minutes": minutes,
            "skus": skus,
            "currencies": currencies,
            "pieces": [pieces[key] for key in keys],
            "nets": [nets[key] for key in keys],
        },
    )


async def fold(connection: Connection, now: datetime) -> int:
    """Fold some of the counts that are no longer kept by the minute into their quarters; returns how many rows."""
    async with connection.transaction():
        before = int((await believed(connection, now) - MINUTES_KEPT).timestamp()) // 60
        # By whole quarters: one that is half folded would count right, but show as minutes that are not.
        cursor = await connection.execute(SQL["fold_counts"], {"before": before - before % 15, "limit": _FOLDED_MAX})
        row = await cursor.fetchone()
    return 0 if row is None else int(row[0])


async def begin_again(connection: Connection, agent: str, offsets: Mapping[tuple[str, int], int]) -> None:
    """Delete all counts, and set the agent's positions to these offsets, in one transaction.

    A batch that was under way finds its position moved back and writes nothing.
    """
    async with connection.transaction():
        # The positions first, as in every transaction: what a worker has not committed by then it can't commit.
        await connection.execute(
            "SELECT FROM positions WHERE agent = %s ORDER BY topic, partition FOR UPDATE", (agent,)
        )
        await connection.execute(
            _RESET_POSITIONS,
            {
                "agent": agent,
                "topics": [topic for topic, _ in offsets],
                "partitions": [partition for _, partition in offsets],
                "offsets": list(offsets.values()),
            },
        )
        # Not TRUNCATE, which would show an audit's snapshot no rows.
        await connection.execute("DELETE FROM analytics_counts")
        await connection.execute("DELETE FROM analytics_skus")
        await connection.execute("DELETE FROM analytics_progress")
