"""Pages of drawn text, written as a PDF with ReportLab's document model.

Nothing outside the arguments decides a byte: ReportLab's own clock (which SOURCE_DATE_EPOCH sets, even in invariant
mode) is replaced, and the settings that it reads from the environment are fixed here.
"""

import zlib
from collections.abc import Iterable, Mapping, Sequence
from hashlib import md5
from typing import Any

from reportlab import rl_config
from reportlab.pdfbase import pdfdoc

from documents.embedding import COMPRESSION, composite, descendant, descriptor, font_parts, fonts_of
from documents.fonts import Face, face
from documents.page import PAGE_HEIGHT_POINTS, PAGE_WIDTH_POINTS, Image, Metadata, Page, pdf_string

_PRODUCER = "gapless"


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
        created = pdf_string(f"D:{self.metadata.created:%Y%m%d%H%M%S}Z")
        return (
            f"<< /Title {pdf_string(self.title)} /Author {pdf_string(self.author)} /Subject {pdf_string(self.subject)} "
            f"/Creator {pdf_string(_PRODUCER)} /Producer {pdf_string(_PRODUCER)} "
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
    return _add_encoded(document, zlib.compress(data, COMPRESSION), f"/Filter /FlateDecode {entries}")


def _add_encoded(document: Any, data: bytes, entries: str) -> str:
    head = f"<< {entries} /Length {len(data)} >>\nstream\n".encode("ascii")
    return _reference(document, _Raw(head + data + b"\nendstream"))


def _resources(document: Any, pages: Iterable[Page], image: Image | None) -> str:
    fonts = " ".join(
        f"/F{index} {_add_font(document, face(index), glyphs, texts)}"
        for index, (glyphs, texts) in fonts_of(pages).items()
    )
    pictures = "" if image is None else f"/XObject << /Logo {_add_image(document, image)} >> "
    return f"<< /Font << {fonts} >> {pictures}>>"


def _add_font(document: Any, source: Face, glyphs: Iterable[int], texts: Mapping[int, str]) -> str:
    parts = font_parts(source.index, tuple(sorted({*glyphs, *source.common})), tuple(sorted(texts.items())))
    file = _add_encoded(document, parts.file, f"/Filter /FlateDecode /Length1 {parts.file_bytes}")
    described = _add(document, descriptor(source, parts, file))
    places = _add_encoded(document, parts.glyph_places, "/Filter /FlateDecode")
    lower = _add(document, descendant(parts, described, places))
    return _add(document, composite(parts, lower, _add_encoded(document, parts.to_unicode, "/Filter /FlateDecode")))


def _add_image(document: Any, image: Image) -> str:
    mask = f" /SMask {_add_image(document, image.mask)}" if image.mask is not None else ""
    return _add_encoded(
        document,
        image.data,
        f"/Type /XObject /Subtype /Image /Width {image.width_pixels} /Height {image.height_pixels} "
        f"/ColorSpace /{image.colour_space} /BitsPerComponent 8 /Filter /{image.filter_name}{mask}",
    )
