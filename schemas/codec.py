"""Avro in the Confluent wire format: magic byte 0, schema id in 4 bytes, body.

fastavro trusts its input: a few bytes can claim an array of a hundred million items. So a record is measured before it
is decoded: its size, and, where it is large enough to matter, the length of each array.

Records are written in the newest version of their schema. A record of an older version is resolved into the newest, as
Avro prescribes: fields that it lacks have their defaults.
"""

import io
import struct
from collections.abc import Mapping
from functools import cache
from typing import Any, overload

from fastavro import parse_schema, schemaless_reader, schemaless_writer

from schemas.catalog import VERSIONS, R, Schema, SchemaVersion

_HEADER = struct.Struct(">bI")
_MAGIC = 0

#: No schema of ours has a longer array (an order has at most 1,000 lines).
ARRAY_ITEMS_MAX = 1_000
#: Below this a record can't hold enough items to hurt, whatever it claims: each item of ours takes a byte or more.
_UNMEASURED_BYTES_MAX = 32 * 1024


class DecodeError(ValueError):
    """The bytes are no record of the schemas expected; the message says why."""


def encode(schema: Schema[R], value: R) -> bytes:
    """Encode `value` in the newest version; timestamps are integers of microseconds since 1970, UTC."""
    version = schema.newest
    out = io.BytesIO()
    out.write(_HEADER.pack(_MAGIC, version.schema_id))
    schemaless_writer(out, version.parsed, value)
    return out.getvalue()


def schema_of(payload: bytes) -> Schema[Any]:
    """The schema that the header names; raises `DecodeError` for a foreign or unknown one."""
    return _written_as(payload)[0]


def _written_as(payload: bytes) -> tuple[Schema[Any], SchemaVersion]:
    if len(payload) < _HEADER.size:
        raise DecodeError("shorter than the 5 bytes of the wire format's header")
    magic, schema_id = _HEADER.unpack_from(payload)
    if magic != _MAGIC:
        raise DecodeError(f"magic byte {magic}, not 0: not in the Confluent wire format")
    found = VERSIONS.get(schema_id)
    if found is None:
        raise DecodeError(f"unknown schema id {schema_id}")
    return found


def order_id_of(payload: bytes) -> bytes:
    """The order id of a record as it stands in its bytes, in UTF-8; nothing behind it is looked at.

    Raises `DecodeError` where there is none to be read.
    """
    schema, version = _written_as(payload)
    before = version.before_order_id
    if before is None:
        raise DecodeError(f"a {schema.name} has no order_id")
    at = _HEADER.size
    try:
        for kind in before:
            if kind == "long":
                while payload[at] > 0x7F:
                    at += 1
                at += 1
            else:
                at = _measure(kind, payload, at, {})
        # Shorter than 64 bytes, as nearly all are.
        if payload[at] & 0x81:
            length, at = _read_long(payload, at)
        else:
            length, at = payload[at] >> 1, at + 1
    except IndexError:
        raise DecodeError("truncated") from None
    if not 0 <= length <= len(payload) - at:
        raise DecodeError(f"a string of {length} bytes where {len(payload) - at} are left")
    return payload[at : at + length]


@overload
def decode(payload: bytes | None, schema: Schema[R], /, *, bytes_max: int) -> tuple[Schema[R], R]: ...
@overload
def decode(
    payload: bytes | None, *schemas: Schema[Any], bytes_max: int
) -> tuple[Schema[Any], Mapping[str, object]]: ...
def decode(payload: bytes | None, *schemas: Schema[Any], bytes_max: int) -> tuple[Schema[Any], Any]:
    """Decode a record of one of `schemas`, of any version, into the newest; timestamps are integers of microseconds.

    Of several schemas, `Schema.describes` tells which one's the record is.

    Raises `DecodeError` for anything else: a tombstone, a foreign header, a truncated body, bytes left over, too large.
    """
    if payload is None:
        raise DecodeError("a tombstone: the record has no value")
    schema, version = _expected(payload, schemas, bytes_max)
    if len(payload) > _UNMEASURED_BYTES_MAX:
        # As it was written: that is what the bytes are read by.
        _measure(version.parsed, payload, _HEADER.size, version.parsed["__named_schemas"])
    return schema, _read(payload, schema, version, None if version is schema.newest else schema.newest.parsed)


