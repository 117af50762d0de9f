"""What both services need to be processes: arguments, routes, and a line on standard output once they listen."""

import argparse
import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

READY = "ready"

#: Body → the status and the number to answer with; no number for what was refused.
Handler = Callable[[dict[str, Any]], Awaitable[tuple[int, int | None]]]
_decoder = msgspec.json.Decoder(dict[str, Any])


@dataclass(frozen=True, slots=True)
class Given:
    """The arguments of a process."""

    port: int
    postgres_url: str
    provider_url: str
    #: Where PDFs go; None to make none.
    documents: Path | None


def given() -> Given:
    """From the command line; the database, whose URL has a password, from PEER_POSTGRES."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--provider", required=True)
    parser.add_argument("--documents", type=Path)
    arguments = parser.parse_args()
    return Given(arguments.port, os.environ["PEER_POSTGRES"], arguments.provider, arguments.documents)


async def serve(port: int, put_stock: Callable[[str, int], Awaitable[None]], **handlers: Handler) -> None:
    """Until SIGTERM; `handlers` by the last part of the path to which is posted. Processes may share the port."""

    async def put(request: web.Request) -> web.Response:
        await put_stock(request.match_info["sku"], _decoder.decode(await request.read())["on_hand"])
        return web.Response()

    app = web.Application()
    app.add_routes([web.put("/v1/stock/{sku}", put)])
    app.add_routes([web.post(f"/v1/{name}", _answering(handler)) for name, handler in handlers.items()])
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, reuse_port=True).start()
    print(READY, flush=True)
    await stop.wait()
    await runner.cleanup()


def _answering(handler: Handler) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(request: web.Request) -> web.Response:
        body = _decoder.decode(await request.read())
        status, number = await handler(body)
        told = msgspec.json.encode({"order_id": body["order_id"], "number": number})
        return web.Response(status=status, body=told, content_type="application/json")

    return answer
