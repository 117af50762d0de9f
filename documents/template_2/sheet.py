"""A stack of pages filled from top to bottom, and tables that go on over them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from documents.page import ARTIFACT, PAGE_HEIGHT_POINTS, PAGE_WIDTH_POINTS, Colour, Element, Page
from documents.shaping import TextLine
from documents.text import Typesetter

MARGIN_POINTS = 48.0
LEFT = MARGIN_POINTS
RIGHT = PAGE_WIDTH_POINTS - MARGIN_POINTS
WIDTH = RIGHT - LEFT
TOP = PAGE_HEIGHT_POINTS - MARGIN_POINTS

INK: Colour = "0.11 0.13 0.16"
MUTED: Colour = "0.36 0.40 0.46"
HAIRLINE: Colour = "0.84 0.87 0.90"
SHADE: Colour = "0.95 0.965 0.98"

BODY_SIZE = 9.0
SMALL_SIZE = 7.5
#: Nothing is printed smaller.
SIZE_MIN = 7.0
#: From line to line, as a multiple of the size.
LEADING = 1.36

#: From the edge of a table to its text.
CELL_INSET = 6.0
#: A cell's text begins this far below its upper edge.
CELL_PADDING = 4.0
_HEAD_PADDING = 5.0
_CARRY_HEIGHT = 18.0
#: A row of more lines than this may go on on the next page, with so many of them on either side.
_UNDIVIDED_LINES_MAX = 6
_DIVIDED_LINES_MIN = 3
#: What is kept with the end of a table takes at most so much of a page, to leave room for the table's last row.
_KEPT_HEIGHT_MAX = 0.6 * PAGE_HEIGHT_POINTS


@dataclass(slots=True)
class Text:
    """One line of text with its looks."""

    line: TextLine
    size: float = BODY_SIZE
    colour: Colour = INK

    @property
    def width(self) -> float:
        """In points."""
        return self.line.width * self.size / 1000

    @property
    def leading(self) -> float:
        """From the baseline before to its own, in points."""
        return self.size * LEADING


class Sheet:
    """The pages so far, and how far the last one is filled: `y`, in points from its lower edge."""

    def __init__(self, typesetter: Typesetter, bottom: float, begin: Callable[[Page], float]) -> None:
        self.typesetter = typesetter
        self.bottom = bottom
        #: Draws what stands on top of each page after the first, and says where the text goes on.
        self._begin = begin
        self.root = Element("Document")
        self.pages = [Page()]
        self.y = TOP

    @property
    def page(self) -> Page:
        """The last one."""
        return self.pages[-1]

    @property
    def room(self) -> float:
        """Points left on the page."""
        return self.y - self.bottom

    def turn(self) -> None:
        """Go on on a new page."""
        self.pages.append(Page())
        self.page.belongs_to(ARTIFACT)
        self.y = self._begin(self.page)

    def need(self, height: float) -> None:
        """Turn the page unless it has `height` left. What needs more than a page begins on a new one."""
        if self.room < height:
            self.turn()

    def texts(
        self, text: str, width: float, size: float = BODY_SIZE, colour: Colour = INK, bold: bool = False
    ) -> list[Text]:
        """Lines of `text`, made safe by `clean`, no wider than `width` points."""
        return [Text(each, size, colour) for each in self.typesetter.wrapped(text, width / size * 1000, bold)]

    def fitted(
        self, text: str, width: float, size: float = BODY_SIZE, colour: Colour = INK, bold: bool = False
    ) -> list[Text]:
        """`text` on one line, smaller if it must be; on several where it would be smaller than `SIZE_MIN`."""
        whole = Text(self.typesetter.line(text, bold), size, colour)
        if whole.width <= width:
            return [whole]
        smaller = size * width / whole.width
        if smaller >= SIZE_MIN:
            return [Text(whole.line, smaller, colour)]
        return self.texts(text, width, SIZE_MIN, colour, bold)

    def draw(self, text: Text, x: float, width: float, *, right: bool = False) -> None:
        """Draw a line below `y`, from `x` on; on the right of `width` if `right`, or if it is read from there."""
        line = text.line
        if right or line.right_to_left:
            x += max(width - line.width * text.size / 1000, 0.0)
        # A single glyph may be wider than any column.
        self.pages[-1].text(x, self.y - text.size, line, text.size, text.colour, width)

    def paragraph(self, texts: Sequence[Text], element: Element, x: float = LEFT, width: float = WIDTH) -> None:
        """Draw lines below each other, over pages if need be."""
        for text in texts:
            self.need(text.leading)
            self.page.belongs_to(element)
            self.draw(text, x, width)
            self.y -= text.leading

    def rule(self, thickness: float = 0.75) -> None:
        """Draw a rule over the width of the page."""
        self.page.belongs_to(ARTIFACT)
        self.page.rule(LEFT, RIGHT, self.y, thickness, HAIRLINE)


@dataclass(frozen=True, slots=True)
class Column:
    """A table's column, in points."""

    title: str
    x: float
    width: float
    number: bool = False


@dataclass(frozen=True, slots=True)
class Carried:
    """What stands before an amount that is carried to the next page and from the last one, and how it is written."""

    to: str
    back: str
    written: Callable[[int], str]


#: A cell is the lines that stand in it.
Cell = Sequence[Text]


