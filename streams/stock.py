"""The stock agent: keeps what Redis knows of stock after what Postgres has decided, and puts it right where it is off.

Its effects are in Redis, where doing them again changes nothing. For stock Redis away is no outage to wait for: what
was missed is copied from Postgres afterwards. A product that was changed is marked in the catalogue's cache, and for
that it waits: a mark that was missed would leave an old price for an hour.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from time import monotonic
from typing import Any
from uuid import uuid4

from prometheus_client import Counter, Gauge

from admission import mirror
from admission.mirror import SKUS_MAX, Mirror, MirrorEvent, StockMove
from admission.product_cache import ProductCache
from admission.reconcile import GRACE_SECONDS, Drift, Reconciler
from admission.unavailable import RedisUnavailableError
from domain.dead_letter import DeadLetterReason
from domain.numbering import SELLER_ID
from domain.product import check_product_id
from domain.reservation import Sku
from runtime.metrics import REGISTRY
from runtime.outages import POSTGRES
from runtime.settings import Settings
from schemas import catalog
from schemas.codec import DecodeError, decode, schema_of
from sinks.postgres import journal
from sinks.postgres.journal import JournalRow
from sinks.postgres.levels import read_obtainable, read_sellers_with_stock
from sinks.postgres.session import OUTAGES, Connection, Session, believed
from streams.engine.app import Wired, run_agent
from streams.engine.batch import Batch, Record
from streams.engine.dead_letters import dead_letter, dead_of
from streams.engine.work import Part

_log = logging.getLogger(__name__)

AGENT = "stock"
BATCH_BYTES_MAX = 4 * 1024 * 1024

#: How often holds are ended, waitlists served and the copy's completeness looked at, where no gateway asks.
TICK_SECONDS = 1.0
#: Sellers that a tick takes over from those that are due; the rest is left to others, and to the next.
DUE_MAX = 1_000
LOOKS_AT_ONCE = 8
#: How often Redis is compared with Postgres: what a lost change costs, at most.
COMPARE_SECONDS = 30.0

EVENTS = Counter(
    "gapless_stock_events_total",
    "Stock events by whether Redis accepted them; missed ones are copied later.",
    ["outcome"],
    registry=REGISTRY,
)
REBUILDS = Counter("gapless_stock_rebuilds_total", "Sellers' stock copied to Redis in full.", registry=REGISTRY)
DRIFTS = Counter("gapless_stock_drifts_total", "SKUs that differed in Redis and were corrected.", registry=REGISTRY)
DRIFT_PIECES = Counter("gapless_stock_drift_pieces_total", "Pieces by which SKUs differed in Redis.", registry=REGISTRY)
INCOMPLETE = Gauge(
    "gapless_stock_incomplete_sellers",
    "Sellers whose stock Redis lacks in part, so that all is admitted. Take `max`.",
    registry=REGISTRY,
)

#: Events of orders that say something about holds, and those that don't: stock has events of its own.
_TOLD: Mapping[catalog.Schema[Any], Callable[[str], MirrorEvent]] = {
    catalog.ORDER_PLACED: mirror.placed,
    catalog.ORDER_REFUSED: mirror.refused,
    catalog.ORDER_REJECTED: mirror.undecided,
    catalog.ORDER_CONFLICTED: mirror.conflicted,
}
#: Topics after whose events copies of products are no longer right.
_OF_PRODUCTS = (catalog.CATALOGUE_EVENTS.name, catalog.REVIEW_EVENTS.name)
_SILENT = frozenset(catalog.ORDER_EVENTS.schemas) - _TOLD.keys()

#: By how many pieces a change moves what is free, per piece of its quantity.
_FREED = {"reserved": -1, "retaken": -1, "released": 1, "shipped": 0, "adjusted": 1, "set": 1}

#: Of each number in a change of stock: no count of ours comes near, and doubles hold it.
_PIECES_MAX = 10**15

#: No buyer waits for it: what it gathers leaves the cores to the agents that somebody does wait for.
_GATHER_S = 0.4


def run(settings: Settings) -> None:
    """Run a stock worker until SIGTERM."""
    redis_url = settings.redis_url.get_secret_value()
    kept, cache = Mirror(redis_url), ProductCache(redis_url, call_seconds_max=mirror.CALL_SECONDS_MAX)
    keeper = Keeper(kept, settings.postgres_url.get_secret_value())
    work = StockWork(kept, cache, lambda: datetime.now(UTC), on_missed=keeper.compare_soon, on_sellers=keeper.heard_of)
    wired = Wired(lambda _: work, BATCH_BYTES_MAX, gather_s=_GATHER_S, service=keeper.run)
    run_agent(AGENT, settings, lambda _: wired)


@dataclass(slots=True)
class PreparedStock:
    """What of a batch could not be read."""

    dead: list[JournalRow] = field(default_factory=list)


class StockWork:
    """Applies events to Redis before the position moves: after a crash they are applied again."""

    agent = AGENT
    outages: tuple[type[Exception], ...] = (RedisUnavailableError,)

    def __init__(
        self,
        kept: Mirror,
        cache: ProductCache,
        now: Callable[[], datetime],
        *,
        on_missed: Callable[[], None],
        on_sellers: Callable[[Iterable[str]], None] = lambda _: None,
    ) -> None:
        """`on_missed` is called when Redis did not take a batch's events, and so must be compared.

        `on_sellers` is told whose stock they are about.
        """
        self._on_sellers = on_sellers
        self._mirror = kept
        self._cache = cache
        self._now = now
        self._on_missed = on_missed

    async def prepare(self, batch: Batch) -> PreparedStock:
        """Apply all of it to Redis. Raises `RedisUnavailableError` where it has to be waited for."""
        prepared = PreparedStock()
        if batch.topic in _OF_PRODUCTS:
            await self._mark(batch, prepared)
            return prepared
        events: dict[str, list[MirrorEvent]] = {}
        for record in batch.records:
            try:
                seller_id, event = _read(batch.topic, record)
            except DecodeError as error:
                prepared.dead.append(
                    dead_letter(AGENT, batch, record, DeadLetterReason.UNDECODABLE, str(error), self._now())
                )
                continue
            if event is not None:
                events.setdefault(seller_id, []).append(event)
        self._on_sellers(events)
        for seller_id, its_events in events.items():
            try:
                await self._mirror.apply(seller_id, its_events)
                EVENTS.labels("applied").inc(len(its_events))
            except RedisUnavailableError:
                EVENTS.labels("missed").inc(len(its_events))
                self._on_missed()
        return prepared

    async def _mark(self, batch: Batch, prepared: PreparedStock) -> None:
        """Mark the products that were changed, or are rated differently."""
        changed: dict[str, dict[str, None]] = {}
        for record in batch.records:
            try:
                seller_id, product_id = _read_product(batch.topic, record)
            except DecodeError as error:
                prepared.dead.append(
                    dead_letter(AGENT, batch, record, DeadLetterReason.UNDECODABLE, str(error), self._now())
                )
                continue
            if product_id is not None:
                changed.setdefault(seller_id, {})[product_id] = None
        for seller_id, product_ids in changed.items():
            await self._cache.mark(seller_id, list(product_ids))

    def distrust(self, prepared: PreparedStock) -> bool:
        """It trusts no hint."""
        return False

    async def apply(self, connection: Connection, parts: Sequence[Part[PreparedStock]]) -> None:
        """Keep what could not be read."""
        if any(part.prepared.dead for part in parts):
            await journal.append(connection, dead_of(parts, await believed(connection, self._now())))

    async def committed(self, batch: Batch, prepared: PreparedStock) -> None:
        """Nothing: it is done already."""


class Keeper:
    """Beside the batches: copies what Redis lost, compares the rest, and lets time do its work.

    A tick looks at the sellers that it is told of: by Redis, where a hold or a place has expired or a SKU
    has a waitlist; by events, where a seller is new. It looks at all of them once when the worker starts, and
    when Redis is another server or has lost its data. Several workers share what is due, and may each do the rest: what
    one has put right, the other finds right.
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
        self._name = uuid4().hex
        self._must_list = False
        #: Sellers to be looked at, those whose copy this server has in full, and those whose it has not.
        self._to_look_at: dict[str, None] = {}
        self._complete: set[str] = set()
        self._incomplete: dict[str, None] = {}

    def heard_of(self, seller_ids: Iterable[str]) -> None:
        """These have stock: one that is new has no copy in Redis yet."""
        self._to_look_at.update(dict.fromkeys(each for each in seller_ids if each not in self._complete))

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
            if not await self._outlasts(self._tick):
                INCOMPLETE.set(float("nan"))
            await asyncio.sleep(self._tick_seconds)

    async def _compare_for_ever(self) -> None:
        while True:
            # Not `wait_for`: cancelled in the moment that its event comes, it goes on as if nobody had.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._compare_seconds):
                    await self._missed.wait()
            self._missed.clear()
            if not await self._outlasts(self._compare):
                self._missed.set()
                await asyncio.sleep(self._tick_seconds)

    async def _tick(self) -> None:
        due = await self._mirror.take_due(self._name, DUE_MAX)
        # Kept, for what Redis has handed over is not said again.
        self._to_look_at.update(dict.fromkeys(due.sellers))
        if due.is_new:
            self._must_list = True
        if self._must_list:
            self._complete.clear()
            self._to_look_at.update(dict.fromkeys(await _sellers(self._ticks)))
            self._must_list = False
        until = monotonic() + self._tick_seconds
        waitlisted: list[Sku] = []
        while self._to_look_at:
            waitlisted += await self._look_at(list(islice(self._to_look_at, LOOKS_AT_ONCE)))
            if monotonic() >= until:
                break
        if waitlisted:
            await self._limit(waitlisted)
        # One at least, and no more than leaves what is due its turn.
        while self._incomplete:
            await self._rebuild(next(iter(self._incomplete)))
            if monotonic() >= until:
                break
        # Also where an outage made it unknown.
        INCOMPLETE.set(len(self._incomplete))

    async def _look_at(self, seller_ids: Sequence[str]) -> list[Sku]:
        """Let time do its work on these sellers' stock, find out whether it is complete; SKUs that have a waitlist."""
        ticked = dict(zip(seller_ids, await asyncio.gather(*map(self._mirror.tick, seller_ids)), strict=True))
        due = [(seller_id, each.due_ms) for seller_id, each in ticked.items() if each.due_ms is not None]
        if due:
            await self._mirror.note_due(due)
        for seller_id, each in ticked.items():
            del self._to_look_at[seller_id]
            self._note(seller_id, is_complete=each.complete)
        return [Sku(seller_id, sku) for seller_id, each in ticked.items() if each.complete for sku in each.waitlisted]

    def _note(self, seller_id: str, *, is_complete: bool) -> None:
        if is_complete:
            self._complete.add(seller_id)
            self._incomplete.pop(seller_id, None)
        else:
            self._complete.discard(seller_id)
            self._incomplete.setdefault(seller_id)
        INCOMPLETE.set(len(self._incomplete))

    async def _rebuild(self, seller_id: str) -> None:
        complete, run_id, *_ = await self._mirror.tick(seller_id)
        if not complete:
            began = monotonic()
            if not await self._rebuilder.rebuild(seller_id, run_id):
                # Redis began anew meanwhile; the others first.
                self._incomplete[seller_id] = self._incomplete.pop(seller_id)
                return
            REBUILDS.inc()
            _log.info("the stock of %s was copied to Redis in %.1f s", seller_id, monotonic() - began)
        self._note(seller_id, is_complete=True)

    async def _limit(self, waitlisted: list[Sku]) -> None:
        """End the waitlists on which no order can get anything any more, and shorten those that are too long."""
        of_seller: dict[str, list[tuple[str, int, int]]] = {}
        for first in range(0, len(waitlisted), SKUS_MAX):
            async with self._ticks.connection() as connection:
                found = await read_obtainable(connection, waitlisted[first : first + SKUS_MAX])
            for (seller_id, sku), (pieces, version) in found.items():
                of_seller.setdefault(seller_id, []).append((sku, pieces, version))
        for seller_id, obtainables in of_seller.items():
            for first in range(0, len(obtainables), SKUS_MAX):
                await self._mirror.limit_waitlists(seller_id, obtainables[first : first + SKUS_MAX])

    async def _compare(self) -> None:
        for seller_id in await _sellers(self._compares):
            # In case no event told of it.
            if seller_id not in self._complete:
                self._to_look_at.setdefault(seller_id)
            for drift in await self._comparer.reconcile(seller_id, correct=True):
                report(drift)

    async def _outlasts(self, work: Callable[[], Awaitable[None]]) -> bool:
        """Whether the work was done; if not, a service is unavailable."""
        try:
            await work()
        except RedisUnavailableError:
            return False
        except OUTAGES as error:
            POSTGRES.failed(error)
            return False
        POSTGRES.answered()
        return True


