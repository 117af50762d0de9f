"""aiohttp's server, with timeouts for slow requests and our problems for malformed ones.

It overrides `data_received`, `finish_response`, `handle_error` and `log_exception` of aiohttp's `RequestHandler`, and
uses its `_request_count`, `_request_in_progress`, `_messages`, `_waiter`, `_close` and `_next_keepalive_close_time`;
tests over a real socket check that the installed version still has them.
"""

import asyncio
import logging
from collections.abc import Callable
from time import monotonic
from typing import Any, cast

from aiohttp import HttpVersion11, web
from aiohttp.http import RawRequestMessage
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_request import BaseRequest
from aiohttp.web_server import Server
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.http import problems
from gateway.http.problems import ProblemError
from gateway.http.shedding import Backlog, Refusals, Stay, authorization, whole_order

_log = logging.getLogger(__name__)

#: The seller of an Authorization header's key; None if it is not known without asking Postgres.
SellerOf = Callable[[str], str | None]

#: The value of the Server header; aiohttp would reveal its own version, and Python's.
SERVER = "gapless"
#: From a request's first byte to the end of its head; a slow client holds a connection no longer.
HEAD_SECONDS_MAX = 10.0
#: After a response sent before the body's end, the rest is read and discarded for so long; then the connection is
#: closed. Sooner, a client that is still sending would see a broken connection instead of the response.
LINGERING_SECONDS = 2.0
_CONTINUE = "100-continue"
#: How long an idle connection is kept: longer than the usual load balancer, which must be the one to close.
KEEPALIVE_SECONDS = 75.0
#: A client that has just connected sends its request within this, once the server has stopped listening.
FIRST_BYTE_SECONDS = 1.0
_SETTLE_LOOK_SECONDS = 0.02


