"""What follows the lines: tax per rate, totals, the texts that tax law asks for, notes."""

from collections.abc import Sequence
from dataclasses import dataclass

from documents.clean import lines, one_line
from documents.page import ARTIFACT, Element
from documents.template_2.draft import Draft
from documents.template_2.head import due_label
from documents.template_2.lines import allowance_text
from documents.template_2.sheet import (
    BODY_SIZE,
    CELL_INSET,
    CELL_PADDING,
    HAIRLINE,
    LEADING,
    LEFT,
    MUTED,
    RIGHT,
    SMALL_SIZE,
    WIDTH,
    Column,
    Table,
    Text,
)
from domain.records import Allowance, RateTotal

_GAP = 16.0
_TOTALS_WIDTH = 246.0
_TOTALS_LEFT = RIGHT - _TOTALS_WIDTH
_TOTALS_PADDING = 2.6
_BAND_PADDING = 6.0
#: More rates than this stand over the page's whole width, before the totals.
_RATES_BESIDE_MAX = 10
#: More allowances and charges than this are summed up.
_ALLOWANCES_MAX = 8
_NOTICE_SIZE = 8.0


@dataclass(frozen=True, slots=True)
class _Total:
    label: Sequence[Text]
    amount: Sequence[Text]

    @property
    def height(self) -> float:
        return max(sum(text.leading for text in side) for side in (self.label, self.amount)) + 2 * _TOTALS_PADDING


