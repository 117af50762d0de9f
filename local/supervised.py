"""The state of a supervisor's folder, for processes that inspect it from outside and for the next supervisor."""

import contextlib
import fcntl
import json
import os
import signal
import sys
from pathlib import Path
from typing import IO, Any

import psutil

from local.errors import StackError

#: Environment variable of our processes and their children, by which leftovers of a killed supervisor are recognised.
MARK = "_GAPLESS_SUPERVISED_IN"
#: Interval at which the state is rewritten even if unchanged, so that damage to the file is repaired.
STATE_EVERY_SECONDS = 5.0


class SuperviseError(StackError):
    """Processes cannot be started or supervised; the message is one line with the process and its log."""


def write_state(folder: Path, *, ready: bool, processes: list[dict[str, Any]]) -> None:
    """Write what runs in `folder`, with this process as its supervisor. Raises `OSError`, the file unchanged."""
    us = {"pid": os.getpid(), "start_time": start_time_of(os.getpid())}
    state = {"folder": _identity(folder), "supervisor": us, "ready": ready, "processes": processes}
    write_json(folder / "state.json", state)


def write_json(path: Path, value: Any) -> None:
    """Replace the file atomically and durably: readers see the old or the new content, also after a power failure.

    Raises `OSError`, the file unchanged.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with partial.open("w") as file:
            file.write(json.dumps(value, indent=1) + "\n")
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _identity(folder: Path) -> list[int]:
    """Distinguishes the folder from a copy of it; unchanged when the folder is renamed."""
    status = folder.stat()
    return [status.st_dev, status.st_ino]


def held(folder: Path, name: str) -> Path:
    """The marker file: while it exists, the supervisor does not restart the process `name`."""
    return folder / f"{name}.held"


def read_state(folder: Path) -> dict[str, Any] | None:
    """The state that the supervisor of `folder` wrote last; None if there is none.

    Also None if the state was copied from another folder, and if the file is damaged: a running supervisor rewrites it
    within `STATE_EVERY_SECONDS`.
    """
    try:
        state: dict[str, Any] = json.loads((folder / "state.json").read_text())
        its_own = state["folder"] == _identity(folder)
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        return None
    return state if its_own else None


def supervisor_pid(folder: Path) -> int | None:
    """The pid of the supervisor that runs in `folder`; None if none does."""
    state = read_state(folder)
    if state is None:
        return None
    pid, start_time = state["supervisor"]["pid"], state["supervisor"]["start_time"]
    return pid if _is_same_process(pid, start_time) else None


def take_folder(folder: Path) -> IO[str]:
    """Become the only supervisor of `folder` for as long as the returned file is open.

    Raises `SuperviseError` if another one runs. Processes that a killed supervisor left running are ended first.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "supervisor.lock").open("a")
    except OSError as error:
        raise SuperviseError(f"cannot write in {folder}: {error.strerror}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        end_leftovers(folder)
        write_state(folder, ready=False, processes=[])
    except BlockingIOError:
        lock.close()
        raise SuperviseError(f"a stack is already up in {folder}; `gapless down` stops it") from None
    except OSError as error:
        lock.close()
        raise SuperviseError(f"cannot write in {folder}: {error.strerror}") from None
    return lock


def end_leftovers(folder: Path, grace_seconds: float = 10.0) -> int:
    """End what a killed supervisor of `folder` left running; returns the number of processes.

    A recorded pid is only trusted with its start time, and a member of its process group only with `MARK`.
    """
    state = read_state(folder)
    if state is None or supervisor_pid(folder) not in (None, os.getpid()):
        return 0
    recorded = {p["pid"]: p for p in state["processes"] if p["pid"] is not None}
    left = [psutil.Process(pid) for pid, p in recorded.items() if _is_same_process(pid, p["start_time"])]
    known = {process.pid for process in left}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            grouped = process.pid not in known and os.getpgid(process.pid) in recorded
            if grouped and process.environ().get(MARK) == str(folder):
                left.append(process)
    # Stop in the reverse order of starting, as in `Supervisor`.
    for process in reversed(left):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(recorded.get(process.pid, {}).get("stop_signal", signal.SIGTERM))
            process.resume()
    for process in psutil.wait_procs(left, timeout=grace_seconds)[1]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, timeout=grace_seconds)
    return len(left)


def start_time_of(pid: int) -> float | None:
    """The start time of a process, only for comparison: the unit depends on the machine. None if it does not exist."""
    if sys.platform.startswith("linux"):
        # Ticks since boot. psutil adds the boot time, which changes when the clock is set.
        try:
            return float(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
        except (FileNotFoundError, ProcessLookupError):
            return None
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:
        return None


def _is_same_process(pid: int, start_time: float | None) -> bool:
    if start_time is None or start_time_of(pid) != start_time:
        return False
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return False
