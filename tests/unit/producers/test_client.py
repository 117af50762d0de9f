"""The client: what it sends, and when it tries again."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from email.utils import formatdate
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from producers.client import GaplessClient, GatewayAnswer, UnavailableError, _retry_after_seconds
from producers.wire import WireClient, _parse

Reply = Callable[[web.Request], web.Response]
Make = Callable[..., GaplessClient]


class Gateway:
    """Answers each request with the next of `replies`, the last of them for ever."""

    def __init__(self) -> None:
        self.replies: list[Reply] = []
        self.requests: list[web.Request] = []
        self.bodies: list[bytes] = []

    async def handle(self, request: web.Request) -> web.Response:
        self.requests.append(request)
        self.bodies.append(await request.read())
        return self.replies[min(len(self.requests), len(self.replies)) - 1](request)


@pytest.fixture
async def gateway() -> AsyncIterator[tuple[Gateway, str]]:
    fake = Gateway()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", fake.handle)
    async with TestServer(app) as server:
        yield fake, str(server.make_url(""))


def reply(status: int, retry_after: str | None = None) -> Reply:
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    return lambda request: web.json_response({"status": status}, status=status, headers=headers)


def hang_up(request: web.Request) -> web.Response:
    """Ends the connection without an answer."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


@pytest.fixture(params=[GaplessClient, WireClient])
def client(request: pytest.FixtureRequest) -> Make:
    """Both clients keep the same promises."""

    def make(url: str, give_up_after_s: float = 5.0) -> GaplessClient:
        made: GaplessClient = request.param(url, "secret", give_up_after_s=give_up_after_s)
        return made

    return make


async def test_a_request_carries_the_key_and_how_long_to_wait(gateway: tuple[Gateway, str], client: Make) -> None:
    fake, url = gateway
    fake.replies = [reply(200)]
    async with client(url) as shop:
        answer = await shop.post_invoice({"order_id": "é"}, wait_s=5)
    assert (answer.status, answer.json(), answer.attempts) == (200, {"status": 200}, 1)
    request = fake.requests[0]
    assert (request.method, request.path) == ("POST", "/v1/invoices")
    assert request.headers["Authorization"] == "Bearer secret"
    assert request.headers["Prefer"] == "wait=5"
    assert json.loads(fake.bodies[0]) == {"order_id": "é"}


Call = Callable[[GaplessClient], Awaitable[GatewayAnswer]]


@pytest.mark.parametrize(
    ("call", "method", "path", "body", "prefer"),
    [
        (lambda c: c.post_checkout({"a": 1}, 5), "POST", "/v1/checkouts", {"a": 1}, "wait=5"),
        (lambda c: c.get_order("#1/2"), "GET", "/v1/orders/%231%2F2", None, None),
        (
            lambda c: c.get_orders("C&1", limit=2, cursor="x"),
            "GET",
            "/v1/orders?customer=C%261&limit=2&cursor=x",
            None,
            None,
        ),
        (lambda c: c.ship("#1"), "POST", "/v1/orders/%231/shipments", {"reason": ""}, None),
        (lambda c: c.deliver("A", "x", 0), "POST", "/v1/orders/A/deliveries", {"reason": "x"}, "wait=0"),
        (lambda c: c.cancel("A", wait_s=9), "POST", "/v1/orders/A/cancellations", {"reason": ""}, "wait=9"),
        (lambda c: c.refund("A", "R"), "POST", "/v1/orders/A/refunds", {"refund_id": "R", "reason": ""}, None),
        (
            lambda c: c.refund("A", "R", {0: 2}),
            "POST",
            "/v1/orders/A/refunds",
            {"refund_id": "R", "reason": "", "lines": [{"line": 0, "quantity": 2}]},
            None,
        ),
        (lambda c: c.put_stock("S/1", 5), "PUT", "/v1/stock/S%2F1", {"on_hand": 5}, None),
        (lambda c: c.adjust_stock("S", -1, "k"), "PUT", "/v1/stock/S", {"adjust": -1, "key": "k"}, None),
        (lambda c: c.get_stock("S/1"), "GET", "/v1/stock/S%2F1", None, None),
        (lambda c: c.list_stock(), "GET", "/v1/stock?limit=100", None, None),
    ],
)
async def test_what_a_storefront_does_is_one_request(
    gateway: tuple[Gateway, str],
    client: Make,
    call: Call,
    method: str,
    path: str,
    body: dict[str, Any] | None,
    prefer: str | None,
) -> None:
    fake, url = gateway
    fake.replies = [reply(200)]
    async with client(url) as shop:
        assert (await call(shop)).status == 200
    [request] = fake.requests
    assert (request.method, request.raw_path) == (method, path)
    assert (json.loads(fake.bodies[0]) if fake.bodies[0] else None) == body
    assert request.headers.get("Prefer") == prefer


