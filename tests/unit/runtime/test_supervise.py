"""The supervisor, with trivial processes. It runs in a process of its own, which can be killed like a real one."""

import contextlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from local.supervise import BACKOFF_SECONDS_MAX, ProcessSpec, _reason, backoff_seconds, start_levels
from local.supervised import SuperviseError, end_leftovers, held, read_state, supervisor_pid, take_folder

SLEEPER = 'import time; print("up", flush=True); time.sleep(600)'
DEAF = 'import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print("up", flush=True); time.sleep(600)'
SILENT = "import time; time.sleep(600)"
PARENT = 'import subprocess, sys, time; subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]); \
time.sleep(600)'


@pytest.fixture
def supervise(tmp_path: Path) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Run a supervisor over specs, given as Python code; kill what is left at the end."""
    started: list[subprocess.Popen[str]] = []

    def start(specs: str) -> subprocess.Popen[str]:
        code = textwrap.dedent("""
            import asyncio, signal, sys
            from pathlib import Path
            from local.supervise import ProcessSpec, Supervisor
            from local.supervised import SuperviseError, take_folder

            folder = Path(sys.argv[1])
            def python(name, code, **how):
                return ProcessSpec(name, name, (sys.executable, "-c", code), **how)
            async def run(specs):
                await Supervisor(folder, specs, lambda line: print(line, file=sys.stderr, flush=True)).run()
            try:
                with take_folder(folder):
                    asyncio.run(run(SPECS))
            except SuperviseError as error:
                sys.exit(str(error))
        """).replace("SPECS", specs)
        process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stderr=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
    end_leftovers(tmp_path, grace_seconds=1)


def until(folder: Path, wanted: Callable[[dict[str, Any]], bool], seconds: float = 60) -> dict[str, Any]:
    """Wait until the state meets `wanted`, and return it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        state = read_state(folder)
        if state is not None and wanted(state):
            return state
        time.sleep(0.01)
    raise AssertionError(f"not so within {seconds} s: {read_state(folder)}")


def ready(state: dict[str, Any]) -> bool:
    return bool(state["ready"])


def pid_of(state: dict[str, Any], name: str) -> int:
    return next(int(p["pid"]) for p in state["processes"] if p["name"] == name)


