"""Records that need not be what their types say: as anybody may write them into a topic."""

from collections.abc import Mapping
from typing import Any

from schemas.catalog import Schema
from schemas.codec import encode


def written(schema: Schema[Any], value: Mapping[str, Any]) -> bytes:
    """The record's bytes; what is in its fields is for its readers to refuse."""
    return encode(schema, value)
