"""The fonts that come with the project: which face shows a character, and the part of a face that a document embeds.

A face is named by its place in the list of families, which only grows. Everything here is a function of the font files
alone, so a cache in front of it can't change a document.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from unicodedata import normalize

import uharfbuzz as hb
from fontTools import unicodedata as scripts

_FOLDER = Path(__file__).with_name("fonts")

#: Regular file, bold file. Templates know the places, so new ones go to the end. A family without a bold file is made
#: bold by outlining its glyphs.
_FAMILIES: tuple[tuple[str, str | None], ...] = (
    ("NotoSans-Regular.ttf", "NotoSans-Bold.ttf"),
    ("NotoSansHebrew-Regular.ttf", "NotoSansHebrew-Bold.ttf"),
    ("NotoSansArabic-Regular.ttf", "NotoSansArabic-Bold.ttf"),
    ("NotoSansThai-Regular.ttf", "NotoSansThai-Bold.ttf"),
    ("NotoSansDevanagari-Regular.ttf", "NotoSansDevanagari-Bold.ttf"),
    ("NotoSansArmenian-Regular.ttf", "NotoSansArmenian-Bold.ttf"),
    ("NotoSansGeorgian-Regular.ttf", "NotoSansGeorgian-Bold.ttf"),
    ("DroidSansFallbackFull.ttf", None),
    ("NotoSansMath-Regular.ttf", None),
    ("NotoSansSymbols2-Regular.ttf", None),
    ("NanumSquareR.ttf", None),
    ("NotoSansBengali-Regular.ttf", "NotoSansBengali-Bold.ttf"),
    ("NotoSansGurmukhi-Regular.ttf", "NotoSansGurmukhi-Bold.ttf"),
    ("NotoSansGujarati-Regular.ttf", "NotoSansGujarati-Bold.ttf"),
    ("NotoSansOriya-Regular.ttf", "NotoSansOriya-Bold.ttf"),
    ("NotoSansTamil-Regular.ttf", "NotoSansTamil-Bold.ttf"),
    ("NotoSansTelugu-Regular.ttf", "NotoSansTelugu-Bold.ttf"),
    ("NotoSansKannada-Regular.ttf", "NotoSansKannada-Bold.ttf"),
    ("NotoSansMalayalam-Regular.ttf", "NotoSansMalayalam-Bold.ttf"),
    ("NotoSansSinhala-Regular.ttf", "NotoSansSinhala-Bold.ttf"),
    ("NotoSansLao-Regular.ttf", "NotoSansLao-Bold.ttf"),
    ("NotoSansKhmer-Regular.ttf", "NotoSansKhmer-Bold.ttf"),
    ("NotoSansMyanmar-Regular.ttf", "NotoSansMyanmar-Bold.ttf"),
    ("NotoSansEthiopic-Regular.ttf", "NotoSansEthiopic-Bold.ttf"),
    ("NotoSansThaana-Regular.ttf", "NotoSansThaana-Bold.ttf"),
    ("NotoSansJP-Regular.ttf", None),
    ("NotoEmoji-Regular.ttf", None),
)
_PLACES = {
    regular.removeprefix("Noto").removeprefix("Sans").split("-")[0]: place
    for place, (regular, _) in enumerate(_FAMILIES)
}
_LATIN = _PLACES[""]
_EMOJI = _PLACES["Emoji"]
_JAPANESE = _PLACES["JP"]
_CHINESE = _PLACES["DroidSansFallbackFull.ttf"]
#: By ISO 15924 code. Chinese, Japanese and Korean are chosen in `face_for`.
_SCRIPTS = {
    "Hebr": "Hebrew", "Arab": "Arabic", "Thai": "Thai", "Deva": "Devanagari", "Armn": "Armenian", "Geor": "Georgian",
    "Beng": "Bengali", "Guru": "Gurmukhi", "Gujr": "Gujarati", "Orya": "Oriya", "Taml": "Tamil", "Telu": "Telugu",
    "Knda": "Kannada", "Mlym": "Malayalam", "Sinh": "Sinhala", "Laoo": "Lao", "Khmr": "Khmer", "Mymr": "Myanmar",
    "Ethi": "Ethiopic", "Thaa": "Thaana", "Hang": "NanumSquareR.ttf",
}  # fmt: skip
#: The planes of pictures, which Symbols2 has in part.
_PICTOGRAPHS_FROM = 0x1F000
_HAN = frozenset({"Hani", "Hira", "Kana", "Bopo"})
#: Signs that scripts share, where Noto Sans lacks them: the smaller files first.
_SIGNS = tuple(_PLACES[name] for name in ("Math", "Symbols2", "Emoji"))
_OTHERS = tuple(_PLACES[name] for name in _SCRIPTS.values())

#: Tables that draw glyphs; the others serve shaping, which is over when the document is written.
_DROPPED_TABLES = (
    "GSUB",
    "GPOS",
    "GDEF",
    "kern",
    "name",
    "OS/2",
    "post",
    "cmap",
    "gasp",
    "MATH",
    "vhea",
    "vmtx",
    "DSIG",
)
#: What blanks can stand for: the blocks of Hebrew, Arabic and their supplements.
_BLANKS_FIRST = 0x590
_BLANKS_COUNT = 0x900 - _BLANKS_FIRST
#: ASCII: what an invoice's words and numbers are made of.
_COMMON = range(0x20, 0x7F)
_TAG_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, slots=True, eq=False)
class Face:
    """One font file. Lengths are in thousandths of the font size."""

    index: int
    name: str
    bold: bool
    #: Bold is wanted and the file is a regular one.
    embolden: bool
    blob: hb.Face
    font: hb.Font
    characters: frozenset[int]
    ascent: int
    descent: int
    box: tuple[int, int, int, int]
    glyph_count: int
    #: The glyph of the space.
    space: int
    #: Glyphs that every document embeds, so that most embed the same ones; none in the larger faces.
    common: frozenset[int]
    #: What a glyph stands for when nothing else is said: the text a reader copies. One character each.
    text_of_glyph: dict[int, str] = field(repr=False)
    _advances: dict[int, int] = field(default_factory=dict, repr=False)

    def advance(self, glyph: int) -> int:
        """How far the pen moves after `glyph`."""
        width = self._advances.get(glyph)
        if width is None:
            width = 0 if glyph >= self.glyph_count else self.font.get_glyph_h_advance(glyph)
            self._advances[glyph] = width
        return width

    def blank_for(self, character: str) -> int | None:
        """A glyph without width or picture that a reader copies as `character`; Hebrew and Arabic have such.

        It has a number beyond the glyphs of the file: a document maps it to the space.
        """
        place = ord(character) - _BLANKS_FIRST
        return self.glyph_count + place if 0 <= place < _BLANKS_COUNT else None

    def text(self, glyph: int) -> str | None:
        """What a reader copies for `glyph`, None where the font doesn't say."""
        if glyph >= self.glyph_count:
            return chr(glyph - self.glyph_count + _BLANKS_FIRST)
        return self.text_of_glyph.get(glyph)


