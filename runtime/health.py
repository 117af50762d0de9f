"""Whether a process lives, and whether it is ready: what `/healthz` and `/readyz` say beside its metrics."""

import asyncio
import threading
from collections.abc import Callable
from typing import Protocol

from runtime.outages import KAFKA, POSTGRES, Outage

#: A loop that doesn't turn for so long doesn't live. The largest batch takes it a few seconds.
_TURN_SECONDS_MAX = 10.0

#: Whether all is well, and the body that says so.
HealthReport = tuple[bool, dict[str, str]]


class Health(Protocol):
    """How a process is, as it is seen from outside; asked by the threads of `runtime.metrics.serve`."""

    def alive(self) -> HealthReport:
        """Whether the process lives; otherwise a restart is what helps."""

    def ready(self) -> HealthReport:
        """Whether it can do its work, each thing that it needs by name. Answers within some seconds, whatever hangs."""


def loop_report(loop: asyncio.AbstractEventLoop) -> HealthReport:
    """Whether the loop turns, from another thread; waits for it up to `_TURN_SECONDS_MAX`."""
    turned = threading.Event()
    loop.call_soon_threadsafe(turned.set)
    if turned.wait(_TURN_SECONDS_MAX):
        return True, {"status": "alive"}
    return False, {"status": "stuck", "loop": f"has not turned for {_TURN_SECONDS_MAX:g} s"}


class ProcessHealth:
    """The health of a worker or of the relay."""

    def __init__(self) -> None:
        #: What it needs, by name: each returns "ok", or why the process is not ready.
        self.checks: dict[str, Callable[[], str]] = {
            "kafka": self._check(KAFKA, "Kafka"),
            "postgres": self._check(POSTGRES, "Postgres"),
        }
        self._reached: set[str] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """From now on the process lives as long as this loop turns."""
        self._loop = loop

    def reached(self, service: str) -> None:
        """The service has been there, so that what is missing from now on is an outage."""
        self._reached.add(service)

    def alive(self) -> HealthReport:
        """As `Health` has it."""
        return (True, {"status": "alive"}) if self._loop is None else loop_report(self._loop)

    def ready(self) -> HealthReport:
        """As `Health` has it."""
        report = {name: check() for name, check in self.checks.items()}
        is_ready = all(state == "ok" for state in report.values())
        return is_ready, {"status": "ready" if is_ready else "not ready", **report}

    def _check(self, outage: Outage, name: str) -> Callable[[], str]:
        def check() -> str:
            if outage.reason is not None:
                return f"unavailable: {outage.reason}"
            return "ok" if name in self._reached else "never reached"

        return check
