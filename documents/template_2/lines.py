"""The table of what is invoiced or credited."""

from collections.abc import Sequence
from dataclasses import dataclass

from documents.clean import lines, one_line
from documents.template_2.draft import Draft
from documents.template_2.head import period_text
from documents.template_2.sheet import (
    BODY_SIZE,
    CELL_INSET,
    LEFT,
    MUTED,
    SIZE_MIN,
    SMALL_SIZE,
    WIDTH,
    Carried,
    Column,
    Table,
    Text,
)
from domain.records import Allowance, InvoiceLine, LineDetails

_SKU_WIDTH_MAX = 66.0
_DESCRIPTION_WIDTH_MIN = 120.0
_COLUMN_GAP = 10.0
_STACKED_GAP = 8.0
#: Titles and what stands below a number get no more room than this for themselves, and break between words.
_TITLE_WIDTH_MAX = 72.0
#: So that what was measured fits, whatever the rounding.
_TOLERANCE = 0.1
#: A longer unit stands below its number.
_UNIT_CHARS_MAX = 8


@dataclass(frozen=True, slots=True)
class _Row:
    """The texts of a line, made safe."""

    description: str
    sku: str
    #: The number, and its unit unless it stands beside it.
    quantity: tuple[str, ...]
    price: tuple[str, ...]
    rate: str
    net: str
    #: Below the description, in small print.
    remarks: tuple[str, ...]


def draw_lines(draft: Draft, kept: float) -> None:
    """Draw the table; `kept` is the height of what must stand on the page on which it ends."""
    event, words = draft.event, draft.words
    rows = [_row(draft, item) for item in event["lines"]]
    with_tax = bool(draft.details and draft.details["prices_include_tax"])
    titles = [
        words.description,
        words.sku,
        words.quantity,
        draft.said(words.unit_price_with_tax if with_tax else words.unit_price),
        draft.said("{tax}"),
        draft.said(words.net),
    ]
    carried = Carried(words.carried, words.brought, lambda minor: draft.language.money(minor, draft.currency))
    widths = _widths(draft, titles, rows)
    if widths is None:
        _draw_stacked(draft, titles, rows, carried, kept)
        return
    sheet = draft.sheet
    columns: list[Column] = []
    x = LEFT + CELL_INSET
    for place, (title, width) in enumerate(zip(titles, widths, strict=True)):
        if width:
            columns.append(Column(title, x, width, number=place > 1))
            x += width + _COLUMN_GAP
    table = Table(sheet, columns, carried)
    total = 0
    last = len(rows) - 1
    for place, (row, item) in enumerate(zip(rows, event["lines"], strict=True)):
        total += item["net_minor"]
        described = sheet.texts(row.description, widths[0])
        for text in row.remarks:
            described += sheet.texts(text, widths[0], SMALL_SIZE, MUTED)
        shown = [
            described,
            *([sheet.texts(row.sku, widths[1])] if widths[1] else []),
            _numbers(draft, row.quantity, widths[2]),
            _numbers(draft, row.price, widths[3]),
            sheet.fitted(row.rate, widths[4]),
            sheet.fitted(row.net, widths[5]),
        ]
        table.row(shown, total, kept if place == last else None)


def _draw_stacked(draft: Draft, titles: Sequence[str], rows: Sequence[_Row], carried: Carried, kept: float) -> None:
    """Numbers too long to stand beside a description: it stands above them."""
    sheet = draft.sheet
    width = (WIDTH - 2 * CELL_INSET - 3 * _STACKED_GAP) / 4
    lefts = [LEFT + CELL_INSET + place * (width + _STACKED_GAP) for place in range(4)]
    heads = [f"{titles[0]} / {titles[2]}", titles[3], titles[4], titles[5]]
    columns = [
        Column(head, left, width, number=place > 0) for place, (head, left) in enumerate(zip(heads, lefts, strict=True))
    ]
    table = Table(sheet, columns, carried)
    total = 0
    for place, (row, item) in enumerate(zip(rows, draft.event["lines"], strict=True)):
        total += item["net_minor"]
        above = [
            *sheet.texts(" · ".join(text for text in (row.description, row.sku) if text), WIDTH - 2 * CELL_INSET),
            *(each for text in row.remarks for each in sheet.texts(text, WIDTH - 2 * CELL_INSET, SMALL_SIZE, MUTED)),
        ]
        blank = sheet.texts("", width)
        cells = [
            [*above, *_numbers(draft, row.quantity, width)],
            [*blank * len(above), *_numbers(draft, row.price, width)],
            [*blank * len(above), *sheet.fitted(row.rate, width)],
            [*blank * len(above), *sheet.fitted(row.net, width)],
        ]
        table.row(cells, total, kept if place == len(rows) - 1 else None)


