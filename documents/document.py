"""Pages of drawn text, written as a PDF with ReportLab's document model.

Nothing outside the arguments decides a byte: ReportLab's own clock (which SOURCE_DATE_EPOCH sets, even in invariant
mode) is replaced, and the settings that it reads from the environment are fixed here.
"""

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from hashlib import md5
from typing import Any

from reportlab import rl_config
from reportlab.pdfbase import pdfdoc

from documents.fonts import Face, face, subset
from documents.shaping import Run, TextLine

PAGE_WIDTH_POINTS = 595.28
PAGE_HEIGHT_POINTS = 841.89
#: The level of zlib's that ReportLab uses too; named, since another one is another document.
_COMPRESSION = 6
#: How far the outline of a glyph grows where a face has no bold file, in thousandths of the size.
_EMBOLDENING = 30
#: Documents that use the same characters embed the same fonts: at 10 kB each, in memory of each process.
_FONTS_CACHED = 1_024
_CMAP_ENTRIES_MAX = 100
#: Of Noto Sans, in thousandths of the size; the others come near enough for what viewers use it for.
_CAPITAL_HEIGHT = 714
_PRODUCER = "gapless"

#: A colour of the page as operands of PDF's `rg`: red, green and blue from 0 to 1.
Colour = str


@dataclass(slots=True)
class Page:
    """One page: what is drawn on it, from the lower left corner, in points."""

    code: list[str] = field(default_factory=list)
    glyphs: dict[int, set[int]] = field(default_factory=dict)
    texts: dict[int, dict[int, str]] = field(default_factory=dict)
    image: bool = False
    _fill: Colour | None = None

    def text(self, x: float, y: float, line: TextLine, size: float, colour: Colour, width_max: float = 0.0) -> None:
        """Draw `line` from `x` on. With `width_max` its size shrinks until it fits."""
        size = _fitting(line, size, width_max)
        if self._fill != colour:
            self._fill = colour
            self.code.append(f"{colour} rg")
        for run in line.runs:
            self._show(x, y, run, size, colour)
            x += run.width * size / 1000

    def text_right(
        self, x: float, y: float, line: TextLine, size: float, colour: Colour, width_max: float = 0.0
    ) -> None:
        """Draw `line` so that it ends at `x`."""
        size = _fitting(line, size, width_max)
        self.text(x - line.width * size / 1000, y, line, size, colour)

    def rule(self, x1: float, x2: float, y: float, thickness: float, colour: Colour) -> None:
        """Draw a horizontal rule, `y` its middle."""
        self.box(x1, y - thickness / 2, x2 - x1, thickness, colour)

    def box(self, x: float, y: float, width: float, height: float, colour: Colour) -> None:
        """Fill a rectangle."""
        self._fill = colour
        self.code.append(f"{colour} rg {x:.2f} {y:.2f} {width:.2f} {height:.2f} re f")

    def logo(self, x: float, y: float, width: float, height: float) -> None:
        """Place the document's logo."""
        self.image = True
        self.code.append(f"q {width:.2f} 0 0 {height:.2f} {x:.2f} {y:.2f} cm /Logo Do Q")

    def _show(self, x: float, y: float, run: Run, size: float, colour: Colour) -> None:
        self.glyphs.setdefault(run.face, set()).update(run.glyphs)
        if run.texts:
            known = self.texts.setdefault(run.face, {})
            for glyph, text in run.texts:
                known.setdefault(glyph, text)
        parts = [f"BT /F{run.face} {size:.2f} Tf 1 0 0 1 {x:.2f} {y:.2f} Tm"]
        embolden = face(run.face).embolden
        if embolden:
            parts.append(f"2 Tr {size * _EMBOLDENING / 1000:.3f} w {colour} RG")
        rise = 0
        for show in run.shows:
            if show.rise != rise:
                rise = show.rise
                parts.append(f"{rise * size / 1000:.2f} Ts")
            if show.actual_text is None:
                parts.append(f"{show.array}TJ")
            else:
                parts.append(f"/Span <</ActualText {_string(show.actual_text)}>> BDC {show.array}TJ EMC")
        if rise:
            parts.append("0 Ts")
        if embolden:
            parts.append("0 Tr")
        parts.append("ET")
        self.code.append(" ".join(parts))


