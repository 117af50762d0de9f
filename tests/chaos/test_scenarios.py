"""The short form of every scenario, on real stacks: minutes of it run by `gapless chaos`."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos import run as runs
from chaos.scenario import by_ground
from chaos.scenarios.all import SCENARIOS
from chaos.world import Standing

#: Set to run another: the same requests and faults each time, at the machine's own moments.
SEED = int(os.environ.get("GAPLESS_TEST_SEED", "1"))
SECONDS = 6.0
_KEPT_LOGS = Path("test-logs") / "chaos"

#: Scenario by scenario, those on equal grounds side by side: they share a stack.
_GROUNDS = by_ground((each, SEED) for each in SCENARIOS.values())
_RUNS = [(index, each.number) for index, (_, runs_there) in enumerate(_GROUNDS) for each, _ in runs_there]


@pytest.fixture(scope="module")
def made(request: pytest.FixtureRequest) -> Iterator[Standing]:
    """A stack on one of the grounds. If one of its tests fails, its logs stay."""
    failed_before = request.session.testsfailed
    logs = _KEPT_LOGS / f"ground-{request.param}"
    with runs.standing(_GROUNDS[request.param][0], logs) as stack:
        yield stack
    if request.session.testsfailed == failed_before:
        shutil.rmtree(logs, ignore_errors=True)
    else:
        print(f"\nthe stack's logs are in {logs.absolute()}")


@pytest.mark.parametrize(("made", "number"), _RUNS, indirect=["made"], ids=lambda value: f"{value}")
async def test_it_holds(made: Standing, number: int) -> None:
    """Faults for some seconds, then everything healed and drained; nobody finds anything wrong."""
    outcome = await runs.run(SCENARIOS[number], made, SEED, SECONDS, print)
    assert outcome.holds, "\n".join((*outcome.found, *outcome.verdict.shown))
    assert outcome.verdict.counts.total(), "the judge looked at nothing"


def test_every_scenario_of_the_list_is_there() -> None:
    """Numbered without a gap, each with its criterion."""
    assert list(SCENARIOS) == list(range(1, 26))
    assert all(each.name and each.holds_when for each in SCENARIOS.values())
