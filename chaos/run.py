"""Runs a scenario: faults under load, then heals and drains the stack, then calls the judge."""

import asyncio
import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chaos.drain import Drain
from chaos.judge.judge import judge
from chaos.judge.verdict import Access, Verdict
from chaos.scenario import Ground, Scenario
from chaos.world import Standing, World

#: Time limit for handling everything that was accepted, after the faults.
DRAIN_SECONDS_MAX = 300.0
_AUDIT_SECONDS_MAX = 300.0


@dataclass(slots=True)
class Outcome:
    """The result of one run."""

    scenario: Scenario
    seed: int
    verdict: Verdict
    #: Violations found by the scenario itself, by the drain and by the product's own audit.
    found: list[str]
    faults: int
    statuses: dict[str, int]
    measured: dict[str, float]
    seconds: float = 0.0
    drained_after_s: float = 0.0

    @property
    def holds(self) -> bool:
        """Whether nothing was found wrong."""
        return self.verdict.holds and not self.found

    def as_json(self) -> dict[str, Any]:
        """The result as JSON types."""
        return {
            "scenario": self.scenario.number,
            "seed": self.seed,
            "holds": self.holds,
            "wrong": [*self.found, *self.verdict.shown],
            "faults": self.faults,
            "answers": self.statuses,
            "looked_at": dict(self.verdict.counts),
            "measured": {name: round(value, 3) for name, value in self.measured.items()},
            "drained_after_s": round(self.drained_after_s, 1),
            "seconds": round(self.seconds, 1),
        }


@contextlib.contextmanager
def standing(ground: Ground, keep_logs: Path | None = None) -> Iterator[Standing]:
    """A stack on this ground in a temporary folder; at the end its logs are copied to `keep_logs`, if given."""
    data = Path(tempfile.mkdtemp(prefix="gapless-chaos-"))
    with contextlib.ExitStack() as ends:
        ends.callback(shutil.rmtree, data, ignore_errors=True)
        if keep_logs is not None:
            # Also those of a stack that did not come up.
            ends.callback(shutil.copytree, data / "logs", keep_logs, dirs_exist_ok=True)
        yield ends.enter_context(Standing(ground, data))


async def run(
    scenario: Scenario, made: Standing, seed: int, seconds: float, say: Callable[[str], None] = lambda _: None
) -> Outcome:
    """Do one run on a running stack. Leaves the stack healed, and drained unless the outcome says otherwise."""
    began = time.monotonic()
    world = World(made, f"S{scenario.number}", seed, seconds, say)
    try:
        await scenario.befall(world)
    # A scenario that fails has not held; the following runs must still take place.
    except Exception:  # noqa: BLE001
        world.found.append(f"the scenario failed: {traceback.format_exc()}")
    finally:
        world.heal()
    faults = world.timeline.faults.total()
    drained_after_s = await _settle(world)
    settings = world.settings
    access = Access(world.url, world.api_key, settings.kafka_bootstrap, world.postgres_url, settings.provider_url or "")
    verdict = await asyncio.to_thread(judge, access, world.record)
    world.found.extend(await asyncio.to_thread(_audit, world))
    return Outcome(
        scenario,
        seed,
        verdict,
        world.found,
        faults,
        {str(status): count for status, count in sorted(world.record.statuses.items())},
        world.measured,
        time.monotonic() - began,
        drained_after_s,
    )


async def _settle(world: World) -> float:
    """Wait until all processes run and nothing is in progress; returns the seconds that took."""
    began = time.monotonic()
    await world.until_ready()
    drain = Drain(world.postgres_url, world.settings.kafka_bootstrap, world.partitions)
    if not await world.until(drain.done, "everything is drained", DRAIN_SECONDS_MAX):
        world.found.append(f"left: {drain.left}")
    seconds = time.monotonic() - began
    world.timeline.note(f"drained after {seconds:.1f} s")
    return seconds


def _audit(world: World) -> list[str]:
    """The violations that the product's own audit reports."""
    command = [sys.executable, "-m", "gapless", "audit", "--json", "--complete", "--data", str(world.stack.data)]
    command += ["--provider-url", world.settings.provider_url or ""]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_AUDIT_SECONDS_MAX, check=False)  # noqa: S603
    if done.returncode == 0:
        return []
    try:
        violations = json.loads(done.stdout)["violations"]
    except ValueError:
        return [f"the audit failed: {done.stderr.strip()[-500:]}"]
    # The audit must report each forged record on the relay's topics, and those violations are expected.
    forged = len(world.record.forged)
    if forged and violations.get("topic", {}).get("count") == forged:
        del violations["topic"]
    elif forged:
        world.found.append(f"{forged} records were forged, but the audit found {violations.get('topic')}")
    return [f"audit: {check}: {json.dumps(found)}" for check, found in violations.items()]
