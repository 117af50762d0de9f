"""What an operator asks on the dashboard: orders, series, payments, stock and dead letters."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import psycopg

from admission.mirror import Mirror
from admission.reconcile import Looked, Reconciler
from admission.unavailable import RedisUnavailableError
from domain.reservation import Sku
from monitor import statements
from monitor.recent import hottest, outcomes
from monitor.reports import Reports
from runtime.records import RecordReader
from runtime.settings import Settings
from schemas.catalog import INVENTORY_EVENTS, PAYMENT_ATTEMPT_FINISHED, PAYMENT_EVENTS, STOCK_CHANGED, Schema, Topic
from schemas.codec import decode
from sinks.dead_letter_json import letter_json, record_json
from sinks.postgres import dead_letters
from sinks.postgres.dead_letters import DeadLetterFilter, DeadLetterId
from sinks.postgres.session import Session, fetch_dicts
from sinks.trail import FoundTrails
from sinks.trail_finder import SEARCHED_MAX, SECONDS_MAX, find_trails

#: Events from which is counted what happened last, of all partitions together.
RECENT_EVENTS_MAX = 1_000
_EVENT_BYTES_MAX = 64 * 1024
HOT_SKUS_MAX = 20
DEAD_LETTERS_MAX = 50
_CONNECT_SECONDS_MAX = 5
_BREAKER = "gapless_payment_breaker"
_CALLS = "gapless_payment_calls_in_flight"
_DRIFTS = "gapless_stock_drifts_total"
_DRIFT_PIECES = "gapless_stock_drift_pieces_total"
_REBUILDS = "gapless_stock_rebuilds_total"
_INCOMPLETE = "gapless_stock_incomplete_sellers"

_Found = TypeVar("_Found")
_Event = TypeVar("_Event", bound=Mapping[str, object])


class Lookups:
    """Keeps its connections for the next question; one question at a time. Raises one of `session.OUTAGES`."""

    def __init__(self, settings: Settings, reports: Reports) -> None:
        """Connects when first asked."""
        self._postgres_url = settings.postgres_url.get_secret_value()
        self._session = Session(self._postgres_url, default_transaction_read_only="on")
        self._compared = Session(self._postgres_url, default_transaction_read_only="on")
        self._reader = RecordReader(settings.kafka_bootstrap, seconds_max=SECONDS_MAX, records_max=SEARCHED_MAX)
        self._mirror = Mirror(settings.redis_url.get_secret_value())
        self._reconciler = Reconciler(self._mirror, self._compared)
        self._reports = reports
        self._turn = asyncio.Lock()

    async def find_orders(self, wanted: str) -> FoundTrails:
        """As `find_trails`, of all sellers."""
        async with self._turn, self._session.connection() as connection:
            return await find_trails(connection, self._reader, wanted)

    async def read_series(self, seller_id: str) -> list[dict[str, Any]]:
        """Each series of a seller with its last number, which was given at `at`, in seconds since 1970."""
        async with self._turn, self._session.connection() as connection:
            return await fetch_dicts(await connection.execute(statements.SERIES, (seller_id,)))

    async def read_payments(self) -> dict[str, Any]:
        """Attempts under way by action, how the last ones ended, and each worker's breaker."""
        samples = await asyncio.to_thread(self._reports.samples, (_BREAKER, _CALLS))
        calls = {each.process: each.value for each in samples if each.name == _CALLS}
        async with self._turn:
            async with self._session.connection() as connection:
                under_way = await fetch_dicts(await connection.execute(statements.OPEN_PAYMENTS))
            finished, since = await self._newest(PAYMENT_EVENTS, PAYMENT_ATTEMPT_FINISHED)
        return {
            "breakers": [
                {"process": each.process, "state": each.labels["state"], "calls": calls.get(each.process, 0)}
                for each in samples
                if each.name == _BREAKER and each.value
            ],
            "open": under_way,
            "finished": outcomes(finished),
            "since": since,
        }

    async def read_stock(self) -> dict[str, Any]:
        """The SKUs that have changed most lately, as Postgres and Redis have them, and what was put right in Redis."""
        samples = await asyncio.to_thread(self._reports.samples, (_DRIFTS, _DRIFT_PIECES, _REBUILDS, _INCOMPLETE))
        corrected: dict[str, dict[str, float]] = defaultdict(dict)
        for each in samples:
            corrected[each.process][each.name] = each.value
        async with self._turn:
            events, since = await self._newest(INVENTORY_EVENTS, STOCK_CHANGED)
            hot = hottest(events, HOT_SKUS_MAX)
            looked, outage = await self._look([each.sku for each in hot])
        return {
            "skus": [
                {
                    "seller_id": each.sku.seller_id,
                    "sku": each.sku.sku,
                    "changes": each.changes,
                    "claimed": each.claimed,
                    **_level_json(looked.get(each.sku)),
                }
                for each in hot
            ],
            "since": since,
            "outage": outage,
            "corrected": [
                {
                    "process": process,
                    "skus": values.get(_DRIFTS, 0),
                    "pieces": values.get(_DRIFT_PIECES, 0),
                    "rebuilds": values.get(_REBUILDS, 0),
                    "incomplete_sellers": values.get(_INCOMPLETE, 0),
                }
                for process, values in corrected.items()
            ],
        }

    async def list_dead_letters(self, wanted: DeadLetterFilter, after: DeadLetterId | None) -> dict[str, Any]:
        """A page of them, newest first; `next` is where the next page begins, null on the last."""

        def read(connection: dead_letters.Connection) -> dict[str, Any]:
            rows = dead_letters.read_page(connection, wanted, DEAD_LETTERS_MAX + 1, after)
            shown = rows[:DEAD_LETTERS_MAX]
            return {
                "count": dead_letters.count(connection, wanted),
                "dead_letters": [letter_json(row) for row in shown],
                "next": str(shown[-1].id) if len(rows) > len(shown) else None,
            }

        return await self._of_dead_letters(read)

    async def show_dead_letter(self, letter_id: DeadLetterId) -> dict[str, Any] | None:
        """One with the record that it carries; None where there is none."""

        def read(connection: dead_letters.Connection) -> dict[str, Any] | None:
            rows = dead_letters.read_page(connection, DeadLetterFilter(ids=(letter_id,)), 1)
            if not rows:
                return None
            try:
                record: dict[str, Any] | None = record_json(dead_letters.read_record(connection, rows[0]))
            except dead_letters.DeadLetterError:
                # Its month was archived.
                record = None
            return {**letter_json(rows[0]), "record": record}

        return await self._of_dead_letters(read)

    async def close(self) -> None:
        """Let the connections go."""
        await self._session.close()
        await self._compared.close()
        await self._mirror.close()
        await asyncio.to_thread(self._reader.close)

    async def _newest(self, topic: Topic, schema: Schema[_Event]) -> tuple[list[_Event], float | None]:
        """The last events of a topic, and when the first of them was written, in seconds since 1970."""
        async with self._session.connection() as connection:
            heads = await connection.execute("SELECT count(*) FROM journal_heads WHERE topic = %s", (topic.name,))
            partitions = (await heads.fetchone() or (0,))[0] or 1
            parameters = {
                "topic": topic.name,
                "count": max(1, RECENT_EVENTS_MAX // partitions),
                "bytes_max": _EVENT_BYTES_MAX,
            }
            rows = await (await connection.execute(statements.NEWEST, parameters, binary=True)).fetchall()
        events = [decode(payload, schema, bytes_max=topic.value_bytes_max)[1] for payload, _ in rows]
        return events, min((at for _, at in rows), default=None)

    async def _look(self, skus: Sequence[Sku]) -> tuple[dict[Sku, Looked], str]:
        """As both have them, and why Redis can't be asked; empty if it can."""
        of_seller: dict[str, list[str]] = defaultdict(list)
        for sku in skus:
            of_seller[sku.seller_id].append(sku.sku)
        found: dict[Sku, Looked] = {}
        try:
            for seller_id, names in of_seller.items():
                looked = await self._reconciler.look(seller_id, names)
                found |= {Sku(seller_id, name): each for name, each in looked.items()}
        except RedisUnavailableError as error:
            return found, f"Redis is unavailable: {error}"
        return found, ""

    async def _of_dead_letters(self, read: Callable[[dead_letters.Connection], _Found]) -> _Found:
        def ask() -> _Found:
            # Seldom enough for a connection of its own. Not a read alone: those that nobody has listed yet are noted.
            with psycopg.connect(
                self._postgres_url, autocommit=True, connect_timeout=_CONNECT_SECONDS_MAX
            ) as connection:
                dead_letters.note_new(connection)
                return read(connection)

        return await asyncio.to_thread(ask)


def _level_json(looked: Looked | None) -> dict[str, Any]:
    """Null where it is not known."""
    if looked is None:
        return {"on_hand": None, "reserved": None, "free": None, "redis": None, "why": ""}
    level = looked.level
    return {
        "on_hand": level.on_hand,
        "reserved": level.reserved,
        "free": level.free,
        "redis": looked.redis,
        "why": looked.why,
    }
