"""The first page's upper part: who, to whom, which document, when, and what it refers to; and every page's edges."""

from collections.abc import Sequence
from itertools import zip_longest

from documents.clean import one_line
from documents.page import ARTIFACT, Image, Page, pdf_string
from documents.shaping import TextLine
from documents.template_2.draft import Draft
from documents.template_2.sheet import (
    BODY_SIZE,
    HAIRLINE,
    INK,
    LEFT,
    MUTED,
    RIGHT,
    SMALL_SIZE,
    TOP,
    WIDTH,
    Text,
)
from documents.text import Typesetter, joined
from domain.issuing import INVOICE
from domain.records import Buyer, PartyDetails, Seller

_LOGO_WIDTH_MAX = 170.0
_LOGO_HEIGHT_MAX = 54.0
_NAME_WIDTH = 260.0
_NAME_SIZE = 15.0
_TITLE_SIZE = 24.0
_NUMBER_SIZE = 10.5
_COLUMN_GAP = 14.0
_PARTICULARS_IN_A_ROW = 4
_FOOTER_TEXT_WIDTH = 410.0
#: The parties stand on the first page in full; a footer that outgrew this would leave no page for the lines.
_FOOTER_LINES_MAX = 5
_FOOTER_BASELINE = 34.0
_FOOTER_LEADING = 10.0


def draw_head(draft: Draft, title: str, image: Image | None) -> None:
    """The seller's logo or name on the left, what the document is on the right."""
    sheet = draft.sheet
    top = sheet.y
    seller_name = one_line(draft.event["seller"]["legal_name"])
    if image is not None:
        scale = min(_LOGO_WIDTH_MAX / image.width_pixels, _LOGO_HEIGHT_MAX / image.height_pixels)
        width, height = image.width_pixels * scale, image.height_pixels * scale
        sheet.page.belongs_to(sheet.root.add("Figure", figure(seller_name, LEFT, top - height, width, height)))
        sheet.page.logo(LEFT, top - height, width, height)
        left_end = top - height
    else:
        texts = sheet.texts(seller_name, _NAME_WIDTH, _NAME_SIZE, draft.look.title, bold=True)
        sheet.paragraph(texts[:3], sheet.root.add("P"), LEFT, _NAME_WIDTH)
        left_end = sheet.y
    sheet.y = top
    heading = sheet.root.add("H1")
    sheet.page.belongs_to(heading)
    width = WIDTH - (_NAME_WIDTH if image is None else _LOGO_WIDTH_MAX) - _COLUMN_GAP
    for text in sheet.fitted(title, width, _TITLE_SIZE, draft.look.title, bold=True):
        sheet.draw(text, RIGHT - width, width, right=True)
        sheet.y -= text.leading
    number = one_line(draft.event["invoice_number"])
    for text in sheet.texts(number, 220.0, _NUMBER_SIZE, MUTED)[:3]:
        sheet.draw(text, RIGHT - 220.0, 220.0, right=True)
        sheet.y -= text.leading
    sheet.y = min(left_end, sheet.y)
    _draw_preceding(draft)
    sheet.y -= 16.0


def _draw_preceding(draft: Draft) -> None:
    """Which document it corrects: in full, whatever its length, for the law wants it unmistakable."""
    if draft.preceding is None:
        return
    sheet, words = draft.sheet, draft.words
    number, date = one_line(draft.preceding), draft.preceding_date
    text = (
        draft.said(words.preceding_dated, number=number, date=draft.language.date(date))
        if date
        else draft.said(words.preceding, number=number)
    )
    element = sheet.root.add("P")
    for each in sheet.texts(text, WIDTH, _NUMBER_SIZE, MUTED):
        sheet.need(each.leading)
        sheet.page.belongs_to(element)
        sheet.draw(each, LEFT, WIDTH, right=True)
        sheet.y -= each.leading


def draw_particulars(draft: Draft) -> None:
    """Number, dates, the amount, and the references that the event has."""
    sheet, step = draft.sheet, WIDTH / _PARTICULARS_IN_A_ROW
    width = step - _COLUMN_GAP
    found = _particulars(draft)
    sheet.rule()
    sheet.y -= 8.0
    for start in range(0, len(found), _PARTICULARS_IN_A_ROW):
        columns = [_labelled(draft, label, value, width, bold=bold) for label, value, bold in found[start : start + 4]]
        _draw_columns(draft, columns, [LEFT + place * step for place in range(len(columns))], width)
        sheet.y -= 5.0
    sheet.y -= 3.0
    sheet.rule()
    sheet.y -= 14.0


