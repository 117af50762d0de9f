"""Answers what an operator asks on the dashboard, as JSON."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from aiohttp import web

from monitor.lookups import Lookups
from sinks.postgres.dead_letters import OPEN, STATES, DeadLetterFilter, DeadLetterId
from sinks.postgres.session import OUTAGES
from sinks.trail import FoundTrails

#: An order id has 256 bytes at most, an e-mail address 254 characters.
_WANTED_CHARACTERS_MAX = 256

_Found = TypeVar("_Found")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Route:
    """A path, and whether it is for everybody; without a word it is not."""

    method: str
    path: str
    handler: Handler
    is_open: bool = False


class _UnclearError(Exception):
    """What was asked makes no sense; the message says why, in one line."""


class Questions:
    """Handlers of what can be asked."""

    def __init__(self, lookups: Lookups) -> None:
        self._lookups = lookups

    def routes(self) -> list[Route]:
        """One for each question; all are for operators alone."""
        return [
            Route("GET", "/orders", self._find_orders),
            Route("GET", "/series", self._series),
            Route("GET", "/payments", self._payments),
            Route("GET", "/stock", self._stock),
            Route("GET", "/dead-letters", self._dead_letters),
            Route("GET", "/dead-letters/{id}", self._dead_letter),
        ]

    async def _find_orders(self, request: web.Request) -> web.Response:
        wanted = _text_of(request, "wanted", "an order id, the number of an invoice or the e-mail address of a buyer")
        return await _looked_up(lambda: self._lookups.find_orders(wanted), FoundTrails.as_json)

    async def _series(self, request: web.Request) -> web.Response:
        seller_id = _text_of(request, "seller", "the id of a seller")
        return await _looked_up(lambda: self._lookups.read_series(seller_id), lambda found: {"series": found})

    async def _payments(self, _: web.Request) -> web.Response:
        return await _looked_up(self._lookups.read_payments, _as_it_is)

    async def _stock(self, _: web.Request) -> web.Response:
        return await _looked_up(self._lookups.read_stock, _as_it_is)

    async def _dead_letters(self, request: web.Request) -> web.Response:
        wanted, after = _filter_of(request)
        return await _looked_up(lambda: self._lookups.list_dead_letters(wanted, after), _as_it_is)

    async def _dead_letter(self, request: web.Request) -> web.Response:
        letter_id = _letter_id(request.match_info["id"])

        async def ask() -> dict[str, Any]:
            found = await self._lookups.show_dead_letter(letter_id)
            if found is None:
                raise _UnclearError(f"there is no dead letter {letter_id}")
            return found

        return await _looked_up(ask, _as_it_is)


@web.middleware
async def refuse_unclear(request: web.Request, handler: Handler) -> web.StreamResponse:
    """400 for a question that makes no sense."""
    try:
        return await handler(request)
    except _UnclearError as error:
        return web.json_response({"error": str(error)}, status=400)


def _text_of(request: web.Request, name: str, what: str) -> str:
    text = request.query.get(name, "").strip()
    if not text.isprintable() or not 0 < len(text) <= _WANTED_CHARACTERS_MAX:
        raise _UnclearError(f"`{name}` must be {what}")
    return text


def _filter_of(request: web.Request) -> tuple[DeadLetterFilter, DeadLetterId | None]:
    given = {name: text.strip() for name, text in request.query.items() if text.strip()}
    for name, text in given.items():
        if not text.isprintable() or len(text) > _WANTED_CHARACTERS_MAX:
            raise _UnclearError(f"`{name}` is too long, or holds control characters")
    state = given.get("state", OPEN)
    if state not in STATES:
        raise _UnclearError(f"`state` must be one of {', '.join(STATES)}")
    wanted = DeadLetterFilter(
        topic=given.get("topic"),
        reason=given.get("reason"),
        order_id=given.get("order"),
        since=_moment_of(given, "since"),
        until=_moment_of(given, "until"),
        state=state,
    )
    return wanted, _letter_id(given["after"]) if "after" in given else None


def _moment_of(given: dict[str, str], name: str) -> datetime | None:
    if name not in given:
        return None
    try:
        moment = datetime.fromisoformat(given[name])
    except ValueError:
        raise _UnclearError(f"`{name}` must be a time in ISO 8601, such as 2026-11-29T14:03Z") from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _letter_id(text: str) -> DeadLetterId:
    try:
        return DeadLetterId.parse(text)
    except ValueError as error:
        raise _UnclearError(str(error)) from None


def _as_it_is(found: dict[str, Any]) -> dict[str, Any]:
    return found


async def _looked_up(ask: Callable[[], Awaitable[_Found]], as_json: Callable[[_Found], dict[str, Any]]) -> web.Response:
    try:
        found = await ask()
    except OUTAGES as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        return web.json_response({"error": f"Postgres is unavailable: {reason}"}, status=503)
    return web.json_response(as_json(found), headers={"Cache-Control": "no-store"})
