"""A short run of every scenario on real stacks; `python -m chaos` runs them for minutes."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos import run as runs
from chaos.scenario import Scenario, by_ground
from chaos.scenarios.all import SCENARIOS
from chaos.world import Standing, World

#: Seed of requests and faults; their timing depends on the machine.
SEED = int(os.environ.get("TEST_SEED", "1"))
SECONDS = 4.0
_KEPT_LOGS = Path("test-logs") / "chaos"

#: Scenarios, with those on equal grounds adjacent, so that they share a stack.
_GROUNDS = by_ground((each, SEED) for each in SCENARIOS.values())
_RUNS = [(index, each.number) for index, (_, runs_there) in enumerate(_GROUNDS) for each, _ in runs_there]


class Stage:
    """Provides one stack at a time, for the ground requested last."""

    def __init__(self) -> None:
        self._index: int | None = None
        self._stack = contextlib.ExitStack()
        self._made: Standing

    def on(self, index: int) -> Standing:
        """The stack on a ground; another one is removed first."""
        if index != self._index:
            self.clear()
            self._made = self._stack.enter_context(runs.standing(_GROUNDS[index][0], _KEPT_LOGS / f"ground-{index}"))
            self._index = index
        return self._made

    def clear(self) -> None:
        """Remove the stack."""
        self._index = None
        self._stack.close()


@pytest.fixture(scope="module")
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    """Stacks for the scenarios. If a test fails, all logs are preserved."""
    failed_before = request.session.testsfailed
    stage = Stage()
    try:
        yield stage
    finally:
        stage.clear()
    if request.session.testsfailed == failed_before:
        shutil.rmtree(_KEPT_LOGS, ignore_errors=True)
    else:
        print(f"\nthe stacks' logs are in {_KEPT_LOGS.absolute()}")


@pytest.mark.parametrize(("ground", "number"), _RUNS, ids=[f"{number}" for _, number in _RUNS])
async def test_it_holds(stage: Stage, ground: int, number: int) -> None:
    """Faults for some seconds; after healing and draining there is no violation."""
    outcome = await runs.run(SCENARIOS[number], stage.on(ground), SEED, SECONDS, print)
    assert outcome.holds, "\n".join((*outcome.found, *outcome.verdict.shown))
    assert outcome.verdict.counts.total(), "the judge looked at nothing"


async def test_a_scenario_that_breaks_does_not_hold(stage: Stage) -> None:
    """The outcome contains the error, and later runs take place."""

    async def breaks(world: World) -> None:
        raise RuntimeError("no such fault")

    scenario = Scenario(0, "breaks", "never", breaks)
    outcome = await runs.run(scenario, stage.on(len(_GROUNDS) - 1), SEED, SECONDS, print)
    assert not outcome.holds
    assert "no such fault" in outcome.found[0]


def test_every_scenario_of_the_list_is_there() -> None:
    """The numbers have no gap, and each scenario has its criterion."""
    assert list(SCENARIOS) == list(range(1, 30))
    assert all(each.name and each.holds_when for each in SCENARIOS.values())
