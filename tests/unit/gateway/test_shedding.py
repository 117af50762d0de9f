"""Load shedding: who is refused when more comes than can be kept, and that a refusal is one whole answer."""

import asyncio
from collections import deque
from itertools import count

import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_parser import HttpRequestParser
from hypothesis import given
from hypothesis import strategies as st

from gateway.http import problems
from gateway.http.problems import ProblemError, ProblemKind
from gateway.http.shedding import LATE_SECONDS, SERVED_ALWAYS, Backlog, Refusals, Stay, authorization, whole_order

_TICK_S = 0.01


class Queue:
    """A gateway that keeps so many a second, with a clock of its own, and clients who come however it goes."""

    def __init__(self, kept_a_second: float, *, newest_first: bool = False) -> None:
        self.now = 1_000.0
        self.backlog = Backlog(lambda: self.now)
        self.kept_a_second = kept_a_second
        self.newest_first = newest_first
        #: How long those took that were kept.
        self.took: list[float] = []
        self.refused = 0
        self._waiting: deque[tuple[float, Stay]] = deque()
        self._work = 0.0
        self._sellers = count()

    def come(self, count: int) -> None:
        for _ in range(count):
            stay = Stay(self.backlog)
            try:
                # Each is another seller's: what is tried here is the whole.
                stay.join(f"seller-{next(self._sellers)}")
            except ProblemError:
                self.refused += 1
                continue
            stay.begin()
            self._waiting.append((self.now, stay))

    def run(self, seconds: float, comes_a_second: float) -> None:
        due = 0.0
        for _ in range(round(seconds / _TICK_S)):
            self.now += _TICK_S
            due += comes_a_second * _TICK_S
            self.come(int(due))
            due -= int(due)
            self._work = min(self._work + self.kept_a_second * _TICK_S, len(self._waiting))
            while self._work >= 1:
                self._work -= 1
                came_at, stay = self._waiting.pop() if self.newest_first else self._waiting.popleft()
                stay.end(is_kept=True)
                self.took.append(self.now - came_at)

    def forget(self) -> None:
        self.took, self.refused = [], 0


def test_a_rush_is_served_whole_as_long_as_nobody_is_late() -> None:
    queue = Queue(kept_a_second=4_000)
    queue.come(7_900)
    queue.run(2, comes_a_second=0)
    assert (len(queue.took), queue.refused) == (7_900, 0)


def test_less_than_can_be_kept_is_never_refused() -> None:
    queue = Queue(kept_a_second=1_000)
    queue.run(60, comes_a_second=950)
    assert queue.refused == 0


@pytest.mark.parametrize("kept_a_second", [400, 3_000])
def test_of_three_times_what_can_be_kept_as_much_is_kept_and_in_time(kept_a_second: int) -> None:
    """As long as it lasts, once it is known that it is too much; a limit that swings would make some late."""
    queue = Queue(kept_a_second)
    queue.run(10, comes_a_second=3 * kept_a_second)
    queue.forget()
    queue.run(60, comes_a_second=3 * kept_a_second)
    assert len(queue.took) == pytest.approx(60 * kept_a_second, rel=0.01)
    assert queue.refused == pytest.approx(60 * 2 * kept_a_second, rel=0.02)
    assert max(queue.took) < 1.1 * LATE_SECONDS


def test_the_limit_is_right_also_where_requests_are_not_served_in_turn() -> None:
    """Event loops are not fair: how long somebody stayed says nothing of how many were kept meanwhile."""
    queue = Queue(1_000, newest_first=True)
    queue.run(30, comes_a_second=3_000)
    queue.forget()
    queue.run(60, comes_a_second=3_000)
    assert len(queue.took) == pytest.approx(60_000, rel=0.01)


def test_so_many_are_served_however_late_they_are() -> None:
    queue = Queue(kept_a_second=10)
    for _ in range(100):
        queue.run(1, comes_a_second=0)
        queue.come(SERVED_ALWAYS - len(queue._waiting))
    assert queue.refused == 0
    queue.come(1)
    assert queue.refused == 1


def test_when_it_is_over_everybody_is_served_again() -> None:
    queue = Queue(kept_a_second=1_000)
    queue.run(10, comes_a_second=3_000)
    assert queue.refused > 0
    queue.run(2 * LATE_SECONDS + 1, comes_a_second=800)
    queue.forget()
    queue.come(1_900)
    queue.run(10, comes_a_second=500)
    assert queue.refused == 0


def test_while_the_brokers_keep_nothing_only_so_many_are_taken() -> None:
    backlog = Backlog(lambda: now)
    now = 0.0
    stays = [Stay(backlog) for _ in range(2_000)]
    for stay in stays:
        stay.begin()
    now = 4.5
    stays[0].end(is_kept=False)
    assert _kind(backlog.refusal("new")) is problems.OVERLOADED
    for stay in stays[: 2_000 - SERVED_ALWAYS + 1]:
        stay.end(is_kept=False)
    assert backlog.refusal("new") is None


def test_what_is_not_the_gateways_time_makes_nobody_late() -> None:
    """A place in line for stock, or a wait for the outcome: who waits there is not in the backlog either."""
    now = 0.0
    backlog = Backlog(lambda: now)
    stay = Stay(backlog)
    stay.begin()
    stay.leave()
    now = 30.0
    stay.begin()
    stay.begin()
    now = 31.0
    stay.end(is_kept=True)
    stay.leave()
    crowd = [Stay(backlog) for _ in range(3 * SERVED_ALWAYS)]
    for each in crowd:
        each.join("demo")
        each.begin()


