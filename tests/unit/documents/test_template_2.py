"""What the pages of template 2 say, and how they are laid out."""

import io
import itertools
import re
from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image, ImageChops
from pypdf import PdfReader
from pypdf.generic import ArrayObject, DictionaryObject, IndirectObject

from documents.render import render
from documents.template_2.language import language_of
from documents.template_2.titles import title
from streams.invoice_events import TEMPLATE_VERSION
from tests.invoice_events import BREAKFAST, Line, address, credited
from tests.unit.documents.cases import (
    CASES,
    REFERENCES,
    allowance,
    coloured,
    details,
    draw_pages,
    due,
    invoice,
    line_details,
    long_texts,
    many_lines,
    paid_by_card,
    payment,
    plain,
    references,
    reverse_charge,
)
from tests.unit.documents.test_render import page_texts, text_of

LANGUAGES = ("en", "de", "fr", "es", "it", "pl", "nl", "pt", "ja")
#: Averages of so many pixels a side are compared: machines may smooth the edges of a glyph differently.
_TILE_PIXELS = 4
#: The same page drawn on another machine stays below it; a line that moved does not.
_DIFFERENCE_MAX = 40


def said(event: Any, logo: bytes | None = None) -> str:
    """The text of all pages, spaces between words as one."""
    return re.sub(r"[\s\u00a0\u202f]+", " ", text_of(render(event, logo)))


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_page_looks_as_it_did_when_it_was_judged(name: str) -> None:
    """`python -m tests.unit.documents.cases` draws the references again: look at them before they are committed."""
    drawn, reference = draw_pages(name), Image.open(REFERENCES / f"{name}.png").convert("L")
    assert drawn.size == reference.size
    difference = ImageChops.difference(drawn, reference).reduce(_TILE_PIXELS)
    assert max(difference.tobytes()) <= _DIFFERENCE_MAX


def test_a_paid_invoice_says_that_it_is_paid_and_never_that_something_is_due() -> None:
    """Who has paid at the checkout must not pay again."""
    for event in (plain(), paid_by_card()):
        text = said(event)
        assert "Paid €67.79" in text
        assert "Paid on 21 November 2026" in text
        assert "Nothing is due." in text
        assert "Amount due" not in text
        assert "Please pay" not in text
    assert "by card ending in 4242" in said(paid_by_card())


def test_how_other_invoices_are_paid_is_not_how_this_one_was() -> None:
    """The seller's account is for those who still have to pay."""
    event = plain()
    event["seller"]["payment"] = payment(means="30", iban="DE89370400440532013000")
    text = said(event)
    assert "Paid on 21 November 2026. Nothing is due." in text
    assert "DE89" not in text


def test_an_unpaid_invoice_says_how_much_is_due_until_when_and_where_to_pay() -> None:
    """Also by the seller's account, if the invoice names none."""
    text = said(due())
    for each in (
        "Zahlbetrag 67,79 €",
        "Fällig am 21. Dezember 2026",
        "Bitte zahlen Sie 67,79 € bis zum 21. Dezember 2026.",
        "DE89 3704 0044 0532 0130 00",
        "COBADEFFXXX",
        "2 % Skonto",
        "Zum Zahlen scannen",
    ):
        assert each in text
    event = invoice()
    event["seller"]["payment"] = payment(iban="DE89370400440532013000", due_date="2026-12-05")
    assert "Please pay €67.79 by 5 December 2026." in said(event)
    assert "Payment reference ACME-2026-000042" in said(event)


@pytest.mark.parametrize(
    ("changed", "shown"),
    [
        ({}, True),
        ({"currency": "USD"}, False),
        ({"paid_on": "2026-11-21"}, False),
        ({"means": "48"}, False),
        ({"iban": ""}, False),
        ({"seller_name": "Ы" * 300}, True),
    ],
)
def test_a_qr_code_is_there_for_euros_that_are_to_be_transferred(changed: dict[str, str], shown: bool) -> None:
    """The one of the European Payments Council (EPC069-12), which banks' apps read."""
    given: dict[str, Any] = {"iban": "DE89370400440532013000", "means": "58", **changed}
    terms = payment(iban=given.pop("iban"), means=given.pop("means"))
    assert ("Scan to pay" in said(invoice(details=details(payment=terms), **given))) == shown


def test_a_direct_debit_is_announced() -> None:
    """With its mandate and both accounts (EN 16931 BT-89 to BT-91)."""
    text = said(coloured())
    for each in (
        "saranno addebitati sul Suo conto il 1 dicembre 2026",
        "MND-1",
        "IT66ZZZA1B2C3D4E5F6G7H8",
        "IT60 X054",
    ):
        assert each in text


