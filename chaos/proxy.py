"""TCP proxies between any two parts, which can cut, delay, freeze or refuse connections.

All proxies run on one thread with its own event loop, so that they continue while a test or a command blocks.
"""

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

import uvloop

_CHUNK_BYTES = 64 * 1024
#: Close by RST, so that the peer does not take it for an orderly end.
_LINGER = struct.pack("ii", 1, 0)
_ANSWER_SECONDS_MAX = 30.0

Result = TypeVar("Result")


@dataclass(slots=True)
class _Trap:
    """Cuts the connection when the client sends `words`."""

    words: bytes
    #: Cut before `words` are forwarded; otherwise when the server has answered, with the answer lost.
    before: bool
    times: int


@dataclass(slots=True, eq=False)
class _Connection:
    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    #: Drop the server's next answer and cut the connection.
    cut_at_answer: bool = False


class Proxy:
    """The proxy between a process and a service. Its methods are thread-safe, and return when the change is made."""

    def __init__(self, run: Callable[[Coroutine[Any, Any, Any]], Any], listening: socket.socket) -> None:
        self._run = run
        self.port: int = listening.getsockname()[1]
        #: The service's port; connections are refused until it is set.
        self.target: int | None = None
        #: How many connections were cut, for any reason.
        self.cuts = 0
        self._listening = listening
        self._server: asyncio.Server | None = None
        self._connections: set[_Connection] = set()
        self._traps: list[_Trap] = []
        self._delay_s = 0.0
        self._refusing = False
        self._flowing = asyncio.Event()
        self._flowing.set()

    def cut(self) -> int:
        """Reset all connections; returns how many."""
        return int(self._run(self._cut_all()))

    def cut_at(self, words: bytes, *, before: bool, times: int = 1) -> None:
        """Cut the next connections whose client sends `words`: before the server gets them, or after it has acted."""
        self._run(self._set(lambda: self._traps.append(_Trap(words, before, times))))

    def delay(self, seconds: float) -> None:
        """Delay every piece of data by this time, in both directions."""

        def set_delay() -> None:
            self._delay_s = seconds

        self._run(self._set(set_delay))

    def freeze(self) -> None:
        """Forward nothing; connections stay open, and new ones are accepted but not served."""
        self._run(self._set(self._flowing.clear))

    def refuse(self) -> None:
        """Reset all connections, and every new one."""

        def set_refusing() -> None:
            self._refusing = True

        self._run(self._set(set_refusing))
        self.cut()

    def heal(self) -> None:
        """End all faults and forward everything again."""

        def set_all() -> None:
            self._refusing = False
            self._delay_s = 0.0
            self._traps.clear()
            self._flowing.set()

        self._run(self._set(set_all))

    @property
    def armed(self) -> int:
        """How many cuts of `cut_at` are still to happen."""
        return sum(trap.times for trap in self._traps)

    async def _set(self, change: Callable[[], None]) -> None:
        change()

    async def _cut_all(self) -> int:
        connections = list(self._connections)
        for connection in connections:
            self._cut(connection)
        return len(connections)

    def _cut(self, connection: _Connection) -> None:
        if connection not in self._connections:
            return
        self._connections.discard(connection)
        self.cuts += 1
        for writer in (connection.client, connection.server):
            _reset(writer)

    async def listen(self) -> None:
        """Start accepting connections."""
        self._server = await asyncio.start_server(self._serve, sock=self._listening, limit=_CHUNK_BYTES)

    async def close(self) -> None:
        """Stop accepting connections, and cut existing ones."""
        if self._server is not None:
            self._server.close()
        await self._cut_all()

    async def _serve(self, client_reads: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        try:
            if self._refusing or self.target is None:
                raise ConnectionRefusedError
            server_reads, server = await asyncio.open_connection("127.0.0.1", self.target, limit=_CHUNK_BYTES)
        except OSError:
            _reset(client)
            return
        for writer in (client, server):
            writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = _Connection(client, server)
        self._connections.add(connection)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pump(connection, client_reads, server, from_client=True))
                both.create_task(self._pump(connection, server_reads, client, from_client=False))
        except* OSError:
            # One side has closed: reset the other, as if they were connected directly.
            for writer in (client, server):
                _reset(writer)
        finally:
            self._connections.discard(connection)
            for writer in (client, server):
                writer.close()

    async def _pump(
        self, connection: _Connection, source: asyncio.StreamReader, to: asyncio.StreamWriter, *, from_client: bool
    ) -> None:
        while data := await source.read(_CHUNK_BYTES):
            if self._delay_s:
                await asyncio.sleep(self._delay_s)
            await self._flowing.wait()
            if from_client:
                trap = self._sprung(data)
                if trap is not None and trap.before:
                    self._cut(connection)
                    return
                connection.cut_at_answer = connection.cut_at_answer or trap is not None
            elif connection.cut_at_answer:
                self._cut(connection)
                return
            to.write(data)
            await to.drain()
        # A connection that was cut meanwhile has no orderly end to forward.
        if connection in self._connections and not to.transport.is_closing() and to.can_write_eof():
            to.write_eof()

    def _sprung(self, data: bytes) -> _Trap | None:
        for trap in self._traps:
            if trap.words in data:
                trap.times -= 1
                if not trap.times:
                    self._traps.remove(trap)
                return trap
        return None


def _reset(writer: asyncio.StreamWriter) -> None:
    held = writer.get_extra_info("socket")
    if held is not None and held.fileno() >= 0:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER)
    writer.transport.abort()


async def _end_all() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


class Proxies:
    """The thread on which proxies run. Use it in `with`."""

    def __init__(self) -> None:
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxies", daemon=True)
        self._proxies: list[Proxy] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for proxy in self._proxies:
            self._run(proxy.close())
        self._run(_end_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def add(self) -> Proxy:
        """Add a proxy that listens on a free port; set its `target`."""
        listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
        proxy = Proxy(self._run, listening)
        self._run(proxy.listen())
        self._proxies.append(proxy)
        return proxy

    def _run(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_ANSWER_SECONDS_MAX)
