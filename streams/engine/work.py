"""One batch, one transaction: the loop that every agent runs, whatever its work.

A refusal is data of the work. An outage is waited out here, the partition standing still. Anything else is a bug and
ends the process before the batch is acknowledged: nothing is lost, for the restart reads from the position.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple, Protocol, TypeVar

import psycopg
from prometheus_client import Counter, Histogram

from domain.position import Standing, standing
from runtime.exits import fatal
from runtime.logs import tell_decisions
from runtime.metrics import REGISTRY
from runtime.outages import OBJECT_STORE, POSTGRES
from sinks.postgres.positions import TransactionId, move_position, was_committed
from sinks.postgres.session import OUTAGES, TOO_SLOW, Connection, Session
from streams.engine.batch import Batch, Record

_log = logging.getLogger(__name__)

Prepared = TypeVar("Prepared")

#: What the log shows of a key: an order id has at most 64 characters.
_KEY_BYTES_MAX = 256
_BACKOFF_FIRST_S = 0.05
#: The longest pause: what an operator waits after the outage's end, at most.
_BACKOFF_MAX_S = 1.0

BATCHES = Counter(
    "gapless_batches_total",
    "Batches by how they stood to the position; `early` is followed by exit 70.",
    ["agent", "standing"],
    registry=REGISTRY,
)
RECORDS = Counter("gapless_records_total", "Records committed.", ["agent"], registry=REGISTRY)
HOLES = Counter(
    "gapless_log_holes_total", "Offsets skipped because the log does not have them.", ["agent"], registry=REGISTRY
)
OUTAGE_RETRIES = Counter(
    "gapless_outage_retries_total", "Batches retried after an outage.", ["agent"], registry=REGISTRY
)
BATCH_SECONDS = Histogram(
    "gapless_batch_seconds",
    "Time from a batch's arrival to its commit.",
    ["agent"],
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
    registry=REGISTRY,
)


class Work(Protocol[Prepared]):
    """What an agent does with a batch."""

    #: Names the agent in positions, metrics and logs.
    agent: str
    #: What counts as an outage besides Postgres' own: it is waited out.
    outages: tuple[type[Exception], ...]

    async def prepare(self, batch: Batch) -> Prepared:
        """Everything that needs no transaction: decode, decide, render. May be called again for the same batch."""
        ...

    async def apply(self, connection: Connection, batch: Batch, prepared: Prepared) -> None:
        """Write the effects and the journal rows. The position has moved; the caller commits."""
        ...

    async def committed(self, batch: Batch, prepared: Prepared) -> None:
        """Called once after the commit, also if that was only found out: the place to mark hints.

        Not after every commit: a worker that dies between never gets here, so nothing may rest on it.
        """
        ...

    def distrust(self, prepared: Prepared) -> bool:
        """A unique constraint fired. Return True if `prepared` relied on a hint and can now do without."""
        ...


#: `(topic, partition, offset) -> offset of the first record at or after it that the log has, and the log's start`.
ProbeLog = Callable[[str, int, int], Awaitable[tuple[int, int]]]


class _Unanswered(NamedTuple):
    """A transaction whose COMMIT was sent, and what it was made from."""

    transaction: TransactionId
    prepared: Any


class Worker:
    """Runs the batches of one partition, one after the other, on a session of its own."""

    def __init__(
        self, session: Session, probe_log: ProbeLog, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._session = session
        self._probe_log = probe_log
        self._sleep = sleep
        self._unanswered: _Unanswered | None = None

    async def run(self, work: Work[Prepared], batch: Batch) -> None:
        """Return when the batch is done, by whomever. Never raises but to be cancelled: a bug ends the process."""
        self._unanswered = None
        with BATCH_SECONDS.labels(work.agent).time():
            # What is left to be done, in pieces of at most so many records.
            left: Batch | None = batch.traced()
            records_max = len(batch.records)
            pause_s = _BACKOFF_FIRST_S
            while left is not None:
                piece = left.first(records_max)
                try:
                    undone = await self._attempt(work, piece)
                except TOO_SLOW as error:
                    # Of the same size it would take as long for ever. A single record waits like any outage: it is
                    # small, so that the server is too slow now, or others hold its locks.
                    records_max = max(1, len(piece.records) // 2)
                    await self._wait(work, piece, error, pause_s)
                except (*OUTAGES, *work.outages) as error:  # type: ignore[misc]  # a tuple of two, spread
                    await self._wait(work, piece, error, pause_s)
                # GeneratorExit and CancelledError are Faust taking the partition away: nothing was committed, go.
                except (asyncio.CancelledError, GeneratorExit):
                    raise
                except BaseException as error:  # noqa: BLE001
                    fatal(f"{work.agent} failed on {piece}", error)
                else:
                    POSTGRES.answered()
                    OBJECT_STORE.answered()
                    left = left.since(undone.first_offset) if undone else left.after(piece)
                    pause_s = _BACKOFF_FIRST_S
                    continue
                pause_s = min(2 * pause_s, _BACKOFF_MAX_S)

    async def _wait(self, work: Work[Prepared], piece: Batch, error: Exception, pause_s: float) -> None:
        OUTAGE_RETRIES.labels(work.agent).inc()
        (POSTGRES if isinstance(error, OUTAGES) else OBJECT_STORE).failed(error)
        _log.debug("%s waits with %s: %s", work.agent, piece, error)
        await self._sleep(pause_s)

    async def _attempt(self, work: Work[Prepared], batch: Batch) -> Batch | None:
        """Try once; return what is left to be done."""
        batch.dead.clear()
        prepared = await work.prepare(batch)
        position = await self._commit(work, batch, prepared, batch.first_offset)
        if position is not None and standing(batch.first_offset, batch.next_offset, position) is Standing.EARLY:
            await self._step_over_hole(work, batch, position)
            position = await self._commit(work, batch, prepared, position)
        if position is None:
            BATCHES.labels(work.agent, Standing.NEXT.value).inc()
            await _committed(work, batch, prepared)
            return None
        found = standing(batch.first_offset, batch.next_offset, position)
        if found is Standing.DONE and self._unanswered is not None:
            async with self._session.connection() as connection:
                committed = await was_committed(connection, self._unanswered.transaction)
            if committed:
                await _committed(work, batch, self._unanswered.prepared)
        BATCHES.labels(work.agent, found.value).inc()
        return batch.since(position) if found in (Standing.PARTLY_DONE, Standing.NEXT) else None

    async def _commit(self, work: Work[Prepared], batch: Batch, prepared: Prepared, first_offset: int) -> int | None:
        """As `_transact`; once more, without hints, where one of them was wrong."""
        try:
            return await self._transact(work, batch, prepared, first_offset)
        except psycopg.errors.UniqueViolation:
            if not work.distrust(prepared):
                raise
        return await self._transact(work, batch, prepared, first_offset)

    async def _transact(self, work: Work[Prepared], batch: Batch, prepared: Prepared, first_offset: int) -> int | None:
        """Move the position from `first_offset` and apply, in one transaction; else return where it stands."""
        async with self._session.pipelined_transaction() as connection:
            moved = await move_position(
                connection, work.agent, batch.topic, batch.partition, first_offset, batch.next_offset
            )
            if isinstance(moved, int):
                return moved
            await work.apply(connection, batch, prepared)
            self._unanswered = _Unanswered(moved, prepared)
        return None

    async def _step_over_hole(self, work: Work[Prepared], batch: Batch, position: int) -> None:
        """Return if the log itself has nothing in [position, first offset); else records were lost on the way here."""
        first_in_log, log_start = await self._probe_log(batch.topic, batch.partition, position)
        if first_in_log < batch.first_offset:
            # The restart reads again from the position.
            fatal(f"{work.agent} stands at {position}, but {batch} came: records between were lost on the way")
        HOLES.labels(work.agent).inc(batch.first_offset - position)
        if log_start > position:
            _log.error(
                "%s: %s/%s has lost the records from %d to %d: retention or an operator deleted them undone",
                work.agent,
                batch.topic,
                batch.partition,
                position,
                log_start - 1,
            )


async def _committed(work: Work[Prepared], batch: Batch, prepared: Prepared) -> None:
    RECORDS.labels(work.agent).inc(len(batch.records))
    await work.committed(batch, prepared)
    if batch.dead:
        dead = [_dead_letter(batch, record) for record in batch.records if record.offset in batch.dead]
        tell_decisions(_log, "dead letter", dead, logging.WARNING)
    batch.traces.end(batch.records)


def _dead_letter(batch: Batch, record: Record) -> Mapping[str, object]:
    """What the log says of it: where the record is, and the order that its key names, whatever that holds."""
    key = record.key and record.key[:_KEY_BYTES_MAX].decode(errors="backslashreplace")
    place = {"topic": batch.topic, "partition": batch.partition, "offset": record.offset}
    return batch.traces.decision(record.offset, {"order_id": key, **place, "reason": batch.dead[record.offset]})
