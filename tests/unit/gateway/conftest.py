"""A gateway that has nothing behind it."""

from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from aiohttp import web

from gateway.agreement import Agreement
from gateway.app import make_app
from gateway.health import GatewayHealth
from gateway.http.auth import KeyRing
from gateway.http.intake import Intake
from gateway.http.listening import ListeningSite
from gateway.http.server import BoundedRunner
from gateway.http.telemetry import SELLER_ID
from gateway.invoices.accepting import InvoiceAccepting
from gateway.invoices.reading import InvoiceReading
from gateway.notices import NoticeIntake
from gateway.orders.order_reading import OrderReading
from runtime.settings import load


class Nobody(KeyRing):
    """Lets everybody in, as `demo` without a key."""

    def __init__(self) -> None:
        super().__init__(cast(Any, None))

    async def seller_of(self, request: web.Request) -> str:
        request[SELLER_ID] = seller_id = self._seller(request)
        return seller_id

    def _seller(self, request: web.Request) -> str:
        return self.known_seller(request.headers.get("Authorization", "")) or "demo"

    def known_seller(self, authorization: str) -> str | None:
        """A key is the name of its seller."""
        return authorization.removeprefix("Bearer ") or None


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """Where it listens."""
    nothing = cast(Any, None)
    keys = Nobody()
    taking = Intake(nothing)
    health = GatewayHealth(nothing, nothing, nothing, keys, taking, Agreement(lambda **_: 4), [], [])
    routes = [
        *InvoiceAccepting(taking, nothing, nothing, nothing).routes(),
        *InvoiceReading(nothing, nothing, nothing).routes(),
        *OrderReading(nothing, nothing, nothing).routes(),
        *NoticeIntake(taking, load(provider="local", provider_webhook_secret="secret")).routes(),
        *health.routes(),
    ]
    runner = BoundedRunner(make_app(routes, keys), access_log=None, seller_of=keys.known_seller)
    await runner.setup()
    await ListeningSite(runner, "127.0.0.1", 0).start()
    yield runner.addresses[0][1]
    await runner.cleanup()
