"""Avro in the Confluent wire format: magic byte 0, schema id in 4 bytes, body.

fastavro trusts its input: a few bytes can claim an array of a hundred million items. So a record is measured before it
is decoded: its size, and, where it is large enough to matter, the length of each array.
"""

import io
import struct
from collections.abc import Mapping
from typing import Any, cast

from fastavro import schemaless_reader, schemaless_writer

from schemas.catalog import SCHEMAS, Schema

_HEADER = struct.Struct(">bI")
_MAGIC = 0

#: No schema of ours has a longer array (an order has at most 1,000 lines).
ARRAY_ITEMS_MAX = 1_000
#: Below this a record can't hold enough items to hurt, whatever it claims: each item of ours takes a byte or more.
_UNMEASURED_BYTES_MAX = 32 * 1024


class DecodeError(ValueError):
    """The bytes are no record of the schemas expected; the message says why."""


def encode(schema: Schema, value: Mapping[str, Any]) -> bytes:
    """Encode `value`; timestamps are integers of microseconds since 1970, UTC."""
    out = io.BytesIO()
    out.write(_HEADER.pack(_MAGIC, schema.schema_id))
    schemaless_writer(out, schema.parsed, value)
    return out.getvalue()


def schema_of(payload: bytes) -> Schema:
    """The schema that the header names; raises `DecodeError` for a foreign or unknown one."""
    if len(payload) < _HEADER.size:
        raise DecodeError("shorter than the 5 bytes of the wire format's header")
    magic, schema_id = _HEADER.unpack_from(payload)
    if magic != _MAGIC:
        raise DecodeError(f"magic byte {magic}, not 0: not in the Confluent wire format")
    schema = SCHEMAS.get(schema_id)
    if schema is None:
        raise DecodeError(f"unknown schema id {schema_id}")
    return schema


def decode(payload: bytes | None, *schemas: Schema, bytes_max: int) -> tuple[Schema, dict[str, Any]]:
    """Decode a record of one of `schemas`; timestamps come back as integers of microseconds.

    Raises `DecodeError` for anything else: a tombstone, a foreign header, a truncated body, bytes left over, too large.
    """
    if payload is None:
        raise DecodeError("a tombstone: the record has no value")
    if len(payload) > bytes_max:
        raise DecodeError(f"{len(payload)} bytes, more than the {bytes_max} permitted")
    schema = schema_of(payload)
    if schema not in schemas:
        raise DecodeError(f"schema {schema.name} does not belong here")
    body = io.BytesIO(payload)
    body.seek(_HEADER.size)
    try:
        if len(payload) > _UNMEASURED_BYTES_MAX:
            _measure(schema.parsed, payload, _HEADER.size, schema.parsed["__named_schemas"])
        # Every schema of the catalogue is a record, and a record is decoded as a dict.
        value = cast(dict[str, Any], schemaless_reader(body, schema.parsed, None))
    except DecodeError:
        raise
    # fastavro raises whatever its C code stumbles over: EOFError, IndexError, UnicodeDecodeError, OverflowError …
    except Exception as error:  # noqa: BLE001
        raise DecodeError(f"not a {schema.name}: {type(error).__name__}: {error}") from None
    if body.tell() != len(payload):
        raise DecodeError(f"{len(payload) - body.tell()} bytes left over after the {schema.name}")
    return schema, value


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
