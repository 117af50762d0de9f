"""A benchmark run that is ended from outside."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

_RUN = """
import pathlib, sys, time
from benchmarks import __main__ as benchmarks

file = pathlib.Path(sys.argv.pop())

def waits():
    try:
        print("runs", flush=True)
        time.sleep(600)
    finally:
        file.write_text("ended what it started")

benchmarks.BENCHMARKS["waits"] = waits
sys.argv.append("waits")
benchmarks.main()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_a_benchmark_started_ends_with_it(number: signal.Signals, tmp_path: Path) -> None:
    """Also where the run was started in the background, which ignores SIGINT: peers would look for their database."""
    file = tmp_path / "ended"
    command = [sys.executable, "-c", _RUN, str(file)]
    # As a shell does with what it starts in the background.
    ignored = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        started = subprocess.Popen(command, stdout=subprocess.PIPE)
    finally:
        signal.signal(signal.SIGINT, ignored)
    with started as run:
        assert run.stdout is not None
        while b"runs" not in run.stdout.readline():
            pass
        run.send_signal(number)
        assert run.wait(60) != 0
    assert file.read_text() == "ended what it started"
