"""How a process ends when it must not go on."""

import asyncio
import logging
import os
import sys
import threading
from collections.abc import Callable
from typing import Any, NoReturn

#: EX_SOFTWARE: a bug, or a state that only a restart or a person can mend. The supervisor starts the process again.
EXIT_BUG = 70

_log = logging.getLogger(__name__)


class StartRefusedError(Exception):
    """Running on what the servers hold would do harm, and starting again doesn't help: a person must act.

    The message says what was found, what is needed, and the command or the runbook. The command line exits with 1.
    """


def fatal(message: str, error: BaseException | None = None) -> NoReturn:
    """Say why, and end the process at once, before anything more is acknowledged.

    `os._exit` and not an exception: Faust would acknowledge the event that an exception leaves.
    """
    _log.critical(message, exc_info=error)
    logging.shutdown()
    sys.stderr.flush()
    os._exit(EXIT_BUG)


def start_thread(name: str, target: Callable[..., None], *arguments: Any) -> threading.Thread:
    """Run `target` in a daemon thread; an exception that leaves it ends the process with exit 70.

    Without this the thread ends alone, and the process goes on without what the thread did.
    """

    def run() -> None:
        try:
            target(*arguments)
        except BaseException as error:  # noqa: BLE001
            fatal(f"the thread {name} failed", error)

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread


def end_if_failed(task: "asyncio.Task[Any]") -> None:
    """End the process where a task that nobody awaits has failed; to be given to `add_done_callback`."""
    if not task.cancelled() and task.exception() is not None:
        fatal(f"the task {task.get_name()} failed", task.exception())