def test_the_totals_add_up_to_what_is_payable() -> None:
    """Allowances and charges before the tax; prepaid and rounding after it."""
    text = said(coloured())
    for each in (
        *("Totale righe 58,08 €", "Sconto fedeltà -5,00 €", "Imballaggio +3,00 €", "Totale imponibile 56,08 €"),
        *("IVA 9,31 €", "Totale IVA inclusa 65,39 €", "Acconto versato -10,00 €", "Arrotondamento 0,01 €"),
        "Totale da pagare 55,40 €",
    ):
        assert each in text


def test_the_tax_in_the_sellers_own_currency_is_printed_with_its_rate() -> None:
    """EN 16931 BT-6 and BT-111."""
    event = invoice(details=details(accounting={"currency": "CHF", "exchange_rate": "0.9312"}))
    event["totals"]["details"] = {
        **dict.fromkeys(("lines_minor", "allowances_minor", "charges_minor", "prepaid_minor", "rounding_minor"), 0),
        "payable_minor": 6_779,
        "accounting_tax_minor": 904,
    }
    assert "VAT in CHF at 0.9312 CHF 9.04" in said(event)


def test_a_credit_note_names_its_invoice_with_its_date() -> None:
    """EN 16931 BT-25 and BT-26; and that the money went back."""
    text = said(CASES["credit-note"][0])
    for each in (
        *("Avoir", "CN-ACME-2026-000007", "sur la facture ACME-2026-000042 du 21 novembre 2026"),
        *("Montant crédité 67,79 €", "Remboursé le 25 novembre 2026", "Motif The cups arrived broken."),
    ):
        assert each in text
    assert "Net à payer" not in text


def test_a_credit_note_names_an_external_invoice_once() -> None:
    """Under the title, and not among the references as well, where an invoice has those before it."""
    named = {"number": "2025-00417", "issue_date": "2025-12-01"}
    event = credited(
        preceding_invoice_number=named["number"],
        preceding_issue_date=named["issue_date"],
        details=details(language="fr", preceding_invoices=[named]),
        template_version=TEMPLATE_VERSION,
    )
    assert said(event).count("2025-00417") == 1


def test_references_delivery_and_units_are_printed_in_words() -> None:
    """Codes of Recommendation 20 are for machines."""
    text = said(due())
    for each in (
        *("Ihre Bestellung PO-4711", "Ihre Referenz 04011000-12345-34", "Lieferdatum 20. November 2026"),
        *("Lager Süd", "Tor 3", "12 Stunden", "Kilogramm", "je 100 Kilowattstunden", "Treuerabatt (5 %): -2,00 €"),
        *("Listenpreis 5,50, Rabatt 0,60", "Ernte 2025/26", "HRB 12345", "Erika Muster", "214/5678/1234"),
    ):
        assert each in text
    for code in ("KGM", "HUR", "KWH"):
        assert code not in text


@pytest.mark.parametrize(
    ("quantity", "unit", "tag", "said_as"),
    [
        ("1", "HUR", "en", "hour"),
        ("2", "HUR", "en", "hours"),
        ("5", "HUR", "pl", "godzin"),
        ("1.5", "KGM", "fr", "kilogramme"),
        ("3", "C62", "en", ""),
        ("3", "XBX", "nl", "dozen"),
        ("3", "Q9X", "en", "Q9X"),
        ("2", "MTK", "ja", "平方メートル"),
    ],
)
def test_a_unit_has_the_form_that_its_number_asks_for(quantity: str, unit: str, tag: str, said_as: str) -> None:
    """CLDR's plurals; pieces go without, and a code that nobody knows is printed."""
    assert language_of(tag, "").unit(quantity, unit) == said_as


def test_the_reason_of_an_exemption_is_the_one_given_or_what_the_law_asks_for() -> None:
    """EN 16931 BT-120; Directive 2006/112/EC, article 226 (11a)."""
    assert "Reverse charge: the customer accounts for the VAT." in said(reverse_charge())
    event = reverse_charge()
    event["details"]["exemptions"] = [{"vat_category": "AE", "code": "VATEX-EU-AE", "reason": "Article 196"}]
    text = said(event)
    assert "Article 196" in text
    assert "the customer accounts" not in text


def test_the_tax_is_called_what_the_seller_calls_it() -> None:
    """Sales tax in the United States, GST in India."""
    event = invoice(currency="USD")
    event["seller"] |= {"tax_name": "Sales tax", "address": address("1 Main St", "Austin", "78701", "US")}
    text = said(event)
    assert "Sales tax rate" in text
    assert "Total excluding Sales tax" in text
    assert not re.search(r"\bVAT\b", text)