@dataclass(frozen=True, slots=True)
class Image:
    """A picture as PDF holds it: the entries of its dictionary that differ, and its bytes, encoded by `filter_name`."""

    width_pixels: int
    height_pixels: int
    colour_space: str
    filter_name: str
    data: bytes
    mask: "Image | None" = None


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a viewer shows about the document. `created` is in UTC."""

    title: str
    author: str
    subject: str
    created: datetime


def write(pages: Sequence[Page], metadata: Metadata, image: Image | None) -> bytes:
    """The PDF file of `pages`."""
    rl_config.invariant = 1
    rl_config.pdfMultiLine = 0
    rl_config.pdfComments = 0
    document = pdfdoc.PDFDocument(compression=1, invariant=1, pdfVersion=(1, 7), lang="en")
    # The signature becomes the file's identifier, and began with a time that the environment can set.
    document.signature = md5(usedforsecurity=False)
    document.info = _Info(metadata)
    document.Catalog.ViewerPreferences = pdfdoc.PDFDictionary({"DisplayDocTitle": "true"})
    parent = _reference(document, document.Pages)
    resources = _add(document, _resources(document, pages, image))
    for page in pages:
        code = "\n".join(page.code).encode("ascii")
        document.updateSignature(code)
        document.addPage(
            _Raw(
                f"<< /Type /Page /Parent {parent} /MediaBox [0 0 {PAGE_WIDTH_POINTS} {PAGE_HEIGHT_POINTS}] "
                f"/Resources {resources} /Contents {_add_stream(document, code)} >>".encode("ascii")
            )
        )
    data: bytes = document.GetPDFData(None)
    return data


class _Info(pdfdoc.PDFInfo):  # type: ignore[misc]
    """The information dictionary, its dates from the event in place of the clock."""

    def __init__(self, metadata: Metadata) -> None:
        super().__init__()
        self.metadata = metadata
        self.title = metadata.title
        self.author = metadata.author
        self.subject = metadata.subject

    def format(self, document: Any) -> bytes:
        created = _string(f"D:{self.metadata.created:%Y%m%d%H%M%S}Z")
        return (
            f"<< /Title {_string(self.title)} /Author {_string(self.author)} /Subject {_string(self.subject)} "
            f"/Creator {_string(_PRODUCER)} /Producer {_string(_PRODUCER)} "
            f"/CreationDate {created} /ModDate {created} >>"
        ).encode("ascii")


class _Raw(pdfdoc.PDFObject):  # type: ignore[misc]
    """An object in the notation of the file. ReportLab numbers and places it."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def format(self, document: Any) -> bytes:
        return self.data


def _reference(document: Any, target: Any) -> str:
    formatted: bytes = document.Reference(target).format(document)
    return formatted.decode("ascii")


def _add(document: Any, notation: str) -> str:
    return _reference(document, _Raw(notation.encode("ascii")))


def _add_stream(document: Any, data: bytes, entries: str = "") -> str:
    return _add_encoded(document, zlib.compress(data, _COMPRESSION), f"/Filter /FlateDecode {entries}")


def _add_encoded(document: Any, data: bytes, entries: str) -> str:
    head = f"<< {entries} /Length {len(data)} >>\nstream\n".encode("ascii")
    return _reference(document, _Raw(head + data + b"\nendstream"))


def _resources(document: Any, pages: Iterable[Page], image: Image | None) -> str:
    glyphs: dict[int, set[int]] = {}
    texts: dict[int, dict[int, str]] = {}
    for page in pages:
        for index, used in page.glyphs.items():
            glyphs.setdefault(index, set()).update(used)
        for index, said in page.texts.items():
            known = texts.setdefault(index, {})
            for glyph, text in said.items():
                known.setdefault(glyph, text)
    fonts = " ".join(
        f"/F{index} {_add_font(document, face(index), glyphs[index], texts.get(index, {}))}" for index in glyphs
    )
    pictures = "" if image is None else f"/XObject << /Logo {_add_image(document, image)} >> "
    return f"<< /Font << {fonts} >> {pictures}>>"


