"""What every request that is kept goes through: what it tells the backlog."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiohttp import web
from multidict import CIMultiDict

from gateway.http import problems
from gateway.http.intake import FAILING_RUN, Intake, not_ours
from gateway.http.problems import ProblemError
from gateway.http.server import BoundedHandler
from gateway.http.shedding import LATE_SECONDS, SERVED_ALWAYS, Backlog, Refusals, Stay
from runtime.publisher import Delivered, NotAcknowledgedError


class Brokers:
    """Acknowledge at once, or not at all; each time so much of the clock has gone by."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.takes_s = 0.0
        self.failure: Exception | None = None

    async def publish(self, *_: Any) -> Delivered:
        self.now += self.takes_s
        if self.failure is not None:
            raise self.failure
        return Delivered(0, 0)


class Door:
    """An intake, and connections of the gateway's own server."""

    def __init__(self) -> None:
        self.brokers = Brokers()
        self.backlog = Backlog(lambda: self.brokers.now)
        self.intake = Intake(cast(Any, self.brokers))

    def request(self) -> web.Request:
        """On a connection of its own."""
        manager: Any = SimpleNamespace(request_handler=None, request_factory=None)
        handler = BoundedHandler(
            manager,
            loop=asyncio.get_running_loop(),
            backlog=self.backlog,
            refusals=Refusals("gapless"),
            draining=asyncio.Event(),
            seller_of=lambda _: "demo",
        )
        return cast(
            web.Request,
            SimpleNamespace(content_length=10, can_read_body=True, headers=CIMultiDict(), protocol=handler, get={}.get),
        )

    async def keep(self) -> None:
        request = self.request()
        with self.intake.place(request, "demo"):
            cast(BoundedHandler, request.protocol).stay.begin()
            await self.intake.keep("topic", b"key", b"payload")

    def crowd(self, count: int) -> None:
        """So many others are in the backlog."""
        for _ in range(count):
            Stay(self.backlog).begin()


@pytest.fixture
def door() -> Door:
    return Door()


async def test_who_is_kept_late_shows_that_more_come_than_can_be_served(door: Door) -> None:
    door.brokers.takes_s = LATE_SECONDS + 0.1
    await door.keep()
    door.crowd(SERVED_ALWAYS)
    with pytest.raises(ProblemError) as refused:
        await door.keep()
    assert refused.value.kind is problems.OVERLOADED
    assert problems.response(refused.value).headers["Retry-After"] == "1"


async def test_so_does_who_is_not_kept_in_time(door: Door) -> None:
    door.brokers.takes_s = LATE_SECONDS + 0.1
    door.brokers.failure = NotAcknowledgedError()
    with pytest.raises(ProblemError) as unknown:
        await door.keep()
    assert unknown.value.kind is problems.NOT_ACKNOWLEDGED
    door.crowd(SERVED_ALWAYS)
    with pytest.raises(ProblemError) as refused:
        await door.keep()
    assert refused.value.kind is problems.OVERLOADED


async def test_who_is_in_the_backlog_already_is_served(door: Door) -> None:
    """It was there before the others, and only its handler comes late."""
    request = door.request()
    cast(BoundedHandler, request.protocol).stay.begin()
    door.brokers.takes_s = LATE_SECONDS + 0.1
    await door.keep()
    door.crowd(SERVED_ALWAYS)
    with door.intake.place(request, "demo"):
        pass


async def test_what_is_not_up_to_the_gateway_makes_nobody_late(door: Door) -> None:
    request = door.request()
    with door.intake.place(request, "demo"):
        cast(BoundedHandler, request.protocol).stay.begin()
        with not_ours():
            door.brokers.now += 10
        await door.intake.keep("topic", b"key", b"payload")
    door.crowd(SERVED_ALWAYS)
    await door.keep()


async def test_a_run_of_requests_without_an_acknowledgement_is_not_ready(door: Door) -> None:
    """Whatever Kafka says of itself; until one is acknowledged."""
    door.brokers.failure = NotAcknowledgedError()
    for failed in range(FAILING_RUN):
        assert door.intake.is_failing is False, failed
        with pytest.raises(ProblemError):
            await door.keep()
    assert door.intake.is_failing is True
    door.brokers.failure = None
    await door.keep()
    assert door.intake.is_failing is False
