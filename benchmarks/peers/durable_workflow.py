"""The same checkout as a DBOS workflow: each step is recorded in Postgres, and after a crash the rest is done.

As DBOS' manual writes it: a workflow under the order's id, of steps that may be repeated. The same options as
`benchmarks.peers.synchronous`.
"""

import asyncio
import json
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from aiohttp import web
from dbos import DBOS, SetWorkflowID

from benchmarks.peers.common import OutOfStockError, release, reserve, store, take_number
from benchmarks.peers.provider import Provider
from benchmarks.peers.serving import Given, Pool, parse, serve

_RUNNING: dict[str, Any] = {}


@DBOS.step()
async def place(body: dict[str, Any]) -> bool:
    """Reserve the stock, once: the order's row says whether it was. False where there is not enough."""
    async with _pool().connection() as connection:
        try:
            async with connection.transaction():
                cursor = await connection.execute(
                    "INSERT INTO orders (order_id, state, body, gross_minor) VALUES (%s, 'PENDING', %s, 0)"
                    " ON CONFLICT DO NOTHING",
                    (body["order_id"], json.dumps(body)),
                )
                if cursor.rowcount:
                    await reserve(connection, body)
        except OutOfStockError:
            return False
    return True


@DBOS.step()
async def authorize(body: dict[str, Any]) -> bool:
    """Ask the provider, under the order's key."""
    provider: Provider = _RUNNING["provider"]
    return await provider.authorize(body)


@DBOS.step()
async def cancel(body: dict[str, Any]) -> None:
    """Give the stock back, once."""
    async with _pool().connection() as connection, connection.transaction():
        cursor = await connection.execute(
            "UPDATE orders SET state = 'CANCELLED' WHERE order_id = %s AND state = 'PENDING'", (body["order_id"],)
        )
        if cursor.rowcount:
            await release(connection, body)


@DBOS.step()
async def confirm(body: dict[str, Any]) -> int:
    """Take the number, once."""
    async with _pool().connection() as connection, connection.transaction():
        cursor = await connection.execute(
            "SELECT number FROM orders WHERE order_id = %s FOR UPDATE", (body["order_id"],)
        )
        row = await cursor.fetchone()
        if row is not None and row[0] is not None:
            return int(row[0])
        number = await take_number(connection)
        await connection.execute(
            "UPDATE orders SET state = 'CONFIRMED', number = %s WHERE order_id = %s", (number, body["order_id"])
        )
    return number


@DBOS.step()
async def document(body: dict[str, Any], number: int) -> None:
    """Make the PDF and note it."""
    given: Given = _RUNNING["given"]
    if given.data is None:
        return
    loop = asyncio.get_running_loop()
    name = await loop.run_in_executor(_RUNNING["renderers"], store, given.data, body, number)
    async with _pool().connection() as connection:
        await connection.execute("UPDATE orders SET document = %s WHERE order_id = %s", (name, body["order_id"]))


@DBOS.workflow()
async def checkout(body: dict[str, Any]) -> tuple[int, int]:
    """The status to answer with, and the number, 0 without one."""
    if not await place(body):
        return 409, 0
    if not await authorize(body):
        await cancel(body)
        return 402, 0
    number = await confirm(body)
    await document(body, number)
    return 201, number


def _pool() -> Pool:
    pool: Pool = _RUNNING["pool"]
    return pool


async def _handle(request: web.Request) -> web.Response:
    body: dict[str, Any] = json.loads(await request.read())
    with SetWorkflowID(body["order_id"]):
        status, number = await checkout(body)
    return web.json_response({"order_id": body["order_id"], "number": number}, status=status)


async def _run(given: Given) -> None:
    with ProcessPoolExecutor(given.renderers) as renderers:
        DBOS(config={"name": "peer", "system_database_url": given.postgres, "log_level": "WARNING"})
        async with Pool(given.postgres) as pool:
            provider = Provider(given.provider, given.provider_key)
            _RUNNING.update(given=given, pool=pool, provider=provider, renderers=renderers)
            DBOS.launch()
            await serve(given, pool, _handle)
            DBOS.destroy()
            await provider.close()


if __name__ == "__main__":
    asyncio.run(_run(parse()))
