"""Named mutations: each breaks one of the rules, and is undone afterwards."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from tests.simulation.cluster import Rules

#: By name; gives the broken rules while it is entered.
MUTATIONS: dict[str, Callable[[], AbstractContextManager[Rules]]] = {}


def mutation(make: Callable[[Rules], Iterator[None]]) -> Callable[[Rules], Iterator[None]]:
    """Register it under its name. `make` changes the rules it is given, patches what it must, and yields once."""

    @contextmanager
    def broken() -> Iterator[Rules]:
        rules = Rules()
        with contextmanager(make)(rules):
            yield rules

    MUTATIONS[make.__name__.replace("_", "-")] = broken
    return make
