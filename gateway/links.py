"""What links to documents and to tracking pages have in common: how they are asked for, and how they are answered."""

from datetime import UTC, datetime
from typing import Annotated, TypedDict

import msgspec
from aiohttp import web
from msgspec import UNSET, UnsetType

from domain.document_link import SECONDS_MAX, SECONDS_MIN
from domain.refusals import INVALID_FIELD, Refusal
from gateway.http import bodies, problems
from gateway.http.bodies import json_answer
from gateway.http.intake import read_body
from gateway.http.openapi import limits
from gateway.http.problems import ProblemError
from gateway.invoices.invoice_views import time_text

_BODY_BYTES_MAX = 1_024


class LinkRequest(msgspec.Struct, forbid_unknown_fields=True):
    """A request for a link."""

    expires_in: Annotated[int, limits(minimum=SECONDS_MIN, maximum=SECONDS_MAX)] | UnsetType = UNSET


class LinkView(TypedDict):
    """A link that anyone who has it may follow until it expires."""

    url: str
    expires_at: str


async def seconds_asked(request: web.Request, seconds_default: int, *, can_sign: bool) -> int:
    """For how long the request wants a link. Raises `ProblemError`, also where the operator has set no keys."""
    body = await read_body(request, _BODY_BYTES_MAX)
    asked = bodies.decode_small(_decoder, body) if body else LinkRequest()
    if not can_sign:
        raise ProblemError(problems.NOT_FOUND, "there are no links here: the operator has set no keys for them")
    seconds = seconds_default if asked.expires_in is UNSET else asked.expires_in
    if not SECONDS_MIN <= seconds <= SECONDS_MAX:
        detail = f"must be {SECONDS_MIN} to {SECONDS_MAX:,} seconds"
        raise problems.refused(Refusal(INVALID_FIELD, "expires_in", detail))
    return seconds


def link_answer(request: web.Request, public_url: str | None, path: str, expires_at: int) -> web.Response:
    """The response with a link to `path`. `public_url` None: as the caller addresses us."""
    base = public_url or f"{request.scheme}://{request.host}"
    view: LinkView = {
        "url": f"{base.rstrip('/')}{path}",
        "expires_at": time_text(datetime.fromtimestamp(expires_at, UTC)),
    }
    return json_answer(view, status=201, headers={"Cache-Control": "no-store"})


_decoder = msgspec.json.Decoder(LinkRequest)
