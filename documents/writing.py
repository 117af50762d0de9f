"""Pages and the structure of what is on them, written as a tagged PDF: PDF/UA-1, ISO 14289.

Nothing outside the arguments decides a byte. All but the streams is packed into object streams (ISO 32000-1, 7.5.7):
the structure of a document has ten objects a line.
"""

import zlib
from collections.abc import Sequence
from hashlib import md5
from xml.sax.saxutils import escape

from documents.embedding import composite, descendant, descriptor, font_parts, fonts_of
from documents.fonts import face
from documents.page import PAGE_HEIGHT_POINTS, PAGE_WIDTH_POINTS, Element, Image, Metadata, Page, pdf_string

_PRODUCER = "gapless"
#: zlib's level: 6 takes half as long again, for a tenth of the bytes. Another one is another document.
_COMPRESSION = 4
#: In the cross-reference stream: of no object.
_NO_ENTRY = bytes(7)
#: Objects in a stream: a reader unpacks all of them for one.
_PACKED_MAX = 200
#: Zero width space.
_NOTHING = "\u200b"
_FLATE = "/Filter /FlateDecode"


def write(pages: Sequence[Page], root: Element, language: str, metadata: Metadata, image: Image | None) -> bytes:
    """The PDF file of `pages`, whose content belongs to `root` and its parts. `language` is a BCP 47 tag."""
    file = _File()
    for page in pages:
        page.finish()
    contents = ["\n".join(page.code).encode("ascii") for page in pages]
    tree = file.reserve()
    parent = file.reserve()
    resources = file.add_clear(_resources(file, pages, image))
    for page in pages:
        page.reference = file.reserve()
    for place, (page, content) in enumerate(zip(pages, contents, strict=True)):
        file.put(
            page.reference,
            f"<</Type/Page/Parent {parent}/MediaBox[0 0 {PAGE_WIDTH_POINTS} {PAGE_HEIGHT_POINTS}]"
            f"/Resources {resources}/Contents {file.add_stream(content)}/StructParents {place}>>",
        )
    file.put(parent, f"<</Type/Pages/Kids[{' '.join(page.reference for page in pages)}]/Count {len(pages)}>>")
    _add_element(file, root, tree)
    nums = " ".join(
        f"{place} [{' '.join([element.reference for element in page.marked])}]" for place, page in enumerate(pages)
    )
    file.put(
        tree,
        f"<</Type/StructTreeRoot/K {root.reference}/ParentTree <</Nums[{nums}]>>/ParentTreeNextKey {len(pages)}>>",
    )
    about = _xmp(metadata, language)
    described = file.add_encoded(about, "/Type/Metadata/Subtype/XML")
    catalogue = file.add(
        f"<</Type/Catalog/Pages {parent}/Metadata {described}/StructTreeRoot {tree}/MarkInfo <</Marked true>>"
        f"/Lang {pdf_string(language)}/ViewerPreferences <</DisplayDocTitle true>>>>"
    )
    identity = md5(about, usedforsecurity=False)
    for content in contents:
        identity.update(content)
    return file.bytes(catalogue, file.add(_information(metadata)), identity.hexdigest())


