"""The picture of an invoice in the README, drawn from a document that the renderer makes.

`python -m tests.unit.documents.picture` writes `docs/images/invoice.png`.
"""

from pathlib import Path

from PIL import Image
from pypdfium2 import PdfDocument

from documents.render import render
from tests.unit.documents.cases import paid_by_card

PICTURE = Path(__file__).parents[3] / "docs" / "images" / "invoice.png"
_WIDTH_PIXELS = 700
#: Rendered larger and scaled down, so that small print stays readable.
_OVERSAMPLING = 4
#: The page's part that is shown: below it there is only the footer.
_SHOWN_SHARE = 0.565
_COLOURS = 32


def draw() -> Image.Image:
    """The upper part of the sample invoice."""
    page = PdfDocument(render(paid_by_card(), None))[0]
    whole: Image.Image = page.render(scale=_OVERSAMPLING * _WIDTH_PIXELS / page.get_width()).to_pil().convert("RGB")
    shown = whole.crop((0, 0, whole.width, round(whole.height * _SHOWN_SHARE)))
    size = (_WIDTH_PIXELS, round(shown.height * _WIDTH_PIXELS / shown.width))
    return shown.resize(size, Image.Resampling.LANCZOS).quantize(_COLOURS)


if __name__ == "__main__":
    PICTURE.parent.mkdir(exist_ok=True)
    draw().save(PICTURE, optimize=True)
