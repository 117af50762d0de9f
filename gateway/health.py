"""Liveness and readiness of a gateway, for load balancers."""

import asyncio
from collections.abc import Sequence
from time import monotonic

import msgspec
from aiohttp import web

from admission.hints import Hints
from gateway import agreement
from gateway.agreement import Agreement
from gateway.http import telemetry
from gateway.http.auth import KeyRing
from gateway.http.intake import Intake
from gateway.http.openapi import DeclaredResponse, open_operation
from gateway.http.waiting import Tail, Waiters
from runtime.exits import end_if_failed
from runtime.health import HealthReport, loop_report
from runtime.kafka_writable import Writability
from runtime.outages import KAFKA
from sinks.postgres.invoices_reader import InvoicesReader

#: Between two checks of the services. Load balancers are answered from the last one, however often they ask.
CHECK_SECONDS = 1.0
#: A gateway whose loop has not turned for so long answers nobody. Under the heaviest load a turn takes 0.4 s.
_TURN_SECONDS_MAX = 5.0
_TURN_LOOK_SECONDS = 0.5


class GatewayHealth:
    """Reports whether the gateway is alive and ready. Ready means that a request posted now would be acknowledged.

    - Required: Kafka is writable, the API keys were read once, the loop turns, and Postgres and Kafka are known to
      belong together.
    - Kafka is writable if each input partition has a leader and enough in-sync replicas, and the brokers acknowledged
      the last requests.
    - Not required: Postgres and Redis. Requests are accepted without them; a load balancer that took the gateway out
      would turn a slow status into lost orders.

    Load balancers may ask the gateway's own port, where the response waits for a turn of the busy loop, or the metrics
    port, whose threads respond at once. Both return the same report.
    """

    def __init__(
        self,
        writability: Writability,
        reader: InvoicesReader,
        hints: Hints,
        keys: KeyRing,
        intake: Intake,
        agreement: Agreement,
        tails: Sequence[Tail],
        waiters: Sequence[Waiters],
    ) -> None:
        """`writability` checks the topics to which requests are published. Made on the running loop."""
        self._writability = writability
        self._reader = reader
        self._hints = hints
        self._keys = keys
        self._intake = intake
        self._agreement = agreement
        self._tails = tails
        self._waiters = waiters
        self._loop = asyncio.get_running_loop()
        self._turned_at = monotonic()
        self._report = dict.fromkeys(
            ("kafka", "events", "agreement", "postgres", "api_keys", "redis"), "not checked yet"
        )
        self._checking: asyncio.Task[None] | None = None
        self._turning: asyncio.TimerHandle | None = None
        #: Set when the gateway is about to stop: never ready again.
        self.stopping = False

    def start(self) -> None:
        """Check the services every `CHECK_SECONDS`.

        A bug in a check ends the process, as the report would never change.
        """
        telemetry.IN_FLIGHT.set_function(lambda: self._intake.in_flight)
        telemetry.WAITERS.set_function(lambda: sum(map(len, self._waiters)))
        telemetry.HINTS_AVAILABLE.set_function(lambda: self._hints.available)
        self._checking = asyncio.create_task(self._keep_checking(), name="health")
        self._checking.add_done_callback(end_if_failed)
        self._turn()

    async def stop(self) -> None:
        """Stop the checks."""
        if self._turning is not None:
            self._turning.cancel()
        if self._checking is not None:
            self._checking.cancel()
            await asyncio.wait({self._checking})

    def routes(self) -> list[web.RouteDef]:
        """The resources, which need no API key."""
        return [
            web.get("/healthz", self.get_alive),
            web.get("/readyz", self.get_ready),
        ]

    @open_operation("Whether the process answers", DeclaredResponse(200, "It does", dict[str, str]))
    async def get_alive(self, _: web.Request) -> web.Response:
        """GET /healthz: 200 whenever the loop turns."""
        return web.Response(body=b'{"status":"alive"}', content_type="application/json")

    @open_operation(
        "Whether orders can be taken",
        DeclaredResponse(200, "They can; each service by name", dict[str, str]),
        DeclaredResponse(503, "They can't; each service by name", dict[str, str]),
    )
    async def get_ready(self, _: web.Request) -> web.Response:
        """GET /readyz: 200 while requests can be accepted, otherwise 503; the body has the state of each service."""
        takes_orders, body = self.ready()
        return web.Response(
            status=200 if takes_orders else 503, body=msgspec.json.encode(body), content_type="application/json"
        )

    def alive(self) -> HealthReport:
        """Whether the loop turns. Call it from another thread: on the loop's own it would wait for itself."""
        return loop_report(self._loop)

    def ready(self) -> HealthReport:
        """Whether requests can be accepted, and the body of `/readyz`: the state of each service by its name.

        May be called from any thread. It reports the last check, so a service that hangs delays no caller.
        """
        report = dict(self._report)
        if report["kafka"] == "ok" and self._intake.is_failing:
            report["kafka"] = "the last requests were not acknowledged"
        report["agreement"] = self._agreement.state
        standstill_seconds = monotonic() - self._turned_at
        turns = standstill_seconds < _TURN_SECONDS_MAX
        report["loop"] = "ok" if turns else f"has not turned for {standstill_seconds:.0f} s"
        agrees = report["agreement"] == agreement.OK
        takes_orders = report["kafka"] == "ok" and agrees and turns and self._keys.loaded and not self.stopping
        all_well = takes_orders and all(state == "ok" for state in report.values())
        status = "ready" if all_well else "degraded" if takes_orders else "not ready"
        return takes_orders, {"status": "stopping" if self.stopping else status, **report}

    def _turn(self) -> None:
        self._turned_at = monotonic()
        self._turning = self._loop.call_later(_TURN_LOOK_SECONDS, self._turn)

    async def _keep_checking(self) -> None:
        while True:
            self._report = await self._ask()
            await asyncio.sleep(CHECK_SECONDS)

    async def _ask(self) -> dict[str, str]:
        asking = asyncio.to_thread(self._writability.problem)
        problem, postgres, redis = await asyncio.gather(asking, self._reader.ping(), self._hints.ping())
        if problem is not None:
            KAFKA.failed(problem)
        elif not self._intake.is_failing:
            KAFKA.answered()
        return {
            "kafka": problem or "ok",
            "events": "ok" if all(tail.follows for tail in self._tails) else "not followed yet",
            "postgres": "ok" if postgres else "unavailable",
            "api_keys": "ok" if self._keys.loaded else "never read",
            "redis": "ok" if redis else "unavailable",
        }
