"""The stock agent: keeps what Redis knows of stock after what Postgres has decided, and puts it right where it is off.

Its effects are in Redis, where doing them again changes nothing. Redis away is no outage to wait for: what was missed
is copied from Postgres afterwards.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic
from typing import Any

from prometheus_client import Counter, Gauge

from domain.numbering import SELLER_ID
from domain.reservation import Sku
from runtime.metrics import REGISTRY
from runtime.settings import Settings
from schemas import catalog
from schemas.codec import DecodeError, decode, schema_of
from sinks.postgres import journal
from sinks.postgres.journal import JournalRow
from sinks.postgres.levels import read_obtainable, read_sellers_with_stock
from sinks.postgres.session import OUTAGES, Connection, Session
from sinks.redis import mirror
from sinks.redis.admission_call import RedisAwayError
from sinks.redis.mirror import SKUS_MAX, Event, Mirror, SkuChange
from sinks.redis.reconcile import GRACE_SECONDS, Drift, Reconciler
from streams.app import Wired, run_agent
from streams.batch import Batch, Record
from streams.dead_letters import dead_letter

_log = logging.getLogger(__name__)

AGENT = "stock"
BATCH_BYTES_MAX = 4 * 1024 * 1024

#: How often holds are ended, lines served and the copy's completeness looked at, where no gateway asks.
TICK_SECONDS = 1.0
#: How often Redis is compared with Postgres: what a lost change costs, at most.
COMPARE_SECONDS = 30.0

EVENTS = Counter(
    "gapless_stock_events_total", "Events for Redis, by whether it took them.", ["outcome"], registry=REGISTRY
)
REBUILDS = Counter("gapless_stock_rebuilds_total", "Sellers' stock copied to Redis in full.", registry=REGISTRY)
DRIFTS = Counter("gapless_stock_drifts_total", "SKUs found off in Redis, and put right.", registry=REGISTRY)
DRIFT_PIECES = Counter("gapless_stock_drift_pieces_total", "Pieces by which they were off.", registry=REGISTRY)
INCOMPLETE = Gauge(
    "gapless_stock_incomplete_sellers",
    "Sellers whose stock is not complete in Redis: all is admitted.",
    registry=REGISTRY,
)

#: Events of orders that say something about holds, and those that don't: stock has events of its own.
_TOLD: Mapping[catalog.Schema, Callable[[str], Event]] = {
    catalog.ORDER_PLACED: mirror.placed,
    catalog.ORDER_REFUSED: mirror.refused,
    catalog.ORDER_REJECTED: mirror.undecided,
    catalog.ORDER_CONFLICTED: mirror.conflicted,
}
_SILENT = frozenset(catalog.ORDER_EVENTS.schemas) - _TOLD.keys()

#: By how many pieces a change moves what is free, per piece of its quantity.
_FREED = {"reserved": -1, "retaken": -1, "released": 1, "shipped": 0, "adjusted": 1, "set": 1}

#: Of each number in a change of stock: no count of ours comes near, and doubles hold it.
_PIECES_MAX = 10**15

#: No buyer waits for it: what it gathers leaves the cores to the agents that somebody does wait for.
_PACE_S = (0.4, 0.5)


def run(settings: Settings) -> None:
    """Run a stock worker until SIGTERM."""
    kept = Mirror(settings.redis_url.get_secret_value())
    keeper = Keeper(kept, settings.postgres_url.get_secret_value())
    work = StockWork(kept, lambda: datetime.now(UTC), on_missed=keeper.compare_soon)
    wired = Wired(catalog.READERS[AGENT], work, BATCH_BYTES_MAX, pace_s=_PACE_S, service=keeper.run)
    run_agent(AGENT, settings, lambda _: wired)


@dataclass(slots=True)
class Prepared:
    """What of a batch could not be read."""

    dead: list[JournalRow] = field(default_factory=list)


class StockWork:
    """Applies events to Redis before the position moves: after a crash they are applied again."""

    agent = AGENT
    outages: tuple[type[Exception], ...] = ()

    def __init__(self, kept: Mirror, now: Callable[[], datetime], *, on_missed: Callable[[], None]) -> None:
        """`on_missed` is called when Redis did not take a batch's events, and so must be compared."""
        self._mirror = kept
        self._now = now
        self._on_missed = on_missed

    async def prepare(self, batch: Batch) -> Prepared:
        """Apply all of it to Redis."""
        prepared = Prepared()
        events: dict[str, list[Event]] = {}
        for record in batch.records:
            try:
                seller_id, event = _read(batch.topic, record)
            except DecodeError as error:
                prepared.dead.append(dead_letter(AGENT, batch, record, str(error), self._now()))
                continue
            if event is not None:
                events.setdefault(seller_id, []).append(event)
        for seller_id, its_events in events.items():
            try:
                await self._mirror.apply(seller_id, its_events)
                EVENTS.labels("applied").inc(len(its_events))
            except RedisAwayError:
                EVENTS.labels("missed").inc(len(its_events))
                self._on_missed()
        return prepared

    def distrust(self, prepared: Prepared) -> bool:
        """It trusts no hint."""
        return False

    async def apply(self, connection: Connection, batch: Batch, prepared: Prepared) -> None:
        """Keep what could not be read."""
        if prepared.dead:
            topic = catalog.DEAD_LETTERS.name
            first = await journal.take_seqs(connection, topic, batch.partition, len(prepared.dead))
            await journal.append(connection, topic, batch.partition, first, prepared.dead)

    async def committed(self, batch: Batch, prepared: Prepared) -> None:
        """Nothing: it is done already."""


