"""Template 1: what it prints never changes by a byte."""

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import zip_longest

from documents.logo import BadLogoError, logo_image
from documents.page import Image, Metadata, Page
from documents.shaping import TextLine
from documents.template_1 import amounts
from documents.template_1.clean import lines, one_line
from documents.template_1.countries import COUNTRY_NAMES
from documents.template_1.sheet import (
    ACCENT,
    BODY_LEADING,
    BODY_SIZE,
    CELL_INSET,
    HAIRLINE,
    INK,
    LEFT,
    MUTED,
    RIGHT,
    SMALL_LEADING,
    SMALL_SIZE,
    TOP,
    Column,
    Sheet,
    Table,
)
from documents.template_1.summary import draw_paragraphs, draw_summary
from documents.template_1.text import joined, line, wrapped
from documents.template_1.words import Words, words_of
from documents.template_1.writing import write
from domain.moments import moment
from domain.records import Address, CreditNoteIssued, InvoiceIssued, InvoiceLine, Seller

_LOGO_WIDTH_MAX = 170.0
_LOGO_HEIGHT_MAX = 54.0
_PARTY_WIDTH = 236.0
_PARTICULARS_WIDTH = 116.0
#: The first columns of the table hold text, the others numbers.
_TEXT_COLUMNS = 2
_SKU_WIDTH = 62.0
_DESCRIPTION_WIDTH_MIN = 110.0
_COLUMN_GAP = 11.0
_FOOTER_TEXT_WIDTH = 410.0
#: The parties stand on the first page in full; a footer that outgrew this would leave no page for the lines.
_FOOTER_LINES_MAX = 5
_FOOTER_BASELINE = 34.0

DocumentEvent = InvoiceIssued | CreditNoteIssued


def template_1(event: DocumentEvent, logo: bytes | None) -> bytes:
    """The document of an event. Raises `BadLogoError`."""
    words = words_of(event["kind"])
    named = event["seller"]["logo_sha256"]
    if named is not None and logo is None:
        raise BadLogoError(f"the event names the logo {named}, which is not in the ledger")
    image = logo_image(logo) if logo is not None else None
    footer = _footer_lines(event["seller"])
    bottom = _FOOTER_BASELINE + len(footer) * SMALL_LEADING + 18.0
    number = one_line(event["invoice_number"])
    seller_name = one_line(event["seller"]["legal_name"])
    sheet = Sheet(bottom, lambda page: _draw_running_head(page, seller_name, number, words))
    _draw_head(sheet, seller_name, number, image, words)
    if "preceding_invoice_number" in event:
        _draw_preceding(sheet, event["preceding_invoice_number"], words)
    _draw_particulars(sheet, event, words)
    _draw_parties(sheet, event, words)
    _draw_lines(sheet, event)
    draw_summary(sheet, event, words)
    if "reason" in event:
        draw_paragraphs(sheet, "Reason", event["reason"])
    draw_paragraphs(sheet, "Note", event["note"])
    for place, page in enumerate(sheet.pages, start=1):
        _draw_footer(page, footer, f"Page {place} of {len(sheet.pages)}")
    metadata = Metadata(number, seller_name, f"{words.title} {number}", _created(event["issued_at"]))
    return write(sheet.pages, metadata, image)


def _draw_head(sheet: Sheet, seller_name: str, number: str, image: Image | None, words: Words) -> None:
    page = sheet.page
    left_end = right_end = TOP
    if image is not None:
        scale = min(_LOGO_WIDTH_MAX / image.width_pixels, _LOGO_HEIGHT_MAX / image.height_pixels)
        left_end -= image.height_pixels * scale
        page.logo(LEFT, left_end, image.width_pixels * scale, image.height_pixels * scale)
    else:
        for set_line in wrapped(seller_name, 290.0 / 15.0 * 1000, bold=True)[:3]:
            page.text(LEFT, left_end - 14.0, set_line, 15.0, ACCENT, 290.0)
            left_end -= 19.0
    page.text_right(RIGHT, right_end - 19.0, line(words.title, bold=True), 25.0, ACCENT)
    right_end -= 26.0
    for set_line in wrapped(number, 190.0 / 10.5 * 1000)[:3]:
        page.text_right(RIGHT, right_end - 11.0, set_line, 10.5, MUTED, 190.0)
        right_end -= 14.0
    sheet.y = min(left_end, right_end) - 22.0