@pytest.mark.parametrize("tag", LANGUAGES)
def test_every_language_says_all_of_it(tag: str) -> None:
    """No braces left, no English between, and numbers as its region writes them."""
    english = said(due() | {"details": {**due()["details"], "language": "en"}})
    text = said(due() | {"details": {**due()["details"], "language": tag}})
    assert not re.search(r"[{}]", text)
    if tag != "en":
        for words in ("Invoice", "Total", "Billed to", "Please pay"):
            assert words in english
        assert not re.search(r"\b(Invoice|Billed to|Delivered to|Please pay|Unit price)\b", text)
        assert english != text


@pytest.mark.parametrize(
    ("tag", "country", "amount", "date"),
    [
        ("", "FR", "€1,234.50", "21 November 2026"),
        ("en", "US", "€1,234.50", "November 21, 2026"),
        ("de", "DE", "1.234,50 €", "21. November 2026"),
        ("de", "CH", "EUR 1'234.50", "21. November 2026"),
        ("fr", "FR", "1 234,50 €", "21 novembre 2026"),
        ("nl", "NL", "€ 1.234,50", "21 november 2026"),
        ("pt-BR", "PT", "€ 1.234,50", "21 de novembro de 2026"),
        ("ja", "JP", "€1,234.50", "2026年11月21日"),
        ("tlh", "DE", "€1,234.50", "21 November 2026"),
    ],
)
def test_amounts_and_dates_have_the_form_of_the_region(tag: str, country: str, amount: str, date: str) -> None:
    """The language's own, with the seller's country; English for what we don't print."""
    language = language_of(tag, country)
    assert re.sub("[\u00a0\u202f]", " ", language.amount(123_450, "EUR")) == amount
    assert language.date("2026-11-21") == date


@pytest.mark.parametrize(
    ("minor", "currency", "text"),
    [(123_450, "JPY", "123,450"), (6_779, "BHD", "6.779"), (-5, "EUR", "-0.05"), (1_234, "XAU", "1,234")],
)
def test_money_has_the_decimals_of_its_currency(minor: int, currency: str, text: str) -> None:
    """Of one that we don't know the minor units, never a guess."""
    assert language_of("en", "GB").money(minor, currency) == text


def test_large_numbers_are_grouped_as_in_india() -> None:
    """Lakhs and crores."""
    assert language_of("en", "IN").money(1_234_567_890, "INR") == "1,23,45,678.90"


@pytest.mark.parametrize(
    ("kind", "language", "country", "tax_id", "simplified", "cancelled", "titled"),
    [
        ("invoice", "de", "DE", "DE1", False, False, "Rechnung"),
        ("credit_note", "de", "DE", "DE1", False, False, "Rechnungskorrektur"),
        ("credit_note", "de", "DE", "DE1", False, True, "Stornorechnung"),
        ("credit_note", "de", "CH", "CHE1", False, True, "Gutschrift"),
        ("credit_note", "fr", "FR", "FR1", False, True, "Avoir"),
        ("credit_note", "fr", "BE", "BE1", False, False, "Note de crédit"),
        ("credit_note", "pl", "PL", "PL1", False, False, "Faktura korygująca"),
        ("invoice", "es", "ES", "ES1", True, False, "Factura simplificada"),
        ("credit_note", "es", "ES", "ES1", False, False, "Factura rectificativa"),
        ("invoice", "ja", "JP", "T1234567890123", False, False, "適格請求書"),
        ("invoice", "ja", "JP", "T1234567890123", True, False, "適格簡易請求書"),
        ("credit_note", "ja", "JP", "T1234567890123", False, False, "適格返還請求書"),
        ("invoice", "ja", "JP", "", False, False, "請求書"),
        ("invoice", "en", "AU", "51824753556", False, False, "Tax invoice"),
        ("invoice", "en", "AU", "", False, False, "Invoice"),
    ],
)
def test_a_document_is_titled_as_its_sellers_law_words_it(
    kind: str, language: str, country: str, tax_id: str, simplified: bool, cancelled: bool, titled: str
) -> None:
    """A "Gutschrift" is another document in Germany, and the right word in Switzerland."""
    assert title(kind, language, country, tax_id, simplified=simplified, cancelled=cancelled) == titled


@pytest.mark.parametrize("count", [*range(10, 40), 73, 74, 75])
def test_the_totals_are_never_alone_on_a_page(count: int) -> None:
    """Wherever the lines end: the page of the totals has one of them, and no line is lost."""
    pages = page_texts(render(many_lines(count), None))
    last = next(page for page in pages if "Amount due" in page and "Total excluding" in page)
    assert re.search(rf"Item {count}\b", last)
    assert re.findall(r"Item (\d+)", "\n".join(pages)) == [str(place) for place in range(1, count + 1)]


