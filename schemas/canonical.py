"""When two Avro schemas are the same one: whatever their spaces, the order of their attributes and their comments."""

import json
from typing import Any

_NAMED = ("record", "error", "enum", "fixed")
_PRIMITIVES = frozenset({"null", "boolean", "int", "long", "float", "double", "bytes", "string"})


class NotASchemaError(ValueError):
    """The text is no Avro schema."""


def canonical(text: str) -> str:
    """The schema in a form that equal schemas share. Raises `NotASchemaError`.

    Names are full names and `doc` is left out; what a reader decodes by stays: defaults, aliases, logical types.
    """
    try:
        return json.dumps(_plain(json.loads(text), ""), sort_keys=True)
    except (ValueError, RecursionError) as error:
        raise NotASchemaError(str(error)) from None


def _plain(node: Any, namespace: str) -> Any:
    if isinstance(node, str):
        return node if node in _PRIMITIVES else _full_name(node, namespace)
    if isinstance(node, list):
        return [_plain(each, namespace) for each in node]
    if not isinstance(node, dict) or "type" not in node:
        raise NotASchemaError(f"{type(node).__name__} is no type")
    kind = node["type"]
    rest = {name: value for name, value in node.items() if name not in ("type", "doc", "namespace")}
    if kind in ("array", "map"):
        part = "items" if kind == "array" else "values"
        return {**rest, "type": kind, part: _plain(node.get(part), namespace)}
    if not (isinstance(kind, str) and kind in _NAMED):
        inner = _plain(kind, namespace)
        return {**rest, "type": inner} if rest else inner
    name = node.get("name")
    if not isinstance(name, str):
        raise NotASchemaError(f"{kind} without a name")
    full_name = _full_name(name, str(node.get("namespace", namespace)))
    made = {**rest, "type": kind, "name": full_name}
    if "fields" in node:
        made["fields"] = [_field(each, full_name.rpartition(".")[0]) for each in node["fields"]]
    return made


def _field(node: Any, namespace: str) -> Any:
    if not isinstance(node, dict) or not isinstance(node.get("name"), str):
        raise NotASchemaError("a field without a name")
    rest = {name: value for name, value in node.items() if name not in ("type", "doc")}
    return {**rest, "type": _plain(node.get("type"), namespace)}


def _full_name(name: str, namespace: str) -> str:
    return name if "." in name or not namespace else f"{namespace}.{name}"
