"""aiohttp's server, with an end to slow requests, and our own words for malformed ones.

It overrides `data_received`, `finish_response`, `handle_error` and `log_exception` of aiohttp's `RequestHandler`, and
uses its `_request_count`, `_messages`, `_waiter`, `_close` and `_next_keepalive_close_time`; tests over a real socket
say whether the installed version still has them.
"""

import asyncio
import logging
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_request import BaseRequest
from aiohttp.web_server import Server

from gateway import problems
from gateway.problems import ProblemError
from gateway.shedding import Backlog, Refusals, Stay, whole_order

_log = logging.getLogger(__name__)

#: What the header of the same name says; aiohttp would give its own version, and Python's.
SERVER = "gapless"
#: From a request's first byte to the end of its head; a client that drips holds a connection no longer.
HEAD_SECONDS_MAX = 10.0
#: After an answer that came before the body's end, the rest is read and thrown away for so long; then the connection
#: ends. Sooner, a client that is still sending would see a broken connection instead of the answer.
LINGERING_SECONDS = 2.0
#: How long an idle connection is kept: longer than the usual load balancer, which must be the one to close.
KEEPALIVE_SECONDS = 75.0


class BoundedHandler(RequestHandler):
    """One connection."""

    __slots__ = ("_backlog", "_head_timer", "_is_at_rest", "_is_whole", "_refusals", "stay")

    def __init__(self, *args: Any, backlog: Backlog, refusals: Refusals, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._backlog, self._refusals = backlog, refusals
        self._head_timer: asyncio.TimerHandle | None = None
        #: Whether everything that came is answered, and the parser holds nothing back. Known only while more comes
        #: than can be kept: what came before was not looked at.
        self._is_at_rest = True
        #: Whether what came last is one whole request, and everything before it is answered.
        self._is_whole = False
        #: Of the request that came last.
        self.stay = Stay(backlog)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A connection that sends nothing at all ends like one that drips."""
        super().connection_made(transport)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """Note whether a head has begun, and whether it is complete; refuse what is too much."""
        route = whole_order(data) if self._backlog.is_crowded else None
        if route is not None and self._is_at_rest and self._backlog.is_full:
            self._refuse(route)
            return
        is_waiting = self._waiter is not None and not self._waiter.done()
        is_next = self._is_at_rest or is_waiting
        before = self._request_count
        super().data_received(data)
        # aiohttp also calls this with nothing, to have parsed what it held back.
        if data or self._request_count != before:
            self._is_at_rest = False
            self._is_whole = route is not None and is_next and self._request_count == before + 1
        if self._request_count != before:
            self._head_is_there()
            # From here on it waits for us, not only once its handler is called: with a thousand others that is late.
            if data.startswith(b"POST ") and self._messages[-1][1].is_eof() and not self._backlog.is_full:
                self.stay.begin()
        elif is_waiting and self._head_timer is None:
            self._await_head()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Wait for nothing any more."""
        self._head_is_there()
        self.stay.leave()
        super().connection_lost(exc)

    async def finish_response(
        self, request: BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Whatever became of the request, it waits no more."""
        self.stay.leave()
        if not request.content.is_eof():
            # What still comes of it may be too much to read away. Then the connection ends, and a client that wasn't
            # told would send its next request into that end.
            resp.force_close()
        answer, is_broken = await super().finish_response(request, resp, start_time)
        self._is_at_rest = self._is_whole and not is_broken and bool(answer.keep_alive) and not self._close
        return answer, is_broken

    def handle_error(
        self,
        request: BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What is no HTTP, or broke inside aiohttp; nothing of ours gets here."""
        if status < 500:
            _log.debug("malformed HTTP: %s", message)
            problem = ProblemError(problems.MALFORMED, "this is not well-formed HTTP/1.1")
        else:
            _log.error("a request failed", exc_info=exc)
            problem = ProblemError(problems.INTERNAL, "the request failed; the cause is in our log")
        if request.writer.output_size > 0:
            raise ConnectionError("part of another answer is out already")
        answer = problems.response(problem)
        answer.headers["Server"] = SERVER
        answer.force_close()
        return answer

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Nobody need look at the rest of a body that can't be read: the answer is out, and the connection ends."""
        if isinstance(kw.get("exc_info"), web.RequestPayloadError):
            _log.debug("the rest of a body can't be read: %s", kw["exc_info"])
        else:
            super().log_exception(*args, **kw)

    def _refuse(self, route: str) -> None:
        """Answer in the handler's place: at rest, it waits for nothing but the next request, which this was."""
        self._backlog.refuse()
        self._head_is_there()
        self._next_keepalive_close_time = self._loop.time() + KEEPALIVE_SECONDS
        if self.transport is not None:
            self.transport.write(self._refusals.answer(route))

    def _await_head(self) -> None:
        self._head_timer = self._loop.call_later(HEAD_SECONDS_MAX, self._give_up)

    def _head_is_there(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up(self) -> None:
        self._head_timer = None
        self.force_close()


class BoundedServer(Server):
    """Makes a `BoundedHandler` for each connection; all share one backlog."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._kwargs |= {"backlog": Backlog(), "refusals": Refusals(SERVER)}

    def __call__(self) -> RequestHandler:
        return BoundedHandler(self, loop=self._loop, **self._kwargs)


class BoundedRunner(web.AppRunner):
    """Runs an application on a `BoundedServer`."""

    async def _make_server(self) -> Server:
        made = await super()._make_server()
        options = {**made._kwargs, "keepalive_timeout": KEEPALIVE_SECONDS, "lingering_time": LINGERING_SECONDS}
        return BoundedServer(made.request_handler, request_factory=made.request_factory, **options)