class BoundedHandler(RequestHandler):
    """One connection."""

    __slots__ = (
        "_backlog",
        "_draining",
        "_expects",
        "_head_timer",
        "_is_at_rest",
        "_is_whole",
        "_refusals",
        "_seller_of",
        "stay",
        "when_lost",
    )

    def __init__(
        self,
        *args: Any,
        backlog: Backlog,
        refusals: Refusals,
        draining: asyncio.Event,
        seller_of: SellerOf,
        **kwargs: Any,
    ) -> None:
        """While `draining` is set, each response is the last of its connection."""
        super().__init__(*args, **kwargs)
        self._backlog, self._refusals, self._draining = backlog, refusals, draining
        self._seller_of = seller_of
        self._head_timer: asyncio.TimerHandle | None = None
        #: Whether all received data is answered, and the parser buffers nothing. Known only during an overload: data
        #: received before was not inspected.
        self._is_at_rest = True
        #: Whether the last data is one whole request, and everything before it is answered.
        self._is_whole = False
        #: The Expect header of the request under way, in lower case.
        self._expects: frozenset[str] = frozenset()
        #: Called once the connection is lost: a handler that writes seldom would not notice.
        self.when_lost: Callable[[], None] | None = None
        #: The stay of the last request.
        self.stay = Stay(backlog)

    @property
    def awaits_head(self) -> bool:
        """Whether the connection is new, or a head has begun: a request is arriving that no handler has seen yet."""
        return self._head_timer is not None

    @property
    def is_busy(self) -> bool:
        """Whether a received request is not answered yet."""
        return self._request_in_progress or bool(self._messages)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the timeout of the head: a silent connection is closed like a slow one."""
        super().connection_made(transport)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """Note whether a head has begun, and whether it is complete; refuse a request beyond the limits."""
        # A refusal leaves the connection open.
        may_refuse = self._backlog.is_crowded and not self._draining.is_set()
        route = whole_order(data) if may_refuse else None
        if route is not None and self._is_at_rest:
            refusal = self._backlog.refusal(self._seller_of(authorization(data)))
            if refusal is not None:
                self._refuse(route, refusal)
                return
        is_waiting = self._waiter is not None and not self._waiter.done()
        is_next = self._is_at_rest or is_waiting
        before = self._request_count
        super().data_received(data)
        # aiohttp also calls this without data, to parse what it has buffered.
        if data or self._request_count != before:
            self._is_at_rest = False
            self._is_whole = route is not None and is_next and self._request_count == before + 1
        if self._request_count != before:
            self._head_is_there()
            # Its time begins here, not when its handler is called: among a thousand others that is late.
            if data.startswith(b"POST ") and self._messages[-1][1].is_eof() and not self.stay.has_begun:
                self._join_backlog()
        elif is_waiting and self._head_timer is None:
            self._await_head()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Cancel the head's timeout, and end the request's stay."""
        self._head_is_there()
        self.stay.leave()
        if self.when_lost is not None:
            self.when_lost()
        super().connection_lost(exc)

    def expect(self, expects: frozenset[str]) -> None:
        """Note the Expect header of a request that begins."""
        self._expects = expects

    def check_expectation(self) -> None:
        """Raises `ProblemError` for an unsupported expectation."""
        if not self._expects <= {_CONTINUE}:
            raise ProblemError(problems.EXPECTATION_FAILED, f"Expect must be {_CONTINUE}, or be omitted")

    async def ask_for_body(self, request: BaseRequest) -> None:
        """Send 100 Continue to a client that waits for it. A request refused by its head alone never gets here."""
        if self._expects:
            self._expects = frozenset()
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            # The response itself has not begun.
            request.writer.output_size = 0

    async def finish_response(
        self, request: BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """End the request's stay, whatever its outcome."""
        self.stay.leave()
        if self._draining.is_set():
            resp.force_close()
        elif not request.content.is_eof():
            # The rest of the body may be too much to discard. Then the connection is closed, and an uninformed client
            # would send its next request into it.
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
        """Answer malformed HTTP, and errors inside aiohttp; errors of handlers never get here."""
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
        """Log at DEBUG the rest of a body that can't be parsed: the response is sent, and the connection is closed."""
        if isinstance(kw.get("exc_info"), web.RequestPayloadError):
            _log.debug("the rest of a body can't be read: %s", kw["exc_info"])
        else:
            super().log_exception(*args, **kw)

    def _join_backlog(self) -> None:
        """Start the last request's stay; beyond the limits, its handler raises the refusal."""
        message = self._messages[-1][0]
        if not isinstance(message, RawRequestMessage):  # Malformed HTTP opens no work.
            return
        seller_id = self._seller_of(message.headers.get("Authorization", ""))
        if self._backlog.refusal(seller_id) is None:
            self.stay.join(seller_id)
            self.stay.begin()

    def _refuse(self, route: str, refusal: ProblemError) -> None:
        """Respond in the handler's place, which is idle and waits for this request."""
        self._backlog.refused()
        self._head_is_there()
        self._next_keepalive_close_time = self._loop.time() + KEEPALIVE_SECONDS
        if self.transport is not None:
            self.transport.write(self._refusals.answer(route, refusal))

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

    def __init__(self, *args: Any, seller_of: SellerOf, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        #: Set when the server is about to stop: clients send their next request elsewhere.
        self.draining = asyncio.Event()
        self._kwargs |= {
            "backlog": Backlog(),
            "refusals": Refusals(SERVER),
            "draining": self.draining,
            "seller_of": seller_of,
        }

    async def settle(self, timeout_seconds: float) -> None:
        """Return when every received request is answered, after `timeout_seconds` at the latest.

        To be called when nobody can connect any more. A new connection has `FIRST_BYTE_SECONDS` for its request.
        """
        began = monotonic()
        while (waited := monotonic() - began) < timeout_seconds:
            handlers = [cast(BoundedHandler, each) for each in self.connections]
            is_early = waited < FIRST_BYTE_SECONDS
            if not any(each.is_busy or (is_early and each.awaits_head) for each in handlers):
                return
            await asyncio.sleep(_SETTLE_LOOK_SECONDS)

    def __call__(self) -> RequestHandler:
        return BoundedHandler(self, loop=self._loop, **self._kwargs)


class BoundedRunner(web.AppRunner):
    """Runs an application on a `BoundedServer`."""

    def __init__(self, app: web.Application, *, seller_of: SellerOf, **kwargs: Any) -> None:
        """`seller_of` is the seller of an Authorization header's key, if it is known without asking Postgres."""
        super().__init__(app, **kwargs)
        self._seller_of = seller_of

    def begin_to_drain(self) -> None:
        """End each connection with its next response. Requests are still accepted and served."""
        cast(BoundedServer, self._server).draining.set()

    async def stop_listening(self, timeout_seconds: float) -> None:
        """Stop accepting; return when accepted connections are answered, after `timeout_seconds` at the latest."""
        for site in list(self._sites):
            await site.stop()
        await cast(BoundedServer, self._server).settle(timeout_seconds)

    async def _make_server(self) -> Server:
        made = await super()._make_server()
        options = {
            **made._kwargs,
            "keepalive_timeout": KEEPALIVE_SECONDS,
            "lingering_time": LINGERING_SECONDS,
            # An unsupported coding would break aiohttp's parser, and the head with it: see gateway.http.intake.
            "auto_decompress": False,
        }
        return BoundedServer(
            made.request_handler,
            request_factory=_noting_expectations(made.request_factory),
            seller_of=self._seller_of,
            **options,
        )


def _noting_expectations(make: Callable[..., BaseRequest]) -> Callable[..., BaseRequest]:
    """Make requests without their Expect header, and pass its value to their connection.

    aiohttp itself would ask for each body before any handler has looked at its head.
    """

    def make_without(message: Any, payload: Any, protocol: BoundedHandler, *others: Any) -> BaseRequest:
        expects: frozenset[str] = frozenset()
        if "Expect" in message.headers:
            # HTTP/1.0 clients don't understand interim responses (RFC 9110, 10.1.1).
            if message.version >= HttpVersion11:
                expects = frozenset(
                    each.strip().lower() for line in message.headers.getall("Expect") for each in line.split(",")
                )
            headers = CIMultiDict(message.headers)
            del headers["Expect"]
            message = message._replace(headers=CIMultiDictProxy(headers))
        protocol.expect(expects - {""})
        return make(message, payload, protocol, *others)

    return make_without
