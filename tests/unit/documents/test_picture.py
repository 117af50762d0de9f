from PIL import Image, ImageChops

from tests.unit.documents.picture import PICTURE, draw

#: Averages of so many pixels a side are compared: machines may smooth the edges of a glyph differently.
_TILE_PIXELS = 4
#: The same page drawn on another machine stays below it, another digit does not.
_DIFFERENCE_MAX = 24


def test_the_picture_in_the_readme_is_the_invoice_that_is_rendered_now() -> None:
    """`make picture` draws it again."""
    drawn, shown = draw().convert("RGB"), Image.open(PICTURE).convert("RGB")
    assert shown.size == drawn.size
    difference = ImageChops.difference(drawn, shown).reduce(_TILE_PIXELS)
    assert max(difference.tobytes()) <= _DIFFERENCE_MAX


def test_the_picture_in_the_readme_is_light() -> None:
    """A clone and the README's page load it."""
    assert PICTURE.stat().st_size < 150_000
