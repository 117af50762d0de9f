"""What stands in a request's path, query and headers: each parameter's declaration, and how its value is read.

Header fields that are lists are read as RFC 9110 and RFC 7240 define them: over all lines, quoted strings in one piece.
Elements that violate the grammar are ignored: a malformed preference is not applied, and a malformed entity tag
matches nothing.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
from aiohttp import web
from multidict import MultiMapping

from domain import base64url
from domain.invoice import ORDER_ID_CHARS_MAX, check_order_id
from domain.refusals import INVALID_FIELD, Refusal
from gateway.http import problems
from gateway.http.openapi import Parameter, text
from gateway.http.problems import ProblemError, ProblemKind

WAIT_SECONDS_MAX = 30
#: Longer waits are ignored as mistakes.
_WAIT_SECONDS_SENSIBLE_MAX = 999_999
LIMIT_DEFAULT, LIMIT_MAX = 20, 100

ORDER_ID = Parameter("order_id", "path", text(ORDER_ID_CHARS_MAX), "The order's id.", required=True)
IDEMPOTENCY_KEY = Parameter(
    "Idempotency-Key", "header", {"type": "string"}, "The id, if the body has none; quoted or not."
)
PREFER = Parameter(
    "Prefer",
    "header",
    {"type": "string", "examples": ["wait=10"]},
    f"`wait=N`: wait for the outcome, for at most {WAIT_SECONDS_MAX} seconds.",
)
#: Of a list that is answered in pages.
PAGE = (
    Parameter(
        "limit",
        "query",
        {"type": "integer", "minimum": 1, "maximum": LIMIT_MAX, "default": LIMIT_DEFAULT},
        "How many there are at most.",
    ),
    Parameter("cursor", "query", {"type": "string"}, "`next` of the page before."),
)

#: More digits than any valid number has; Python is slow on thousands of them, then refuses.
_DIGITS_MAX = 20

# Up to a comma outside quoted strings. An unclosed quote ends with its line.
_ELEMENT = re.compile(r'(?:[^",]|"(?:[^"\\]|\\.)*+(?:"|\\?$))++')
_PREFERENCE = re.compile(
    r"([!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t]*(?:=[ \t]*([^\s;\"]+|\"(?:[^\"\\]|\\.)*\")?[ \t]*)?(?:;.*)?"
)
# An entity tag has no escapes: a backslash is an ordinary character.
_TAG = r'(?:W/)?"[^\x00-\x20"\x7f]*+"'
_TAGS = re.compile(rf"[ \t,]*+({_TAG})[ \t]*+(?=,|$)")
#: A language tag with its quality (RFC 9110, 12.5.4).
_LANGUAGE = re.compile(
    r"([a-z]{1,8}(?:-[a-z0-9]{1,8})*)(?:[ \t]*;[ \t]*q=([01](?:\.[0-9]{0,3})?))?", re.ASCII | re.IGNORECASE
)
_LANGUAGES_MAX = 20

_Place = TypeVar("_Place")


def order_id_of(request: web.Request) -> str:
    """The order id in the path; raises `ProblemError` for one that no order can have."""
    order_id = request.match_info["order_id"]
    if check_order_id(order_id) is not None:
        raise ProblemError(problems.NOT_FOUND, "no order can have an id like this")
    return order_id


def chosen_id(
    field: str, given: str | None, idempotency_key: str | None, missing: ProblemKind, ambiguous: ProblemKind
) -> str:
    """An id from the body or the Idempotency-Key header; raises `ProblemError` if there is none, or two."""
    key = None if idempotency_key is None else _unquoted(idempotency_key.strip())
    if given is None:
        if not key:
            raise ProblemError(
                missing, f"{field} is missing: send it in the body, or the Idempotency-Key header", field=field
            )
        return key
    if key and key != given:
        raise ProblemError(ambiguous, f"{field} and the Idempotency-Key header differ: omit one", field=field)
    return given


def _unquoted(key: str) -> str:
    """The header's draft requires a quoted string; bare values are common, and accepted too."""
    return key[1:-1] if len(key) >= 2 and key[0] == key[-1] == '"' else key


def whole_number(text: str, at_least: int, at_most: int) -> int | None:
    """The whole number in `text`, in ASCII digits only; None for anything else, and out of bounds."""
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX):
        return None
    number = int(text)
    return number if at_least <= number <= at_most else None


