"""Waiting for an answer, and only for as long as it could have been heard."""

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import Any, TypeVar

_Result = TypeVar("_Result")

_SLICES = 10
#: uvloop's words for a write to a connection that was reset; asyncio's own loop has a `ConnectionError` for it.
_RESET = "the handler is closed"


async def over_a_connection(call: Awaitable[_Result]) -> _Result:
    """What `call` returns; raises `ConnectionResetError` where its connection was gone before it was used."""
    try:
        return await call
    except RuntimeError as error:
        if _RESET not in str(error):
            raise
        raise ConnectionResetError("the connection was reset") from error


async def within(seconds: float, call: Coroutine[Any, Any, _Result]) -> _Result:
    """What `call` returns; raises `TimeoutError` when it took longer than that.

    Time in which this process did something else counts no more than a tenth: the answer may have come meanwhile and
    lie unread, and in a rush all calls would be taken for late at once.
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