async def _sellers(session: Session) -> list[str]:
    async with session.connection() as connection:
        return await read_sellers_with_stock(connection)


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


def _read(topic: str, record: Record) -> tuple[str, MirrorEvent | None]:
    """The seller, and what its stock in Redis must be told, if anything. Raises `DecodeError`."""
    if record.value is None:
        raise DecodeError("a tombstone: the record has no value")
    if topic == catalog.INVENTORY_EVENTS.name:
        return _read_change(record)
    schema = schema_of(record.value)
    if schema in _SILENT:
        return "", None
    _, body = decode(record.value, *_TOLD, bytes_max=catalog.ORDER_EVENTS.value_bytes_max)
    seller_id, order_id = str(body["seller_id"]), str(body["order_id"])
    _check_seller(seller_id)
    return seller_id, _TOLD[schema](order_id)


def _read_product(topic: str, record: Record) -> tuple[str, str | None]:
    """The product that an event is about; None for none, or an article that none sells. Raises `DecodeError`."""
    product_id: str | None
    if topic == catalog.CATALOGUE_EVENTS.name:
        events = catalog.CATALOGUE_EVENTS
        schema, event = decode(record.value, *events.schemas, bytes_max=events.value_bytes_max)
        seller_id = str(event["seller_id"])
        product_id = event["product_id"] if catalog.PRODUCT_CHANGED.describes(event, schema) else None
    else:
        _, review = decode(record.value, catalog.REVIEW_CHANGED, bytes_max=catalog.REVIEW_EVENTS.value_bytes_max)
        seller_id, product_id = review["seller_id"], review["product_id"]
    _check_seller(seller_id)
    refusal = None if product_id is None else check_product_id(product_id)
    if refusal is not None:
        raise DecodeError(str(refusal))
    return seller_id, product_id


def _read_change(record: Record) -> tuple[str, MirrorEvent]:
    _, body = decode(record.value, catalog.STOCK_CHANGED, bytes_max=catalog.INVENTORY_EVENTS.value_bytes_max)
    _check_seller(body["seller_id"])
    if body["cause"] not in _FREED:
        raise DecodeError(f"{body['cause'][:20]!r} is no cause of a change of stock")
    freed = _FREED[body["cause"]]
    changes = []
    for each in body["changes"]:
        # Redis counts in doubles, and refuses a whole batch for one number that it can't hold.
        if max(map(abs, (each["quantity"], each["on_hand"], each["reserved"], each["version"]))) > _PIECES_MAX:
            raise DecodeError(f"more than {_PIECES_MAX} pieces")
        free = each["on_hand"] - each["reserved"]
        changes.append(StockMove(each["sku"], freed * each["quantity"], each["on_hand"], free, each["version"]))
    return body["seller_id"], mirror.stock_changed(body["order_id"], changes)


def _check_seller(seller_id: str) -> None:
    """Raise `DecodeError` for what nobody's keys in Redis can be made of."""
    if SELLER_ID.fullmatch(seller_id) is None:
        raise DecodeError("seller_id must be 1 to 40 of a-z, 0-9 and -")