class _File:
    """Numbered objects."""

    def __init__(self) -> None:
        self._objects: list[str | bytes | None] = []

    def reserve(self) -> str:
        """The reference of an object that is put later."""
        self._objects.append(None)
        return f"{len(self._objects)} 0 R"

    def put(self, reference: str, notation: str) -> None:
        """The object that was reserved."""
        self._objects[int(reference.partition(" ")[0]) - 1] = notation

    def add(self, notation: str) -> str:
        """A further object, and its reference."""
        self._objects.append(notation)
        return f"{len(self._objects)} 0 R"

    def add_clear(self, notation: str) -> str:
        """A further object that can be found in the file as it is."""
        self._objects.append(notation.encode("ascii"))
        return f"{len(self._objects)} 0 R"

    def add_stream(self, data: bytes, entries: str = "") -> str:
        """A stream, packed."""
        return self.add_encoded(zlib.compress(data, _COMPRESSION), _FLATE + entries)

    def add_encoded(self, data: bytes, entries: str) -> str:
        """A stream that is as it will be in the file."""
        head = f"<<{entries}/Length {len(data)}>>\nstream\n".encode("ascii")
        self._objects.append(head + data + b"\nendstream")
        return f"{len(self._objects)} 0 R"

    def bytes(self, catalogue: str, information: str, identity: str) -> bytes:
        """The whole file; `identity` is 32 digits in hex that tell it from others."""
        #: By the number of an object: its entry in the cross-reference stream.
        entries = [_NO_ENTRY] * (len(self._objects) + 1)
        plain = [(place, each) for place, each in enumerate(self._objects, start=1) if type(each) is str]
        for start in range(0, len(plain), _PACKED_MAX):
            packed = plain[start : start + _PACKED_MAX]
            stream = len(self._objects) + 1
            offsets: list[str] = []
            length = 0
            for index, (place, notation) in enumerate(packed):
                offsets.append(f"{place} {length}")
                length += len(notation) + 1
                entries[place] = b"\2" + stream.to_bytes(4, "big") + index.to_bytes(2, "big")
            head = " ".join(offsets)
            body = "\n".join([notation for _, notation in packed])
            self.add_stream(f"{head}\n{body}".encode("ascii"), f"/Type/ObjStm/N {len(packed)}/First {len(head) + 1}")
            entries.append(_NO_ENTRY)
        # The comment's bytes tell transfer programs that the file is not text.
        written = [b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n"]
        offset = len(written[0])
        for place, each in enumerate(self._objects, start=1):
            if type(each) is bytes:
                entry = b"%d 0 obj\n%b\nendobj\n" % (place, each)
                entries[place] = b"\1" + offset.to_bytes(4, "big") + b"\0\0"
                written.append(entry)
                offset += len(entry)
        entries.append(b"\1" + offset.to_bytes(4, "big") + b"\0\0")
        table = b"".join(entries)
        written += [
            f"{len(entries) - 1} 0 obj\n<</Type/XRef/Size {len(entries)}/W[1 4 2]/Root {catalogue}/Info {information}"
            f"/ID[<{identity}><{identity}>]/Length {len(table)}>>\nstream\n".encode("ascii"),
            table,
            f"\nendstream\nendobj\nstartxref\n{offset}\n%%EOF\n".encode("ascii"),
        ]
        return b"".join(written)


def _add_element(file: _File, element: Element, parent: str) -> None:
    first = element.kids[0] if element.kids else None
    if isinstance(first, tuple) and len(element.kids) == 1:
        # Most of them.
        page, mark = first
        notation = f"<</S/{element.tag}/P {parent}/Pg {page.reference}{element.entries}/K {mark}>>"
        element.reference = file.add(notation)
        return
    element.reference = file.reserve()
    kids: list[str] = []
    first_page = first[0].reference if isinstance(first, tuple) else ""
    for kid in element.kids:
        if isinstance(kid, tuple):
            page, mark = kid
            on_first = page.reference == first_page
            kids.append(str(mark) if on_first else f"<</Type/MCR/Pg {page.reference}/MCID {mark}>>")
        # What draws nothing has no part in the structure, but for cells: rows have as many as their table.
        elif kid.kids or kid.tag in {"TD", "TH"}:
            _add_element(file, kid, element.reference)
            kids.append(kid.reference)
    on = f"/Pg {first_page}" if first_page else ""
    file.put(element.reference, f"<</S/{element.tag}/P {parent}{on}{element.entries}/K[{' '.join(kids)}]>>")


def _resources(file: _File, pages: Sequence[Page], image: Image | None) -> str:
    fonts: list[str] = []
    for index, (glyphs, texts) in fonts_of(pages).items():
        source = face(index)
        # Where several glyphs draw a syllable, its text stands beside them; alone they say nothing, but must say it.
        mute = [glyph for glyph in glyphs.difference(source.text_of_glyph, texts) if glyph < source.glyph_count]
        texts.update(dict.fromkeys(mute, _NOTHING))
        parts = font_parts(index, tuple(sorted({*glyphs, *source.common})), tuple(sorted(texts.items())))
        program = file.add_encoded(parts.file, f"{_FLATE}/Length1 {parts.file_bytes}")
        described = file.add(descriptor(source, parts, program))
        lower = file.add(descendant(parts, described, file.add_encoded(parts.glyph_places, _FLATE)))
        fonts.append(f"/F{index} {file.add(composite(parts, lower, file.add_encoded(parts.to_unicode, _FLATE)))}")
    # The audit looks for the logo by these bytes.
    pictures = "" if image is None else f"/XObject << /Logo {_add_image(file, image)} >> "
    return f"<</Font<<{' '.join(fonts)}>>{pictures}>>"


def _add_image(file: _File, image: Image) -> str:
    mask = f"/SMask {_add_image(file, image.mask)}" if image.mask is not None else ""
    return file.add_encoded(
        image.data,
        f"/Type/XObject/Subtype/Image/Width {image.width_pixels}/Height {image.height_pixels}"
        f"/ColorSpace/{image.colour_space}/BitsPerComponent 8/Filter/{image.filter_name}{mask}",
    )


def _information(metadata: Metadata) -> str:
    created = pdf_string(f"D:{metadata.created:%Y%m%d%H%M%S}Z")
    return (
        f"<</Title {pdf_string(metadata.title)}/Author {pdf_string(metadata.author)}"
        f"/Subject {pdf_string(metadata.subject)}/Creator {pdf_string(_PRODUCER)}/Producer {pdf_string(_PRODUCER)}"
        f"/CreationDate {created}/ModDate {created}>>"
    )


def _xmp(metadata: Metadata, language: str) -> bytes:
    """The metadata stream, not packed: software that knows no PDF looks for it."""
    created = f"{metadata.created:%Y-%m-%dT%H:%M:%SZ}"
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">\n'
        '<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" '
        'xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:pdf="http://ns.adobe.com/pdf/1.3/" '
        'xmlns:pdfuaid="http://www.aiim.org/pdfua/ns/id/">\n'
        "<pdfuaid:part>1</pdfuaid:part>\n"
        f'<dc:title><rdf:Alt><rdf:li xml:lang="x-default">{_xml(metadata.title)}</rdf:li></rdf:Alt></dc:title>\n'
        f"<dc:creator><rdf:Seq><rdf:li>{_xml(metadata.author)}</rdf:li></rdf:Seq></dc:creator>\n"
        '<dc:description><rdf:Alt><rdf:li xml:lang="x-default">'
        f"{_xml(metadata.subject)}</rdf:li></rdf:Alt></dc:description>\n"
        f"<dc:language><rdf:Bag><rdf:li>{_xml(language)}</rdf:li></rdf:Bag></dc:language>\n"
        f"<xmp:CreateDate>{created}</xmp:CreateDate><xmp:ModifyDate>{created}</xmp:ModifyDate>\n"
        f"<xmp:CreatorTool>{_PRODUCER}</xmp:CreatorTool><pdf:Producer>{_PRODUCER}</pdf:Producer>\n"
        '</rdf:Description></rdf:RDF></x:xmpmeta>\n<?xpacket end="r"?>'
    ).encode()


def _xml(text: str) -> str:
    # `clean` has taken out what XML can't say.
    return escape(text)
