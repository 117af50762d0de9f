"""Starts processes in order, restarts those that end, and stops all of them in reverse order.

A supervisor owns one folder: it writes `state.json` (what runs there, for other processes to read) and `logs/NAME.log`.
It reacts to SIGCHLD when a process ends, and does not poll.
"""

import asyncio
import contextlib
import ctypes
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import IO

from local.supervised import MARK, STATE_EVERY_SECONDS, SuperviseError, held, start_time_of, write_state

#: A process that ran this long counts as stable: its next end counts as the first.
PROVEN_AFTER_SECONDS = 30.0
BACKOFF_SECONDS_MAX = 10.0
#: While the stack starts, a process that ends this often in a row without being ready counts as failed.
START_ATTEMPTS_MAX = 4
READY_CHECK_EVERY_SECONDS = 0.2
READY_CHECK_SECONDS_MAX = 2.0
HELD_CHECK_EVERY_SECONDS = 0.05
LOG_BYTES_MAX = 16 * 1024 * 1024
LOG_CHECK_EVERY_SECONDS = 10.0
#: Length of a reported reason, one line.
REASON_CHARACTERS_MAX = 600
_OURS = "gapless: "
_PR_SET_PDEATHSIG = 1
_STOPPERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class ProcessState(StrEnum):
    """The state of a process according to its supervisor."""

    #: Also while it waits for the processes before it; it has no pid then.
    STARTING = "starting"
    RUNNING = "running"
    BACKOFF = "backoff"
    STOPPED = "stopped"


@dataclass(frozen=True)
class ProcessSpec:
    """One process: how it is started, when it is ready, and how it is stopped."""

    name: str
    role: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    #: Names of the processes that must be ready, or done if they run once, before this one starts.
    after: tuple[str, ...] = ()
    #: Checks whether the process is ready; `OSError` or `EOFError` means not yet. None: ready once started.
    ready: Callable[[], Awaitable[bool]] | None = None
    #: The process runs once, and must end with exit 0.
    once: bool = False
    stop_signal: signal.Signals = signal.SIGTERM
    #: Time from the stop signal to SIGKILL.
    stop_grace_seconds: float = 10.0
    #: Sent by the kernel if the supervisor itself is killed (Linux only).
    orphan_signal: signal.Signals = signal.SIGKILL
    cwd: Path | None = None
    user: int | None = None
    group: int | None = None


def backoff_seconds(ends_in_a_row: int) -> float:
    """Seconds to wait before the next start: 0 the first time, then 0.5, doubling up to 10."""
    if ends_in_a_row <= 1:
        return 0.0
    return min(0.5 * 2.0 ** (ends_in_a_row - 2), BACKOFF_SECONDS_MAX)


def start_levels(specs: Iterable[ProcessSpec]) -> dict[str, int]:
    """Name → number of steps after the first at which the process starts. Stopping goes from highest to lowest.

    Raises `SuperviseError` for a name that is unknown, duplicate, or waits for itself.
    """
    table: dict[str, ProcessSpec] = {}
    for spec in specs:
        if spec.name in table:
            raise SuperviseError(f"two processes are called {spec.name}")
        table[spec.name] = spec
    levels: dict[str, int] = {}

    def level(name: str, above: tuple[str, ...]) -> int:
        if name not in table:
            raise SuperviseError(f"{above[-1]} waits for {name}, which does not exist")
        if name in above:
            raise SuperviseError(f"{name} waits for itself")
        if name not in levels:
            levels[name] = 1 + max((level(n, (*above, name)) for n in table[name].after), default=-1)
        return levels[name]

    for name in table:
        level(name, ())
    return levels


