"""Text from outside, made safe to draw: what it says is shown, and nothing in it can act on the page.

A customer's text is printed under a company's name. It must not turn the reading order of an amount, pile marks over
the line above, or hide characters. What has no picture in any of our fonts is shown as its code point: `[U+1F600]`.
"""

import re
from functools import lru_cache
from unicodedata import category, combining, is_normalized, normalize

from documents.fonts import face_for
from documents.shaping import PAIRED

#: Marks that may follow one letter. More is an attack on the line above; Hebrew and Vietnamese need three.
MARKS_MAX = 3

#: Characters without a picture by their nature, common in pasted text: soft hyphen, grapheme joiner, word joiner, byte
#: order mark, variation selectors but for the one that asks for a picture.
_INVISIBLE = re.compile("[\u00ad\u034f\u180b-\u180e\u2060\ufe00-\ufe0e\ufeff\U000e0100-\U000e01ef]")
#: The zero width space, at which lines of Thai and Khmer break; direction marks and joiners, which honest text in
#: Arabic, Hebrew, Persian, Hindi or pictures needs; the selector of a picture. Embeddings, overrides and isolates are
#: not among them: they reorder what they enclose.
WITHOUT_GLYPH = frozenset("\u200b\u200c\u200d\u200e\u200f\u061c\ufe0f")
#: Format characters that have a picture: they enclose or precede Arabic digits.
_DRAWN_FORMATS = frozenset("\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u08e2")
#: Letters that look like nothing.
_BLANK_LETTERS = frozenset("\u115f\u1160\u3164\uffa0\u2800")
#: Compatibility ideographs would be normalised to others: a name has to keep the form it was written in.
_COMPATIBILITY_IDEOGRAPHS = re.compile("([\uf900-\ufaff\U0002f800-\U0002fa1f]+)")
_LINE_END = re.compile("\r\n|[\n\r\x0b\x0c\x85\u2028\u2029]")

#: Most text: nothing to replace in it, and nothing to compose.
_HARMLESS = PAIRED - {"\u00a0"}


def one_line(text: str) -> str:
    """`text` with a space for each line end, safe to draw. The empty text stays empty."""
    if _HARMLESS.issuperset(text):
        return text
    return _safe(_LINE_END.sub(" ", text))


def lines(text: str) -> list[str]:
    """The lines of `text`, each safe to draw; blank lines at both ends are left out."""
    cleaned = [one_line(line).strip(" ") for line in _LINE_END.split(text)]
    while cleaned and not cleaned[0]:
        cleaned.pop(0)
    while cleaned and not cleaned[-1]:
        cleaned.pop()
    return cleaned


def boxed(character: str) -> str:
    """How a character without a picture is shown."""
    return f"[U+{ord(character):04X}]"


def _safe(text: str) -> str:
    composed = _compose(_INVISIBLE.sub("", text))
    shown: list[str] = []
    marks = 0
    for character in composed:
        if combining(character):
            marks += 1
            shown.append(boxed(character) if marks > MARKS_MAX else _shown(character))
        else:
            marks = 0
            shown.append(_shown(character))
    return "".join(shown)


def _compose(text: str) -> str:
    if is_normalized("NFC", text):
        return text
    parts = _COMPATIBILITY_IDEOGRAPHS.split(text)
    # Odd parts are what the pattern caught.
    return "".join(part if place % 2 else normalize("NFC", part) for place, part in enumerate(parts))


@lru_cache(maxsize=65_536)
def _shown(character: str) -> str:
    kind = category(character)
    if kind == "Zs" or character == "\t":
        return " "
    if character in WITHOUT_GLYPH:
        return character
    hidden = kind in {"Cc", "Cf", "Cs", "Co", "Cn"} and character not in _DRAWN_FORMATS
    if hidden or character in _BLANK_LETTERS or face_for(character, bold=False) is None:
        return boxed(character)
    return character
