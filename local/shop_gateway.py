"""The gateway's HTTP interface as the demo shop calls it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import msgspec


class ShopError(Exception):
    """The gateway refused something; `problem` is its answer."""

    def __init__(self, problem: Mapping[str, Any]) -> None:
        super().__init__(problem.get("detail", problem.get("title", "")))
        self.problem = problem

    @property
    def type(self) -> str:
        """The last part of the problem's type."""
        return str(self.problem.get("type", "")).rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class Gateway:
    """The HTTP interface, with the seller's key."""

    session: aiohttp.ClientSession
    url: str
    key: str

    async def call(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """The decoded answer, None without one. Raises `ShopError`."""
        data = None if body is None else msgspec.json.encode(body)
        answer, content_type = await self.raw(method, path, data, **headers)
        return msgspec.json.decode(answer) if content_type.endswith("json") and answer else None

    async def raw(self, method: str, path: str, data: bytes | None = None, **headers: str) -> tuple[bytes, str]:
        """The answer's bytes and media type. Raises `ShopError`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        named["Authorization"] = f"Bearer {self.key}"
        try:
            async with self.session.request(method, self.url + path, data=data, headers=named) as response:
                body = await response.read()
        except aiohttp.ClientError:
            raise ShopError({"title": "The gateway is unavailable", "status": 503}) from None
        if response.status >= 400:
            raise ShopError(msgspec.json.decode(body))
        return body, response.content_type