@dataclass(frozen=True, slots=True)
class Program:
    """A face reduced to some glyphs: the font file, and where each glyph of the face went in it."""

    data: bytes
    glyph_map: dict[int, int]
    #: Six letters that tell apart two subsets of one face (ISO 32000-1, 9.6.4).
    tag: str


@cache
def face(index: int) -> Face:
    """The face at a place, loaded when it is first asked for: regular ones have even places, bold ones odd."""
    regular_file, bold_file = _FAMILIES[index // 2]
    bold = bool(index % 2)
    return _load(index, (bold_file if bold else None) or regular_file, bold, embolden=bold and not bold_file)


@lru_cache(maxsize=65_536)
def first_face(character: str, bold: bool, families: tuple[int, ...]) -> int | None:
    """The place of the first face of `families`, places in the list of them, that has `character`; or None."""
    code = ord(character)
    for family in families:
        index = 2 * family + bold
        if code in face(index).characters:
            return index
    return None


def face_for(character: str, bold: bool, japanese: bool = False, emoji: bool = False) -> int | None:
    """The place of the face that shows `character`, None where none does.

    Ideographs have the forms of Japan with `japanese`, else those of China; with `emoji` a sign is a picture if there
    is one. A script's font is loaded only for its own characters, or for what no other font has.
    """
    return first_face(character, bold, _families(character, japanese, emoji))


@lru_cache(maxsize=65_536)
def _families(character: str, japanese: bool, emoji: bool) -> tuple[int, ...]:
    ideographs = (_JAPANESE, _CHINESE) if japanese else (_CHINESE, _JAPANESE)
    script = scripts.script(character)
    own: tuple[int, ...] = ()
    if script in _HAN:
        own = ideographs
    elif script in _SCRIPTS:
        own = (_PLACES[_SCRIPTS[script]],)
    pictures = (_EMOJI,) if emoji or ord(character) >= _PICTOGRAPHS_FROM else ()
    return (*pictures, _LATIN, *own, *_SIGNS, *ideographs, *_OTHERS)


def subset(source: Face, glyphs: Iterable[int]) -> Program:
    """Reduce a face to `glyphs` and what they are composed of."""
    wanted = sorted({0, source.space, *(glyph for glyph in glyphs if glyph < source.glyph_count)})
    request = hb.SubsetInput()
    request.glyph_set.update(wanted)
    request.flags = hb.SubsetFlags.NO_HINTING
    request.drop_table_tag_set.update([_tag(table) for table in _DROPPED_TABLES])
    plan = hb.SubsetPlan(source.blob, request)
    old_to_new = plan.old_to_new_glyph_mapping
    data: bytes = plan.execute().blob.data
    return Program(data, {glyph: old_to_new[glyph] for glyph in wanted}, _subset_tag(wanted))


def _load(index: int, file: str, bold: bool, *, embolden: bool) -> Face:
    blob = hb.Face(hb.Blob.from_file_path(_FOLDER / file))
    font = hb.Font(blob)
    font.scale = (1000, 1000)
    extents = font.get_font_extents("ltr")
    characters = frozenset(blob.unicodes)
    return Face(
        index=index,
        name=file.removesuffix(".ttf"),
        bold=bold,
        embolden=embolden,
        blob=blob,
        font=font,
        characters=characters,
        ascent=extents.ascender,
        descent=extents.descender,
        box=_bounding_box(blob),
        glyph_count=blob.glyph_count,
        space=font.get_nominal_glyph(0x20) or 0,
        common=frozenset(map(font.get_nominal_glyph, _COMMON if index < 2 else ())),
        text_of_glyph=_texts(font, characters),
    )


def _texts(font: hb.Font, characters: Iterable[int]) -> dict[int, str]:
    # From the highest code down, so that of several characters with one glyph the lowest wins: the common one.
    texts: dict[int, str] = {}
    for code in sorted(characters, reverse=True):
        character = chr(code)
        # Presentation forms of Hebrew and Arabic stand for letters, a ligature for its first one and others.
        form = 0xFB1D <= code <= 0xFDFF or 0xFE70 <= code <= 0xFEFC
        texts[font.get_nominal_glyph(code)] = normalize("NFKC", character).lstrip(" ")[0] if form else character
    return texts


def _bounding_box(blob: hb.Face) -> tuple[int, int, int, int]:
    # OpenType `head`: unitsPerEm at 18, xMin yMin xMax yMax at 36.
    head = blob.reference_table("head").data
    (units_per_em,) = struct.unpack_from(">H", head, 18)
    corners = struct.unpack_from(">4h", head, 36)
    left, bottom, right, top = (corner * 1000 // units_per_em for corner in corners)
    return left, bottom, right, top


def _tag(table: str) -> int:
    return int.from_bytes(table.encode("ascii"), "big")


def _subset_tag(glyphs: Iterable[int]) -> str:
    # A polynomial over the glyphs: `hash` would be another one in each process for text, and means nothing to a reader.
    value = 0
    for glyph in glyphs:
        value = (value * 1_000_003 + glyph) % 26**6
    letters = []
    for _ in range(6):
        value, letter = divmod(value, 26)
        letters.append(_TAG_LETTERS[letter])
    return "".join(letters)
