"""Avro, compiled: each record of a schema becomes one Python function that writes it, and one that reads it.

That takes a third to a half of the time of a library that walks the schema for each value. The functions know what our
schemas consist of: records, arrays of records, optional values (`["null", …]`), strings, bytes, integers and booleans.
"""

from collections.abc import Callable, Mapping
from typing import Any

#: Writes a record as Avro prescribes. Raises `KeyError` for a field that is missing and has no default, and whatever
#: Python raises for a value of another type than the field's.
Encoder = Callable[[Mapping[str, Any]], bytes]
#: Reads the record that begins at an index of the bytes; returns it, and the index behind it, which is beyond the end
#: for some truncated bytes. Raises `IndexError` for the others, and `ValueError` for what is no such record.
Decoder = Callable[[bytes, int], tuple[dict[str, Any], int]]

#: No schema of ours has a longer array (an order has at most 1,000 lines).
ARRAY_ITEMS_MAX = 1_000
#: A record of fewer bytes can't hold enough items to hurt, whatever it claims: each item of ours takes a byte or more.
_UNBOUNDED_BYTES_MAX = 32 * 1024
_LONGS = range(-(2**63), 2**63)
_LONG_BYTES_MAX = 10


def encoder(schema: Mapping[str, Any]) -> Encoder:
    """The encoder of a record by its parsed schema. Raises `NotImplementedError` for a schema of other parts."""
    made: Encoder = _Writing(schema).record(schema["name"])
    return made


def decoder(written: Mapping[str, Any], schema: Mapping[str, Any]) -> Decoder:
    """The decoder of a record that was written by the parsed schema `written`, resolved into `schema`.

    The schemas are versions of one record: a field that one of them lacks is skipped, or has its default; all others
    have the same type in both. Raises `NotImplementedError` for a schema of other parts.
    """
    made: Decoder = _Reading(written, schema).record(schema["name"], is_wanted=True)
    return made


def read_long(data: bytes, at: int) -> tuple[int, int]:
    """An integer of at most 10 bytes, and the index behind it. Raises `IndexError` and `ValueError`."""
    left = shift = 0
    for index in range(at, at + _LONG_BYTES_MAX):
        byte = data[index]
        left |= (byte & 0x7F) << shift
        if byte < 0x80:
            left &= 0xFFFF_FFFF_FFFF_FFFF
            return (left >> 1) ^ -(left & 1), index + 1
        shift += 7
    raise ValueError(f"a number of more than {_LONG_BYTES_MAX} bytes")


class _Longs(dict[int, bytes]):
    """Integers as Avro writes them: zigzag, seven bits a byte. Small ones are remembered: most are lengths of texts."""

    def __missing__(self, value: int) -> bytes:
        if value not in _LONGS:
            raise OverflowError(f"{value} is no integer of 64 bits")
        left = (value << 1) ^ (value >> 63)
        written = bytearray()
        while left > 0x7F:
            written.append(left & 0x7F | 0x80)
            left >>= 7
        written.append(left)
        return bytes(written)


_longs = _Longs()
_longs.update({value: _longs[value] for value in range(4096)})


