"""Text set into lines: split by face, script and direction, shaped, put in the order of the page, broken to a width.

Lengths are in thousandths of the font size, unless a name says points.
"""

from dataclasses import dataclass
from functools import lru_cache
from unicodedata import category

from fontTools import unicodedata as scripts

from documents.bidi import levels, visual_order
from documents.breaking import emergencies, opportunities
from documents.clean import WITHOUT_GLYPH
from documents.fonts import face, face_for
from documents.shaping import PAIRED, Run, TextLine, advances, shape

_CACHED_LINES = 4_096
_CACHED_CHARS_MAX = 64
_SHARED_SCRIPTS = frozenset({"Zyyy", "Zinh", "Zzzz"})
_HAN = "Hani"
#: Set as one script: a line of Japanese mixes them, and our font has all of them.
_WITH_HAN = frozenset({"Hira", "Kana", "Bopo"})
_KANA = range(0x3041, 0x3100)
#: Asks for the picture of the character before it.
_PICTURE = "\ufe0f"
#: What takes no room at a line's end.
_IDLE_AT_END = " \u200b"


@dataclass(frozen=True, slots=True)
class _Piece:
    """A stretch of a paragraph of one face, script and level, by its places in the paragraph."""

    start: int
    end: int
    face: int
    script: str
    level: int


@dataclass(frozen=True, slots=True)
class _Paragraph:
    text: str
    pieces: tuple[_Piece, ...]
    right_to_left: bool


EMPTY = TextLine((), 0)


@dataclass(frozen=True, slots=True)
class Typesetter:
    """Sets text. Ideographs have the forms of Japan if `japanese`, or in a text with kana; else those of China."""

    japanese: bool = False

    def line(self, text: str, bold: bool = False) -> TextLine:
        """`text`, made safe by `clean`, on one line, however long."""
        if len(text) <= _CACHED_CHARS_MAX:
            return _line_cached(text, bold, self.japanese)
        return _set(_paragraph(text, bold, self.japanese), 0, len(text))

    def wrapped(self, text: str, width: float, bold: bool = False) -> list[TextLine]:
        """`text`, made safe by `clean`, in lines no wider than `width` where that is possible at all.

        A word wider than the line breaks where it must.
        """
        whole = self.line(text, bold)
        if whole.width <= width:
            return [whole]
        paragraph = _paragraph(text, bold, self.japanese)
        widths = _advances(paragraph)
        may_break = opportunities(text)
        must_break = emergencies(text)
        found: list[TextLine] = []
        start = 0
        while start < len(text):
            end = _fit(text, widths, may_break, must_break, start, width)
            # A letter cut off from its neighbours may take another form, and be wider than it was among them.
            while (set_line := _set(paragraph, start, end)).width > width and end > _next_cluster(widths, start):
                end = _last_cluster(widths, end)
            found.append(set_line)
            start = end
            while start < len(text) and text[start] in _IDLE_AT_END:
                start += 1
        return found or [EMPTY]


def joined(*parts: TextLine) -> TextLine:
    """Lines set apart, one behind the other: the direction of one has no say in another."""
    return TextLine(tuple(run for part in parts for run in part.runs), sum(part.width for part in parts))


@lru_cache(maxsize=_CACHED_LINES)
def _line_cached(text: str, bold: bool, japanese: bool) -> TextLine:
    if PAIRED.issuperset(text):
        run = shape(text.rstrip(" "), int(bold), "Latn", False)
        return TextLine((run,) if run.shows else (), run.width)
    return _set(_paragraph(text, bold, japanese), 0, len(text))


