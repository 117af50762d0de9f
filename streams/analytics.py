"""The analytics agent: counts events into rows by seller and minute, in the transaction that moves its positions.

So each event is counted once, through any crash. It is counted where it happened, not where it came: a late one goes
to the row of its own minute.
"""

import asyncio
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

from prometheus_client import Counter

from domain.analytics import (
    Count,
    Counted,
    OrderAmount,
    Sold,
    count_issued,
    count_payment,
    count_placed,
    count_refused,
    count_step,
    sold_amounts,
    sold_pieces,
)
from domain.order import OrderIdentity
from runtime.exits import fatal
from runtime.metrics import REGISTRY
from runtime.outages import POSTGRES
from runtime.roles import READERS
from runtime.settings import Settings
from schemas import catalog
from sinks.postgres import analytics, journal
from sinks.postgres.analytics import Progress
from sinks.postgres.journal import JournalRow
from sinks.postgres.session import OUTAGES, SQL, Connection, Session, believed
from streams.engine.app import Wired, run_agent
from streams.engine.batch import Batch
from streams.engine.dead_letters import dead_of
from streams.engine.work import Part
from streams.journal_rows import RelayedEvent, decode_relayed, foreign, read_journal

AGENT = "analytics"
BATCH_BYTES_MAX = 4 * 1024 * 1024
#: No buyer waits for it, and a batch costs as much as dozens of events: at 0.4 s it took 1.6 times the CPU of 2 s.
_GATHER_S = 1.0
#: How often it looks whether a rebuild has moved its positions back.
_LOOK_S = 1.0
#: How often old counts are folded into quarters of an hour.
_FOLD_EVERY_S = 600.0

COUNTED = Counter(
    "gapless_analytics_events_total", "Events counted for sellers, by what they count as.", ["what"], registry=REGISTRY
)
ARCHIVED = Counter(
    "gapless_analytics_archived_total",
    "Events not counted because the journal's month is archived, so that nothing proves them.",
    registry=REGISTRY,
)


class Contribution(NamedTuple):
    """An event, and what it adds."""

    seq: int
    #: When the journal has it.
    at: datetime
    counts: list[Count]
    sold: list[Sold]


@dataclass(slots=True)
class PreparedAnalytics:
    """What a batch adds."""

    contributions: list[Contribution] = field(default_factory=list)
    dead: list[JournalRow] = field(default_factory=list)
    archived: int = 0
    #: What was added, to be counted once it is committed.
    added: list[Count] = field(default_factory=list)


def run(settings: Settings) -> None:
    """Run an analytics worker until SIGTERM."""
    # On a machine that it shares, what counts orders must not slow them.
    os.nice(5)
    caretaker = Caretaker(settings.postgres_url.get_secret_value(), lambda: datetime.now(UTC))

    def work(reads: Session) -> AnalyticsWork:
        return AnalyticsWork(READERS[AGENT], reads, lambda: datetime.now(UTC))

    run_agent(AGENT, settings, lambda _: Wired(work, BATCH_BYTES_MAX, gather_s=_GATHER_S, service=caretaker.run))


class AnalyticsWork:
    """Counts events that the journal has, each once."""

    agent = AGENT
    outages: tuple[type[Exception], ...] = ()

    def __init__(self, topics: Iterable[catalog.Topic], reads: Session, now: Callable[[], datetime]) -> None:
        """`reads` is free while a batch is prepared."""
        self._topics = {topic.name: topic for topic in topics}
        self._reads = reads
        self._now = now

    async def prepare(self, batch: Batch) -> PreparedAnalytics:
        """Decode, compare with the journal, and look up the amounts of orders whose state has changed."""
        prepared = PreparedAnalytics()
        now = self._now()
        decoded = list(decode_relayed(AGENT, self._topics[batch.topic], batch, prepared.dead, now))
        if not decoded:
            return prepared
        async with self._reads.connection() as connection:
            rows = await read_journal(connection, batch, {each.seq for each in decoded})
            # Looked up only where rows are missing, which is seldom.
            end_seq = await _read_end_seq(connection, batch) if any(each.seq not in rows for each in decoded) else 0
            orders = await analytics.read_order_amounts(
                connection,
                list(
                    {
                        OrderIdentity(each.event["seller_id"], each.event["order_id"]): None
                        for each in decoded
                        if each.schema is catalog.ORDER_STATE_CHANGED
                    }
                ),
            )
        for each in decoded:
            payload, at = rows.get(each.seq, (None, now))
            if payload is None and 0 < each.seq <= end_seq:
                prepared.archived += 1
            elif payload is None or payload != each.record.value:
                prepared.dead.append(foreign(AGENT, batch, each.record, now))
            else:
                counts, sold = _contribution(each, orders)
                prepared.contributions.append(Contribution(each.seq, at, counts, sold))
        return prepared

    def distrust(self, prepared: PreparedAnalytics) -> bool:
        """It trusts no hint."""
        return False

    async def apply(self, connection: Connection, parts: Sequence[Part[PreparedAnalytics]]) -> None:
        """Add what was not counted before."""
        counts: dict[int, list[Count]] = {}
        sold: dict[int, list[Sold]] = {}
        progress = []
        for part in parts:
            fresh = await _fresh(connection, part)
            if not fresh:
                continue
            topic, partition = part.batch.topic, part.batch.partition
            part.prepared.added = [count for each in fresh for count in each.counts]
            counts.setdefault(partition, []).extend(part.prepared.added)
            sold.setdefault(partition, []).extend(each for one in fresh for each in one.sold)
            progress.append(Progress(topic, partition, fresh[0].seq, fresh[-1].seq, fresh[0].at))
        await analytics.add(connection, counts, sold, progress)
        if any(part.prepared.dead for part in parts):
            await journal.append(connection, dead_of(parts, await believed(connection, self._now())))

    async def committed(self, batch: Batch, prepared: PreparedAnalytics) -> None:
        """Count for the operator."""
        for each in prepared.added:
            COUNTED.labels(each.what.value).inc()
        ARCHIVED.inc(prepared.archived)