def wait_seconds(headers: MultiMapping[str], default: int = 0) -> int:
    """What `Prefer: wait=N` asks for, at most `WAIT_SECONDS_MAX`; `default` without one. Other preferences are ignored.

    N has only digits: a quoted string is ignored (RFC 7240, 4.3).
    """
    wait = preference(headers, "wait")
    seconds = None if wait is None else whole_number(wait, 0, _WAIT_SECONDS_SENSIBLE_MAX)
    return default if seconds is None else min(seconds, WAIT_SECONDS_MAX)


def languages(headers: MultiMapping[str]) -> list[str]:
    """The language tags of `Accept-Language`, the best first; those that are not wanted, and `*`, are left out."""
    found: list[tuple[float, int, str]] = []
    for line in headers.getall("Accept-Language", []):
        for element in line.split(",")[:_LANGUAGES_MAX]:
            match = _LANGUAGE.fullmatch(element.strip())
            quality = float(match[2] or 1) if match is not None else 0.0
            if match is not None and quality > 0:
                found.append((-quality, len(found), match[1]))
    return [tag for _, _, tag in sorted(found)]


@dataclass(frozen=True, slots=True)
class EntityTags:
    """The value of `If-Match` or `If-None-Match`: either `*`, or tags without their quotes."""

    is_any: bool = False
    strong: frozenset[str] = frozenset()
    weak: frozenset[str] = frozenset()

    def match_strongly(self, tag: str) -> bool:
        """Whether one matches an existing resource's strong `tag`, for `If-Match` (RFC 9110, 8.8.3.2)."""
        return self.is_any or tag in self.strong

    def match_weakly(self, tag: str) -> bool:
        """Whether one matches `tag`, weak or strong, for `If-None-Match`."""
        return self.is_any or tag in self.strong or tag in self.weak


def entity_tags(headers: MultiMapping[str], name: str) -> EntityTags | None:
    """The tags of all lines of `name`; None without one. `*` counts only by itself."""
    lines = headers.getall(name, ())
    if not lines:
        return None
    if [line.strip(" \t") for line in lines] == ["*"]:
        return EntityTags(is_any=True)
    tags = [tag for line in lines for tag in _tags(line)]
    return EntityTags(
        strong=frozenset(tag[1:-1] for tag in tags if tag.startswith('"')),
        weak=frozenset(tag[3:-1] for tag in tags if tag.startswith("W/")),
    )


def permits(headers: MultiMapping[str]) -> Callable[[int | None], bool]:
    """Which versions `If-Match` and `If-None-Match` permit to be changed. A tag is a version; None is no resource."""
    wanted, unwanted = entity_tags(headers, "If-Match"), entity_tags(headers, "If-None-Match")

    def permits_version(version: int | None) -> bool:
        if version is None:
            return wanted is None
        tag = str(version)
        return (wanted is None or wanted.match_strongly(tag)) and (unwanted is None or not unwanted.match_weakly(tag))

    return permits_version


def preference(headers: MultiMapping[str], name: str) -> str | None:
    """The value of a preference in `Prefer` as it was sent, quotes included; None if it is absent, or has no value.

    `name` is in lower case. Of several the first counts, whatever its value (RFC 7240, 2).
    """
    for element in _elements(headers.getall("Prefer", ())):
        match = _PREFERENCE.fullmatch(element)
        if match is not None and match.group(1).lower() == name:
            return match.group(2)
    return None


def _elements(lines: Iterable[str]) -> Iterable[str]:
    for line in lines:
        for match in _ELEMENT.finditer(line):
            yield match.group().strip(" \t")


def _tags(line: str) -> Iterable[str]:
    """The tags of a line up to the first malformed one; the rest can't be parsed."""
    at = 0
    while match := _TAGS.match(line, at):
        yield match.group(1)
        at = match.end()


def limit_of(query: Mapping[str, str]) -> int:
    """The page's greatest number of items; raises `ProblemError`."""
    limit = whole_number(query.get("limit", str(LIMIT_DEFAULT)), 1, LIMIT_MAX)
    if limit is None:
        raise _refused("limit", f"must be a number from 1 to {LIMIT_MAX}")
    return limit


def cursor(*place: Any) -> str:
    """The end of a page as an opaque token, which callers send back."""
    return base64url.encode(msgspec.json.encode(place))


def read_cursor(text: str, kind: type[_Place]) -> _Place:
    """The place encoded by `cursor`; raises `ProblemError` for any other token."""
    try:
        return msgspec.json.decode(base64url.decode(text), type=kind)
    except ValueError:  # The base of both libraries' errors.
        raise foreign_cursor() from None


def foreign_cursor() -> ProblemError:
    """The problem of an invalid cursor."""
    return _refused("cursor", "must be `next` of the page before")


def _refused(field: str, detail: str) -> ProblemError:
    return problems.refused(Refusal(INVALID_FIELD, field, detail))
