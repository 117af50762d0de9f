"""A synchronous checkout: reserve, pay, then number, document and answer while the buyer waits.

Two transactions, because no row may stay locked while the provider is asked: the first reserves the stock, the second
takes the number from the counter's row. The PDF is made by a pool of processes between the commit and the answer.

`python -m benchmarks.peers.synchronous --help` lists what it is told.
"""

import asyncio
import json
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import uvloop
from aiohttp import web
from psycopg import AsyncConnection

from benchmarks.peers.common import OutOfStockError, release, reserve, store, take_number
from benchmarks.peers.provider import Provider
from benchmarks.peers.serving import Given, Pool, parse, serve


class Synchronous:
    """The handlers."""

    def __init__(self, given: Given, pool: Pool, provider: Provider, renderers: ProcessPoolExecutor) -> None:
        self._given = given
        self._pool = pool
        self._provider = provider
        self._renderers = renderers

    async def checkout(self, request: web.Request) -> web.Response:
        """201 once everything is done."""
        body: dict[str, Any] = json.loads(await request.read())
        try:
            async with self._pool.connection() as connection, connection.transaction():
                if not await _place(connection, body):
                    return web.json_response({"error": "this order is known"}, status=409)
                await reserve(connection, body)
        except OutOfStockError as error:
            return web.json_response({"error": f"out of stock: {error}"}, status=409)
        if not await self._provider.authorize(body):
            async with self._pool.connection() as connection, connection.transaction():
                await release(connection, body)
                await _finish(connection, body, "CANCELLED", None)
            return web.json_response({"error": "declined"}, status=402)
        async with self._pool.connection() as connection, connection.transaction():
            number = await take_number(connection)
            await _finish(connection, body, "CONFIRMED", number)
        if self._given.data is not None:
            loop = asyncio.get_running_loop()
            name = await loop.run_in_executor(self._renderers, store, self._given.data, body, number)
            async with self._pool.connection() as connection:
                await connection.execute(
                    "UPDATE orders SET document = %s WHERE order_id = %s", (name, body["order_id"])
                )
        return web.json_response({"order_id": body["order_id"], "state": "CONFIRMED", "number": number}, status=201)


async def _place(connection: AsyncConnection[Any], body: dict[str, Any]) -> bool:
    cursor = await connection.execute(
        "INSERT INTO orders (order_id, state, body, gross_minor) VALUES (%s, 'PENDING', %s, 0) ON CONFLICT DO NOTHING",
        (body["order_id"], json.dumps(body)),
    )
    return cursor.rowcount == 1


async def _finish(connection: AsyncConnection[Any], body: dict[str, Any], state: str, number: int | None) -> None:
    await connection.execute(
        "UPDATE orders SET state = %s, number = %s WHERE order_id = %s", (state, number, body["order_id"])
    )


async def _run(given: Given) -> None:
    with ProcessPoolExecutor(given.renderers) as renderers:
        async with Pool(given.postgres) as pool:
            provider = Provider(given.provider, given.provider_key)
            handlers = Synchronous(given, pool, provider, renderers)
            await serve(given, pool, handlers.checkout)
            await provider.close()


if __name__ == "__main__":
    uvloop.run(_run(parse()))
