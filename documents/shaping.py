"""One run of text, of one face, direction and script, as glyphs in the notation of a PDF content stream.

Lengths are in thousandths of the font size. Results are functions of the text and the font files, so they are cached.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import groupby, pairwise

import uharfbuzz as hb

from documents.fonts import Face, face

#: Runs kept shaped: the words of the template and what customers order often. Longer texts are seldom the same twice.
_CACHED_RUNS = 4_096
_CACHED_CHARS_MAX = 64

#: In these scripts ligatures would need two characters per glyph in the map that readers copy text by, and gain little
#: in an invoice. In the others letters join and reorder, and need all that their fonts can do.
_SIMPLE_SCRIPTS = frozenset({"Latn", "Grek", "Cyrl"})
_SIMPLE_FEATURES = {"liga": False, "clig": False}
#: Latin letters, digits and signs that a face draws one by one, moved only by the kerning of each two: for most of the
#: text of most documents, that is what HarfBuzz does, at a tenth of its time.
PAIRED = frozenset(map(chr, (*range(0x20, 0x7F), *range(0xA0, 0xAD), *range(0xAE, 0x180), 0x2013, 0x2019, 0x20AC)))
#: In memory of each process, for each of two faces: more than Europe's languages have.
_PAIRS_MAX = 20_000
#: Noto Sans, regular and bold.
_PAIRED_FACE_MAX = 1
_WITHOUT_JOINERS = dict.fromkeys(map(ord, "\u200c\u200d\u200e\u200f\u061c"))


@dataclass(frozen=True, slots=True)
class Show:
    """Glyphs shown at one go: an array for the operator TJ, and the height above the baseline at which it stands."""

    rise: int
    array: str
    #: What the glyphs say, where by themselves they would tell a reader something else; else None.
    actual_text: str | None


@dataclass(frozen=True, slots=True)
class Run:
    """Shaped text, ready to be shown with any size."""

    face: int
    width: int
    shows: tuple[Show, ...]
    glyphs: frozenset[int]
    #: What glyphs that the font has no character for stand for here.
    texts: tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True)
class TextLine:
    """One line, its runs from left to right."""

    runs: tuple[Run, ...]
    width: int
    #: The paragraph begins on the right.
    right_to_left: bool = False


#: A glyph, the place in the text that it draws from, how far it moves the pen, and where it stands beside it.
_Glyph = tuple[int, int, int, int, int]


def shape(text: str, face_index: int, script: str, right_to_left: bool) -> Run:
    """Shape `text`, all of whose characters the face has. `script` is an ISO 15924 code."""
    if len(text) <= _CACHED_CHARS_MAX:
        return _shape_cached(text, face_index, script, right_to_left)
    return _shape(text, face_index, script, right_to_left)


def advances(text: str, face_index: int, script: str, right_to_left: bool) -> list[int]:
    """The width of each character of `text`; that of several drawn as one belongs to the first, the others have -1."""
    widths = [-1] * len(text)
    for _, cluster, advance, _, _ in _glyphs(text, face(face_index), script, right_to_left):
        widths[cluster] = max(widths[cluster], 0) + advance
    return widths


def _shape(text: str, face_index: int, script: str, right_to_left: bool) -> Run:
    if face_index <= _PAIRED_FACE_MAX and PAIRED.issuperset(text) and not right_to_left and script == "Latn":
        run = _paired(text, face_index)
        if run is not None:
            return run
    return _shape_in_full(text, face_index, script, right_to_left)


def _paired(text: str, face_index: int) -> Run | None:
    """What HarfBuzz makes of `text`, put together from what it makes of each two characters; None if it can't be."""
    pairs = _pairs(face_index)
    if len(pairs) > _PAIRS_MAX:
        pairs.clear()
    if not text:
        return Run(face_index, 0, (), frozenset(), ())
    wanted = list(zip(text, text[1:] + "\0", strict=True))
    try:
        found = [pairs[pair] for pair in wanted]
    except KeyError:
        for pair in wanted:
            if pair not in pairs:
                pairs[pair] = _pair(face_index, *pair)
        found = [pairs[pair] for pair in wanted]
    parts, advance_of_each, glyphs = zip(*found, strict=True)
    if min(glyphs) < 0:
        return None
    shows = (Show(0, f"[<{''.join(parts)}>]", None),)
    return Run(face_index, sum(advance_of_each), shows, frozenset(glyphs), ())


@cache
def _pairs(face_index: int) -> dict[tuple[str, str], tuple[str, int, int]]:
    """Of a face: what has been asked for of it so far."""
    return {}


def _pair(face_index: int, first: str, second: str) -> tuple[str, int, int]:
    """The first of two characters in a TJ array, its advance, and its glyph; -1 if there is more to it than that."""
    source = face(face_index)
    text = first if second == "\0" else first + second
    glyphs = _glyphs(text, source, "Latn", False)
    known = source.text_of_glyph
    simple = len(glyphs) == len(text) and all(
        known.get(glyph) == character and not right and not up
        for (glyph, _, _, right, up), character in zip(glyphs, text.replace("\u00a0", " "), strict=True)
    )
    if not simple or (len(text) == 2 and glyphs[1][2] != source.advance(glyphs[1][0])):
        return "", 0, -1
    glyph, _, advance, _, _ = glyphs[0]
    kern = source.advance(glyph) - advance
    return f"{glyph:04X}>{kern}<" if kern else f"{glyph:04X}", advance, glyph


