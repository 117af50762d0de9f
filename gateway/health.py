"""Whether the gateway lives, whether it should get requests, and what it counts."""

import asyncio
from time import monotonic
from typing import Any

import msgspec
from aiohttp import web

from gateway import measures
from gateway.accepting import Accepting
from gateway.auth import KeyRing
from gateway.waiting import Tail, Waiters
from runtime import metrics
from runtime.kafka import Publisher
from schemas.catalog import INVOICE_REQUESTS, Topic
from sinks.postgres.reader import Reader
from sinks.redis.hints import Hints

#: However often a load balancer asks, the services are asked once in so long.
_CHECK_SECONDS_MIN = 1.0


class Health:
    """Ready means: an order posted now would be kept. That takes Kafka, and the API keys, read once.

    Postgres and Redis may be away: orders are taken without them, and a load balancer that knew no better would turn a
    slow status into lost orders.
    """

    def __init__(
        self,
        publisher: Publisher,
        reader: Reader,
        hints: Hints,
        keys: KeyRing,
        accepting: Accepting,
        tail: Tail,
        waiters: Waiters,
        *,
        topic: Topic = INVOICE_REQUESTS,
    ) -> None:
        self._topic = topic.name
        self._publisher = publisher
        self._reader = reader
        self._hints = hints
        self._keys = keys
        self._accepting = accepting
        self._tail = tail
        self._waiters = waiters
        self._checked_at = -_CHECK_SECONDS_MIN
        self._report: dict[str, Any] = {}
        self._check = asyncio.Lock()
        self.stopping = False

    def routes(self) -> list[web.RouteDef]:
        """The resources, open to all."""
        return [
            web.get("/healthz", self.alive),
            web.get("/readyz", self.ready),
            web.get("/metrics", self.metrics),
        ]

    async def alive(self, _: web.Request) -> web.Response:
        """GET /healthz: the process answers."""
        return web.Response(body=b'{"status":"alive"}', content_type="application/json")

    async def ready(self, _: web.Request) -> web.Response:
        """GET /readyz: 200 while orders can be taken, else 503; each service by name."""
        async with self._check:
            if monotonic() - self._checked_at >= _CHECK_SECONDS_MIN:
                self._report = await self._ask()
                self._checked_at = monotonic()
        takes_orders = self._report["kafka"] == "ok" and self._keys.loaded and not self.stopping
        all_well = takes_orders and all(state == "ok" for state in self._report.values())
        body = {"status": "ready" if all_well else "degraded" if takes_orders else "not ready", **self._report}
        return web.Response(
            status=200 if takes_orders else 503, body=msgspec.json.encode(body), content_type="application/json"
        )

    async def metrics(self, _: web.Request) -> web.Response:
        """GET /metrics, for Prometheus."""
        measures.IN_FLIGHT.set(self._accepting.in_flight)
        measures.WAITERS.set(len(self._waiters))
        measures.HINTS_AVAILABLE.set(self._hints.available)
        return web.Response(body=metrics.render(), headers={"Content-Type": metrics.CONTENT_TYPE})

    async def _ask(self) -> dict[str, Any]:
        kafka, postgres, redis = await asyncio.gather(
            self._publisher.reaches(self._topic), self._reader.ping(), self._hints.ping()
        )
        return {
            "kafka": "ok" if kafka else "away",
            "events": "ok" if self._tail.follows else "not followed yet",
            "postgres": "ok" if postgres else "away",
            "api_keys": "ok" if self._keys.loaded else "never read",
            "redis": "ok" if redis else "away",
        }
