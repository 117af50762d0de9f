"""Listens for connections, and accepts all waiting ones at once.

uvloop's servers accept one connection per turn of the loop (libuv since 1.45, libuv/libuv#3696). A turn of an idle
loop takes a millisecond, of a loaded one a tenth of a second and more. With uvloop's own server a loaded gateway
would accept ten connections a second, and the others would wait in the system's queue until they give up.
"""

import asyncio
import errno
import logging
import socket
from typing import cast

from aiohttp import web

_log = logging.getLogger(__name__)

#: Connections that the system queues until we accept them: thousands of clients may connect at the same instant.
_BACKLOG = 4096
#: The rest waits for the next turn, so that requests under way get theirs.
_ACCEPTED_AT_ONCE = 256
#: Without memory or file descriptors the only remedy is to wait until a connection ends.
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_EXHAUSTED_PAUSE_SECONDS = 1.0


class ListeningSite(web.BaseSite):
    """Where a runner's server listens: every address of a host's name, and a port, 0 for any that is free."""

    __slots__ = ("_host", "_listening", "_port")

    def __init__(self, runner: web.BaseRunner, host: str, port: int) -> None:
        super().__init__(runner, backlog=_BACKLOG)
        self._host, self._port = host, port
        self._listening: _Listening | None = None

    @property
    def name(self) -> str:
        """For messages."""
        return f"http://{self._host}:{self._port}"

    async def start(self) -> None:
        """Begin to accept. Raises `OSError` if the port is taken, or the host has no address here."""
        await super().start()
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        listening = self._listening = _Listening(cast(web.Server, self._runner.server))
        self._server = cast(asyncio.AbstractServer, listening)
        for family, address in dict.fromkeys((family, address[:2]) for family, _, _, _, address in found):
            listening.add(socket.create_server(cast(tuple[str, int], address), family=family, backlog=self._backlog))

    async def stop(self) -> None:
        """Stop listening. Connections that the system has established are accepted: closing would reset them."""
        await super().stop()
        if self._listening is not None:
            await self._listening.settle()


class _Listening:
    """Sockets, and the connections that are being made of what they accept; as much of a server as a runner wants."""

    def __init__(self, server: web.Server) -> None:
        self.sockets: list[socket.socket] = []
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._made: set[asyncio.Task[None]] = set()

    def add(self, listening: socket.socket) -> None:
        listening.setblocking(False)
        self.sockets.append(listening)
        self._loop.add_reader(listening, self._accept, listening)

    def close(self) -> None:
        for listening in self.sockets:
            self._loop.remove_reader(listening)
            while self._accept(listening):
                pass
            listening.close()
        self.sockets.clear()

    async def settle(self) -> None:
        """Return when each accepted connection has its handler."""
        if self._made:
            await asyncio.wait(self._made)

    def _accept(self, listening: socket.socket) -> bool:
        """Accept waiting connections; return whether there may be more."""
        for _ in range(_ACCEPTED_AT_ONCE):
            try:
                connection, _ = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return False
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    raise
                _log.error("no more connections for now: %s", error)
                self._loop.remove_reader(listening)
                self._loop.call_later(_EXHAUSTED_PAUSE_SECONDS, self._accept_again, listening)
                return False
            connection.setblocking(False)
            making = self._loop.create_task(self._make(connection))
            self._made.add(making)
            making.add_done_callback(self._made.discard)
        return True

    def _accept_again(self, listening: socket.socket) -> None:
        if listening in self.sockets:
            self._loop.add_reader(listening, self._accept, listening)

    async def _make(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._server, connection)
        except OSError as error:  # Gone before it was there.
            _log.debug("a connection failed: %s", error)
            connection.close()
