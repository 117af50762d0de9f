"""Text set into lines: split by face, script and direction, shaped, put in the order of the page, broken to a width.

Lengths are in thousandths of the font size, unless a name says points.
"""

from dataclasses import dataclass
from functools import lru_cache
from unicodedata import category

from fontTools import unicodedata as scripts

from documents.fonts import face, first_face
from documents.shaping import Run, TextLine, advances, shape
from documents.template_1.bidi import levels, visual_order

_CACHED_LINES = 4_096
_CACHED_CHARS_MAX = 64
#: Joiners and direction marks.
_WITHOUT_GLYPH = frozenset("\u200c\u200d\u200e\u200f\u061c")
_SHARED_SCRIPTS = frozenset({"Zyyy", "Zinh", "Zzzz"})
#: Chinese and Japanese may break between any two characters, but not before these (JIS X 4051) nor after those.
_NEVER_FIRST = frozenset("、。，．・：；？！）］｝」』】〉》〕’”ーぁぃぅぇぉっゃゅょゎァィゥェォッャュョヮ々%,.:;!?)]}")
_NEVER_LAST = frozenset("（［｛「『【〈《〔‘“([{")
_HAN = "Hani"
#: Set as one script: a line of Japanese mixes them, and our font has all of them.
_WITH_HAN = frozenset({"Hira", "Kana", "Bopo"})


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


#: The fonts that there were when this template was made, in order of preference.
FAMILIES = tuple(range(11))

EMPTY = TextLine((), 0)


def line(text: str, bold: bool = False) -> TextLine:
    """`text`, made safe by `clean`, on one line, however long."""
    if len(text) <= _CACHED_CHARS_MAX:
        return _line_cached(text, bold)
    return _set(_paragraph(text, bold), 0, len(text))


def wrapped(text: str, width: float, bold: bool = False) -> list[TextLine]:
    """`text`, made safe by `clean`, in lines no wider than `width` where that is possible at all.

    Lines break after spaces and hyphens and between ideographs; a word wider than the line breaks where it must.
    """
    whole = line(text, bold)
    if whole.width <= width:
        return [whole]
    paragraph = _paragraph(text, bold)
    widths = _advances(paragraph)
    may_break = _opportunities(text, widths)
    found: list[TextLine] = []
    start = 0
    while start < len(text):
        end = _fit(text, widths, may_break, start, width)
        # A letter cut off from its neighbours may take another form, and be wider than it was among them.
        while (set_line := _set(paragraph, start, end)).width > width and end > _next_cluster(widths, start):
            end = _last_cluster(widths, end)
        found.append(set_line)
        start = end
        while start < len(text) and text[start] == " ":
            start += 1
    return found or [EMPTY]


def joined(*parts: TextLine) -> TextLine:
    """Lines set apart, one behind the other: the direction of one has no say in another."""
    return TextLine(tuple(run for part in parts for run in part.runs), sum(part.width for part in parts))


@lru_cache(maxsize=_CACHED_LINES)
def _line_cached(text: str, bold: bool) -> TextLine:
    return _set(_paragraph(text, bold), 0, len(text))


def _set(paragraph: _Paragraph, start: int, end: int) -> TextLine:
    text = paragraph.text
    while end > start and text[end - 1] == " ":
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


def _paragraph(text: str, bold: bool) -> _Paragraph:
    if text.isascii():
        return _Paragraph(text, (_Piece(0, len(text), int(bold), "Latn", 0),) if text else (), False)
    base, text_levels = levels(text) or (0, [0] * len(text))
    traits = list(zip(_faces(text, bold), _scripts(text), text_levels, strict=True))
    pieces: list[_Piece] = []
    start = 0
    for place in range(1, len(text) + 1):
        if place == len(text) or traits[place] != traits[start]:
            pieces.append(_Piece(start, place, *traits[start]))
            start = place
    return _Paragraph(text, tuple(pieces), bool(base % 2))


def _faces(text: str, bold: bool) -> list[int]:
    """The face of each character: marks and joiners stay with their letter, spaces with the word before."""
    found: list[int] = []
    for character in text:
        if found and character in _WITHOUT_GLYPH:
            found.append(found[-1])
            continue
        clings = character in " \u00a0" or category(character) in {"Mn", "Mc", "Me"}
        if found and clings and ord(character) in face(found[-1]).characters:
            found.append(found[-1])
            continue
        first = first_face(character, bold, FAMILIES)
        # Only a joiner or a direction mark at the start has none; it draws nothing.
        found.append(int(bold) if first is None else first)
    return found


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


def _opportunities(text: str, widths: list[int]) -> list[bool]:
    """Whether a line may end before each character."""
    found = [False] * (len(text) + 1)
    for place in range(1, len(text)):
        before, after = text[place - 1], text[place]
        if widths[place] < 0 or after == " ":
            continue
        if before == " " or (before in "-/–—" and after.isalnum() and place > 1 and text[place - 2].isalnum()):
            found[place] = True
        elif not before.isascii() or not after.isascii():
            ideographs = _HAN in (_script(before), _script(after))
            found[place] = ideographs and after not in _NEVER_FIRST and before not in _NEVER_LAST
    return found


def _fit(text: str, widths: list[int], may_break: list[bool], start: int, width: float) -> int:
    """Where a line that begins at `start` ends: at the last opportunity that fits, else at the last character."""
    used = 0
    opportunity = None
    for place in range(start, len(widths)):
        if place > start and may_break[place]:
            opportunity = place
        used += max(widths[place], 0)
        # A space at the end of a line takes no room.
        if used > width and place > start and widths[place] >= 0 and text[place] != " ":
            return opportunity if opportunity is not None else place
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
