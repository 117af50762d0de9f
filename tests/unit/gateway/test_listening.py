"""Who waits for a connection gets it, however much else there is to do."""

import asyncio
import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest
import uvloop
from aiohttp import web

from gateway.app import make_app
from gateway.http import listening
from gateway.http.auth import KeyRing
from gateway.http.listening import ListeningSite
from gateway.http.server import BoundedRunner

_CLIENTS = 300


@contextmanager
def crowd(port: int, count: int) -> Iterator[list[socket.socket]]:
    """So many clients; the system has connected them, whether the server knows it or not."""
    clients = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(count)]
    try:
        yield clients
    finally:
        for client in clients:
            client.close()


async def start() -> BoundedRunner:
    runner = BoundedRunner(make_app([], KeyRing(cast(Any, None))), access_log=None, seller_of=lambda _: None)
    await runner.setup()
    await ListeningSite(runner, "127.0.0.1", 0).start()
    return runner


def connections(runner: BoundedRunner) -> int:
    assert runner.server is not None
    return len(runner.server.connections)


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def loops(request: pytest.FixtureRequest) -> Iterator[asyncio.Runner]:
    with asyncio.Runner(loop_factory=request.param) as runner:
        yield runner


def test_all_who_wait_are_let_in_at_once_and_not_one_in_a_turn(loops: asyncio.Runner) -> None:
    """A turn of a busy loop takes a tenth of a second: one in each would be thirty seconds for the last."""

    async def turns() -> int:
        runner = await start()
        try:
            with crowd(runner.addresses[0][1], _CLIENTS):
                for turn in range(_CLIENTS):
                    if connections(runner) == _CLIENTS:
                        return turn
                    await asyncio.sleep(0)
                return _CLIENTS
        finally:
            await runner.cleanup()

    assert loops.run(turns()) < 20


def test_without_file_descriptors_it_waits_for_some_and_goes_on(
    loops: asyncio.Runner, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(listening, "_EXHAUSTED_PAUSE_SECONDS", 0.05)
    accept, failures = socket.socket.accept, [errno.EMFILE, errno.ENFILE]

    def fail_first(its: socket.socket) -> Any:
        if failures:
            raise OSError(failures.pop(), "too many open files")
        return accept(its)

    async def go() -> bytes:
        runner = await start()
        try:
            monkeypatch.setattr(socket.socket, "accept", fail_first)
            reader, writer = await asyncio.open_connection(*runner.addresses[0][:2])
            try:
                writer.write(b"GET /subjects HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                async with asyncio.timeout(60):
                    return await reader.read()
            finally:
                writer.close()
                await writer.wait_closed()
        finally:
            await runner.cleanup()

    assert b" 200 OK\r\n" in loops.run(go())
    assert not failures
    assert caplog.text.count("too many open files") == 2


def test_a_port_that_is_taken_is_said(loops: asyncio.Runner) -> None:
    async def go() -> None:
        runner = await start()
        try:
            with pytest.raises(OSError, match=str(errno.EADDRINUSE)):
                await ListeningSite(runner, "127.0.0.1", runner.addresses[0][1]).start()
        finally:
            await runner.cleanup()

    loops.run(go())


def test_once_it_is_closed_nobody_is_let_in(loops: asyncio.Runner) -> None:
    async def go() -> int:
        runner = await start()
        port: int = runner.addresses[0][1]
        await runner.cleanup()
        return port

    port = loops.run(go())
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=10)


async def test_a_name_is_listened_to_at_every_address_that_it_has() -> None:
    runner = BoundedRunner(web.Application(), access_log=None, seller_of=lambda _: None)
    await runner.setup()
    await ListeningSite(runner, "localhost", 0).start()
    try:
        infos = await asyncio.get_running_loop().getaddrinfo("localhost", 0, type=socket.SOCK_STREAM)
        assert {address[0] for address in runner.addresses} == {address[0] for _, _, _, _, address in infos}
    finally:
        await runner.cleanup()
