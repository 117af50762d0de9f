"""The statements of `queries.sql`, by name."""

import re
from importlib.resources import files
from typing import LiteralString, cast


def _load() -> dict[str, LiteralString]:
    text = files("sinks.postgres").joinpath("queries.sql").read_text(encoding="utf-8")
    parts = re.split(r"^-- name: (\w+)$", text, flags=re.MULTILINE)
    # The file is part of the program, so its text is as literal as a string in the code.
    return {name: cast(LiteralString, body.strip()) for name, body in zip(parts[1::2], parts[2::2], strict=True)}


SQL = _load()
