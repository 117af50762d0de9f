"""Reading order: which characters run from right to left (Unicode Standard Annex 9)."""

from collections.abc import Sequence
from typing import TypeVar
from unicodedata import bidirectional

from bidi import algorithm

_RIGHT_TO_LEFT = frozenset({"R", "AL", "AN"})

Item = TypeVar("Item")


def levels(text: str) -> tuple[int, list[int]] | None:
    """The level of the paragraph and of each character, odd ones running right to left; None where all run rightwards.

    Text without embeddings and isolates: `clean` shows those as code points.
    """
    if text.isascii() or not any(bidirectional(character) in _RIGHT_TO_LEFT for character in text):
        return None
    storage = algorithm.get_empty_storage()
    base: int = algorithm.get_base_level(text)
    storage["base_level"] = base
    storage["base_dir"] = ("L", "R")[base]
    algorithm.get_embedding_levels(text, storage)
    for place, character in enumerate(storage["chars"]):
        character["place"] = place
    algorithm.explicit_embed_and_overrides(storage)
    algorithm.resolve_weak_types(storage)
    algorithm.resolve_neutral_types(storage, False)
    algorithm.resolve_implicit_levels(storage, False)
    resolved: list[int | None] = [None] * len(text)
    for character in storage["chars"]:
        resolved[character["place"]] = character["level"]
    # Joiners have no level of their own (X9): that of the character before keeps a word in one piece.
    found: list[int] = []
    for level in resolved:
        found.append(level if level is not None else found[-1] if found else base)
    return base, found


def visual_order(items: Sequence[Item], item_levels: Sequence[int]) -> list[Item]:
    """Put the pieces of one line, given in reading order, into the order of the page (rule L2)."""
    order = list(range(len(items)))
    odd = [level for level in item_levels if level % 2]
    for level in range(max(item_levels, default=0), min(odd, default=1) - 1, -1):
        start = 0
        while start < len(order):
            if item_levels[order[start]] < level:
                start += 1
                continue
            end = start
            while end < len(order) and item_levels[order[end]] >= level:
                end += 1
            order[start:end] = reversed(order[start:end])
            start = end
    return [items[place] for place in order]
