"""The notifications agent: writes a delivery for each event that somebody is told of, in the batch's transaction.

It sends nothing: senders take up what is committed (`streams/deliveries.py`). So no receiver, however slow, is in an
order's way, and a crash neither loses a delivery nor writes it twice.
"""

import os
from collections import Counter as Counts
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

from prometheus_client import Counter

from domain import email
from domain.buyer import buyer_key
from domain.dead_letter import DeadLetterReason
from domain.delivery import Channel
from domain.numbering import SELLER_ID
from domain.webhook import wants
from runtime.metrics import REGISTRY
from runtime.settings import Settings
from schemas import catalog
from schemas.codec import DecodeError, decode
from sinks.postgres import deliveries as ledger
from sinks.postgres import journal
from sinks.postgres.deliveries import CHANCE_BYTES, NewDelivery
from sinks.postgres.journal import JournalRow
from sinks.postgres.session import SQL, Connection, Session, believed
from sinks.postgres.webhooks import envelope
from streams.engine.app import Wired, run_agent
from streams.engine.batch import Batch, Record
from streams.engine.dead_letters import dated, dead_letter
from streams.engine.work import Part
from streams.journal_rows import read_journal, seq_of
from streams.webhook_events import Told, tell, type_of

AGENT = "notifications"
BATCH_BYTES_MAX = 4 * 1024 * 1024
#: No buyer waits for it: what it gathers leaves the cores to the agents that somebody does wait for.
_GATHER_S = 0.4

MADE = Counter("gapless_deliveries_made_total", "Deliveries written, by type of event.", ["type"], registry=REGISTRY)


class WantedEndpoint(NamedTuple):
    """An endpoint that deliveries are written for."""

    endpoint_id: str
    seller_id: str
    channel: str
    events: list[str]
    #: What happened before is not sent to it.
    created_at: datetime


class Wanted(NamedTuple):
    """An event that is sent to some endpoints."""

    seq: int
    seller_id: str
    order_id: str
    told: Told
    endpoint_ids: list[str]


@dataclass(slots=True)
class PreparedNotifications:
    """What of a batch is sent to whom."""

    wanted: list[Wanted] = field(default_factory=list)
    dead: list[JournalRow] = field(default_factory=list)
    #: Types of the deliveries that were written, to be counted once they are committed.
    made: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Decoded:
    record: Record
    schema: catalog.Schema[Any]
    event: Mapping[str, Any]
    type: str


def run(settings: Settings) -> None:
    """Run a notifications worker until SIGTERM."""
    # On a machine that it shares, what tells of orders must not slow them.
    os.nice(5)
    topics = (catalog.ORDER_EVENTS, catalog.INVOICE_EVENTS)

    def work(reads: Session) -> NotificationsWork:
        return NotificationsWork(topics, reads, lambda: datetime.now(UTC), os.urandom)

    run_agent(AGENT, settings, lambda _: Wired(work, BATCH_BYTES_MAX, gather_s=_GATHER_S))