def test_amounts_are_carried_over_page_breaks() -> None:
    """What one page says at its foot the next says on top: the sum of all lines before."""
    pages = page_texts(render(many_lines(), None))
    assert len(pages) > 2
    so_far = 0
    for page, following in itertools.pairwise(pages):
        so_far += len(re.findall(r"Item \d+", page))
        amount = language_of("en", "").money(so_far * 1_234, "EUR")
        assert re.search(rf"Carried forward\s+{re.escape(amount)}", page)
        assert re.search(rf"Brought forward\s+{re.escape(amount)}", following)
    assert "Carried" not in pages[-1]


def test_a_tall_row_is_divided_and_loses_nothing() -> None:
    """It begins where there is room for it, and the last of it stands with the totals."""
    words = [f"w{place}" for place in range(2_500)]
    lines: list[Line] = [
        ("A", "First", "1", "1.00", "20.00", "S", 100),
        ("B", " ".join(words), "1", "1.00", "20.00", "S", 100),
    ]
    pages = page_texts(render(invoice(lines), None))
    assert len(pages) > 2
    assert "w0 " in pages[0]
    assert set(words) <= set(" ".join(pages).split())
    assert "w2499" in next(page for page in pages if "Total excluding" in page)


def test_a_thousand_lines_take_forty_pages_at_most() -> None:
    """Each once, in order, under the head of its table."""
    pages = page_texts(render(many_lines(1_000), None))
    assert len(pages) <= 40
    assert re.findall(r"Item (\d+)", "\n".join(pages)) == [str(place) for place in range(1, 1_001)]
    assert all("Description" in page for page in pages)


def test_nothing_is_printed_smaller_than_seven_points() -> None:
    """However long the numbers are: they stand below the description if they must."""
    huge: list[Line] = [("X", "Thing", "123456789012.123456", "123456789012.1234567891", "20.00", "S", 10**16)] * 3
    for event in (long_texts(), invoice(huge), invoice(seller_name="Ы" * 300, order_id="O" * 64)):
        document = render(event, None)
        reader = PdfReader(io.BytesIO(document))
        for page in reader.pages:
            content = page.get_contents()
            assert content is not None
            sizes = [float(size) for size in re.findall(rb"/F\d+ ([\d.]+) Tf", content.get_data())]
            assert min(sizes) >= 6.99
    # Whole: a number that is torn is another number.
    assert "123,456,789,012.123456" in said(invoice(huge))
    assert "123,456,789,012.1234567891" in said(invoice(huge))


def test_the_sellers_colour_is_used_where_it_can_be_read() -> None:
    """White on dark colours, dark on light ones, and no title in yellow on white."""
    for colour, band, ink in (("#c83c1e", b"0.784 0.235 0.118 rg", b"1 1 1 rg"), ("#ffee00", b"1 0.933 0 rg", b"")):
        event = invoice()
        event["seller"]["colour"] = colour
        content = PdfReader(io.BytesIO(render(event, None))).pages[0].get_contents()
        assert content is not None
        assert band in content.get_data()
        assert (b"1 1 1 rg" in content.get_data()) == bool(ink)


def test_a_column_that_says_nothing_is_left_out() -> None:
    """Services have no article numbers."""
    assert "SKU" not in said(invoice([("", "Advice", "1", "1.00", "20.00", "S", 100)]))
    assert "SKU" in said(invoice(BREAKFAST))


def test_a_buyer_without_an_address_has_no_lines_for_one() -> None:
    """A till's."""
    event = invoice()
    event["buyer"] |= {"address": address("", "", "", ""), "email": ""}
    assert "Billed to Zoë O'Neil Description" in said(event)


def test_notes_attachments_and_further_references_are_printed() -> None:
    """In full, their line ends kept."""
    event = invoice(
        note=None,
        details=details(
            notes=[{"subject_code": "REG", "text": "Registered in Lyon.\nCapital 10 000 €"}],
            attachments=[{"name": "Timesheet", "description": "October", "url": "https://example.com/t.pdf"}],
            preceding_invoices=[{"number": "INV-1", "issue_date": "2026-10-01"}],
            references=references(contract="C-1", project="P-1", tender="L-1", despatch_advice="D-1"),
            tax_point_date="2026-11-20",
        ),
    )
    event["lines"][0]["details"] = line_details(
        buyer_item_id="YOURS-1", order_line="7", charges=[allowance("1.00")], period={"start": "2026-11-01", "end": ""}
    )
    text = said(event)
    for each in (
        *("Registered in Lyon. Capital 10 000 €", "Timesheet · October · https://example.com/t.pdf"),
        *("INV-1, 1 October 2026", "Contract C-1", "Project P-1", "Tender or lot L-1", "Despatch advice D-1"),
        *("Tax point 20 November 2026", "Your item YOURS-1", "Order line 7", "Charge: +€1.00", "1 November 2026 – …"),
    ):
        assert each in text