@dataclass
class _Child:
    """The supervisor's record of one process."""

    spec: ProcessSpec
    state: ProcessState = ProcessState.STARTING
    process: subprocess.Popen[bytes] | None = None
    start_time: float | None = None
    started_at: float = 0.0
    restarts: int = 0
    ends_in_a_row: int = 0
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class Supervisor:
    """Runs the processes of one folder. Use it on the main thread: it handles SIGCHLD, SIGINT and SIGTERM."""

    def __init__(
        self,
        folder: Path,
        specs: Iterable[ProcessSpec],
        say: Callable[[str], None],
        on_ready: Callable[[], None] = lambda: None,
    ) -> None:
        self._folder = folder
        self._say = say
        self._on_ready = on_ready
        specs = tuple(specs)
        self._levels = start_levels(specs)
        self._children = {spec.name: _Child(spec) for spec in specs}
        self._stopping = asyncio.Event()
        self._failure: SuperviseError | None = None
        self._all_ready = False

    def stop(self) -> None:
        """Request that all processes are stopped; `run` then returns."""
        self._stopping.set()

    async def run(self) -> None:
        """Start all processes and keep them running until `stop`, SIGINT or SIGTERM.

        Raises `SuperviseError` if a process cannot be started; all processes are stopped by then.
        """
        (self._folder / "logs").mkdir(parents=True, exist_ok=True)
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGCHLD, self._reap)
        for stopper in _STOPPERS:
            loop.add_signal_handler(stopper, self.stop)
        tasks = [asyncio.create_task(self._keep(child)) for child in self._children.values()]
        tasks += [asyncio.create_task(each()) for each in (self._announce_ready, self._bound_logs, self._keep_state)]
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            pending = {*tasks, stopping}
            while not stopping.done():
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    # A failure of the supervisor itself must not leave a part of the stack running.
                    if task is not stopping and task.exception() is not None:
                        raise task.exception() or SuperviseError("unknown")
                if self._failure is not None:
                    raise self._failure
        finally:
            for task in (*tasks, stopping):
                task.cancel()
            await asyncio.gather(*tasks, stopping, return_exceptions=True)
            await self._stop_all()
            self._write_state()
            for number in (signal.SIGCHLD, *_STOPPERS):
                loop.remove_signal_handler(number)

    async def _keep(self, child: _Child) -> None:
        """Start the process when those before it are ready, and restart it each time it ends."""
        for name in child.spec.after:
            await self._children[name].ready.wait()
        while True:
            self._start(child)
            watch = asyncio.create_task(self._watch_ready(child))
            try:
                await child.ended.wait()
            finally:
                watch.cancel()
            status = child.process.returncode if child.process else 0
            if child.spec.once and status == 0:
                self._set(child, ProcessState.STOPPED)
                child.ready.set()
                return
            # A held process was ended on purpose, so its end does not count as a failure.
            wanted = held(self._folder, child.spec.name).exists()
            if wanted or time.monotonic() - child.started_at >= PROVEN_AFTER_SECONDS:
                child.ends_in_a_row = 0
            child.ends_in_a_row += 1
            if child.spec.once or (not child.ready.is_set() and child.ends_in_a_row >= START_ATTEMPTS_MAX):
                self._failure = SuperviseError(
                    f"{child.spec.name} does not start ({_end(status)}): {self._last_words(child)}; "
                    f"see {self._log(child)}"
                )
                return
            delay = backoff_seconds(child.ends_in_a_row)
            child.restarts += 1
            # After a signal the process's last output says nothing about the cause.
            why = f": {self._last_words(child)}" if status > 0 else ""
            self._tell(f"{child.spec.name} ended ({_end(status)}){why}; restarting it in {delay:g} s")
            self._set(child, ProcessState.BACKOFF)
            await asyncio.sleep(delay)
            # Polled: the hold is released by another process, which can't set an event here.
            while held(self._folder, child.spec.name).exists():  # noqa: ASYNC110
                await asyncio.sleep(HELD_CHECK_EVERY_SECONDS)

    def _start(self, child: _Child) -> None:
        spec = child.spec
        log = self._log(child)
        _bound(log)
        child.ended.clear()
        with _appended(log) as output:
            child.process = subprocess.Popen(  # noqa: S603
                spec.argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **spec.env, MARK: str(self._folder)},
                cwd=spec.cwd,
                user=spec.user,
                group=spec.group,
                extra_groups=None if spec.user is None else [],
                # A session of its own: Ctrl-C reaches only the supervisor, and the process's children can be ended with
                # it.
                start_new_session=True,
                # Safe here because the supervisor has one thread.
                preexec_fn=_end_with_parent(spec.orphan_signal),
            )
        child.start_time = start_time_of(child.process.pid)
        child.started_at = time.monotonic()
        self._set(child, ProcessState.STARTING)
        # It may have ended before its pid was known here.
        self._reap()

    async def _watch_ready(self, child: _Child) -> None:
        if child.spec.once:
            return
        check = child.spec.ready
        while check is not None:
            with contextlib.suppress(OSError, EOFError, TimeoutError):
                if await asyncio.wait_for(check(), READY_CHECK_SECONDS_MAX):
                    break
            await asyncio.sleep(READY_CHECK_EVERY_SECONDS)
        if child.ended.is_set():
            return
        self._set(child, ProcessState.RUNNING)
        child.ready.set()
        if child.restarts:
            self._tell(f"{child.spec.name} is running again after {time.monotonic() - child.started_at:.1f} s")

    async def _announce_ready(self) -> None:
        for child in self._children.values():
            await child.ready.wait()
        self._all_ready = True
        self._write_state()
        self._on_ready()

    async def _bound_logs(self) -> None:
        while True:
            await asyncio.sleep(LOG_CHECK_EVERY_SECONDS)
            for log in (self._folder / "logs").glob("*.log"):
                _bound(log)

    async def _keep_state(self) -> None:
        while True:
            await asyncio.sleep(STATE_EVERY_SECONDS)
            self._write_state()

    def _reap(self) -> None:
        for child in self._children.values():
            process = child.process
            if process is not None and not child.ended.is_set() and process.poll() is not None:
                # Processes that it started itself, such as a pool of renderers, must not outlive it.
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
                child.ended.set()

    async def _stop_all(self) -> None:
        for level in sorted(set(self._levels.values()), reverse=True):
            names = [name for name, its in self._levels.items() if its == level]
            await asyncio.gather(*(self._stop(self._children[name]) for name in names))

    async def _stop(self, child: _Child) -> None:
        process = child.process
        if process is not None and process.poll() is None:
            # A process stopped by SIGSTOP handles the signal only after SIGCONT.
            for number in (child.spec.stop_signal, signal.SIGCONT):
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(number)
            try:
                await asyncio.wait_for(child.ended.wait(), child.spec.stop_grace_seconds)
            except TimeoutError:
                self._tell(f"{child.spec.name} did not stop within {child.spec.stop_grace_seconds:g} s: killed")
                process.kill()
                await child.ended.wait()
        self._set(child, ProcessState.STOPPED)

    def _set(self, child: _Child, state: ProcessState) -> None:
        child.state = state
        self._write_state()

    def _write_state(self) -> None:
        processes = [
            {
                "name": child.spec.name,
                "role": child.spec.role,
                "pid": child.process.pid if child.process and not child.ended.is_set() else None,
                "start_time": child.start_time,
                "stop_signal": int(child.spec.stop_signal),
                "state": child.state.value,
                "restarts": child.restarts,
            }
            for child in self._children.values()
            if not child.spec.once
        ]
        running = all(p["state"] == ProcessState.RUNNING for p in processes)
        # On a full disk the stack and its supervisor continue; the state is written later.
        with contextlib.suppress(OSError):
            write_state(self._folder, ready=self._all_ready and running, processes=processes)

    def _tell(self, line: str) -> None:
        """Report a line, and ignore failures: the output may be a file on a full disk."""
        with contextlib.suppress(OSError):
            self._say(line)

    def _log(self, child: _Child) -> Path:
        return self._folder / "logs" / f"{child.spec.name}.log"

    def _last_words(self, child: _Child) -> str:
        try:
            lines = self._log(child).read_text(errors="replace").strip().splitlines()
        except FileNotFoundError:
            lines = []
        return _reason(lines)


