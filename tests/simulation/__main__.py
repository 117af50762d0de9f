"""`python -m tests.simulation --seeds N [--seed S] [--mutation NAME]`: runs histories until one fails.

A failing history is shrunk and printed with its seed; the exit status is then 1.
"""

import argparse
import logging
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tests.simulation import history
from tests.simulation.choices import Choices
from tests.simulation.cluster import Rules
from tests.simulation.mutations import MUTATIONS
from tests.simulation.shrink import shrink

#: A mutation not caught by this many histories counts as not caught.
MUTATION_SEEDS_MAX = 20_000
#: Histories that a process runs between two reports.
_SHARE = 500


def main() -> int:
    """Run the command; returns the exit status."""
    arguments = _parse()
    logging.disable(logging.CRITICAL)
    if arguments.mutations:
        return _try_mutations(arguments.seeds or MUTATION_SEEDS_MAX)
    first = 0 if arguments.seed is None else arguments.seed
    seeds = (1 if arguments.seed is not None else 10_000) if arguments.seeds is None else arguments.seeds
    began = time.monotonic()
    shares = [
        (arguments.mutation, start, min(start + _SHARE, first + seeds)) for start in range(first, first + seeds, _SHARE)
    ]
    done = steps = 0
    with multiprocessing.Pool(min(arguments.jobs, len(shares))) as pool:
        for count, its_steps, failed in pool.imap(_run_share, shares):
            done, steps = done + count, steps + its_steps
            if failed is not None:
                _clear()
                pool.terminate()
                _tell(failed, arguments.mutation)
                return 1
            _progress(done, seeds, began)
    _clear()
    took = time.monotonic() - began
    last = first + seeds - 1
    print(f"{done:,} histories of {steps / max(done, 1):.0f} steps held in {took:.0f} s, seeds {first} to {last}")
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, help="how many histories (10,000)")
    parser.add_argument("--seed", type=int, help="the first seed; alone, that history only")
    parser.add_argument("--mutation", choices=sorted(MUTATIONS), help="break one of the rules")
    parser.add_argument("--mutations", action="store_true", help="how many histories it takes to catch each mutation")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    return parser.parse_args()


def catch(mutation: str, seeds_max: int, first: int = 0) -> tuple[int, str] | None:
    """The number of histories until a mutation is caught, and the violation; None if it isn't within `seeds_max`."""
    for seed in range(first, first + seeds_max):
        with _rules(mutation) as rules:
            outcome = history.run(Choices(seed), rules)
        if outcome.violation is not None:
            return seed - first + 1, outcome.violation
    return None


def _try_mutations(seeds_max: int) -> int:
    missed = 0
    for name in MUTATIONS:
        caught = catch(name, seeds_max)
        missed += caught is None
        count, found = caught or ("never", "")
        print(f"{name:40} {count:>6}  {found[:100]}", flush=True)
    return 1 if missed else 0


@contextmanager
def _rules(mutation: str | None) -> Iterator[Rules]:
    if mutation is None:
        yield Rules()
    else:
        with MUTATIONS[mutation]() as rules:
            yield rules


def _run_share(share: tuple[str | None, int, int]) -> tuple[int, int, int | None]:
    """Run some histories; returns their number, their steps, and the first seed that failed."""
    logging.disable(logging.CRITICAL)
    mutation, start, end = share
    steps = 0
    for seed in range(start, end):
        with _rules(mutation) as rules:
            outcome = history.run(Choices(seed), rules)
        steps += outcome.steps
        if outcome.violation is not None:
            return seed - start + 1, steps, seed
    return end - start, steps, None


def _tell(seed: int, mutation: str | None) -> None:
    """Print the seed and the shrunk history."""
    with _rules(mutation) as rules:
        found = history.run(Choices(seed), rules)
    print(f"seed {seed} fails: {found.violation}", flush=True)

    def fails(made: Sequence[int]) -> tuple[int, ...] | None:
        with _rules(mutation) as rules:
            outcome = history.replay(made, rules)
        return None if outcome.violation is None else outcome.choices

    made = shrink(found.choices, fails)
    with _rules(mutation) as rules:
        outcome = history.replay(made, rules, traced=True)
    print(f"shrunk from {len(found.choices)} choices to {len(made)}: {list(made)}")
    print("\n".join(outcome.trace))
    print(f"and then: {outcome.violation}")


def _progress(done: int, seeds: int, began: float) -> None:
    if sys.stderr.isatty() or done % (20 * _SHARE) == 0:
        rate = done / max(time.monotonic() - began, 0.001)
        end = "\r" if sys.stderr.isatty() else "\n"
        print(f"{done:,} of {seeds:,} histories, {rate:,.0f}/s", end=end, file=sys.stderr, flush=True)


def _clear() -> None:
    if sys.stderr.isatty():
        print("\x1b[K", end="", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