def test_one_seller_has_most_of_the_backlog_and_never_all_of_it() -> None:
    """However much it sends: another seller is served. Those without a known key count as one seller."""
    for flooding in ("flood", None):
        now = [0.0]
        backlog = Backlog(lambda now=now: now[0])  # type: ignore[misc]
        first = Stay(backlog)
        first.begin()
        now[0] = LATE_SECONDS + 0.1
        first.end(is_kept=True)
        taken = 0
        with pytest.raises(ProblemError) as refused:
            while True:
                stay = Stay(backlog)
                stay.join(flooding)
                stay.begin()
                taken += 1
        assert refused.value.kind is problems.SELLER_OVERLOADED
        assert taken == SERVED_ALWAYS * 4 / 5 == 500
        for _ in range(10):
            other = Stay(backlog)
            other.join("other")
            other.begin()


def _kind(refusal: ProblemError | None) -> ProblemKind | None:
    return None if refusal is None else refusal.kind


def test_whose_order_it_is_stands_in_its_head_alone() -> None:
    body = b"\r\nAuthorization: Bearer not-this"
    assert authorization(_request("/v1/invoices", body)) == ""
    assert authorization(_request("/v1/invoices", body, "AUTHORIZATION:  Bearer k")) == "Bearer k"


def _request(path: str = "/v1/invoices", body: bytes = b"{}", *headers: str, version: str = "1.1") -> bytes:
    lines = [f"POST {path} HTTP/{version}", "Host: shop.example", *headers, f"Content-Length: {len(body)}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@pytest.mark.parametrize("path", ["/v1/invoices", "/v1/checkouts"])
@pytest.mark.parametrize("headers", [(), ("Connection: keep-alive",), ("Idempotency-Key: a", "Prefer: wait=10")])
def test_a_whole_request_for_an_order_is_answered(path: str, headers: tuple[str, ...]) -> None:
    assert whole_order(_request(path, b'{"a": 1}', *headers)) == path
    answer = Refusals("gapless").answer(path, ProblemError(problems.OVERLOADED, "later", retry_after_seconds=1))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert b"\r\nRetry-After: 1" in head
    assert b"\r\nServer: gapless" in head
    assert f"\r\nContent-Length: {len(body)}".encode() in head
    assert b'"/problems/overloaded"' in body


@pytest.mark.parametrize(
    "data",
    [
        _request()[:-1],
        _request()[:-20],
        _request() + b"x",
        _request() + _request(),
        _request().replace(b"POST", b"GET"),
        _request("/v1/orders/A/refunds"),
        _request("/v1/invoices?a=b"),
        _request(version="1.0"),
        _request("/v1/invoices", b"{}", "Connection: close"),
        _request("/v1/invoices", b"{}", "connection: x, Close"),
        _request("/v1/invoices", b"{}", "Connection: Upgrade", "Upgrade: websocket"),
        _request("/v1/invoices", b"{}", "Expect: 100-continue"),
        _request("/v1/invoices", b"{}", "Transfer-Encoding: chunked"),
        _request("/v1/invoices", b"{}", "Content-Length: 2"),
        _request("/v1/invoices", b"{}", "Content-Length: 2, 2"),
        _request("/v1/invoices", b"{}", "Content-Length: 5, 5"),
        _request().replace(b"Content-Length: 2", b"Content-Length: +2"),
        _request().replace(b"Content-Length: 2", b"Content-Length : 2"),
        _request("/v1/invoices", b"{}", "Transfer-Encoding : chunked"),
        _request("/v1/invoices", b"{}", "X: y\nTransfer-Encoding: chunked"),
        _request("/v1/invoices", b"{}", "X: y\r\n folded"),
        b"",
        b"\r\n\r\n",
    ],
)
def test_whatever_else_it_is_goes_to_the_parser(data: bytes) -> None:
    assert whole_order(data) is None


_LINES = st.sampled_from(
    [
        "Content-Length: 2",
        "content-length:\t2 ",
        "Content-Length: 3",
        "Content-Length: 02",
        "Content-Length: 2, 2",
        "Content-Length : 2",
        " Content-Length: 2",
        "X: y\r\n folded",
        "X: Content-Length: 2",
        "X: y\nContent-Length: 2",
        "X: y\rContent-Length: 2",
        "X: \x01",
        "X: \xe9",
        "Transfer-Encoding: chunked",
        "Transfer-Encoding : chunked",
        "Connection: close",
        "Connection: keep-alive",
        "Connection: upgrade",
        "Connection:",
        "Proxy-Connection: close",
        "Upgrade: h2c",
        "Expect: 100-continue",
        "nonsense",
        "",
    ]
)


@given(
    st.sampled_from(["POST /v1/invoices HTTP/1.1", "POST /v1/checkouts HTTP/1.1", "POST /v1/invoices HTTP/1.0"]),
    st.lists(_LINES, max_size=5),
    st.sampled_from([b"", b"{", b"{}", b"{} ", b"2\r\n{}\r\n0\r\n\r\n"]),
)
def test_what_is_answered_is_exactly_one_request_for_the_parser_too(first: str, lines: list[str], body: bytes) -> None:
    """If the two saw different ends of it, the rest of a refused request would be read as the next one."""
    data = "\r\n".join([first, "Host: x", *lines]).encode("latin-1") + b"\r\n\r\n" + body
    if whole_order(data) is None:
        return
    loop = asyncio.new_event_loop()
    try:
        parser = HttpRequestParser(BaseProtocol(loop), loop, 2**16)
        messages, upgraded, rest = parser.feed_data(data)
    finally:
        loop.close()
    [(message, payload)] = messages
    assert payload.is_eof()
    assert (message.method, message.should_close, upgraded, rest) == ("POST", False, False, b"")
