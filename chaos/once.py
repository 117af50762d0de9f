"""A client that sends each request once, where a storefront would retry."""

from collections.abc import Mapping
from dataclasses import dataclass

from producers.client import GatewayAnswer, UnavailableError
from producers.wire import WireClient


@dataclass(frozen=True, slots=True)
class OneAnswer(GatewayAnswer):
    """The answer to a request that was sent once."""

    #: The header's value, if any.
    retry_after: str | None = None


class OnceClient(WireClient):
    """Sends each request once: a refusal with `Retry-After` is an answer too."""

    async def _until_answered(
        self, method: str, path: str, payload: bytes | None, headers: Mapping[str, str] | None
    ) -> GatewayAnswer:
        try:
            status, answer, retry_after = await self._request(method, path, payload, headers)
        except OSError as error:
            raise UnavailableError(f"{method} {path}: {error or type(error).__name__}") from None
        return OneAnswer(status, answer, 1, retry_after)
