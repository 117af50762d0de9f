"""Asks the search workers: one of them, and another where the first does not answer."""

import asyncio
from collections.abc import Sequence
from itertools import count
from time import monotonic

import aiohttp
import msgspec
from prometheus_client import Counter

from domain.breaker import Breaker, Gate
from domain.search import SearchQuestion
from runtime.metrics import REGISTRY

#: How long one worker is waited for: a search takes some milliseconds.
_ANSWER_SECONDS_MAX = 1.0
_OPEN_SECONDS = 1.0
_CONNECTIONS_MAX = 64
_REFUSED = 422


class _Refusal(msgspec.Struct):
    field: str
    error: str


_refusal = msgspec.json.Decoder(_Refusal)

FAILURES = Counter(
    "gapless_gateway_search_failures_total", "Questions that a search worker did not answer.", registry=REGISTRY
)


class SearchUnavailableError(Exception):
    """No search worker has answered."""


class SearchRefusedError(Exception):
    """A field of the question breaks a rule, as only the index can tell."""

    def __init__(self, field: str, error: str) -> None:
        super().__init__(f"{field} {error}")
        self.field, self.error = field, error


class SearchWorkers:
    """The workers of a setting, asked in turn."""

    def __init__(self, urls: Sequence[str]) -> None:
        """Connects on first use."""
        self._workers = [(url, Breaker(failures_max=1, open_seconds=_OPEN_SECONDS)) for url in urls]
        self._turns = count()
        self._session: aiohttp.ClientSession | None = None

    async def ask(self, question: SearchQuestion) -> bytes:
        """A `SearchAnswer` as JSON. Raises `SearchUnavailableError` and `SearchRefusedError`."""
        body = msgspec.json.encode(question)
        first = next(self._turns) % max(1, len(self._workers))
        in_turn = [*self._workers[first:], *self._workers[:first]]
        # Those that have failed just now are asked last, and not at all while others answer.
        now = monotonic()
        for url, breaker in sorted(in_turn, key=lambda worker: worker[1].gate(now) is Gate.OPEN):
            began = monotonic()
            try:
                answer = await self._post(url, body)
            except SearchRefusedError:
                breaker.succeeded(monotonic())
                raise
            except (aiohttp.ClientError, TimeoutError, OSError):
                FAILURES.inc()
                breaker.failed(monotonic(), began_at=began, is_certain=True)
                continue
            breaker.succeeded(monotonic())
            return answer
        raise SearchUnavailableError

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def _post(self, url: str, body: bytes) -> bytes:
        if self._session is None:
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit_per_host=_CONNECTIONS_MAX))
        async with asyncio.timeout(_ANSWER_SECONDS_MAX):
            async with self._session.post(
                f"{url}/search", data=body, headers={"Content-Type": "application/json"}
            ) as response:
                if response.status == _REFUSED:
                    refusal = _refusal.decode(await response.read())
                    raise SearchRefusedError(refusal.field, refusal.error)
                response.raise_for_status()
                return await response.read()
