"""Shrinks a failing history to a shorter and plainer one that fails too."""

from collections.abc import Callable, Iterator, Sequence

#: Histories tried; takes about ten seconds.
TRIES_MAX = 1_000

Choices = tuple[int, ...]
#: Runs the history with the choices; returns those that it used if it fails, otherwise None.
Fails = Callable[[Choices], Choices | None]


def shrink(made: Sequence[int], fails: Fails, tries_max: int = TRIES_MAX) -> Choices:
    """The smallest failing choices found: fewer first, then smaller ones; 0 is the plainest (see `Choices`)."""
    best = tuple(made)
    tries = 0
    improved = True
    while improved:
        improved = False
        for candidate in _candidates(best):
            if tries == tries_max:
                return best
            if _size(candidate) >= _size(best):
                continue
            tries += 1
            used = fails(candidate)
            if used is not None:
                shorter = _without_tail(used)
                best = min(candidate, shorter, key=_size)
                improved = True
                # Continue with candidates of the new one, instead of repeating earlier ones.
                break
    return best


def _size(choices: Choices) -> tuple[int, int]:
    return len(choices), sum(choices)


def _without_tail(choices: Choices) -> Choices:
    end = len(choices)
    while end and choices[end - 1] == 0:
        end -= 1
    return choices[:end]


def _candidates(choices: Choices) -> Iterator[Choices]:
    """Shorter and smaller choices, the greatest changes first."""
    count = len(choices)
    yield _without_tail(choices)
    length = count // 2
    while length:
        yield choices[:-length]
        for start in range(count - length, -1, -length):
            yield choices[:start] + choices[start + length :]
        length //= 2
    length = max(1, count // 4)
    while length:
        for start in range(0, count, length):
            if any(choices[start : start + length]):
                yield choices[:start] + (0,) * len(choices[start : start + length]) + choices[start + length :]
        length //= 2
    for at, value in enumerate(choices):
        for smaller in (value // 2, value - 1):
            if 0 <= smaller < value:
                yield (*choices[:at], smaller, *choices[at + 1 :])
