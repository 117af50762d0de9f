"""A seller's logo, PNG or JPEG, as a PDF holds it."""

import io
import zlib
from functools import lru_cache

from PIL import Image as Pillow
from PIL import UnidentifiedImageError

from documents.page import Image

#: A logo is in every document of its seller, for ten years. It was never refused up to this size when it was set.
LOGO_BYTES_MAX = 512 * 1024
#: Read before the picture is unpacked: a small file can claim to be a wall of pixels.
_PIXELS_MAX = 16_000_000
#: Printed at most 170 points wide, this is 250 pixels an inch.
_SIDE_PIXELS_MAX = 600
_LOGOS_CACHED = 32


class BadLogoError(ValueError):
    """The bytes are no logo that can be printed; the message says why."""


@lru_cache(maxsize=_LOGOS_CACHED)
def logo_image(data: bytes) -> Image:
    """Check and convert a logo. Raises `BadLogoError`."""
    if len(data) > LOGO_BYTES_MAX:
        raise BadLogoError(f"a logo has at most {LOGO_BYTES_MAX // 1024} KiB, this one has {len(data):,} bytes")
    try:
        with Pillow.open(io.BytesIO(data), formats=["PNG", "JPEG"]) as picture:
            width, height = picture.size
            if width * height > _PIXELS_MAX:
                raise BadLogoError(f"a logo has at most {_PIXELS_MAX:,} pixels, not {width:,} x {height:,}")
            picture.load()
            # JPEG goes in as it came: unpacked it would be many times as large.
            if picture.format == "JPEG" and picture.mode in {"L", "RGB"}:
                return Image(width, height, _colour_space(picture.mode), "DCTDecode", data)
            return _converted(picture)
    except UnidentifiedImageError:
        raise BadLogoError("a logo must be a PNG or a JPEG file") from None
    except (OSError, SyntaxError, ValueError, Pillow.DecompressionBombError) as error:
        if isinstance(error, BadLogoError):
            raise
        raise BadLogoError(f"a logo cannot be read as a picture: {error}") from None


def _converted(picture: Pillow.Image) -> Image:
    transparent = picture.has_transparency_data
    flat: Pillow.Image = picture.convert("RGBA" if transparent else "RGB")
    flat.thumbnail((_SIDE_PIXELS_MAX, _SIDE_PIXELS_MAX), Pillow.Resampling.LANCZOS)
    mask = _packed(flat.getchannel("A"), None) if transparent else None
    return _packed(flat.convert("RGB"), mask)


def _packed(picture: Pillow.Image, mask: Image | None) -> Image:
    data = zlib.compress(picture.tobytes(), 6)
    return Image(picture.width, picture.height, _colour_space(picture.mode), "FlateDecode", data, mask)


def _colour_space(mode: str) -> str:
    return "DeviceRGB" if mode == "RGB" else "DeviceGray"
