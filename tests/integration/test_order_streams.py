"""An order followed live: every change, in order, also over a reconnection, an outage and the gateway's end."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple

import aiohttp
import pytest

from gateway.orders import order_stream
from gateway.orders.order_stream import StreamPolicy
from tests.conftest import Services
from tests.integration.backoffice import Backoffice
from tests.integration.gateways import KEYS, Client, Link, Topics, link_to, running, through, until
from tests.integration.test_gateway_orders import checkout, do, new_id, post

Query = Callable[..., list[tuple[Any, ...]]]
#: When Postgres is asked without an event, and what is sooner: what comes within this came by one.
LOOK_SECONDS, SECONDS_MAX = 90.0, 60.0


class Event(NamedTuple):
    """One server-sent event."""

    event_id: str
    order: dict[str, Any]

    @property
    def state(self) -> str:
        """The order's."""
        return str(self.order["state"])


class Stream:
    """A client of a stream, which reads as the specification says."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response
        self.comments = 0

    async def next(self) -> Event | None:
        """The next event; None at the stream's end."""
        fields: dict[str, str] = {}
        async with asyncio.timeout(SECONDS_MAX):
            async for raw in self.response.content:
                text = raw.decode().rstrip("\n")
                if text.startswith(":"):
                    self.comments += 1
                elif text:
                    name, _, value = text.partition(": ")
                    fields[name] = value
                elif "data" in fields:
                    assert fields["event"] == "order"
                    return Event(fields["id"], json.loads(fields["data"]))
        return None

    async def until(self, holds: Callable[[dict[str, Any]], bool]) -> list[Event]:
        """All events up to the first whose order is as wanted."""
        seen: list[Event] = []
        while not seen or not holds(seen[-1].order):
            event = await self.next()
            assert event is not None, f"the stream ended after {seen}"
            seen.append(event)
        return seen