def _draw_preceding(sheet: Sheet, preceding: str, words: Words) -> None:
    """Which document it corrects: in full, whatever its length, for the law wants it unmistakable."""
    text = f"{words.corrects} {one_line(preceding)}"
    # It stands close to the number above it.
    sheet.y += 18.0
    for set_line in wrapped(text, (RIGHT - LEFT) / 10.5 * 1000):
        sheet.page.text_right(RIGHT, sheet.y - 11.0, set_line, 10.5, MUTED, RIGHT - LEFT)
        sheet.y -= 14.0
    sheet.y -= 18.0


def _draw_running_head(page: Page, seller_name: str, number: str, words: Words) -> float:
    title = joined(line(f"{words.title}\u00a0"), wrapped(number, 180.0 / 8.0 * 1000)[0])
    page.text(LEFT, TOP - 6.0, wrapped(seller_name, 300.0 / 8.0 * 1000)[0], 8.0, MUTED, 300.0)
    page.text_right(RIGHT, TOP - 6.0, title, 8.0, MUTED, 180.0)
    page.rule(LEFT, RIGHT, TOP - 14.0, 0.5, HAIRLINE)
    return TOP - 30.0


def _draw_particulars(sheet: Sheet, event: DocumentEvent, words: Words) -> None:
    currency = one_line(event["currency"])
    columns = [
        _labelled(words.number, event["invoice_number"]),
        _labelled("Issue date", amounts.date(event["issue_date"])),
        _labelled("Order", event["order_id"]),
        _labelled(words.amount, f"{amounts.money(event['totals']['gross_minor'], currency)} {currency}", bold=True),
    ]
    sheet.page.rule(LEFT, RIGHT, sheet.y, 0.75, HAIRLINE)
    sheet.y -= 10.0
    _draw_columns(sheet, columns, _PARTICULARS_WIDTH, (RIGHT - LEFT - _PARTICULARS_WIDTH) / 3)
    sheet.y -= 9.0
    sheet.page.rule(LEFT, RIGHT, sheet.y, 0.75, HAIRLINE)
    sheet.y -= 18.0


def _draw_parties(sheet: Sheet, event: DocumentEvent, words: Words) -> None:
    seller, buyer = event["seller"], event["buyer"]
    columns = [
        _party("From", seller["legal_name"], seller["address"], seller["vat_id"], ""),
        _party(words.buyer, buyer["name"], buyer["address"], buyer["vat_id"], buyer["email"]),
    ]
    _draw_columns(sheet, columns, _PARTY_WIDTH, RIGHT - LEFT - _PARTY_WIDTH)
    sheet.y -= 20.0


def _draw_columns(sheet: Sheet, columns: Sequence[Sequence[TextLine]], width: float, step: float) -> None:
    """Draw lines side by side, the first of each column as its label; long ones go on over pages."""
    for place, row in enumerate(zip_longest(*columns)):
        sheet.need(BODY_LEADING)
        size, colour = (SMALL_SIZE, MUTED) if place == 0 else (BODY_SIZE, INK)
        for column, set_line in enumerate(row):
            if set_line is not None:
                sheet.page.text(LEFT + column * step, sheet.y - size, set_line, size, colour, width)
        sheet.y -= BODY_LEADING


def _labelled(label: str, value: str, bold: bool = False) -> list[TextLine]:
    return [line(label, bold=True), *wrapped(one_line(value), _PARTICULARS_WIDTH / BODY_SIZE * 1000, bold)]


def _party(label: str, name: str, address: Address, vat_id: str | None, email: str) -> list[TextLine]:
    width = _PARTY_WIDTH / BODY_SIZE * 1000
    found = [line(label, bold=True), *wrapped(one_line(name), width, bold=True)]
    for text in (*_address(address), f"VAT ID {one_line(vat_id)}" if vat_id else "", one_line(email)):
        if text:
            found += wrapped(text, width)
    return found


