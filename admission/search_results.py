"""Answers of searches, in Redis for some minutes, each for one state of one index."""

from importlib.resources import files

from admission.admission_call import ScriptCalls
from admission.unavailable import RedisUnavailableError

#: A search takes some milliseconds: Redis is not waited for any longer.
CALL_SECONDS_MAX = 0.1
KEPT_SECONDS = 300

_SCRIPT = files("admission").joinpath("search_results.lua").read_text(encoding="utf-8")


class SearchResults:
    """While Redis is unavailable nothing is remembered, and nothing else changes."""

    def __init__(self, url: str) -> None:
        """Connects on first use. Raises `ValueError` for an invalid Redis URL."""
        self._calls = ScriptCalls(url, call_seconds_max=CALL_SECONDS_MAX)
        self._script = self._calls.script(_SCRIPT)

    async def read(self, seller_id: str, state: str, digest: str) -> bytes | None:
        """The answer to a question by its digest, in a state of the seller's part of the index; None without one."""
        try:
            answer = await self._calls.call(self._script, [_key(seller_id, state, digest)], "read", [])
        except RedisUnavailableError:
            return None
        return str(answer).encode() if answer else None

    async def keep(self, seller_id: str, state: str, digest: str, answer: bytes) -> None:
        """Remember an answer, which is UTF-8."""
        try:
            asked = [answer.decode(), KEPT_SECONDS]
            await self._calls.call(self._script, [_key(seller_id, state, digest)], "keep", asked)
        except RedisUnavailableError:
            return

    async def close(self) -> None:
        """Close the connections."""
        await self._calls.close()


def _key(seller_id: str, state: str, digest: str) -> str:
    # With the seller in it: no answer is ever another seller's.
    return f"search:{{{seller_id}}}:{state}:{digest}"
