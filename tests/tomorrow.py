"""The catalogue of a release to come: today's, with one version more of each record."""

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from fastavro import schemaless_writer

from schemas import catalog
from schemas.catalog import SchemaVersion
from schemas.compiled import decoder

#: A nullable field at the end of every record, and one with a default in the first record within it.
LATER, LATER_WITHIN = "later", "later_within"
SCHEMAS = tuple(dict.fromkeys(schema for topic in catalog.TOPICS.values() for schema in topic.schemas))


@contextmanager
def tomorrow() -> Iterator[None]:
    """For a while, this process runs the release to come."""
    with pytest.MonkeyPatch.context() as patch:
        for schema in SCHEMAS:
            added = SchemaVersion(schema.record, len(schema.ids) + 1, 1_000 + schema.ids[-1])
            # Where these would keep what they have read from the folder, or have worked out.
            patch.setitem(added.__dict__, "text", _grown(schema.newest.text))
            decoders = {each.schema_id: decoder(each.parsed, added.parsed) for each in (*schema.versions, added)}
            patch.setitem(schema.__dict__, "decoders", decoders)
            patch.setitem(schema.__dict__, "versions", (*schema.versions, added))
            patch.setitem(schema.__dict__, "newest", added)
            patch.setitem(catalog.VERSIONS, added.schema_id, (schema, added))
        yield


def written(version: SchemaVersion, value: dict[str, Any]) -> bytes:
    """A record as the release wrote it whose newest version that was."""
    out = io.BytesIO()
    out.write(b"\0" + version.schema_id.to_bytes(4, "big"))
    schemaless_writer(out, version.parsed, value)
    return out.getvalue()


def _grown(text: str) -> str:
    node = json.loads(text)
    node["fields"].append({"name": LATER, "type": ["null", "string"], "default": None, "doc": "Came later."})
    within = next(_records(field["type"] for field in node["fields"]), None)
    if within is not None:
        within["fields"].append({"name": LATER_WITHIN, "type": "string", "default": "", "doc": "Came later."})
    return json.dumps(node)


def _records(types: Any) -> Iterator[dict[str, Any]]:
    for each in types:
        if isinstance(each, list):
            yield from _records(each)
        elif isinstance(each, dict):
            if each["type"] == "record":
                yield each
            yield from _records([each["items"]] if each["type"] == "array" else [])
