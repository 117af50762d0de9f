"""Liveness and readiness of a process: what `/healthz` and `/readyz` return on the metrics port."""

import asyncio
import threading
from collections.abc import Callable
from typing import Protocol

from runtime.outages import KAFKA, POSTGRES, Outage

#: An event loop that has not turned for this long is reported as stuck. The largest batch blocks it for a few seconds.
_TURN_SECONDS_MAX = 10.0

#: Whether the check passed, and the body of the response.
HealthReport = tuple[bool, dict[str, str]]


class Health(Protocol):
    """The health of a process as seen from outside; called by the threads of `runtime.metrics.serve`."""

    def alive(self) -> HealthReport:
        """Whether the process is alive; if not, it should be restarted."""

    def ready(self) -> HealthReport:
        """Whether the process can work, and the state of each dependency by name. Always returns within seconds."""


def loop_report(loop: asyncio.AbstractEventLoop) -> HealthReport:
    """Check from another thread that the event loop turns; waits up to `_TURN_SECONDS_MAX`."""
    turned = threading.Event()
    loop.call_soon_threadsafe(turned.set)
    if turned.wait(_TURN_SECONDS_MAX):
        return True, {"status": "alive"}
    return False, {"status": "stuck", "loop": f"has not turned for {_TURN_SECONDS_MAX:g} s"}


class ProcessHealth:
    """The health of a worker or of the relay."""

    def __init__(self) -> None:
        #: Dependencies by name. Each check returns "ok", or why the process is not ready.
        self.checks: dict[str, Callable[[], str]] = {
            "kafka": self._check(KAFKA, "Kafka"),
            "postgres": self._check(POSTGRES, "Postgres"),
        }
        self._reached: set[str] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Report the process as alive only while this loop turns."""
        self._loop = loop

    def reached(self, service: str) -> None:
        """Note that the service has answered once: from now on only an outage makes the process not ready."""
        self._reached.add(service)

    def alive(self) -> HealthReport:
        """See `Health.alive`."""
        return (True, {"status": "alive"}) if self._loop is None else loop_report(self._loop)

    def ready(self) -> HealthReport:
        """See `Health.ready`."""
        report = {name: check() for name, check in self.checks.items()}
        is_ready = all(state == "ok" for state in report.values())
        return is_ready, {"status": "ready" if is_ready else "not ready", **report}

    def _check(self, outage: Outage, name: str) -> Callable[[], str]:
        def check() -> str:
            if outage.reason is not None:
                return f"unavailable: {outage.reason}"
            return "ok" if name in self._reached else "never reached"

        return check
