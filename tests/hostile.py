"""Records that nobody honest writes, made from honest ones: for tests of everything that reads a topic."""

import copy
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from hypothesis import strategies as st

from schemas import catalog, codec

_HEADER_BYTES = 5
_TEXTS = (
    "", " ", "\0", "a\nb", "demo", "other", "{demo}", "}", "..", "x" * 65, "x" * 5_000, "é" * 600,
    "\u202e", "\U0001f600",
    "NaN", "1e9", "-0", "9" * 13, "0.0000001", "cancel", "refund", "ship", "refund:", "void", "authorize", "succeeded",
    "failed", "credit_note", "invoice", "EUR", "XXX", "AE", "S-1", "set", "reserved", "cancellation",
)  # fmt: skip
_NUMBERS = (
    0, 1, -1, 2, 999, 2**31 - 1, 2**31, -(2**31) - 1, 10**15 + 1, 2**53 + 1, 253402300800 * 10**6, 2**63 - 1, -(2**63),
)  # fmt: skip
#: Counts and lengths that claim gigabytes, as zigzag varints.
_CLAIMS = (2 * 1_001, 2**21, 2**32, 2**41, 2**41 - 1, 2**63)
_MIB = 1024 * 1024


@dataclass(frozen=True)
class Sample:
    """An honest record's schema and content."""

    schema: catalog.Schema[Any]
    value: Mapping[str, Any]

    @property
    def encoded(self) -> bytes:
        """As it stands in a topic."""
        return codec.encode(self.schema, self.value)


class Hostile(NamedTuple):
    """A record's key and value; shown in short, for a value may have a megabyte."""

    key: bytes | None
    value: bytes | None

    def __repr__(self) -> str:
        size = 0 if self.value is None else len(self.value)
        value = repr(self.value) if size < 400 else f"{self.value!r:.400}… {size} bytes"
        return f"Hostile({self.key!r:.60}, {value})"


def records(of_topic: Sequence[Sample], foreign: Sequence[bytes]) -> st.SearchStrategy[Hostile]:
    """Records that a topic should not have, `of_topic` being some that it should, and `foreign` other topics'."""
    return st.builds(Hostile, keys(), values(of_topic, foreign))


def values(of_topic: Sequence[Sample], foreign: Sequence[bytes]) -> st.SearchStrategy[bytes | None]:
    """Values of records: well-formed ones with hostile content first of all, and everything that is no record."""
    honest = st.sampled_from([sample.encoded for sample in of_topic])
    return st.one_of(
        st.sampled_from(of_topic).flatmap(changed),
        st.sampled_from(of_topic).flatmap(changed),
        honest.flatmap(truncated),
        honest.flatmap(flipped),
        honest.flatmap(claiming),
        st.builds(bomb, st.sampled_from([each.schema for each in of_topic]), st.sampled_from([20_000, 40_000, _MIB])),
        st.builds(_with_schema_id, honest, st.one_of(st.integers(-(2**31), 2**31 - 1), st.integers(0, 40))),
        st.sampled_from(foreign),
        st.none(),
        st.binary(max_size=80),
        st.binary(max_size=80).map(lambda tail: b"\0\0\0\0" + tail),
    )


def keys() -> st.SearchStrategy[bytes | None]:
    """Keys of records."""
    return st.one_of(st.none(), st.just(b""), st.binary(max_size=20), st.just(b"\xff" * 5_000), st.just(b"key"))


@st.composite
def changed(draw: st.DrawFn, sample: Sample) -> bytes:
    """A well-formed record with up to three fields that nobody honest writes."""
    value = copy.deepcopy(sample.value)
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(value))
        container, name, kind = draw(st.sampled_from(places))
        container[name] = draw(_instead(kind, container[name]))
    return codec.encode(sample.schema, value)


@st.composite
def truncated(draw: st.DrawFn, payload: bytes) -> bytes:
    """The record's beginning."""
    return payload[: draw(st.integers(0, len(payload) - 1))]


