"""What every peer needs to be a process: its settings, its connections, and the two routes."""

import argparse
import asyncio
import contextlib
import json
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiohttp import web
from psycopg import AsyncConnection

from benchmarks.peers.common import OPTIONS, PUT_STOCK, TABLES

#: More only queue at the counter's row.
_CONNECTIONS = 16


@dataclass(frozen=True, slots=True)
class Given:
    """How a peer was started."""

    port: int
    postgres: str
    provider: str
    provider_key: str
    #: Where documents go; without it none are made.
    data: Path | None
    renderers: int


def parse() -> Given:
    """Of the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--postgres", required=True)
    parser.add_argument("--provider", required=True)
    parser.add_argument("--provider-key-file", type=Path, required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--renderers", type=int, default=2)
    given = parser.parse_args()
    key = given.provider_key_file.read_text().strip()
    return Given(given.port, given.postgres, given.provider, key, given.data, given.renderers)


class Pool:
    """Connections that are lent to one user at a time."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._free: asyncio.Queue[AsyncConnection[Any]] = asyncio.Queue()
        self._all: list[AsyncConnection[Any]] = []

    async def __aenter__(self) -> Self:
        for _ in range(_CONNECTIONS):
            connection = await AsyncConnection.connect(self._url, autocommit=True, options=OPTIONS)
            self._all.append(connection)
            self._free.put_nowait(connection)
        async with self.connection() as connection:
            await connection.execute(TABLES)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for connection in self._all:
            await connection.close()

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[AsyncConnection[Any]]:
        """One of them, for the block."""
        connection = await self._free.get()
        try:
            yield connection
        finally:
            self._free.put_nowait(connection)


async def serve(given: Given, pool: Pool, checkout: Callable[[web.Request], Awaitable[web.Response]]) -> None:
    """Until SIGTERM."""

    async def put_stock(request: web.Request) -> web.Response:
        on_hand = json.loads(await request.read())["on_hand"]
        async with pool.connection() as connection:
            await connection.execute(PUT_STOCK, {"sku": request.match_info["sku"], "on_hand": on_hand})
        return web.json_response({})

    app = web.Application()
    app.add_routes([web.put("/v1/stock/{sku}", put_stock), web.post("/v1/checkouts", checkout)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", given.port).start()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await runner.cleanup()
