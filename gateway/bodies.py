"""JSON read strictly, with the field that is wrong."""

import json
import re
from typing import Any, NoReturn, TypeVar

import msgspec

from gateway.openapi import Parameter
from gateway.problems import MALFORMED, Kind, ProblemError

IDEMPOTENCY_KEY = Parameter(
    "Idempotency-Key", "header", {"type": "string"}, "The id, where the body has none; quoted or not."
)

_AMOUNTS = ("quantity", "unit_price", "vat_rate", "net", "tax", "gross")
_WHERE = re.compile(r"^(.*?)(?: - at `\$\.?(.*)`)?$", re.DOTALL)
_NAMED = re.compile(r"`([^`]*)`")
_NUMBER_FOR_TEXT = re.compile(r"Expected `str(?: \| null)?`, got `(?:int|float)`")

_Body = TypeVar("_Body")


def decode(decoder: msgspec.json.Decoder[_Body], body: bytes) -> _Body:
    """The body; raises `ProblemError` with the field that is wrong, as far as there is one. Repeated fields pass."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        _refuse_malformed(body, error)


def decode_small(decoder: msgspec.json.Decoder[_Body], body: bytes) -> _Body:
    """As `decode`, and no field is given twice."""
    decoded = decode(decoder, body)
    refuse_repeated_fields(body)
    return decoded


def chosen_id(field: str, given: str | None, idempotency_key: str | None, missing: Kind, ambiguous: Kind) -> str:
    """An id from the body or the Idempotency-Key header; raises `ProblemError` where there is none, or two."""
    key = None if idempotency_key is None else _unquoted(idempotency_key.strip())
    if given is None:
        if not key:
            raise ProblemError(missing, f"give {field} in the body, or the Idempotency-Key header", field=field)
        return key
    if key and key != given:
        raise ProblemError(ambiguous, f"{field} and the Idempotency-Key header differ: leave one out", field=field)
    return given


def _unquoted(key: str) -> str:
    """The header's draft makes its value a quoted string; bare values are common, and taken too."""
    return key[1:-1] if len(key) >= 2 and key[0] == key[-1] == '"' else key


def _invalid(message: str) -> ProblemError:
    """msgspec's message, such as "Expected `str`, got `int` - at `$.lines[0].quantity`", as a problem."""
    match = _WHERE.match(message)
    text, path = (match.group(1), match.group(2) or "") if match else (message, "")
    if "missing required field" in text or "unknown field" in text:
        named = _NAMED.search(text)
        name = named.group(1) if named else ""
        path = f"{path}.{name}" if path else name
        text = "is missing" if "missing" in text else "is not a field of this request"
    elif _NUMBER_FOR_TEXT.search(text) and path.rpartition(".")[2] in _AMOUNTS:
        text = 'is a number: write it as a string, such as "19.99"'
    else:
        text = text.replace("`", "").replace("Expected", "expected")
    return ProblemError(MALFORMED, f"{path}: {text}" if path else text, field=path or None)


def _refuse_malformed(body: bytes, error: Exception) -> NoReturn:
    """Say what is wrong with a body that is no JSON; a number that JSON doesn't have is named by its field."""
    try:
        document = json.loads(body, parse_constant=_NotJson)
    except (ValueError, RecursionError):
        document = None
    found = _find_not_json(document, "", 0)
    if found is not None:
        path, text = found
        raise ProblemError(MALFORMED, f"{path}: {text} is no JSON", field=path or None)
    if isinstance(error, RecursionError):
        raise ProblemError(MALFORMED, "the body is nested too deeply")
    if isinstance(error, UnicodeDecodeError):
        raise ProblemError(MALFORMED, f"the body is not UTF-8 (byte {error.start})")
    raise ProblemError(MALFORMED, str(error))


class _NotJson:
    """NaN, Infinity or -Infinity."""

    def __init__(self, text: str) -> None:
        self.text = text


def _find_not_json(node: Any, path: str, depth: int) -> tuple[str, str] | None:
    if isinstance(node, _NotJson):
        return path, node.text
    if depth > 8:  # Deeper than any field of ours.
        return None
    children: list[tuple[str, Any]] = []
    if isinstance(node, dict):
        children = [(f"{path}.{name}" if path else name, child) for name, child in node.items()]
    elif isinstance(node, list):
        children = [(f"{path}[{index}]", child) for index, child in enumerate(node)]
    for where, child in children:
        found = _find_not_json(child, where, depth + 1)
        if found is not None:
            return found
    return None


def refuse_repeated_fields(body: bytes) -> None:
    """Raises `ProblemError` where an object of well-formed JSON gives a field twice."""

    def check(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        fields = dict(pairs)
        if len(fields) != len(pairs):
            seen: set[str] = set()
            name = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
            raise ProblemError(MALFORMED, f"{name}: given twice", field=name)
        return fields

    json.loads(body, object_pairs_hook=check)