class Caretaker:
    """Beside the batches: folds old counts, and ends the worker when a rebuild has moved its positions back."""

    def __init__(self, postgres_url: str, now: Callable[[], datetime]) -> None:
        self._session = Session(postgres_url)
        self._now = now
        self._seen: dict[tuple[str, int], int] = {}

    async def run(self) -> None:
        """Look after both until cancelled."""
        looks_left = 0
        try:
            while True:
                try:
                    async with self._session.connection() as connection:
                        if await self.has_moved_back(connection):
                            # It reads from where it was: only a start seeks to the positions.
                            fatal("the analytics are rebuilt: starting again, from the positions")
                        if looks_left == 0:
                            while await analytics.fold(connection, self._now()):
                                pass
                except OUTAGES as error:
                    POSTGRES.failed(error)
                else:
                    looks_left = (looks_left or int(_FOLD_EVERY_S / _LOOK_S)) - 1
                await asyncio.sleep(_LOOK_S)
        finally:
            await self._session.close()

    async def has_moved_back(self, connection: Connection) -> bool:
        """Whether a position stands before where it stood at an earlier look."""
        cursor = await connection.execute(SQL["read_positions"], {"agent": AGENT})
        positions = {(topic, partition): offset for topic, partition, offset in await cursor.fetchall()}
        moved_back = any(offset < self._seen.get(at, 0) for at, offset in positions.items())
        self._seen = positions
        return moved_back


def _contribution(decoded: RelayedEvent, orders: dict[OrderIdentity, OrderAmount]) -> tuple[list[Count], list[Sold]]:
    schema, event = decoded.schema, decoded.event
    if catalog.ORDER_PLACED.describes(event, schema):
        return count_placed(event), []
    if catalog.ORDER_REFUSED.describes(event, schema):
        return count_refused(event), []
    if catalog.ORDER_STATE_CHANGED.describes(event, schema):
        # The order is there: its row was committed with its first event.
        return count_step(event, orders[OrderIdentity(event["seller_id"], event["order_id"])]), []
    if catalog.PAYMENT_ATTEMPT_FINISHED.describes(event, schema):
        return count_payment(event), []
    if catalog.STOCK_CHANGED.describes(event, schema):
        return [], sold_pieces(event)
    if catalog.INVOICE_ISSUED.describes(event, schema):
        return count_issued(event, Counted.INVOICED), sold_amounts(event, 1)
    if catalog.CREDIT_NOTE_ISSUED.describes(event, schema):
        return count_issued(event, Counted.CREDITED), sold_amounts(event, -1)
    return [], []


async def _fresh(connection: Connection, part: Part[PreparedAnalytics]) -> list[Contribution]:
    """What of a batch was not counted before, in the order of the journal."""
    part.prepared.added = []
    if not part.prepared.contributions:
        return []
    last_seq = await analytics.read_counted_seq(connection, part.batch.topic, part.batch.partition)
    # The relay may have repeated them, also within the batch.
    fresh = {each.seq: each for each in part.prepared.contributions if each.seq > last_seq}
    return [fresh[seq] for seq in sorted(fresh)]


async def _read_end_seq(connection: Connection, batch: Batch) -> int:
    cursor = await connection.execute(SQL["read_journal_end_seq"], {"topic": batch.topic, "partition": batch.partition})
    row = await cursor.fetchone()
    return 0 if row is None else int(row[0])
