"""How a process ends when it must not go on."""

import logging
import os
import sys
from typing import NoReturn

#: EX_SOFTWARE: a bug, or a state that only a restart or a person can mend. The supervisor starts the process again.
EXIT_BUG = 70

_log = logging.getLogger(__name__)


def fatal(message: str, error: BaseException | None = None) -> NoReturn:
    """Say why, and end the process at once, before anything more is acknowledged.

    `os._exit` and not an exception: Faust would acknowledge the event that an exception leaves.
    """
    _log.critical(message, exc_info=error)
    logging.shutdown()
    sys.stderr.flush()
    os._exit(EXIT_BUG)
