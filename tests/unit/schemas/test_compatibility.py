"""Avro's rules of schema resolution."""

import io
import json
from typing import Any

import pytest
from fastavro import parse_schema, schemaless_reader, schemaless_writer
from fastavro.read import SchemaResolutionError

from schemas.compatibility import full_name, incompatibilities


def record(*fields: dict[str, Any], name: str = "R", **more: Any) -> dict[str, Any]:
    return {"type": "record", "name": name, "namespace": "n", "fields": list(fields), **more}


def field(kind: Any, name: str = "f", **more: Any) -> dict[str, Any]:
    return {"name": name, "type": kind, **more}


RED = {"type": "enum", "name": "E", "symbols": ["RED"]}
BOTH = {"type": "enum", "name": "E", "symbols": ["RED", "BLUE"]}
LISTED = record(field("int"), field(["null", "n.R"], "next", default=None))

CASES = [
    # Reader, writer, a value that the writer writes, and a part of why it can't be read.
    ("int", "int", 7, None),
    ("long", "int", 7, None),
    ("double", "long", 7, None),
    ("int", "long", 7, "type long became int"),
    ("string", "bytes", b"x", None),
    ("string", "int", 7, "type int became string"),
    ({"type": "string"}, "string", "x", None),
    ({"type": "long", "logicalType": "timestamp-micros"}, "long", 7, None),
    (["null", "string"], "string", "x", None),
    (["null", "string"], "int", 7, "int has no branch in the union"),
    ("string", ["null", "string"], None, "type null became string"),
    (["int", "null"], ["null", "int"], None, None),
    ({"type": "array", "items": "long"}, {"type": "array", "items": "int"}, [7], None),
    ({"type": "array", "items": "int"}, {"type": "array", "items": "string"}, ["x"], "type string became int"),
    ({"type": "map", "values": "long"}, {"type": "map", "values": "int"}, {"a": 7}, None),
    ({"type": "map", "values": "int"}, {"type": "array", "items": "int"}, [7], "type array became map"),
    (record(field("int")), record(field("int"), field("int", "g")), {"f": 1, "g": 2}, None),
    (record(field("int"), field("int", "g", default=3)), record(field("int")), {"f": 1}, None),
    (record(field("int"), field("int", "g")), record(field("int")), {"f": 1}, "record.g has no default"),
    (record(field("int", "h", aliases=["f"])), record(field("int")), {"f": 1}, None),
    (record(field("int"), name="S"), record(field("int")), {"f": 1}, "n.R became n.S"),
    (record(field("int"), name="S", aliases=["R"]), record(field("int")), {"f": 1}, None),
    (BOTH, RED, "RED", None),
    (RED, BOTH, "BLUE", "the symbols BLUE are unknown"),
    ({**RED, "default": "RED"}, BOTH, "BLUE", None),
    ({"type": "fixed", "name": "X", "size": 2}, {"type": "fixed", "name": "X", "size": 1}, b"x", "size 1 became 2"),
    (LISTED, LISTED, {"f": 1, "next": {"f": 2, "next": None}}, None),
    (record(field(BOTH), field("n.E", "g")), record(field(RED), field("n.E", "g")), {"f": "RED", "g": "RED"}, None),
]


@pytest.mark.parametrize(("reader", "writer", "value", "why"), CASES)
def test_what_can_be_read_is_compatible(reader: Any, writer: Any, value: Any, why: str | None) -> None:
    problems = incompatibilities(json.dumps(reader), json.dumps(writer))
    assert (problems == []) == (why is None), problems
    assert why is None or why in problems[0]


@pytest.mark.parametrize(("reader", "writer", "value", "why"), CASES)
def test_fastavro_says_the_same(reader: Any, writer: Any, value: Any, why: str | None) -> None:
    """Only that some of what it can't read shows when a record has it."""
    body = io.BytesIO()
    schemaless_writer(body, parse_schema(writer), value)
    body.seek(0)
    read: Any = schemaless_reader
    try:
        read(body, parse_schema(writer), parse_schema(reader))
    except SchemaResolutionError as error:
        assert why is not None, error
    else:
        assert why is None


def test_a_schema_has_the_name_of_its_record() -> None:
    assert full_name(json.dumps(record())) == "n.R"
    assert full_name('"string"') == full_name('["null", "string"]') == ""
