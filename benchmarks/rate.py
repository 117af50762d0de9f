"""How many a second, counted from outside the processes that do the work."""

import time
from collections.abc import Callable
from typing import Any, LiteralString

import psycopg

_DEADLINE_S = 240.0


def counted(ledger: "psycopg.Connection[tuple[Any, ...]]", statement: LiteralString, *values: object) -> int:
    """The one number that a statement returns."""
    row = ledger.execute(statement, values or None).fetchone()
    return int((row or (0,))[0])


def per_second(count: Callable[[], int], wanted: int, *, poll_s: float) -> float:
    """The rate from the first look that sees some to the first that sees `wanted`.

    `count` says how many are done now, from 0. Raises `TimeoutError` if they are not `wanted` in time.
    """
    began, first = time.monotonic(), 0
    give_up_at = began + _DEADLINE_S
    while True:
        done, now = count(), time.monotonic()
        if done >= wanted:
            # Of a few, the first look that sees some may see all of them. Then `began` is still that of the last look
            # that saw none, at most one poll before there were any; otherwise no time would be left.
            return (done - first) / (now - began)
        if first == 0:
            began, first = now, done
        if now > give_up_at:
            raise TimeoutError(f"{done:,} of {wanted:,} after {_DEADLINE_S:g} s")
        time.sleep(poll_s)
