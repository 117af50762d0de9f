"""POST /v1/checkouts where the services misbehave: what happens to what admission holds."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from admission.admission import AdmissionVerdict, Admitted, Asked, Limited, SoldOut
from admission.hints import FORGOTTEN, UNAVAILABLE, Silence, of_checkouts
from domain.reservation import Short
from domain.rules import SellerFacts
from gateway.app import make_app
from gateway.http.auth import KeyRing
from gateway.http.intake import Intake
from gateway.http.server import BoundedRunner
from gateway.http.waiting import Waiters
from gateway.orders.checkouts import Checkouts
from runtime import traces
from runtime.publisher import Delivered, NotAcknowledgedError, OverloadedError
from schemas import catalog, codec
from sinks.postgres.lanes import PostgresUnavailableError
from sinks.postgres.orders_reader import KnownOrder
from tests.collector import Collector
from tests.unit.gateway.test_requests import body

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
SHORT = SoldOut((Short("S-1", 2, 0),))


class Nobody(KeyRing):
    """Lets everybody in as `demo`."""

    def __init__(self) -> None:
        super().__init__(cast(Any, None))

    async def seller_of(self, request: web.Request) -> str:
        return "demo"

    async def facts_of(self, seller_id: str) -> SellerFacts | None:
        return SellerFacts("FR", "FR40303265045")


class World:
    """Kafka, Redis and Postgres, as the test wants them, and what was asked of them."""

    def __init__(self) -> None:
        self.hint: bytes | Silence | None = None
        self.verdict: AdmissionVerdict = Admitted(held=True)
        self.on_waitlist: Admitted | SoldOut = SHORT
        self.line_seconds = 0.0
        self.line_began = asyncio.Event()
        self.failure: Exception | None = None
        self.postgres_is_away = False
        self.published: list[bytes] = []
        self.headers: list[Any] = []
        self.asked: list[Asked] = []
        self.calls: list[str] = []

    async def publish(self, topic: str, key: bytes, value: bytes, headers: Any) -> Delivered:
        if self.failure is not None:
            raise self.failure
        self.published.append(value)
        self.headers.append(headers)
        return Delivered(0, 0)

    async def known(self, seller_id: str, order_id: str) -> bytes | Silence | None:
        # What is hinted at is a checkout: no invoice has this id.
        return self.hint if seller_id == of_checkouts("demo") else None

    async def remember(self, seller_id: str, order_id: str, content_sha256: bytes) -> bool:
        self.hint = content_sha256
        return True

    async def order(self, seller_id: str, order_id: str) -> KnownOrder:
        if self.postgres_is_away:
            raise PostgresUnavailableError
        self.calls.append("look")
        return KnownOrder(None)

    async def admit(self, asked: Asked) -> AdmissionVerdict:
        self.calls.append("admit")
        self.asked.append(asked)
        return self.verdict

    async def join_waitlist(self, asked: Asked, seconds: float) -> Admitted | SoldOut:
        self.calls.append(f"line {seconds:.0f}")
        self.line_began.set()
        try:
            await asyncio.sleep(self.line_seconds)
        except asyncio.CancelledError:
            self.calls.append("left")
            raise
        return self.on_waitlist

    async def release(self, asked: Asked) -> None:
        assert asked == Asked("demo", "A-1001", "C-17", (("S-1", 2),))
        self.calls.append("release")


class OwnServer(TestServer):
    """The gateway's, whose connections know how long their requests stay."""

    async def _make_runner(self, **kwargs: Any) -> web.BaseRunner:
        return BoundedRunner(self.app, seller_of=lambda _: "demo", **kwargs)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def waiters() -> Waiters:
    return Waiters()


@pytest.fixture
async def client(world: World, waiters: Waiters) -> AsyncIterator[TestClient[Any, Any]]:
    services = cast(Any, world)
    checkouts = Checkouts(Intake(services), services, services, services, waiters, services)
    async with TestClient(OwnServer(make_app(checkouts.routes(), Nobody()))) as made:
        yield made


async def post(
    client: TestClient[Any, Any], wait: int = 0, traceparent: str = "", **changes: Any
) -> tuple[int, dict[str, Any]]:
    """Check out; the status and the answer."""
    asked = {**body(), "customer": "C-17", "payment_token": "tok_secret", **changes}
    headers = {"Prefer": f"wait={wait}"} if wait else {}
    headers |= {"traceparent": traceparent} if traceparent else {}
    async with client.post("/v1/checkouts", data=json.dumps(asked), headers=headers) as answer:
        text = await answer.text()
        assert "tok_secret" not in text
        return answer.status, json.loads(text)


async def test_a_callers_trace_goes_along_with_the_request(client: TestClient[Any, Any], world: World) -> None:
    """As it came, while tracing is off. An invalid one is ignored, which is what its standard asks for."""
    for traceparent in (TRACEPARENT, "00-nonsense", ""):
        assert (await post(client, traceparent=traceparent))[0] == 202
    assert world.headers == [[("traceparent", TRACEPARENT.encode())], None, None]