class NotificationsWork:
    """Decides by the journal's own bytes which endpoints an event is sent to, and writes the deliveries."""

    agent = AGENT
    outages: tuple[type[Exception], ...] = ()

    def __init__(
        self,
        topics: Iterable[catalog.Topic],
        reads: Session,
        now: Callable[[], datetime],
        chance: Callable[[int], bytes],
    ) -> None:
        """`reads` is free while a batch is prepared; `chance` returns so many random bytes."""
        self._topics = {topic.name: topic for topic in topics}
        self._reads = reads
        self._now = now
        self._chance = chance

    async def prepare(self, batch: Batch) -> PreparedNotifications:
        """Decode, and look up who wants to know. Where no seller has an endpoint, not even that."""
        prepared = PreparedNotifications()
        async with self._reads.connection() as connection:
            cursor = await connection.execute(SQL["has_webhook_endpoints"])
            if await cursor.fetchone() == (False,):
                return prepared
            decoded = list(self._decode(batch, prepared))
            endpoints = await _read_endpoints(connection, {each.event["seller_id"] for each in decoded})
            asked = [each for each in decoded if _who_wants(endpoints, each)]
            events = await read_journal(connection, batch, (seq_of(each.record) for each in asked))
            mailable = await _read_mailable(connection, endpoints, asked)
        now = self._now()
        for each in asked:
            seq = seq_of(each.record)
            payload, occurred_at = events.get(seq, (None, now))
            # Who can write to the topic must not be able to tell sellers anything: the journal has the last word.
            if payload is None or payload != each.record.value:
                error = "the journal has no such event: it is not the relay's"
                prepared.dead.append(dead_letter(AGENT, batch, each.record, DeadLetterReason.FOREIGN, error, now))
                continue
            has_address = (each.event["seller_id"], each.event["order_id"]) in mailable
            to = [
                endpoint.endpoint_id
                for endpoint in _who_wants(endpoints, each)
                if endpoint.created_at <= occurred_at and (has_address or endpoint.channel != Channel.EMAIL)
            ]
            if to:
                told = tell(each.schema, each.event)
                prepared.wanted.append(Wanted(seq, each.event["seller_id"], each.event["order_id"], told, to))
        return prepared

    def distrust(self, prepared: PreparedNotifications) -> bool:
        """It trusts no hint."""
        return False

    async def apply(self, connection: Connection, parts: Sequence[Part[PreparedNotifications]]) -> None:
        """Write the deliveries, each with its place in the sequence of its order."""
        is_empty = not any(part.prepared.wanted or part.prepared.dead for part in parts)
        now = self._now() if is_empty else await believed(connection, self._now())
        fresh = [(part, await _fresh(connection, part)) for part in parts]
        await self._write(connection, fresh, now)
        output: dict[journal.OutputKey, list[JournalRow]] = {}
        for part in parts:
            # A partition of two topics has its dead letters in one output.
            rows = output.setdefault((catalog.DEAD_LETTERS.name, part.batch.partition), [])
            rows += dated(part.prepared.dead, now)
        await journal.append(connection, output)

    async def committed(self, batch: Batch, prepared: PreparedNotifications) -> None:
        """Count."""
        for name in prepared.made:
            MADE.labels(name).inc()

    async def _write(
        self,
        connection: Connection,
        fresh: Sequence[tuple[Part[PreparedNotifications], Sequence[Wanted]]],
        now: datetime,
    ) -> None:
        orders = [(endpoint, each.order_id) for _, events in fresh for each in events for endpoint in each.endpoint_ids]
        if not orders:
            return
        # Last ones after all of them: the first of each pair is that less their number, plus one.
        last = await ledger.take_sequences(connection, orders)
        left = Counts(orders)
        rows = []
        for part, events in fresh:
            for each in events:
                for endpoint in each.endpoint_ids:
                    pair = (endpoint, each.order_id)
                    left[pair] -= 1
                    sequence = last[pair] - left[pair]
                    payload = envelope(each.told.type, each.told.at, sequence, each.told.data)
                    made = ledger.delivery_id(now, self._chance(CHANCE_BYTES))
                    rows.append(
                        NewDelivery(made, endpoint, each.seller_id, each.order_id, sequence, each.told.type, payload)
                    )
                    part.prepared.made.append(each.told.type)
        await ledger.insert_deliveries(connection, rows, now)
        for part, events in fresh:
            if events:
                await connection.execute(SQL["write_notified_seq"], {**_place(part.batch), "seq": events[-1].seq})

    def _decode(self, batch: Batch, prepared: PreparedNotifications) -> Iterable[_Decoded]:
        topic = self._topics[batch.topic]
        for record in batch.records:
            try:
                schema, event = decode(record.value, *topic.schemas, bytes_max=topic.value_bytes_max)
                body: Mapping[str, Any] = event
                if SELLER_ID.fullmatch(body["seller_id"]) is None:
                    raise DecodeError("seller_id must be 1 to 40 of a-z, 0-9 and -")
            except DecodeError as error:
                prepared.dead.append(
                    dead_letter(AGENT, batch, record, DeadLetterReason.UNDECODABLE, str(error), self._now())
                )
                continue
            name = type_of(schema, body)
            if name is not None:
                yield _Decoded(record, schema, body, name)


def _place(batch: Batch) -> dict[str, object]:
    return {"topic": batch.topic, "partition": batch.partition}


async def _fresh(connection: Connection, part: Part[PreparedNotifications]) -> list[Wanted]:
    """What of a batch was not notified of before, in the order of the journal."""
    part.prepared.made = []
    if not part.prepared.wanted:
        return []
    cursor = await connection.execute(SQL["read_notified_seq"], _place(part.batch))
    row = await cursor.fetchone()
    last_seq = 0 if row is None else int(row[0])
    # The relay may have repeated them, also within the batch.
    fresh: dict[int, Wanted] = {}
    for each in part.prepared.wanted:
        if each.seq > last_seq:
            fresh.setdefault(each.seq, each)
    return [fresh[seq] for seq in sorted(fresh)]


async def _read_endpoints(connection: Connection, seller_ids: set[str]) -> dict[str, list[WantedEndpoint]]:
    """The endpoints of these sellers, by seller."""
    found: dict[str, list[WantedEndpoint]] = {}
    if seller_ids:
        cursor = await connection.execute(SQL["read_wanted_endpoints"], {"seller_ids": sorted(seller_ids)})
        for row in await cursor.fetchall():
            endpoint = WantedEndpoint(*row)
            found.setdefault(endpoint.seller_id, []).append(endpoint)
    return found


def _who_wants(endpoints: Mapping[str, list[WantedEndpoint]], decoded: _Decoded) -> list[WantedEndpoint]:
    return [
        each
        for each in endpoints.get(decoded.event["seller_id"], ())
        if (email.wants if each.channel == Channel.EMAIL else wants)(each.events, decoded.type)
    ]


async def _read_mailable(
    connection: Connection, endpoints: Mapping[str, list[WantedEndpoint]], asked: Iterable[_Decoded]
) -> set[tuple[str, str]]:
    """Of the events that somebody is mailed about, the orders whose buyers have an address."""
    orders = {
        (each.event["seller_id"], each.event["order_id"])
        for each in asked
        if any(endpoint.channel == Channel.EMAIL for endpoint in _who_wants(endpoints, each))
    }
    if not orders:
        return set()
    sellers, ids = zip(*sorted(orders), strict=True)
    cursor = await connection.execute(
        SQL["read_mailable"], {"seller_ids": list(sellers), "order_ids": list(ids), "no_address": buyer_key("")}
    )
    return {(seller_id, order_id) for seller_id, order_id in await cursor.fetchall()}
