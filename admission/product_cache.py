"""The catalogue's cache: copies of products in Redis, each read from Postgres by one reader at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from importlib.resources import files

from admission.admission_call import ScriptCalls

#: A gateway's reader waits so long for Redis, once: after that the breaker opens.
CALL_SECONDS_MAX = 0.5
#: How long a copy is served without a question to Postgres. A change ends it at once.
FRESH_SECONDS = 3_600
#: The same for an id that no product has: short, for anybody may ask for any.
FRESH_ABSENT_SECONDS = 10
#: How long a copy that is no longer fresh is there for when Postgres is unavailable.
KEPT_SECONDS = 24 * 3_600
#: Products in one call. Redis serves nothing else during a call, about 5 µs a product.
PRODUCTS_MAX = 200

_SCRIPT = files("admission").joinpath("catalogue.lua").read_text(encoding="utf-8")


class CopyState(IntEnum):
    """What a reader may do."""

    #: Show the copy.
    FRESH = 0
    #: Read the product from Postgres and fill the cache under the copy's token: nobody else does.
    FILL = 1
    #: Show the old copy, or wait: somebody else fills the cache.
    FILLING = 2


@dataclass(frozen=True, slots=True)
class CachedCopy:
    """What the cache has of one product."""

    state: CopyState
    #: Empty for an id that no product has; None without a copy.
    value: str | None = None
    #: Since it was read from Postgres.
    age_seconds: int = 0
    #: Below zero once it is no longer fresh.
    fresh_seconds: int = 0
    #: To fill it with.
    token: str = ""


class ProductCache:
    """Every method raises `RedisUnavailableError`."""

    def __init__(self, url: str, *, call_seconds_max: float = CALL_SECONDS_MAX) -> None:
        """Connects on first use. Raises `ValueError` for an invalid Redis URL."""
        self._calls = ScriptCalls(url, call_seconds_max=call_seconds_max)
        self._script = self._calls.script(_SCRIPT)

    @property
    def available(self) -> bool:
        """Whether the last call succeeded, or enough time has passed to retry."""
        return self._calls.available

    async def read(self, seller_id: str, product_ids: Sequence[str], token: str) -> list[CachedCopy]:
        """The copies, at most `PRODUCTS_MAX`; what is to be filled is to be filled under this `token`.

        No two readings have the same: what one reads from Postgres may be older than a mark that the other came after.
        """
        answers = await self._calls.call(self._script, [_key(seller_id)], "read", [token, list(product_ids)])
        return [_copy(token, *answer) for answer in answers]

    async def fill(self, seller_id: str, product_id: str, value: str, token: str) -> None:
        """Store what was read from Postgres, empty for no product, unless it was changed since."""
        fresh, stays = (FRESH_SECONDS, KEPT_SECONDS) if value else (FRESH_ABSENT_SECONDS, FRESH_ABSENT_SECONDS)
        await self._calls.call(self._script, [_key(seller_id)], "fill", [token, product_id, value, fresh, stays])

    async def mark(self, seller_id: str, product_ids: Sequence[str]) -> None:
        """These were changed in Postgres, and the change is committed: copies are no longer fresh."""
        for first in range(0, len(product_ids), PRODUCTS_MAX):
            some = list(product_ids[first : first + PRODUCTS_MAX])
            await self._calls.call(self._script, [_key(seller_id)], "mark", some)

    async def close(self) -> None:
        """Close the connections."""
        await self._calls.close()


def _copy(token: str, state: int, age: int = 0, fresh: int = 0, value: str | None = None) -> CachedCopy:
    return CachedCopy(CopyState(state), value, age, fresh, token)


def _key(seller_id: str) -> str:
    # Every key of a seller has the seller in it: no copy is ever another seller's.
    return f"catalogue:{{{seller_id}}}"
