"""Pages of a list: how many things one has, and where the next begins."""

import base64
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from domain.refusals import INVALID_FIELD, Refusal
from gateway import problems
from gateway.openapi import Parameter
from gateway.problems import ProblemError

LIMIT_DEFAULT, LIMIT_MAX = 20, 100
PARAMETERS = (
    Parameter(
        "limit",
        "query",
        {"type": "integer", "minimum": 1, "maximum": LIMIT_MAX, "default": LIMIT_DEFAULT},
        "How many there are at most.",
    ),
    Parameter("cursor", "query", {"type": "string"}, "`next` of the page before."),
)

_Place = TypeVar("_Place")


def limit_of(query: Mapping[str, str]) -> int:
    """How many things a page has at most; raises `ProblemError`."""
    text = query.get("limit", str(LIMIT_DEFAULT))
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text[:9]) <= LIMIT_MAX:
        raise _invalid("limit", f"must be a number from 1 to {LIMIT_MAX}")
    return int(text)


def cursor(*place: Any) -> str:
    """Where a page ends, as callers hand it back; what it holds is nobody's business but ours."""
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).rstrip(b"=").decode()


def read_cursor(text: str, kind: type[_Place]) -> _Place:
    """The place that `cursor` wrote down; raises `ProblemError` for anything else."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        return msgspec.json.decode(raw, type=kind)
    except ValueError:  # The base of both libraries' errors.
        raise foreign_cursor() from None


def foreign_cursor() -> ProblemError:
    """A cursor that no page ever had."""
    return _invalid("cursor", "must be the next of the page before")


def _invalid(field: str, detail: str) -> ProblemError:
    return problems.refused(Refusal(INVALID_FIELD, field, detail))