def _shape_in_full(text: str, face_index: int, script: str, right_to_left: bool) -> Run:
    source = face(face_index)
    glyphs = _glyphs(text, source, script, right_to_left)
    text = text.replace("\u00a0", " ")
    known = source.text_of_glyph
    pen = _Pen(source)
    texts: dict[int, str] = {}
    if (
        not right_to_left
        and all(known.get(glyph) == text[cluster] for glyph, cluster, _, _, _ in glyphs)
        and (len(glyphs) == len(text))
    ):
        pen.draw(glyphs, None)
    else:
        for said, members in _clusters(text, glyphs):
            pen.draw(*_readable(source, said, members, right_to_left, texts))
    return Run(
        face=face_index,
        width=sum(glyph[2] for glyph in glyphs),
        shows=pen.shows(),
        glyphs=frozenset(pen.used),
        texts=tuple(texts.items()),
    )


_shape_cached = lru_cache(maxsize=_CACHED_RUNS)(_shape)


def _glyphs(text: str, source: Face, script: str, right_to_left: bool) -> list[_Glyph]:
    buffer = hb.Buffer()
    buffer.cluster_level = hb.BufferClusterLevel.MONOTONE_CHARACTERS
    # A no-break space matters to line breaking only.
    buffer.add_str(text.replace("\u00a0", " "))
    buffer.direction = "rtl" if right_to_left else "ltr"
    buffer.script = script
    # Without it HarfBuzz takes the locale of the process, and the same text has other forms in Turkish or Serbian.
    buffer.language = "en"
    # Joiners and direction marks have done their work after shaping.
    buffer.flags = hb.BufferFlags.REMOVE_DEFAULT_IGNORABLES
    hb.shape(source.font, buffer, _SIMPLE_FEATURES if script in _SIMPLE_SCRIPTS else None)
    return [
        (info.codepoint, info.cluster, position.x_advance, position.x_offset, position.y_offset)
        for info, position in zip(buffer.glyph_infos, buffer.glyph_positions, strict=True)
    ]


def _clusters(text: str, glyphs: list[_Glyph]) -> Iterator[tuple[str, list[_Glyph]]]:
    """The smallest stretches of text with the glyphs that draw them, from left to right."""
    starts = sorted({glyph[1] for glyph in glyphs})
    # Direction marks alone draw nothing.
    ends = dict(pairwise([*starts, len(text)]))
    for start, members in groupby(glyphs, key=lambda glyph: glyph[1]):
        yield text[start : ends[start]], list(members)


def _readable(
    source: Face, said: str, members: list[_Glyph], right_to_left: bool, texts: dict[int, str]
) -> tuple[list[_Glyph], str | None]:
    """Glyphs that tell a reader what a cluster says, and the text to put beside them where none can.

    Readers take a page from left to right and turn what runs the other way, but not the characters of one glyph: so a
    glyph that stands for several keeps the first, and blanks to its left stand for the others.
    """
    glyph = members[0][0]
    if right_to_left:
        # Readers take a joiner or a direction mark for a piece of Latin text, and tear the word apart.
        said = said.translate(_WITHOUT_JOINERS) or said
    if len(members) > 1:
        told = "".join(source.text_of_glyph.get(member[0], "") for member in members)
        return members, None if told == said else said
    told = source.text_of_glyph.get(glyph) or texts.setdefault(glyph, said[0] if right_to_left else said)
    if right_to_left and len(said) > 1 and told == said[0]:
        blanks = [source.blank_for(character) for character in reversed(said[1:])]
        if None not in blanks:
            cluster = members[0][1]
            return [*((blank, cluster, 0, 0, 0) for blank in blanks if blank is not None), *members], None
    return members, None if told == said else said


class _Pen:
    """Writes glyphs as arrays for TJ, a new one where the height or the text beside it changes."""

    def __init__(self, source: Face) -> None:
        self._source = source
        self._shows: list[Show] = []
        self._parts: list[str] = []
        self._in_hex = False
        self._rise = 0
        self._actual: str | None = None
        # How far the pen is right of where it should be: TJ takes such numbers, and moves back by them.
        self._ahead = 0
        self.used: set[int] = set()

    def draw(self, glyphs: list[_Glyph], actual_text: str | None) -> None:
        if actual_text is not None or self._actual is not None:
            self._end()
            self._actual = actual_text
        parts, advance_of = self._parts, self._source.advance
        for glyph, _, advance, right, up in glyphs:
            if up != self._rise:
                self._end()
                parts, self._rise = self._parts, up
            self._ahead -= right
            if self._ahead:
                parts.append(f">{self._ahead}" if self._in_hex else str(self._ahead))
                self._in_hex = False
            if not self._in_hex:
                parts.append("<")
                self._in_hex = True
            parts.append(f"{glyph:04X}")
            self.used.add(glyph)
            self._ahead = advance_of(glyph) - advance + right

    def shows(self) -> tuple[Show, ...]:
        self._end()
        return tuple(self._shows)

    def _end(self) -> None:
        if self._parts:
            array = "[" + "".join(self._parts) + (">]" if self._in_hex else "]")
            self._shows.append(Show(self._rise, array, self._actual))
            self._parts, self._in_hex = [], False
            if self._actual:
                # Said once: the rest of the cluster stands at another height, and says nothing more.
                self._actual = ""
