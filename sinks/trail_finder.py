"""Finds the trail of an order: Postgres has what was decided, Kafka the requests, also those not read yet."""

import asyncio
from collections.abc import Collection, Iterator, Sequence

from domain.order import OrderIdentity
from runtime.kafka import TopicError
from runtime.records import KafkaRecord, KeySearch, Partition, RecordPlace, RecordReader
from schemas import catalog
from schemas.codec import DecodeError, decode
from schemas.placement import partition_of
from sinks.postgres.session import SQL, Connection
from sinks.postgres.trail_rows import MATCHES_MAX, Progress, TrailRows, find_orders, read_progress, read_rows
from sinks.trail import FoundTrails
from sinks.trail_assembly import READERS_OF_REQUESTS, REQUESTS, UnreadRequest, assemble

#: Records of a partition that a search for unread requests looks at, some 2 µs each.
SEARCHED_MAX = 200_000
#: How long Kafka may take for an answer.
SECONDS_MAX = 5.0
#: Requests whose time is read from Kafka, of all orders that one question finds.
_REQUESTS_READ_MAX = 64


async def find_trails(
    connection: Connection, reader: RecordReader, wanted: str, seller_id: str | None = None
) -> FoundTrails:
    """The orders with this order id or a document of this number, of one seller or of all.

    Nobody else uses `reader` meanwhile. Without Kafka, what Postgres has is returned, and the gap named. Raises one of
    `session.OUTAGES`.
    """
    async with connection.transaction():
        await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        identities = await find_orders(connection, wanted, seller_id)
        rows = await read_rows(connection, identities)
        progress = await read_progress(connection)
        recorded = await (await connection.execute(SQL["read_partitions"])).fetchone()
    gaps = []
    if len(identities) == MATCHES_MAX:
        gaps.append(f"only {MATCHES_MAX} orders are shown: name the seller")
    keys = {wanted.encode(), *(each.order_id.encode() for each in identities)}
    places = list(dict.fromkeys(place for each in rows for place in _places(each)))[:_REQUESTS_READ_MAX]
    # Before `gapless topics` there is nothing to look for.
    starts = {} if recorded is None else _starts(keys, recorded[0], progress)
    requests: dict[RecordPlace, KafkaRecord] = {}
    search = KeySearch([], {})
    try:
        requests, search = await asyncio.to_thread(lambda: (reader.read(places), reader.search(starts, keys)))
    except TopicError as error:
        gaps.append(f"requests are not shown as Kafka has them: {error}")
    for (topic, partition), offset in sorted(search.unread.items()):
        first = starts[topic, partition]
        gaps.append(f"{topic}/{partition} was searched for unread requests from offset {first} to {offset - 1} only")
    unread = _by_order(search.records, seller_id)
    known = {each.identity: each for each in rows}
    found = [known.get(each) or TrailRows(each) for each in dict.fromkeys([*known, *unread])]
    return FoundTrails([assemble(each, requests, unread.get(each.identity, ()), progress) for each in found], gaps)


def _starts(keys: Collection[bytes], partitions: int, progress: Progress) -> dict[Partition, int]:
    """Where requests of these orders that nobody has read yet begin."""
    numbers = {partition_of(key, partitions) for key in keys}
    return {
        (topic, partition): progress.positions.get((agent, topic, partition), 0)
        for topic, agent in READERS_OF_REQUESTS.items()
        for partition in numbers
    }


def _places(rows: TrailRows) -> Iterator[RecordPlace]:
    """Where the order's requests stand that were handled."""
    if rows.order is not None:
        yield rows.order.request
    yield from (each.request for each in rows.numbered)
    yield from (each.request for each in rows.refused)


def _by_order(records: Sequence[KafkaRecord], seller_id: str | None) -> dict[OrderIdentity, list[UnreadRequest]]:
    found: dict[OrderIdentity, list[UnreadRequest]] = {}
    for record in records:
        topic = catalog.TOPICS[record.place.topic]
        try:
            schema, body = decode(record.value, *topic.schemas, bytes_max=topic.value_bytes_max)
        except DecodeError:
            # It will be a dead letter. Whose order it is can't be told.
            continue
        what, detail = REQUESTS[schema], ""
        if catalog.ORDER_COMMAND.describes(body, schema):
            what, detail = f"command {body['action']}", body["reason"]
        identity = OrderIdentity(str(body["seller_id"]), str(body["order_id"]))
        if seller_id in (None, identity.seller_id):
            found.setdefault(identity, []).append(UnreadRequest(record, what, detail))
    return found