async def test_a_traced_request_is_a_span_and_its_publication_another(
    client: TestClient[Any, Any], world: World
) -> None:
    """The record's trace goes on from the publication, also where no caller has begun it."""
    with Collector() as collector:
        with traces.sent_to(collector.url, "gateway", "gateway"):
            await post(client, traceparent=TRACEPARENT)
            await post(client)
            world.failure = NotAcknowledgedError("brokers away")
            await post(client, traceparent=TRACEPARENT)
        spans = collector.spans()
    assert [span.name for span in spans] == ["publish checkout-requests", "POST /v1/checkouts"] * 3
    for published, answered in (spans[0:2], spans[2:4], spans[4:6]):
        assert published.parent_id == answered.span_id
        assert answered.attributes["gapless.order_id"] == "A-1001"
    assert [answered.parent_id for answered in spans[1::2]] == [TRACEPARENT[36:52], "", TRACEPARENT[36:52]]
    assert [answered.attributes["http.response.status_code"] for answered in spans[1::2]] == [202, 202, 503]
    assert [span.is_error for span in spans] == [False] * 4 + [True] * 2
    for published, [(_, header)] in zip(spans[0:4:2], world.headers, strict=True):
        assert header.decode().split("-")[1:3] == [published.trace_id, published.span_id]


async def test_what_is_admitted_is_published(client: TestClient[Any, Any], world: World) -> None:
    """With its customer and token, for the agent and the provider."""
    status, _ = await post(client)
    assert status == 202
    [value] = world.published
    _, record = codec.decode(value, catalog.CHECKOUT_REQUEST, bytes_max=100_000)
    assert (record["seller_id"], record["customer"], record["payment_token"]) == ("demo", "C-17", "tok_secret")
    assert world.calls == ["admit"]


@pytest.mark.parametrize("failure", [OverloadedError(), ValueError()])
async def test_what_was_not_sent_holds_nothing(client: TestClient[Any, Any], world: World, failure: Exception) -> None:
    """Nobody will decide on it."""
    world.failure = failure
    status, _ = await post(client)
    assert status in (503, 413)
    assert world.calls == ["admit", "release"]


async def test_what_may_have_been_kept_keeps_its_hold(client: TestClient[Any, Any], world: World) -> None:
    """The hold's own time ends it."""
    world.failure = NotAcknowledgedError()
    status, problem = await post(client)
    assert (status, problem["type"]) == (503, "/problems/not-acknowledged")
    assert world.calls == ["admit"]


async def test_a_repeat_asks_for_no_stock(client: TestClient[Any, Any], world: World) -> None:
    """It is published again: a hint may be wrong."""
    await post(client)
    world.calls.clear()
    world.verdict = SHORT
    assert (await post(client))[0] == 202
    assert world.calls == ["look"]
    assert len(world.published) == 2


@pytest.mark.parametrize("silence", [UNAVAILABLE, FORGOTTEN])
async def test_where_hints_are_silent_postgres_is_asked_before_stock(
    client: TestClient[Any, Any], world: World, silence: Silence
) -> None:
    """It may be an old order."""
    world.hint = silence
    assert (await post(client))[0] == 202
    assert world.calls == ["look", "admit"]


async def test_sold_out_is_said_without_postgres(client: TestClient[Any, Any], world: World) -> None:
    """And nothing is published."""
    world.verdict, world.postgres_is_away = SHORT, True
    status, problem = await post(client)
    assert (status, problem["short"]) == (409, [{"sku": "S-1", "wanted": 2, "free": 0}])
    assert world.published == []


async def test_a_customer_who_is_too_fast_is_told_when_to_come_again(
    client: TestClient[Any, Any], world: World
) -> None:
    """In whole seconds, at least one."""
    world.verdict = Limited(0.2)
    asked = {**body(), "customer": "C-17", "payment_token": "t"}
    async with client.post("/v1/checkouts", json=asked) as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (429, "1")
    assert world.published == []


async def test_guests_are_limited_each_for_themselves(client: TestClient[Any, Any], world: World) -> None:
    """By their e-mail address, however it is written; a customer who is named like one is somebody else."""
    for order_id, email, customer in (
        ("A-1", "zoe@example.com", None),
        ("A-2", "ZOE@Example.com", None),
        ("A-3", "max@example.com", None),
        ("A-4", "zoe@example.com", "zoe@example.com"),
        ("A-5", "zoe@example.com", "C-17"),
    ):
        world.hint = None
        buyer = {**body()["buyer"], "email": email}
        assert (await post(client, order_id=order_id, buyer=buyer, customer=customer))[0] == 202
    zoe, zoe_again, max_, *customers = [asked.customer for asked in world.asked]
    assert zoe == zoe_again
    assert len({zoe, max_, *customers}) == 4
    assert customers == ["zoe@example.com", "C-17"]


async def test_a_waiting_client_stays_on_the_waitlist_for_what_is_left_of_the_time(
    client: TestClient[Any, Any], world: World
) -> None:
    """And is published once there is stock."""
    world.verdict, world.on_waitlist = SHORT, Admitted(held=True)
    assert (await post(client, wait=1))[0] == 202
    assert world.calls[:3] == ["admit", "look", "line 1"]
    assert len(world.published) == 1


async def test_a_client_on_the_waitlist_is_answered_when_the_gateway_stops(
    client: TestClient[Any, Any], world: World, waiters: Waiters
) -> None:
    """With the place given up, and the word that another gateway may be asked."""
    world.verdict, world.line_seconds = SHORT, 30.0
    waiting = asyncio.create_task(post(client, wait=30))
    await world.line_began.wait()
    waiters.cut_all()
    async with asyncio.timeout(60):
        assert (await waiting)[0] == 503
    await asyncio.sleep(0)
    assert world.calls[-1] == "left"
    assert waiters.by_key == {}
