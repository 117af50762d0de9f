"""Whether a reader with one Avro schema can read what another one wrote: Avro's rules of schema resolution."""

import json
from collections.abc import Iterator
from typing import Any

from schemas.canonical import canonical

#: What a reader may widen, as Avro's specification has it under "Schema Resolution".
_WIDENED = {
    "long": {"int"},
    "float": {"int", "long"},
    "double": {"int", "long", "float"},
    "string": {"bytes"},
    "bytes": {"string"},
}


def incompatibilities(reader: str, writer: str) -> list[str]:
    """Why a reader with the first schema can't read each record of the second; empty if it can.

    Both are JSON texts. Raises `NotASchemaError`.
    """
    new, old = json.loads(canonical(reader)), json.loads(canonical(writer))
    return list(_Resolution(_named(new), _named(old)).problems(new, old, "record"))


def full_name(text: str) -> str:
    """The full name of a record's schema; empty for a schema without a name. Raises `NotASchemaError`."""
    node = json.loads(canonical(text))
    return str(node.get("name", "")) if isinstance(node, dict) else ""


class _Resolution:
    """Compares types of two schemas, whose named types are given."""

    def __init__(self, new: dict[str, Any], old: dict[str, Any]) -> None:
        self._new = new
        self._old = old
        #: Pairs of records that are under comparison: a schema may contain itself.
        self._open: set[tuple[str, str]] = set()

    def problems(self, new: Any, old: Any, path: str) -> Iterator[str]:
        """Why `new` can't read what `old` wrote."""
        new, old = _resolved(new, self._new), _resolved(old, self._old)
        if isinstance(old, list):
            for branch in old:
                yield from self.problems(new, branch, path)
        elif isinstance(new, list):
            if all(any(self.problems(branch, old, path)) for branch in new):
                yield f"{path}: {_short(old)} has no branch in the union"
        else:
            yield from self._of_one_type(new, old, path)

    def _of_one_type(self, new: Any, old: Any, path: str) -> Iterator[str]:
        kind, before = _kind(new), _kind(old)
        if kind != before:
            if before not in _WIDENED.get(kind, ()):
                yield f"{path}: type {_short(old)} became {_short(new)}"
        elif kind in ("array", "map"):
            part = "items" if kind == "array" else "values"
            yield from self.problems(new[part], old[part], f"{path}[]")
        elif kind in ("record", "error", "enum", "fixed"):
            if _last_name(old["name"]) not in map(_last_name, (new["name"], *new.get("aliases", ()))):
                yield f"{path}: {old['name']} became {new['name']}"
            elif kind == "enum":
                missing = sorted(set(old.get("symbols", ())) - set(new.get("symbols", ())))
                if missing and "default" not in new:
                    yield f"{path}: the symbols {', '.join(missing)} are unknown"
            elif kind == "fixed":
                if new.get("size") != old.get("size"):
                    yield f"{path}: size {old.get('size')} became {new.get('size')}"
            else:
                yield from self._of_fields(new, old, path)

    def _of_fields(self, new: Any, old: Any, path: str) -> Iterator[str]:
        pair = (new["name"], old["name"])
        if pair in self._open:
            return
        self._open.add(pair)
        before = {field["name"]: field for field in old.get("fields", ())}
        for field in new.get("fields", ()):
            name = f"{path}.{field['name']}"
            written = next(
                (before[each] for each in (field["name"], *field.get("aliases", ())) if each in before), None
            )
            if written is not None:
                yield from self.problems(field["type"], written["type"], name)
            elif "default" not in field:
                yield f"{name} has no default"
        self._open.discard(pair)


def _named(node: Any) -> dict[str, Any]:
    """Every named type that the schema defines, by its full name."""
    found: dict[str, Any] = {}
    if isinstance(node, list):
        for each in node:
            found |= _named(each)
    elif isinstance(node, dict):
        if "name" in node and "type" in node:
            found[node["name"]] = node
        for part in (node.get("items"), node.get("values"), *(each["type"] for each in node.get("fields", ()))):
            found |= _named(part)
        if not isinstance(node["type"], str):
            found |= _named(node["type"])
    return found


def _resolved(node: Any, named: dict[str, Any]) -> Any:
    """The type itself, where a name or an object with nothing but a logical type stands for it."""
    while True:
        if isinstance(node, str) and node in named:
            return named[node]
        if isinstance(node, dict) and not isinstance(node["type"], str):
            node = node["type"]
        elif isinstance(node, dict) and node["type"] in named and "name" not in node:
            node = named[node["type"]]
        else:
            return node


def _kind(node: Any) -> str:
    return str(node["type"] if isinstance(node, dict) else node)


def _short(node: Any) -> str:
    return str(node.get("name", node["type"]) if isinstance(node, dict) else node)


def _last_name(name: str) -> str:
    return name.rpartition(".")[2]
