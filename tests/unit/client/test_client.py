"""`gapless-client`: what it sends, when it tries again, and what it returns, the same in both clients."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from gapless_client.client import AsyncClient, Client
from gapless_client.errors import ProblemError, UnavailableError
from gapless_client.retrying import Calls, retry_after_seconds

Reply = Callable[[web.Request], web.Response]
Ask = Callable[..., Any]
ORDER: Any = {"order_id": "é/1", "currency": "EUR", "lines": []}


class Gateway:
    """Answers each request with the next of `replies`, the last of them for ever."""

    def __init__(self) -> None:
        self.url = ""
        self.replies: list[Reply] = []
        self.requests: list[web.Request] = []
        self.bodies: list[bytes] = []

    async def handle(self, request: web.Request) -> web.Response:
        self.requests.append(request)
        self.bodies.append(await request.read())
        return self.replies[min(len(self.requests), len(self.replies)) - 1](request)


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    fake = Gateway()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", fake.handle)
    async with TestServer(app) as server:
        fake.url = str(server.make_url("")).rstrip("/")
        yield fake


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest, gateway: Gateway) -> Ask:
    """Calls a method of the client by its name; lists what it yields."""

    async def call(name: str, *arguments: Any, give_up_after_s: float = 5.0, **named: Any) -> Any:
        if request.param == "async":
            async with AsyncClient(gateway.url, "secret", give_up_after_s=give_up_after_s) as client:
                made = getattr(client, name)(*arguments, **named)
                return [each async for each in made] if hasattr(made, "__aiter__") else await made

        def run() -> Any:
            with Client(gateway.url, "secret", give_up_after_s=give_up_after_s) as client:
                made = getattr(client, name)(*arguments, **named)
                return list(made) if hasattr(made, "__next__") else made

        return await asyncio.to_thread(run)

    return call


def reply(body: Any, status: int = 200, retry_after: str | None = None) -> Reply:
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    return lambda _: web.json_response(body, status=status, headers=headers)


def hang_up(request: web.Request) -> web.Response:
    """Ends the connection without a response."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def test_a_request_carries_the_key_the_body_and_how_long_to_wait(gateway: Gateway, ask: Ask) -> None:
    gateway.replies = [reply({"state": "CONFIRMED"}, 201)]
    assert await ask("check_out", ORDER, wait_seconds=5) == {"state": "CONFIRMED"}
    [request] = gateway.requests
    assert (request.method, request.path) == ("POST", "/v1/checkouts")
    assert request.headers["Authorization"] == "Bearer secret"
    assert request.headers["Prefer"] == "wait=5"
    assert json.loads(gateway.bodies[0]) == ORDER


async def test_ids_are_one_segment_of_the_path(gateway: Gateway, ask: Ask) -> None:
    gateway.replies = [reply({})]
    await ask("ship", "é/1")
    assert gateway.requests[0].raw_path == "/v1/orders/%C3%A9%2F1/shipments"
    assert json.loads(gateway.bodies[0]) == {}


@pytest.mark.parametrize(
    "later",
    [
        reply({}, 429),
        reply({}, 502),
        reply({}, 503),
        reply({}, 504),
        reply({}, 404, retry_after="0"),
        reply({}, 409, retry_after="0"),
        hang_up,
    ],
)
async def test_the_same_request_is_sent_again_until_it_is_answered(gateway: Gateway, ask: Ask, later: Reply) -> None:
    gateway.replies = [later, later, reply({"state": "accepted"}, 202)]
    assert await ask("check_out", ORDER) == {"state": "accepted"}
    assert [json.loads(body) for body in gateway.bodies] == [ORDER] * 3


async def test_without_an_answer_it_is_unavailable(gateway: Gateway, ask: Ask) -> None:
    gateway.replies = [reply({"title": "busy"}, 503)]
    with pytest.raises(UnavailableError, match=r"503.*busy"):
        await ask("get_order", "A-1", give_up_after_s=0.3)
    gateway.replies = [hang_up]
    with pytest.raises(UnavailableError, match="no answer"):
        await ask("get_order", "A-1", give_up_after_s=0.3)


