"""Products that a seller changes all the time, and buyers who look at them; what both are told is recorded."""

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from chaos.record import Offered
from chaos.world import World

#: The local stack's.
_SELLER_ID = "demo"
_PRODUCTS = 6
_BUYERS = 4
_PAUSE_S_MAX = 0.2
#: The share of changes after which a product stays as it is for some time.
_RESTS = 0.1
_REST_S_MAX = 10.0
_TIMEOUT_S = 5.0
_FOUND_SECONDS_MAX = 180.0
#: To buyers, the rest is a failure of ours.
_HONEST = frozenset((200, 503))


@asynccontextmanager
async def selling(world: World) -> AsyncIterator["Shelf"]:
    """A shelf in use while the block runs; after it, the index has all that was put.

    Faults may begin once each product is there, and must have ended with the block.
    """
    async with aiohttp.ClientSession(world.url, timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S)) as session:
        shelf = Shelf(world, session)
        await asyncio.gather(*(shelf.put(each) for each in shelf.offered))
        at_work = asyncio.gather(*shelf.work())
        try:
            yield shelf
        finally:
            shelf.close()
            await at_work
        await shelf.until_found()


class Shelf:
    """Each product has one writer, who changes only the version that it knows, each time to another price."""

    def __init__(self, world: World, session: aiohttp.ClientSession) -> None:
        self.world = world
        self.offered = [Offered(f"{world.prefix}-product-{number}") for number in range(_PRODUCTS)]
        world.record.offered.update({each.product_id: each for each in self.offered})
        #: Answers to buyers, by status; 0 for none.
        self.statuses: dict[int, int] = {}
        self._session = session
        self._headers = {"Authorization": f"Bearer {world.api_key}"}
        self._is_open = True
        self._chance = random.Random(f"{world.seed}/shelf")

    def work(self) -> list[Any]:
        """The writers and buyers, until `close`."""
        return [*(self._write(each) for each in self.offered), *(self._buy() for _ in range(_BUYERS))]

    def close(self) -> None:
        """Nothing more is put or looked at."""
        self._is_open = False

    async def put(self, offered: Offered) -> None:
        """Change the product to a new price. Without an answer it is read which version it has now."""
        price = f"{len(offered.prices) + 1}.00"
        body = {
            "texts": [{"language": "en", "name": offered.product_id}],
            "currency": "EUR",
            "vat_category": "S",
            "vat_rate": "20.00",
            "variants": [{"sku": f"{offered.product_id}-sku", "unit_price": price}],
        }
        known = max(offered.accepted, default=0)
        headers = {"If-Match": f'"{known}"'} if known else {"If-None-Match": "*"}
        offered.prices.append(price)
        path = f"/v1/products/{offered.product_id}"
        status, answer = await self._ask("PUT", path, {**self._headers, **headers}, json.dumps(body))
        while status not in (200, 201) and self._is_open:
            # What was asked for may have been done, or be done yet: then the next change is refused, and is read again.
            await self._pause()
            status, answer = await self._ask("GET", path, self._headers)
            if status == 404:
                return
        if status in (200, 201):
            offered.accepted[answer["version"]] = answer["variants"][0]["unit_price"]

    async def until_found(self) -> None:
        """Wait until the index has all that was put. The judge then looks at what buyers find."""
        left = dict.fromkeys(each.product_id for each in self.offered)
        give_up_at = time.monotonic() + _FOUND_SECONDS_MAX
        while left and time.monotonic() < give_up_at:
            for offered in [each for each in self.offered if each.product_id in left]:
                path = f"/v1/catalogue/{_SELLER_ID}/search?q={offered.product_id}"
                status, answer = await self._ask("GET", path, {})
                known = max(offered.accepted, default=0)
                hits = answer["hits"] if status == 200 else []
                if any(each["product_id"] == offered.product_id and each["version"] >= known for each in hits):
                    del left[offered.product_id]
            await self._pause()
        if left:
            self.world.found.append(f"not within {_FOUND_SECONDS_MAX:g} s in the search index: {', '.join(left)}")

    async def _write(self, offered: Offered) -> None:
        while self._is_open:
            await self.put(offered)
            # A change that is followed by no other is not made good by the next one.
            await self._rest() if self._chance.random() < _RESTS else await self._pause()

    async def _buy(self) -> None:
        while self._is_open:
            offered = self._chance.choice(self.offered)
            path = f"/v1/catalogue/{_SELLER_ID}/products/{offered.product_id}"
            status, answer = await self._ask("GET", path, {})
            self.statuses[status] = self.statuses.get(status, 0) + 1
            if status == 200:
                offered.shown.add((answer["version"], answer["variants"][0]["unit_price"]))
            elif status and status not in _HONEST:
                self.world.found.append(f"{path} was answered with {status} {answer}")
            await self._pause()

    async def _ask(self, method: str, path: str, headers: dict[str, str], body: str | None = None) -> tuple[int, Any]:
        """The status and the answer; 0 without one."""
        try:
            async with self._session.request(method, path, data=body, headers=headers) as answer:
                return answer.status, await answer.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return 0, {}

    async def _rest(self) -> None:
        begins_at = time.monotonic()
        seconds = self._chance.uniform(1, _REST_S_MAX)
        while self._is_open and time.monotonic() - begins_at < seconds:
            await self._pause()

    async def _pause(self) -> None:
        await asyncio.sleep(self._chance.uniform(0, _PAUSE_S_MAX))
