"""Batches of several partitions, one transaction: the loop that every agent runs, whatever its work.

What is in the way of one batch must not delay the others: batches that can't be done together are done by themselves.

A refusal is data of the work. An outage is waited out here, the partition standing still. Anything else is a bug and
ends the process before the batch is acknowledged: nothing is lost, for the restart reads from the position.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import psycopg
from prometheus_client import Counter, Histogram

from admission.unavailable import RedisUnavailableError
from domain.position import Standing, standing
from runtime.exits import fatal
from runtime.logs import tell_decisions
from runtime.metrics import REGISTRY
from runtime.outages import OBJECT_STORE, POSTGRES
from sinks.postgres.positions import Move, TransactionId, move_positions, read_position, was_committed
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


@dataclass(frozen=True, slots=True)
class Part(Generic[Prepared]):
    """A batch in the transaction that it is done in, with what it was prepared into."""

    batch: Batch
    prepared: Prepared
    #: Where the position must stand.
    first_offset: int


class Work(Protocol[Prepared]):
    """What an agent does with batches, each of a partition of its own."""

    #: Names the agent in positions, metrics and logs.
    agent: str
    #: What counts as an outage besides Postgres' own: it is waited out.
    outages: tuple[type[Exception], ...]

    async def prepare(self, batch: Batch) -> Prepared:
        """Everything that needs no transaction: decode, decide, render. May be called again for the same batch."""
        ...

    async def apply(self, connection: Connection, parts: Sequence[Part[Prepared]]) -> None:
        """Write the effects and the journal rows of all. The positions have moved; the caller commits."""
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
    """Does batches on a session of its own, one transaction after the other."""

    def __init__(
        self, session: Session, probe_log: ProbeLog, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._session = session
        self._probe_log = probe_log
        self._sleep = sleep
        #: By topic and partition.
        self._unanswered: dict[tuple[str, int], _Unanswered] = {}

    async def run(self, work: Work[Prepared], *batches: Batch) -> None:
        """Return when the batches are done, by whomever. Never raises but to be cancelled: a bug ends the process.

        Each is of a partition of its own.
        """
        self._unanswered.clear()
        with BATCH_SECONDS.labels(work.agent).time():
            # What is left to be done, in groups of one transaction each; in the one order in which all take positions.
            groups = [[batch.traced() for batch in sorted(batches, key=lambda each: (each.topic, each.partition))]]
            # Of a batch that is done by itself.
            records_max = sum(len(batch.records) for batch in batches)
            pause_s = _BACKOFF_FIRST_S
            while groups:
                group = groups[0] if len(groups[0]) > 1 else [groups[0][0].first(records_max)]
                try:
                    undone = await self._attempt(work, group)
                except TOO_SLOW as error:
                    # Of the same size it would take as long for ever. A single record waits like any outage: it is
                    # small, so that the server is too slow now, or others hold its locks.
                    if len(group) > 1:
                        groups[:1] = _apart(group)
                    else:
                        records_max = max(1, len(group[0].records) // 2)
                    await self._wait(work, group, error, pause_s)
                except (*OUTAGES, *work.outages) as error:  # type: ignore[misc]  # a tuple of two, spread
                    await self._wait(work, group, error, pause_s)
                # GeneratorExit and CancelledError are the worker's end: nothing was committed, go.
                except (asyncio.CancelledError, GeneratorExit):
                    raise
                except BaseException as error:  # noqa: BLE001
                    fatal(f"{work.agent} failed on {_named(group)}", error)
                else:
                    POSTGRES.answered()
                    OBJECT_STORE.answered()
                    if len(group) == 1:
                        [batch] = groups[0]
                        left = batch.since(undone[0].first_offset) if undone else batch.after(group[0])
                        undone = [left] if left else []
                    groups[:1] = _apart(undone)
                    pause_s = _BACKOFF_FIRST_S
                    continue
                pause_s = min(2 * pause_s, _BACKOFF_MAX_S)

    async def _wait(self, work: Work[Prepared], group: Sequence[Batch], error: Exception, pause_s: float) -> None:
        OUTAGE_RETRIES.labels(work.agent).inc()
        if not isinstance(error, RedisUnavailableError):  # Which was told of where it was called.
            (POSTGRES if isinstance(error, OUTAGES) else OBJECT_STORE).failed(error)
        _log.debug("%s waits with %s: %s", work.agent, _named(group), error)
        await self._sleep(pause_s)

    async def _attempt(self, work: Work[Prepared], group: Sequence[Batch]) -> list[Batch]:
        """Try once; return what is left to be done. Of several batches that is all or nothing."""
        parts = []
        for batch in group:
            batch.dead.clear()
            parts.append(Part(batch, await work.prepare(batch), batch.first_offset))
        if await self._commit(work, parts):
            for part in parts:
                await self._is_done(work, part)
            return []
        return list(group) if len(parts) > 1 else await self._stands_elsewhere(work, parts[0])

    async def _stands_elsewhere(self, work: Work[Prepared], part: Part[Prepared]) -> list[Batch]:
        """Do what can be done of a batch that does not begin at the position; return what is left to be done."""
        batch = part.batch
        async with self._session.connection() as connection:
            position = await read_position(connection, work.agent, batch.topic, batch.partition)
        found = standing(batch.first_offset, batch.next_offset, position)
        if found is Standing.EARLY:
            await self._step_over_hole(work, batch, position)
            if await self._commit(work, [replace(part, first_offset=position)]):
                await self._is_done(work, part)
                return []
            # Somebody else has moved it meanwhile: look again.
            return [batch]
        unanswered = self._unanswered.get((batch.topic, batch.partition))
        if found is Standing.DONE and unanswered is not None:
            async with self._session.connection() as connection:
                committed = await was_committed(connection, unanswered.transaction)
            if committed:
                await _committed(work, batch, unanswered.prepared)
        BATCHES.labels(work.agent, found.value).inc()
        return [] if found is Standing.DONE else [batch.since(position)]

    async def _is_done(self, work: Work[Prepared], part: Part[Prepared]) -> None:
        BATCHES.labels(work.agent, Standing.NEXT.value).inc()
        await _committed(work, part.batch, part.prepared)

    async def _commit(self, work: Work[Prepared], parts: Sequence[Part[Prepared]]) -> bool:
        """As `_transact`; once more, without hints, where one of them was wrong."""
        try:
            return await self._transact(work, parts)
        except psycopg.errors.UniqueViolation:
            if True not in {work.distrust(part.prepared) for part in parts}:
                raise
        return await self._transact(work, parts)

    async def _transact(self, work: Work[Prepared], parts: Sequence[Part[Prepared]]) -> bool:
        """Move the positions and apply, in one transaction; False, and nothing, where one of them stands elsewhere."""
        moves = [
            Move(part.batch.topic, part.batch.partition, part.first_offset, part.batch.next_offset) for part in parts
        ]
        async with self._session.pipelined_transaction() as connection:
            moved = await move_positions(connection, work.agent, moves)
            if moved is None:
                return False
            await work.apply(connection, parts)
            for part in parts:
                self._unanswered[part.batch.topic, part.batch.partition] = _Unanswered(moved, part.prepared)
        return True

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


def _apart(batches: Sequence[Batch]) -> list[list[Batch]]:
    """A group for each."""
    return [[batch] for batch in batches]


def _named(group: Sequence[Batch]) -> str:
    return ", ".join(map(str, group))


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