def alive(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return False


def test_the_first_restart_is_at_once_and_later_ones_wait_longer_up_to_a_limit() -> None:
    """A killed process is needed at once; one that cannot run must not consume the machine's CPU."""
    delays = [backoff_seconds(n) for n in range(1, 12)]
    assert delays[:4] == [0, 0.5, 1, 2]
    assert delays == sorted(delays)
    assert delays[-1] == BACKOFF_SECONDS_MAX


def test_what_waits_for_others_starts_after_them() -> None:
    """Levels follow from `after` only, not from the order of the table."""
    specs = [ProcessSpec("c", "c", (), after=("a", "b")), ProcessSpec("b", "b", (), after=("a",))]
    assert start_levels([*specs, ProcessSpec("a", "a", ())]) == {"a": 0, "b": 1, "c": 2}


@pytest.mark.parametrize(
    ("specs", "said"),
    [
        ([("a", ("a",))], "a waits for itself"),
        ([("a", ("b",)), ("b", ("a",))], "waits for itself"),
        ([("a", ("x",))], "a waits for x, which does not exist"),
        ([("a", ()), ("a", ())], "two processes are called a"),
    ],
)
def test_a_table_that_can_never_start_is_refused(specs: list[tuple[str, tuple[str, ...]]], said: str) -> None:
    """The error comes before anything runs."""
    with pytest.raises(SuperviseError, match=said):
        start_levels([ProcessSpec(name, name, (), after=after) for name, after in specs])


def test_a_killed_process_is_back_at_once(tmp_path: Path, supervise: Callable[[str], subprocess.Popen[str]]) -> None:
    """The state and the log report it."""
    supervisor = supervise(f"[python('a', {SLEEPER!r}), python('b', {SLEEPER!r}, after=('a',))]")
    state = until(tmp_path, ready)
    other, killed = pid_of(state, "b"), pid_of(state, "a")
    os.kill(killed, signal.SIGKILL)
    state = until(tmp_path, lambda s: ready(s) and pid_of(s, "a") != killed)
    assert pid_of(state, "b") == other
    assert [p["restarts"] for p in state["processes"]] == [1, 0]
    supervisor.terminate()
    _, said = supervisor.communicate(timeout=60)
    assert "a ended (signal 9); restarting it in 0 s" in said


def test_what_is_held_down_starts_again_at_once_however_often(
    tmp_path: Path, supervise: Callable[[str], subprocess.Popen[str]]
) -> None:
    """It was ended on purpose, which does not count as a failure."""
    supervisor = supervise(f"[python('a', {SLEEPER!r})]")
    for _ in range(4):
        killed = pid_of(until(tmp_path, ready), "a")
        held(tmp_path, "a").touch()
        os.kill(killed, signal.SIGKILL)
        until(tmp_path, lambda s: s["processes"][0]["state"] == "backoff")
        held(tmp_path, "a").unlink()
        until(tmp_path, ready)
    supervisor.terminate()
    _, said = supervisor.communicate(timeout=60)
    assert said.count("a ended (signal 9); restarting it in 0 s") == 4


def test_stopping_ends_everything_also_what_is_deaf_or_frozen(
    tmp_path: Path, supervise: Callable[[str], subprocess.Popen[str]]
) -> None:
    """Dependents first; SIGKILL after the grace period; a process stopped by SIGSTOP is continued first."""
    supervisor = supervise(
        f"[python('a', {SLEEPER!r}), python('deaf', {DEAF!r}, stop_grace_seconds=0.3, after=('a',)),"
        f" python('frozen', {SLEEPER!r}, after=('a',)), python('parent', {PARENT!r})]"
    )
    state = until(tmp_path, ready)
    pids = [p["pid"] for p in state["processes"]]
    time.sleep(0.3)
    os.kill(pid_of(state, "frozen"), signal.SIGSTOP)
    pids += [child.pid for child in psutil.Process(pid_of(state, "parent")).children()]
    assert len(pids) == 5
    supervisor.send_signal(signal.SIGINT)
    _, said = supervisor.communicate(timeout=60)
    assert supervisor.returncode == 0
    assert "deaf did not stop" in said
    assert not [pid for pid in pids if alive(pid)]
    assert {p["state"] for p in (read_state(tmp_path) or {})["processes"]} == {"stopped"}


def test_nothing_outlives_a_killed_supervisor(
    tmp_path: Path, supervise: Callable[[str], subprocess.Popen[str]]
) -> None:
    """The next supervisor ends what is left, except for a pid that now belongs to another program."""
    supervisor = supervise(f"[python('a', {DEAF!r}), python('parent', {PARENT!r})]")
    state = until(tmp_path, ready)
    time.sleep(0.3)
    pids = [p["pid"] for p in state["processes"]]
    pids += [child.pid for child in psutil.Process(pid_of(state, "parent")).children()]
    supervisor.kill()
    supervisor.wait()
    with take_folder(tmp_path):
        assert not [pid for pid in pids if alive(pid)]


def test_a_pid_that_was_given_to_a_stranger_is_left_alone(
    tmp_path: Path, supervise: Callable[[str], subprocess.Popen[str]]
) -> None:
    """A recorded pid is trusted only with its start time."""
    supervisor = supervise(f"[python('a', {SLEEPER!r})]")
    until(tmp_path, ready)
    supervisor.kill()
    supervisor.wait()
    with subprocess.Popen([sys.executable, "-c", SLEEPER]) as stranger:
        text = (tmp_path / "state.json").read_text()
        recorded = pid_of(read_state(tmp_path) or {}, "a")
        (tmp_path / "state.json").write_text(text.replace(f'"pid": {recorded}', f'"pid": {stranger.pid}'))
        assert end_leftovers(tmp_path, grace_seconds=1) == 0
        assert alive(stranger.pid)
        stranger.kill()


def test_what_cannot_start_ends_the_start_with_its_last_words(
    tmp_path: Path, supervise: Callable[[str], subprocess.Popen[str]]
) -> None:
    """The error is one line with the process, its exit, its last output and its log. The others are stopped."""
    supervisor = supervise(
        f"[python('fine', {SLEEPER!r}), python('once', 'import sys; sys.exit(\"no such table\")', once=True)]"
    )
    _, said = supervisor.communicate(timeout=60)
    assert supervisor.returncode == 1
    assert said.splitlines()[-1] == (
        f"once does not start (exit 1): no such table; see {tmp_path / 'logs' / 'once.log'}"
    )
    assert {p["state"] for p in (read_state(tmp_path) or {})["processes"]} == {"stopped"}


def test_one_folder_has_one_supervisor(tmp_path: Path, supervise: Callable[[str], subprocess.Popen[str]]) -> None:
    """The second one is refused, and changes nothing."""
    supervise(f"[python('a', {SLEEPER!r})]")
    state = until(tmp_path, ready)
    with pytest.raises(SuperviseError, match="already up"):
        take_folder(tmp_path)
    assert alive(pid_of(state, "a"))


def test_a_copy_of_a_running_folder_runs_nothing(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, supervise: Callable[[str], subprocess.Popen[str]]
) -> None:
    """The copied state names processes of the original, which the copy must not end; a renamed folder runs on."""
    supervisor = supervise(f"[python('a', {SLEEPER!r})]")
    child = pid_of(until(tmp_path, ready), "a")
    copy = tmp_path_factory.mktemp("copies") / "copy"
    shutil.copytree(tmp_path, copy)
    assert supervisor_pid(copy) is None
    assert end_leftovers(copy, grace_seconds=1) == 0
    assert alive(child)
    renamed = tmp_path.rename(tmp_path.with_name("renamed"))
    try:
        assert supervisor_pid(renamed) == supervisor.pid
    finally:
        renamed.rename(tmp_path)


@pytest.mark.parametrize("damaged", ["", '{"supervisor": {"pi', "[]", "{}"])
def test_a_damaged_state_is_written_again(
    tmp_path: Path, supervise: Callable[[str], subprocess.Popen[str]], damaged: str
) -> None:
    """Until then it names no processes, and no other supervisor gets the folder."""
    supervisor = supervise(f"[python('a', {SLEEPER!r})]")
    until(tmp_path, ready)
    (tmp_path / "state.json").write_text(damaged)
    with pytest.raises(SuperviseError, match="already up"):
        take_folder(tmp_path)
    until(tmp_path, ready)
    assert supervisor_pid(tmp_path) == supervisor.pid


def test_on_a_full_disk_the_supervisor_goes_on(
    tmp_path: Path, supervise: Callable[[str], subprocess.Popen[str]]
) -> None:
    """It can write neither state nor logs, restarts processes nevertheless, and writes once there is space."""
    supervisor = supervise(f"[python('a', {SILENT!r})]")
    killed = pid_of(until(tmp_path, ready), "a")
    unlimited = resource.RLIM_INFINITY
    psutil.Process(supervisor.pid).rlimit(psutil.RLIMIT_FSIZE, (0, unlimited))
    (tmp_path / "logs" / "a.log").unlink()
    os.kill(killed, signal.SIGKILL)
    give_up_at = time.monotonic() + 60
    while not [each for each in psutil.Process(supervisor.pid).children() if each.pid != killed]:
        assert supervisor.poll() is None, supervisor.communicate()
        assert time.monotonic() < give_up_at
        time.sleep(0.01)
    psutil.Process(supervisor.pid).rlimit(psutil.RLIMIT_FSIZE, (unlimited, unlimited))
    assert pid_of(until(tmp_path, lambda state: ready(state) and pid_of(state, "a") != killed), "a") != killed
    assert supervisor.poll() is None


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([], "it wrote no output"),
        (["one", "two"], "two"),
        (["gapless: a: wrong", "gapless: b: wrong"], "a: wrong; b: wrong"),
        (["gapless: of another time", "other", "gapless: a: wrong"], "a: wrong"),
        (['{"level": "critical", "event": "topic x is gone"}'], "topic x is gone"),
        (["[1]"], "[1]"),
    ],
)
def test_why_a_process_ended_is_what_it_said_last(lines: list[str], reason: str) -> None:
    """The reason is one line, shown to whoever started the stack."""
    assert _reason(lines) == reason
