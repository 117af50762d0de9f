"""Scenarios: their number, criterion, stack and faults; and the list of all."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chaos.world import World

#: Process → the services that it reaches through a proxy.
Detours = Mapping[str, tuple[str, ...]]
Befall = Callable[["World"], Awaitable[None]]

#: Two workers of the roles that number, so that partitions move when one is lost.
WORKERS: Mapping[str, int] = {"checkouts": 2, "invoices": 2}
#: Short, so that holds expire within a run.
ENVIRONMENT: Mapping[str, str] = {"GAPLESS_HOLD_SECONDS": "30"}


@dataclass(frozen=True, slots=True)
class Ground:
    """The stack that a scenario needs; scenarios on equal grounds may share a stack, one after the other."""

    workers: Mapping[str, int] = field(default_factory=lambda: dict(WORKERS))
    detours: Detours = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=lambda: dict(ENVIRONMENT))
    #: Of each topic.
    partitions: int = 4
    #: A run leaves permanent violations, such as records on others' topics, so its stack can't be used again.
    single_use: bool = False
    #: Documents are stored in an S3 server with faults (`ObjectServer`), not in a folder.
    object_server: bool = False


@dataclass(frozen=True, slots=True)
class Scenario:
    """One of the faults that the product must survive."""

    number: int
    name: str
    #: The criterion, in words.
    holds_when: str
    #: Causes the faults, under load, for about `World.seconds`, and adds violations to `World.found`.
    befall: Befall
    ground: Ground = field(default_factory=Ground)


SCENARIOS: dict[int, Scenario] = {}


def scenario(number: int, name: str, holds_when: str, ground: Ground | None = None) -> Callable[[Befall], Befall]:
    """Decorator that adds a function to the list of scenarios."""

    def enter(befall: Befall) -> Befall:
        if number in SCENARIOS:
            raise ValueError(f"two scenarios have the number {number}")
        SCENARIOS[number] = Scenario(number, name, holds_when, befall, ground or Ground())
        return befall

    return enter


def by_ground(runs: Iterable[tuple[Scenario, int]]) -> list[tuple[Ground, list[tuple[Scenario, int]]]]:
    """Groups of runs, each a scenario with its seed, that may share a stack; in the order of their first runs."""
    groups: list[tuple[Ground, list[tuple[Scenario, int]]]] = []
    for run in runs:
        ground = run[0].ground
        same = [group for of, group in groups if of == ground and not ground.single_use]
        if same:
            same[0].append(run)
        else:
            groups.append((ground, [run]))
    return groups
