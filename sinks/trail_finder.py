"""Finds the trail of an order: decisions are in Postgres, requests in Kafka, including unread ones."""

import asyncio
from collections.abc import Collection, Iterator, Sequence

from domain.order import OrderIdentity
from runtime.kafka import TopicError
from runtime.records import KafkaRecord, KeySearch, Partition, RecordPlace, RecordReader
from schemas import catalog
from schemas.codec import DecodeError, decode
from schemas.placement import partition_of
from sinks.postgres.session import SQL, Connection
from sinks.postgres.trail_rows import (
    EVENTS_MAX,
    MATCHES_MAX,
    Progress,
    TrailRows,
    find_orders,
    find_orders_of_buyer,
    read_journal,
    read_progress,
    read_rows,
)
from sinks.trail import FoundTrails
from sinks.trail_assembly import READERS_OF_REQUESTS, REQUESTS, UnreadRequest, assemble
from sinks.trail_events import UNKNOWN, OrderEvents, read_events

#: Records per partition that a search for unread requests reads, about 2 µs each.
SEARCHED_MAX = 200_000
#: Time limit for Kafka's answer.
SECONDS_MAX = 5.0
#: Requests whose time is read from Kafka, over all orders found.
_REQUESTS_READ_MAX = 64


async def find_trails(
    connection: Connection, reader: RecordReader, wanted: str, seller_id: str | None = None
) -> FoundTrails:
    """Find orders by order id, document number or a buyer's e-mail address, of one seller or of all.

    `reader` must have no other user meanwhile. Without Kafka, Postgres' part is returned, with the gap named. Raises
    one of `session.OUTAGES`.
    """
    async with connection.transaction():
        await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        identities = await find_orders(connection, wanted, seller_id)
        if "@" in wanted:
            identities += await find_orders_of_buyer(connection, wanted, seller_id)
        order_ids = list(dict.fromkeys([wanted, *(each.order_id for each in identities)]))
        rows = {each.identity: each for each in await read_rows(connection, identities)}
        journal = await read_journal(connection, order_ids)
        progress = await read_progress(connection)
        recorded = await (await connection.execute(SQL["read_partitions"])).fetchone()
    gaps = []
    if len(identities) >= MATCHES_MAX:
        gaps.append(f"only {MATCHES_MAX} orders are shown, of a buyer the latest: name the seller, or an order id")
    gaps += [f"only {EVENTS_MAX} events of {each} are shown" for each in order_ids if len(journal[each]) >= EVENTS_MAX]
    events: dict[OrderIdentity, OrderEvents] = {}
    for order_id in order_ids:
        events |= read_events(order_id, journal[order_id])
    keys = {order_id.encode() for order_id in order_ids}
    places = [place for each in rows.values() for place in _handled(each)]
    places += [command.place for each in events.values() for command in each.commands]
    # Before the first `gapless topics` there are no topics to search.
    starts = {} if recorded is None else _starts(keys, recorded[0], progress)
    requests: dict[RecordPlace, KafkaRecord] = {}
    search = KeySearch([], {})
    try:
        requests, search = await asyncio.to_thread(
            lambda: (reader.read(places[:_REQUESTS_READ_MAX]), reader.search(starts, keys))
        )
    except TopicError as error:
        gaps.append(f"requests are not shown as Kafka has them: {error}")
    for (topic, partition), offset in sorted(search.unread.items()):
        first = starts[topic, partition]
        gaps.append(f"{topic}/{partition} was searched for unread requests from offset {first} to {offset - 1} only")
    unread = _by_order(search.records)
    found = [
        assemble(
            rows.get(each, TrailRows(each)),
            events.get(each, OrderEvents()),
            requests,
            unread.get(each, ()),
            progress,
        )
        for each in dict.fromkeys([*rows, *sorted({*events, *unread})])
        if seller_id in (None, each.seller_id) or each.seller_id == UNKNOWN
    ]
    return FoundTrails(found, gaps)


def _starts(keys: Collection[bytes], partitions: int, progress: Progress) -> dict[Partition, int]:
    """The positions from which unread requests of these orders are searched."""
    numbers = {partition_of(key, partitions) for key in keys}
    return {
        (topic, partition): progress.positions.get((agent, topic, partition), 0)
        for topic, agent in READERS_OF_REQUESTS.items()
        for partition in numbers
    }


def _handled(rows: TrailRows) -> Iterator[RecordPlace]:
    """The positions of the order's requests that the tables name."""
    if rows.order is not None:
        yield rows.order.request
    yield from (each.request for each in rows.numbered)
    yield from (each.request for each in rows.refused)


def _by_order(records: Sequence[KafkaRecord]) -> dict[OrderIdentity, list[UnreadRequest]]:
    found: dict[OrderIdentity, list[UnreadRequest]] = {}
    for record in records:
        topic = catalog.TOPICS[record.place.topic]
        try:
            schema, body = decode(record.value, *topic.schemas, bytes_max=topic.value_bytes_max)
        except DecodeError:
            # It will become a dead letter. Its order is unknown.
            continue
        what, detail = REQUESTS[schema], ""
        if catalog.ORDER_COMMAND.describes(body, schema):
            what, detail = f"command {body['action']}", body["reason"]
        identity = OrderIdentity(str(body["seller_id"]), str(body["order_id"]))
        found.setdefault(identity, []).append(UnreadRequest(record, what, detail))
    return found