class _Writing:
    """The functions of a schema's records: one expression for all fields of each."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._records = schema["__named_schemas"]
        self._functions: dict[str, Any] = {
            "join": b"".join,
            "longs": _longs,
            "absent": b"\0",
            "present": b"\2",
            "false": b"\0",
            "true": b"\1",
        }

    def record(self, name: str) -> Any:
        """The function of a record, made when first asked for."""
        function = _name(name)
        if function not in self._functions:
            pieces: list[str] = []
            for number, field in enumerate(self._records[name]["fields"]):
                value = f"record[{field['name']!r}]"
                if "default" in field:
                    value = f"record.get({field['name']!r}, {field['default']!r})"
                pieces += self._pieces(field["type"], value, f"value_{number}")
            _define(self._functions, [f"def {function}(record):", f" return join(({', '.join(pieces)},))"])
        return self._functions[function]

    def _pieces(self, schema: Any, value: str, name: str) -> list[str]:
        """Expressions whose bytes follow each other; `name` is a variable that no other field uses."""
        kind = kind_of(schema)
        if kind == "optional":
            inner = ", ".join(self._pieces(schema[1], name, f"{name}_"))
            return [f"absent if ({name} := {value}) is None else join((present, {inner}))"]
        if kind == "string":
            return [f"longs[len({name} := {value}.encode())]", name]
        if kind == "bytes":
            return [f"longs[len({name} := {value})]", name]
        if kind == "long":
            return [f"longs[{value}]"]
        if kind == "boolean":
            return [f"true if {value} else false"]
        if kind == "array":
            item = kind_of(schema["items"])
            self.record(item)
            return [f"longs[len({name} := {value})]", f"*map({_name(item)}, {name})", f"absent if {name} else b''"]
        self.record(kind)
        return [f"{_name(kind)}({value})"]


class _Reading:
    """The functions of a schema's records: some lines for each field, and one for the whole.

    A record inside a field that is skipped has a function of its own, which makes no value.
    """

    def __init__(self, written: Mapping[str, Any], schema: Mapping[str, Any]) -> None:
        self._written, self._records = written["__named_schemas"], schema["__named_schemas"]
        self._functions: dict[str, Any] = {"read_long": read_long, "read_size": _read_size, "read_array": _read_array}

    def record(self, name: str, *, is_wanted: bool) -> Any:
        """The function of a record, made when first asked for."""
        function = _name(name, is_wanted=is_wanted)
        if function not in self._functions:
            fields = {field["name"]: field for field in self._records[name]["fields"]} if is_wanted else {}
            values = {each: repr(field["default"]) for each, field in fields.items() if "default" in field}
            lines = [f"def {function}(data, at):"]
            for number, field in enumerate(self._written[name]["fields"]):
                lines += _indented(self._lines(field["type"], f"value_{number}", is_wanted=field["name"] in fields))
                values[field["name"]] = f"value_{number}"
            pairs = ", ".join(f"{each!r}: {values[each]}" for each in fields)
            _define(self._functions, [*lines, f" return {{{pairs}}}, at"])
        return self._functions[function]

    def _lines(self, schema: Any, name: str, *, is_wanted: bool) -> list[str]:
        """Lines that set the variable `name` to the value at `at`, if it is wanted, and move `at` behind it."""
        kind = kind_of(schema)
        if kind == "optional":
            return [
                "branch = data[at]",
                "at += 1",
                "if branch == 2:",
                *_indented(self._lines(schema[1], name, is_wanted=is_wanted)),
                f"elif branch == 0: {name} = None",
                "else: raise ValueError(f'the branch of a union is {branch}')",
            ]
        if kind in ("string", "bytes"):
            value = "data[at:end].decode()" if kind == "string" else "data[at:end]"
            return [
                "size = data[at]",
                # Shorter than 64 bytes, as nearly all are.
                "if size & 0x81:",
                " size, at = read_size(data, at)",
                " end = at + size",
                "else:",
                " at += 1",
                " end = at + (size >> 1)",
                *([f"{name} = {value}"] if is_wanted else []),
                "at = end",
            ]
        if kind == "long":
            return [
                f"{name} = data[at]",
                f"if {name} > 0x7F: {name}, at = read_long(data, at)",
                f"else: {name}, at = ({name} >> 1) ^ -({name} & 1), at + 1",
            ]
        if kind == "boolean":
            return [f"{name} = data[at] != 0", "at += 1"]
        if kind == "array":
            item = kind_of(schema["items"])
            self.record(item, is_wanted=is_wanted)
            return [f"{name}, at = read_array(data, at, {_name(item, is_wanted=is_wanted)})"]
        self.record(kind, is_wanted=is_wanted)
        return [f"{name}, at = {_name(kind, is_wanted=is_wanted)}(data, at)"]


def _read_size(data: bytes, at: int) -> tuple[int, int]:
    size, at = read_long(data, at)
    if size < 0:
        raise ValueError(f"a text of {size} bytes")
    return size, at


def _read_array(data: bytes, at: int, read: Decoder) -> tuple[list[dict[str, Any]], int]:
    items: list[dict[str, Any]] = []
    while True:
        count, at = read_long(data, at)
        if count < 0:  # A block that states its size in bytes.
            count = -count
            _, at = read_long(data, at)
        if count == 0:
            return items, at
        total = len(items) + count
        if total > ARRAY_ITEMS_MAX and len(data) > _UNBOUNDED_BYTES_MAX:
            raise ValueError(f"an array of {total} items, more than the {ARRAY_ITEMS_MAX} permitted")
        for _ in range(count):
            item, at = read(data, at)
            items.append(item)


def kind_of(schema: Any) -> str:
    """The kind of a value, or the name of its record. Raises `NotImplementedError`."""
    if isinstance(schema, list):
        if len(schema) != 2 or schema[0] != "null":
            raise NotImplementedError(f"a union of {schema}, not ['null', …]")
        return "optional"
    kind: str = schema if isinstance(schema, str) else schema["type"]
    if kind == "record":
        kind = schema["name"]
    if kind == "int":
        return "long"
    # Names of records are full names.
    if kind in ("string", "bytes", "long", "boolean", "array") or "." in kind:
        return kind
    raise NotImplementedError(f"{kind} in a schema")


def _name(record: str, *, is_wanted: bool = True) -> str:
    return record.replace(".", "_") if is_wanted else f"skip_{record.replace('.', '_')}"


def _indented(lines: list[str]) -> list[str]:
    return [f" {line}" for line in lines]


def _define(functions: dict[str, Any], lines: list[str]) -> None:
    # Made of our own schemas alone: names of records and fields, which Avro's grammar confines to words, and defaults.
    exec("\n".join(lines), functions)  # noqa: S102
