"""Work on Postgres beside the batches, however long Postgres is unavailable."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from runtime.outages import POSTGRES
from sinks.postgres.session import OUTAGES, Connection, Session

_Result = TypeVar("_Result")

_PAUSE_FIRST_S = 0.05
_PAUSE_MAX_S = 1.0


async def patiently(
    session: Session, act: Callable[[Connection], Awaitable[_Result]], *, in_transaction: bool = False
) -> _Result:
    """Do it until it is done. It may have been done before, where the answer was lost."""
    pause_s = _PAUSE_FIRST_S
    while True:
        try:
            async with session.pipelined_transaction() if in_transaction else session.connection() as connection:
                done = await act(connection)
        except OUTAGES as error:
            POSTGRES.failed(error)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _PAUSE_MAX_S)
        else:
            POSTGRES.answered()
            return done
