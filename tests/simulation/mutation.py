"""Named mutations: each breaks one rule while its context is entered."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from tests.simulation.cluster import Rules

#: By name, context managers that return the broken rules.
MUTATIONS: dict[str, Callable[[], AbstractContextManager[Rules]]] = {}


def mutation(make: Callable[[Rules], Iterator[None]]) -> Callable[[Rules], Iterator[None]]:
    """Register a mutation under its name. `make` changes the given rules, patches what it must, and yields once."""

    @contextmanager
    def broken() -> Iterator[Rules]:
        rules = Rules()
        with contextmanager(make)(rules):
            yield rules

    MUTATIONS[make.__name__.replace("_", "-")] = broken
    return make
