import gc
import hashlib
import io
import os
import random
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import pytest
from PIL import Image
from pypdf import PdfReader
from pypdf.generic import ArrayObject, DictionaryObject, IndirectObject
from pypdfium2 import PdfDocument

from audit.objects import check_some
from audit.report import AuditReport
from documents.logo import BadLogoError
from documents.render import TEMPLATES, DocumentEvent, UnknownTemplateError, render
from domain.records import InvoiceIssued
from schemas.catalog import INVOICE_ISSUED
from streams.invoice_events import TEMPLATE_VERSION
from tests.invoice_events import BREAKFAST, address, credited, described, issued
from tests.records import written

ARABIC_NAME = "عبد الرحمن بن محمد القحطاني للتجارة والمقاولات"

#: Renders samples one after the other and prints the digest of each; in the order that its argument says.
_PRINT_DIGESTS = """
import hashlib, sys
from documents.render import render
from tests.unit.documents.test_render import SAMPLES
names = sorted(SAMPLES, reverse=sys.argv[1] == "backwards")
digests = {}
for name in names:
    event, logo = SAMPLES[name]
    for version in (1, 2):
        document = render({**event, "template_version": version}, logo)
        digests[name, version] = hashlib.sha256(document).hexdigest()
print(sorted(digests.items()))
"""


def picture(mode: str, kind: str, size: tuple[int, int] = (40, 20)) -> bytes:
    out = io.BytesIO()
    Image.new(mode, size, (30, 60, 90, 120)[: len(mode)]).save(out, kind)
    return out.getvalue()


def noise(side_pixels: int) -> bytes:
    """A PNG that holds what no format makes smaller."""
    out = io.BytesIO()
    pixels = random.Random(7).randbytes(3 * side_pixels**2)
    Image.frombytes("RGB", (side_pixels, side_pixels), pixels).save(out, "PNG")
    return out.getvalue()


LOGO = picture("RGBA", "PNG")
SAMPLES: dict[str, tuple[DocumentEvent, bytes | None]] = {
    "latin": (issued(), None),
    "logo": (issued(), picture("RGBA", "PNG")),
    "arabic": (issued(buyer_name=ARABIC_NAME, currency="BHD"), None),
    "cjk": (issued(buyer_name="山田 太郎 / 김철수 / 王小明", currency="JPY"), None),
    "greek": (issued(buyer_name="Ἀριστοτέλης µ μ", seller_name="ООО «Ёлка»"), None),
    "long": (issued(BREAKFAST * 40), None),
    "tax": (issued([("S", "Thing", "1", "1.00", "0.00", code, 100) for code in ("AE", "K", "G", "E", "O", "Z")]), None),
    "credit note": (credited(), None),
    "long credit note": (credited(BREAKFAST * 40, reason="Sent back.\n" * 60), picture("RGBA", "PNG")),
    "marks": (described("हिन्दी क्षेत्र ที่นี่ שָׁלוֹם 😀 \u202e ✓"), None),
}


def text_of(document: bytes) -> str:
    return "\n".join(page.extract_text() for page in PdfReader(io.BytesIO(document)).pages)


def page_texts(document: bytes) -> list[str]:
    return [page.extract_text() for page in PdfReader(io.BytesIO(document)).pages]


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_the_same_event_gives_the_same_bytes(name: str) -> None:
    """Once more in the same process."""
    event, logo = SAMPLES[name]
    assert render(event, logo) == render(event, logo)


def test_the_same_event_gives_the_same_bytes_in_any_process_on_any_day() -> None:
    """Whatever the hash seed, the clock that builds use, the time zone, the locale, and what was rendered before."""
    outputs = []
    for order, environment in (
        ("forwards", {"PYTHONHASHSEED": "1", "TZ": "Asia/Tokyo", "LC_ALL": "C"}),
        ("backwards", {"PYTHONHASHSEED": "2", "SOURCE_DATE_EPOCH": "1", "TZ": "UTC", "LC_ALL": "tr_TR.UTF-8"}),
    ):
        done = subprocess.run(
            [sys.executable, "-c", _PRINT_DIGESTS, order],
            env={**os.environ, **environment, "PYTHONPATH": str(Path(__file__).parents[3])},
            check=True,
            capture_output=True,
            text=True,
        )
        outputs.append(done.stdout)
    assert outputs[0] == outputs[1]