def _address(address: Address) -> list[str]:
    town = one_line(address["city"])
    if address["postal_code"]:
        town = f"{one_line(address['postal_code'])} {town}"
    country = COUNTRY_NAMES.get(address["country"]) or one_line(address["country"])
    return [*lines(address["street"]), town, country]


def _draw_lines(sheet: Sheet, event: DocumentEvent) -> None:
    currency = one_line(event["currency"])
    titles = ("Description", "SKU", "Quantity", f"Unit price ({currency})", "VAT", f"Net ({currency})")
    rows = [_cells(item, currency) for item in event["lines"]]
    table = Table(sheet, _columns(titles, rows))
    for row in rows:
        table.row(row)


def _cells(item: InvoiceLine, currency: str) -> tuple[str, ...]:
    category = item["vat_category"]
    rate = amounts.percent(item["vat_rate"])
    return (
        one_line(item["description"]),
        one_line(item["sku"]),
        one_line(amounts.quantity(item["quantity"])),
        one_line(amounts.unit_price(item["unit_price"], currency)),
        one_line(rate if category == "S" else f"{rate} {category}"),
        amounts.money(item["net_minor"], currency),
    )


def _columns(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> list[Column]:
    """Numbers get the room that the longest of them needs, as far as the description can spare it."""
    wanted = [
        max(
            line(title, bold=True).width * SMALL_SIZE,
            max((line(row[place]).width for row in rows), default=0) * BODY_SIZE,
        )
        / 1000
        for place, title in enumerate(titles)
        if place >= _TEXT_COLUMNS
    ]
    room = RIGHT - LEFT - 2 * CELL_INSET - (len(titles) - 1) * _COLUMN_GAP - _SKU_WIDTH
    scale = min(1.0, (room - _DESCRIPTION_WIDTH_MIN) / sum(wanted))
    numbers = [width * scale for width in wanted]
    widths = [room - sum(numbers), _SKU_WIDTH, *numbers]
    found: list[Column] = []
    x = LEFT + CELL_INSET
    for place, (title, width) in enumerate(zip(titles, widths, strict=True)):
        found.append(Column(title, x, width, number=place >= _TEXT_COLUMNS))
        x += width + _COLUMN_GAP
    return found


def _footer_lines(seller: Seller) -> list[TextLine]:
    name = line(one_line(seller["legal_name"]))
    vat = [line(f"VAT ID {one_line(seller['vat_id'])}")] if seller["vat_id"] else []
    width = _FOOTER_TEXT_WIDTH / SMALL_SIZE * 1000
    found: list[TextLine] = []
    # Each part is set alone: a name that runs from right to left must not turn the number beside it.
    for parts, separator in (
        ([name, *vat], "\u00a0·\u00a0"),
        ([line(text) for text in _address(seller["address"])], ",\u00a0"),
    ):
        together = joined(*_separated(parts, separator))
        found += [together] if together.width <= width else parts
    return found[:_FOOTER_LINES_MAX]


def _separated(parts: Sequence[TextLine], separator: str) -> list[TextLine]:
    found: list[TextLine] = []
    for part in parts:
        if part.runs:
            found += [line(separator), part] if found else [part]
    return found


def _draw_footer(page: Page, footer: Sequence[TextLine], folio: str) -> None:
    y = _FOOTER_BASELINE + (len(footer) - 1) * SMALL_LEADING
    page.rule(LEFT, RIGHT, y + 14.0, 0.5, HAIRLINE)
    page.text_right(RIGHT, y, line(folio), SMALL_SIZE, MUTED)
    for set_line in footer:
        page.text(LEFT, y, set_line, SMALL_SIZE, MUTED, _FOOTER_TEXT_WIDTH)
        y -= SMALL_LEADING


def _created(issued_at: int | datetime) -> datetime:
    if isinstance(issued_at, datetime):
        return issued_at.astimezone(UTC)
    return moment(issued_at)
