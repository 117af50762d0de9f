"""Whether the gateway lives, whether it should get requests, and what it counts."""

import asyncio
from collections.abc import Sequence
from time import monotonic
from typing import Any

import msgspec
from aiohttp import web

from gateway import measures
from gateway.auth import KeyRing
from gateway.intake import Intake
from gateway.openapi import Answer, operation
from gateway.waiting import Tail, Waiters
from runtime import metrics
from runtime.kafka import Publisher
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
        intake: Intake,
        tails: Sequence[Tail],
        waiters: Sequence[Waiters],
        *,
        topics: Sequence[str],
    ) -> None:
        """`topics` are those that requests are published to."""
        self._topics = topics
        self._publisher = publisher
        self._reader = reader
        self._hints = hints
        self._keys = keys
        self._intake = intake
        self._tails = tails
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

    @operation("Whether the process answers", Answer(200, "It does", dict[str, str]), needs_key=False)
    async def alive(self, _: web.Request) -> web.Response:
        """GET /healthz: the process answers."""
        return web.Response(body=b'{"status":"alive"}', content_type="application/json")

    @operation(
        "Whether orders can be taken",
        Answer(200, "They can; each service by name", dict[str, str]),
        Answer(503, "They can't; each service by name", dict[str, str]),
        needs_key=False,
    )
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

    @operation("Measures", Answer(200, "For Prometheus", media_type=metrics.CONTENT_TYPE), needs_key=False)
    async def metrics(self, _: web.Request) -> web.Response:
        """GET /metrics, for Prometheus."""
        measures.IN_FLIGHT.set(self._intake.in_flight)
        measures.WAITERS.set(sum(map(len, self._waiters)))
        measures.HINTS_AVAILABLE.set(self._hints.available)
        return web.Response(body=metrics.render(), headers={"Content-Type": metrics.CONTENT_TYPE})

    async def _ask(self) -> dict[str, Any]:
        reached = asyncio.gather(*(self._publisher.reaches(topic) for topic in self._topics))
        kafka, postgres, redis = await asyncio.gather(reached, self._reader.ping(), self._hints.ping())
        return {
            "kafka": "ok" if all(kafka) else "away",
            "events": "ok" if all(tail.follows for tail in self._tails) else "not followed yet",
            "postgres": "ok" if postgres else "away",
            "api_keys": "ok" if self._keys.loaded else "never read",
            "redis": "ok" if redis else "away",
        }
