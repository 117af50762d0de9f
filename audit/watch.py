"""The auditor as a process: a full audit, then a round every few seconds, until a violation is found."""

import contextlib
import logging
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import TypeVar

from prometheus_client import Counter, Gauge

from audit.follow import OUTAGES, Follower, Services
from audit.report import CHECKS, AuditReport
from audit.store import open_reader, open_sizes
from audit.waiting import WAITS
from runtime import metrics
from runtime.exits import fatal
from runtime.metrics import REGISTRY
from runtime.settings import Settings

# Not below `sinks`, whose loggers suppress repeats: each violation must have its line.
_log = logging.getLogger("audit")

VIOLATIONS = Gauge(
    "gapless_audit_violations", "Violations that the last round found; 0 is good.", ["check"], registry=REGISTRY
)
ROUNDS = Counter("gapless_audit_rounds_total", "Rounds finished.", registry=REGISTRY)
ROUND_SECONDS = Gauge(
    "gapless_audit_round_seconds",
    "Duration of the last round; above `--every`, the auditor falls behind.",
    registry=REGISTRY,
)
ROWS = Counter("gapless_audit_rows_total", "Postgres rows checked.", registry=REGISTRY)
RECORDS = Counter("gapless_audit_records_total", "Topic records checked.", registry=REGISTRY)
UNCHECKED = Gauge(
    "gapless_audit_unchecked_seconds", "Upper bound of the age of the oldest row not yet checked.", registry=REGISTRY
)
CLEAN_AT = Gauge("gapless_audit_clean_timestamp_seconds", "Start time of the last clean round.", registry=REGISTRY)
OUTAGE_ROUNDS = Counter(
    "gapless_audit_outages_total", "Rounds abandoned because a service was unavailable.", registry=REGISTRY
)
WAITING = Gauge("gapless_audit_waiting", "Items legitimately in progress.", ["what"], registry=REGISTRY)
WAITING_SECONDS = Gauge(
    "gapless_audit_waiting_seconds", "Time for which the oldest of them has waited.", ["what"], registry=REGISTRY
)

EXIT_VIOLATIONS = 1
#: How long the process waits for a scrape of its violations before it ends: four usual scrape intervals.
_SCRAPE_S_MAX = 60.0
_BACKOFF_S_MAX = 30.0

_Result = TypeVar("_Result")


class _Stopped(BaseException):
    """Raised by a signal handler to end the process; it only reads, so it has nothing to finish."""


def run(
    settings: Settings,
    *,
    every_seconds: float,
    wait_seconds_max: float,
    tell: Callable[[AuditReport], None] | None = None,
) -> int:
    """Follow until SIGTERM, and return 0, or until a violation is found, and return 1; `tell` gets each report."""

    def end(_: int, __: FrameType | None) -> None:
        raise _Stopped

    metrics.serve(settings.metrics_host, settings.metrics_port)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    try:
        return Watch(settings, every_seconds, wait_seconds_max, tell or (lambda report: None)).run()
    except _Stopped:
        return 0
    except Exception as error:  # noqa: BLE001
        # Exit status 1 means violations, so any other failure must have another status.
        fatal("the audit can't continue", error)


class Watch:
    """Runs rounds, waits during outages, and reports violations."""

    def __init__(
        self, settings: Settings, every_seconds: float, wait_seconds_max: float, tell: Callable[[AuditReport], None]
    ) -> None:
        self._settings = settings
        self._every_s = every_seconds
        self._wait_s_max = wait_seconds_max
        self._tell = tell
        self._pause = threading.Event()
        #: Set once Prometheus has scraped the result of the last round.
        self._scraped = threading.Event()
        #: When the last round began, and when the last clean one did: everything committed before the latter is
        #: checked.
        self._began = self._checked_at = time.time()
        UNCHECKED.set_function(lambda: time.time() - self._checked_at)
        for check in CHECKS:
            VIOLATIONS.labels(check).set(0)

    def run(self) -> int:
        """Run rounds; returns 1 when a violation is found."""
        follower = self._persist(self._open)
        report = self._persist(lambda: follower.begin(lambda step: _log.info("full audit: %s", step)))
        while self._take(follower, report):
            self._pause.wait(max(0.0, self._every_s - report.seconds))
            report = self._persist(follower.check)
            ROUNDS.inc()
            ROUND_SECONDS.set(report.seconds)
            ROWS.inc(report.counts["rows"])
            RECORDS.inc(report.counts["topic records"])
        follower.close()
        if self._settings.metrics_port:
            with contextlib.suppress(_Stopped):
                self._scraped.wait(_SCRAPE_S_MAX)
        return EXIT_VIOLATIONS

    def _open(self) -> Follower:
        settings = self._settings
        services = Services(
            settings.postgres_url.get_secret_value(),
            settings.kafka_bootstrap,
            open_reader(settings),
            open_sizes(settings),
        )
        return Follower(services, wait_seconds_max=self._wait_s_max, every_seconds=self._every_s)

    def _persist(self, work: Callable[[], _Result]) -> _Result:
        """Call `work`, and repeat it while a service is unavailable."""
        pause_s = min(1.0, self._every_s)
        while True:
            began = time.time()
            try:
                result = work()
            except OUTAGES as error:
                OUTAGE_ROUNDS.inc()
                first_line = next(iter(str(error).splitlines()), type(error).__name__)
                _log.warning("the audit waits for a service: %s", first_line)
                self._pause.wait(pause_s)
                pause_s = min(2 * pause_s, _BACKOFF_S_MAX)
            else:
                self._began = began
                return result

    def _take(self, follower: Follower, report: AuditReport) -> bool:
        """Publish the result of a round; returns whether it is clean."""
        self._tell(report)
        for check in CHECKS:
            VIOLATIONS.labels(check).set(report.violations[check])
        ages = follower.waiting.ages()
        for what in WAITS:
            count, seconds = ages.get(what, (0, 0.0))
            WAITING.labels(what).set(count)
            WAITING_SECONDS.labels(what).set(seconds)
        self._scraped = metrics.next_scrape()
        if report.clean:
            self._checked_at = self._began
            CLEAN_AT.set(self._began)
            return True
        for violation in report.shown():
            place = {"check": violation.check, "where": violation.where, "what": violation.what}
            _log.error("violation", extra=place)
        _log.critical("the audit found %d violations and ends", report.violations.total())
        return False
