"""Mutations of how a batch relates to the position: plausible mistakes."""

from collections.abc import Iterator, Mapping
from typing import Any
from unittest.mock import patch

from domain.position import Standing, standing
from sinks.postgres import positions as ledger
from sinks.postgres.session import OUTAGES
from streams.engine.batch import Batch
from streams.engine.work import Worker
from tests.simulation.cluster import Rules
from tests.simulation.mutation import mutation
from tests.simulation.postgres import Backend, Rows
from tests.simulation.sessions import STEP


@mutation
def no_compare_and_set(rules: Rules) -> Iterator[None]:
    """The position is set unconditionally."""

    def move(tx: Backend, p: Mapping[str, Any]) -> Rows:
        key = (p["agent"], p["topic"], p["partition"])
        tx.lock("positions", key)
        tx.write("positions", key, p["next_offset"])
        return ((tx.transaction,),)

    rules.statements["move_position"] = move
    yield


@mutation
def compare_and_set_without_the_row_lock(rules: Rules) -> Iterator[None]:
    """The position is read without a lock, compared in the worker, and then set."""

    def move(tx: Backend, p: Mapping[str, Any]) -> Rows:
        key = (p["agent"], p["topic"], p["partition"])
        if tx.read("positions", key) != p["first_offset"]:
            return ()
        tx.write("positions", key, p["next_offset"])
        return ((tx.transaction,),)

    rules.statements["move_position"] = move
    yield


class _Apart(Worker):
    """Moves the position in one transaction and writes the effects in another."""

    position_first = True

    async def _transact(self, work: Any, batch: Batch, prepared: Any, first_offset: int) -> int | None:
        if not self.position_first:
            async with self._session.pipelined_transaction() as connection:
                await work.apply(connection, batch, prepared)
        async with self._session.pipelined_transaction() as connection:
            moved = await ledger.move_position(
                connection, work.agent, batch.topic, batch.partition, first_offset, batch.next_offset
            )
        if isinstance(moved, int):
            return moved
        if self.position_first:
            async with self._session.pipelined_transaction() as connection:
                await work.apply(connection, batch, prepared)
        return None


@mutation
def position_before_the_effects(rules: Rules) -> Iterator[None]:
    """The position is committed first, the effects after it."""
    rules.worker = _Apart
    yield


@mutation
def effects_before_the_position(rules: Rules) -> Iterator[None]:
    """The effects are committed first, the position after them."""

    class EffectsFirst(_Apart):
        position_first = False

    rules.worker = EffectsFirst
    yield


@mutation
def retry_a_lost_commit_blindly(rules: Rules) -> Iterator[None]:
    """A COMMIT without an answer counts as failed: the batch is written again, wherever the position is."""

    class Blind(Worker):
        async def run(self, work: Any, batch: Batch) -> None:
            self.is_retry = False
            await super().run(work, batch)

        async def _transact(self, work: Any, batch: Batch, prepared: Any, first_offset: int) -> int | None:
            if self.is_retry:
                async with self._session.pipelined_transaction() as connection:
                    await ledger.move_position(
                        connection, work.agent, batch.topic, batch.partition, first_offset, batch.next_offset
                    )
                    await work.apply(connection, batch, prepared)
                return None
            self.is_retry = True
            position = await super()._transact(work, batch, prepared, first_offset)
            self.is_retry = False
            return position

    rules.worker = Blind
    yield


@mutation
def take_a_lost_commit_for_done(rules: Rules) -> Iterator[None]:
    """An outage at COMMIT counts as success."""

    class Hopeful(Worker):
        async def _transact(self, work: Any, batch: Batch, prepared: Any, first_offset: int) -> int | None:
            try:
                return await super()._transact(work, batch, prepared, first_offset)
            except OUTAGES:
                return None

    rules.worker = Hopeful
    yield


@mutation
def trim_one_too_many(rules: Rules) -> Iterator[None]:
    """A batch that is partly done loses one record more than was done."""

    class Trimming(Worker):
        async def _transact(self, work: Any, batch: Batch, prepared: Any, first_offset: int) -> int | None:
            async with self._session.pipelined_transaction() as connection:
                position = await ledger.move_position(
                    connection, work.agent, batch.topic, batch.partition, first_offset, batch.next_offset
                )
                if not isinstance(position, int):
                    await work.apply(connection, batch, prepared)
                    return None
                inside = batch.first_offset < position < batch.next_offset
                if inside:
                    rest = batch.since(position)
                    rest = Batch(rest.topic, rest.partition, rest.records[1:] or rest.records)
                    await ledger.move_position(
                        connection, work.agent, batch.topic, batch.partition, position, batch.next_offset
                    )
                    await work.apply(connection, rest, await work.prepare(rest))
            return None if inside else position

    rules.worker = Trimming
    yield


@mutation
def trim_one_too_few(_: Rules) -> Iterator[None]:
    """A partly done batch keeps one record that was done."""
    since = Batch.since
    with patch.object(Batch, "since", lambda batch, offset: since(batch, offset - 1)):
        yield


@mutation
def partly_done_is_done(_: Rules) -> Iterator[None]:
    """A partly done batch is skipped."""

    def lenient(first_offset: int, next_offset: int, position: int) -> Standing:
        found = standing(first_offset, next_offset, position)
        return Standing.DONE if found is Standing.PARTLY_DONE else found

    with patch("streams.engine.work.standing", lenient):
        yield


@mutation
def step_over_every_hole(rules: Rules) -> Iterator[None]:
    """If a batch begins beyond the position, the log is not asked what lies between."""

    class Careless(Worker):
        async def _step_over_hole(self, work: Any, batch: Batch, position: int) -> None:
            await STEP

    rules.worker = Careless
    yield


@mutation
def join_across_a_loss(_: Rules) -> Iterator[None]:
    """Fetches are joined although records between them are missing."""

    def followed_by(first: Batch, later: Batch) -> Batch | None:
        if later.first_offset < first.next_offset:
            return None
        return Batch(first.topic, first.partition, [*first.records, *later.records])

    with patch.object(Batch, "followed_by", followed_by):
        yield


@mutation
def start_at_the_groups_offset(rules: Rules) -> Iterator[None]:
    """A worker starts at the consumer group's offset, which may be ahead of the effects."""
    rules.starts_at_group = True
    yield


@mutation
def acknowledge_on_exception(rules: Rules) -> Iterator[None]:
    """An exception leaves the agent, and the batch counts as done."""

    class Acknowledging(Worker):
        async def run(self, work: Any, batch: Batch) -> None:
            try:
                await self._attempt(work, batch)
            except (*OUTAGES, *work.outages):
                await STEP

    rules.worker = Acknowledging
    yield


@mutation
def hints_are_believed_behind_a_hole(rules: Rules) -> Iterator[None]:
    """A wrong hint is corrected for an ordinary batch, but ends the process after a hole of the log."""

    class Unforgiving(Worker):
        async def _commit(self, work: Any, batch: Batch, prepared: Any, first_offset: int) -> int | None:
            if first_offset == batch.first_offset:
                return await super()._commit(work, batch, prepared, first_offset)
            return await self._transact(work, batch, prepared, first_offset)

    rules.worker = Unforgiving
    yield