class Table:
    """Rows under a head that is repeated on every page, and an amount that is carried over the pages."""

    def __init__(
        self, sheet: Sheet, columns: Sequence[Column], carried: Carried | None = None, right: float = RIGHT
    ) -> None:
        self._sheet = sheet
        self._columns = columns
        self._left = columns[0].x - CELL_INSET
        self._right = right
        self._carried = carried
        self._element = sheet.root.add("Table")
        #: The page whose head is drawn.
        self._headed: Page | None = None
        self._heads = [sheet.texts(column.title, column.width, SMALL_SIZE, MUTED, bold=True) for column in columns]
        lines = max(len(head) for head in self._heads)
        self._head_height = lines * SMALL_SIZE * LEADING + 2 * _HEAD_PADDING
        #: What the rows drawn so far come to; None before the first one.
        self._amount: int | None = None

    def row(self, cells: Sequence[Cell], amount: int = 0, kept: float | None = None) -> None:
        """Draw a row; `amount` is what the rows with this one come to, in minor units.

        `kept` is given with the last row: so much of what follows the table stands on the page where it ends, with this
        row or a part of it.
        """
        sheet = self._sheet
        lines: list[tuple[Text | None, ...]]
        if all(len(cell) == 1 for cell in cells):
            # Most of them.
            lines = [tuple([cell[0] for cell in cells])]
            leadings = [max([cell[0].size for cell in cells]) * LEADING]
        else:
            lines = list(zip_longest(*cells))
            leadings = [max([text.size for text in line if text is not None]) * LEADING for line in lines]
        after = min(kept, _KEPT_HEIGHT_MAX) if kept is not None else self._reserve
        whole = sum(leadings) + 2 * CELL_PADDING
        divided = len(leadings) > _UNDIVIDED_LINES_MAX
        first = sum(leadings[:_DIVIDED_LINES_MIN]) + 2 * CELL_PADDING + self._reserve if divided else whole + after
        head = 0.0 if self._headed is sheet.page else self._head_height
        if sheet.room < first + head and self._headed is not None:
            self._turn(self._amount)
        elif sheet.room < first + head:
            # The head never stands alone at the foot of a page.
            sheet.turn()
        self._head()
        row = self._element.add("TR")
        cell_elements = [row.add("TD") for _ in cells]
        sheet.y -= CELL_PADDING
        rest = sum(leadings)
        for place, line in enumerate(lines):
            is_tail = len(leadings) - place <= _DIVIDED_LINES_MIN
            needed = rest + CELL_PADDING + after if is_tail else leadings[place] + CELL_PADDING + self._reserve
            begins_tail = len(leadings) - place == _DIVIDED_LINES_MIN
            if place and divided and (begins_tail or not is_tail) and sheet.room < needed:
                self._turn(amount)
                self._head()
                sheet.y -= CELL_PADDING
            page = sheet.page
            for column, text, element in zip(self._columns, line, cell_elements, strict=True):
                if text is not None:
                    page.belongs_to(element)
                    sheet.draw(text, column.x, column.width, right=column.number)
            sheet.y -= leadings[place]
            rest -= leadings[place]
        sheet.y -= CELL_PADDING
        sheet.page.belongs_to(ARTIFACT)
        sheet.page.rule(self._left, self._right, sheet.y, 0.5, HAIRLINE)
        self._amount = amount

    @property
    def _reserve(self) -> float:
        return _CARRY_HEIGHT if self._carried else 0.0

    def _turn(self, amount: int | None) -> None:
        written = self._carried.written(amount) if self._carried and amount is not None else ""
        if self._carried and written:
            self._carry(self._carried.to, written)
        self._sheet.turn()
        self._head()
        if self._carried and written:
            self._carry(self._carried.back, written)

    def _carry(self, words: str, amount: str) -> None:
        # Said again by the totals: a reader's software goes through the rows without it.
        sheet = self._sheet
        sheet.page.belongs_to(ARTIFACT)
        left, half = self._left + CELL_INSET, (self._right - self._left) / 2 - CELL_INSET
        sheet.y -= CELL_PADDING
        sheet.draw(sheet.fitted(words, half, SMALL_SIZE, MUTED)[0], left, half)
        sheet.draw(sheet.fitted(amount, half, BODY_SIZE, MUTED)[0], left + half, half, right=True)
        sheet.y -= _CARRY_HEIGHT - CELL_PADDING
        sheet.page.rule(self._left, self._right, sheet.y, 0.5, HAIRLINE)

    def _head(self) -> None:
        sheet = self._sheet
        if self._headed is sheet.page:
            return
        # Later pages repeat it.
        row = self._element.add("TR") if self._headed is None else None
        self._headed = sheet.page
        sheet.page.belongs_to(ARTIFACT)
        sheet.page.box(self._left, sheet.y - self._head_height, self._right - self._left, self._head_height, SHADE)
        top = sheet.y
        for column, head in zip(self._columns, self._heads, strict=True):
            sheet.y = top - _HEAD_PADDING
            if row is not None:
                sheet.page.belongs_to(row.add("TH", "/A<</O/Table/Scope/Column>>"))
            for text in head:
                sheet.draw(text, column.x, column.width, right=column.number)
                sheet.y -= text.leading
        sheet.y = top - self._head_height
