"""Answers as JSON."""

from collections.abc import Mapping
from typing import Any

import msgspec
from aiohttp import web

from gateway import problems
from gateway.problems import ProblemError


def json_answer(
    body: Mapping[str, Any], *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """`body` as JSON."""
    return web.Response(status=status, body=msgspec.json.encode(body), content_type="application/json", headers=headers)


def postgres_away() -> ProblemError:
    """What was asked for stands in Postgres alone."""
    return ProblemError(problems.UNAVAILABLE, "Postgres can't be reached just now", retry_after_seconds=2)