@st.composite
def flipped(draw: st.DrawFn, payload: bytes) -> bytes:
    """The record with up to four bits turned, not in its header."""
    body = bytearray(payload)
    for bit in draw(st.lists(st.integers(_HEADER_BYTES * 8, len(payload) * 8 - 1), min_size=1, max_size=4)):
        body[bit // 8] ^= 1 << (bit % 8)
    return bytes(body)


@st.composite
def claiming(draw: st.DrawFn, payload: bytes) -> bytes:
    """The record with a huge number somewhere: where a count or a length stood, it claims gigabytes."""
    at = draw(st.integers(_HEADER_BYTES, len(payload)))
    return payload[:at] + _varint(draw(st.sampled_from(_CLAIMS))) + payload[at + draw(st.integers(0, 2)) :]


def bomb(schema: catalog.Schema[Any], size_bytes: int) -> bytes:
    """As many of the smallest items as so many bytes can hold, in the schema's first array; zeros where it has none."""
    prefix = _until_array(schema.newest.parsed)
    body = b"" if prefix is None else prefix + _varint(2 * (size_bytes // 2))
    return (struct.pack(">bI", 0, schema.newest.schema_id) + body).ljust(size_bytes, b"\0")


def _until_array(schema: Any) -> bytes | None:
    """The shortest values of all fields before the first array; None if there is no array."""
    out = b""
    for field in schema["fields"]:
        kind = field["type"]
        if isinstance(kind, dict) and kind["type"] == "array":
            return out
        if isinstance(kind, dict) and kind["type"] == "record":
            inner = _until_array(kind)
            if inner is not None:
                return out + inner
            out += b"\0" * len(kind["fields"]) * 4
        else:
            out += b"\0"
    return None


def _with_schema_id(payload: bytes, schema_id: int) -> bytes:
    return b"\0" + struct.pack(">i", schema_id) + payload[_HEADER_BYTES:]


def _places(container: Any) -> Iterator[tuple[Any, Any, str]]:
    """Every text, number and array of a value: where it is kept, under what name, and what it is."""
    for name in container if isinstance(container, Mapping) else range(len(container)):
        yield from _place(container, name)


def _place(container: Any, name: Any) -> Iterator[tuple[Any, Any, str]]:
    value = container[name]
    if isinstance(value, Mapping | list):
        if isinstance(value, list):
            yield container, name, "array"
        yield from _places(value)
    elif isinstance(value, str):
        yield container, name, "text"
    elif isinstance(value, int) and not isinstance(value, bool):
        yield container, name, "number"


def _instead(kind: str, value: Any) -> st.SearchStrategy[Any]:
    if kind == "text":
        return st.one_of(st.sampled_from(_TEXTS), st.text(max_size=20).filter(_encodes))
    if kind == "number":
        return st.one_of(st.sampled_from(_NUMBERS), st.integers(-(2**63), 2**63 - 1))
    return st.sampled_from([[], value * 2, value * 1_000, value * 1_001])


def _encodes(text: str) -> bool:
    return not any("\ud800" <= char <= "\udfff" for char in text)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def sample(schema: catalog.Schema[Any], **known: Any) -> Sample:
    """A record of the schema with one item in each array; fields of these names have these values."""
    return Sample(schema, _value(schema.newest.parsed, known, schema.newest.parsed["__named_schemas"]))


def _value(schema: Any, known: Mapping[str, Any], named: Mapping[str, Any]) -> Any:
    if isinstance(schema, list):
        return _value(next(branch for branch in schema if branch != "null"), known, named)
    schema = named.get(schema, schema) if isinstance(schema, str) else schema
    kind = schema["type"] if isinstance(schema, dict) else schema
    if kind == "record":
        return {
            each["name"]: known[each["name"]] if each["name"] in known else _value(each["type"], known, named)
            for each in schema["fields"]
        }
    if kind == "array":
        return [_value(schema["items"], known, named)]
    return {"string": "1", "bytes": b"1", "long": 1, "int": 1, "boolean": True}[kind]


def claims(schema: catalog.Schema[Any]) -> list[bytes]:
    """The schema's sample with each huge number at each place."""
    payload = sample(schema).encoded
    places = range(_HEADER_BYTES, len(payload))
    return [payload[:at] + _varint(claim) + payload[at + 1 :] for at in places for claim in _CLAIMS]
