"""API keys: which seller a request speaks for. Known keys continue to work while Postgres is unavailable."""

import asyncio
import hashlib
from datetime import UTC, datetime
from time import monotonic

from aiohttp import web

from domain.rules import SellerFacts
from gateway.http import telemetry
from gateway.http.problems import UNAUTHORIZED, UNAVAILABLE, ProblemError
from sinks.postgres.invoices_reader import InvoicesReader
from sinks.postgres.lanes import PostgresUnavailableError

#: A revoked key stops working after this at most.
REFRESH_SECONDS = 10.0
#: A key that was tried before it was added works after this at most. Any other new key works at once.
UNKNOWN_SECONDS = 5.0
#: Unknown keys that are cached, some 150 bytes each. Beyond this the oldest are dropped.
UNKNOWN_MAX = 20_000
_RETRY_SECONDS = 1.0
_SCHEME = "bearer "


class KeyRing:
    """The sellers' valid keys, by digest. The keys themselves are stored nowhere."""

    def __init__(self, reader: InvoicesReader) -> None:
        self._reader = reader
        self._sellers: dict[bytes, str] = {}
        #: Digests of invalid keys, and until when they are cached; the oldest first.
        self._unknown: dict[bytes, float] = {}
        self._read_at: datetime | None = None
        #: As each seller was when it was read last, at the start of the gateway if it has sent nothing since.
        self._facts: dict[str, SellerFacts] = {}
        #: Sellers whose facts are as old as the last refresh at most.
        self._fresh: set[str] = set()
        #: Sellers that were asked for since the last refresh: only these are read again, however many there are.
        self._asked: set[str] = set()

    @property
    def loaded(self) -> bool:
        """Whether the keys were read once; before that no request can be authenticated without Postgres."""
        return self._read_at is not None

    def known_seller(self, authorization: str) -> str | None:
        """The seller of the header's key, if it is known without asking Postgres."""
        digest = _digest(authorization)
        return None if digest is None else self._sellers.get(digest)

    async def seller_of(self, request: web.Request) -> str:
        """The seller of the request's key, also noted for the access log; raises `ProblemError`."""
        digest = _digest(request.headers.get("Authorization", ""))
        if digest is None:
            raise ProblemError(UNAUTHORIZED, "send your API key: Authorization: Bearer <key>")
        seller_id = self._sellers.get(digest)
        if seller_id is not None:
            request[telemetry.SELLER_ID] = seller_id
            return seller_id
        if monotonic() < self._unknown.get(digest, 0.0):
            raise _invalid_key()
        try:
            key = await self._reader.key(digest)
        except PostgresUnavailableError:
            raise ProblemError(
                UNAVAILABLE, "the API key can't be checked: Postgres is unavailable", retry_after_seconds=2
            ) from None
        if key is None or key.revoked:
            self._note_unknown(digest)
            raise _invalid_key()
        self._sellers[digest] = key.seller_id
        request[telemetry.SELLER_ID] = key.seller_id
        return key.seller_id

    async def facts_of(self, seller_id: str) -> SellerFacts | None:
        """What the rules of tax ask of the seller, as it was when keys were refreshed last.

        While Postgres is unavailable, as it was when it was read last. None if it never was: then the agent alone
        applies the rules.
        """
        self._asked.add(seller_id)
        if seller_id not in self._fresh:
            try:
                self._facts |= await self._reader.sellers([seller_id])
            except PostgresUnavailableError:
                if seller_id not in self._facts:
                    return None
            # Also of a copy that couldn't be read again: the next refresh does it, and nobody else waits for Postgres.
            self._fresh.add(seller_id)
        return self._facts.get(seller_id)

    def _note_unknown(self, digest: bytes) -> None:
        # Removed first, so that inserting makes it the newest.
        self._unknown.pop(digest, None)
        if len(self._unknown) >= UNKNOWN_MAX:
            del self._unknown[next(iter(self._unknown))]
        self._unknown[digest] = monotonic() + UNKNOWN_SECONDS

    async def refresh(self) -> None:
        """Read the keys added and revoked since the last refresh; raises `PostgresUnavailableError`."""
        now = datetime.now(UTC)
        for key in await self._reader.key_changes(self._read_at):
            self._unknown.pop(key.key_sha256, None)
            if key.revoked:
                self._sellers.pop(key.key_sha256, None)
            else:
                self._sellers[key.key_sha256] = key.seller_id
        asked = frozenset(self._asked)
        if not self.loaded:
            self._facts = await self._reader.all_sellers()
        elif asked:
            self._facts |= await self._reader.sellers(asked)
        # Others may have asked meanwhile.
        self._asked -= asked
        self._fresh = {*asked, *self._asked}
        self._read_at = now

    async def keep_fresh(self) -> None:
        """Refresh until cancelled. While Postgres is unavailable, known keys stay valid."""
        while True:
            try:
                await self.refresh()
            except PostgresUnavailableError:
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                await asyncio.sleep(REFRESH_SECONDS)


#: The keys that an application's sellers are known by.
KEYS = web.AppKey("keys", KeyRing)


def _digest(authorization: str) -> bytes | None:
    """The digest of the header's key; None without a key."""
    if authorization[: len(_SCHEME)].lower() != _SCHEME:
        return None
    return hashlib.sha256(authorization[len(_SCHEME) :].strip().encode("utf-8", "surrogateescape")).digest()


def _invalid_key() -> ProblemError:
    return ProblemError(UNAUTHORIZED, "the API key is not valid")
