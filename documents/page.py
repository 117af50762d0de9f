"""What is drawn on pages, in the notation of PDF content streams, and what it is to software that reads aloud."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from documents.fonts import face
from documents.shaping import Run, TextLine

PAGE_WIDTH_POINTS = 595.28
PAGE_HEIGHT_POINTS = 841.89
#: How far the outline of a glyph grows where a face has no bold file, in thousandths of the size.
_EMBOLDENING = 30

#: A colour of the page as operands of PDF's `rg`: red, green and blue from 0 to 1.
Colour = str


@dataclass(slots=True, eq=False)
class Element:
    """A part of the document as software reads it aloud or copies it: its kind, and what belongs to it, in order."""

    #: A standard structure type of PDF (ISO 32000-1, 14.8.4): P, H1, Table, TR, TD ...
    tag: str
    #: Further entries of its dictionary, in the notation of the file.
    entries: str = ""
    kids: "list[Element | tuple[Page, int]]" = field(default_factory=list)
    #: Its reference, once it is in a file.
    reference: str = ""

    def add(self, tag: str, entries: str = "") -> "Element":
        """A new part at the end."""
        part = Element(tag, entries)
        self.kids.append(part)
        return part


#: What only decorates, or repeats: rules, running heads, page numbers.
ARTIFACT = Element("Artifact")


@dataclass(slots=True, eq=False)
class Page:
    """One page: what is drawn on it, from the lower left corner, in points.

    What is drawn belongs to the element that `belongs_to` named last; a page that never names one has no structure.
    """

    code: list[str] = field(default_factory=list)
    glyphs: dict[int, set[int]] = field(default_factory=dict)
    texts: dict[int, dict[int, str]] = field(default_factory=dict)
    image: bool = False
    #: The elements whose content is marked on the page, by the number of the mark.
    marked: list[Element] = field(default_factory=list)
    #: Its reference, once it is in a file.
    reference: str = ""
    _fill: Colour | None = None
    _element: Element | None = None
    _open: Element | None = None

    def belongs_to(self, element: Element) -> None:
        """What is drawn from here on is content of `element`."""
        self._element = element

    def finish(self) -> None:
        """Nothing more is drawn."""
        self._element = None
        self._mark()

    def text(self, x: float, y: float, line: TextLine, size: float, colour: Colour, width_max: float = 0.0) -> None:
        """Draw `line` from `x` on. With `width_max` its size shrinks until it fits."""
        if width_max:
            size = _fitting(line, size, width_max)
        if self._element is not self._open:
            self._mark()
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
        self._mark()
        self._fill = colour
        self.code.append(f"{colour} rg {x:.2f} {y:.2f} {width:.2f} {height:.2f} re f")

    def logo(self, x: float, y: float, width: float, height: float) -> None:
        """Place the document's logo."""
        self._mark()
        self.image = True
        self.code.append(f"q {width:.2f} 0 0 {height:.2f} {x:.2f} {y:.2f} cm /Logo Do Q")

    def squares(self, x: float, y: float, side: float, rows: Sequence[Sequence[bool]], colour: Colour) -> None:
        """Fill the squares of a grid that are set, its upper left corner at `x`, `y`: a QR code."""
        self._mark()
        self._fill = colour
        self.code.append(f"{colour} rg")
        for place, row in enumerate(rows):
            start = 0
            for column, filled in enumerate([*row, False]):
                if filled and not (column and row[column - 1]):
                    start = column
                elif not filled and column and row[column - 1]:
                    left, width = x + start * side, (column - start) * side
                    self.code.append(f"{left:.3f} {y - (place + 1) * side:.3f} {width:.3f} {side:.3f} re")
        self.code.append("f")

    def _mark(self) -> None:
        if self._element is self._open:
            return
        if self._open is not None:
            self.code.append("EMC")
        element = self._open = self._element
        if element is ARTIFACT:
            self.code.append("/Artifact BMC")
        elif element is not None:
            self.code.append(f"/{element.tag} <</MCID {len(self.marked)}>> BDC")
            element.kids.append((self, len(self.marked)))
            self.marked.append(element)

    def _show(self, x: float, y: float, run: Run, size: float, colour: Colour) -> None:
        known_glyphs = self.glyphs.get(run.face)
        if known_glyphs is None:
            known_glyphs = self.glyphs[run.face] = set()
        known_glyphs |= run.glyphs
        shows = run.shows
        if run.face < 2 and not run.texts and len(shows) == 1 and not shows[0].rise and shows[0].actual_text is None:
            # Most of all text.
            self.code.append(f"BT /F{run.face} {size:.2f} Tf 1 0 0 1 {x:.2f} {y:.2f} Tm {shows[0].array}TJ ET")
            return
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
                parts.append(f"/Span <</ActualText {pdf_string(show.actual_text)}>> BDC {show.array}TJ EMC")
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


def _fitting(line: TextLine, size: float, width_max: float) -> float:
    width = line.width * size / 1000
    return size * width_max / width if 0 < width_max < width else size


def pdf_string(text: str) -> str:
    """A text string. UTF-16 in hex: no character of a customer's text can end it."""
    return f"<FEFF{utf16_hex(text)}>"


def utf16_hex(text: str) -> str:
    """`text` as hexadecimal UTF-16."""
    return text.encode("utf-16-be", "replace").hex().upper()