#: Of each template, the digests of the pages of all samples by kind. What is written here is never changed.
PAGES = {
    1: {
        "invoice": "57060a2c0a426905adf01fb39335b827ab6c7267160e8aecc5d5ae7305149533",
        "credit_note": "ef523f35e892430aa23134c34ae95eb8b2cec6027ec1b3389a39d0ccb6f567f1",
    },
    2: {
        "invoice": "243f119bc35c980407999d8d718b49a582ea68c565c3f2c5e7357781bd7654d7",
        "credit_note": "b8b0718088d2860778dc4b2f1dd1cdd8834f8c1d36d5ea5a3cb0bcc99c026025",
    },
}


def pages(documents: Iterable[bytes]) -> bytes:
    """What is drawn on all pages. Unpacked: what zlib makes of them may differ between machines."""
    contents = (page.get_contents() for each in documents for page in PdfReader(io.BytesIO(each)).pages)
    return b"".join(content.get_data() for content in contents if content is not None)


@pytest.mark.parametrize("version", sorted(PAGES))
@pytest.mark.parametrize("kind", ["invoice", "credit_note"])
def test_a_template_prints_what_it_always_has(version: int, kind: str) -> None:
    """A change that alters a page is another template, with a row of its own in `TEMPLATES` and in `PAGES`."""
    printed = [
        render(cast(DocumentEvent, {**event, "template_version": version}), logo)
        for event, logo in SAMPLES.values()
        if event["kind"] == kind
    ]
    assert hashlib.sha256(pages(printed)).hexdigest() == PAGES[version][kind]


def test_every_template_is_there_for_ever_and_new_documents_have_one_of_them() -> None:
    """Events of old templates stay in their topic, and in the journal."""
    assert set(TEMPLATES) == set(PAGES)
    assert TEMPLATE_VERSION in TEMPLATES


