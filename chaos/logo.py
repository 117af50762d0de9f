"""A logo for the seller under test, so that documents with a wrong logo are found."""

import io
import subprocess
import sys
import tempfile

from PIL import Image

from local.stack import Stack

#: The seller of the stack's API key.
_SELLER_ID = "demo"


def set_logo(stack: Stack) -> None:
    """Give the stack's seller a logo: a JPEG, which a PDF contains byte for byte."""
    picture = io.BytesIO()
    Image.linear_gradient("L").resize((120, 40)).save(picture, "JPEG")
    with tempfile.NamedTemporaryFile(suffix=".jpg") as file:
        file.write(picture.getvalue())
        file.flush()
        command = [sys.executable, "-m", "gapless", "sellers", "logo", _SELLER_ID, file.name, "--data", str(stack.data)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # noqa: S603
