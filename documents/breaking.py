"""Where a line may end (Unicode Standard Annex 14), by ICU, which knows the words of Thai, Lao, Khmer and Burmese."""

from collections.abc import Iterable
from unicodedata import category

from icu4py.breakers import CharacterBreaker, LineBreaker

#: Named, since ICU would take the locale of the process.
_LOCALE = "en"
#: Vowels of Thai and Lao that are written before their consonant: a line never ends after one.
_LEADING_VOWELS = frozenset("\u0e40\u0e41\u0e42\u0e43\u0e44\u0ec0\u0ec1\u0ec2\u0ec3\u0ec4")


def opportunities(text: str) -> frozenset[int]:
    """The places in `text` before which a line may begin."""
    return _places(text, (end for _, end in LineBreaker(text, _LOCALE).segments()))


def emergencies(text: str) -> frozenset[int]:
    """The places before which a line may begin if it must: between characters as readers count them."""
    found = _places(text, (end for _, end in CharacterBreaker(text, _LOCALE).segments()))
    return frozenset(
        place
        for place in found
        if place < len(text) and text[place - 1] not in _LEADING_VOWELS and category(text[place]) not in {"Mn", "Mc"}
    )


def _places(text: str, ends: Iterable[int]) -> frozenset[int]:
    # ICU counts in units of UTF-16.
    if text.isascii() or max(text) < "\U00010000":
        return frozenset(ends)
    place_of_unit: dict[int, int] = {}
    unit = 0
    for place, character in enumerate(text):
        place_of_unit[unit] = place
        unit += 2 if character >= "\U00010000" else 1
    place_of_unit[unit] = len(text)
    return frozenset(place_of_unit[end] for end in ends)