def test_an_event_is_printed_by_its_own_template(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while another is the newest: what is in flight when a release is rolled out, and what is rendered again."""
    event, logo = SAMPLES["logo"]
    before = render(event, logo)

    def newer(event: DocumentEvent, logo: bytes | None) -> bytes:
        assert event["template_version"] == 3
        return b"of version 3"

    monkeypatch.setitem(cast(dict[int, Any], TEMPLATES), 3, newer)
    assert render(cast(DocumentEvent, {**event, "template_version": 3}), logo) == b"of version 3"
    assert render(event, logo) == before


@pytest.mark.parametrize("was_on", [True, False])
def test_the_collector_is_as_it_was_after_a_document_and_after_a_failure(was_on: bool) -> None:
    """It waits while one is rendered."""
    seen: list[bool] = []

    def template(event: DocumentEvent, logo: bytes | None) -> bytes:
        seen.append(gc.isenabled())
        if logo is not None:
            raise BadLogoError("no picture")
        return b""

    (gc.enable if was_on else gc.disable)()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(cast(dict[int, Any], TEMPLATES), issued()["template_version"], template)
            render(issued(), None)
            after_one = gc.isenabled()
            with pytest.raises(BadLogoError):
                render(issued(), b"")
        assert (seen, after_one, gc.isenabled()) == ([False, False], was_on, was_on)
    finally:
        gc.enable()


def test_the_order_of_an_events_fields_does_not_matter() -> None:
    """A decoder may build its mappings in any order."""
    event = issued()
    assert render(cast(InvoiceIssued, dict(reversed(event.items()))), None) == render(event, None)


def test_another_event_gives_another_document() -> None:
    """Also where only the time of issue differs: it is in the metadata."""
    event = issued()
    assert render({**event, "issued_at": event["issued_at"] + 1_000_000}, None) != render(event, None)


def test_an_invoice_says_what_an_invoice_must() -> None:
    """Parties, number, date, lines, VAT per rate, totals (EN 16931; Directive 2006/112/EC, article 226)."""
    text = text_of(render(issued(), None))
    for said in (
        *("Invoice", "ACME-2026-000042", "21 November 2026", "A-1001"),
        *("Acme Coffee Roasters SAS", "FR12345678901", "24 rue de la République", "75001 Paris", "France"),
        *("Zoë O'Neil", "1 Main St", "69001 Lyon", "zoe@example.com"),
        *("Café crème, 250 g", "S-1", "19.99", "20%", "39.98", "5.5%"),
        *("58.08 EUR", "9.71 EUR", "67.79 EUR", "Amount due", "Thank you for your order.", "Page 1 of 1"),
    ):
        assert said in text


@pytest.mark.parametrize(
    ("currency", "said"), [("EUR", "67.79 EUR"), ("JPY", "6,779 JPY"), ("BHD", "6.779 BHD"), ("XAU", "6,779 XAU")]
)
def test_totals_have_the_decimals_of_their_currency(currency: str, said: str) -> None:
    """Minor units of the event, printed."""
    assert said in text_of(render(issued(currency=currency), None))


@pytest.mark.parametrize(
    ("category", "said"),
    [
        ("AE", "Reverse charge"),
        ("K", "intra-Community supply"),
        ("E", "Exempt from VAT"),
        ("G", "export outside the EU"),
    ],
)
def test_a_supply_without_vat_says_why(category: str, said: str) -> None:
    """A line of text for each category that needs one."""
    text = text_of(render(issued([("S", "Advice", "1", "10.00", "0.00", category, 1000)]), None))
    assert said in text
    assert f"0% {category}" in text


def test_a_long_invoice_repeats_the_head_of_its_table_and_counts_its_pages() -> None:
    """1,000 lines, each once, in order."""
    lines = [(f"SKU-{place}", f"Product {place}.", "1", "1.00", "20.00", "S", 100) for place in range(1_000)]
    pages = page_texts(render(issued(lines), None))
    assert len(pages) > 20
    for place, page in enumerate(pages, start=1):
        assert f"Page {place} of {len(pages)}" in page
        assert "ACME-2026-000042" in page
        assert page.count("Description") == ("Product" in page)
    assert re.findall(r"Product (\d+)\.", "\n".join(pages)) == [str(place) for place in range(1_000)]
    assert "1,200.00 EUR" in pages[-1]


def test_a_description_longer_than_a_page_goes_on_over_pages() -> None:
    """Nothing of it is lost."""
    words = [f"w{place}" for place in range(3_000)]
    text = text_of(render(described(" ".join(words)), None))
    assert set(words) <= set(text.split())


def test_many_rates_go_on_over_pages() -> None:
    """A breakdown that has no room beside the totals stands before them."""
    lines = [(f"S-{rate}", "Thing", "1", "1.00", f"{rate}.00", "S", 100) for rate in range(1, 90)]
    text = text_of(render(issued(lines), None))
    assert text.count("89%") == 2
    assert "89.00 EUR" in text


@pytest.mark.parametrize("whose", ["buyer", "seller"])
def test_a_name_of_any_length_is_printed_in_full(whose: str) -> None:
    """The page stays in order, the name goes on."""
    words = [f"w{place}" for place in range(400)]
    name = " ".join(words)
    text = text_of(render(issued(buyer_name=name) if whose == "buyer" else issued(seller_name=name), None))
    assert set(words) <= set(text.split())


def test_hostile_text_is_only_text() -> None:
    """What ends a string, a dictionary or a stream in the file's own notation has no effect."""
    hostile = ") Tj ET endstream endobj trailer << /Root 1 0 R >> \\ ( %%EOF <script> \0 \x1b[31m"
    reader = PdfReader(io.BytesIO(render(issued(buyer_name=hostile, invoice_number=hostile), None)), strict=True)
    text = reader.pages[0].extract_text()
    assert len(reader.pages) == 1
    assert "endstream endobj" in text
    assert "[U+0000] [U+001B][31m" in text.replace("\n", "")


def test_a_character_that_no_font_has_is_visible() -> None:
    """As its code point."""
    assert "[U+1F600]" in text_of(render(described("Cake 😀"), None))


def test_the_file_says_what_it_is() -> None:
    """Title, language, and the time of issue in place of the clock's."""
    reader = PdfReader(io.BytesIO(render(issued(), None)))
    assert reader.metadata is not None
    assert reader.metadata.title == "ACME-2026-000042"
    assert reader.metadata.author == "Acme Coffee Roasters SAS"
    assert str(reader.metadata["/CreationDate"]) == "D:20261121094000Z"
    assert str(_resolved(reader.trailer["/Root"])["/Lang"]) == "en"


def test_every_font_is_embedded() -> None:
    """The page looks the same on a machine that has none of them."""
    for event, logo in SAMPLES.values():
        page = PdfReader(io.BytesIO(render(event, logo))).pages[0]
        fonts = _resolved(_resolved(page["/Resources"])["/Font"])
        for font in fonts.values():
            descendants = _resolved(font)["/DescendantFonts"]
            assert isinstance(descendants, ArrayObject)
            descendant = _resolved(descendants[0])
            assert "/FontFile2" in _resolved(descendant["/FontDescriptor"])
            assert "/ToUnicode" in _resolved(font)


def test_a_typical_document_is_small() -> None:
    """Ten years of them are kept."""
    assert len(render(issued(), None)) < 25_000


@pytest.mark.parametrize(
    ("mode", "kind"), [("RGBA", "PNG"), ("RGB", "PNG"), ("RGB", "JPEG"), ("CMYK", "JPEG"), ("L", "PNG")]
)
def test_a_logo_is_printed(mode: str, kind: str) -> None:
    """In every form that sellers send."""
    reader = PdfReader(io.BytesIO(render(issued(), picture(mode, kind))))
    (image,) = reader.pages[0].images
    assert image.image is not None
    assert image.image.size == (40, 20)


def test_a_large_logo_is_made_small() -> None:
    """It is in every document."""
    assert len(render(issued(), picture("RGB", "PNG", (3_000, 2_000)))) < 100_000


@pytest.mark.parametrize(
    "logo", [b"", b"<svg/>", picture("RGB", "PNG")[:60], picture("RGB", "PNG", (6_000, 6_000)), b"\x89PNG" * 99_999]
)
def test_a_bad_logo_is_refused(logo: bytes) -> None:
    """Not an image, cut off, or a wall of pixels in a small file."""
    with pytest.raises(BadLogoError):
        render(issued(), logo)


def test_another_version_of_the_template_is_refused() -> None:
    """It would give other bytes than the event promises."""
    with pytest.raises(UnknownTemplateError, match="template_version is 3, and this release prints 1, 2"):
        render(issued(template_version=3), None)


@pytest.mark.parametrize(
    "name", ["Zoë O'Neil", ARABIC_NAME, "שלום עולם", "山田 太郎", "김철수", "Ἀριστοτέλης", "हिन्दी क्षेत्र", "ที่นี่ น้ำ"]
)
def test_pdfium_copies_names_as_they_are(name: str) -> None:
    """The reader inside Chromium, which turns text from right to left in its own way."""
    event = issued(seller_name=name, note=None)
    event["seller"]["address"] = address("1", "2", "3", "SA")
    document = PdfDocument(render(event, None))
    try:
        text = document[0].get_textpage().get_text_range()
    finally:
        document.close()
    assert name in text


def test_a_logo_that_the_event_names_is_never_left_out() -> None:
    event = issued()
    event["seller"]["logo_sha256"] = hashlib.sha256(LOGO).hexdigest()
    with pytest.raises(BadLogoError, match="not in the ledger"):
        render(event, None)


@pytest.mark.parametrize(("logo", "wrong"), [(None, "does not hold the logo"), (LOGO, "")])
def test_the_audit_notices_a_document_without_the_logo_of_its_event(logo: bytes | None, wrong: str) -> None:
    """It reads the objects in chunks, any of which may end within what it looks for."""
    event = issued()
    body = render(event, logo)
    event["seller"]["logo_sha256"] = hashlib.sha256(LOGO).hexdigest()
    digest = hashlib.sha256(body)
    key = f"invoices/{event['seller_id']}/2026/X-{digest.hexdigest()[:16]}.pdf"
    payload = written(INVOICE_ISSUED, event)
    row = ("s", 1, event["seller_id"], key, digest.digest(), len(body), payload)
    report = AuditReport(complete=False)
    for size in (7, len(body)):
        chunks = [body[start : start + size] for start in range(0, len(body), size)]
        check_some(report, [row], lambda _, chunks=chunks: chunks, lambda _: len(body), 1)  # type: ignore[misc]
    shown = list(report.shown())
    assert bool(shown) == bool(wrong)
    assert all(wrong in each.what for each in shown)


def _resolved(value: object) -> DictionaryObject:
    found = value.get_object() if isinstance(value, IndirectObject) else value
    assert isinstance(found, DictionaryObject)
    return found
