"""Mutations of how a batch relates to the position: plausible mistakes."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from unittest.mock import patch

from domain.position import Standing, standing
from sinks.postgres.positions import Move, move_positions
from sinks.postgres.session import OUTAGES
from streams.engine.batch import Batch
from streams.engine.work import Part, Worker
from tests.simulation.cluster import Rules
from tests.simulation.mutation import mutation
from tests.simulation.postgres import Backend, Rows
from tests.simulation.sessions import STEP
from tests.simulation.statements import moves_of


@mutation
def no_compare_and_set(rules: Rules) -> Iterator[None]:
    """The position is set unconditionally."""

    def move(tx: Backend, p: Mapping[str, Any]) -> Rows:
        for key, _, after in moves_of(p):
            tx.lock("positions", key)
            tx.write("positions", key, after)
        return ((tx.transaction,),)

    rules.statements["move_positions"] = move
    yield


@mutation
def compare_and_set_without_the_row_lock(rules: Rules) -> Iterator[None]:
    """The position is read without a lock, compared in the worker, and then set."""

    def move(tx: Backend, p: Mapping[str, Any]) -> Rows:
        if any(tx.read("positions", key) != first for key, first, _ in moves_of(p)):
            return ()
        for key, _, after in moves_of(p):
            tx.write("positions", key, after)
        return ((tx.transaction,),)

    rules.statements["move_positions"] = move
    yield


@mutation
def those_that_match_move(rules: Rules) -> Iterator[None]:
    """Of several positions those that stand at their batch move, and all batches are applied."""

    def move(tx: Backend, p: Mapping[str, Any]) -> Rows:
        moved = False
        for key, first, after in moves_of(p):
            if tx.read("positions", key) == first:
                tx.lock("positions", key)
            if tx.read("positions", key) == first:
                tx.write("positions", key, after)
                moved = True
        return ((tx.transaction,),) if moved else ()

    rules.statements["move_positions"] = move
    yield


@mutation
def the_first_position_decides(rules: Rules) -> Iterator[None]:
    """Of several positions only one is compared."""

    def move(tx: Backend, p: Mapping[str, Any]) -> Rows:
        moves = moves_of(p)
        key, first, _ = moves[0]
        if tx.read("positions", key) == first:
            tx.lock("positions", key)
        if tx.read("positions", key) != first:
            return ()
        for key, _, after in moves:
            tx.lock("positions", key)
            tx.write("positions", key, after)
        return ((tx.transaction,),)

    rules.statements["move_positions"] = move
    yield


@mutation
def not_together_is_done(rules: Rules) -> Iterator[None]:
    """Batches that can't be done together count as done."""

    class Lenient(Worker):
        async def _attempt(self, work: Any, group: Sequence[Batch]) -> list[Batch]:
            undone = await super()._attempt(work, group)
            return undone if len(group) == 1 else []

    rules.worker = Lenient
    yield


class _Apart(Worker):
    """Moves the positions in one transaction and writes the effects in another."""

    position_first = True

    async def _transact(self, work: Any, parts: Sequence[Part[Any]]) -> bool:
        if not self.position_first:
            async with self._session.pipelined_transaction() as connection:
                await work.apply(connection, parts)
        async with self._session.pipelined_transaction() as connection:
            moved = await move_positions(connection, work.agent, _moves(parts))
        if moved is None:
            return False
        if self.position_first:
            async with self._session.pipelined_transaction() as connection:
                await work.apply(connection, parts)
        return True


def _moves(parts: Sequence[Part[Any]]) -> list[Move]:
    return [Move(part.batch.topic, part.batch.partition, part.first_offset, part.batch.next_offset) for part in parts]


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
        async def run(self, work: Any, *batches: Batch) -> None:
            self.is_retry = False
            await super().run(work, *batches)

        async def _transact(self, work: Any, parts: Sequence[Part[Any]]) -> bool:
            if self.is_retry:
                async with self._session.pipelined_transaction() as connection:
                    await move_positions(connection, work.agent, _moves(parts))
                    await work.apply(connection, parts)
                return True
            self.is_retry = True
            moved = await super()._transact(work, parts)
            self.is_retry = False
            return moved

    rules.worker = Blind
    yield


@mutation
def take_a_lost_commit_for_done(rules: Rules) -> Iterator[None]:
    """An outage at COMMIT counts as success."""

    class Hopeful(Worker):
        async def _transact(self, work: Any, parts: Sequence[Part[Any]]) -> bool:
            try:
                return await super()._transact(work, parts)
            except OUTAGES:
                return True

    rules.worker = Hopeful
    yield


@mutation
def trim_one_too_many(_: Rules) -> Iterator[None]:
    """A batch that is partly done loses one record more than was done."""
    since = Batch.since

    def lossy(batch: Batch, offset: int) -> Batch:
        rest = since(batch, offset)
        if offset == batch.first_offset or len(rest.records) < 2:
            return rest
        return Batch(rest.topic, rest.partition, rest.records[1:], span=(rest.first_offset, rest.next_offset))

    with patch.object(Batch, "since", lossy):
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
        async def run(self, work: Any, *batches: Batch) -> None:
            try:
                for batch in batches:
                    await self._attempt(work, [batch])
            except (*OUTAGES, *work.outages):
                await STEP

    rules.worker = Acknowledging
    yield


@mutation
def hints_are_believed_behind_a_hole(rules: Rules) -> Iterator[None]:
    """A wrong hint is corrected for an ordinary batch, but ends the process after a hole of the log."""

    class Unforgiving(Worker):
        async def _commit(self, work: Any, parts: Sequence[Part[Any]]) -> bool:
            if all(part.first_offset == part.batch.first_offset for part in parts):
                return await super()._commit(work, parts)
            return await self._transact(work, parts)

    rules.worker = Unforgiving
    yield
