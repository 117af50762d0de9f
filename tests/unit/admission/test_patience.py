"""Connections that are reset: uvloop's own error becomes a `ConnectionResetError`."""

import asyncio
from typing import Any

import pytest
import uvloop
from redis.asyncio.connection import AbstractConnection

from admission.admission import Admission, Admitted, Asked
from admission.hints import UNAVAILABLE, Hints
from admission.patience import over_a_connection

#: Never connected: the connection is lost before the first command is written.
_URL = "redis://127.0.0.1:1/0"
_WORDS = "unable to perform operation on <TCPTransport closed=True>; the handler is closed"


def test_a_write_to_a_connection_that_was_reset_is_a_connection_error_under_uvloop_too() -> None:
    async def write() -> None:
        server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.transport.abort()
        await reader.read()

        async def say() -> None:
            writer.writelines([b"PING\r\n"])

        try:
            await over_a_connection(say())
        finally:
            server.close()

    with pytest.raises(ConnectionResetError):
        uvloop.run(write())


async def test_other_errors_stay_what_they_are() -> None:
    async def fail() -> None:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        await over_a_connection(fail())


async def test_a_reset_connection_costs_hints_and_admission_no_request(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError(_WORDS)

    monkeypatch.setattr(AbstractConnection, "connect", fail)
    monkeypatch.setattr(AbstractConnection, "connect_check_health", fail)
    hints, admission = Hints(_URL), Admission(_URL, hold_seconds=60)
    assert await hints.known("demo", "A") is UNAVAILABLE
    assert await admission.admit(Asked("demo", "A", "C", (("S", 1),))) == Admitted(held=False)
    await hints.close()
    await admission.close()