def _particulars(draft: Draft) -> list[tuple[str, str, bool]]:
    event, words, language, details = draft.event, draft.words, draft.language, draft.details
    is_invoice = event["kind"] == INVOICE
    payment = draft.payment
    found = [
        (words.invoice_number if is_invoice else words.credit_note_number, one_line(event["invoice_number"])),
        (words.issue_date, language.date(event["issue_date"])),
        (words.order, one_line(event["order_id"])),
    ]
    if details:
        period, delivery, references = details["period"], details["delivery"], details["references"]
        found += [
            (words.tax_point, language.date(details["tax_point_date"]) if details["tax_point_date"] else ""),
            (words.delivery_date, language.date(delivery["date"]) if delivery and delivery["date"] else ""),
            (words.period, period_text(draft, period["start"], period["end"]) if period else ""),
        ]
        if references:
            found += [
                (words.buyer_reference, one_line(references["buyer_reference"])),
                (words.purchase_order, one_line(references["purchase_order"])),
                (words.contract, one_line(references["contract"])),
                (words.project, one_line(references["project"])),
                (words.sales_order, one_line(references["sales_order"])),
                (words.despatch_advice, one_line(references["despatch_advice"])),
                (words.receiving_advice, one_line(references["receiving_advice"])),
                (words.tender, one_line(references["tender"])),
            ]
        if is_invoice:
            # A credit note names the invoice that it corrects under its title.
            found += [
                (words.earlier, _dated(draft, one_line(each["number"]), each["issue_date"]))
                for each in details["preceding_invoices"]
            ]
        if payment and is_invoice and not draft.paid_on:
            found.append((words.due_date, language.date(payment["due_date"]) if payment["due_date"] else ""))
    said = [(label, value, False) for label, value in found if value]
    label = due_label(draft)
    minor = event["totals"]["gross_minor"] if draft.paid_on else draft.payable_minor
    # In the first row, where a reader looks for it.
    return [*said[:3], (label, draft.amount(minor), True), *said[3:]]


def due_label(draft: Draft) -> str:
    """What the amount that counts is called: due, paid or credited."""
    if draft.event["kind"] != INVOICE:
        return draft.words.credited
    return draft.words.paid if draft.paid_on else draft.words.due


def _dated(draft: Draft, number: str, date: str) -> str:
    return f"{number}, {draft.language.date(date)}" if date else number


def period_text(draft: Draft, start: str, end: str) -> str:
    """From and to which day."""
    days = (draft.language.date(day).replace(" ", "\u00a0") if day else "…" for day in (start, end))
    return "\u00a0– ".join(days)


def draw_parties(draft: Draft) -> None:
    """Seller, buyer, and where it was delivered if that is elsewhere."""
    event, words, details = draft.event, draft.words, draft.details
    delivery = details["delivery"] if details else None
    blocks: list[tuple[str, list[str]]] = [
        (words.seller, _seller(draft, event["seller"])),
        (words.buyer if event["kind"] == INVOICE else words.credited_to, _buyer(draft, event["buyer"])),
    ]
    if delivery and (delivery["address"] or delivery["name"] or delivery["location_id"]):
        place = [
            one_line(delivery["name"]),
            *(draft.address(delivery["address"]) if delivery["address"] else []),
            one_line(delivery["location_id"]),
        ]
        blocks.append((words.deliver_to, [text for text in place if text]))
    columns = len(blocks)
    step = WIDTH / columns
    width = step - _COLUMN_GAP
    sheet = draft.sheet
    texts = [_block(draft, label, lines, width) for label, lines in blocks]
    _draw_columns(draft, texts, [LEFT + place * step for place in range(columns)], width)
    sheet.y -= 16.0


def _seller(draft: Draft, seller: Seller) -> list[str]:
    found = [one_line(seller["legal_name"]), *draft.address(seller["address"])]
    return [*found, *_identities(draft, seller["vat_id"], seller.get("tax_number", ""), seller.get("details"), "")]


def _buyer(draft: Draft, buyer: Buyer) -> list[str]:
    found = [one_line(buyer["name"]), *draft.address(buyer["address"])]
    return [*found, *_identities(draft, buyer["vat_id"], "", buyer.get("details"), buyer["email"])]


def _identities(
    draft: Draft, vat_id: str | None, tax_number: str, details: PartyDetails | None, email: str
) -> list[str]:
    words = draft.words
    found = [
        f"{draft.said(words.tax_id)} {one_line(vat_id)}" if vat_id else "",
        f"{words.tax_number} {one_line(tax_number)}" if tax_number else "",
    ]
    if details:
        legal, contact = details["legal_id"], details["contact"]
        if details["trading_name"]:
            found.insert(0, one_line(details["trading_name"]))
        found.append(f"{words.legal_id} {one_line(legal['id'])}" if legal else "")
        if contact:
            parts = [one_line(contact[name]) for name in ("name", "phone", "email") if contact[name]]
            found += [f"{words.contact}: {parts[0]}", *parts[1:]] if parts else []
    found.append(one_line(email))
    return [text for text in found if text]


