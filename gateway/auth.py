"""API keys: which seller a request speaks for. Known keys go on working while Postgres is away."""

import asyncio
import hashlib
import logging
from datetime import UTC, datetime

from aiohttp import web

from gateway.problems import UNAUTHORIZED, UNAVAILABLE, ProblemError
from sinks.postgres.lanes import PostgresUnavailableError
from sinks.postgres.reader import Reader

_log = logging.getLogger(__name__)

#: How soon a revoked key stops working, at most.
REFRESH_SECONDS = 10.0
_RETRY_SECONDS = 1.0
_SCHEME = "bearer "


class KeyRing:
    """The keys that speak for a seller, by their digests. The keys themselves are kept nowhere."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._sellers: dict[bytes, str] = {}
        self._read_at: datetime | None = None

    @property
    def loaded(self) -> bool:
        """Whether the keys were read once; before that nobody can be let in without Postgres."""
        return self._read_at is not None

    async def seller_of(self, request: web.Request) -> str:
        """The seller whose key the request bears; raises `ProblemError`."""
        header = request.headers.get("Authorization", "")
        if header[: len(_SCHEME)].lower() != _SCHEME:
            raise ProblemError(UNAUTHORIZED, "send your API key: Authorization: Bearer <key>")
        digest = hashlib.sha256(header[len(_SCHEME) :].strip().encode("utf-8", "surrogateescape")).digest()
        seller_id = self._sellers.get(digest)
        if seller_id is not None:
            return seller_id
        try:
            key = await self._reader.key(digest)
        except PostgresUnavailableError:
            raise ProblemError(UNAVAILABLE, "the API key can't be checked just now", retry_after_seconds=2) from None
        if key is None or key.revoked:
            raise ProblemError(UNAUTHORIZED, "the API key is not valid")
        self._sellers[digest] = key.seller_id
        return key.seller_id

    async def refresh(self) -> None:
        """Read what was added and revoked since the last time; raises `PostgresUnavailableError`."""
        now = datetime.now(UTC)
        for key in await self._reader.key_changes(self._read_at):
            if key.revoked:
                self._sellers.pop(key.key_sha256, None)
            else:
                self._sellers[key.key_sha256] = key.seller_id
        self._read_at = now

    async def keep_fresh(self) -> None:
        """Refresh until cancelled. While Postgres is away, the keys known stay valid."""
        while True:
            try:
                await self.refresh()
            except PostgresUnavailableError as error:
                _log.warning("the API keys can't be read: %s", error)
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                await asyncio.sleep(REFRESH_SECONDS)
