"""How the gateway finds out that more comes than it can serve, and what it does about it."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway import intake, problems
from gateway.intake import LATE_IN_FLIGHT, LATE_SECONDS, Intake
from gateway.problems import ProblemError
from runtime.kafka import Delivered

_REQUEST = cast(Any, SimpleNamespace(content_length=10, can_read_body=True, headers={}))


class Brokers:
    """Acknowledge at once; each time so much of the clock has gone by."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_000.0
        self.takes_s = 0.0
        monkeypatch.setattr(intake, "monotonic", lambda: self.now)

    def publish(self, *_: Any) -> "asyncio.Future[Delivered]":
        self.now += self.takes_s
        acknowledged: asyncio.Future[Delivered] = asyncio.get_running_loop().create_future()
        acknowledged.set_result(Delivered(0, 0))
        return acknowledged


@pytest.fixture
def brokers(monkeypatch: pytest.MonkeyPatch) -> Brokers:
    return Brokers(monkeypatch)


async def _keep(taking: Intake) -> None:
    with taking.place(_REQUEST):
        await taking.keep("topic", b"key", b"payload")


async def test_while_requests_are_kept_late_more_than_can_be_served_are_sent_away(brokers: Brokers) -> None:
    taking = Intake(cast(Any, brokers))
    brokers.takes_s = LATE_SECONDS + 0.1
    await _keep(taking)
    taking.in_flight = LATE_IN_FLIGHT
    with pytest.raises(ProblemError) as refused, taking.place(_REQUEST):
        pass
    assert refused.value.kind is problems.OVERLOADED
    assert problems.response(refused.value).headers["Retry-After"] == "1"


async def test_a_rush_that_the_gateway_can_hold_is_served_however_late(brokers: Brokers) -> None:
    taking = Intake(cast(Any, brokers))
    brokers.takes_s = LATE_SECONDS + 0.1
    await _keep(taking)
    taking.in_flight = LATE_IN_FLIGHT - 1
    await _keep(taking)


async def test_what_was_late_is_forgotten_with_the_next_that_is_not_and_with_time(brokers: Brokers) -> None:
    taking = Intake(cast(Any, brokers))
    brokers.takes_s = LATE_SECONDS + 0.1
    await _keep(taking)
    brokers.takes_s = 0.0
    await _keep(taking)
    taking.in_flight = LATE_IN_FLIGHT
    await _keep(taking)
    taking.in_flight, brokers.takes_s = 0, LATE_SECONDS + 0.1
    await _keep(taking)
    taking.in_flight, brokers.takes_s, brokers.now = LATE_IN_FLIGHT, 0.0, brokers.now + 1.1
    await _keep(taking)


async def test_the_time_that_a_client_takes_for_itself_is_not_the_gateways(brokers: Brokers) -> None:
    taking = Intake(cast(Any, brokers))
    with taking.place(_REQUEST):
        brokers.now += 10
        intake.begin_again()
        await taking.keep("topic", b"key", b"payload")
    taking.in_flight = LATE_IN_FLIGHT
    await _keep(taking)
