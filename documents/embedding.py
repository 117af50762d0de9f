"""The fonts of a document, as it embeds them."""

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from documents.fonts import Face, face, subset
from documents.page import Page, utf16_hex

#: The level of zlib's that documents are packed with; another one is another document.
COMPRESSION = 6
#: Documents that use the same characters embed the same fonts: at 10 kB each, in memory of each process.
_FONTS_CACHED = 1_024
_CMAP_ENTRIES_MAX = 100
#: Of Noto Sans, in thousandths of the size; the others come near enough for what viewers use it for.
_CAPITAL_HEIGHT = 714


def fonts_of(pages: Iterable[Page]) -> Mapping[int, tuple[set[int], dict[int, str]]]:
    """By the face's place: the glyphs that the pages show, and what they stand for where the font doesn't say."""
    found: dict[int, tuple[set[int], dict[int, str]]] = {}
    for page in pages:
        for index, used in page.glyphs.items():
            found.setdefault(index, (set(), {}))[0].update(used)
        for index, said in page.texts.items():
            known = found[index][1]
            for glyph, text in said.items():
                known.setdefault(glyph, text)
    return found


def descriptor(source: Face, parts: "FontParts", file: str) -> str:
    """The font descriptor; `file` is the reference of the font file."""
    return (
        f"<< /Type /FontDescriptor /FontName {parts.name} /Flags 4 /FontBBox [{' '.join(map(str, source.box))}] "
        f"/ItalicAngle 0 /Ascent {source.ascent} /Descent {source.descent} /CapHeight {_CAPITAL_HEIGHT} "
        f"/StemV {140 if source.bold else 80} /FontFile2 {file} >>"
    )


def descendant(parts: "FontParts", descriptor_place: str, glyph_places: str) -> str:
    """The font whose codes are the glyphs of the whole face, and whose file holds only some."""
    return (
        f"<< /Type /Font /Subtype /CIDFontType2 /BaseFont {parts.name} "
        "/CIDSystemInfo << /Registry (Adobe) /Ordering (Identity) /Supplement 0 >> "
        f"/FontDescriptor {descriptor_place} /DW 1000 /W {parts.widths} /CIDToGIDMap {glyph_places} >>"
    )


def composite(parts: "FontParts", descendant_place: str, to_unicode: str) -> str:
    """The font that pages name."""
    return (
        f"<< /Type /Font /Subtype /Type0 /BaseFont {parts.name} /Encoding /Identity-H "
        f"/DescendantFonts [{descendant_place}] /ToUnicode {to_unicode} >>"
    )


@dataclass(frozen=True, slots=True)
class FontParts:
    """What a document embeds of a face; the streams are compressed."""

    name: str
    file: bytes
    file_bytes: int
    glyph_places: bytes
    widths: str
    to_unicode: bytes


@lru_cache(maxsize=_FONTS_CACHED)
def font_parts(face_index: int, glyphs: tuple[int, ...], texts: tuple[tuple[int, str], ...]) -> FontParts:
    """Those of a face for some glyphs, sorted; `texts` is what glyphs stand for where the font doesn't say, sorted."""
    source = face(face_index)
    program = subset(source, glyphs)
    glyph_places = bytearray(2 * (max(glyphs, default=0) + 1))
    for glyph in glyphs:
        drawn = glyph if glyph < source.glyph_count else source.space
        glyph_places[2 * glyph : 2 * glyph + 2] = program.glyph_map[drawn].to_bytes(2, "big")
    return FontParts(
        name=f"/{program.tag}+{source.name}",
        file=zlib.compress(program.data, COMPRESSION),
        file_bytes=len(program.data),
        glyph_places=zlib.compress(bytes(glyph_places), COMPRESSION),
        widths=_widths(source, glyphs),
        to_unicode=zlib.compress(_to_unicode(source, glyphs, dict(texts)), COMPRESSION),
    )


def _widths(source: Face, glyphs: Sequence[int]) -> str:
    parts: list[str] = []
    previous = -2
    for glyph in glyphs:
        parts.append(str(source.advance(glyph)) if glyph == previous + 1 else f"] {glyph} [{source.advance(glyph)}")
        previous = glyph
    return "[" + " ".join(parts).removeprefix("]") + ("]]" if parts else "]")


def _to_unicode(source: Face, glyphs: Sequence[int], texts: Mapping[int, str]) -> bytes:
    entries: list[str] = []
    for glyph in glyphs:
        text = source.text(glyph) or texts.get(glyph)
        if text:
            entries.append(f"<{glyph:04X}> <{utf16_hex(text)}>")
    blocks = [
        f"{len(block)} beginbfchar\n" + "\n".join(block) + "\nendbfchar\n"
        for start in range(0, len(entries), _CMAP_ENTRIES_MAX)
        if (block := entries[start : start + _CMAP_ENTRIES_MAX])
    ]
    return (
        "/CIDInit /ProcSet findresource begin\n12 dict begin\nbegincmap\n"
        "/CIDSystemInfo <</Registry (Adobe) /Ordering (UCS) /Supplement 0>> def\n"
        "/CMapName /Adobe-Identity-UCS def\n/CMapType 2 def\n"
        "1 begincodespacerange\n<0000> <FFFF>\nendcodespacerange\n"
        + "".join(blocks)
        + "endcmap\nCMapName currentdict /CMap defineresource pop\nend\nend\n"
    ).encode("ascii")
