"""How many webhooks a second one sender delivers to a receiver on the same machine: signed twice, written down."""

import asyncio
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path

import psycopg

from benchmarks.rate import per_second
from benchmarks.result import Result
from benchmarks.stacks import cpu_seconds, servers, settings_of

#: Enough for some seconds of steady work.
DELIVERIES = 20_000
_BODY = b'{"type":"order.confirmed","timestamp":"2026-11-29T14:03:22.123Z","data":{' + b'"x":"y",' * 60 + b'"z":1}}'
_ANSWER = b"HTTP/1.1 204 No Content\r\n\r\n"
_POLL_S = 0.02


def run() -> list[Result]:
    """One sender; each delivery is of another order."""
    with servers() as made:
        rate, cpu_ms = _measure(settings_of(made), made.data / "deliveries.log")
    note = f"{DELIVERIES:,} of {len(_BODY)} bytes, one endpoint on this machine"
    return [
        Result("webhooks delivered, one sender", rate, "deliveries/s", 1_000, note=note),
        Result("sender, CPU time per delivery", cpu_ms, "ms"),
    ]


def _measure(environment: Mapping[str, str], log: Path) -> tuple[float, float]:
    here, there = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    receiver = context.Process(target=_receive, args=(there,), daemon=True)
    receiver.start()
    port = here.recv()
    with psycopg.connect(environment["GAPLESS_POSTGRES_URL"], autocommit=True) as connection:
        _fill(connection, port)
        command = [sys.executable, "-m", "gapless", "deliveries"]
        # It logs each delivery, to a file as in a stack: a terminal would be slower, and full of it.
        with log.open("wb") as lines:
            sender = subprocess.Popen(command, env={**os.environ, **environment}, stderr=lines)
        try:
            rate = per_second(lambda: _delivered(connection), DELIVERIES, poll_s=_POLL_S)
            cpu_s = cpu_seconds(sender.pid)
        except TimeoutError as error:
            raise TimeoutError(f"{error}; the sender's log ends with: {log.read_text()[-500:]}") from error
        finally:
            sender.send_signal(signal.SIGTERM)
            sender.wait(20)
            receiver.kill()
            receiver.join()
    return rate, cpu_s / DELIVERIES * 1_000


def _delivered(connection: psycopg.Connection[tuple[object, ...]]) -> int:
    row = connection.execute("SELECT count(*) FROM deliveries WHERE state = 'delivered'").fetchone()
    return 0 if row is None else int(str(row[0]))


def _fill(connection: psycopg.Connection[tuple[object, ...]], port: int) -> None:
    connection.execute(
        "INSERT INTO webhook_endpoints (endpoint_id, seller_id, url, events, description, created_at)"
        " VALUES ('we_1', 'demo', %s, '{}', '', now())",
        (f"http://127.0.0.1:{port}/hooks",),
    )
    connection.execute(
        "INSERT INTO webhook_secrets (endpoint_id, hmac_secret, ed25519_seed, created_at)"
        " VALUES ('we_1', %s, %s, now())",
        (os.urandom(32), os.urandom(32)),
    )
    connection.execute(
        "INSERT INTO delivery_sequences (destination, order_id, last_sequence, touched_at)"
        " SELECT 'we_1', 'A-' || n, 1, now() FROM generate_series(1, %s) n",
        (DELIVERIES,),
    )
    connection.execute(
        "INSERT INTO deliveries (delivery_id, destination, seller_id, order_id, sequence, type, payload, next_try_at,"
        " created_at) SELECT 'msg_' || n, 'we_1', 'demo', 'A-' || n, 1, 'order.confirmed', %s, now(), now()"
        " FROM generate_series(1, %s) n",
        (_BODY, DELIVERIES),
    )
    connection.execute("ANALYZE")


def _receive(pipe: Connection) -> None:
    """Answer each request that has come in full, as cheaply as can be: it shares the cores."""
    asyncio.run(_serve(pipe))


async def _serve(pipe: Connection) -> None:
    server = await asyncio.get_running_loop().create_server(_Answering, "127.0.0.1", 0)
    pipe.send(server.sockets[0].getsockname()[1])
    await server.serve_forever()


class _Answering(asyncio.Protocol):
    def __init__(self) -> None:
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._received.endswith(_BODY) and self._transport is not None:
            self._received = b""
            self._transport.write(_ANSWER)
