"""How a process ends when it must not continue."""

import asyncio
import logging
import os
import sys
import threading
from collections.abc import Callable
from typing import Any, NoReturn

#: EX_SOFTWARE: a bug, or a state that only a restart or an operator can repair. The supervisor restarts the process.
EXIT_BUG = 70

_log = logging.getLogger(__name__)


class StartRefusedError(Exception):
    """The stored data makes it unsafe to run, and a restart would not help: an operator must act.

    The message states what was found, what is required, and the command or runbook to use. The command line exits with
    1.
    """


def fatal(message: str, error: BaseException | None = None) -> NoReturn:
    """Log `message` and end the process with exit 70 at once, before it acknowledges anything more.

    It calls `os._exit` instead of raising, because Faust acknowledges an event when an exception leaves the agent.
    """
    _log.critical(message, exc_info=error)
    logging.shutdown()
    sys.stderr.flush()
    os._exit(EXIT_BUG)


def start_thread(name: str, target: Callable[..., None], *arguments: Any) -> threading.Thread:
    """Run `target` in a daemon thread; an exception that leaves it ends the process with exit 70.

    Otherwise the thread would end silently, and the process would continue without its work.
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
    """Done callback for a task that nothing awaits: ends the process if the task has failed."""
    if not task.cancelled() and task.exception() is not None:
        fatal(f"the task {task.get_name()} failed", task.exception())