class Keeper:
    """Beside the batches: copies what Redis lost, compares the rest, and lets time do its work.

    Several workers may each do all of it: what one has put right, the other finds right.
    """

    def __init__(
        self,
        kept: Mirror,
        postgres_url: str,
        *,
        tick_seconds: float = TICK_SECONDS,
        compare_seconds: float = COMPARE_SECONDS,
        grace_seconds: float = GRACE_SECONDS,
    ) -> None:
        self._mirror = kept
        self._ticks = Session(postgres_url)
        self._compares = Session(postgres_url)
        self._rebuilder = Reconciler(kept, self._ticks, grace_seconds=grace_seconds)
        self._comparer = Reconciler(kept, self._compares, grace_seconds=grace_seconds)
        self._tick_seconds = tick_seconds
        self._compare_seconds = compare_seconds
        self._missed = asyncio.Event()

    def compare_soon(self) -> None:
        """Redis has missed something: compare as soon as it is back."""
        self._missed.set()

    async def run(self) -> None:
        """Until it is cancelled. Outages are waited out."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._tick_for_ever())
                tasks.create_task(self._compare_for_ever())
        finally:
            await self._ticks.close()
            await self._compares.close()

    async def _tick_for_ever(self) -> None:
        while True:
            if not await self._outlasts(self._ticks, self._tick):
                INCOMPLETE.set(float("nan"))
            await asyncio.sleep(self._tick_seconds)

    async def _compare_for_ever(self) -> None:
        while True:
            # Not `wait_for`: cancelled in the moment that its event comes, it goes on as if nobody had.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._compare_seconds):
                    await self._missed.wait()
            self._missed.clear()
            if not await self._outlasts(self._compares, self._compare):
                self._missed.set()
                await asyncio.sleep(self._tick_seconds)

    async def _tick(self) -> None:
        incomplete = 0
        lines: list[Sku] = []
        for seller_id in await read_sellers_with_stock(await self._ticks.connection()):
            complete, run_id, its_lines = await self._mirror.tick(seller_id)
            if complete:
                lines += (Sku(seller_id, sku) for sku in its_lines)
                continue
            began = monotonic()
            if await self._rebuilder.rebuild(seller_id, run_id):
                REBUILDS.inc()
                _log.info("the stock of %s was copied to Redis in %.1f s", seller_id, monotonic() - began)
            else:
                incomplete += 1
        INCOMPLETE.set(incomplete)
        if lines:
            await self._limit(lines)

    async def _limit(self, lines: list[Sku]) -> None:
        """End the lines in which nobody can get anything any more, and shorten those that are too long."""
        of_seller: dict[str, list[tuple[str, int, int]]] = {}
        for first in range(0, len(lines), SKUS_MAX):
            found = await read_obtainable(await self._ticks.connection(), lines[first : first + SKUS_MAX])
            for (seller_id, sku), (pieces, version) in found.items():
                of_seller.setdefault(seller_id, []).append((sku, pieces, version))
        for seller_id, obtainables in of_seller.items():
            for first in range(0, len(obtainables), SKUS_MAX):
                await self._mirror.limit_lines(seller_id, obtainables[first : first + SKUS_MAX])

    async def _compare(self) -> None:
        for seller_id in await read_sellers_with_stock(await self._compares.connection()):
            for drift in await self._comparer.reconcile(seller_id, correct=True):
                report(drift)

    async def _outlasts(self, session: Session, work: Callable[[], Awaitable[None]]) -> bool:
        """Whether the work was done; if not, a service is away."""
        try:
            await work()
        except RedisAwayError as error:
            _log.warning("stock waits for Redis: %s", error)
            return False
        except OUTAGES as error:
            _log.warning("stock waits for Postgres: %s", next(iter(str(error).splitlines()), ""))
            await session.close()
            return False
        return True


def report(drift: Drift) -> None:
    """Say and count what was off."""
    DRIFTS.inc()
    DRIFT_PIECES.inc(drift.size)
    _log.warning(
        "Redis was off by %d pieces of %s/%s: it would have admitted %s, Postgres has %d: %s",
        drift.size,
        drift.seller_id,
        drift.sku,
        "anything" if drift.redis is None else drift.redis,
        drift.postgres,
        drift.why,
    )


def _read(topic: str, record: Record) -> tuple[str, Event | None]:
    """The seller, and what its stock in Redis must be told, if anything. Raises `DecodeError`."""
    if record.value is None:
        raise DecodeError("a tombstone: the record has no value")
    if topic == catalog.INVENTORY_EVENTS.name:
        return _read_change(record)
    schema = schema_of(record.value)
    if schema in _SILENT:
        return "", None
    _, body = decode(record.value, *_TOLD, bytes_max=catalog.ORDER_EVENTS.value_bytes_max)
    _check_ids(body)
    return body["seller_id"], _TOLD[schema](body["order_id"])


def _read_change(record: Record) -> tuple[str, Event]:
    _, body = decode(record.value, catalog.STOCK_CHANGED, bytes_max=catalog.INVENTORY_EVENTS.value_bytes_max)
    _check_ids(body)
    if body["cause"] not in _FREED:
        raise DecodeError(f"{body['cause'][:20]!r} is no cause of a change of stock")
    freed = _FREED[body["cause"]]
    changes = []
    for each in body["changes"]:
        # Redis counts in doubles, and refuses a whole batch for one number that it can't hold.
        if any(abs(each[name]) > _PIECES_MAX for name in ("quantity", "on_hand", "reserved", "version")):
            raise DecodeError(f"more than {_PIECES_MAX} pieces")
        free = each["on_hand"] - each["reserved"]
        changes.append(SkuChange(each["sku"], freed * each["quantity"], each["on_hand"], free, each["version"]))
    return body["seller_id"], mirror.stock_changed(body["order_id"], changes)


def _check_ids(body: Mapping[str, Any]) -> None:
    """Raise `DecodeError` for what nobody's keys in Redis can be made of."""
    if SELLER_ID.fullmatch(body["seller_id"]) is None:
        raise DecodeError("seller_id must be 1 to 40 of a-z, 0-9 and -")
