"""Compiled encoders and decoders write and read what Avro's library does."""

import io
from typing import Any

import pytest
from fastavro import parse_schema, schemaless_reader, schemaless_writer
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import catalog
from schemas.compiled import decoder, encoder, read_long
from tests.tomorrow import SCHEMAS

_NUMBER: Any = parse_schema({"type": "record", "name": "a.A", "fields": [{"name": "n", "type": "long"}]})
_LONGS = st.integers(-(2**63), 2**63 - 1)


def _values(schema: Any, named: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values of a schema; a field that has a default may be missing."""
    if isinstance(schema, list):
        return st.none() | _values(schema[1], named)
    if isinstance(schema, str) and schema in named:
        schema = named[schema]
    kind = schema if isinstance(schema, str) else schema["type"]
    if kind == "record":
        fields = {each["name"]: _values(each["type"], named) for each in schema["fields"]}
        optional = {each["name"] for each in schema["fields"] if "default" in each}
        required = {name: values for name, values in fields.items() if name not in optional}
        return st.fixed_dictionaries(required, optional={name: fields[name] for name in optional})
    if kind == "array":
        return st.lists(_values(schema["items"], named), max_size=2)
    return {
        # About the lengths where one more byte is needed.
        "string": st.sampled_from(["", "Zoë 😀", "x" * 63, "x" * 64, "é" * 4_096]),
        "bytes": st.sampled_from([b"", b"\0\xff", b"x" * 64]),
        "long": _LONGS,
        "int": st.integers(-(2**31), 2**31 - 1),
        "boolean": st.booleans(),
    }[kind]


# Hypothesis warns if the description of what it draws from is long, which it is here, and makes one only now and then.
@pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisWarning")
@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: schema.record)
@settings(max_examples=15)
@given(data=st.data())
def test_they_agree_with_the_library_on_every_version(schema: catalog.Schema[Any], data: st.DataObject) -> None:
    """Byte for byte when writing; when reading also as the newest version."""
    for version in schema.versions:
        parsed = version.parsed
        value = data.draw(_values(parsed, parsed["__named_schemas"]))
        out = io.BytesIO()
        schemaless_writer(out, parsed, value)
        written = version.encoder(value)
        assert written == out.getvalue()
        # The overload for a resolved reader is not in its types.
        wanted: Any = schemaless_reader(io.BytesIO(written), parsed, schema.newest.parsed)
        assert schema.decoders[version.schema_id](written, 0) == (wanted, len(written))


@pytest.mark.parametrize("value", [0, -1, 63, 64, -64, -65, 4_095, 4_096, 2**62, 2**63 - 1, -(2**63)])
def test_an_integer_is_read_as_it_was_written(value: int) -> None:
    written = encoder(_NUMBER)({"n": value})
    out = io.BytesIO()
    schemaless_writer(out, _NUMBER, {"n": value})
    assert written == out.getvalue()
    assert read_long(written, 0) == (value, len(written))
    assert decoder(_NUMBER, _NUMBER)(written, 0) == ({"n": value}, len(written))


def test_an_integer_of_more_than_64_bits_is_not_written() -> None:
    for value in (2**63, -(2**63) - 1):
        with pytest.raises(OverflowError):
            encoder(_NUMBER)({"n": value})


@pytest.mark.parametrize("kind", ["double", ["string", "null"], ["null", "string", "long"]])
def test_a_schema_of_other_parts_is_refused_at_once(kind: Any) -> None:
    """Not when the first record comes."""
    schema: Any = parse_schema({"type": "record", "name": "a.A", "fields": [{"name": "n", "type": kind}]})
    with pytest.raises(NotImplementedError):
        encoder(schema)
    with pytest.raises(NotImplementedError):
        decoder(schema, schema)


def test_a_block_may_state_its_size() -> None:
    """As some writers do: then its count is negative."""
    item = {"type": "record", "name": "a.B", "fields": [{"name": "s", "type": "string"}]}
    fields = [{"name": "items", "type": {"type": "array", "items": item}}]
    schema: Any = parse_schema({"type": "record", "name": "a.A", "fields": fields})
    value = {"items": [{"s": "x"}, {"s": "y"}, {"s": "z"}]}
    # Two items in four bytes, then one.
    assert decoder(schema, schema)(b"\x03\x08\x02x\x02y\x02\x02z\x00", 0) == (value, 10)