def _labelled(draft: Draft, label: str, value: str, width: float, *, bold: bool) -> list[Text]:
    sheet = draft.sheet
    return [
        *sheet.texts(label, width, SMALL_SIZE, MUTED, bold=True),
        *sheet.texts(value, width, BODY_SIZE, INK, bold),
    ]


def _block(draft: Draft, label: str, lines: Sequence[str], width: float) -> list[Text]:
    sheet = draft.sheet
    found = sheet.texts(label, width, SMALL_SIZE, MUTED, bold=True)
    for place, text in enumerate(lines):
        found += sheet.texts(text, width, bold=place == 0)
    return found


def _draw_columns(draft: Draft, columns: Sequence[Sequence[Text]], lefts: Sequence[float], width: float) -> None:
    """Draw blocks side by side; long ones go on over pages."""
    sheet = draft.sheet
    elements = [sheet.root.add("P") for _ in columns]
    top = sheet.y
    if sheet.room >= max(sum(text.leading for text in column) for column in columns):
        # One after the other, so that software which knows nothing of the structure reads them so.
        ends: list[float] = []
        for element, left, column in zip(elements, lefts, columns, strict=True):
            sheet.y = top
            sheet.paragraph(column, element, left, width)
            ends.append(sheet.y)
        sheet.y = min(ends)
        return
    for row in zip_longest(*columns):
        leading = max(text.leading for text in row if text is not None)
        sheet.need(leading)
        for element, left, text in zip(elements, lefts, row, strict=True):
            if text is not None:
                sheet.page.belongs_to(element)
                sheet.draw(text, left, width)
        sheet.y -= leading


def draw_running_head(typesetter: Typesetter, page: Page, seller_name: str, title: str, number: str) -> float:
    """On top of each page after the first; returns where the text goes on."""
    right = joined(typesetter.line(f"{title}\u00a0"), typesetter.wrapped(number, 150.0 / 8.0 * 1000)[0])
    page.text(LEFT, TOP - 6.0, typesetter.wrapped(seller_name, 230.0 / 8.0 * 1000)[0], 8.0, MUTED)
    page.text_right(RIGHT, TOP - 6.0, right, 8.0, MUTED)
    page.rule(LEFT, RIGHT, TOP - 14.0, 0.5, HAIRLINE)
    return TOP - 26.0


def footer_lines(typesetter: Typesetter, seller: Seller, address: Sequence[str], tax_id: str) -> list[TextLine]:
    """The seller on every page."""
    set_line = typesetter.line
    name = one_line(seller["legal_name"])
    vat = f"{tax_id} {one_line(seller['vat_id'])}" if seller["vat_id"] else ""
    width = _FOOTER_TEXT_WIDTH / SMALL_SIZE * 1000
    found: list[TextLine] = []
    # Each part is set alone: a name that runs from right to left must not turn the number beside it.
    for texts, separator in (([name, vat], "\u00a0·\u00a0"), (list(address), ",\u00a0")):
        parts = [set_line(text) for text in texts if text]
        together = joined(*[each for part in parts for each in (set_line(separator), part)][1:])
        if together.width <= width:
            found.append(together)
        else:
            found += [each for text in texts if text for each in typesetter.wrapped(text, width)]
    return found[:_FOOTER_LINES_MAX]


def footer_height(footer: Sequence[TextLine]) -> float:
    """Points from the page's edge to where its text must end."""
    return _FOOTER_BASELINE + max(len(footer), 1) * _FOOTER_LEADING + 14.0


def draw_footer(page: Page, footer: Sequence[TextLine], folio: TextLine) -> None:
    """At the foot of a page."""
    page.belongs_to(ARTIFACT)
    y = _FOOTER_BASELINE + (max(len(footer), 1) - 1) * _FOOTER_LEADING
    page.rule(LEFT, RIGHT, y + 14.0, 0.5, HAIRLINE)
    page.text_right(RIGHT, y, folio, SMALL_SIZE, MUTED)
    for set_line in footer:
        page.text(LEFT, y, set_line, SMALL_SIZE, MUTED)
        y -= _FOOTER_LEADING


def figure(said: str, x: float, y: float, width: float, height: float) -> str:
    """The entries of a picture's element: what is said in its place, and where it stands."""
    return (
        f"/Alt {pdf_string(said)}/A<</O/Layout/Placement/Block/BBox[{x:.2f} {y:.2f} {x + width:.2f} {y + height:.2f}]>>"
    )
