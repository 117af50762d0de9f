"""Outages of services in the log: one line when an outage begins, one with its duration when it ends.

Every caller of a service reports each failure and each answer. All callers in a process share one `Outage` per
service, so that a hundred retries by twelve callers are two lines.
"""

import logging
from collections.abc import Callable
from threading import Lock
from time import monotonic

_log = logging.getLogger(__name__)

#: Minimum time between two logged outages: a service that fails for one caller and answers another begins and ends an
#: outage with every call.
QUIET_SECONDS = 10.0
#: A failing Kafka client reports several failures a second, so this long without one means that it works again.
SILENT_SECONDS = 5.0


class Outage:
    """Whether one service is unavailable, as observed by this process. Thread-safe."""

    def __init__(self, service: str, clock: Callable[[], float] = monotonic) -> None:
        """`service` is the name used in the log."""
        self._service = service
        self._clock = clock
        self._lock = Lock()
        self._began_at: float | None = None
        self._failures = 0
        self._is_logged = False
        self._quiet_until = clock()
        self._failed_at = 0.0
        self._reason = ""

    @property
    def reason(self) -> str | None:
        """Why the service is unavailable, in one line, during a logged outage; None otherwise."""
        return self._reason if self._is_logged else None

    def failed(self, reason: object) -> None:
        """Report a failed call. The first line of `reason` is logged if an outage begins with it."""
        kind = f"{type(reason).__name__}: " if isinstance(reason, BaseException) else ""
        first_line = next(iter(str(reason).splitlines()), "")
        with self._lock:
            now = self._failed_at = self._clock()
            self._reason = f"{kind}{first_line}"
            if self._began_at is None:
                self._began_at, self._failures = now, 0
            self._failures += 1
            if self._is_logged or now < self._quiet_until:
                return
            self._is_logged = True
        _log.warning("%s is unavailable: %s", self._service, f"{kind}{first_line}")

    def answered(self) -> None:
        """Report an answered call. Costs almost nothing outside an outage."""
        if self._began_at is None:
            return
        with self._lock:
            if self._began_at is None:
                return
            now = self._clock()
            seconds, failures, is_logged = now - self._began_at, self._failures, self._is_logged
            self._began_at, self._is_logged = None, False
            if is_logged:
                self._quiet_until = now + QUIET_SECONDS
        if is_logged:
            fields = {"outage_seconds": round(seconds, 1), "failures": failures}
            _log.warning("%s is available again after %.1f s", self._service, seconds, extra=fields)

    def look_for_silence(self) -> None:
        """End the outage after `SILENT_SECONDS` without a failure; for clients that report no success."""
        if self._began_at is not None and self._clock() - self._failed_at > SILENT_SECONDS:
            self.answered()


POSTGRES = Outage("Postgres")
KAFKA = Outage("Kafka")
REDIS = Outage("Redis")
OBJECT_STORE = Outage("the object store")
PROVIDER = Outage("the payment provider")
COLLECTOR = Outage("the collector of traces")
