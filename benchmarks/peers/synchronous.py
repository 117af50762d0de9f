"""The synchronous service: everything is done before the answer, and numbers come from a counter's row.

Two transactions a checkout, because no row may stay locked while the provider is asked. The PDF is made by another
process, so that it keeps no other request waiting.
"""

import asyncio
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import uvloop

from benchmarks.peers.page import store
from benchmarks.peers.provider import Provider
from benchmarks.peers.serving import Given, given, serve
from benchmarks.peers.shop import Shop


async def _run(arguments: Given, renderer: ProcessPoolExecutor) -> None:
    async with Shop.open(arguments.postgres_url) as shop, Provider.open(arguments.provider_url) as provider:

        async def check_out(body: dict[str, Any]) -> tuple[int, int | None]:
            if not await shop.place(body):
                return 409, None
            if not await provider.authorize(body):
                await shop.cancel(body)
                return 402, None
            return 201, await documented(body, await shop.confirm(body))

        async def issue(body: dict[str, Any]) -> tuple[int, int | None]:
            return 200, await documented(body, await shop.issue(body))

        async def documented(body: dict[str, Any], number: int) -> int:
            if arguments.documents is not None:
                await asyncio.get_running_loop().run_in_executor(renderer, store, arguments.documents, body, number)
            return number

        await serve(arguments.port, shop.put_stock, checkouts=check_out, invoices=issue)


def main() -> None:
    """One of the service's processes, with one that renders."""
    with ProcessPoolExecutor(1) as renderer:
        uvloop.run(_run(given(), renderer))


if __name__ == "__main__":
    main()
