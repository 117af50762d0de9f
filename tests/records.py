"""Records that need not be what their types say: as anybody may write them into a topic."""

from collections.abc import Mapping
from typing import Any

from domain.content import ABSENT
from schemas.catalog import Schema
from schemas.codec import encode


def written(schema: Schema[Any], value: Mapping[str, Any]) -> bytes:
    """The record's bytes; what is in its fields is for its readers to refuse."""
    return encode(schema, value)


def said(value: Any) -> Any:
    """What a record says: its fields without those that are absent, which a decoded one has and a made one may not."""
    if isinstance(value, Mapping):
        parts = {name: said(part) for name, part in value.items()}
        return {name: part for name, part in parts.items() if part not in ABSENT}
    return [said(each) for each in value] if isinstance(value, list) else value
