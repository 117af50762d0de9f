"""Avro in the Confluent wire format: magic byte 0, schema id in 4 bytes, body.

A few bytes can claim an array of a hundred million items. So the size of a record has a limit, which is checked before
it is decoded, and so have the arrays of a large one.

Records are written in the newest version of their schema. A record of an older version is resolved into the newest, as
Avro prescribes: fields that it lacks have their defaults.
"""

import struct
from collections.abc import Mapping
from functools import cache, lru_cache
from typing import Any, overload

from schemas.catalog import VERSIONS, R, Schema, SchemaVersion
from schemas.compiled import Decoder, decoder, read_long

_HEADER = struct.Struct(">bI")
_MAGIC = 0
#: An optional value that is absent.
_NULL = b"\0"


class DecodeError(ValueError):
    """The bytes are no record of the schemas expected; the message says why."""


def encode(schema: Schema[R], value: R) -> bytes:
    """Encode `value` in the newest version; timestamps are integers of microseconds since 1970, UTC."""
    version = schema.newest
    return _HEADER.pack(_MAGIC, version.schema_id) + version.encoder(value)


def schema_of(payload: bytes) -> Schema[Any]:
    """The schema that the header names; raises `DecodeError` for a foreign or unknown one."""
    return _written_as(payload)[0]


def lacks_event_id(payload: bytes) -> bool:
    """Whether the record has a field for its event's id, which is null: then that is its last byte."""
    return payload[-1:] == _NULL and _ends_with_event_id(payload[: _HEADER.size])


@lru_cache(256)
def _ends_with_event_id(header: bytes) -> bool:
    try:
        return _written_as(header)[1].ends_with_event_id
    except DecodeError:
        # The journal takes any bytes.
        return False


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
            else:  # A text.
                size, at = read_long(payload, at)
                at += max(0, size)
        length, at = read_long(payload, at)
    except IndexError:
        raise DecodeError("truncated") from None
    except ValueError as error:
        raise DecodeError(str(error)) from None
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
    return schema, _read(payload, schema, schema.decoders[version.schema_id])


def decode_field(payload: bytes, schema: Schema[Any], field: str, *, bytes_max: int) -> Any:
    """One field of a record of `schema`, of any version, as `decode` gives it. The others are skipped.

    It takes half the time. Raises `DecodeError`.
    """
    schema, version = _expected(payload, (schema,), bytes_max)
    return _read(payload, schema, _decoder_of(schema, version, field))[field]


@cache
def _decoder_of(schema: Schema[Any], version: SchemaVersion, field: str) -> Decoder:
    """What reads this field alone of a record of the version."""
    newest = schema.newest.parsed
    name = newest["name"]
    alone = {**newest, "fields": [each for each in newest["fields"] if each["name"] == field]}
    return decoder(version.parsed, {**alone, "__named_schemas": {**newest["__named_schemas"], name: alone}})


def _expected(payload: bytes, schemas: tuple[Schema[Any], ...], bytes_max: int) -> tuple[Schema[Any], SchemaVersion]:
    if len(payload) > bytes_max:
        raise DecodeError(f"{len(payload)} bytes, more than the {bytes_max} permitted")
    schema, version = _written_as(payload)
    if schema not in schemas:
        raise DecodeError(f"schema {schema.name} does not belong here")
    return schema, version


def _read(payload: bytes, schema: Schema[Any], read: Decoder) -> Any:
    try:
        value, end = read(payload, _HEADER.size)
    # UnicodeDecodeError is one; MemoryError and OverflowError come of sizes that no record has.
    except (IndexError, ValueError, OverflowError, MemoryError) as error:
        raise DecodeError(f"not a {schema.name}: {type(error).__name__}: {error}") from None
    if end != len(payload):
        what = f"{len(payload) - end} bytes left over after the" if end < len(payload) else "truncated"
        raise DecodeError(f"{what} {schema.name}")
    return value
