"""Template 2: what it prints never changes by a byte once an event names it."""

from datetime import UTC, datetime

from documents.clean import one_line
from documents.logo import BadLogoError, logo_image
from documents.page import Metadata, Page
from documents.template_2.draft import DocumentEvent, Draft, look_of
from documents.template_2.head import (
    draw_footer,
    draw_head,
    draw_particulars,
    draw_parties,
    draw_running_head,
    footer_height,
    footer_lines,
)
from documents.template_2.language import language_of
from documents.template_2.lines import draw_lines
from documents.template_2.paying import draw_payment
from documents.template_2.sheet import Sheet
from documents.template_2.summary import Summary, draw_notes, draw_notices
from documents.template_2.titles import title
from documents.writing import write
from domain.moments import moment

#: The refund of a whole order that was cancelled.
_CANCELLATION = "cancellation"


def template_2(event: DocumentEvent, logo: bytes | None) -> bytes:
    """The document of an event. Raises `BadLogoError`."""
    seller = event["seller"]
    if seller["logo_sha256"] is not None and logo is None:
        raise BadLogoError(f"the event names the logo {seller['logo_sha256']}, which is not in the ledger")
    image = logo_image(logo) if logo is not None else None
    details = event.get("details")
    country = seller["address"]["country"]
    language = language_of((details["language"] if details else "") or seller.get("language", ""), country)
    words, typesetter = language.words, language.typesetter
    titled = title(
        event["kind"],
        language.code,
        country,
        seller["vat_id"] or "",
        simplified=not event["buyer"]["address"]["country"],
        cancelled=event.get("refund_id") == _CANCELLATION,
    )
    tax = one_line(seller.get("tax_name", "")) or words.tax
    number = one_line(event["invoice_number"])
    seller_name = one_line(seller["legal_name"])
    look = look_of(seller.get("colour", ""))

    def begin(page: Page) -> float:
        return draw_running_head(typesetter, page, seller_name, titled, number)

    sheet = Sheet(typesetter, 0.0, begin)
    draft = Draft(event, sheet, language, look, one_line(event["currency"]), tax)
    footer = footer_lines(typesetter, seller, draft.address(seller["address"]), draft.said(words.tax_id))
    sheet.bottom = footer_height(footer)
    draw_head(draft, titled, image)
    draw_particulars(draft)
    draw_parties(draft)
    summary = Summary(draft)
    draw_lines(draft, summary.kept)
    summary.draw()
    draw_notices(draft)
    draw_payment(draft)
    draw_notes(draft)
    for place, page in enumerate(sheet.pages, start=1):
        folio = words.page.format(page=place, pages=len(sheet.pages))
        draw_footer(page, footer, typesetter.line(folio))
    metadata = Metadata(number, seller_name, f"{titled} {number}", _created(event["issued_at"]))
    return write(sheet.pages, sheet.root, language.tag, metadata, image)


def _created(issued_at: int | datetime) -> datetime:
    if isinstance(issued_at, datetime):
        return issued_at.astimezone(UTC)
    return moment(issued_at)
