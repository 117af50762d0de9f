"""What follows the lines: VAT per rate, totals, the texts that tax law asks for, the note."""

from collections.abc import Sequence

from documents.template_1 import amounts
from documents.template_1.clean import lines, one_line
from documents.template_1.sheet import (
    ACCENT,
    BODY_LEADING,
    BODY_SIZE,
    HAIRLINE,
    INK,
    LEFT,
    MUTED,
    RIGHT,
    SMALL_SIZE,
    WHITE,
    Column,
    Sheet,
    Table,
)
from documents.template_1.text import line, wrapped
from documents.template_1.words import Words
from domain.records import CreditNoteIssued, InvoiceIssued, RateTotal, Totals

_TOTALS_LEFT = RIGHT - 204.0
_TOTALS_LEADING = 17.0
_TOTALS_HEIGHT = 3 * _TOTALS_LEADING + 40.0
_NOTICE_SIZE = 8.0
_NOTICE_LEADING = 11.0
#: More rates than this go over the page's whole length, before the totals.
_RATES_BESIDE_MAX = 10
_RATE_ROW_HEIGHT = 22.5

#: What a VAT category is called beside its rate (UNCL5305 as EN 16931 uses it); the standard one needs no name.
_CATEGORY_NAMES = {
    "Z": "zero-rated",
    "E": "exempt",
    "AE": "reverse charge",
    "K": "intra-Community",
    "G": "export",
    "O": "not subject to VAT",
    "L": "IGIC",
    "M": "IPSI",
}
#: What an invoice must say about a supply without VAT (Directive 2006/112/EC, article 226 (11) and (11a)).
_NOTICES = {
    "E": "Exempt from VAT.",
    "AE": "Reverse charge: the customer accounts for the VAT.",
    "K": "VAT-exempt intra-Community supply (Article 138, Directive 2006/112/EC).",
    "G": "VAT-exempt export outside the EU (Article 146, Directive 2006/112/EC).",
    "O": "Not subject to VAT.",
    "L": "Canary Islands general indirect tax (IGIC).",
    "M": "Tax on production, services and imports in Ceuta and Melilla (IPSI).",
}


def draw_summary(sheet: Sheet, event: InvoiceIssued | CreditNoteIssued, words: Words) -> None:
    """VAT per rate on the left, totals on the right, kept together; then the notices."""
    currency = one_line(event["currency"])
    per_rate = event["totals"]["per_rate"]
    sheet.y -= 22.0
    if len(per_rate) > _RATES_BESIDE_MAX:
        _draw_rates(sheet, per_rate, currency)
        sheet.y -= 18.0
        sheet.need(_TOTALS_HEIGHT)
        sheet.y = _draw_totals(sheet, event["totals"], currency, words)
    else:
        sheet.need(max(_TOTALS_HEIGHT, 20.0 + len(per_rate) * _RATE_ROW_HEIGHT))
        totals_end = _draw_totals(sheet, event["totals"], currency, words)
        _draw_rates(sheet, per_rate, currency)
        sheet.y = min(sheet.y, totals_end)
    _draw_notices(sheet, {total["vat_category"] for total in per_rate})


def draw_paragraphs(sheet: Sheet, label: str, text: str | None) -> None:
    """The seller's note, or the reason of a credit note, its line ends kept."""
    paragraphs = lines(text or "")
    if not paragraphs:
        return
    sheet.y -= 14.0
    sheet.need(3 * BODY_LEADING)
    sheet.page.text(LEFT, sheet.y - BODY_SIZE, line(label, bold=True), SMALL_SIZE, MUTED)
    sheet.y -= BODY_LEADING + 1.0
    for paragraph in paragraphs:
        for set_line in wrapped(paragraph, (RIGHT - LEFT) / BODY_SIZE * 1000):
            sheet.need(BODY_LEADING)
            draw = sheet.page.text_right if set_line.right_to_left else sheet.page.text
            draw(RIGHT if set_line.right_to_left else LEFT, sheet.y - BODY_SIZE, set_line, BODY_SIZE, INK, RIGHT - LEFT)
            sheet.y -= BODY_LEADING


def _draw_rates(sheet: Sheet, per_rate: Sequence[RateTotal], currency: str) -> None:
    table = Table(
        sheet,
        (
            Column("VAT rate", LEFT + 6, 100.0),
            Column(f"Taxable ({currency})", LEFT + 112, 76.0, number=True),
            Column(f"VAT ({currency})", LEFT + 194, 70.0, number=True),
        ),
    )
    for total in per_rate:
        name = _CATEGORY_NAMES.get(total["vat_category"])
        rate = one_line(amounts.percent(total["vat_rate"]))
        table.row(
            (
                f"{rate} {name}" if name else rate,
                amounts.money(total["taxable_minor"], currency),
                amounts.money(total["tax_minor"], currency),
            )
        )


def _draw_totals(sheet: Sheet, totals: Totals, currency: str, words: Words) -> float:
    """Draw the totals beside what is there, and return where they end."""
    page, y = sheet.page, sheet.y - 3.0
    for label, minor in (
        ("Total excluding VAT", totals["net_minor"]),
        ("VAT", totals["tax_minor"]),
        ("Total including VAT", totals["gross_minor"]),
    ):
        text = line(f"{amounts.money(minor, currency)} {currency}")
        page.text(_TOTALS_LEFT, y - 10.0, line(label), BODY_SIZE, MUTED)
        page.text_right(RIGHT - 10.0, y - 10.0, text, BODY_SIZE, INK, 108.0)
        y -= _TOTALS_LEADING
        page.rule(_TOTALS_LEFT, RIGHT, y, 0.5, HAIRLINE)
    y -= 34.0
    page.box(_TOTALS_LEFT - 10.0, y, RIGHT - _TOTALS_LEFT + 10.0, 28.0, ACCENT)
    due = line(f"{amounts.money(totals['gross_minor'], currency)} {currency}", bold=True)
    page.text(_TOTALS_LEFT, y + 10.0, line(words.amount, bold=True), 10.0, WHITE)
    page.text_right(RIGHT - 10.0, y + 10.0, due, 11.0, WHITE, 118.0)
    return y


def _draw_notices(sheet: Sheet, categories: set[str]) -> None:
    sheet.y -= 12.0
    # In the order of the code list: a set has another one in each process.
    for category, notice in _NOTICES.items():
        if category in categories:
            sheet.need(_NOTICE_LEADING)
            sheet.page.text(LEFT, sheet.y - _NOTICE_SIZE, line(notice), _NOTICE_SIZE, MUTED)
            sheet.y -= _NOTICE_LEADING