def test_prices_with_tax_are_called_so() -> None:
    """What the buyer saw in the shop."""
    assert "Unit price incl. VAT" in said(invoice(details=details(prices_include_tax=True)))


def test_an_ordinary_invoice_has_no_words_for_what_it_does_not_have() -> None:
    """Nothing about payment if nothing is known, nothing empty."""
    text = said(invoice())
    assert "Amount due €67.79" in text
    for words in ("Payment", "Prepaid", "Rounding", "Discount", "Period", "None", "Sum of lines"):
        assert words not in text


# --- the file ---


def _elements(node: Any) -> Iterator[Any]:
    found = node.get_object() if isinstance(node, IndirectObject) else node
    if isinstance(found, ArrayObject):
        for each in found:
            yield from _elements(each)
    elif isinstance(found, DictionaryObject) and "/S" in found:
        yield found
        yield from _elements(found["/K"])


def _root(event: Any, logo: bytes | None = None) -> Any:
    return PdfReader(io.BytesIO(render(event, logo))).trailer["/Root"].get_object()


def test_the_file_is_tagged() -> None:
    """A title, tables with heads, a figure with what it shows: what PDF/UA-1 (ISO 14289) asks for."""
    root = _root(due())
    assert root["/MarkInfo"]["/Marked"]
    assert root["/Lang"] == "de"
    assert root["/ViewerPreferences"]["/DisplayDocTitle"]
    metadata = root["/Metadata"].get_object().get_data().decode()
    assert "<pdfuaid:part>1</pdfuaid:part>" in metadata
    assert "ACME-2026-000042" in metadata
    tags = [str(each["/S"]) for each in _elements(root["/StructTreeRoot"]["/K"])]
    assert tags[0] == "/Document"
    assert tags.count("/H1") == 1
    assert tags.count("/Table") == 3
    assert tags.count("/TR") == 1 + 3 + 1 + 2 + 4
    assert tags.count("/Figure") == 1
    figure = next(each for each in _elements(root["/StructTreeRoot"]["/K"]) if each["/S"] == "/Figure")
    assert figure["/Alt"] == "Zum Zahlen scannen"


@pytest.mark.parametrize("name", sorted(CASES))
def test_everything_drawn_is_content_or_decoration(name: str) -> None:
    """Each mark belongs to an element of the page's tree, and each row has as many cells as its table."""
    event, logo = CASES[name]
    reader = PdfReader(io.BytesIO(render(event, logo)))
    root: Any = reader.trailer["/Root"]
    nums = root["/StructTreeRoot"]["/ParentTree"]["/Nums"]
    for place, page in enumerate(reader.pages):
        content = page.get_contents()
        assert content is not None
        code = content.get_data()
        marks = re.findall(rb"/\w+ <</MCID (\d+)>> BDC", code)
        assert [int(mark) for mark in marks] == list(range(len(marks)))
        assert len(nums[2 * place + 1]) == len(marks)
        outside = re.sub(
            rb"(/Artifact BMC|/\w+ <</MCID \d+>> BDC)((?!EMC|/Span).|/Span.*?EMC)*EMC", b"", code, flags=re.S
        )
        assert not re.search(rb"T[jJ]|\bf\b|\bDo\b", outside)
    for table in (each for each in _elements(root["/StructTreeRoot"]["/K"]) if each["/S"] == "/Table"):
        assert len({len(row["/K"]) for row in _elements(table["/K"]) if row["/S"] == "/TR"}) == 1


def test_the_logo_is_said_aloud() -> None:
    """By the seller's name."""
    event, logo = CASES["coloured"]
    figures = [each for each in _elements(_root(event, logo)["/StructTreeRoot"]["/K"]) if each["/S"] == "/Figure"]
    assert [each["/Alt"] for each in figures] == ["Acme Coffee Roasters SAS"]


def test_a_credit_note_by_amount_or_for_a_cancelled_order_is_printed_too() -> None:
    """Without a date of its invoice, as older events are."""
    text = said(credited(template_version=2, refund_id="cancellation"))
    assert "for invoice ACME-2026-000042" in text
    assert "Amount credited €67.79" in text