def _set(paragraph: _Paragraph, start: int, end: int) -> TextLine:
    text = paragraph.text
    while end > start and text[end - 1] in _IDLE_AT_END:
        end -= 1
    runs: list[Run] = []
    run_levels: list[int] = []
    for piece in paragraph.pieces:
        first, last = max(piece.start, start), min(piece.end, end)
        if first < last:
            runs.append(shape(text[first:last], piece.face, piece.script, bool(piece.level % 2)))
            run_levels.append(piece.level)
    if any(run_levels):
        runs = visual_order(runs, run_levels)
    return TextLine(tuple(runs), sum(run.width for run in runs), paragraph.right_to_left)


def _paragraph(text: str, bold: bool, japanese: bool) -> _Paragraph:
    if PAIRED.issuperset(text):
        return _Paragraph(text, (_Piece(0, len(text), int(bold), "Latn", 0),) if text else (), False)
    base, text_levels = levels(text) or (0, [0] * len(text))
    traits = list(zip(_faces(text, bold, japanese), _scripts(text), text_levels, strict=True))
    pieces: list[_Piece] = []
    start = 0
    for place in range(1, len(text) + 1):
        if place == len(text) or traits[place] != traits[start]:
            pieces.append(_Piece(start, place, *traits[start]))
            start = place
    return _Paragraph(text, tuple(pieces), bool(base % 2))


def _faces(text: str, bold: bool, japanese: bool) -> list[int]:
    """The face of each character: marks and joiners stay with their letter, spaces with the word before."""
    japanese = japanese or any(ord(character) in _KANA for character in text)
    found: list[int] = []
    for place, character in enumerate(text):
        if found and character in WITHOUT_GLYPH:
            found.append(found[-1])
            continue
        picture = text[place + 1 : place + 2] == _PICTURE
        own = face_for(character, bold, japanese, picture)
        if own is None:
            # Only a joiner or a direction mark at the start has none; it draws nothing.
            own = int(bold)
        # Punctuation that several scripts share is drawn as the script around it has it.
        clings = character in " \u00a0" or category(character) in {"Mn", "Mc", "Me"} or _clings(character, own, bold)
        if found and not picture and clings and ord(character) in face(found[-1]).characters:
            own = found[-1]
        found.append(own)
    return found


@lru_cache(maxsize=65_536)
def _clings(character: str, own: int, bold: bool) -> bool:
    return own != int(bold) and scripts.script(character) in _SHARED_SCRIPTS


def _scripts(text: str) -> list[str]:
    """The script of each character; those that scripts share have that of the character before, or else after."""
    found: list[str] = []
    for character in text:
        script = _script(character)
        found.append(script if script not in _SHARED_SCRIPTS else found[-1] if found else "")
    first = next((script for script in found if script), "Latn")
    return [script or first for script in found]


@lru_cache(maxsize=65_536)
def _script(character: str) -> str:
    script = scripts.script(character)
    return _HAN if script in _WITH_HAN else script


def _advances(paragraph: _Paragraph) -> list[int]:
    widths: list[int] = []
    for piece in paragraph.pieces:
        widths += advances(paragraph.text[piece.start : piece.end], piece.face, piece.script, bool(piece.level % 2))
    return widths


def _fit(
    text: str, widths: list[int], may_break: frozenset[int], must_break: frozenset[int], start: int, width: float
) -> int:
    """Where a line that begins at `start` ends: at the last opportunity that fits, otherwise between characters."""
    used = 0
    opportunity = emergency = None
    for place in range(start, len(widths)):
        if place > start and widths[place] >= 0:
            if place in may_break:
                opportunity = place
            elif place in must_break:
                emergency = place
        used += max(widths[place], 0)
        if used > width and place > start and widths[place] >= 0 and text[place] not in _IDLE_AT_END:
            # Where nothing fits, one character is drawn smaller.
            return opportunity or emergency or place
    return len(widths)


def _next_cluster(widths: list[int], start: int) -> int:
    place = start + 1
    while place < len(widths) and widths[place] < 0:
        place += 1
    return place


def _last_cluster(widths: list[int], end: int) -> int:
    place = end - 1
    while place > 0 and widths[place] < 0:
        place -= 1
    return place
