"""When two Avro schemas are the same one."""

import json

import pytest

from schemas.canonical import NotASchemaError, canonical

RECORD = {
    "type": "record",
    "name": "R",
    "namespace": "n",
    "fields": [{"name": "a", "type": ["null", "long"], "default": None}, {"name": "b", "type": "n.Other"}],
}


def same(one: object, other: object) -> bool:
    return canonical(json.dumps(one)) == canonical(json.dumps(other, indent=3))


def test_spaces_order_comments_and_ways_to_write_a_name_make_no_difference() -> None:
    assert same(RECORD, dict(reversed(RECORD.items())))
    assert same(RECORD, {**RECORD, "doc": "A record."})
    assert same(RECORD, {**{k: v for k, v in RECORD.items() if k != "namespace"}, "name": "n.R"})
    assert same("string", {"type": "string"})
    assert same({"type": "array", "items": "string"}, {"items": {"type": "string"}, "type": "array", "doc": "x"})


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "S"},
        {"namespace": "m"},
        {"aliases": ["Q"]},
        {"fields": []},
        {"fields": [{"name": "a", "type": ["long", "null"], "default": None}, {"name": "b", "type": "n.Other"}]},
        {"fields": [{"name": "a", "type": ["null", "long"]}, {"name": "b", "type": "n.Other"}]},
        {"fields": [{"name": "a", "type": ["null", "long"], "default": None}, {"name": "b", "type": "m.Other"}]},
    ],
)
def test_what_a_reader_decodes_by_does(changes: dict[str, object]) -> None:
    assert not same(RECORD, {**RECORD, **changes})
    assert not same({"type": "long", "logicalType": "timestamp-micros"}, "long")
    assert not same({"type": "long", "default": 1}, {"type": "long", "default": True})


@pytest.mark.parametrize("text", ["", "{", "7", "null", "{}", '{"type": "enum"}', "[" * 100_000, '[{"type": [1]}]'])
def test_what_is_no_schema_is_told_so(text: str) -> None:
    with pytest.raises(NotASchemaError):
        canonical(text)