def _add_font(document: Any, source: Face, glyphs: Iterable[int], texts: Mapping[int, str]) -> str:
    """A composite font whose codes are the glyphs of the whole face, and whose file holds only some."""
    parts = _font_parts(source.index, tuple(sorted({*glyphs, *source.common})), tuple(sorted(texts.items())))
    file = _add_encoded(document, parts.file, f"/Filter /FlateDecode /Length1 {parts.file_bytes}")
    descriptor = _add(
        document,
        f"<< /Type /FontDescriptor /FontName {parts.name} /Flags 4 /FontBBox [{' '.join(map(str, source.box))}] "
        f"/ItalicAngle 0 /Ascent {source.ascent} /Descent {source.descent} /CapHeight {_CAPITAL_HEIGHT} "
        f"/StemV {140 if source.bold else 80} /FontFile2 {file} >>",
    )
    descendant = _add(
        document,
        f"<< /Type /Font /Subtype /CIDFontType2 /BaseFont {parts.name} "
        "/CIDSystemInfo << /Registry (Adobe) /Ordering (Identity) /Supplement 0 >> "
        f"/FontDescriptor {descriptor} /DW 1000 /W {parts.widths} "
        f"/CIDToGIDMap {_add_encoded(document, parts.glyph_places, '/Filter /FlateDecode')} >>",
    )
    return _add(
        document,
        f"<< /Type /Font /Subtype /Type0 /BaseFont {parts.name} /Encoding /Identity-H "
        f"/DescendantFonts [{descendant}] "
        f"/ToUnicode {_add_encoded(document, parts.to_unicode, '/Filter /FlateDecode')} >>",
    )


@dataclass(frozen=True, slots=True)
class _FontParts:
    """What a document embeds of a face; the streams are compressed."""

    name: str
    file: bytes
    file_bytes: int
    glyph_places: bytes
    widths: str
    to_unicode: bytes


@lru_cache(maxsize=_FONTS_CACHED)
def _font_parts(face_index: int, glyphs: tuple[int, ...], texts: tuple[tuple[int, str], ...]) -> _FontParts:
    source = face(face_index)
    program = subset(source, glyphs)
    glyph_places = bytearray(2 * (max(glyphs, default=0) + 1))
    for glyph in glyphs:
        drawn = glyph if glyph < source.glyph_count else source.space
        glyph_places[2 * glyph : 2 * glyph + 2] = program.glyph_map[drawn].to_bytes(2, "big")
    return _FontParts(
        name=f"/{program.tag}+{source.name}",
        file=zlib.compress(program.data, _COMPRESSION),
        file_bytes=len(program.data),
        glyph_places=zlib.compress(bytes(glyph_places), _COMPRESSION),
        widths=_widths(source, glyphs),
        to_unicode=zlib.compress(_to_unicode(source, glyphs, dict(texts)), _COMPRESSION),
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
            entries.append(f"<{glyph:04X}> <{_utf16_hex(text)}>")
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


def _add_image(document: Any, image: Image) -> str:
    mask = f" /SMask {_add_image(document, image.mask)}" if image.mask is not None else ""
    return _add_encoded(
        document,
        image.data,
        f"/Type /XObject /Subtype /Image /Width {image.width_pixels} /Height {image.height_pixels} "
        f"/ColorSpace /{image.colour_space} /BitsPerComponent 8 /Filter /{image.filter_name}{mask}",
    )


def _fitting(line: TextLine, size: float, width_max: float) -> float:
    width = line.width * size / 1000
    return size * width_max / width if 0 < width_max < width else size


def _string(text: str) -> str:
    # UTF-16 in hex: no character of a customer's text can end the string.
    return f"<FEFF{_utf16_hex(text)}>"


def _utf16_hex(text: str) -> str:
    return text.encode("utf-16-be", "replace").hex().upper()
