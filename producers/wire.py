"""HTTP/1.1 as far as posting needs it: a load tool must not need more of a core than what it loads.

aiohttp's client costs 85 µs a request, this a quarter of it. It knows plain `http://`, answers with a length (which the
gateway's all have), and connections that stay open; anything else is an error.
"""

import asyncio
import random
from collections.abc import Mapping
from types import TracebackType
from typing import Self, cast
from urllib.parse import urlsplit

from producers.client import GaplessClient

_HEAD_END = b"\r\n\r\n"
#: An answer's head is some 300 bytes; what goes on beyond this is no gateway.
_HEAD_BYTES_MAX = 16 * 1024
_BODY_BYTES_MAX = 16 * 1024 * 1024


class WireError(ConnectionError):
    """The server said something that this client does not understand."""


class WireClient(GaplessClient):
    """A `GaplessClient` on its own connections; for `http://` only."""

    def __init__(
        self,
        url: str,
        api_key: str,
        *,
        connections: int = 32,
        give_up_after_s: float = 60.0,
        timeout_s: float = 45.0,
        chance: random.Random | None = None,
    ) -> None:
        super().__init__(
            url,
            api_key,
            connections=connections,
            give_up_after_s=give_up_after_s,
            timeout_s=timeout_s,
            chance=chance,
        )
        parts = urlsplit(url)
        if parts.scheme != "http" or parts.hostname is None:
            raise ValueError(f"{url} is not http://")
        self._host, self._port = parts.hostname, parts.port or 80
        self._path = parts.path.rstrip("/")
        self._headers = {"Host": parts.netloc, **self._headers}
        self._common = _lines(self._headers)
        #: The one used last comes first: those that are not needed grow old and are closed by the gateway.
        self._idle: list[_Connection] = []
        self._free = asyncio.Semaphore(connections)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for connection in self._idle:
            connection.close()
        self._idle.clear()

    async def _request(
        self, method: str, path: str, payload: bytes | None, headers: Mapping[str, str] | None
    ) -> tuple[int, bytes, str | None]:
        lines = _lines({**self._headers, **headers}) if headers else self._common
        body = payload or b""
        head = f"{method} {self._path}{path} HTTP/1.1\r\n{lines}Content-Length: {len(body)}\r\n\r\n"
        async with self._free:
            connection = await self._connection()
            try:
                async with asyncio.timeout(self._timeout_s):
                    answer = await connection.ask(head.encode() + body)
            except BaseException:
                # Whatever still comes over it belongs to nobody.
                connection.close()
                raise
            if connection.is_open:
                self._idle.append(connection)
        return answer

    async def _connection(self) -> "_Connection":
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open:
                return connection
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self._timeout_s):
            _, made = await loop.create_connection(_Connection, self._host, self._port)
        return made


class _Connection(asyncio.Protocol):
    """One request at a time; the answer as status, body and Retry-After."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._answer: asyncio.Future[tuple[int, bytes, str | None]] | None = None

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    def ask(self, request: bytes) -> "asyncio.Future[tuple[int, bytes, str | None]]":
        """Send a request; the future has the answer, or `ConnectionError`."""
        self._answer = asyncio.get_running_loop().create_future()
        self._received = b""
        if self._transport is None:
            self._answer.set_exception(ConnectionError("closed"))
        else:
            self._transport.write(request)
        return self._answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of it, but do what it does.
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._fail(exc if isinstance(exc, ConnectionError) else ConnectionError("the server closed the connection"))

    def data_received(self, data: bytes) -> None:
        self._received = self._received + data if self._received else data
        try:
            answer = _parse(self._received)
        except ValueError as error:
            self._fail(WireError(str(error)))
            self.close()
            return
        if answer is not None and self._answer is not None and not self._answer.done():
            self._answer.set_result(answer)

    def _fail(self, error: ConnectionError) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)


def _lines(headers: Mapping[str, str]) -> str:
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items())


def _parse(received: bytes) -> tuple[int, bytes, str | None] | None:
    """Status, body and Retry-After; None while some is still to come. Raises `ValueError` for what is no answer."""
    end = received.find(_HEAD_END)
    if end < 0:
        if len(received) > _HEAD_BYTES_MAX:
            raise ValueError("the answer's head does not end")
        return None
    if not received.startswith(b"HTTP/1.1 "):
        raise ValueError("no HTTP/1.1 answer")
    head = received[:end].lower()
    length = _header(head, b"\r\ncontent-length:")
    if length is None or not length.isdigit() or int(length) > _BODY_BYTES_MAX:
        raise ValueError("an answer without its length")
    start = end + len(_HEAD_END)
    if len(received) < start + int(length):
        return None
    return int(head[9:12]), received[start : start + int(length)], _header(head, b"\r\nretry-after:")


def _header(head: bytes, name: bytes) -> str | None:
    at = head.find(name)
    if at < 0:
        return None
    return head[at + len(name) :].partition(b"\r\n")[0].strip().decode("latin-1")