async def test_an_order_id_is_quoted_in_the_path(gateway: tuple[Gateway, str], client: Make) -> None:
    fake, url = gateway
    fake.replies = [reply(200)]
    async with client(url) as shop:
        await shop.get_invoice("#1/2 ü")
    assert fake.requests[0].raw_path == "/v1/invoices/%231%2F2%20%C3%BC"


@pytest.mark.parametrize("first", [reply(503), reply(429), reply(502), reply(409, "0"), hang_up])
async def test_what_is_said_to_be_for_later_is_tried_again_with_the_same_body(
    gateway: tuple[Gateway, str], client: Make, first: Reply
) -> None:
    fake, url = gateway
    fake.replies = [first, reply(202)]
    async with client(url) as shop:
        answer = await shop.post_invoice(b'{"order_id":"A"}')
    assert (answer.status, answer.attempts) == (202, 2)
    assert fake.bodies == [b'{"order_id":"A"}'] * 2


@pytest.mark.parametrize("status", [400, 401, 404, 409, 413, 422, 500])
async def test_an_answer_that_would_stay_the_same_is_not_asked_for_again(
    gateway: tuple[Gateway, str], client: Make, status: int
) -> None:
    fake, url = gateway
    fake.replies = [reply(status)]
    async with client(url) as shop:
        assert (await shop.post_invoice(b"{}")).status == status
    assert len(fake.requests) == 1


async def test_retry_after_is_waited_for(gateway: tuple[Gateway, str], client: Make) -> None:
    fake, url = gateway
    fake.replies = [reply(503, retry_after="1"), reply(202)]
    began = time.monotonic()
    async with client(url) as shop:
        await shop.post_invoice(b"{}")
    assert time.monotonic() - began >= 1.0


async def test_a_client_gives_up_at_its_deadline_and_says_why(gateway: tuple[Gateway, str], client: Make) -> None:
    fake, url = gateway
    fake.replies = [reply(503)]
    async with client(url, give_up_after_s=1.0) as shop:
        with pytest.raises(UnavailableError, match=r"POST /v1/invoices: 503 after \d+ attempts"):
            await shop.post_invoice(b"{}")


async def test_nobody_listening_is_an_outage_too(unused_tcp_port: int, client: Make) -> None:
    async with client(f"http://127.0.0.1:{unused_tcp_port}", give_up_after_s=0.2) as shop:
        with pytest.raises(UnavailableError, match="no answer"):
            await asyncio.wait_for(shop.post_invoice(b"{}"), 60)


def test_retry_after_may_be_a_date_and_nonsense_asks_for_nothing() -> None:
    assert 900 < _retry_after_seconds(formatdate(time.time() + 1_000, usegmt=True)) <= 1_000
    assert _retry_after_seconds(formatdate(0, usegmt=True)) == 0
    assert _retry_after_seconds("soon") == 0
    assert _retry_after_seconds("7") == 7


def test_an_answer_may_arrive_in_any_pieces() -> None:
    whole = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 7\r\nContent-Length: 3\r\n\r\nabc"
    assert _parse(whole) == (503, b"abc", "7")
    assert [_parse(whole[:length]) for length in range(len(whole))] == [None] * len(whole)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"SSH-2.0\r\n\r\n",
        b"x" * 20_000,
    ],
)
def test_what_is_no_answer_of_a_gateway_is_an_error(answer: bytes) -> None:
    with pytest.raises(ValueError, match="answer"):
        _parse(answer)


async def test_a_connection_is_used_again_and_never_by_two_at_a_time(gateway: tuple[Gateway, str]) -> None:
    fake, url = gateway
    fake.replies = [reply(202)]
    async with WireClient(url, "secret", connections=3) as shop:
        for _ in range(5):
            answers = await asyncio.gather(*(shop.post_invoice(b"{}") for _ in range(6)))
            assert {answer.status for answer in answers} == {202}
            assert len(shop._idle) <= 3
    assert len(fake.requests) == 30


async def test_a_connection_whose_answer_is_not_awaited_is_not_used_again() -> None:
    """The next request would get the last one's answer."""
    arrived, answer = asyncio.Event(), asyncio.Event()
    count = 0

    async def hold(request: web.Request) -> web.Response:
        nonlocal count
        count += 1
        number = count
        arrived.set()
        await answer.wait()
        return web.json_response({"number": number})

    app = web.Application()
    app.router.add_post("/v1/invoices", hold)
    async with TestServer(app) as server, WireClient(str(server.make_url("")), "secret", connections=1) as shop:
        first = asyncio.create_task(shop.post_invoice(b"1"))
        await arrived.wait()
        first.cancel()
        answer.set()
        assert (await shop.post_invoice(b"2")).json() == {"number": 2}
