"""The payment provider as the peers call it: once for an order, under its id, so that a repeat charges nobody twice."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Self

import aiohttp

from benchmarks.peers.shop import totals

#: Its answers: authorised, declined.
_OK, _DECLINED = 200, 402


class Provider:
    """The simulator, `python -m local.provider`."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str) -> AsyncIterator[Self]:
        """As many connections as there are buyers who pay."""
        async with aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(limit=0)) as session:
            yield cls(session)

    async def authorize(self, body: Mapping[str, Any]) -> bool:
        """Whether the buyer pays. Raises `RuntimeError` for any other answer."""
        order_id = body["order_id"]
        asked = {
            "key": f"peer:{order_id}",
            "amount_minor": totals(body).gross_minor,
            "currency": body["currency"],
            "token": body["payment_token"],
            "metadata": {"seller_id": "peer", "order_id": order_id},
        }
        async with self._session.post("/payments", json=asked) as answer:
            if answer.status not in (_OK, _DECLINED):
                raise RuntimeError(f"{order_id}: the provider answers {answer.status}")
            return answer.status == _OK
