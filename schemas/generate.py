"""Writes `domain/records.py`, the types of all records: `python -m schemas.generate`."""

import json
import textwrap
from importlib.resources import files
from pathlib import Path
from typing import Any

RECORDS = Path(__file__).parent.parent / "domain" / "records.py"

_HEAD = '''\
"""The records that rooms pass to each other, as the codec takes and gives them: generated from the Avro schemas.

One type a record, of its newest version. A field that came later and may be absent may be left out where a record is
made; a decoded record has it. Times are integers of microseconds since 1970, UTC. Don't edit: change the schema, then
run `python -m schemas.generate`.
"""

from typing import NotRequired, TypedDict, final
'''
_COLUMNS = 120
#: Defaults that stand for an absent field.
_ABSENT: tuple[object, ...] = (None, "", [])
_PRIMITIVES = {"null": "None", "boolean": "bool", "int": "int", "long": "int", "string": "str", "bytes": "bytes"}


def generate() -> str:
    """The module's text. Raises `ValueError` for a schema that has no type here, or a name with two meanings."""
    classes: dict[str, str] = {}
    avro = files("schemas").joinpath("avro")
    for folder in sorted(avro.iterdir(), key=lambda each: each.name):
        versions = sorted(folder.iterdir(), key=lambda each: int(each.name[1:].removesuffix(".avsc")))
        first, newest = (json.loads(each.read_text(encoding="utf-8")) for each in (versions[0], versions[-1]))
        _type(newest, classes, _fields(first))
    return "\n\n".join([_HEAD, *classes.values()])


def _fields(node: Any) -> dict[str, set[str]]:
    """The names of the fields of each record in a schema."""
    if isinstance(node, list):
        found: dict[str, set[str]] = {}
        for each in node:
            found |= _fields(each)
        return found
    if isinstance(node, str):
        return {}
    within = node.get("items") or [field["type"] for field in node.get("fields", ())]
    of_this = {node["name"]: {field["name"] for field in node["fields"]}} if node["type"] == "record" else {}
    return of_this | _fields(within)


def _type(node: Any, classes: dict[str, str], first: dict[str, set[str]]) -> str:
    """How the type is written; records found in it are added to `classes` behind those that they consist of.

    `first` has the fields of the schema's first version.
    """
    if isinstance(node, list):
        return " | ".join(sorted((_type(each, classes, first) for each in node), key="None".__eq__))
    if isinstance(node, str):
        name = _PRIMITIVES.get(node, node.rpartition(".")[2])
        if node not in _PRIMITIVES and name not in classes:
            raise ValueError(f"no type for {node!r}: schemas.generate knows {', '.join(_PRIMITIVES)} and records")
        return name
    if node["type"] == "array":
        return f"list[{_type(node['items'], classes, first)}]"
    if node["type"] != "record":
        # A logical type is what it is made of: the codec knows none.
        return _type(node["type"], classes, first)
    lines = ["@final", f"class {node['name']}(TypedDict):", *_wrapped('"""', node["doc"] + '"""'), ""]
    for field in node["fields"]:
        kind = _type(field["type"], classes, first)
        came_later = node["name"] in first and field["name"] not in first[node["name"]]
        if came_later and field["default"] in _ABSENT:
            kind = f"NotRequired[{kind}]"
        lines += [*_wrapped("#: ", field["doc"]), f"    {field['name']}: {kind}"]
    text = "\n".join(lines) + "\n"
    if classes.setdefault(node["name"], text) != text:
        raise ValueError(f"{node['name']} has two meanings: give one of them another name")
    return str(node["name"])


def _wrapped(before: str, text: str) -> list[str]:
    indent = "    "
    later = indent + (before if before.startswith("#") else "")
    return textwrap.wrap(text.strip(), _COLUMNS, initial_indent=indent + before, subsequent_indent=later)


if __name__ == "__main__":
    RECORDS.write_text(generate(), encoding="utf-8")
