"""The logo of the seller under test: with one, each document shows what its event names, or is wrong."""

import io
import subprocess
import sys
import tempfile

from PIL import Image

from local.stack import Stack

#: Of the stack's own key.
_SELLER_ID = "demo"


def set_logo(stack: Stack) -> None:
    """Give the stack's seller a logo. It is a JPEG, whose very bytes a document holds."""
    picture = io.BytesIO()
    Image.linear_gradient("L").resize((120, 40)).save(picture, "JPEG")
    with tempfile.NamedTemporaryFile(suffix=".jpg") as file:
        file.write(picture.getvalue())
        file.flush()
        command = [sys.executable, "-m", "gapless", "sellers", "logo", _SELLER_ID, file.name, "--data", str(stack.data)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # noqa: S603
