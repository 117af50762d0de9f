"""Credit notes as PDF: what they say besides what an invoice says."""

import io

import pytest
from pypdf import PdfReader

from documents.render import render
from tests.invoice_events import BREAKFAST, credited, issued
from tests.unit.documents.test_render import page_texts, text_of


def test_a_credit_note_names_itself_its_invoice_and_its_reason() -> None:
    """Its own number, and that of the document it corrects (EN 16931 BT-25; Directive 2006/112/EC, article 219)."""
    text = text_of(render(credited(), None))
    for said in (
        *("Credit note", "Credit note number", "CN-ACME-2026-000007", "for invoice ACME-2026-000042"),
        *("Credited to", "Amount credited", "67.79 EUR", "Reason", "The cups arrived broken."),
        *("Acme Coffee Roasters SAS", "Zoë O'Neil", "A-1001", "21 November 2026", "Café crème, 250 g"),
    ):
        assert said in text
    for unsaid in ("Amount due", "Billed to", "Invoice number", "-67.79", "-39.98"):
        assert unsaid not in text


def test_an_invoice_says_nothing_of_a_credit_note() -> None:
    """Its pages are what they were: their digest stands in the tests of the template."""
    text = text_of(render(issued(), None))
    assert "redit" not in text
    assert "Reason" not in text


def test_a_credit_note_without_a_reason_has_no_heading_for_one() -> None:
    """Storefronts need not give one."""
    assert "Reason" not in text_of(render(credited(reason=""), None))


def test_a_long_credit_note_says_on_each_page_what_it_is() -> None:
    """In the running head, as an invoice does."""
    pages = page_texts(render(credited(BREAKFAST * 40), None))
    assert len(pages) > 2
    assert all("Credit note CN-ACME-2026-000007" in page for page in pages[1:])


@pytest.mark.parametrize("number", ["X" * 40, "4-" * 20, "한국" * 30])
def test_the_preceding_number_is_printed_in_full(number: str) -> None:
    """Whatever the seller's format makes of it: it is what the law asks for."""
    text = text_of(render(credited(preceding_invoice_number=number), None))
    assert number in text.replace("\n", "")


def test_the_file_says_that_it_is_a_credit_note() -> None:
    """For viewers and archives."""
    metadata = PdfReader(io.BytesIO(render(credited(), None))).metadata
    assert metadata is not None
    assert (metadata.title, metadata.subject) == ("CN-ACME-2026-000007", "Credit note CN-ACME-2026-000007")
