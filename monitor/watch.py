"""Measures once a second in a thread, and tells each measurement to those who listen."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import psycopg

from monitor.figures import Measurement, ProbeFigures, ProcessFigures
from monitor.meter import Meter, open_meter
from runtime.exits import StartRefusedError, start_thread
from runtime.kafka import TopicError
from runtime.settings import Settings

_log = logging.getLogger(__name__)

#: From the beginning of one measurement to that of the next: what is shown is at most a second old.
MEASURE_EVERY_SECONDS = 0.9


class Watch:
    """The thread that measures."""

    def __init__(
        self,
        settings: Settings,
        reports: Callable[[], tuple[ProcessFigures, ...]],
        probe: Callable[[], ProbeFigures | None],
        tell: Callable[[Measurement], None],
    ) -> None:
        """All three are called in the thread; `tell` with each measurement."""
        self._settings = settings
        self._reports = reports
        self._probe = probe
        self._tell = tell
        self._stop = threading.Event()
        self._meter: Meter | None = None
        self._outage = ""
        self._thread: threading.Thread | None = None
        self._told_at: float | None = None
        #: The last one; None before the first.
        self.latest: Measurement | None = None

    def start(self) -> None:
        """Begin to measure."""
        self._thread = start_thread("watch", self._go_on)

    def stop(self) -> None:
        """Measure no more, and let all connections go."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def age_seconds(self) -> float | None:
        """How old the last measurement is, that of an outage included; None before the first."""
        return None if self._told_at is None else time.monotonic() - self._told_at

    def _go_on(self) -> None:
        try:
            while not self._stop.is_set():
                began_at = time.monotonic()
                self._measure()
                self._stop.wait(max(0.0, MEASURE_EVERY_SECONDS - (time.monotonic() - began_at)))
        finally:
            if self._meter is not None:
                self._meter.close()

    def _measure(self) -> None:
        try:
            if self._meter is None:
                self._meter = open_meter(self._settings)
            measurement = replace(self._meter.measure(self._reports()), probe=self._probe())
        except (TopicError, StartRefusedError, psycopg.Error) as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            if not self._outage:
                _log.warning("nothing can be measured: %s", reason)
            self._outage = reason
            if self.latest is None:
                return
            measurement = replace(self.latest, outage=reason, processes=self._reports(), probe=self._probe())
        else:
            if self._outage:
                _log.warning("measures again")
            self._outage = ""
        self.latest = measurement
        self._told_at = time.monotonic()
        self._tell(measurement)
