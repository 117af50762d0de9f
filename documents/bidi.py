"""Reading order: which characters run from right to left (Unicode Standard Annex 9, brackets included)."""

from collections.abc import Sequence
from typing import Any, TypeVar
from unicodedata import bidirectional

from bidi import algorithm

_RIGHT_TO_LEFT = frozenset({"R", "AL", "AN"})
#: Each opening bracket and its closing one: BidiBrackets.txt of Unicode, in the order of the code points.
_PAIRS = (
    "()[]{}༺༻༼༽᚛᚜⁅⁆⁽⁾₍₎⌈⌉⌊⌋❨❩❪❫❬❭❮❯❰❱❲❳❴❵⟅⟆⟦⟧⟨⟩⟪⟫⟬⟭⟮⟯⦃⦄⦅⦆⦇⦈⦉⦊⦋⦌⦍⦐⦏⦎⦑⦒⦓⦔⦕⦖⦗⦘⧘⧙⧚⧛⧼⧽"
    "⸢⸣⸤⸥⸦⸧⸨⸩\u2e55\u2e56\u2e57\u2e58\u2e59\u2e5a\u2e5b\u2e5c〈〉《》「」『』【】〔〕〖〗〘〙〚〛﹙﹚﹛﹜﹝﹞（）［］｛｝｟｠｢｣"
)
_OPENING = dict(zip(_PAIRS[::2], _PAIRS[1::2], strict=True))
_CLOSING = frozenset(_PAIRS[1::2])
#: BD16: deeper nesting is not paired.
_OPEN_MAX = 63
#: What a type counts as beside brackets and neutrals: numbers stand among right-to-left text.
_STRONG = {"L": "L", "R": "R", "EN": "R", "AN": "R"}

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
    _resolve_brackets(storage["chars"], ("L", "R")[base])
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


def _resolve_brackets(chars: list[dict[str, Any]], embedding: str) -> None:
    """Rule N0, which python-bidi leaves out: a pair of brackets goes the way of what it encloses, or stands in."""
    for opening, closing in _pairs(chars):
        enclosed = {_STRONG.get(each["type"]) for each in chars[opening + 1 : closing]}
        other = "R" if embedding == "L" else "L"
        if embedding in enclosed:
            direction = embedding
        elif other in enclosed:
            before = (_STRONG.get(each["type"]) for each in reversed(chars[:opening]))
            context = next((each for each in before if each is not None), embedding)
            direction = other if context == other else embedding
        else:
            continue
        for place in (opening, closing):
            chars[place]["type"] = direction
            for mark in chars[place + 1 :]:
                if mark["orig"] != "NSM":
                    break
                mark["type"] = direction


def _pairs(chars: Sequence[dict[str, Any]]) -> list[tuple[int, int]]:
    """The brackets that belong together (BD16), in the order of the opening ones."""
    found: list[tuple[int, int]] = []
    waiting: list[tuple[str, int]] = []
    for place, each in enumerate(chars):
        character = each["ch"]
        if each["type"] != "ON":
            continue
        if character in _OPENING:
            if len(waiting) == _OPEN_MAX:
                return []
            waiting.append((_OPENING[character], place))
        elif character in _CLOSING:
            for depth in range(len(waiting) - 1, -1, -1):
                if waiting[depth][0] == character:
                    found.append((waiting[depth][1], place))
                    del waiting[depth:]
                    break
    return sorted(found)
