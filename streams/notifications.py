"""The notifications agent: writes a delivery for each event that somebody is told of, in the batch's transaction.

It sends nothing: senders take up what is committed (`streams/deliveries.py`). So no receiver, however slow, is in an
order's way, and a crash neither loses a delivery nor writes it twice.
"""

import os
from collections import Counter as Counts
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

from prometheus_client import Counter

from domain import email
from domain.buyer import buyer_key
from domain.delivery import Channel
from domain.webhook import wants
from runtime.metrics import REGISTRY
from runtime.settings import Settings
from schemas import catalog
from sinks.postgres import deliveries as ledger
from sinks.postgres import journal
from sinks.postgres.deliveries import CHANCE_BYTES, NewDelivery
from sinks.postgres.journal import JournalRow
from sinks.postgres.session import SQL, Connection, Session, believed
from sinks.postgres.webhooks import envelope
from streams.engine.app import Wired, run_agent
from streams.engine.batch import Batch
from streams.engine.dead_letters import dead_of
from streams.engine.work import Part
from streams.journal_rows import RelayedEvent, decode_relayed, foreign, read_journal
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


class _Decoded(NamedTuple):
    relayed: RelayedEvent
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
            now = self._now()
            decoded = [
                _Decoded(each, name)
                for each in decode_relayed(AGENT, self._topics[batch.topic], batch, prepared.dead, now)
                if (name := type_of(each.schema, each.event)) is not None
            ]
            endpoints = await _read_endpoints(connection, {each.relayed.event["seller_id"] for each in decoded})
            asked = [each for each in decoded if _who_wants(endpoints, each)]
            events = await read_journal(connection, batch, {each.relayed.seq for each in asked})
            mailable = await _read_mailable(connection, endpoints, asked)
        for each in asked:
            record, seq, schema, event = each.relayed
            payload, occurred_at = events.get(seq, (None, now))
            if payload is None or payload != record.value:
                prepared.dead.append(foreign(AGENT, batch, record, now))
                continue
            has_address = (event["seller_id"], event["order_id"]) in mailable
            to = [
                endpoint.endpoint_id
                for endpoint in _who_wants(endpoints, each)
                if endpoint.created_at <= occurred_at and (has_address or endpoint.channel != Channel.EMAIL)
            ]
            if to:
                told = tell(schema, event)
                prepared.wanted.append(Wanted(seq, event["seller_id"], event["order_id"], told, to))
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
        await journal.append(connection, dead_of(parts, now))

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
        for each in endpoints.get(decoded.relayed.event["seller_id"], ())
        if (email.wants if each.channel == Channel.EMAIL else wants)(each.events, decoded.type)
    ]


async def _read_mailable(
    connection: Connection, endpoints: Mapping[str, list[WantedEndpoint]], asked: Iterable[_Decoded]
) -> set[tuple[str, str]]:
    """Of the events that somebody is mailed about, the orders whose buyers have an address."""
    orders = {
        (each.relayed.event["seller_id"], each.relayed.event["order_id"])
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
