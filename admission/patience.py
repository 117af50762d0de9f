"""Time limits for calls that do not count the time in which this process was busy with other work."""

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import Any, TypeVar

_Result = TypeVar("_Result")

_SLICES = 10
#: uvloop's error for a write to a connection that was reset; asyncio's own loop raises `ConnectionError`.
_RESET = "the handler is closed"


async def over_a_connection(call: Awaitable[_Result]) -> _Result:
    """The result of `call`; raises `ConnectionResetError` if its connection was lost before it was used."""
    try:
        return await call
    except RuntimeError as error:
        if _RESET not in str(error):
            raise
        raise ConnectionResetError("the connection was reset") from error


async def within(seconds: float, call: Coroutine[Any, Any, _Result]) -> _Result:
    """The result of `call`; raises `TimeoutError` if it takes longer than `seconds`.

    Each block of time in which this process was busy counts at most as a tenth of the limit: the answer may have
    arrived meanwhile and be unread. Otherwise all calls in a rush would time out at once.
    """
    task = asyncio.get_running_loop().create_task(call)
    try:
        for _ in range(_SLICES):
            await asyncio.wait({task}, timeout=seconds / _SLICES)
            if task.done():
                return task.result()
        raise TimeoutError
    finally:
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
