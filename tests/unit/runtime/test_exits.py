"""Failures in threads and tasks end the process."""

import subprocess
import sys

_PROGRAM = """
import threading
from runtime.exits import start_thread

def fail():
    raise LookupError("what it worked with is gone")

start_thread("helper", fail)
threading.Event().wait(20)
"""


def test_an_error_in_a_thread_ends_the_process_as_a_bug() -> None:
    """The exit status is 70, so that the supervisor restarts it, and the log has the reason."""
    ended = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 70
    assert "the thread helper failed" in ended.stderr
    assert "LookupError: what it worked with is gone" in ended.stderr


def test_a_thread_that_ends_by_itself_ends_nothing_else() -> None:
    """Neither the process nor its exit status is affected."""
    program = "from runtime.exits import start_thread\nstart_thread('helper', print, 'done').join()\n"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout) == (0, "done\n")


def test_an_error_in_a_task_that_nobody_awaits_ends_the_process_as_a_bug() -> None:
    """A cancelled task has not failed."""
    program = """
import asyncio
from runtime.exits import end_if_failed

async def fail():
    raise LookupError("what it worked with is gone")

async def main():
    cancelled = asyncio.create_task(asyncio.sleep(20))
    cancelled.add_done_callback(end_if_failed)
    cancelled.cancel()
    await asyncio.wait({cancelled})
    print("goes on", flush=True)
    asyncio.create_task(fail(), name="helper").add_done_callback(end_if_failed)
    await asyncio.sleep(20)

asyncio.run(main())
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout) == (70, "goes on\n")
    assert "the task helper failed" in ended.stderr