@contextlib.asynccontextmanager
async def following(client: Client, order_id: str, **headers: str) -> AsyncIterator[Stream]:
    """A stream of the order."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if client.key is not None:
        named["Authorization"] = f"Bearer {client.key}"
    async with client.session.get(f"{client.url}/v1/orders/{order_id}/events", headers=named) as response:
        assert response.status == 200, await response.text()
        assert response.content_type == "text/event-stream"
        yield Stream(response)


@pytest.fixture(autouse=True)
def _late_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order_stream, "StreamPolicy", lambda: StreamPolicy(look_seconds=LOOK_SECONDS))


@pytest.fixture
async def office(services: Services, ledger: str, topics: Topics) -> AsyncIterator[Backoffice]:
    """Somebody who decides what the gateway accepts."""
    async with Backoffice(services, ledger, topics) as made:
        yield made


async def test_every_step_is_in_what_is_sent_and_the_last_is_the_order_as_it_stands(
    client: Client, office: Backoffice, sku: str
) -> None:
    order_id = new_id()
    await post(client, checkout(order_id, sku))
    async with following(client, order_id) as stream:
        seen = await stream.until(lambda order: order["state"] == "CONFIRMED")
        assert (await do(client, order_id, "shipments")).status == 200
        seen += await stream.until(lambda order: order["state"] == "SHIPPED")
    assert [step["to"] for step in seen[-1].order["history"]] == ["PLACED", "PAYMENT_PENDING", "CONFIRMED", "SHIPPED"]
    versions = [each.order["version"] for each in seen if "version" in each.order]
    assert versions == sorted(versions)
    assert len({each.event_id for each in seen}) == len(seen)


async def test_what_no_event_tells_of_is_seen_by_asking(
    services: Services, ledger: str, topics: Topics, sku: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(order_stream, "StreamPolicy", lambda: StreamPolicy(look_seconds=0.5))
    async with running(services, ledger, topics) as client, Backoffice(services, ledger, topics):
        order_id = new_id()
        assert (await post(client, checkout(order_id, sku), wait=20)).status == 201
        async with following(client, order_id) as stream:
            assert (await do(client, order_id, "shipments")).status == 200
            seen = await stream.until(lambda order: order["payment"]["status"] == "captured")
        assert (await client.get(f"/v1/orders/{order_id}")).json == seen[-1].order


async def test_a_client_that_comes_back_gets_only_what_has_changed(
    client: Client, office: Backoffice, sku: str
) -> None:
    order_id = new_id()
    assert (await post(client, checkout(order_id, sku), wait=20)).status == 201
    async with following(client, order_id) as stream:
        known = (await stream.until(lambda order: order["state"] == "CONFIRMED"))[-1]
    async with following(client, order_id, Last_Event_ID=known.event_id) as stream:
        # Nothing has changed, so the first that comes is the shipment.
        assert (await do(client, order_id, "shipments")).status == 200
        event = await stream.next()
        assert event is not None
        assert event.state == "SHIPPED"
    async with following(client, order_id, Last_Event_ID=known.event_id) as stream:
        event = await stream.next()
        assert event is not None
        assert event.state == "SHIPPED"


async def test_what_cannot_be_followed_is_refused_as_a_get_is(client: Client, office: Backoffice, sku: str) -> None:
    order_id = new_id()
    assert (await post(client, checkout(order_id, sku), wait=20)).status == 201
    assert (await client.get("/v1/orders/none/events")).status == 404
    assert (await client.as_(KEYS["other"]).get(f"/v1/orders/{order_id}/events")).status == 404
    assert (await client.as_(None).get(f"/v1/orders/{order_id}/events")).status == 401


async def test_a_silent_stream_says_that_it_lives_and_a_seller_has_so_many_only(
    services: Services, ledger: str, topics: Topics, sku: str, few: StreamPolicy
) -> None:
    async with running(services, ledger, topics) as client, Backoffice(services, ledger, topics):
        order_id = new_id()
        assert (await post(client, checkout(order_id, sku), wait=20)).status == 201
        async with following(client, order_id) as stream:
            await stream.until(lambda order: order["state"] == "CONFIRMED")
            async with asyncio.timeout(SECONDS_MAX):
                while (line := await stream.response.content.readline()) != b":\n":
                    assert line == b"\n"
        async with contextlib.AsyncExitStack() as open_streams:
            for _ in range(few.streams_per_seller_max):
                await open_streams.enter_async_context(following(client, order_id))
            refused = await client.get(f"/v1/orders/{order_id}/events")
            assert (refused.status, refused.json["type"]) == (429, "/problems/seller-overloaded")
            assert "Retry-After" in refused.headers


@pytest.fixture
async def postgres(ledger: str) -> AsyncIterator[Link]:
    """What leads to Postgres."""
    link = await link_to(ledger)
    yield link
    await link.cut()


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> StreamPolicy:
    """Few streams, soon silent."""
    policy = StreamPolicy(streams_per_seller_max=2, silence_seconds=0.2)
    monkeypatch.setattr(order_stream, "StreamPolicy", lambda: policy)
    return policy


async def test_an_outage_of_postgres_is_silent_and_what_came_meanwhile_is_sent(
    services: Services, ledger: str, topics: Topics, sku: str, postgres: Link
) -> None:
    async with running(services, through(postgres, ledger), topics) as client, Backoffice(services, ledger, topics):
        order_id = new_id()
        assert (await post(client, checkout(order_id, sku), wait=20)).status == 201
        async with following(client, order_id) as stream:
            await stream.until(lambda order: order["state"] == "CONFIRMED")
            await postgres.cut()
            assert (await do(client, order_id, "shipments", Prefer="wait=0")).status in {202, 503}
            await postgres.open()
            await until(lambda: do(client, order_id, "shipments"), lambda answer: answer.status == 200)
            seen = await stream.until(lambda order: order["state"] == "SHIPPED")
            assert "accepted" not in {each.state for each in seen}


async def test_a_gateway_that_stops_ends_its_streams_at_once(
    services: Services, ledger: str, topics: Topics, sku: str
) -> None:
    async with contextlib.AsyncExitStack() as ending:
        await ending.enter_async_context(Backoffice(services, ledger, topics))
        session = await ending.enter_async_context(aiohttp.ClientSession())
        async with running(services, ledger, topics) as client:
            order_id = new_id()
            assert (await post(client, checkout(order_id, sku), wait=20)).status == 201
            kept = Client(session, client.url, client.key)
            stream = await ending.enter_async_context(following(kept, order_id))
            await stream.until(lambda order: order["state"] == "CONFIRMED")
        assert await stream.next() is None
