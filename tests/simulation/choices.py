"""Where all chance in a history comes from: a list of small integers, drawn from a seed or replayed."""

import random
from collections.abc import Sequence

#: A history that draws more has run away; it is ended as one that doesn't drain.
DRAWS_MAX = 50_000


class Choices:
    """Draws integers and keeps them. 0 always stands for the plainest: no fault, whoever's turn it is, one record.

    So a history shrinks by leaving draws out and by making them smaller, and what is drawn beyond the end of a replayed
    list is 0: the rest of the history goes without incident.
    """

    def __init__(self, seed: int | None = None, replay: Sequence[int] = ()) -> None:
        self._random = None if seed is None else random.Random(seed).random
        self._replay = replay
        self.made: list[int] = []

    def below(self, count: int) -> int:
        """One of 0 … count - 1."""
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
        """True in so many of a hundred cases."""
        return self.below(100) >= 100 - percent
