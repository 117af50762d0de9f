"""Brings together what the partitions of a worker have to do: as few transactions as their size permits.

A transaction costs up to 10 ms of CPU with what it sets off elsewhere, however few records it is for. With one for each
partition, the agents of a small machine would be so busy with it that all of them are slower.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from sinks.microbatch import MicroBatch
from streams.engine.batch import Batch
from streams.engine.work import Work, Worker

#: One fetch brings records of several partitions, which are handed over one after the other.
_GATHER_S = 0.002


class Executor(NamedTuple):
    """A worker with a session of its own, and the work that it does on it."""

    worker: Worker
    work: Work[Any]


class Combiner:
    """Does the batches of a worker's partitions: on each executor one transaction at a time."""

    def __init__(self, executors: Sequence[Executor], *, records_max: int, bytes_max: int) -> None:
        """`records_max` and `bytes_max`, of values, bound a transaction; a larger batch is done alone."""
        self._idle = list(executors)
        self._records_max = records_max
        self._bytes_max = bytes_max
        self._batches: MicroBatch[Batch, None] = MicroBatch(self._do, calls_max=len(executors), gather_s=_GATHER_S)

    async def do(self, batch: Batch) -> None:
        """Return when it is done, by whomever. Cancelled, it may be done all the same."""
        await self._batches.ask(batch)

    async def close(self) -> None:
        """Cancel what is under way."""
        await self._batches.close()

    async def _do(self, batches: list[Batch]) -> list[None]:
        executor = self._idle.pop()
        try:
            for group in _groups(batches, self._records_max, self._bytes_max):
                await executor.worker.run(executor.work, *group)
        finally:
            self._idle.append(executor)
        return [None] * len(batches)


def _groups(batches: Iterable[Batch], records_max: int, bytes_max: int) -> Iterator[list[Batch]]:
    """The batches, in groups that are no larger than that; a larger batch stands alone."""
    group: list[Batch] = []
    records = size = 0
    for batch in batches:
        its_size = sum(len(record.value or b"") for record in batch.records)
        # A partition that went away and came back may be there twice.
        is_twice = any((each.topic, each.partition) == (batch.topic, batch.partition) for each in group)
        if group and (is_twice or records + len(batch.records) > records_max or size + its_size > bytes_max):
            yield group
            group, records, size = [], 0, 0
        group.append(batch)
        records += len(batch.records)
        size += its_size
    yield group
