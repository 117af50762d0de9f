"""What a scenario is, and the list of all: its number, what must hold, on which stack, and what befalls it."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chaos.world import World

#: Process → the services that it reaches through a proxy.
Detours = Mapping[str, tuple[str, ...]]
Befall = Callable[["World"], Awaitable[None]]

#: Two of what numbers, so that partitions move when one is lost.
WORKERS: Mapping[str, int] = {"checkouts": 2, "invoices": 2}
#: Short, so that what expires does so within a run.
ENVIRONMENT: Mapping[str, str] = {"GAPLESS_HOLD_SECONDS": "30"}


@dataclass(frozen=True, slots=True)
class Ground:
    """The stack that a scenario needs; scenarios on equal grounds may share one, one after the other."""

    workers: Mapping[str, int] = field(default_factory=lambda: dict(WORKERS))
    detours: Detours = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=lambda: dict(ENVIRONMENT))
    #: Of each topic.
    partitions: int = 4
    #: A run leaves traces that are wrong for good, such as records on topics that are not its own.
    single_use: bool = False
    #: Documents go to an S3 server of the world's own, which can misbehave, and not to a folder.
    object_server: bool = False


@dataclass(frozen=True, slots=True)
class Scenario:
    """One of the faults that the product must stand."""

    number: int
    name: str
    #: The criterion, in words.
    holds_when: str
    #: Does what befalls the stack, under load, for about `World.seconds`; what it finds wrong it tells `World.found`.
    befall: Befall
    ground: Ground = field(default_factory=Ground)


SCENARIOS: dict[int, Scenario] = {}


def scenario(number: int, name: str, holds_when: str, ground: Ground | None = None) -> Callable[[Befall], Befall]:
    """Enter a function into the list."""

    def enter(befall: Befall) -> Befall:
        if number in SCENARIOS:
            raise ValueError(f"two scenarios have the number {number}")
        SCENARIOS[number] = Scenario(number, name, holds_when, befall, ground or Ground())
        return befall

    return enter


def by_ground(runs: Iterable[tuple[Scenario, int]]) -> list[tuple[Ground, list[tuple[Scenario, int]]]]:
    """Runs, each a scenario with its seed, that may share a stack; in the order of the first of each."""
    groups: list[tuple[Ground, list[tuple[Scenario, int]]]] = []
    for run in runs:
        ground = run[0].ground
        same = [group for of, group in groups if of == ground and not ground.single_use]
        if same:
            same[0].append(run)
        else:
            groups.append((ground, [run]))
    return groups
