"""The source of all random choices in a history: a list of small integers, drawn from a seed or replayed."""

import random
from collections.abc import Sequence

#: A history that draws more is ended as one that doesn't drain.
DRAWS_MAX = 50_000


class Choices:
    """Draws integers and records them. 0 is always the plainest choice: no fault, the first actor, one record.

    So a history is shrunk by removing draws and making them smaller. Beyond the end of a replayed list every draw is 0,
    so the rest of the history has no faults.
    """

    def __init__(self, seed: int | None = None, replay: Sequence[int] = ()) -> None:
        self._random = None if seed is None else random.Random(seed).random
        self._replay = replay
        self.made: list[int] = []

    def below(self, count: int) -> int:
        """A number from 0 to count - 1."""
        if count <= 1:
            return 0
        if self._random is not None:
            value = int(self._random() * count)
        else:
            at = len(self.made)
            value = self._replay[at] % count if at < len(self._replay) else 0
        self.made.append(value)
        return value

    def chance(self, percent: int) -> bool:
        """True with this probability."""
        return self.below(100) >= 100 - percent
