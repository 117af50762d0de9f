"""Lets a process run for a part of the time only.

`python -m chaos.slowed PID SHARE` stops and continues it by signals until standard input ends. It is a process of its
own because one that also generates load would signal late.
"""

import contextlib
import os
import select
import signal
import sys

_PERIOD_S = 0.1


def slow(pid: int, share: float, over_fd: int) -> None:
    """Let `pid` run for `share` of the time, until `over_fd` is readable; then it runs freely."""

    def is_over(seconds: float) -> bool:
        return bool(select.select([over_fd], [], [], seconds)[0])

    with contextlib.suppress(ProcessLookupError):
        try:
            while not is_over(_PERIOD_S * share):
                os.kill(pid, signal.SIGSTOP)
                if is_over(_PERIOD_S * (1 - share)):
                    break
                os.kill(pid, signal.SIGCONT)
        finally:
            os.kill(pid, signal.SIGCONT)


if __name__ == "__main__":
    slow(int(sys.argv[1]), float(sys.argv[2]), sys.stdin.fileno())
