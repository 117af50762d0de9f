"""The same checkout as a DBOS workflow: DBOS records each step in Postgres, and does the rest after a crash.

The steps are plain ones that may be repeated. DBOS' transactions, which are recorded with what they write, need two
more queries each.
"""

import asyncio
from typing import Any

from dbos import DBOS, SetWorkflowID

from benchmarks.peers.provider import Provider
from benchmarks.peers.serving import Given, given, serve
from benchmarks.peers.shop import Shop


async def _run(arguments: Given) -> None:
    async with Shop.open(arguments.postgres_url) as shop, Provider.open(arguments.provider_url) as provider:
        DBOS(config={"name": "peer", "system_database_url": arguments.postgres_url, "log_level": "WARNING"})

        @DBOS.step()
        async def place(body: dict[str, Any]) -> bool:
            return await shop.place(body)

        @DBOS.step()
        async def authorize(body: dict[str, Any]) -> bool:
            return await provider.authorize(body)

        @DBOS.step()
        async def cancel(body: dict[str, Any]) -> None:
            await shop.cancel(body)

        @DBOS.step()
        async def confirm(body: dict[str, Any]) -> int:
            return await shop.confirm(body)

        @DBOS.workflow()
        async def check_out(body: dict[str, Any]) -> tuple[int, int | None]:
            if not await place(body):
                return 409, None
            if not await authorize(body):
                await cancel(body)
                return 402, None
            return 201, await confirm(body)

        async def start(body: dict[str, Any]) -> tuple[int, int | None]:
            with SetWorkflowID(body["order_id"]):
                return await check_out(body)

        DBOS.launch()
        await serve(arguments.port, shop.put_stock, checkouts=start)
        DBOS.destroy()


if __name__ == "__main__":
    asyncio.run(_run(given()))
