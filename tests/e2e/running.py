"""A stack under test: its parts by name, to be asked, waited for, and killed."""

import asyncio
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import psycopg

from audit.backlog import is_drained
from audit.report import AuditReport
from audit.run import run_audit
from audit.store import open_reader
from local.stack import READY_SECONDS_MAX, Stack
from producers.client import GaplessClient
from runtime.kafka import TopicError
from runtime.settings import Settings

DRAIN_S_MAX = 300.0
_POLL_S = 0.05
#: Of a process that is slowed down: how long it runs, and how long it then stands still. Short enough for it to answer.
_RUNS_S, _STANDS_S = 0.05, 0.2


def wait_for(condition: Callable[[], bool], what: str, seconds_max: float) -> None:
    """Return when `condition` holds; fail with `what` if it doesn't in time."""
    give_up_at = time.monotonic() + seconds_max
    while not condition():
        assert time.monotonic() < give_up_at, f"not within {seconds_max:g} s: {what}"
        time.sleep(_POLL_S)


class Ended(NamedTuple):
    """How a command ended, and what it said."""

    code: int
    output: str
    error: str


class Running:
    """A stack that is up."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        status = stack.status()
        self.url: str = status["endpoints"]["gateway"]
        self.api_key: str = status["api_key"]
        self.settings: Settings = stack.settings()
        #: The page of the mail server's inbox.
        self.inbox: str = status["endpoints"]["inbox"]
        #: The link that lets a browser in.
        self.dashboard: str = status["endpoints"]["dashboard"]
        self.monitor_url = self.dashboard.partition("/login")[0]
        self.monitor_token = self.dashboard.partition("token=")[2]
        self.postgres_url = self.settings.postgres_url.get_secret_value()

    def client(self, connections: int = 32, give_up_after_s: float = 60.0) -> GaplessClient:
        """A storefront."""
        return GaplessClient(self.url, self.api_key, connections=connections, give_up_after_s=give_up_after_s)

    async def gapless(self, *arguments: str) -> Ended:
        """Run the command line on this stack."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "gapless",
            *arguments,
            "--data",
            str(self._stack.data),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, error = await process.communicate()
        return Ended(process.returncode or 0, output.decode(), error.decode())

    @contextlib.contextmanager
    def ledger(self) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
        """Its Postgres, each statement for itself."""
        with psycopg.connect(self.postgres_url, autocommit=True) as connection:
            yield connection

    def logs(self) -> dict[str, list[str]]:
        """The lines of each log, by the process's name."""
        folder = self._stack.data / "logs"
        return {log.stem: log.read_text(errors="replace").splitlines() for log in folder.glob("*.log")}

    def kill(self, name: str) -> None:
        """End a process at once; the supervisor starts it again."""
        pid = self._stack.process_pid(name)
        assert pid is not None, f"{name} does not run"
        os.kill(pid, signal.SIGKILL)

    @contextlib.contextmanager
    def stopped(self, name: str) -> Iterator[None]:
        """A process stands still, and goes on after the block."""
        pid = self._stack.process_pid(name)
        assert pid is not None, f"{name} is down"
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    @contextlib.contextmanager
    def slowed(self, name: str) -> Iterator[None]:
        """A process stands still four fifths of the time: what it does takes long enough to be looked at."""
        pid = self._stack.process_pid(name)
        assert pid is not None, f"{name} is down"
        over = threading.Event()

        def slow_down() -> None:
            while not over.wait(_RUNS_S):
                os.kill(pid, signal.SIGSTOP)
                over.wait(_STANDS_S)
                os.kill(pid, signal.SIGCONT)

        slowing = threading.Thread(target=slow_down)
        slowing.start()
        try:
            yield
        finally:
            over.set()
            slowing.join()

    def wait_until_ready(self) -> None:
        """All processes run and say they are ready."""
        wait_for(lambda: bool(self._stack.status()["ready"]), "the stack is ready", READY_SECONDS_MAX)

    def wait_until_drained(self) -> None:
        """Every request handled, every event published, every document stored."""
        wait_for(self.is_drained, "everything is handled, published and stored", DRAIN_S_MAX)

    def is_drained(self) -> bool:
        """Whether nothing is on its way now, as far as can be told."""
        with self.ledger() as ledger:
            try:
                return is_drained(ledger, self.settings.kafka_bootstrap)
            except TopicError:
                return False

    def audit(self) -> AuditReport:
        """The audit's verdict, with nothing on its way."""
        self.wait_until_ready()
        self.wait_until_drained()
        return self.audit_as_it_is(complete=True)

    def audit_as_it_is(self, *, complete: bool = False) -> AuditReport:
        """The audit's verdict, whatever is on its way."""
        return run_audit(
            self.postgres_url,
            self.settings.kafka_bootstrap,
            open_reader(self.settings),
            complete=complete,
            provider_url=self.settings.provider_url,
        )

    def assert_clean(self) -> AuditReport:
        """Fail with what the audit found, if anything."""
        report = self.audit()
        assert report.clean, "\n".join(f"{each.check} {each.where}: {each.what}" for each in report.shown())
        return report