def _end(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"exit {status}"


def _reason(lines: Sequence[str]) -> str:
    """The reason that a process gave for its end in its last output, as one line."""
    said = [line.removeprefix(_OURS) for line in lines if line.startswith(_OURS)]
    if lines and said and lines[-1].startswith(_OURS):
        # A command that refuses to start reports each problem in a line of its own.
        run = itertools.takewhile(lambda line: line.startswith(_OURS), reversed(lines))
        return "; ".join(said[-len(list(run)) :])[:REASON_CHARACTERS_MAX]
    last = lines[-1] if lines else "it wrote no output"
    with contextlib.suppress(ValueError):
        entry = json.loads(last)
        if isinstance(entry, dict) and "event" in entry:
            last = str(entry["event"])
    return last[:REASON_CHARACTERS_MAX]


def _appended(log: Path) -> IO[bytes]:
    """The log, opened for appending; /dev/null if a full disk has no room for a new file."""
    try:
        return log.open("ab")
    except OSError:
        return Path(os.devnull).open("ab")


def _bound(log: Path) -> None:
    """Limit a log to twice `LOG_BYTES_MAX`. It is truncated and not moved, because the process has it open.

    On a full disk it stays as it is until there is room for the copy.
    """
    with contextlib.suppress(OSError):
        if log.exists() and log.stat().st_size > LOG_BYTES_MAX:
            shutil.copyfile(log, log.with_suffix(".log.1"))
            os.truncate(log, 0)


def _end_with_parent(number: signal.Signals) -> Callable[[], None] | None:
    """For `preexec_fn`: request that the kernel sends `number` when the supervisor is killed."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    parent = os.getpid()

    def ask() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return ask