def _row(draft: Draft, item: InvoiceLine) -> _Row:
    language, details = draft.language, item.get("details")
    rate = language.percent(item["vat_rate"])
    category = item["vat_category"]
    number, unit = language.quantity(item["quantity"], details["unit"] if details else "")
    price = language.price(item["unit_price"], draft.currency)
    base = details["base_quantity"] if details else ""
    remarks: list[str] = []
    if details:
        remarks = _remarks(draft, details)
        if base and language.number(base) != "1":
            _, base_unit = language.quantity(base, details["unit"])
            price_base = draft.said(draft.words.per, quantity=f"{language.number(base)}\u00a0{base_unit}".strip())
            return _Row(
                *_named(item), _quantity(number, unit), (price, one_line(price_base)), _rate(rate, category),
                language.money(item["net_minor"], draft.currency), tuple(remarks),
            )  # fmt: skip
    return _Row(
        *_named(item), _quantity(number, unit), (price,), _rate(rate, category),
        language.money(item["net_minor"], draft.currency), tuple(remarks),
    )  # fmt: skip


def _named(item: InvoiceLine) -> tuple[str, str]:
    sku = one_line(item["sku"])
    description = " ".join(lines(item["description"]))
    return description, "" if sku == description else sku


def _quantity(number: str, unit: str) -> tuple[str, ...]:
    if not unit:
        return (number,)
    if len(unit) <= _UNIT_CHARS_MAX:
        return (f"{number}\u00a0{one_line(unit)}",)
    return (number, one_line(unit))


def _rate(rate: str, category: str) -> str:
    return rate if category == "S" else f"{rate}\u00a0{one_line(category)}"


def _remarks(draft: Draft, details: LineDetails) -> list[str]:
    language, words = draft.language, draft.words
    found: list[str] = []
    period = details["period"]
    if period:
        found.append(period_text(draft, period["start"], period["end"]))
    if details["gross_price"] and details["price_discount"]:
        price, discount = (language.price(details[name], draft.currency) for name in ("gross_price", "price_discount"))
        found.append(draft.said(words.list_price, price=price, discount=discount))
    found += [allowance_text(draft, each, words.allowance, -1) for each in details["allowances"]]
    found += [allowance_text(draft, each, words.charge, 1) for each in details["charges"]]
    if details["buyer_item_id"]:
        found.append(draft.said(words.buyer_item, item=one_line(details["buyer_item_id"])))
    if details["order_line"]:
        found.append(draft.said(words.order_line, line=one_line(details["order_line"])))
    return [*found, *lines(details["note"])]


def allowance_text(draft: Draft, allowance: Allowance, name: str, sign: int) -> str:
    """An allowance or charge in one line: why, how much of what, and the amount with its sign."""
    reason = one_line(allowance["reason"]) or name
    share = f" ({draft.language.percent(allowance['percent'])})" if allowance["percent"] else ""
    return f"{reason}{share}: {draft.language.added(allowance['amount'], draft.currency, sign)}"


def _numbers(draft: Draft, texts: Sequence[str], width: float) -> list[Text]:
    found = draft.sheet.fitted(texts[0], width)
    for text in texts[1:]:
        found += draft.sheet.texts(text, width, SMALL_SIZE, MUTED)
    return found


def _widths(draft: Draft, titles: Sequence[str], rows: Sequence[_Row]) -> list[float] | None:
    """Numbers get the room that the longest of them needs; a column that says nothing gets none.

    None if the description would have no room, although numbers are as small as they may be.
    """
    line = draft.sheet.typesetter.line
    title_widths = [line(title, bold=True).width * SMALL_SIZE / 1000 for title in titles]
    sku = max((line(row.sku).width for row in rows), default=0) * BODY_SIZE / 1000
    sku_width = min(max(sku, title_widths[1]) + _TOLERANCE, _SKU_WIDTH_MAX) if sku else 0.0
    numbers: list[list[str]] = [
        [text for row in rows for text in row.quantity[:1]],
        [text for row in rows for text in row.price[:1]],
        [row.rate for row in rows],
        [row.net for row in rows],
    ]
    natural = [max([line(text).width for text in set(texts)], default=0) / 1000 for texts in numbers]
    units = [[text for row in rows for text in row.quantity[1:]], [text for row in rows for text in row.price[1:]]]
    below = [max((line(text).width for text in texts), default=0) / 1000 for texts in units]
    gaps = (5 if sku_width else 4) * _COLUMN_GAP
    room = WIDTH - 2 * CELL_INSET - gaps - sku_width
    for size in (BODY_SIZE, 8.0, SIZE_MIN):
        # A title may break between its words; a number never breaks.
        wanted = [
            max(width * size, min(title, _TITLE_WIDTH_MAX), min(small * SMALL_SIZE, _TITLE_WIDTH_MAX)) + _TOLERANCE
            for width, title, small in zip(natural, title_widths[2:], [*below, 0.0, 0.0], strict=True)
        ]
        if room - sum(wanted) >= _DESCRIPTION_WIDTH_MIN:
            return [room - sum(wanted), sku_width, *wanted]
    return None