@pytest.mark.parametrize("status", [400, 401, 402, 404, 409, 422, 500])
async def test_a_refusal_is_raised_with_its_problem(gateway: Gateway, ask: Ask, status: int) -> None:
    gateway.replies = [reply({"type": "/problems/x", "title": "No", "detail": "why", "field": "lines[0]"}, status)]
    with pytest.raises(ProblemError, match="No: why") as refused:
        await ask("create_invoice", ORDER)
    assert (refused.value.status, refused.value.type, refused.value.field) == (status, "/problems/x", "lines[0]")
    assert len(gateway.requests) == 1


async def test_a_proxys_answer_is_a_problem_too(gateway: Gateway, ask: Ask) -> None:
    gateway.replies = [lambda _: web.Response(status=403, text="<html>forbidden")]
    with pytest.raises(ProblemError, match="forbidden") as refused:
        await ask("get_order", "A-1")
    assert (refused.value.type, refused.value.field) == ("about:blank", None)


async def test_what_could_not_be_repeated_is_not_sent(gateway: Gateway, ask: Ask) -> None:
    """Without an id of the caller's, a repeat would be a second order."""
    for call in (ask("check_out", {}), ask("create_invoice", {"order_id": ""}), ask("refund", "A-1", {})):
        with pytest.raises(ValueError, match="_id is missing"):
            await call
    assert gateway.requests == []


async def test_what_is_another_each_time_is_sent_again_only_if_it_had_no_effect(gateway: Gateway, ask: Ask) -> None:
    gateway.replies = [reply({}, 503), reply({}, 429), reply({"id": "ep_1"}, 201)]
    assert await ask("create_webhook", {"url": "https://shop.example"}) == {"id": "ep_1"}
    for outcome in (hang_up, reply({}, 502), reply({}, 504)):
        gateway.replies, before = [outcome], len(gateway.requests)
        with pytest.raises(UnavailableError):
            await ask("create_webhook", {"url": "https://shop.example"})
        assert len(gateway.requests) == before + 1


async def test_an_answer_without_a_body_is_none(gateway: Gateway, ask: Ask) -> None:
    gateway.replies = [lambda _: web.Response(status=204)]
    assert await ask("delete_webhook", "ep_1") is None


async def test_all_pages_are_gone_through(gateway: Gateway, ask: Ask) -> None:
    pages = [["a", "b"], ["c"], []]
    gateway.replies = [
        reply({"orders": page, "next": str(number) if number < 3 else None}) for number, page in enumerate(pages, 1)
    ]
    assert await ask("each_order", customer="C&1") == ["a", "b", "c"]
    assert [dict(request.query) for request in gateway.requests] == [
        {"customer": "C&1", "limit": "100"},
        {"customer": "C&1", "limit": "100", "cursor": "1"},
        {"customer": "C&1", "limit": "100", "cursor": "2"},
    ]


async def test_a_document_is_bytes(gateway: Gateway, ask: Ask) -> None:
    gateway.replies = [lambda _: web.Response(body=b"%PDF", content_type="application/pdf")]
    assert await ask("get_invoice_document", "A-1") == b"%PDF"


async def test_it_waits_until_an_order_is_decided(gateway: Gateway, ask: Ask) -> None:
    gateway.replies = [
        reply({}, 404, retry_after="0"),
        *(reply({"state": state}) for state in ("accepted", "waiting", "PLACED", "PAYMENT_PENDING", "CONFIRMED")),
    ]
    assert (await ask("wait_for_order", "A-1"))["state"] == "CONFIRMED"
    gateway.replies = [reply({"state": "PLACED"})]
    with pytest.raises(TimeoutError, match="is still PLACED"):
        await ask("wait_for_order", "A-1", seconds=0.3)


