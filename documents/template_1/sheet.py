"""A stack of pages filled from top to bottom, and tables that go on over them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from documents.page import PAGE_HEIGHT_POINTS, PAGE_WIDTH_POINTS, Colour, Page
from documents.shaping import TextLine
from documents.template_1.text import line, wrapped

MARGIN_POINTS = 48.0
LEFT = MARGIN_POINTS
RIGHT = PAGE_WIDTH_POINTS - MARGIN_POINTS
TOP = PAGE_HEIGHT_POINTS - MARGIN_POINTS

INK: Colour = "0.11 0.13 0.16"
MUTED: Colour = "0.40 0.44 0.50"
ACCENT: Colour = "0.09 0.23 0.39"
HAIRLINE: Colour = "0.84 0.87 0.90"
SHADE: Colour = "0.95 0.965 0.98"
WHITE: Colour = "1 1 1"

BODY_SIZE = 9.0
BODY_LEADING = 12.5
SMALL_SIZE = 7.5
SMALL_LEADING = 10.0

#: From the edge of a table to its text.
CELL_INSET = 6.0
#: A cell's text begins this far below its upper edge.
_CELL_PADDING = 5.0
_HEAD_HEIGHT = 20.0


class Sheet:
    """The pages so far, and how far the last one is filled: `y`, in points from its lower edge."""

    def __init__(self, bottom: float, begin: Callable[[Page], float]) -> None:
        self.bottom = bottom
        #: Draws what stands on top of each page after the first, and says where the text goes on.
        self._begin = begin
        self.pages = [Page()]
        self.y = TOP

    @property
    def page(self) -> Page:
        return self.pages[-1]

    @property
    def room(self) -> float:
        """Points left on the page."""
        return self.y - self.bottom

    def turn(self) -> None:
        """Go on on a new page."""
        self.pages.append(Page())
        self.y = self._begin(self.page)

    def need(self, height: float) -> None:
        """Turn the page unless it has `height` left. What needs more than a page begins on a new one."""
        if self.room < height:
            self.turn()


@dataclass(frozen=True, slots=True)
class Column:
    """A table's column, in points."""

    title: str
    x: float
    width: float
    #: Numbers stand on the right and shrink rather than wrap: half a number is another number.
    number: bool = False


class Table:
    """Rows under a head that is repeated on every page."""

    def __init__(self, sheet: Sheet, columns: Sequence[Column]) -> None:
        self._sheet = sheet
        self._columns = columns
        self._left = columns[0].x - CELL_INSET
        self._right = columns[-1].x + columns[-1].width + CELL_INSET
        #: The page whose head is drawn.
        self._headed: Page | None = None

    def row(self, cells: Sequence[str]) -> None:
        """Draw one row of texts made safe by `clean`. A row stays in one piece unless it is taller than a page."""
        texts = [
            [line(cell)] if column.number else wrapped(cell, column.width / BODY_SIZE * 1000)
            for column, cell in zip(self._columns, cells, strict=True)
        ]
        height = max(len(text) for text in texts) * BODY_LEADING + 2 * _CELL_PADDING
        sheet = self._sheet
        # The head never stands alone at the foot of a page.
        self._need(height if self._headed is sheet.page else height + _HEAD_HEIGHT)
        sheet.y -= _CELL_PADDING
        for cells_of_line in zip_longest(*texts):
            if sheet.room < BODY_LEADING + _CELL_PADDING:
                self._need(PAGE_HEIGHT_POINTS)
                sheet.y -= _CELL_PADDING
            for column, text in zip(self._columns, cells_of_line, strict=True):
                if text is not None:
                    self._draw_cell(column, text, sheet.y - BODY_SIZE, BODY_SIZE, INK)
            sheet.y -= BODY_LEADING
        sheet.y -= _CELL_PADDING
        sheet.page.rule(self._left, self._right, sheet.y, 0.5, HAIRLINE)

    def _need(self, height: float) -> None:
        sheet = self._sheet
        sheet.need(height)
        if self._headed is sheet.page:
            return
        self._headed = sheet.page
        sheet.page.box(self._left, sheet.y - _HEAD_HEIGHT, self._right - self._left, _HEAD_HEIGHT, SHADE)
        for column in self._columns:
            self._draw_cell(column, line(column.title, bold=True), sheet.y - 13.0, SMALL_SIZE, MUTED)
        sheet.y -= _HEAD_HEIGHT

    def _draw_cell(self, column: Column, text: TextLine, baseline: float, size: float, colour: Colour) -> None:
        if column.number or text.right_to_left:
            self._sheet.page.text_right(column.x + column.width, baseline, text, size, colour, column.width)
        else:
            self._sheet.page.text(column.x, baseline, text, size, colour, column.width)
