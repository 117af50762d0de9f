"""What goes into one transaction: batches of several partitions, as far as its bounds permit."""

import asyncio
from types import SimpleNamespace
from typing import Any

from streams.engine.batch import Batch
from streams.engine.combiner import Combiner, Executor


class Recorder:
    """A worker that notes what it was given together, and takes its time."""

    def __init__(self, done: list[list[str]]) -> None:
        self._done = done
        self.has_begun = asyncio.Event()
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()

    async def run(self, _: Any, *batches: Batch) -> None:
        self._done.append([str(batch) for batch in batches])
        self.has_begun.set()
        await self.may_go_on.wait()


def batch(partition: int, *offsets: int, size: int = 1) -> Batch:
    return Batch(
        "t", partition, [SimpleNamespace(offset=each, key=b"", value=bytes(size), headers=()) for each in offsets]
    )


def combiner(*workers: Recorder) -> Combiner:
    made: Any = [Executor(worker, None) for worker in workers]  # type: ignore[arg-type]
    return Combiner(made, records_max=4, bytes_max=100)


async def test_what_comes_together_is_done_together() -> None:
    done: list[list[str]] = []
    made = combiner(Recorder(done))
    await asyncio.gather(made.do(batch(0, 1, 2)), made.do(batch(1, 7)))
    assert done == [["t/0 [1, 3)", "t/1 [7, 8)"]]


async def test_a_transaction_has_its_bounds_and_a_larger_batch_is_alone() -> None:
    done: list[list[str]] = []
    made = combiner(Recorder(done))
    many, large, small = batch(0, 1, 2, 3, 4, 5), batch(1, 1, size=200), batch(2, 1)
    await asyncio.gather(made.do(many), made.do(large), made.do(small), made.do(batch(3, 1)))
    assert done == [["t/0 [1, 6)"], ["t/1 [1, 2)"], ["t/2 [1, 2)", "t/3 [1, 2)"]]


async def test_a_partition_that_came_back_is_not_twice_in_one_transaction() -> None:
    done: list[list[str]] = []
    made = combiner(Recorder(done))
    await asyncio.gather(made.do(batch(0, 1)), made.do(batch(0, 1)))
    assert done == [["t/0 [1, 2)"], ["t/0 [1, 2)"]]


async def test_while_one_lane_waits_the_other_goes_on() -> None:
    done: list[list[str]] = []
    slow, other = Recorder(done), Recorder(done)
    slow.may_go_on.clear()
    # The last one is taken first.
    made = combiner(other, slow)
    waits = asyncio.ensure_future(made.do(batch(0, 1)))
    await slow.has_begun.wait()
    await made.do(batch(1, 1))
    assert not waits.done()
    slow.may_go_on.set()
    await waits


async def test_who_was_revoked_before_it_began_is_left_out() -> None:
    done: list[list[str]] = []
    made = combiner(Recorder(done))
    revoked = asyncio.ensure_future(made.do(batch(0, 1)))
    await asyncio.sleep(0)
    revoked.cancel()
    await made.do(batch(1, 1))
    assert done == [["t/1 [1, 2)"]]
