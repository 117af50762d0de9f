"""Sends the HTTP requests that a customer could send, over persistent connections."""

import http.client
import json
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

_TIMEOUT_S = 30.0
#: A gateway that has just lost its database may still answer 503.
_TRIES = 5
_PAUSE_S = 0.2
#: Concurrent connections; a single one would mostly wait for CPU time.
_CONNECTIONS = 8


class UnreachableError(Exception):
    """No answer, or one that can't be read: there is nothing to judge by."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP response."""

    status: int
    headers: Mapping[str, str]
    payload: bytes

    def json(self) -> dict[str, Any]:
        """The body as a mapping; empty if it is not a JSON object."""
        try:
            value = json.loads(self.payload)
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}


class Web:
    """A client of one host, over one connection. Close it after use."""

    def __init__(self, url: str, api_key: str = "") -> None:
        parts = urlsplit(url)
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=_TIMEOUT_S)
        self._url = url

    def get(self, path: str) -> Answer:
        """The answer to a GET; a 503 is retried a few times. Raises `UnreachableError`."""
        for left in reversed(range(_TRIES)):
            try:
                self._connection.request("GET", path, headers=self._headers)
                response = self._connection.getresponse()
                answer = Answer(
                    response.status, {name.lower(): text for name, text in response.getheaders()}, response.read()
                )
            except (OSError, http.client.HTTPException) as error:
                # The server may have closed a connection that was idle for long.
                self._connection.close()
                if not left:
                    raise UnreachableError(f"{self._url}{path}: {type(error).__name__} {error}") from None
            else:
                if answer.status != 503 or not left:
                    return answer
            time.sleep(_PAUSE_S)
        raise AssertionError("the last try returns or raises")

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def path_of(*parts: str) -> str:
    """A path of these parts, each quoted."""
    return "/" + "/".join(quote(part, safe="") for part in parts)


def get_all(url: str, api_key: str, paths: Sequence[str]) -> list[Answer]:
    """The answers to many GETs, in the order of the paths, over a few connections. Raises `UnreachableError`."""

    def get(share: Sequence[str]) -> list[Answer]:
        web = Web(url, api_key)
        try:
            return [web.get(path) for path in share]
        finally:
            web.close()

    answers: dict[str, Answer] = {}
    with ThreadPoolExecutor(_CONNECTIONS) as pool:
        shares = [paths[first::_CONNECTIONS] for first in range(_CONNECTIONS)]
        for share, its in zip(shares, pool.map(get, shares), strict=True):
            answers.update(zip(share, its, strict=True))
    return [answers[path] for path in paths]