def decode_field(payload: bytes, schema: Schema[Any], field: str, *, bytes_max: int) -> Any:
    """One field of a record of `schema`, of any version, as `decode` gives it. The others are skipped.

    It takes half the time for five lines, and a seventh for 1,000. Only for records of our own, such as the journal's:
    the length of no array is measured. Raises `DecodeError`.
    """
    schema, version = _expected(payload, (schema,), bytes_max)
    return _read(payload, schema, version, _with_only(schema, field))[field]


@cache
def _with_only(schema: Schema[Any], field: str) -> Any:
    """The newest version with this field alone."""
    newest = schema.newest.parsed
    fields = [each for each in newest["fields"] if each["name"] == field]
    its = [{**each, "type": _defined(each["type"], newest["__named_schemas"], set())} for each in fields]
    return parse_schema({"type": "record", "name": newest["name"], "fields": its})


def _defined(node: Any, named: Mapping[str, Any], done: set[str]) -> Any:
    """A part of a schema by itself: a record is defined where it comes first, and named where it comes again."""
    if isinstance(node, list):
        return [_defined(each, named, done) for each in node]
    if isinstance(node, str):
        return _defined(named[node], named, done) if node in named and node not in done else node
    if node["type"] == "array":
        return {**node, "items": _defined(node["items"], named, done)}
    if node["type"] != "record":
        return node
    done.add(node["name"])
    fields = [{**each, "type": _defined(each["type"], named, done)} for each in node["fields"]]
    return {"type": "record", "name": node["name"], "fields": fields}


def _expected(payload: bytes, schemas: tuple[Schema[Any], ...], bytes_max: int) -> tuple[Schema[Any], SchemaVersion]:
    if len(payload) > bytes_max:
        raise DecodeError(f"{len(payload)} bytes, more than the {bytes_max} permitted")
    schema, version = _written_as(payload)
    if schema not in schemas:
        raise DecodeError(f"schema {schema.name} does not belong here")
    return schema, version


def _read(payload: bytes, schema: Schema[Any], version: SchemaVersion, reader: Any) -> Any:
    """The record, resolved into the reader's schema, if it is another than the writer's."""
    body = io.BytesIO(payload)
    body.seek(_HEADER.size)
    try:
        value = schemaless_reader(body, version.parsed, reader)
    # fastavro raises whatever its C code stumbles over: EOFError, IndexError, UnicodeDecodeError, OverflowError …
    except Exception as error:  # noqa: BLE001
        raise DecodeError(f"not a {schema.name}: {type(error).__name__}: {error}") from None
    if body.tell() != len(payload):
        raise DecodeError(f"{len(payload) - body.tell()} bytes left over after the {schema.name}")
    return value


def _measure(schema: Any, payload: bytes, at: int, named: Mapping[str, Any]) -> int:
    """Walk a value without building it; return where it ends. Raises `DecodeError` for an array too long."""
    kind = schema["type"] if isinstance(schema, dict) else schema
    if isinstance(schema, list):
        branch, at = _read_long(payload, at)
        if not 0 <= branch < len(schema):
            raise DecodeError(f"union branch {branch} of {len(schema)}")
        return _measure(schema[branch], payload, at, named)
    if kind == "record":
        for field in schema["fields"]:
            at = _measure(field["type"], payload, at, named)
        return at
    if kind == "array":
        return _measure_array(schema["items"], payload, at, named)
    if kind in ("string", "bytes"):
        length, at = _read_long(payload, at)
        if not 0 <= length <= len(payload) - at:
            raise DecodeError(f"a {kind} of {length} bytes where {len(payload) - at} are left")
        return at + length
    if kind in ("int", "long"):
        return _read_long(payload, at)[1]
    if kind == "null":
        return at
    if kind == "boolean":
        return at + 1
    return _measure(named[kind], payload, at, named)


def _measure_array(items: Any, payload: bytes, at: int, named: Mapping[str, Any]) -> int:
    total = 0
    while True:
        count, at = _read_long(payload, at)
        if count < 0:  # A block that states its size in bytes.
            count = -count
            _, at = _read_long(payload, at)
        if count == 0:
            return at
        total += count
        if total > ARRAY_ITEMS_MAX:
            raise DecodeError(f"an array of {total} items, more than the {ARRAY_ITEMS_MAX} permitted")
        for _ in range(count):
            at = _measure(items, payload, at, named)


def _read_long(payload: bytes, at: int) -> tuple[int, int]:
    """A zigzag varint of at most 10 bytes, and where it ends."""
    value = shift = 0
    while shift < 70:
        if at >= len(payload):
            raise DecodeError("truncated")
        byte = payload[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), at
        shift += 7
    raise DecodeError("a number of more than 10 bytes")