class Summary:
    """Measured first, since it never stands on a page without a line of the invoice."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self._totals = [_total(draft, label, amount) for label, amount in _amounts(draft)]
        self._band = _band(draft)
        self._rates = [_rate_cells(draft, total) for total in draft.event["totals"]["per_rate"]]
        beside = _rate_columns(draft, _TOTALS_LEFT - LEFT - _GAP)
        fits = all(
            draft.sheet.typesetter.line(text).width * BODY_SIZE / 1000 <= column.width
            for row in self._rates
            for text, column in zip(row[1:], beside[1:], strict=True)
        )
        self._beside = fits and len(self._rates) <= _RATES_BESIDE_MAX

    @property
    def kept(self) -> float:
        """The height of what stands on the page on which the lines end, in points."""
        if self._beside:
            return _GAP + max(self._totals_height, self._rates_height)
        # The table of rates begins here, and goes on with the totals.
        return _GAP + 3 * BODY_SIZE * LEADING + 6 * CELL_PADDING

    def draw(self) -> None:
        """Tax per rate on the left and totals on the right; or one below the other."""
        sheet = self._draft.sheet
        sheet.y -= _GAP
        top = sheet.y
        self._draw_rates()
        rates_end = sheet.y
        if self._beside:
            sheet.y = top
        else:
            sheet.y -= _GAP
        self._draw_totals()
        if self._beside:
            sheet.y = min(sheet.y, rates_end)

    @property
    def _totals_height(self) -> float:
        return sum(total.height for total in self._totals) + self._band.height + 2 * _BAND_PADDING

    @property
    def _rates_height(self) -> float:
        row = BODY_SIZE * LEADING + 2 * CELL_PADDING
        lines_max = 2
        return 2 * SMALL_SIZE * LEADING + 10.0 + len(self._rates) * row * lines_max

    def _draw_rates(self) -> None:
        draft = self._draft
        sheet = draft.sheet
        width = _TOTALS_LEFT - LEFT - _GAP if self._beside else WIDTH
        columns = _rate_columns(draft, width)
        table = Table(sheet, columns, right=LEFT + width)
        for place, cells in enumerate(self._rates):
            is_last = place == len(self._rates) - 1
            kept = None
            if is_last:
                kept = 0.0 if self._beside else _GAP + self._totals_height
            name, *numbers = cells
            table.row(
                [
                    sheet.texts(name, columns[0].width),
                    *(sheet.fitted(text, column.width) for text, column in zip(numbers, columns[1:], strict=True)),
                ],
                kept=kept,
            )

    def _draw_totals(self) -> None:
        draft = self._draft
        sheet, page = draft.sheet, draft.sheet.page
        table = sheet.root.add("Table")
        for total in self._totals:
            _draw_total(draft, table, total, 0.0)
            page.belongs_to(ARTIFACT)
            page.rule(_TOTALS_LEFT, RIGHT, sheet.y, 0.5, HAIRLINE)
        height = self._band.height + 2 * _BAND_PADDING
        page.belongs_to(ARTIFACT)
        page.box(_TOTALS_LEFT, sheet.y - height, _TOTALS_WIDTH, height, draft.look.accent)
        _draw_total(draft, table, self._band, _BAND_PADDING)


def _draw_total(draft: Draft, table: Element, total: _Total, padding: float) -> None:
    sheet = draft.sheet
    row = table.add("TR")
    top = sheet.y - _TOTALS_PADDING - padding
    sheet.y = top
    sheet.page.belongs_to(row.add("TH", "/A<</O/Table/Scope/Row>>"))
    for text in total.label:
        sheet.draw(text, _TOTALS_LEFT + CELL_INSET, _TOTALS_WIDTH)
        sheet.y -= text.leading
    sheet.y = top
    sheet.page.belongs_to(row.add("TD"))
    for text in total.amount:
        sheet.draw(text, _TOTALS_LEFT + CELL_INSET, _TOTALS_WIDTH - 2 * CELL_INSET, right=True)
        sheet.y -= text.leading
    sheet.y = top + _TOTALS_PADDING + padding - total.height - 2 * padding


def _amounts(draft: Draft) -> list[tuple[str, str]]:
    """Labels and amounts, but for the last one."""
    words, language, totals, details = draft.words, draft.language, draft.event["totals"], draft.details
    computed = totals.get("details")
    found: list[tuple[str, str]] = []
    if details and computed and (details["allowances"] or details["charges"]):
        found.append((words.sum_of_lines, draft.amount(computed["lines_minor"])))
        found += _document_allowances(draft, details["allowances"], details["charges"])
    found += [
        (draft.said(words.total_net), draft.amount(totals["net_minor"])),
        (draft.tax, draft.amount(totals["tax_minor"])),
    ]
    if details and details["accounting"] and computed and computed["accounting_tax_minor"] is not None:
        accounting = details["accounting"]
        currency = one_line(accounting["currency"])
        rate = one_line(language.number(accounting["exchange_rate"]))
        label = words.accounting.format(tax=draft.tax, currency=currency, rate=rate)
        found.append((label, language.amount(computed["accounting_tax_minor"], currency)))
    found.append((draft.said(words.total_gross), draft.amount(totals["gross_minor"])))
    if computed and computed["prepaid_minor"]:
        found.append((words.prepaid, draft.amount(-computed["prepaid_minor"])))
    if computed and computed["rounding_minor"]:
        found.append((words.rounding, draft.amount(computed["rounding_minor"])))
    return found


def _document_allowances(
    draft: Draft, allowances: Sequence[Allowance], charges: Sequence[Allowance]
) -> list[tuple[str, str]]:
    words, computed = draft.words, draft.event["totals"].get("details")
    if len(allowances) + len(charges) > _ALLOWANCES_MAX and computed:
        return [
            (words.allowances, draft.amount(-computed["allowances_minor"])),
            (words.charges, draft.amount(computed["charges_minor"])),
        ]
    with_tax = bool(draft.details and draft.details["prices_include_tax"])
    found: list[tuple[str, str]] = []
    for each, name, sign in (
        *((each, words.allowance, -1) for each in allowances),
        *((each, words.charge, 1) for each in charges),
    ):
        reason = one_line(each["reason"]) or name
        if with_tax:
            # Its amount holds the tax, the totals don't: said, but not in the column that adds up.
            found.append((allowance_text(draft, each, name, sign), ""))
        else:
            share = f" ({draft.language.percent(each['percent'])})" if each["percent"] else ""
            found.append((f"{reason}{share}", draft.language.added(each["amount"], draft.currency, sign)))
    if with_tax and computed:
        if computed["allowances_minor"]:
            found.append((words.allowances, draft.amount(-computed["allowances_minor"])))
        if computed["charges_minor"]:
            found.append((words.charges, draft.amount(computed["charges_minor"])))
    return found


def _total(draft: Draft, label: str, amount: str) -> _Total:
    sheet = draft.sheet
    amounts = sheet.fitted(amount, _TOTALS_WIDTH - 2 * CELL_INSET - 70.0)
    room = _TOTALS_WIDTH - 2 * CELL_INSET - max(text.width for text in amounts) - 8.0
    return _Total(sheet.texts(label, room, BODY_SIZE, MUTED), amounts)


def _band(draft: Draft) -> _Total:
    """What it all comes to."""
    sheet, colour = draft.sheet, draft.look.on_accent
    room = _TOTALS_WIDTH - 2 * CELL_INSET
    label = sheet.fitted(due_label(draft), room, 10.0, colour, bold=True)
    amount = sheet.fitted(draft.amount(draft.payable_minor), room, 11.0, colour, bold=True)
    if label[0].width + amount[0].width + 8.0 > room:
        # Below each other.
        blank = Text(sheet.typesetter.line(""), 11.0, colour)
        amount = [*[blank] * len(label), *amount]
    return _Total(label, amount)


def _rate_columns(draft: Draft, width: float) -> list[Column]:
    words = draft.words
    inner = width - 2 * CELL_INSET - 16.0
    name, taxable = 0.36 * inner, 0.34 * inner
    return [
        Column(draft.said(words.rate), LEFT + CELL_INSET, name),
        Column(words.taxable, LEFT + CELL_INSET + name + 8.0, taxable, number=True),
        Column(draft.tax, LEFT + CELL_INSET + name + taxable + 16.0, inner - name - taxable, number=True),
    ]


def _rate_cells(draft: Draft, total: RateTotal) -> tuple[str, str, str]:
    language = draft.language
    name = draft.words.categories.get(total["vat_category"], "")
    rate = one_line(language.percent(total["vat_rate"]))
    return (
        f"{rate} {draft.said(name)}" if name else rate,
        language.money(total["taxable_minor"], draft.currency),
        language.money(total["tax_minor"], draft.currency),
    )


def draw_notices(draft: Draft) -> None:
    """Why a supply bears no tax, in the order of the code list."""
    details, sheet = draft.details, draft.sheet
    given = {each["vat_category"]: one_line(each["reason"]) for each in details["exemptions"]} if details else {}
    used = {total["vat_category"] for total in draft.event["totals"]["per_rate"]}
    said = [
        given.get(category) or draft.said(text) for category, text in draft.words.notices.items() if category in used
    ]
    if said:
        sheet.y -= 12.0
        for text in said:
            sheet.paragraph(sheet.texts(text, WIDTH, _NOTICE_SIZE), sheet.root.add("P"))


def draw_notes(draft: Draft) -> None:
    """The reason of a credit note, the seller's notes, and what is attached."""
    event, words, details = draft.event, draft.words, draft.details
    _draw_paragraphs(draft, words.reason, lines(str(event.get("reason", ""))))
    notes = lines(event["note"] or event["seller"].get("note", ""))
    for note in details["notes"] if details else []:
        notes += lines(note["text"])
    _draw_paragraphs(draft, words.note, notes)
    attached = [
        " · ".join(one_line(each[part]) for part in ("name", "description", "url") if each[part])
        for each in (details["attachments"] if details else [])
    ]
    _draw_paragraphs(draft, words.attachments, attached)


def _draw_paragraphs(draft: Draft, label: str, paragraphs: Sequence[str]) -> None:
    if not paragraphs:
        return
    sheet = draft.sheet
    sheet.y -= 12.0
    # The label never stands alone at the foot of a page.
    sheet.need(SMALL_SIZE * LEADING + 2 * BODY_SIZE * LEADING)
    sheet.paragraph(sheet.texts(label, WIDTH, SMALL_SIZE, MUTED, bold=True), sheet.root.add("H2"))
    for paragraph in paragraphs:
        sheet.paragraph(sheet.texts(paragraph, WIDTH), sheet.root.add("P"))
