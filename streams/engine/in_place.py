"""Every agent's work, kept from records that stand where nobody looks for their order: they become dead letters.

One place for all agents: `streams.engine.app` runs no work but through it.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol, TypeVar

from domain.dead_letter import DeadLetterReason
from schemas.catalog import INPUT_TOPICS
from schemas.placement import misplaced
from sinks.postgres.journal import JournalRow
from sinks.postgres.session import Connection
from streams.engine.batch import Batch
from streams.engine.dead_letters import dead_letter
from streams.engine.work import Part, Work


class HasDead(Protocol):
    """What a batch was prepared into, with the dead letters that the work writes."""

    dead: list[JournalRow]


Prepared = TypeVar("Prepared", bound=HasDead)
_INPUTS = frozenset(topic.name for topic in INPUT_TOPICS)


class InPlace(Work[Prepared]):
    """A work that is given only records of input topics that stand in their place; of all other topics, all."""

    def __init__(self, work: Work[Prepared], partitions: int, now: Callable[[], datetime]) -> None:
        """`partitions` is how many each topic has."""
        self.agent = work.agent
        self.outages = work.outages
        self._work = work
        self._partitions = partitions
        self._now = now

    async def prepare(self, batch: Batch) -> Prepared:
        """Prepare what stands in its place; the rest are dead letters, written where the work writes its own."""
        if batch.topic not in _INPUTS:
            return await self._work.prepare(batch)
        strays = {}
        for record in batch.records:
            error = misplaced(self._partitions, batch.partition, record.key, record.value)
            if error is not None:
                reason, _, detail = error.partition(": ")
                strays[record.offset] = dead_letter(
                    self.agent, batch, record, DeadLetterReason(reason), detail, self._now()
                )
        if not strays:
            return await self._work.prepare(batch)
        prepared = await self._work.prepare(batch.without(strays))
        prepared.dead.extend(strays.values())
        return prepared

    async def apply(self, connection: Connection, parts: Sequence[Part[Prepared]]) -> None:
        """As the work does."""
        await self._work.apply(connection, parts)

    async def committed(self, batch: Batch, prepared: Prepared) -> None:
        """As the work does."""
        await self._work.committed(batch, prepared)

    def distrust(self, prepared: Prepared) -> bool:
        """As the work does."""
        return self._work.distrust(prepared)