async def test_it_waits_until_an_invoice_has_its_document(gateway: Gateway, ask: Ask) -> None:
    complete = {"status": "stored", "document": {"link": "/d"}}
    gateway.replies = [reply({"status": "accepted"}), reply({"status": "issued", "document": None}), reply(complete)]
    assert await ask("wait_for_invoice", "A-1") == complete
    gateway.replies = [reply({"status": "rejected"})]
    assert (await ask("wait_for_invoice", "A-1"))["status"] == "rejected"


def _pauses(outcomes: Sequence[httpx.Response | httpx.TransportError], seconds: float = 60.0) -> list[float]:
    """How long the rule pauses between these outcomes."""
    now = 0.0

    class Highest(random.Random):
        def uniform(self, a: float, b: float) -> float:
            return b

    steps = Calls("http://x", "k", seconds, clock=lambda: now, chance=Highest()).steps("GET", "/")
    next(steps)
    found: list[float] = []
    try:
        for outcome in outcomes:
            pause = steps.send(outcome)
            assert isinstance(pause, float)
            found.append(pause)
            now += pause
            steps.send(None)
    except UnavailableError:
        found.append(-1.0)
    return found


def test_pauses_grow_and_are_at_least_as_long_as_the_gateway_says() -> None:
    failed = httpx.ConnectError("refused")
    assert _pauses([failed] * 8) == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    told = httpx.Response(503, headers={"Retry-After": "7"})
    assert _pauses([told, failed, told]) == pytest.approx([7.1, 0.2, 7.4])
    assert _pauses([httpx.Response(503, headers={"Retry-After": "3600"})]) == pytest.approx([30.1])
    assert _pauses([told, told], seconds=10) == pytest.approx([7.1, -1])


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, 0),
        ("3", 3),
        (" 3 ", 3),
        ("-3", 0),
        ("soon", 0),
        ("٣", 0),
        ("Sun, 29 Nov 2026 10:00:30 GMT", 30),
        ("Sun, 29 Nov 2026 09:00:00 GMT", 0),
    ],
)
def test_a_retry_after_is_seconds_or_a_date(text: str | None, seconds: float) -> None:
    assert retry_after_seconds(text, datetime(2026, 11, 29, 10, 0, 0, tzinfo=UTC)) == seconds


def event(number: int) -> bytes:
    """An event, as the gateway sends it."""
    return b'event: order\nid: %d\ndata: {"state":"S%d"}\n\n' % (number, number)


async def test_an_order_is_followed_over_lost_connections(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind the last event that was complete; a refusal ends it."""
    monkeypatch.setattr("gapless_client.client.PAUSE_S", 0)

    def stream(body: bytes) -> Reply:
        return lambda _: web.Response(body=body, content_type="text/event-stream")

    replies = [
        stream(b"retry: 2000\n\n" + event(1) + b":\n\n" + event(2) + event(3)[:-2]),
        lambda _: web.Response(status=503),
        stream(event(3)),
        lambda _: web.json_response({"type": "/problems/not-found"}, status=404),
    ]

    def run(seen: list[Any]) -> None:
        with Client(gateway.url, "secret") as client:
            seen.extend(client.follow_order("é/1"))

    for is_async in (False, True):
        gateway.replies, gateway.requests = list(replies), []
        seen: list[Any] = []
        with pytest.raises(ProblemError):
            if is_async:
                async with AsyncClient(gateway.url, "secret") as client:
                    async for order in client.follow_order("é/1"):
                        seen.append(order)  # noqa: PERF401 - what comes before the refusal counts.
            else:
                await asyncio.to_thread(run, seen)
        assert [order["state"] for order in seen] == ["S1", "S2", "S3"]
        assert [each.headers.get("Last-Event-ID") for each in gateway.requests] == [None, "2", "2", "3"]
        assert {each.path for each in gateway.requests} == {"/v1/orders/é/1/events"}
